//! Training runs: exact resumption, identity, interruption, what is refused.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;
use vae_workshop::run::NamedTensors;

use crate::env::{binary, fail, fixture, run, seal, succeed, text};
use crate::events;
use crate::pipeline::{files, runs};

/// The folders of the fixture, a small model, and `more`.
fn flags<'a>(logdir: &'a str, steps: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let data = fixture();
    let common = ["--steps", steps, "--device", "cpu", "--preset", "tiny"];
    [&[logdir, text(&data.train), text(&data.test)], &common[..], more].concat()
}

pub fn vae_flags<'a>(logdir: &'a str, steps: &'a str) -> Vec<&'a str> {
    flags(logdir, steps, &["--batch-size", "8", "--log-every", "5", "--save-every", "10"])
}

pub fn inverter_flags<'a>(logdir: &'a str, steps: &'a str) -> Vec<&'a str> {
    flags(logdir, steps, &["--batch-size", "2", "--crop-frames", "32", "--bank-size", "2"])
}

/// A value of the newest description in a run's folder.
pub fn about(logdir: &Path, pointer: &str) -> Value {
    let newest = files(logdir, "json").pop().unwrap();
    let about: Value = serde_json::from_slice(&fs::read(newest).unwrap()).unwrap();
    about.pointer(pointer).unwrap_or(&Value::Null).clone()
}

/// Asserts that two checkpoints hold the same bytes.
pub fn assert_same_checkpoint(one: &Path, other: &Path) {
    for name in ["model.safetensors", "optimizer.safetensors", "run.json", "manifest.json"] {
        assert!(fs::read(one.join(name)).unwrap() == fs::read(other.join(name)).unwrap(), "{name} differs");
    }
}

#[test]
fn twenty_vae_steps_equal_ten_and_ten_more_to_the_bit() {
    let folder = TempDir::new().unwrap();
    let (straight, resumed) = (folder.path().join("straight"), folder.path().join("resumed"));
    succeed("train-vae", &vae_flags(text(&straight), "20"));
    succeed("train-vae", &vae_flags(text(&resumed), "10"));
    let said = succeed("train-vae", &vae_flags(text(&resumed), "20"));
    assert!(said.contains("continuing") && said.contains("from step 10"), "{said}");
    assert_same_checkpoint(&straight.join("step-00000020"), &resumed.join("step-00000020"));
}

#[test]
fn twenty_inverter_steps_equal_ten_and_ten_more_to_the_bit() {
    let folder = TempDir::new().unwrap();
    let (straight, resumed) = (folder.path().join("straight"), folder.path().join("resumed"));
    succeed("train-inverter", &inverter_flags(text(&straight), "20"));
    succeed("train-inverter", &inverter_flags(text(&resumed), "10"));
    succeed("train-inverter", &inverter_flags(text(&resumed), "20"));
    assert_same_checkpoint(&straight.join("step-00000020"), &resumed.join("step-00000020"));
}

#[test]
fn whole_utterances_train_as_well_as_crops() {
    let folder = TempDir::new().unwrap();
    for recipe in ["correction", "workshop"] {
        let run = folder.path().join(recipe);
        let flags = [inverter_flags(text(&run), "2"), vec!["--recipe", recipe]].concat();
        let flags: Vec<&str> = flags.into_iter().map(|flag| if flag == "32" { "0" } else { flag }).collect();
        let said = succeed("train-inverter", &flags);
        assert!(said.contains("step 2  test ") && said.contains("  total "), "{said}");
        assert_eq!(about(&run, "/config/batch/frames"), 0);
    }
}

