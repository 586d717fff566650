//! Descriptions inside files that someone edited: whatever they say, an error that names the file or a sound, never a
//! panic.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use burn::tensor::Device;
use ndarray::{Array1, ArrayView1};
use ndarray_npy::{ReadNpyExt, WriteNpyExt};
use serde_json::{Value, json};
use tempfile::TempDir;
use vae_workshop::Result;
use vae_workshop::data::FeatureSet;
use vae_workshop::dsp::phase::{Phase, PhaseConfig};
use vae_workshop::features::FeatureFile;
use vae_workshop::synth::{Codes, VaeCodec, Vocoder, VocoderConfig};
use zip::{ZipArchive, ZipWriter};

use crate::env::{fail, fixture, succeed, text};
use crate::pipeline::{files, runs};

/// What is said in the `meta` of a feature or codes file.
fn meta(path: &Path) -> Value {
    let mut archive = ZipArchive::new(File::open(path).unwrap()).unwrap();
    let bytes = Array1::<u8>::read_npy(archive.by_name("meta.npy").unwrap()).unwrap();
    serde_json::from_slice(bytes.as_slice().unwrap()).unwrap()
}

/// Copies a feature or codes file with another `meta`.
fn with_meta(from: &Path, meta: &Value, to: &Path) {
    let mut archive = ZipArchive::new(File::open(from).unwrap()).unwrap();
    let mut copy = ZipWriter::new(File::create(to).unwrap());
    for index in 0..archive.len() {
        let entry = archive.by_index_raw(index).unwrap();
        if entry.name() != "meta.npy" {
            copy.raw_copy_file(entry).unwrap();
        }
    }
    let mut bytes = Vec::new();
    ArrayView1::from(&serde_json::to_vec(meta).unwrap()).write_npy(&mut bytes).unwrap();
    copy.start_file("meta.npy", zip::write::SimpleFileOptions::default()).unwrap();
    copy.write_all(&bytes).unwrap();
    copy.finish().unwrap();
}

/// Every place in a description, as a JSON pointer; of an array itself and its first element.
fn places(value: &Value, at: &str, found: &mut Vec<String>) {
    found.push(at.to_string());
    match value {
        Value::Object(fields) => fields.iter().for_each(|(name, field)| places(field, &format!("{at}/{name}"), found)),
        Value::Array(items) => items.iter().take(1).for_each(|item| places(item, &format!("{at}/0"), found)),
        _ => {}
    }
}

/// The description with each of its values replaced by each of many others.
fn mutations(original: &Value) -> Vec<(String, Value)> {
    let mut found = Vec::new();
    places(original, "", &mut found);
    let others = [
        json!(0),
        json!(1),
        json!(3),
        json!(-1),
        json!(0.5),
        json!(1e308),
        json!(1e-320),
        json!(65_536),
        json!(u64::MAX),
        json!(i64::MAX),
        json!(null),
        json!(false),
        json!(""),
        json!([]),
        json!({}),
    ];
    let mut mutations = Vec::new();
    for place in found {
        for other in &others {
            let mut changed = original.clone();
            *changed.pointer_mut(&place).unwrap() = other.clone();
            mutations.push((format!("{place} = {other}"), changed));
        }
    }
    mutations
}

fn quick() -> VocoderConfig {
    let phase = PhaseConfig { iterations: 0, ..Phase::GriffinLim.config(0) };
    VocoderConfig { phase, emphasis: None, peak: None }
}

/// A few frames, so that thousands of sounds take seconds.
fn short_recording(folder: &Path) -> PathBuf {
    let path = folder.join("short.wav");
    let samples = (0..4800).map(|n| 0.5 * (0.2 * n as f32).sin()).collect();
    vae_workshop::audio::Waveform { samples, sample_rate: 16_000 }.write(&path).unwrap();
    path
}

/// Tries every mutation; gives the names of those that went through.
fn accepted(original: &Path, copy: &Path, work: impl Fn(&Path) -> Result<Vec<f32>>) -> Vec<String> {
    let mut names = Vec::new();
    for (name, changed) in mutations(&meta(original)) {
        println!("{name}"); // shown if it panics
        with_meta(original, &changed, copy);
        match work(copy) {
            Ok(samples) => {
                assert!(samples.iter().all(|sample| sample.is_finite()), "{name}");
                names.push(name);
            }
            Err(error) => assert!(!error.to_string().is_empty(), "{name}"),
        }
    }
    names
}

