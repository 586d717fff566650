//! What goes wrong at users' hands: each has a clear end, and nothing is lost.

use std::fs;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;
use std::process::{Command, Stdio};

use ndarray::{Array2, ShapeBuilder};
use tempfile::TempDir;
use vae_workshop::synth::Codes;

use crate::env::{binary, fail, fixture, run, seal, succeed, text};
use crate::pipeline::{files, runs};

fn recording() -> std::path::PathBuf {
    files(&fixture().corpus.join("test"), "wav").remove(0)
}

#[test]
fn a_recording_is_never_overwritten_by_its_own_output() {
    let folder = TempDir::new().unwrap();
    let copy = folder.path().join("in.wav");
    fs::copy(recording(), &copy).unwrap();
    let before = fs::read(&copy).unwrap();
    assert!(fail("synth", &["vocode", text(&copy), text(&copy)]).contains("overwritten"));
    assert_eq!(fs::read(&copy).unwrap(), before);
    // Nor is another kind of file written over: the ending tells that an argument is in the wrong place.
    let said = fail("synth", &["vocode", text(&recording()), text(&folder.path().join("out.npz"))]);
    assert!(said.contains(".wav"), "{said}");
}

#[test]
fn outputs_replace_only_regular_files_and_write_through_links() {
    let folder = TempDir::new().unwrap();
    let pipe = folder.path().join("pipe.wav");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    assert!(fail("synth", &["vocode", text(&recording()), text(&pipe)]).contains("not a regular file"));
    assert!(fs::metadata(&pipe).unwrap().file_type().is_fifo());
    assert!(fail("synth", &["vocode", text(&pipe), text(&folder.path().join("o.wav"))]).contains("not a regular file"));
    let (target, link) = (folder.path().join("target.wav"), folder.path().join("link.wav"));
    fs::write(&target, "").unwrap();
    std::os::unix::fs::symlink(&target, &link).unwrap();
    succeed("synth", &["vocode", text(&recording()), text(&link)]);
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink() && fs::metadata(&target).unwrap().len() > 1000);
}

#[test]
fn one_bad_file_of_a_folder_does_not_keep_the_others_from_sounding() {
    let folder = TempDir::new().unwrap();
    let (input, output) = (folder.path().join("in"), folder.path().join("out"));
    fs::create_dir(&input).unwrap();
    fs::write(input.join("a.wav"), "no sound").unwrap();
    fs::copy(recording(), input.join("b.wav")).unwrap();
    fs::copy(recording(), input.join("c.wav")).unwrap();
    let said = run("synth", &["vocode", text(&input), text(&output)]);
    assert_eq!(said.code, Some(3), "{}", said.err);
    assert!(said.err.contains("a.wav") && output.join("b.wav").exists() && output.join("c.wav").exists());
}

#[test]
fn numbers_out_of_range_are_refused_with_the_flag_and_its_range() {
    let (_, vae, _) = runs();
    let (input, folder) = (recording(), TempDir::new().unwrap());
    let out = folder.path().join("out.wav");
    for [flag, value] in [["--emphasis", "nan"], ["--emphasis", "100"], ["--peak", "0"], ["--iterations", "99999999"]] {
        let said = fail("synth", &["vocode", flag, value, text(&input), text(&out)]);
        assert!(said.contains(flag), "{said}");
    }
    for seconds in ["0", "nan", "1e9"] {
        let said = fail("synth", &["sample", "--vae", text(vae), "--seconds", seconds, text(&out)]);
        assert!(said.contains("--seconds"), "{said}");
    }
    for [flag, value] in [["--latent", "999"], ["--range", "nan,1"], ["--range", "1"], ["--steps", "0"]] {
        let more = if flag == "--latent" { vec![] } else { vec!["--latent", "0"] };
        let flags = [vec!["traverse", "--vae", text(vae), flag, value], more, vec![text(&input), text(&out)]].concat();
        assert!(fail("synth", &flags).contains(flag));
    }
    let data = fixture();
    let logdir = folder.path().join("run");
    for [flag, value] in [
        ["--latents", "1000000000"],
        ["--learning-rate", "nan"],
        ["--beta", "inf"],
        ["--threads", "0"],
        ["--precision", "bf16"],
    ] {
        let flags = [text(&logdir), text(&data.train), text(&data.test), "--device", "cpu", flag, value];
        let said = fail("train-vae", &flags);
        assert!(said.contains(flag) && said.len() < 200, "{said}");
    }
    assert!(!out.exists() && !logdir.exists());
}

