//! Checkpoints that something happened to: none is taken for what was saved.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tempfile::TempDir;
use vae_workshop::data::{DataIdentity, Standardizer};
use vae_workshop::features::FeatureConfig;
use vae_workshop::models::{ConvVaeConfig, VaeConfig};
use vae_workshop::run::{
    About, AdamConfig, BatchConfig, BetaVae, Checkpoint, NamedTensors, Objective, RunConfig, RunDir, Schedule,
};

use crate::env::{fail, fixture, succeed, text};
use crate::pipeline::files;

const FILES: [&str; 4] = ["manifest.json", "model.safetensors", "optimizer.safetensors", "run.json"];

/// A description that fits itself.
fn about(step: u64, test: Option<f64>) -> About {
    let features = FeatureConfig::default();
    let n_mels = features.n_filterbank;
    let model = ConvVaeConfig { segment_frames: 20, n_mels, channels: [4, 4, 4], hidden: 8, latents: 2 };
    let config = RunConfig {
        model: VaeConfig::Conv(model).into(),
        objective: Objective::BetaVae(BetaVae::new(1.0)),
        optimizer: AdamConfig::default(),
        schedule: Schedule::constant(1e-3),
        batch: BatchConfig { size: 1, frames: 20, augment: None },
        seed: 0,
        features,
        data: DataIdentity { files: 1, frames: 100, hash: String::new() },
        test_data: None,
        origin: None,
    };
    let mut about = About {
        version: "0".into(),
        step,
        position: Default::default(),
        test: BTreeMap::new(),
        tested: 0,
        best: None,
        no_better: 0,
        trouble: Default::default(),
        standardizer: Standardizer::dividing_by(1.0, n_mels),
        config,
    };
    if let Some(total) = test {
        about.record([("total".to_string(), total)].into());
    }
    about
}

/// Saves a small checkpoint whose tensors differ from step to step.
fn save(run: &RunDir, step: u64, test: Option<f64>, keep: usize) -> PathBuf {
    let tensors = |name: &str| NamedTensors([(name.to_string(), (vec![3], vec![step as f32, 1.0, -2.0]))].into());
    run.save(&about(step, test), &tensors("weight"), &tensors("weight.second"), keep).unwrap()
}

/// Every way in which a file can differ from what was saved, as its new content; `None` is a file that is gone.
fn damages(bytes: &[u8], of_another_step: Vec<u8>) -> Vec<Option<Vec<u8>>> {
    let cuts = (0..10).map(|decile| bytes[..bytes.len() * decile / 10].to_vec());
    let mut found: Vec<Option<Vec<u8>>> = cuts.map(Some).collect();
    found.extend([None, Some(of_another_step), Some(bytes[..bytes.len() - 1].to_vec())]);
    found.extend([0, b' ', b'\n'].map(|more| Some([bytes, &[more]].concat())));
    let mut rng = ChaCha8Rng::seed_from_u64(7);
    found.extend((0..200).map(|_| {
        let mut changed = bytes.to_vec();
        changed[rng.random_range(0..bytes.len())] ^= 1 << rng.random_range(0..8);
        Some(changed)
    }));
    found
}

fn put(path: &Path, content: &Option<Vec<u8>>) {
    match content {
        Some(bytes) => fs::write(path, bytes).unwrap(),
        None => fs::remove_file(path).unwrap(),
    }
}

#[test]
fn no_damaged_checkpoint_is_accepted_and_the_one_before_it_is_used() {
    let folder = TempDir::new().unwrap();
    let run = RunDir::at(folder.path());
    let (older, newer) = (save(&run, 10, None, 3), save(&run, 20, None, 3));
    let step = || run.latest().unwrap().unwrap().about.step;
    assert_eq!(step(), 20);
    let saved = Checkpoint::with_model(&newer).unwrap().1;
    for name in FILES {
        let path = newer.join(name);
        let whole = fs::read(&path).unwrap();
        for (index, damage) in damages(&whole, fs::read(older.join(name)).unwrap()).iter().enumerate() {
            put(&path, damage);
            assert_eq!(step(), 10, "{name}, damage {index} went through");
            match Checkpoint::with_model(&newer) {
                Ok((_, model)) => assert!(model == saved && name != "model.safetensors", "{name}, damage {index}"),
                Err(_) => assert_ne!(name, "optimizer.safetensors", "synthesis does not read it"),
            }
        }
        fs::write(&path, whole).unwrap();
        assert_eq!(step(), 20);
    }
    // Nor is a whole checkpoint under another's name, nor what was being written.
    fs::rename(&newer, folder.path().join("step-00000030")).unwrap();
    assert_eq!(step(), 10);
    fs::rename(folder.path().join("step-00000030"), folder.path().join("step-00000020.tmp")).unwrap();
    assert_eq!(step(), 10);
}

