//! `extract-features`, run as a user runs it.

use std::fs;
use std::path::Path;

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
    let files = entries.filter(|entry| entry.file_type().is_file());
    files.map(|entry| entry.path().strip_prefix(folder).unwrap().to_string_lossy().into_owned()).collect()
}

#[test]
fn the_folder_structure_is_kept_and_letter_case_of_endings_does_not_matter() {
    let audio = recordings(&["train/a/one.wav", "train/b/two.WAV", "test/c.wav"]);
    fs::write(audio.path().join("train/notes.txt"), "not audio").unwrap();
    let target = TempDir::new().unwrap();
    let said = succeed("extract-features", &[text(audio.path()), text(target.path())]);
    assert!(said.contains("3 feature files") && said.contains("0 failed"), "{said}");
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
    assert!(said.contains("no .wav or .ogg"), "{said}");
    fs::write(empty.path().join("noise.wav"), [7u8; 500]).unwrap();
    assert!(fail("extract-features", &[text(empty.path()), text(target.path())]).contains("noise.wav"));
    let inside = empty.path().join("features");
    assert!(fail("extract-features", &[text(empty.path()), text(&inside)]).contains("inside"));
}

#[test]
fn existing_features_are_replaced_only_when_told() {
    let audio = recordings(&["train/one.wav", "test/two.wav"]);
    let target = TempDir::new().unwrap();
    let paths = [text(audio.path()), text(target.path())];
    succeed("extract-features", &paths);
    assert!(fail("extract-features", &paths).contains("--overwrite"));
    succeed("extract-features", &[&paths[..], &["--overwrite", "--no-trim"]].concat());
    let meta = FeatureFile::read_meta(&target.path().join("train/one.feat.npz")).unwrap();
    assert_eq!(meta.config.trim_silence_db, None);
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
fn speakers_are_filtered_by_parts_of_the_path() {
    let audio = recordings(&["train/ann/1.wav", "train/bob/1.wav", "test/carla/1.wav", "test/anna/1.wav"]);
    let target = TempDir::new().unwrap();
    succeed("extract-features", &[text(audio.path()), text(target.path()), "--filter_speakers", "ann,carla"]);
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
fn the_number_of_jobs_changes_nothing_in_the_files() {
    let audio = recordings(&["train/1.wav", "train/2.wav", "train/3.wav", "test/4.wav"]);
    let (one, many) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    succeed("extract-features", &[text(audio.path()), text(one.path()), "--jobs", "1"]);
    succeed("extract-features", &[text(audio.path()), text(many.path()), "--jobs", "4"]);
    for name in features(one.path()) {
        assert!(fs::read(one.path().join(&name)).unwrap() == fs::read(many.path().join(&name)).unwrap(), "{name}");
    }
}
