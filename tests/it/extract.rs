//! `extract-features`, run as a user runs it.

use std::fs;
use std::path::Path;

use serde_json::Value;
use tempfile::TempDir;
use vae_workshop::audio::Waveform;
use vae_workshop::features::FeatureFile;

use crate::env::{fail, run, succeed, text};

/// A folder with these recordings, each half a second of a tone of its own.
fn recordings(names: &[&str]) -> TempDir {
    let folder = TempDir::new().unwrap();
    for (index, name) in names.iter().enumerate() {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let step = 0.1 + 0.05 * index as f32;
        let samples = (0..8000).map(|n| 0.5 * (step * n as f32).sin()).collect();
        Waveform { samples, sample_rate: 16_000 }.write(&path).unwrap();
    }
    folder
}

/// Relative paths of the feature files below a folder, sorted.
fn features(folder: &Path) -> Vec<String> {
    let entries = walkdir::WalkDir::new(folder).sort_by_file_name().into_iter().filter_map(Result::ok);
    let files =
        entries.filter(|entry| entry.file_type().is_file() && entry.path().extension().is_some_and(|e| e == "npz"));
    files.map(|entry| entry.path().strip_prefix(folder).unwrap().to_string_lossy().into_owned()).collect()
}

#[test]
fn the_folder_structure_is_kept_and_letter_case_of_endings_does_not_matter() {
    let audio = recordings(&["train/a/one.wav", "train/b/two.WAV", "test/c.wav"]);
    fs::write(audio.path().join("train/notes.txt"), "not audio").unwrap();
    let target = TempDir::new().unwrap();
    let said = succeed("extract-features", &[text(audio.path()), text(target.path())]);
    assert!(said.contains("3 feature files written") && said.contains("0 failed"), "{said}");
    let expected = ["test/c.feat.npz", "train/a/one.feat.npz", "train/b/two.feat.npz"];
    assert_eq!(features(target.path()), expected);
}

#[test]
fn one_bad_file_is_named_and_counted_and_the_others_go_on() {
    let audio = recordings(&["train/good.wav", "train/cut.wav", "test/fine.wav"]);
    let cut = audio.path().join("train/cut.wav");
    let bytes = fs::read(&cut).unwrap();
    fs::write(&cut, &bytes[..20]).unwrap();
    fs::write(audio.path().join("train/empty.ogg"), "").unwrap();
    let target = TempDir::new().unwrap();
    let said = run("extract-features", &[text(audio.path()), text(target.path())]);
    assert_eq!(said.code, Some(3), "{}", said.err);
    assert!(said.err.contains("cut.wav") && said.err.contains("empty.ogg"), "{}", said.err);
    assert!(said.out.contains("2 feature files") && said.out.contains("2 failed"), "{}", said.out);
    assert_eq!(features(target.path()), ["test/fine.feat.npz", "train/good.feat.npz"], "no half files either");
}

#[test]
fn nothing_that_can_be_used_is_an_error_that_says_so() {
    let (empty, target) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let said = fail("extract-features", &[text(empty.path()), text(target.path())]);
    assert!(said.contains("no .wav, .ogg, .flac or .mp3"), "{said}");
    fs::write(empty.path().join("noise.wav"), [7u8; 500]).unwrap();
    assert!(fail("extract-features", &[text(empty.path()), text(target.path())]).contains("noise.wav"));
    let inside = empty.path().join("features");
    assert!(fail("extract-features", &[text(empty.path()), text(&inside)]).contains("inside"));
}

