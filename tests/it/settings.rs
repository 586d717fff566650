//! `--config`: runs that take their settings from a file.

use std::fs;
use std::path::Path;

use serde_json::json;
use tempfile::TempDir;

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