#[test]
fn a_checkpoint_whose_replacement_was_killed_is_still_there() {
    let folder = TempDir::new().unwrap();
    let run = RunDir::at(folder.path());
    let place = save(&run, 5, None, 3);
    let before = fs::read(place.join("manifest.json")).unwrap();
    let aside = place.with_extension("old");
    // The old one has stepped aside, and the new one is not in its place.
    fs::rename(&place, &aside).unwrap();
    fs::create_dir(place.with_extension("tmp")).unwrap();
    drop(run.lock().unwrap());
    assert_eq!(run.latest().unwrap().unwrap().about.step, 5);
    assert!(fs::read(place.join("manifest.json")).unwrap() == before && !aside.exists());
    // The new one is in its place, and the old one was not removed yet.
    fs::create_dir(&aside).unwrap();
    drop(run.lock().unwrap());
    save(&run, 5, Some(2.0), 3);
    assert!(!aside.exists() && !place.with_extension("tmp").exists());
    assert_eq!(run.latest().unwrap().unwrap().about.test_loss(), Some(2.0));
}

#[test]
fn the_newest_are_kept_and_the_best_and_what_a_killed_session_was_writing_is_not() {
    let folder = TempDir::new().unwrap();
    let run = RunDir::at(folder.path());
    fs::create_dir(folder.path().join("step-00000007.tmp")).unwrap();
    let steps = || -> Vec<u64> {
        let names = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut steps: Vec<u64> = names.map(|name| name["step-".len()..].parse().unwrap()).collect();
        steps.sort();
        steps
    };
    for (step, loss) in [(1, None), (2, Some(5.0)), (3, Some(3.0)), (4, Some(3.0)), (5, Some(4.0)), (6, Some(9.0))] {
        save(&run, step, loss, 2);
    }
    assert_eq!(steps(), [3, 5, 6]);
    save(&run, 7, Some(1.0), 2);
    assert_eq!(steps(), [6, 7]);
}

#[test]
fn a_folder_that_cannot_be_read_does_not_pass_for_a_new_run() {
    let folder = TempDir::new().unwrap();
    let (there, looped) = (folder.path().join("none"), folder.path().join("loop"));
    assert!(RunDir::at(&there).latest().unwrap().is_none());
    std::os::unix::fs::symlink(&looped, &looped).unwrap();
    assert!(RunDir::at(&looped).latest().unwrap_err().to_string().contains("loop"));
}

#[test]
fn a_run_of_which_nothing_is_whole_ends_with_status_1_and_is_left_as_it_is() {
    let folder = TempDir::new().unwrap();
    let (logdir, data) = (folder.path().join("run"), fixture());
    let flags = [text(&logdir), text(&data.train), text(&data.test), "--device", "cpu", "--preset", "tiny"];
    succeed("train-vae", &[&flags[..], &["--steps", "1", "--batch-size", "4"]].concat());
    for path in files(&logdir, "json").iter().filter(|path| path.ends_with("manifest.json")) {
        fs::remove_file(path).unwrap();
    }
    let content = || -> Vec<(PathBuf, Vec<u8>)> {
        let every = ["json", "safetensors"].iter().flat_map(|kind| files(&logdir, kind));
        every.map(|path| (path.clone(), fs::read(path).unwrap())).collect()
    };
    let before = content();
    assert_eq!(before.len(), 7, "the run's machines as well");
    let said = fail("train-vae", &[&flags[..], &["--steps", "2", "--batch-size", "4"]].concat());
    assert!(
        said.contains("step-00000001: has no manifest.json") && said.contains("none of its 2 checkpoint"),
        "{said}"
    );
    assert!(content() == before);
}