#[test]
fn a_second_run_does_what_is_new_or_changed_and_nothing_else() {
    let audio = recordings(&["train/one.wav", "train/two.wav", "test/three.wav"]);
    let target = TempDir::new().unwrap();
    let paths = [text(audio.path()), text(target.path())];
    succeed("extract-features", &paths);
    let said = succeed("extract-features", &paths);
    assert!(said.contains("3 recordings: 0 feature files written, 3 current, 0 failed, 0 not done"), "{said}");
    assert!(
        succeed("extract-features", &[&paths[..], &["--dry-run"]].concat()).contains("0 files would be written, 3")
    );

    // One changed, one feature file cut short, one lost, one new.
    let tone = Waveform { samples: (0..4000).map(|n| (0.3 * n as f32).sin()).collect(), sample_rate: 16_000 };
    tone.write(&audio.path().join("train/one.wav")).unwrap();
    tone.write(&audio.path().join("train/new.wav")).unwrap();
    fs::write(target.path().join("train/two.feat.npz"), "cut").unwrap();
    fs::remove_file(target.path().join("test/three.feat.npz")).unwrap();
    let said = succeed("extract-features", &paths);
    assert!(said.contains("4 feature files written, 0 current"), "{said}");
    assert_eq!(FeatureFile::read_meta(&target.path().join("train/one.feat.npz")).unwrap().source_samples, 4000);

    // Killed in the middle of a line: that recording is done again, its feature file no stranger.
    let manifest = target.path().join("manifest.jsonl");
    let lines = fs::read(&manifest).unwrap();
    fs::write(&manifest, &lines[..lines.len() - 30]).unwrap();
    assert!(succeed("extract-features", &paths).contains("1 feature files written, 3 current"));
    assert!(succeed("extract-features", &paths).contains("0 feature files written, 4 current"));
}

#[test]
fn other_settings_and_strangers_files_are_refused_unless_told() {
    let audio = recordings(&["train/one.wav", "test/two.wav"]);
    let target = TempDir::new().unwrap();
    let paths = [text(audio.path()), text(target.path())];
    succeed("extract-features", &paths);
    let said = fail("extract-features", &[&paths[..], &["--no-trim"]].concat());
    assert!(said.contains("trim_silence_db: 20 and none") && said.contains("--overwrite"), "{said}");
    assert!(fail("extract-features", &[&paths[..], &["--no-au"]].concat()).contains("arrays"));
    succeed("extract-features", &[&paths[..], &["--overwrite", "--no-trim"]].concat());
    let meta = FeatureFile::read_meta(&target.path().join("train/one.feat.npz")).unwrap();
    assert_eq!(meta.config.trim_silence_db, None);
    assert!(succeed("extract-features", &[&paths[..], &["--no-trim"]].concat()).contains("2 current"));

    let other = TempDir::new().unwrap();
    fs::create_dir(other.path().join("train")).unwrap();
    fs::write(other.path().join("train/one.feat.npz"), "mine").unwrap();
    let said = fail("extract-features", &[text(audio.path()), text(other.path())]);
    assert!(said.contains("one.feat.npz") && said.contains("--overwrite"), "{said}");
    assert_eq!(fs::read(other.path().join("train/one.feat.npz")).unwrap(), b"mine");
}

#[test]
fn recordings_that_would_become_one_file_are_refused_before_any_work() {
    let target = TempDir::new().unwrap();
    for pair in [["train/a.wav", "train/a.ogg"], ["train/a.wav", "train/A.wav"], ["train/x/a.wav", "train/X/a.wav"]] {
        let audio = recordings(&pair);
        let said = fail("extract-features", &[text(audio.path()), text(&target.path().join("t"))]);
        assert!(said.contains("would both become"), "{said}");
    }
    assert!(!target.path().join("t").exists());
    let audio = recordings(&["train/a.wav", "train/a.b.wav", "test/c.wav"]);
    fs::copy("tests/data/decode/mono.ogg", audio.path().join("train/a.ogg")).unwrap();
    succeed("extract-features", &[text(audio.path()), text(target.path()), "--keep-extension"]);
    let expected = ["test/c.wav.feat.npz", "train/a.b.wav.feat.npz", "train/a.ogg.feat.npz", "train/a.wav.feat.npz"];
    assert_eq!(features(target.path()), expected);
}

#[test]
fn the_number_of_failures_can_be_limited_and_the_counts_add_up() {
    let audio = recordings(&["train/a.wav", "train/z.wav", "test/y.wav"]);
    for name in ["train/b.wav", "train/c.wav", "train/d.wav"] {
        fs::write(audio.path().join(name), "no sound").unwrap();
    }
    let target = TempDir::new().unwrap();
    let flags = [text(audio.path()), text(target.path()), "--jobs", "1"];
    let said = run("extract-features", &[&flags[..], &["--max-errors", "2"]].concat());
    assert!(said.out.contains("2 failed") && said.out.starts_with("6 recordings"), "{}", said.out);
    let counts: Vec<usize> = said.out.split_whitespace().filter_map(|word| word.parse().ok()).take(5).collect();
    assert_eq!(counts[0], counts[1..].iter().sum::<usize>(), "{}", said.out);
    assert!(counts[4] > 0, "{}", said.out);
    let said = run("extract-features", &flags);
    assert_eq!(said.code, Some(3), "{}", said.err);
    assert!(said.out.contains("3 failed, 0 not done"), "{}", said.out);
    let said = run("extract-features", &[&flags[..], &["--fail-fast", "--quiet"]].concat());
    assert_eq!((said.code, said.out.as_str(), said.err.matches("error:").count()), (Some(3), "", 1), "{}", said.err);
}