#[test]
fn the_learning_rate_follows_the_flags_in_either_recipe_and_never_the_total_of_steps() {
    let folder = TempDir::new().unwrap();
    let schedule = |name: &str, steps: &str, more: &[&str]| {
        let logdir = folder.path().join(name);
        let said = run("train-inverter", &[&inverter_flags(text(&logdir), steps)[..], more].concat());
        assert_eq!(said.code, Some(0), "{}", said.err);
        (about(&logdir, "/config/schedule"), said.err)
    };
    let cosine = |last: f64, steps: u64| json!({ "initial": 1e-3, "last": last, "decay_steps": steps, "warmup_steps": 0, "shape": "cosine" });
    assert_eq!(schedule("plain", "1", &[]).0, cosine(1e-5, 40_000));
    let workshop = ["--recipe", "workshop"];
    assert_eq!(schedule("workshop", "1", &workshop).0, cosine(1e-3, 0));
    let asked =
        schedule("asked", "1", &[&workshop[..], &["--decay-steps", "7", "--final-learning-rate", "0.0002"]].concat());
    assert_eq!(asked.0, cosine(2e-4, 7));
    let (_, warned) = schedule("beyond", "2", &["--decay-steps", "1"]);
    assert!(warned.contains("from step 1 on") && warned.contains("--decay-steps"), "{warned}");
}

#[test]
fn a_run_of_another_identity_is_refused_and_every_difference_named() {
    let folder = TempDir::new().unwrap();
    let run = folder.path().join("run");
    succeed("train-vae", &vae_flags(text(&run), "2"));
    let said = fail("train-vae", &[vae_flags(text(&run), "4"), vec!["--beta", "2", "--seed", "9"]].concat());
    assert!(said.contains("objective.beta: 8.0 / 2.0") && said.contains("seed: 0 / 9"), "{said}");
    // So is another test set: the curves of one run are of one set.
    let data = fixture();
    let elsewhere: Vec<&str> = vae_flags(text(&run), "4");
    let elsewhere = elsewhere.into_iter().map(|flag| if flag == text(&data.test) { text(&data.train) } else { flag });
    let elsewhere: Vec<&str> = elsewhere.collect();
    let said = fail("train-vae", &elsewhere);
    assert!(said.contains("test_data.files") && !said.contains("\n  data."), "{said}");
    // The total, logging and saving are free.
    succeed("train-vae", &[vae_flags(text(&run), "3"), vec!["--keep", "1", "--eval-every", "7"]].concat());
    assert!(!run.join("step-00000002").exists() && run.join("step-00000003").exists());
    // A run of an earlier version, which does not say its test data, goes on with any.
    let path = run.join("step-00000003/run.json");
    let mut about: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    about["config"].as_object_mut().unwrap().remove("test_data").expect("it is noted");
    fs::write(&path, about.to_string()).unwrap();
    seal(&run.join("step-00000003"));
    succeed("train-vae", &elsewhere);
}

#[test]
fn an_optimizer_that_is_not_the_models_is_refused_and_every_difference_named() {
    let folder = TempDir::new().unwrap();
    let run = folder.path().join("run");
    succeed("train-vae", &vae_flags(text(&run), "10"));
    let path = run.join("step-00000010/optimizer.safetensors");
    let whole = NamedTensors::read(&path).unwrap();
    let names: Vec<String> = whole.0.keys().filter(|name| name.ends_with(".second")).cloned().collect();
    let refused = |change: &dyn Fn(&mut NamedTensors)| {
        let mut changed = whole.clone();
        change(&mut changed);
        fs::write(&path, changed.to_bytes()).unwrap();
        seal(path.parent().unwrap());
        let said = fail("train-vae", &vae_flags(text(&run), "20"));
        assert!(said.contains("step-00000010/optimizer.safetensors") && said.lines().count() == 1, "{said}");
        said
    };
    let said = refused(&|tensors| {
        tensors.0.remove(&names[0]);
        tensors.0.insert(names[1].clone(), (vec![1, 2], vec![0.0; 2]));
        tensors.0.insert("stranger.first".into(), (vec![], vec![1.0]));
    });
    assert!(said.contains(&format!("{} is missing", names[0])), "{said}");
    assert!(said.contains(&format!("{} has shape [1, 2], the model needs [", names[1])), "{said}");
    assert!(said.contains("stranger.first is not part of the model"), "{said}");
    assert!(refused(&|tensors| tensors.0.clear()).contains("is missing"));
    let said = refused(&|tensors| tensors.0.get_mut(&names[0]).unwrap().1[0] = -1.0);
    assert!(said.contains(&format!("{} holds squares below zero", names[0])), "{said}");
    // What the message advises.
    fs::remove_dir_all(run.join("step-00000010")).unwrap();
    assert!(succeed("train-vae", &vae_flags(text(&run), "10")).contains("from step 0"));
    assert!(NamedTensors::read(&path).unwrap() == whole);
}

