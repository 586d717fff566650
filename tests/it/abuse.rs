//! `extract-features` killed at random moments, started several times at once, in little memory among damaged files, and where files cannot grow: what
//! it leaves must be what one run leaves.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::Value;
use tempfile::TempDir;
use vae_workshop::audio::Waveform;
use vae_workshop::features::FeatureFile;
use walkdir::WalkDir;

use crate::env::{binary, text};
use crate::mutants::{GOOD, good, mutants};

/// A folder of so many recordings of 50 ms, each a tone of its own, one in fifty of them damaged.
fn recordings(count: usize) -> TempDir {
    let folder = TempDir::new().unwrap();
    for side in ["train/a", "train/b", "test"] {
        fs::create_dir_all(folder.path().join(side)).unwrap();
    }
    for index in 0..count {
        let path = folder.path().join(["train/a", "train/b", "test"][index % 3]).join(format!("{index:05}.wav"));
        if index % 50 == 7 {
            fs::write(path, "no sound").unwrap();
            continue;
        }
        let step = 0.1 + 0.9 * index as f32 / count as f32;
        let samples = (0..800).map(|n| 0.5 * (step * n as f32).sin()).collect();
        Waveform { samples, sample_rate: 16_000 }.write(&path).unwrap();
    }
    folder
}

fn extraction(audio: &Path, target: &Path) -> Command {
    let mut command = Command::new(binary("extract-features"));
    command.args([text(audio), text(target), "--jobs", "4"]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

/// Everything below a folder but manifests, hidden files included.
fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = WalkDir::new(folder).into_iter().map(Result::unwrap).filter(|entry| entry.file_type().is_file());
    let named = entries.map(|e| (e.path().strip_prefix(folder).unwrap().to_str().unwrap().to_string(), e.into_path()));
    named.filter(|(name, _)| !name.ends_with(".jsonl")).map(|(name, path)| (name, fs::read(path).unwrap())).collect()
}

/// What the manifests of a folder come to: the last line about each recording.
fn meaning(folder: &Path) -> BTreeMap<String, Value> {
    let manifests = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let manifests = manifests.filter(|path| path.extension().is_some_and(|e| e == "jsonl"));
    let lines =
        manifests.flat_map(|path| fs::read_to_string(path).unwrap().lines().map(String::from).collect::<Vec<_>>());
    // A line that a kill cut short is no JSON.
    let lines = lines.filter_map(|line| serde_json::from_str::<Value>(&line).ok());
    lines.filter_map(|line| Some((line.get("input")?.as_str()?.to_string(), line))).collect()
}

fn assert_same(found: &Path, wanted: &Path) {
    let (found_files, wanted_files) = (files(found), files(wanted));
    let names = |files: &BTreeMap<String, Vec<u8>>| files.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&found_files), names(&wanted_files), "no other files, and no parts of files");
    for (name, bytes) in &wanted_files {
        assert!(found_files[name] == *bytes, "{name} differs");
    }
    assert_eq!(meaning(found), meaning(wanted));
}

/// Kills runs over `count` files at random moments, so many times, and compares what they come to with a run left alone.
fn torture(count: usize, kills: usize, seed: u64) {
    let (audio, folder) = (recordings(count), TempDir::new().unwrap());
    let straight = folder.path().join("straight");
    let started = Instant::now();
    assert_eq!(extraction(audio.path(), &straight).status().unwrap().code(), Some(3));
    let lasts = started.elapsed();
    assert_eq!(files(&straight).len(), count - count.div_ceil(50));

    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let (mut killed, mut targets, mut parts) = (0, 0, 0);
    while killed < kills {
        targets += 1;
        let target = folder.path().join(format!("target-{targets}"));
        loop {
            let mut child = extraction(audio.path(), &target).spawn().unwrap();
            if killed < kills {
                std::thread::sleep(lasts.mul_f64(random.random_range(0.0..0.6)));
                child.kill().unwrap();
            }
            match child.wait().unwrap().code() {
                None => killed += 1,
                code => {
                    assert_eq!(code, Some(3));
                    break;
                }
            }
            let there = if target.exists() { files(&target) } else { BTreeMap::new() };
            parts += there.keys().filter(|name| name.ends_with(".partial")).count();
        }
        assert_same(&target, &straight);
        fs::remove_dir_all(target).unwrap();
    }
    println!("{count} files: {killed} kills, {targets} targets, {parts} parts of files seen and cleared away");
}

#[test]
fn killed_runs_come_to_what_one_run_comes_to() {
    torture(200, 8, 1);
}

/// In `make torture`.
#[test]
#[ignore = "minutes"]
fn torture_extraction() {
    torture(2000, 60, 2);
}

#[test]
fn several_runs_at_once_leave_what_one_leaves() {
    let (audio, folder) = (recordings(100), TempDir::new().unwrap());
    let straight = folder.path().join("straight");
    assert_eq!(extraction(audio.path(), &straight).status().unwrap().code(), Some(3));
    let wait = |children: Vec<Child>| -> Vec<i32> {
        children.into_iter().map(|mut child| child.wait().unwrap().code().unwrap()).collect()
    };

    // The same command four times: one works, and who comes while it does is sent away.
    let crowd = folder.path().join("crowd");
    let codes = wait((0..4).map(|_| extraction(audio.path(), &crowd).spawn().unwrap()).collect());
    assert!(codes.contains(&3) && codes.iter().all(|code| [1, 3].contains(code)), "{codes:?}");
    assert_same(&crowd, &straight);

    // Four shards.
    let shared = folder.path().join("shared");
    let shard = |k| extraction(audio.path(), &shared).args(["--shard", &format!("{k}/4")]).spawn().unwrap();
    let codes = wait((1..=4).map(shard).collect());
    assert!(codes.iter().all(|code| [0, 3].contains(code)), "{codes:?}");
    assert_same(&shared, &straight);
    for name in files(&shared).keys() {
        FeatureFile::read(&shared.join(name)).unwrap();
    }
    // A run of everything finds it all done.
    let said = crate::env::run("extract-features", &[text(audio.path()), text(&shared)]);
    assert!(said.out.contains("0 feature files written, 98 current"), "{}", said.out);
}