#[test]
fn a_target_that_cannot_be_written_stops_the_run_and_is_named() {
    let audio = recordings(&["train/a.wav", "train/b.wav", "test/c.wav"]);
    let target = TempDir::new().unwrap();
    fs::write(target.path().join("train"), "a file in the way").unwrap();
    let said = run("extract-features", &[text(audio.path()), text(target.path()), "--jobs", "1"]);
    assert_eq!(said.code, Some(1), "{}", said.err);
    let errors: Vec<&str> = said.err.lines().filter(|line| line.starts_with("error:")).collect();
    assert!(errors.len() == 1 && errors[0].contains("train"), "{}", said.err);
}

#[test]
fn names_need_not_be_text_and_what_is_no_file_is_skipped_by_name() {
    use std::os::unix::ffi::OsStrExt;
    let long = "n".repeat(246);
    let audio = recordings(&["train/-dash.wav", "train/two\nlines.wav", &format!("test/{long}.wav")]);
    let plain = audio.path().join("train/-dash.wav");
    fs::copy(&plain, audio.path().join("train").join(std::ffi::OsStr::from_bytes(b"caf\xe9.wav"))).unwrap();
    fs::copy(&plain, audio.path().join(format!("test/{}.wav", "m".repeat(251)))).unwrap();
    let pipe = audio.path().join("train/pipe.wav");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let target = TempDir::new().unwrap();
    let paths = [text(audio.path()), text(target.path())];
    let said = run("extract-features", &paths);
    assert_eq!(said.code, Some(3), "{}", said.err);
    assert!(said.out.contains("5 recordings: 4 feature files written, 0 current, 1 failed"), "{}", said.out);
    assert!(said.err.contains("pipe.wav: is not a regular file: skipped"), "{}", said.err);
    assert!(said.err.contains("260 bytes"), "{}", said.err);
    assert!(target.path().join("train").join(std::ffi::OsStr::from_bytes(b"caf\xe9.feat.npz")).exists());
    assert!(run("extract-features", &paths).out.contains("0 feature files written, 4 current, 1 failed"));
}

#[test]
fn silence_and_sounds_beyond_the_limit_are_named() {
    let audio = recordings(&["train/fine.wav", "test/fine.wav"]);
    let silent = Waveform { samples: vec![0.0; 4000], sample_rate: 16_000 };
    silent.write(&audio.path().join("train/silent.wav")).unwrap();
    let target = TempDir::new().unwrap();
    let said = run("extract-features", &[text(audio.path()), text(target.path())]);
    assert_eq!(said.code, Some(3));
    assert!(said.err.contains("silent.wav: is silent throughout"), "{}", said.err);
    let flags = [text(audio.path()), text(target.path()), "--overwrite", "--max-hours-per-file", "0.0001"];
    let said = fail("extract-features", &flags);
    assert!(said.contains("train/fine.wav: lasts longer than 360ms"), "{said}");
}

#[test]
fn shards_share_a_target_and_together_do_everything_once() {
    let audio = recordings(&["train/1.wav", "train/2.wav", "train/3.wav", "test/4.wav", "test/5.wav"]);
    let target = TempDir::new().unwrap();
    let paths = [text(audio.path()), text(target.path())];
    for (shard, count) in [("1/2", 3), ("2/2", 2)] {
        let said = succeed("extract-features", &[&paths[..], &["--shard", shard]].concat());
        assert!(said.contains(&format!("{count} feature files written, 0 current")), "{said}");
    }
    assert!(succeed("extract-features", &paths).contains("0 feature files written, 5 current"));
    assert_eq!(run("extract-features", &[&paths[..], &["--shard", "3/2"]].concat()).code, Some(2));
    // A shard to which no recording falls has done its part.
    let said = succeed("extract-features", &[&paths[..], &["--shard", "7/8"]].concat());
    assert!(said.contains("0 recordings: 0 feature files written, 0 current, 0 failed"), "{said}");
    succeed("extract-features", &[&paths[..], &["--shard", "7/8", "--dry-run"]].concat());
}

