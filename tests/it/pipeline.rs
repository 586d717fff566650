//! From a folder of audio to new audio, through the binaries.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use tempfile::TempDir;
use vae_workshop::audio::Waveform;
use vae_workshop::features::FeatureFile;
use vae_workshop::synth::Codes;
use walkdir::WalkDir;

use crate::env::{fail, fixture, lasting_folder, succeed, text};

/// Both models trained for a moment, once for all tests.
pub fn runs() -> &'static (TempDir, PathBuf, PathBuf) {
    static RUNS: OnceLock<(TempDir, PathBuf, PathBuf)> = OnceLock::new();
    RUNS.get_or_init(|| {
        let data = fixture();
        let folder = lasting_folder();
        let (vae, inverter) = (folder.path().join("vae"), folder.path().join("inverter"));
        let common = ["--device", "cpu", "--preset", "tiny"];
        let train = |name: &str, run: &Path, more: &[&str]| {
            succeed(name, &[&[text(run), text(&data.train), text(&data.test)], &common[..], more].concat())
        };
        train("train-vae", &vae, &["--steps", "150", "--learning-rate", "3e-3", "--beta", "1"]);
        train("train-inverter", &inverter, &["--steps", "20", "--crop-frames", "64"]);
        (folder, vae, inverter)
    })
}

fn audio_in(folder: &Path) -> PathBuf {
    files(folder, "wav").into_iter().next().expect("the corpus has audio")
}

pub fn files(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let entries = WalkDir::new(folder).sort_by_file_name().into_iter().map(|entry| entry.unwrap().into_path());
    entries.filter(|path| path.extension().is_some_and(|found| found == extension)).collect()
}

/// Reads a sound that must be neither silent nor clipped.
fn sound(path: &Path) -> Waveform {
    let sound = Waveform::read(path).unwrap();
    let peak = sound.samples.iter().fold(0.0f32, |most, sample| most.max(sample.abs()));
    assert!(peak > 0.01 && peak <= 1.0, "{}: peak {peak}", path.display());
    sound
}

/// The number behind `name ` in a line of output.
fn number(said: &str, name: &str) -> f64 {
    let rest = said.split(&format!("{name} ")).nth(1).unwrap_or_else(|| panic!("no {name} in {said}"));
    rest.split([',', '\n', ' ']).next().unwrap().parse().unwrap()
}

#[test]
fn a_short_training_already_reconstructs_the_outline_of_speech() {
    let (folder, vae, inverter) = runs();
    let input = audio_in(&fixture().corpus.join("test"));
    let out = folder.path().join("reconstructed.wav");
    let models = ["--vae", text(vae), "--inverter", text(inverter), "--device", "cpu", "--png"];
    let said = succeed("synth", &[&["reconstruct"], &models[..], &[text(&input), text(&out)]].concat());
    assert!(number(&said, "decoded") > 0.5, "{said}");
    let (source, made) = (Waveform::read(&input).unwrap(), sound(&out));
    assert_eq!(made.sample_rate, 16_000);
    assert!(made.samples.len() <= source.samples.len(), "silence is trimmed, nothing is added");
    assert!(out.with_extension("png").exists());
}

#[test]
fn the_workshops_vae_reconstructs_through_the_same_commands() {
    let folder = TempDir::new().unwrap();
    let data = fixture();
    let vae = folder.path().join("vae");
    let recipe = ["--preset", "workshop", "--cells", "64", "--batch-size", "32", "--steps", "400"];
    let faster = ["--learning-rate", "1e-2", "--beta", "1", "--device", "cpu"];
    let folders = [text(&vae), text(&data.train), text(&data.test)];
    succeed("train-vae", &[&folders[..], &recipe[..], &faster[..]].concat());
    let said = succeed("synth", &["inspect", text(&vae)]);
    assert!(said.contains("run            VAE") && said.contains("lstm-vae") && said.contains("hundredth"), "{said}");
    let (input, out) = (audio_in(&data.corpus.join("test")), folder.path().join("out.wav"));
    let said = succeed("synth", &["reconstruct", "--vae", text(&vae), "--device", "cpu", text(&input), text(&out)]);
    sound(&out);
    assert!(number(&said, "decoded") > 0.3, "{said}");
}

#[test]
fn vocoding_a_folder_keeps_its_structure_and_the_spectrogram() {
    let (folder, _, inverter) = runs();
    let input = fixture().corpus.join("test");
    for inverter in ["none", text(inverter)] {
        let out = folder.path().join("vocoded").join(if inverter == "none" { "without" } else { "with" });
        let said = succeed("synth", &["vocode", "--inverter", inverter, "--device", "cpu", text(&input), text(&out)]);
        let relative = |root: &Path| -> Vec<PathBuf> {
            files(root, "wav").iter().map(|path| path.strip_prefix(root).unwrap().to_path_buf()).collect()
        };
        assert_eq!(relative(&input), relative(&out));
        files(&out, "wav").iter().for_each(|path| drop(sound(path)));
        // The network has hardly learnt anything, but it starts from the KL mel inverse.
        let least = if inverter == "none" { 0.97 } else { 0.85 };
        assert!(said.lines().all(|line| number(line, "sound") > least), "{said}");
    }
}

