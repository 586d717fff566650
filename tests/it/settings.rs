//! `--config` and `--init-from`: runs that take their settings from a file and their model from another run.

use std::fs;
use std::path::Path;

use serde_json::json;
use tempfile::TempDir;
use vae_workshop::run::NamedTensors;

use crate::env::{fail, fixture, run, succeed, text};
use crate::training::{about, assert_same_checkpoint, inverter_flags, vae_flags};

/// Writes a file with these lines and gives its path.
fn file(folder: &Path, name: &str, lines: &str) -> String {
    let path = folder.join(name);
    fs::write(&path, lines).unwrap();
    text(&path).to_string()
}

/// The fixture's folders and a small model, as lines of a file.
fn lines(logdir: &Path) -> String {
    let data = fixture();
    let folders = [("logdir", logdir), ("train_dir", &data.train), ("test-dir", &data.test)];
    let folders: String = folders.iter().map(|(key, path)| format!("{key} = {:?}\n", text(path))).collect();
    format!("{folders}# small\nsteps = 2\ndevice = \"cpu\"\npreset = \"tiny\"\nbatch_size = 8\n")
}

#[test]
fn a_file_gives_flags_and_folders_and_the_command_line_comes_first() {
    let folder = TempDir::new().unwrap();
    let (one, other) = (folder.path().join("one"), folder.path().join("other"));
    let vae = format!("{}channels = [4, 5, 6]\nlearningrate = 5e-4\nema = 0.9\nmax-hours = 1\n", lines(&one));
    let vae = file(folder.path(), "vae.toml", &vae);
    succeed("train-vae", &["--config", &vae]);
    assert_eq!(about(&one, "/config/model/channels"), json!([4, 5, 6]));
    assert_eq!(about(&one, "/config/schedule/initial"), 5e-4);
    assert_eq!((about(&one, "/step"), about(&one, "/config/batch/size")), (json!(2), json!(8)));
    // A folder and two flags from the command line, the other folders from the file.
    let equals = format!("--config={vae}");
    succeed("train-vae", &[text(&other), &equals, "--steps", "1", "--channels", "3,3,3"]);
    assert_eq!((about(&other, "/step"), about(&other, "/config/model/channels")), (json!(1), json!([3, 3, 3])));
    let inverter = folder.path().join("inverter");
    let more = "bank_size = 2\ncrop_frames = 32\nrecipe = \"workshop\"\nsave-every = 1\n";
    let more = file(folder.path(), "inverter.toml", &format!("{}{more}", lines(&inverter)));
    succeed("train-inverter", &["--config", &more]);
    assert_eq!(about(&inverter, "/config/objective/recipe"), "workshop");
    assert!(inverter.join("step-00000001").exists());
}

#[test]
fn a_run_says_its_flags_in_a_file_that_gives_the_same_run_again() {
    let folder = TempDir::new().unwrap();
    let path = |name: &str| folder.path().join(name);
    for (program, flags) in [
        ("train-vae", vae_flags(text(&path("vae")), "10")),
        ("train-inverter", inverter_flags(text(&path("inverter")), "10")),
    ] {
        let (logdir, copy) = (Path::new(flags[0]), path(&format!("{program}-copy")));
        succeed(program, &[&flags[..], &["--learning-rate", "1e-3", "--patience", "7"]].concat());
        let saved = logdir.join("config.toml");
        succeed(program, &[text(&copy), "--config", text(&saved)]);
        assert_same_checkpoint(&logdir.join("step-00000010"), &copy.join("step-00000010"));
        let said = [&saved, &copy.join("config.toml")].map(|path| fs::read_to_string(path).unwrap());
        let others = |text: &str| -> Vec<String> {
            let lines = text.lines().filter(|line| !line.starts_with("logdir"));
            lines.map(|line| line.replace(" # default", "")).collect()
        };
        assert_eq!(others(&said[0]), others(&said[1]));
        assert!(said[0].contains("steps = 10\n") && said[0].contains("patience = 7\n"), "{}", said[0]);
        assert!(
            said[0].contains("seed = 0 # default\n") && said[0].contains("learning-rate = \"1e-3\"\n"),
            "{}",
            said[0]
        );
        // It continues the run as well.
        let said = succeed(program, &["--config", text(&saved), "--steps", "11"]);
        assert!(said.contains("from step 10"), "{said}");
    }
}

#[test]
fn what_a_file_says_wrong_is_named_with_its_line_and_key() {
    let folder = TempDir::new().unwrap();
    let base = lines(&folder.path().join("run"));
    let refused = |more: &str| {
        let path = file(folder.path(), "bad.toml", &format!("{base}{more}\n"));
        let said = fail("train-vae", &["--config", &path]);
        assert_eq!(said.lines().count(), 1, "{said}");
        assert!(said.contains("bad.toml:9: "), "{said}");
        said
    };
    let said = refused("save_evry = 5");
    assert!(said.contains("save_evry: train-vae has no such flag; save-every is similar"), "{said}");
    assert!(refused("quux = 5").contains("quux: train-vae has no such flag; train-vae --help names all"));
    assert!(refused("crop-frames = 5").contains("crop-frames: train-vae has no such flag"));
    let said = refused("latents = \"many\"");
    assert!(said.contains("latents: invalid value 'many' for '--latents <N>'"), "{said}");
    assert!(refused("latents = true").contains("invalid value 'true'"));
    assert!(refused("latents = 2.5").contains("invalid value '2.5'"));
    assert!(refused("log-every = 0").contains("log-every: invalid value '0'"));
    assert!(refused("arch = \"rnn\"").contains("[possible values: conv, lstm]"));
    assert!(refused("beta = { is = 1 }").contains("beta: is a table, where a number"));
    assert!(refused("beta = 1979-05-27").contains("beta: is a datetime"));
    assert!(refused("batch-size = 9").contains("batch-size: given twice"));
    assert!(refused("config = \"x\"").contains("a file cannot name another"));
    assert!(refused("help = true").contains("help: train-vae has no such flag"));
    refused("beta = ");
    refused("steps = 3"); // the same key twice is no TOML
    let said = fail("train-vae", &["--config", text(&folder.path().join("nowhere.toml"))]);
    assert!(said.contains("nowhere.toml") && said.lines().count() == 1, "{said}");
    // A folder that neither gives is missed as without a file.
    let said = run("train-vae", &["--config", &file(folder.path(), "few.toml", "steps = 1\ntest-dir = \"x\"")]);
    assert!(said.code == Some(2) && said.err.contains("<TRAIN_DIR>"), "{}", said.err);
    assert!(!folder.path().join("run").exists());
}