#[test]
fn a_file_where_a_folder_is_needed_is_named_and_left_alone() {
    let (data, folder) = (fixture(), TempDir::new().unwrap());
    let (_, vae, _) = runs();
    let (file, audio) = (folder.path().join("notes.txt"), folder.path().join("audio"));
    fs::write(&file, "mine").unwrap();
    fs::create_dir(&audio).unwrap();
    fs::copy(recording(), audio.join("a.wav")).unwrap();
    let (below, sound) = (file.join("run"), file.join("out.wav"));
    for command in [
        &["extract-features", text(&audio), text(&file)][..],
        &["train-vae", text(&below), text(&data.train), text(&data.test), "--device", "cpu", "--preset", "tiny"],
        &["make-corpus", text(&file)],
        &["make-corpus", text(&below)],
        &["synth", "sample", "--vae", text(vae), text(&sound)],
    ] {
        let said = fail(command[0], &command[1..]);
        let last = said.lines().last().unwrap();
        assert!(last.contains("notes.txt: is a file, where a folder is needed"), "{command:?}: {said}");
    }
    assert_eq!(fs::read(&file).unwrap(), b"mine");
}

#[test]
fn codes_may_come_back_from_numpy_as_f64_or_in_columns() {
    let (folder, vae, _) = runs();
    let place = |name: &str| folder.path().join(name);
    let codes = place("plain.npz");
    succeed("synth", &["encode", "--vae", text(vae), text(&recording()), text(&codes)]);
    let found = Codes::read(&codes).unwrap();
    let meta = serde_json::to_vec(&found.meta).unwrap();
    let edited = place("edited.npz");
    let write = |mean: &Array2<f64>| {
        let mut npz = ndarray_npy::NpzWriter::new(fs::File::create(&edited).unwrap());
        npz.add_array("mean", mean).unwrap();
        npz.add_array("scale", &found.scale).unwrap();
        npz.add_array("meta", &ndarray::ArrayView1::from(&meta)).unwrap();
        npz.finish().unwrap();
    };
    let mut columns = Array2::zeros(found.mean.dim().f());
    columns.assign(&found.mean.mapv(f64::from));
    for mean in [found.mean.mapv(f64::from), columns] {
        write(&mean);
        assert_eq!(Codes::read(&edited).unwrap(), found);
    }
    write(&Array2::from_elem(found.mean.dim(), f64::NAN));
    assert!(fail("synth", &["decode", "--vae", text(vae), text(&edited), text(&place("n.wav"))]).contains("mean"));
    write(&Array2::zeros((found.mean.nrows() + 1, found.mean.ncols())));
    assert!(fail("synth", &["decode", "--vae", text(vae), text(&edited), text(&place("n.wav"))]).contains("segments"));
}

#[test]
fn a_run_description_that_contradicts_itself_is_refused_by_name() {
    let (folder, vae, _) = runs();
    let newest = files(vae, "json").pop().unwrap();
    let copy = folder.path().join("contradictory");
    fs::create_dir(&copy).unwrap();
    for name in ["model.safetensors", "optimizer.safetensors"] {
        fs::copy(newest.with_file_name(name), copy.join(name)).unwrap();
    }
    let json = fs::read_to_string(&newest).unwrap();
    let out = folder.path().join("contradictory.wav");
    for (old, new) in [("\"n_filterbank\": 80", "\"n_filterbank\": 88"), ("\"std\": ", "\"std\": -")] {
        assert!(json.contains(old));
        fs::write(copy.join("run.json"), json.replace(old, new)).unwrap();
        seal(&copy);
        let said = fail("synth", &["reconstruct", "--vae", text(&copy), text(&recording()), text(&out)]);
        assert!(said.contains("run.json"), "{said}");
    }
}

#[test]
fn a_reader_that_goes_away_does_not_end_a_training_run() {
    let data = fixture();
    let folder = TempDir::new().unwrap();
    let logdir = folder.path().join("run");
    let flags = [text(&logdir), text(&data.train), text(&data.test), "--device", "cpu", "--preset", "tiny"];
    let mut child = Command::new(binary("train-vae"))
        .args(flags)
        .args(["--steps", "3", "--threads", "1"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop((child.stdout.take(), child.stderr.take()));
    assert!(child.wait().unwrap().success());
    assert!(Path::new(&logdir).join("step-00000003").exists());
}