#[test]
fn a_run_that_is_under_way_is_named_to_who_comes_second() {
    let (audio, target) = (recordings(20), TempDir::new().unwrap());
    let manifest = fs::File::create(target.path().join("manifest.jsonl")).unwrap();
    manifest.lock().unwrap();
    let started = Instant::now();
    let said = crate::env::fail("extract-features", &[text(audio.path()), text(target.path())]);
    assert!(said.contains("manifest.jsonl: is in use"), "{said}");
    assert!(started.elapsed() < Duration::from_secs(60), "it does not wait");
    assert_eq!(fs::read(target.path().join("manifest.jsonl")).unwrap(), b"");
}

/// Runs a shell's `line` before the program, which takes its place.
fn limited(line: &str, arguments: &[&str]) -> Output {
    let script = format!("{line}; exec \"$0\" \"$@\"");
    Command::new("sh").args(["-c", &script, binary("extract-features")]).args(arguments).output().unwrap()
}

/// Extracts so many damaged files with good ones among them in 512 MB of address space.
fn among_mutants(count: usize, seed: u64) {
    let (audio, folder) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let (mixed, clean) = (audio.path().join("mixed"), audio.path().join("clean"));
    for side in ["train", "test"] {
        fs::create_dir_all(mixed.join(side)).unwrap();
        fs::create_dir_all(clean.join(side)).unwrap();
        for name in GOOD {
            fs::copy(good(name), mixed.join(side).join(format!("good-{name}"))).unwrap();
            fs::copy(good(name), clean.join(side).join(format!("good-{name}"))).unwrap();
        }
    }
    for (index, (name, file)) in mutants(count, seed).enumerate() {
        fs::write(mixed.join("train").join(format!("{index:05}-{name}")), file).unwrap();
    }
    let extract = |audio: &Path, target: &Path| {
        let flags = [text(audio), text(target), "--keep-extension", "--jobs", "2", "--log-format", "json"];
        limited("ulimit -v 524288", &flags)
    };
    let [mixed_target, clean_target] = ["mixed", "clean"].map(|name| folder.path().join(name));
    let said = extract(&mixed, &mixed_target);
    let (err, out) = (String::from_utf8(said.stderr).unwrap(), String::from_utf8(said.stdout).unwrap());
    let tail = err.lines().rev().take(3).collect::<Vec<_>>();
    assert_eq!(said.status.code(), Some(3), "{tail:?}");
    let events: Vec<Value> = err.lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect();
    let of = |kind: &str| events.iter().filter(|event| event["event"] == kind).count();
    assert_eq!(of("done") + of("failed"), count + 2 * GOOD.len(), "{out}");
    assert!(extract(&clean, &clean_target).status.success());
    let (found, wanted) = (files(&mixed_target), files(&clean_target));
    assert_eq!(wanted.len(), 2 * GOOD.len());
    for (name, bytes) in &wanted {
        assert!(found[name] == *bytes, "{name} differs");
    }
    println!("{count} damaged files: {} became features, {} failed", of("done") - 2 * GOOD.len(), of("failed"));
}

#[test]
fn damaged_files_neither_stop_a_run_nor_change_what_becomes_of_good_ones() {
    among_mutants(160, 9);
}

/// In `make torture`.
#[test]
#[ignore = "minutes"]
fn torture_extraction_with_damaged_files() {
    among_mutants(20_000, 8);
}

#[test]
fn a_file_that_cannot_be_written_whole_is_named_and_what_was_done_is_kept() {
    let (audio, folder) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    fs::create_dir(audio.path().join("train")).unwrap();
    fs::create_dir(audio.path().join("test")).unwrap();
    for (name, len) in [("train/1.wav", 800), ("train/2.wav", 160_000), ("test/3.wav", 800)] {
        let samples = (0..len).map(|n| 0.5 * (0.3 * n as f32).sin()).collect();
        Waveform { samples, sample_rate: 16_000 }.write(&audio.path().join(name)).unwrap();
    }
    let target = folder.path().join("target");
    let flags = [text(audio.path()), text(&target), "--jobs", "1"];
    // Files of at most 512 kB, as if the disk were full: that of 10 s has 3 MB.
    let said = limited("trap '' XFSZ; ulimit -f 1024", &flags);
    let err = String::from_utf8(said.stderr).unwrap();
    assert_eq!(said.status.code(), Some(1), "{err}");
    let lines: Vec<&str> = err.lines().collect();
    assert!(lines.len() == 1 && lines[0].contains("2.feat.npz") && lines[0].contains("File too large"), "{err}");
    assert!(files(&target).keys().all(|name| name.ends_with("3.feat.npz") || name.ends_with("1.feat.npz")));
    assert!(!files(&target).is_empty());
    // With room again the same command goes on.
    let said = crate::env::succeed("extract-features", &flags);
    assert!(said.starts_with("3 recordings") && said.contains("0 failed, 0 not done"), "{said}");
    assert_eq!(files(&target).len(), 3);
}