#[test]
fn codes_whose_description_was_edited_sound_as_they_are_or_are_refused() {
    let (_, vae, _) = runs();
    let folder = TempDir::new().unwrap();
    let (codes, copy) = (folder.path().join("codes.npz"), folder.path().join("edited.npz"));
    let recording = short_recording(folder.path());
    succeed("synth", &["encode", "--vae", text(vae), "--device", "cpu", text(&recording), text(&codes)]);
    let codec = VaeCodec::open(vae, &Device::flex()).unwrap();
    let vocoder = Vocoder::without_network(codec.features(), quick()).unwrap();
    let decode = |path: &Path| {
        let codes = Codes::read(path)?;
        let decoded = codec.decode(&codes)?;
        assert_eq!(decoded.nrows(), codes.meta.frames);
        Ok(vocoder.sound(decoded.view(), codes.meta.gain)?.samples)
    };
    assert!(decode(&codes).is_ok());
    let accepted = accepted(&codes, &copy, decode);
    // Nothing goes through but another loudness or the end of the last segment.
    assert!(accepted.contains(&"/gain = 0.5".to_string()), "{accepted:?}");
    let harmless = |name: &String| name.starts_with("/gain = ") || name.starts_with("/frames = ");
    assert!(accepted.iter().all(harmless), "{accepted:?}");
}

#[test]
fn features_whose_description_was_edited_sound_as_they_are_or_are_refused() {
    let folder = TempDir::new().unwrap();
    let audio = folder.path().join("audio/test");
    fs::create_dir_all(&audio).unwrap();
    let features = folder.path().join("features");
    short_recording(&audio);
    succeed("extract-features", &[text(audio.parent().unwrap()), text(&features)]);
    let (original, set) = (features.join("test/short.feat.npz"), folder.path().join("set"));
    fs::create_dir(&set).unwrap();
    let vocode = |path: &Path| {
        let opened = FeatureSet::open(&set).map(|set| (set.frames(), set.identity()));
        let features = FeatureFile::read(path)?;
        assert_eq!(opened.expect("what can be read can be listed").0, features.logmel.nrows() as u64);
        let vocoder = Vocoder::without_network(&features.meta.config, quick())?;
        Ok(vocoder.sound(features.logmel.view(), features.meta.gain)?.samples)
    };
    let accepted = accepted(&original, &set.join("edited.feat.npz"), vocode);
    for place in ["/frames", "/bands/count", "/bands/sum =", "/bands/sum_sq =", "/bands/finite", "/trim_end"] {
        assert!(!accepted.iter().any(|name| name.starts_with(place)), "{place}: {accepted:?}");
    }
    for value in ["/gain = 0", "/gain = -1", "/gain = 1e+308", "/gain = 1e-320", "/bands/sum/0 = 1e+308"] {
        assert!(!accepted.iter().any(|name| name == value), "{value}");
    }
    assert!(accepted.contains(&"/gain = 0.5".to_string()), "{accepted:?}");
}

#[test]
fn codes_that_claim_other_segments_are_refused_by_name() {
    let (_, vae, _) = runs();
    let folder = TempDir::new().unwrap();
    let (codes, out) = (folder.path().join("codes.npz"), folder.path().join("out.wav"));
    let recording = files(&fixture().corpus.join("test"), "wav").remove(0);
    succeed("synth", &["encode", "--vae", text(vae), "--device", "cpu", text(&recording), text(&codes)]);
    let segments = Codes::read(&codes).unwrap().mean.nrows();
    let decode = |changes: &[(&str, Value)]| {
        let mut changed = meta(&codes);
        for (name, value) in changes {
            changed[name] = value.clone();
        }
        let edited = folder.path().join("edited.npz");
        with_meta(&codes, &changed, &edited);
        let said = fail("synth", &["decode", "--vae", text(vae), "--device", "cpu", text(&edited), text(&out)]);
        assert!(said.lines().count() == 1 && said.contains("edited.npz") && said.contains("encode"), "{said}");
        said
    };
    // Consistent in themselves, but longer than what the model decodes.
    let frames = (segments - 1) * 20 + 30;
    let said = decode(&[("segment_frames", json!(30)), ("hop", json!(20)), ("frames", json!(frames))]);
    assert!(said.contains("segments of 20 frames, one every 10"), "{said}");
    assert!(decode(&[("hop", json!(0))]).contains("one every 0"));
    assert!(decode(&[("frames", json!(u64::MAX))]).contains(&format!("{segments} segments")));
    assert!(decode(&[("gain", json!(-2.0))]).contains("gain of -2"));
    assert!(!out.exists());
}

#[test]
fn feature_files_that_claim_more_frames_than_they_hold_do_not_reach_training() {
    let data = fixture();
    let folder = TempDir::new().unwrap();
    let set = folder.path().join("set");
    fs::create_dir(&set).unwrap();
    for (index, file) in files(&data.train, "npz").iter().take(2).enumerate() {
        let mut changed = meta(file);
        changed["frames"] = json!(u64::MAX);
        changed["bands"]["count"] = json!(u64::MAX);
        with_meta(file, &changed, &set.join(format!("{index}.feat.npz")));
    }
    let logdir = folder.path().join("run");
    let said = fail("train-vae", &[text(&logdir), text(&set), text(&data.test), "--device", "cpu"]);
    assert!(said.contains(".feat.npz") && said.contains(&u64::MAX.to_string()), "{said}");
    assert!(!logdir.exists());
}
