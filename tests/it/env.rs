//! The binaries, run as a user runs them, over a small corpus made once.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;

use sha2::{Digest, Sha256};
use tempfile::TempDir;

/// The path of one of this package's binaries.
pub fn binary(name: &str) -> &'static str {
    match name {
        "evaluate" => env!("CARGO_BIN_EXE_evaluate"),
        "extract-features" => env!("CARGO_BIN_EXE_extract-features"),
        "make-corpus" => env!("CARGO_BIN_EXE_make-corpus"),
        "train-vae" => env!("CARGO_BIN_EXE_train-vae"),
        "train-inverter" => env!("CARGO_BIN_EXE_train-inverter"),
        "synth" => env!("CARGO_BIN_EXE_synth"),
        other => panic!("no binary {other}"),
    }
}

/// What a finished command said.
pub struct Said {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

/// Runs a binary to its end.
pub fn run(name: &str, arguments: &[&str]) -> Said {
    let Output { status, stdout, stderr } =
        Command::new(binary(name)).args(arguments).stdin(Stdio::null()).output().expect("the binary starts");
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Said { code: status.code(), out: text(stdout), err: text(stderr) }
}

/// Runs a binary that must succeed, and gives its standard output.
pub fn succeed(name: &str, arguments: &[&str]) -> String {
    let said = run(name, arguments);
    assert_eq!(said.code, Some(0), "{name} {arguments:?}\n{}\n{}", said.out, said.err);
    said.out
}

/// Runs a binary that must fail with status 1, without a panic, and gives its standard error.
pub fn fail(name: &str, arguments: &[&str]) -> String {
    let said = run(name, arguments);
    assert_eq!(said.code, Some(1), "{name} {arguments:?}\n{}\n{}", said.out, said.err);
    assert!(!said.err.contains("panicked"), "{}", said.err);
    said.err
}

/// A path as an argument.
pub fn text(path: &Path) -> &str {
    path.to_str().expect("temporary paths are text")
}

/// A folder for what all tests share. Nothing drops it at the end of the process: what the last one left goes here and
/// now, and another one that runs at the same time is waited for.
pub fn lasting_folder() -> TempDir {
    static HELD: OnceLock<File> = OnceLock::new();
    let root = Path::new(env!("CARGO_TARGET_TMPDIR")).join("lasting");
    HELD.get_or_init(|| {
        fs::create_dir_all(&root).expect("the target folder can be written");
        let lock = File::create(root.with_extension("lock")).expect("the target folder can be written");
        lock.lock().expect("the file can be locked");
        fs::remove_dir_all(&root).and_then(|()| fs::create_dir(&root)).expect("the target folder can be cleared");
        lock
    });
    TempDir::new_in(&root).expect("a temporary folder")
}

/// A corpus of two speakers and its features, made once for all tests. Nothing may be written into it.
pub struct Fixture {
    _folder: TempDir,
    pub corpus: PathBuf,
    pub train: PathBuf,
    pub test: PathBuf,
}

/// The corpus, made by the first caller.
pub fn fixture() -> &'static Fixture {
    static FIXTURE: OnceLock<Fixture> = OnceLock::new();
    FIXTURE.get_or_init(|| {
        let folder = lasting_folder();
        let (corpus, features) = (folder.path().join("corpus"), folder.path().join("features"));
        let size = ["--speakers", "2", "--utterances", "3", "--seconds", "1.5", "--test-fraction", "0.34"];
        succeed("make-corpus", &[&[text(&corpus)], &size[..]].concat());
        succeed("extract-features", &[text(&corpus), text(&features)]);
        Fixture { corpus, train: features.join("train"), test: features.join("test"), _folder: folder }
    })
}

/// Writes the manifest of a checkpoint folder anew, as if what is in it now had been saved.
pub fn seal(checkpoint: &Path) {
    let mut sums = BTreeMap::new();
    for name in ["model.safetensors", "optimizer.safetensors", "run.json"] {
        let bytes = fs::read(checkpoint.join(name)).unwrap();
        let sha256: String = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        sums.insert(name, serde_json::json!({ "bytes": bytes.len(), "sha256": sha256 }));
    }
    fs::write(checkpoint.join("manifest.json"), serde_json::to_vec_pretty(&sums).unwrap()).unwrap();
}
