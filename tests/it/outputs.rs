//! What `synth` reads in folders, where it writes, and what it never replaces.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use tempfile::TempDir;
use vae_workshop::data::FeatureSet;

use crate::env::{fail, fixture, run, succeed, text};
use crate::pipeline::{files, runs};

/// The quickest way to sound.
const QUICK: [&str; 5] = ["vocode", "--phase", "pghi", "--device", "cpu"];

/// A folder with copies of a recording of the corpus under these names.
fn copies(names: &[&str]) -> TempDir {
    let recording = files(&fixture().corpus.join("test"), "wav").remove(0);
    let folder = TempDir::new().unwrap();
    for name in names {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::copy(&recording, path).unwrap();
    }
    folder
}

/// The files below a folder, as relative paths, sorted.
fn names(folder: &Path) -> Vec<String> {
    let entries = walkdir::WalkDir::new(folder).sort_by_file_name().into_iter().map(|entry| entry.unwrap());
    let files = entries.filter(|entry| entry.file_type().is_file());
    files.map(|entry| entry.path().strip_prefix(folder).unwrap().to_str().unwrap().to_string()).collect()
}

fn vocode(flags: &[&str], input: &Path, output: &Path) -> Vec<String> {
    [&QUICK[..], flags, &[text(input), text(output)]].concat().iter().map(|flag| flag.to_string()).collect()
}

fn refused(flags: &[&str], input: &Path, output: &Path) -> String {
    let arguments = vocode(flags, input, output);
    fail("synth", &arguments.iter().map(String::as_str).collect::<Vec<_>>())
}

fn done(flags: &[&str], input: &Path, output: &Path) {
    let arguments = vocode(flags, input, output);
    succeed("synth", &arguments.iter().map(String::as_str).collect::<Vec<_>>());
}

#[test]
fn a_picture_goes_with_its_sound_and_nobody_elses_is_replaced() {
    let (input, out) = (copies(&["a.wav"]), TempDir::new().unwrap());
    let (sound, picture) = (out.path().join("talk.wav"), out.path().join("talk.png"));
    fs::write(&picture, "mine").unwrap();
    let said = refused(&["--png"], &input.path().join("a.wav"), &sound);
    assert!(said.contains("talk.png") && fs::read(&picture).unwrap() == b"mine", "{said}");
    assert!(!sound.exists());
    done(&["--png", "--overwrite"], &input.path().join("a.wav"), &sound);
    let made = fs::read(&picture).unwrap();
    // The same command again replaces both.
    fs::write(&picture, "an earlier one").unwrap();
    done(&["--png"], &input.path().join("a.wav"), &sound);
    assert_eq!(fs::read(&picture).unwrap(), made);
}

#[test]
fn a_folder_run_replaces_nothing_unless_told_and_a_named_file_is_replaced() {
    let input = copies(&["a.wav", "sub/b.wav"]);
    let out = TempDir::new().unwrap();
    let mine = out.path().join("sub/b.wav");
    fs::create_dir(mine.parent().unwrap()).unwrap();
    fs::write(&mine, "mine").unwrap();
    let said = refused(&[], input.path(), out.path());
    assert!(said.contains("--overwrite") && said.contains("1 of the 2") && said.contains("b.wav"), "{said}");
    assert_eq!(names(out.path()), ["sub/b.wav"], "it is said before any work is done");
    assert_eq!(fs::read(&mine).unwrap(), b"mine");
    // A picture is an output too.
    let photo = out.path().join("a.png");
    fs::rename(&mine, &photo).unwrap();
    assert!(refused(&["--png"], input.path(), out.path()).contains("a.png"));
    done(&[], input.path(), out.path());
    assert_eq!(fs::read(&photo).unwrap(), b"mine");
    done(&["--png", "--overwrite"], input.path(), out.path());
    assert_eq!(names(out.path()), ["a.png", "a.wav", "sub/b.png", "sub/b.wav"]);
    assert_ne!(fs::read(&photo).unwrap(), b"mine");
    let (one, before) = (out.path().join("a.wav"), fs::read(input.path().join("a.wav")).unwrap());
    fs::write(&one, "old").unwrap();
    done(&[], &input.path().join("a.wav"), &one);
    assert!(fs::metadata(&one).unwrap().len() > 1000);
    assert_eq!(fs::read(input.path().join("a.wav")).unwrap(), before);
}