#[test]
fn what_a_killed_run_logged_beyond_its_checkpoint_is_shown_once() {
    let folder = TempDir::new().unwrap();
    let run = folder.path().join("run");
    succeed("train-vae", &vae_flags(text(&run), "20"));
    fs::remove_dir_all(run.join("step-00000020")).unwrap(); // as if killed while this was written
    let said = succeed("train-vae", &vae_flags(text(&run), "25"));
    assert!(said.contains("from step 10"), "{said}");
    assert_eq!(events::steps(&run.join("train"))["loss/total"], [5, 10, 15, 20, 25]);
    assert_eq!(events::steps(&run.join("test"))["loss/total"], [25]);
}

#[test]
fn pruning_counts_good_checkpoints_and_removes_a_damaged_one_beyond_them() {
    let folder = TempDir::new().unwrap();
    let run = folder.path().join("run");
    succeed("train-vae", &vae_flags(text(&run), "20"));
    let damaged = run.join("step-00000020/model.safetensors");
    fs::write(&damaged, "no tensors").unwrap();
    let keep_one = [vae_flags(text(&run), "13"), vec!["--keep", "1"]].concat();
    assert!(succeed("train-vae", &keep_one).contains("from step 10"));
    let mut left: Vec<_> = files(&run, "safetensors").iter().map(|path| path.parent().unwrap().to_path_buf()).collect();
    left.dedup();
    assert_eq!(left, [run.join("step-00000013")]);
    assert!(succeed("train-vae", &vae_flags(text(&run), "14")).contains("from step 13"));
}

#[test]
fn the_recurrent_vae_and_the_workshops_recipe_resume_to_the_bit_and_are_told_apart() {
    let folder = TempDir::new().unwrap();
    let recipes = [vec!["--arch", "lstm", "--cells", "8"], vec!["--preset", "workshop", "--cells", "8"]];
    for (index, recipe) in recipes.iter().enumerate() {
        let (straight, resumed) =
            (folder.path().join(format!("straight-{index}")), folder.path().join(format!("resumed-{index}")));
        let train = |logdir: &Path, steps: &str| {
            let flags = vae_flags(text(logdir), steps);
            let flags = flags.into_iter().filter(|flag| !["--preset", "tiny"].contains(flag));
            succeed("train-vae", &flags.chain(recipe.iter().copied()).collect::<Vec<_>>())
        };
        train(&straight, "20");
        train(&resumed, "10");
        let said = train(&resumed, "20");
        assert!(said.contains("from step 10") && said.contains("penalty") == (index == 1), "{said}");
        assert_same_checkpoint(&straight.join("step-00000020"), &resumed.join("step-00000020"));
    }
    let straight = |index: usize| folder.path().join(format!("straight-{index}"));
    let said = fail("train-vae", &[vae_flags(text(&straight(0)), "30"), recipes[0].clone()].concat());
    assert!(said.contains("model.latents: 32 / 16"), "{said}"); // the tiny preset's
    let said = fail("train-vae", &vae_flags(text(&straight(0)), "30"));
    assert!(said.contains("\"lstm-vae\" / \"conv-vae\""), "{said}");
    let (logdir, data) = (straight(0), fixture());
    let base = [text(&logdir), text(&data.train), text(&data.test), "--device", "cpu", "--batch-size", "8"];
    let said = fail("train-vae", &[&base, &recipes[1][..]].concat());
    for difference in
        ["model.scale: \"softplus\" / \"exp\"", "objective.kl", "objective.l2: 0.0 / 0.0001", "objective.input"]
    {
        assert!(said.contains(difference), "{said}");
    }
}