#[test]
fn shards_with_other_settings_are_renewed_whichever_way_the_work_was_cut() {
    let audio = recordings(&["train/1.wav", "train/2.wav", "test/3.wav"]);
    let target = TempDir::new().unwrap();
    let paths = [text(audio.path()), text(target.path())];
    let extract = |more: &[&str]| run("extract-features", &[&paths[..], more].concat());
    let shards = ["1/2", "2/2"].map(|shard| ["--shard", shard]);
    let other = ["--only", "logmel"];
    for shard in shards {
        assert_eq!(extract(&shard).code, Some(0));
    }
    // In one go.
    let refused = extract(&other);
    assert!(refused.code == Some(1) && refused.err.contains("manifest-1-of-2.jsonl"), "{}", refused.err);
    assert_eq!(extract(&[&other[..], &["--overwrite"]].concat()).code, Some(0));
    assert!(extract(&other).out.contains("0 feature files written, 3 current"));
    // And in shards again: as long as one of them is to be renewed, the folder holds both.
    assert_eq!(extract(&[&shards[0][..], &["--overwrite"]].concat()).code, Some(0));
    assert_eq!(extract(&[&shards[1][..], &["--overwrite"]].concat()).code, Some(0));
    assert!(extract(&[]).out.contains("0 feature files written, 3 current"));
    assert_eq!(extract(&[&shards[0][..], &other[..], &["--overwrite"]].concat()).code, Some(0));
    let refused = extract(&[&shards[0][..], &other[..]].concat());
    assert!(refused.code == Some(1) && refused.err.contains("manifest-2-of-2.jsonl"), "{}", refused.err);
}

#[test]
fn arrays_can_be_left_out_and_readers_say_what_is_missing() {
    let audio = recordings(&["train/1.wav", "test/2.wav"]);
    let target = TempDir::new().unwrap();
    let paths = [text(audio.path()), text(target.path())];
    succeed("extract-features", &[&paths[..], &["--only", "logmel"]].concat());
    let path = target.path().join("train/1.feat.npz");
    assert!(succeed("synth", &["inspect", text(&path)]).contains("seconds"));
    let logmel = FeatureFile::read_logmel(&path).unwrap();
    let said = FeatureFile::read_spectra(&path).unwrap_err().to_string();
    assert!(said.contains("array logspec: is missing") && said.contains("with all arrays"), "{said}");
    succeed("extract-features", &[&paths[..], &["--overwrite", "--no-au"]].concat());
    assert!(FeatureFile::read_spectra(&path).is_ok() && FeatureFile::read(&path).is_err());
    succeed("extract-features", &[&paths[..], &["--overwrite"]].concat());
    let whole = FeatureFile::read(&path).unwrap();
    assert!(logmel == (whole.logmel, whole.meta), "what is kept does not depend on what is left out");
}

#[test]
fn a_dry_run_writes_nothing_and_says_what_would_be_written() {
    let audio = recordings(&["train/one.wav", "test/two.wav"]);
    let target = audio.path().with_extension("features");
    let said = succeed("extract-features", &[text(audio.path()), text(&target), "--dry_run"]);
    assert!(said.contains("one.feat.npz") && said.contains("2 files would be written"), "{said}");
    assert!(!target.exists());
}