#[test]
fn a_feature_file_sounds_exactly_as_the_audio_it_came_from() {
    let (folder, ..) = runs();
    let features = files(&fixture().test, "npz").remove(0);
    let audio = files(&fixture().corpus.join("test"), "wav").remove(0);
    let (one, other) = (folder.path().join("from-features.wav"), folder.path().join("from-audio.wav"));
    succeed("synth", &["vocode", text(&features), text(&one)]);
    succeed("synth", &["vocode", text(&audio), text(&other)]);
    assert_eq!(std::fs::read(one).unwrap(), std::fs::read(other).unwrap());
}

#[test]
fn codes_decode_to_the_reconstruction_and_a_traversal_changes_it() {
    let (folder, vae, _) = runs();
    let input = audio_in(&fixture().corpus.join("test"));
    let place = |name: &str| folder.path().join(name);
    let with_vae = ["--vae", text(vae), "--device", "cpu"];
    let codes = place("codes.npz");
    succeed("synth", &[&["encode"], &with_vae[..], &[text(&input), text(&codes)]].concat());
    let found = Codes::read(&codes).unwrap();
    assert_eq!(found.mean.ncols(), 16);
    assert!(found.scale.iter().all(|&scale| scale > 0.0));
    let decoded = place("decoded.wav");
    succeed("synth", &[&["decode"], &with_vae[..], &[text(&codes), text(&decoded)]].concat());
    let reconstructed = place("reconstructed-without.wav");
    succeed("synth", &[&["reconstruct"], &with_vae[..], &[text(&input), text(&reconstructed)]].concat());
    assert_eq!(std::fs::read(&decoded).unwrap(), std::fs::read(&reconstructed).unwrap());
    let traversal = place("traversal");
    let steps = ["--latent", "2", "--range=-3,3", "--steps", "3"];
    succeed("synth", &[&["traverse"], &with_vae[..], &steps[..], &[text(&input), text(&traversal)]].concat());
    let sounds: Vec<Waveform> = files(&traversal, "wav").iter().map(|path| sound(path)).collect();
    assert_eq!(sounds.len(), 3);
    assert!(sounds[0] != sounds[2]);
}

#[test]
fn samples_have_the_length_asked_for_and_follow_the_seed() {
    let (folder, vae, inverter) = runs();
    let sample = |name: &str, seed: &str| {
        let out = folder.path().join(name);
        let models = ["--vae", text(vae), "--inverter", text(inverter), "--device", "cpu"];
        succeed("synth", &[&["sample"], &models[..], &["--seconds", "0.7", "--seed", seed, text(&out)]].concat());
        sound(&out).samples
    };
    let one = sample("one.wav", "1");
    assert_eq!(one.len(), 11_200);
    assert_eq!(one, sample("again.wav", "1"));
    assert_ne!(one, sample("other.wav", "2"));
}

#[test]
fn what_does_not_belong_together_is_refused_by_name() {
    let (folder, vae, inverter) = runs();
    let data = fixture();
    let input = audio_in(&data.corpus.join("test"));
    let out = folder.path().join("never.wav");
    let said = fail("synth", &["vocode", "--inverter", text(vae), text(&input), text(&out)]);
    assert!(said.contains("run of the VAE") && said.contains("inverter"), "{said}");
    let said = fail("synth", &["reconstruct", "--vae", text(inverter), text(&input), text(&out)]);
    assert!(said.contains("run of the inverter"), "{said}");
    let said = fail("synth", &["vocode", "--inverter", text(&data.corpus), text(&input), text(&out)]);
    assert!(said.contains("no checkpoint"), "{said}");
    let other = folder.path().join("other-features");
    succeed("extract-features", &[text(&data.corpus), text(&other), "--n-fft", "512"]);
    let features = files(&other, "npz").remove(0);
    let said = fail("synth", &["reconstruct", "--vae", text(vae), text(&features), text(&out)]);
    assert!(said.contains("n_fft") && said.contains("512"), "{said}");
    let codes = folder.path().join("foreign.npz");
    succeed("synth", &["encode", "--vae", text(vae), text(&input), text(&codes)]);
    let mut foreign = Codes::read(&codes).unwrap();
    foreign.meta.vae = "0".repeat(64);
    foreign.write(&codes).unwrap();
    let said = fail("synth", &["decode", "--vae", text(vae), text(&codes), text(&out)]);
    assert!(said.contains("another VAE"), "{said}");
    assert!(!out.exists());
}

#[test]
fn inspect_says_what_each_kind_of_file_is() {
    let (folder, vae, inverter) = runs();
    assert!(succeed("synth", &["inspect", text(vae)]).contains("VAE"));
    assert!(succeed("synth", &["inspect", text(inverter)]).contains("inverter"));
    let features = files(&fixture().test, "npz").remove(0);
    let frames = FeatureFile::read_meta(&features).unwrap().frames;
    assert!(succeed("synth", &["inspect", text(&features)]).contains(&format!("frames         {frames}")));
    let other = folder.path().join("text.npz");
    std::fs::write(&other, "not an archive").unwrap();
    assert!(fail("synth", &["inspect", text(&other)]).contains("text.npz"));
}