#[test]
fn outputs_never_come_to_lie_among_the_inputs() {
    let input = copies(&["a.wav", "sub/a.wav"]);
    for inside in ["", "out", "sub", "new/../deep/er"] {
        let said = refused(&["--overwrite"], input.path(), &input.path().join(inside));
        assert!(said.contains("lies inside") && said.contains("outside"), "{said}");
    }
    assert_eq!(names(input.path()), ["a.wav", "sub/a.wav"]);
    // IN inside OUT is fine, but not where an input would be replaced: sub/sub/a.wav by name, sub/a.wav by place.
    let nested = copies(&["in/one.wav"]);
    done(&[], &nested.path().join("in"), nested.path());
    assert_eq!(names(nested.path()), ["in/one.wav", "one.wav"]);
    let twice = copies(&["sub/a.wav", "sub/sub/a.wav"]);
    let before = fs::read(twice.path().join("sub/a.wav")).unwrap();
    let said = refused(&["--overwrite"], &twice.path().join("sub"), twice.path());
    assert!(said.contains("overwritten"), "{said}");
    assert_eq!(fs::read(twice.path().join("sub/a.wav")).unwrap(), before);
}

#[test]
fn files_and_folders_are_not_mistaken_for_each_other() {
    let input = copies(&["a.wav"]);
    let (_, vae, _) = runs();
    let file = TempDir::new().unwrap();
    let taken = file.path().join("taken.wav");
    fs::write(&taken, "mine").unwrap();
    assert!(refused(&[], input.path(), &taken).contains("folder"));
    assert!(refused(&[], &input.path().join("a.wav"), file.path()).contains(".wav"));
    assert!(refused(&[], &input.path().join("nowhere.wav"), &file.path().join("o.wav")).contains("nowhere.wav"));
    let traverse = ["traverse", "--vae", text(vae), "--latent", "0", text(input.path()), text(&taken)];
    assert!(fail("synth", &traverse).contains("folder"));
    let features = file.path().join("o.feat.npz");
    let recording = input.path().join("a.wav");
    let said = fail("synth", &["encode", "--vae", text(vae), text(&recording), text(&features)]);
    assert!(said.contains("not in .feat.npz"), "{said}");
    assert_eq!(fs::read(&taken).unwrap(), b"mine");
}

#[test]
fn every_program_walks_folders_the_same_way() {
    let input = copies(&["b/LOUD.WAV", "a.wav"]);
    fs::write(input.path().join("._a.wav"), "a companion of another system").unwrap();
    fs::create_dir(input.path().join(".cache")).unwrap();
    fs::write(input.path().join(".cache/x.wav"), "hidden").unwrap();
    symlink(input.path(), input.path().join("b/loop")).unwrap();
    let out = TempDir::new().unwrap();
    done(&[], input.path(), out.path());
    assert_eq!(names(out.path()), ["a.wav", "b/LOUD.wav"]);
    // A link that leads nowhere is reported, and the others go on.
    symlink("nowhere.wav", input.path().join("broken.wav")).unwrap();
    let again = out.path().join("again");
    let said = run("synth", &[&QUICK[..], &[text(input.path()), text(&again)]].concat());
    assert!(said.code == Some(3) && said.err.contains("broken.wav"), "{}", said.err);
    assert_eq!(names(&again), ["a.wav", "b/LOUD.wav"]);

    let set = TempDir::new().unwrap();
    let feature = files(&fixture().test, "npz").remove(0);
    fs::create_dir(set.path().join("b")).unwrap();
    for name in ["b/LOUD.FEAT.NPZ", "a.feat.npz"] {
        fs::copy(&feature, set.path().join(name)).unwrap();
    }
    fs::write(set.path().join("._a.feat.npz"), "a companion of another system").unwrap();
    symlink(set.path(), set.path().join("b/loop")).unwrap();
    let found: Vec<String> =
        FeatureSet::open(set.path()).unwrap().entries.into_iter().map(|entry| entry.name).collect();
    assert_eq!(found, ["a.feat.npz", "b/LOUD.FEAT.NPZ"]);
    let sounds = out.path().join("of-features");
    done(&[], set.path(), &sounds);
    assert_eq!(names(&sounds), ["a.wav", "b/LOUD.wav"]);
}

#[test]
fn a_folder_is_traversed_into_a_folder_for_each_input() {
    let (_, vae, _) = runs();
    let input = copies(&["a.wav", "sub/b.c.wav"]);
    let out = TempDir::new().unwrap();
    let flags = ["traverse", "--vae", text(vae), "--device", "cpu", "--latent", "3", "--range=-2,2", "--steps", "2"];
    let arguments = [&flags[..], &["--phase", "pghi", text(input.path()), text(out.path())]].concat();
    let said = succeed("synth", &arguments);
    let wanted: Vec<String> = ["a", "sub/b.c"]
        .iter()
        .flat_map(|stem| ["00_-2.00", "01_+2.00"].map(|step| format!("{stem}/latent-03_{step}.wav")))
        .collect();
    assert_eq!(names(out.path()), wanted);
    assert!(wanted.iter().all(|name| said.contains(name.as_str())), "{said}");
    assert!(fail("synth", &arguments).contains("--overwrite"));
    succeed("synth", &[&arguments[..], &["--overwrite"]].concat());
}