#[test]
fn flags_of_the_other_network_are_refused_by_name() {
    let folder = TempDir::new().unwrap();
    let refused = |more: &[&str]| {
        let flags = vae_flags(text(folder.path()), "1");
        let flags = flags.into_iter().filter(|flag| !["--preset", "tiny"].contains(flag));
        fail("train-vae", &flags.chain(more.iter().copied()).collect::<Vec<_>>())
    };
    assert!(refused(&["--cells", "8"]).contains("--cells is the lstm's"));
    assert!(refused(&["--arch", "lstm", "--hidden", "8"]).contains("the lstm has --cells"));
    assert!(refused(&["--preset", "workshop", "--channels", "4,4,4"]).contains("the lstm has --cells"));
    assert!(refused(&["--preset", "workshop", "--arch", "conv"]).contains("leave out --arch conv"));
    assert!(refused(&["--arch", "lstm", "--cells", "0"]).contains("--cells"));
}

#[test]
fn channels_are_three_numbers_with_commas() {
    let folder = TempDir::new().unwrap();
    let logdir = folder.path().join("run");
    let said = succeed("train-vae", &[vae_flags(text(&logdir), "1"), vec!["--channels", "4,5,6"]].concat());
    assert!(said.contains("saved"), "{said}");
    assert!(succeed("synth", &["inspect", text(&logdir)]).contains("4,\n      5,\n      6"));
    let said = run("train-vae", &[vae_flags(text(&logdir), "1"), vec!["--channels", "4,5"]].concat());
    assert!(said.code == Some(2) && said.err.contains("32,64,64"), "{}", said.err);
}

#[test]
fn an_interrupted_run_saves_and_the_same_command_goes_on() {
    let folder = TempDir::new().unwrap();
    let logdir = folder.path().join("run");
    let flags = vae_flags(text(&logdir), "1000000");
    let mut child = Command::new(binary("train-vae")).args(&flags).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(|line| line.unwrap());
    assert!(lines.any(|line| line.starts_with("step 5 ")));
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    let rest: Vec<String> = lines.collect();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    let said = rest.iter().find(|line| line.starts_with("interrupted: saved at step")).expect("it says where it saved");
    let step: u64 = said.split_whitespace().nth(4).unwrap().trim_end_matches(';').parse().unwrap();
    let said = succeed("train-vae", &vae_flags(text(&logdir), &(step + 1).to_string()));
    assert!(said.contains(&format!("from step {step}")), "{said}");
}

#[test]
fn a_damaged_newest_checkpoint_is_named_and_the_one_before_it_used() {
    let folder = TempDir::new().unwrap();
    let logdir = folder.path().join("run");
    succeed("train-vae", &vae_flags(text(&logdir), "10"));
    succeed("train-vae", &vae_flags(text(&logdir), "20"));
    let newest = logdir.join("step-00000020/model.safetensors");
    let bytes = fs::read(&newest).unwrap();
    fs::write(&newest, &bytes[..bytes.len() / 2]).unwrap();
    let said = run("train-vae", &vae_flags(text(&logdir), "20"));
    assert_eq!(said.code, Some(0), "{}", said.err);
    assert!(said.err.contains("step-00000020") && said.out.contains("from step 10"), "{}{}", said.err, said.out);
    assert_eq!(fs::read(&newest).unwrap(), bytes, "the repeated steps give what was damaged");
}