#[test]
fn what_earlier_runs_left_of_other_recordings_is_named_and_removed_when_asked() {
    let audio = recordings(&["train/ann/1.wav", "train/bob/1.wav", "test/ann/2.wav", "test/bob/2.wav"]);
    let target = TempDir::new().unwrap();
    let extract = |more: &[&str]| {
        let said = run("extract-features", &[&[text(audio.path()), text(target.path())], more].concat());
        assert_eq!(said.code, Some(0), "{}", said.err);
        said
    };
    assert!(extract(&[]).err.is_empty());
    let bobs = ["--filter-speakers", "bob"];
    let said = extract(&bobs);
    assert!(said.err.contains("2 feature files") && said.err.contains("test/ann/2.feat.npz"), "{}", said.err);
    fs::remove_file(audio.path().join("train/bob/1.wav")).unwrap();
    fs::write(target.path().join("train/own.feat.npz"), "nobody's").unwrap();
    let said = extract(&["--prune", "--dry-run"]);
    assert!(said.out.contains("1 feature files") && said.out.contains("would be removed"), "{}", said.out);
    assert!(extract(&["--prune"]).out.contains("train/bob/1.feat.npz among them: removed"));
    assert!(extract(&[]).err.is_empty());
    assert_eq!(
        features(target.path()),
        ["test/ann/2.feat.npz", "test/bob/2.feat.npz", "train/ann/1.feat.npz", "train/own.feat.npz"]
    );
    // A command that is refused removes nothing.
    fs::remove_file(audio.path().join("train/ann/1.wav")).unwrap();
    fs::copy(audio.path().join("test/ann/2.wav"), audio.path().join("train/own.wav")).unwrap();
    assert_eq!(run("extract-features", &[text(audio.path()), text(target.path()), "--prune"]).code, Some(1));
    assert!(target.path().join("train/ann/1.feat.npz").exists());
    // Another folder's are its own affair.
    let other = recordings(&["train/carla/1.wav", "test/carla/2.wav"]);
    let said = run("extract-features", &[text(other.path()), text(target.path()), "--prune"]);
    assert!(said.err.is_empty() && !said.out.contains("removed"), "{} {}", said.out, said.err);
}

#[test]
fn how_recordings_are_split_is_said_and_what_was_perhaps_not_meant_so() {
    let said = |names: &[&str], flags: &[&str]| {
        let (audio, target) = (recordings(names), TempDir::new().unwrap());
        let said = run("extract-features", &[&[text(audio.path()), text(target.path())], flags].concat());
        assert_eq!(said.code, Some(0), "{}", said.err);
        (said.out, said.err.replace(text(audio.path()), "AUDIO"))
    };
    let (out, err) = said(&["train/1.wav", "train/2.wav", "test/3.wav"], &[]);
    assert!(out.contains("2 of 3 to train on, 1 to test on, as its folders say") && err.is_empty(), "{out} {err}");
    let (_, err) = said(&["train/1.wav", "test/3.wav"], &["--split", "0.5"]);
    assert!(err.contains("--split and --split-by change nothing"), "{err}");
    let (out, err) = said(&["a/1.wav", "b/2.wav"], &["--split-by", "speaker"]);
    assert!(
        out.contains("1 of 2 to train on, 1 to test on, split by speaker, --split 0.05") && err.is_empty(),
        "{out} {err}"
    );
    let (_, err) = said(&["lj/train/1.wav", "lj/test/2.wav"], &[]);
    assert!(err.contains("give AUDIO/lj as the audio folder"), "{err}");
    let (_, err) = said(&["Train/1.wav", "Test/2.wav"], &[]);
    assert!(err.contains("small letters"), "{err}");
    let (_, err) = said(&["train/1.wav"], &[]);
    assert!(err.contains("no recording is there for test"), "{err}");
    let (_, err) = said(&["train/1.wav", "test/2.wav"], &["--hop-size", "1024"]);
    assert!(err.contains("more than half of --n-fft"), "{err}");
    // Recordings that change sides.
    let (audio, target) = (recordings(&["a/1.wav", "b/2.wav", "b/3.wav"]), TempDir::new().unwrap());
    let paths = [text(audio.path()), text(target.path())];
    succeed("extract-features", &[&paths[..], &["--split-by", "speaker"]].concat());
    let changed = ["0.4", "0.7"].map(|split| run("extract-features", &[&paths[..], &["--split", split]].concat()).err);
    assert!(changed.iter().any(|err| err.contains("change sides between train/ and test/")), "{changed:?}");
}