#[test]
fn with_an_emphasis_phases_are_found_for_one_spectrum_and_without_it_they_keep_to_the_mel_bands() {
    let input = copies(&["a.wav"]);
    let out = TempDir::new().unwrap();
    let correlation = |flags: &[&str]| -> f64 {
        let paths = [text(&input.path().join("a.wav")), text(&out.path().join("out.wav"))].map(String::from);
        let said = succeed("synth", &[&["vocode"], flags, &[&paths[0], &paths[1]]].concat());
        said.trim().rsplit(' ').next().unwrap().parse().unwrap()
    };
    let [default, one, other] = [&[][..], &["--emphasis", "1"], &["--emphasis", "1.3"]].map(correlation);
    assert!(default > one && one > other, "{default} {one} {other}");
}

#[test]
fn a_device_that_is_not_there_is_refused_without_a_network_too() {
    if Path::new("/dev/nvidia0").exists() {
        return; // this machine may well have it
    }
    let input = copies(&["a.wav"]);
    let out = input.path().with_extension("out.wav");
    let arguments = ["vocode", "--inverter", "none", "--device", "cuda"];
    let said = fail("synth", &[&arguments[..], &[text(&input.path().join("a.wav")), text(&out)]].concat());
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(said.contains("--device cuda:0") && said.contains("--device cpu") && !out.exists(), "{said}");
}

/// Height of a PNG in pixels, from its header.
fn height(png: &Path) -> u32 {
    u32::from_be_bytes(fs::read(png).unwrap()[20..24].try_into().unwrap())
}

#[test]
fn a_picture_has_each_spectrogram_once() {
    let (_, vae, _) = runs();
    let input = copies(&["a.wav"]);
    let out = TempDir::new().unwrap();
    let place = |name: &str| out.path().join(name);
    let recording = input.path().join("a.wav");
    done(&["--png"], &recording, &place("vocoded.wav"));
    let flags = ["--vae", text(vae), "--device", "cpu", "--phase", "pghi", "--png"];
    let reconstructed = place("reconstructed.wav");
    succeed("synth", &[&["reconstruct"], &flags[..], &[text(&recording), text(&reconstructed)]].concat());
    let sampled = place("sampled.wav");
    succeed("synth", &[&["sample"], &flags[..], &["--seconds", "0.5", text(&sampled)]].concat());
    // Panels of 80 bands, three pixels each, with six pixels between them.
    let panels = |count: u32| count * 240 + (count - 1) * 6;
    let heights = ["vocoded.png", "reconstructed.png", "sampled.png"].map(|name| height(&place(name)));
    assert_eq!(heights, [panels(2), panels(3), panels(2)]);
}

/// Copies a checkpoint folder.
fn copy_checkpoint(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, to.join(path.file_name().unwrap())).unwrap();
    }
}

#[test]
fn synthesis_needs_a_sound_model_and_no_optimizer() {
    let (_, vae, _) = runs();
    let newest: PathBuf = files(vae, "json").pop().unwrap().parent().unwrap().into();
    let folder = TempDir::new().unwrap();
    let logdir = folder.path().join("run");
    let (older, newer) = (logdir.join("step-00000001"), logdir.join("step-00000002"));
    copy_checkpoint(&newest, &older);
    copy_checkpoint(&newest, &newer);
    fs::write(newer.join("optimizer.safetensors"), "damaged").unwrap();
    assert!(succeed("synth", &["inspect", text(&logdir)]).contains("step-00000002"));
    fs::remove_file(newer.join("optimizer.safetensors")).unwrap();
    let input = copies(&["a.wav"]);
    let codes = folder.path().join("codes.npz");
    let arguments = ["encode", "--device", "cpu", "--vae", text(&newer)];
    succeed("synth", &[&arguments[..], &[text(&input.path().join("a.wav")), text(&codes)]].concat());
    // A damaged model is passed over and named, and is an error where it was asked for by name.
    let model = newer.join("model.safetensors");
    let bytes = fs::read(&model).unwrap();
    fs::write(&model, &bytes[..bytes.len() / 2]).unwrap();
    let said = run("synth", &["inspect", text(&logdir)]);
    assert!(said.out.contains("step-00000001") && said.err.contains("step-00000002"), "{}{}", said.out, said.err);
    assert!(fail("synth", &["inspect", text(&newer)]).contains("model.safetensors"));
    fs::remove_file(&model).unwrap();
    assert!(fail("synth", &["inspect", text(&newer)]).contains("model.safetensors"));
}