#[test]
fn a_second_trainer_of_a_run_is_kept_out() {
    let folder = TempDir::new().unwrap();
    let logdir = folder.path().join("run");
    let flags = vae_flags(text(&logdir), "1000000");
    let mut child = Command::new(binary("train-vae")).args(&flags).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(|line| line.unwrap());
    assert!(lines.any(|line| line.starts_with("saved")));
    let said = fail("train-vae", &flags);
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(said.contains("another trainer"), "{said}");
}

#[test]
fn data_that_cannot_be_trained_on_is_refused_by_name() {
    let data = fixture();
    let folder = TempDir::new().unwrap();
    let (logdir, empty) = (folder.path().join("run"), folder.path().join("empty"));
    fs::create_dir(&empty).unwrap();
    let train = |train: &Path, more: &[&str]| {
        fail("train-vae", &[&[text(&logdir), text(train), text(&data.test), "--device", "cpu"], more].concat())
    };
    assert!(train(&empty, &[]).contains("extract-features"));
    assert!(train(&folder.path().join("nowhere"), &[]).contains("nowhere"));
    let said = train(&data.train, &["--segment-frames", "2000"]);
    assert!(said.contains("shorter than one segment of 2000 frames"), "{said}");
    let other = folder.path().join("other");
    succeed("extract-features", &[text(&data.corpus), text(&other), "--hop-size", "200"]);
    let said = train(&other.join("train"), &[]);
    assert!(said.contains("hop_size") && said.contains("200") && said.contains("160"), "{said}");
    let truncated = folder.path().join("truncated");
    fs::create_dir(&truncated).unwrap();
    let some = walkdir_first(&data.train);
    let bytes = fs::read(&some).unwrap();
    fs::write(truncated.join("cut.feat.npz"), &bytes[..bytes.len() / 2]).unwrap();
    assert!(train(&truncated, &[]).contains("cut.feat.npz"));
    assert!(!logdir.join("step-00000000").exists(), "nothing was started");
}

/// Some feature file below a folder.
fn walkdir_first(folder: &Path) -> std::path::PathBuf {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            return path;
        }
        if path.is_dir() {
            return walkdir_first(&path);
        }
    }
    panic!("{} is empty", folder.display())
}

#[test]
fn a_run_of_the_other_model_is_named_before_the_data_is_read() {
    let (_, vae, inverter) = runs();
    for (trainer, run, message) in [
        ("train-inverter", vae, "is a run of the VAE, where one of the inverter is needed"),
        ("train-vae", inverter, "is a run of the inverter, where one of the VAE is needed"),
    ] {
        let said = fail(trainer, &[text(run), "not-there", "not-there", "--device", "cpu"]);
        assert!(said.lines().count() == 1 && said.contains(text(run)) && said.contains(message), "{said}");
    }
}

#[test]
fn asking_for_cuda_without_it_is_one_clear_line() {
    let data = fixture();
    let folder = TempDir::new().unwrap();
    if std::path::Path::new("/dev/nvidia0").exists() {
        return; // this machine may well have it
    }
    let flags = [text(folder.path()), text(&data.train), text(&data.test), "--device", "cuda"];
    let said = fail("train-vae", &flags);
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(said.contains("--device cuda:0") && said.contains("--device cpu"), "{said}");
}

#[test]
fn asking_for_a_gpu_that_is_not_there_is_one_clear_line() {
    let data = fixture();
    let folder = TempDir::new().unwrap();
    let flags = [text(folder.path()), text(&data.train), text(&data.test), "--device", "wgpu:99"];
    let said = fail("train-vae", &flags);
    assert!(cfg!(feature = "wgpu-untuned") || said.lines().count() == 1, "{said}"); // drivers may have lines of their own
    let last = said.lines().last().unwrap();
    assert!(last.starts_with("error: --device wgpu:99: ") && last.contains("--device cpu"), "{said}");
}