#[test]
fn speakers_are_filtered_by_parts_of_the_path() {
    let audio = recordings(&["train/ann/1.wav", "train/bob/1.wav", "test/carla/1.wav", "test/anna/1.wav"]);
    let target = TempDir::new().unwrap();
    let flags = [text(audio.path()), text(target.path()), "--filter_speakers", "ann,carla", "--verbose"];
    let said = run("extract-features", &flags).err;
    assert!(said.lines().count() == 3 && said.contains("train/ann/1.wav -> "), "{said}");
    assert_eq!(features(target.path()), ["test/anna/1.feat.npz", "test/carla/1.feat.npz", "train/ann/1.feat.npz"]);
}

#[test]
fn a_flat_folder_is_split_into_training_and_test_files() {
    let names: Vec<String> = (0..10).map(|index| format!("{index}.wav")).collect();
    let audio = recordings(&names.iter().map(String::as_str).collect::<Vec<_>>());
    let target = TempDir::new().unwrap();
    succeed("extract-features", &[text(audio.path()), text(target.path()), "--split", "0.3"]);
    let found = features(target.path());
    assert_eq!(found.iter().filter(|name| name.starts_with("test/")).count(), 3, "{found:?}");
    assert_eq!(found.len(), 10);
}

#[test]
fn the_workshops_spellings_of_flags_work_and_reach_the_features() {
    let audio = recordings(&["train/one.wav", "test/two.wav"]);
    let target = TempDir::new().unwrap();
    let flags = "--sample_rate 8000 --hop_size 80 --n_fft 512 --n_filterbank 40 --f_max 3800 --preemphasis 0.9 \
                 --clip_before_log 0.001 --trim_silence_db 30 --pad_mode constant --no_normalize";
    let flags: Vec<&str> = flags.split_whitespace().collect();
    succeed("extract-features", &[&[text(audio.path()), text(target.path())], &flags[..]].concat());
    let features = FeatureFile::read(&target.path().join("train/one.feat.npz")).unwrap();
    assert_eq!((features.logmel.ncols(), features.logspec.ncols()), (40, 257));
    let config = features.meta.config;
    assert_eq!((config.sample_rate, config.hop_size, config.preemphasis), (8000, 80, 0.9));
    assert_eq!((config.clip_before_log, config.trim_silence_db, config.normalize), (0.001, Some(30.0), false));
    let said = fail("extract-features", &[text(audio.path()), text(target.path()), "--sample-rate", "8000"]);
    assert!(said.contains("--f-max"), "the default filterbank does not fit 8 kHz: {said}");
}

#[test]
fn every_rates_preset_makes_features_that_train_and_sound_and_single_flags_override_it() {
    let audio = recordings(&["train/one.wav", "test/two.wav"]);
    let folder = TempDir::new().unwrap();
    for (preset, rate, bands) in
        [("8k", 8_000, 40), ("16k", 16_000, 80), ("22k", 22_050, 80), ("24k", 24_000, 80), ("44k", 44_100, 96)]
    {
        let [target, run, sound] = ["features", "run", "sound.wav"].map(|part| folder.path().join(preset).join(part));
        succeed("extract-features", &[text(audio.path()), text(&target), "--preset", preset]);
        let [train, test] = ["train/one.feat.npz", "test/two.feat.npz"].map(|name| target.join(name));
        let meta = FeatureFile::read_meta(&train).unwrap();
        assert_eq!((meta.config.sample_rate, meta.config.n_filterbank), (rate, bands));
        let seconds = meta.config.hop_size as f64 / f64::from(rate);
        assert!((seconds - 0.01).abs() < 3e-5 && meta.config.f_max < f64::from(rate) / 2.0);
        let sets = [&train, &test].map(|file| file.parent().unwrap());
        let small =
            ["--preset", "tiny", "--batch-size", "2", "--steps", "1", "--segment-frames", "4", "--device", "cpu"];
        succeed("train-vae", &[&[text(&run), text(sets[0]), text(sets[1])], &small[..]].concat());
        succeed("synth", &["vocode", "--inverter", "none", "--iterations", "2", text(&test), text(&sound)]);
        assert_eq!(Waveform::read(&sound).unwrap().sample_rate, rate);
    }
    let target = folder.path().join("other");
    succeed("extract-features", &[text(audio.path()), text(&target), "--preset", "8k", "--n-filterbank", "48"]);
    let config = FeatureFile::read_meta(&target.join("train/one.feat.npz")).unwrap().config;
    assert_eq!((config.sample_rate, config.n_filterbank), (8_000, 48));
    assert_eq!(run("extract-features", &[text(audio.path()), text(&target), "--preset", "32k"]).code, Some(2));
}