#[test]
fn a_fine_tuned_run_begins_with_the_others_model_and_goes_on_without_it() {
    let folder = TempDir::new().unwrap();
    let path = |name: &str| folder.path().join(name);
    for (program, flags) in [("train-vae", vae_flags as crate::optimizer::Flags), ("train-inverter", inverter_flags)] {
        let [source, tuned, straight] = ["source", "tuned", "straight"].map(|name| path(&format!("{program}-{name}")));
        succeed(program, &[&flags(text(&source), "10")[..], &["--ema", "0.9"]].concat());
        // Other data, so that its own statistics would be others.
        let data = fixture();
        let other: Vec<&str> = flags(text(&tuned), "4");
        let other = other.into_iter().map(|flag| if flag == text(&data.train) { text(&data.test) } else { flag });
        let other: Vec<&str> = other.chain(["--init-from", text(&source), "--seed", "5"]).collect();
        let said = succeed(program, &other);
        assert!(said.contains("beginning with the model of") && said.contains("step-00000010"), "{said}");
        let model =
            |run: &Path, step: u64| NamedTensors::read(&run.join(format!("step-{step:08}/model.safetensors"))).unwrap();
        assert!(model(&tuned, 0) == model(&source, 10), "the average, which is the model to use");
        assert_eq!(about(&tuned, "/standardizer"), about(&source, "/standardizer"));
        let origin = about(&tuned, "/config/origin");
        assert_eq!((&origin["step"], origin["run"].as_str()), (&json!(10), Some(text(&source))));
        assert_eq!(about(&tuned, "/step"), 4);
        // Twice the same, in one session or in two, whatever has become of the source.
        let more = |logdir: &Path, steps: &str| -> Vec<String> {
            let swap = |flag: &&str| match *flag {
                flag if flag == text(&tuned) => text(logdir).to_string(),
                "4" => steps.to_string(),
                flag => flag.to_string(),
            };
            other.iter().map(swap).collect()
        };
        let train = |flags: Vec<String>| succeed(program, &flags.iter().map(String::as_str).collect::<Vec<_>>());
        train(more(&straight, "12"));
        fs::remove_dir_all(&source).unwrap();
        assert!(train(more(&tuned, "12")).contains("from step 4"));
        assert_same_checkpoint(&straight.join("step-00000012"), &tuned.join("step-00000012"));
        // Without the flag it is another run.
        let without = more(&tuned, "14").into_iter().filter(|flag| flag != "--init-from" && *flag != text(&source));
        let without: Vec<String> = without.collect();
        let said = fail(program, &without.iter().map(String::as_str).collect::<Vec<_>>());
        assert!(said.contains("origin: {"), "{said}");
    }
}

#[test]
fn a_model_of_another_network_or_input_is_refused_as_a_beginning_and_each_difference_named() {
    let folder = TempDir::new().unwrap();
    let (source, inverter, run) =
        (folder.path().join("source"), folder.path().join("inverter"), folder.path().join("run"));
    succeed("train-vae", &vae_flags(text(&source), "1"));
    succeed("train-inverter", &inverter_flags(text(&inverter), "1"));
    let refused = |program: &str, flags: Vec<&str>, from: &Path, more: &[&str]| {
        fail(program, &[&flags[..], &["--init-from", text(from)], more].concat())
    };
    let vae = |from: &Path, more: &[&str]| refused("train-vae", vae_flags(text(&run), "1"), from, more);
    let said = vae(&source, &["--latents", "3", "--beta", "2"]);
    assert!(said.contains("model.latents: 16 / 3") && !said.contains("beta"), "{said}");
    assert!(vae(&inverter, &[]).contains("is a run of the inverter, where one of the VAE is needed"));
    assert!(vae(&folder.path().join("nowhere"), &[]).contains("nowhere"));
    let said = refused("train-inverter", inverter_flags(text(&run), "1"), &inverter, &["--recipe", "workshop"]);
    assert!(said.contains("objective.recipe: \"correction-2\" / \"workshop\""), "{said}");
    let data = folder.path().join("data");
    succeed("extract-features", &[text(&fixture().corpus), text(&data), "--n-filterbank", "40"]);
    let flags = vae_flags(text(&run), "1");
    let (train, test) = (data.join("train"), data.join("test"));
    let flags = [&[flags[0], text(&train), text(&test)], &flags[3..]].concat();
    let said = refused("train-vae", flags, &source, &[]);
    assert!(said.contains("features.n_filterbank: 80 / 40"), "{said}");
    assert!(!run.join("step-00000000").exists());
}
