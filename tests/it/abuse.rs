//! `extract-features` killed at random moments and started several times at once: what it leaves must be what one run leaves.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::Value;
use tempfile::TempDir;
use vae_workshop::audio::Waveform;
use vae_workshop::features::FeatureFile;
use walkdir::WalkDir;

use crate::env::{binary, text};

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
    println!("{count} files: {killed} kills, {targets} targets, {parts} parts of files left and cleared away");
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