#[test]
fn the_number_of_jobs_changes_nothing_in_the_files() {
    let audio = recordings(&["train/1.wav", "train/2.wav", "train/3.wav", "test/4.wav"]);
    let (one, many) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    succeed("extract-features", &[text(audio.path()), text(one.path()), "--jobs", "1"]);
    succeed("extract-features", &[text(audio.path()), text(many.path()), "--jobs", "4"]);
    for name in features(one.path()) {
        assert!(fs::read(one.path().join(&name)).unwrap() == fs::read(many.path().join(&name)).unwrap(), "{name}");
    }
}

#[test]
fn events_are_lines_of_json_on_standard_error() {
    let audio = recordings(&["train/one.wav", "train/two.wav", "test/three.wav"]);
    fs::write(audio.path().join("train/bad.wav"), "no sound").unwrap();
    let cut = audio.path().join("train/two.wav");
    let bytes = fs::read(&cut).unwrap();
    fs::write(&cut, &bytes[..bytes.len() - 100]).unwrap();
    let target = TempDir::new().unwrap();
    let flags = [text(audio.path()), text(target.path()), "--log-format", "json"];
    let said = run("extract-features", &flags);
    assert_eq!(said.code, Some(3), "{}", said.err);
    let events: Vec<Value> = said.err.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let of = |kind: &str| events.iter().filter(|event| event["event"] == kind).collect::<Vec<_>>();
    let done = of("done");
    assert_eq!(done.len(), 3);
    for event in done {
        let meta = FeatureFile::read_meta(Path::new(event["output"].as_str().unwrap())).unwrap();
        assert_eq!(event["frames"], meta.frames);
        assert_eq!(event["seconds"], meta.source_samples as f64 / 16_000.0);
    }
    let [failed] = of("failed")[..] else { panic!("{}", said.err) };
    assert!(failed["path"].as_str().unwrap().ends_with("train/bad.wav"), "{failed}");
    assert!(failed["error"].as_str().unwrap().contains("bad.wav: "), "{failed}");
    let [log] = of("log")[..] else { panic!("{}", said.err) };
    assert!(log["level"] == "warn" && log["message"].as_str().unwrap().contains("two.wav: truncated"), "{log}");
    let summary = events.last().unwrap();
    let counts = ["recordings", "written", "current", "failed", "left"].map(|name| summary[name].as_u64().unwrap());
    assert_eq!((summary["event"].as_str(), counts), (Some("summary"), [4, 3, 0, 1, 0]));
    // What ends a run is told alike.
    let said = fail("extract-features", &[&flags[..], &["--no-trim"]].concat());
    let event: Value = serde_json::from_str(&said).unwrap();
    assert!(event["event"] == "error" && event["error"].as_str().unwrap().contains("other settings"), "{said}");
}

#[test]
fn previews_are_pictures_of_some_files_under_their_names() {
    let audio = recordings(&["train/a/1.wav", "train/a/2.wav", "train/b/3.wav", "test/4.wav"]);
    let target = TempDir::new().unwrap();
    let flags = [text(audio.path()), text(target.path()), "--preview", "2"];
    succeed("extract-features", &flags);
    let pictures = |folder: &Path| -> Vec<String> {
        let entries = walkdir::WalkDir::new(folder).sort_by_file_name().into_iter().map(Result::unwrap);
        let files = entries.filter(|entry| entry.file_type().is_file());
        files.map(|entry| entry.path().strip_prefix(folder).unwrap().to_string_lossy().into_owned()).collect()
    };
    let preview = target.path().join("preview");
    assert_eq!(pictures(&preview), ["train/a/1.png", "train/b/3.png"]);
    let picture = fs::read(preview.join("train/a/1.png")).unwrap();
    assert!(picture.starts_with(b"\x89PNG"));
    // The same again for files that were there already, and all of them if there are fewer than asked for.
    fs::remove_dir_all(&preview).unwrap();
    succeed("extract-features", &flags);
    assert!(fs::read(preview.join("train/a/1.png")).unwrap() == picture);
    succeed("extract-features", &[&flags[..3], &["9"]].concat());
    assert_eq!(pictures(&preview).len(), 4);
}
