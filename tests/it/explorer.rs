//! The explorer of a page computes what `synth` computes. Where there is node, its numbers are held against this crate's here;
//! `scripts/check_explorer.py` does so in a browser, with the page that these tests leave in `target/tmp/explorer`.
//!
//! With `EXPLORER_RUN` and `EXPLORER_SOUND` that page is of another run and recording than the toy ones.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use burn::tensor::Device;
use ndarray::Array2;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tempfile::TempDir;
use vae_workshop::audio::Waveform;
use vae_workshop::data::LinearEstimate;
use vae_workshop::dsp::phase::Phase;
use vae_workshop::explorer::{Known, LatentName, fragment, rounded};
use vae_workshop::report::Fragment;
use vae_workshop::run::{Checkpoint, NamedTensors};
use vae_workshop::synth::{Codes, VaeCodec, Vocoder, VocoderConfig, read_features};

use crate::env::{fixture, seal, succeed, text};
use crate::pipeline::{files, runs};

/// A checkpoint like the newest of `run` whose weights are halves, so that a page has exactly them.
fn halved(run: &Path, to: &Path) -> PathBuf {
    let from = Checkpoint::with_model(run).unwrap().0.path;
    let copy = to.join("step-00000001");
    fs::create_dir_all(&copy).unwrap();
    for name in ["run.json", "optimizer.safetensors"] {
        fs::copy(from.join(name), copy.join(name)).unwrap();
    }
    let model = copy.join("model.safetensors");
    fs::write(&model, rounded(&NamedTensors::read(&from.join("model.safetensors")).unwrap()).to_bytes()).unwrap();
    seal(&copy);
    copy
}

fn data(fragment: &Fragment) -> &Value {
    let [(_, data)] = &fragment.data[..] else { panic!("an explorer has one piece of data") };
    data
}

/// What a page's CSP calls a text, which only node or a browser is asked to agree with.
fn hash(text: &str) -> String {
    let hex = |byte: &u8| format!("{byte:02x}");
    Sha256::digest(text.as_bytes()).iter().map(hex).collect()
}

fn flat(array: &Array2<f32>) -> Vec<f32> {
    array.iter().copied().collect()
}

/// Leaves `fragment.json`, which the browser's check makes a page of, and for node `explorer.js`, `data.json`; and what the command
/// line makes of the same sound with the same run as `reference.json`.
fn leave(folder: &Path, run: &Path, sound: &Path, fragment: &Fragment) {
    let codec = VaeCodec::open(run, &Device::flex()).unwrap();
    let features = codec.features().clone();
    let source = read_features(sound, &features, run).unwrap();
    let codes = codec.encode(source.logmel.view(), source.meta.gain);
    let decoded = codec.decode(&codes).unwrap();
    let config = VocoderConfig { phase: Phase::PghiFast.config(0), emphasis: None, peak: None };
    let vocoder = Vocoder::without_network(&features, config).unwrap();
    let reference = json!({
        "frames": codes.meta.frames,
        "gain": codes.meta.gain,
        "samples": Waveform::read(sound).unwrap().resample(features.sample_rate).unwrap().samples,
        "logmel": flat(&source.logmel),
        "mean": flat(&codes.mean),
        "decoded": flat(&decoded),
        "linear": flat(&LinearEstimate::new(&features).unwrap().log_power(decoded.view())),
        "sound": vocoder.sound(decoded.view(), codes.meta.gain).unwrap().samples,
    });
    fs::create_dir_all(folder).unwrap();
    let write = |name: &str, content: String| fs::write(folder.join(name), content).unwrap();
    write("reference.json", reference.to_string());
    write("explorer.js", fragment.script.to_string());
    write("data.json", data(fragment).to_string());
    write(
        "fragment.json",
        json!({
            "html": fragment.html,
            "style": fragment.style,
            "script": fragment.script,
            "data": fragment.data,
            "sha256": [hash(fragment.style), hash(fragment.script)],
        })
        .to_string(),
    );
}

/// Holds node's numbers against the reference in `folder`; without node there is nothing to hold.
fn compare(folder: &Path) -> bool {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/explorer_numbers.js");
    let Ok(found) = Command::new("node").arg(script).arg(folder).output() else {
        eprintln!("there is no node here: scripts/check_explorer.py compares the numbers in a browser");
        return false;
    };
    let (out, err) = (String::from_utf8_lossy(&found.stdout), String::from_utf8_lossy(&found.stderr));
    assert!(found.status.success(), "{out}{err}");
    eprintln!("{out}");
    let checks: Vec<Value> = serde_json::from_str(out.trim().lines().last().unwrap()).unwrap();
    assert_eq!(checks.len(), 8, "{out}");
    for check in &checks {
        let (found, most) = (check["found"].as_f64().unwrap_or(f64::NAN), check["most"].as_f64().unwrap());
        assert!(found <= most, "{check}");
    }
    true
}

#[test]
fn a_page_computes_what_synth_computes_from_the_same_weights() {
    let (_, toy, _) = runs();
    let run = std::env::var_os("EXPLORER_RUN").map_or(toy.clone(), PathBuf::from);
    let speech = files(&fixture().corpus.join("test"), "wav").remove(0);
    let sound = std::env::var_os("EXPLORER_SOUND").map_or(speech, PathBuf::from);
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("explorer");
    let run = halved(&run, &folder);
    let name = LatentName { latent: 0, name: "<b>pitch</b>".into(), unit: "Hz".into(), per_unit: -12.5 };
    let known = Known { names: vec![name], ..Known::default() };
    let explorer = fragment(&run, std::slice::from_ref(&sound), &known).unwrap();
    leave(&folder, &run, &sound, &explorer);
    if !compare(&folder) {
        return;
    }
    // Codes that the page saves are `synth decode`'s, a sound that it saves is a sound.
    let saved = Codes::read(&folder.join("explorer.npz")).unwrap();
    let codec = VaeCodec::open(&run, &Device::flex()).unwrap();
    let logmel = read_features(&sound, codec.features(), &run).unwrap().logmel;
    let codes = codec.encode(logmel.view(), saved.meta.gain);
    assert_eq!((&saved.mean, &saved.meta), (&codes.mean, &codes.meta));
    assert!(codec.decode(&saved).is_ok());
    let wave = Waveform::read(&folder.join("explorer.wav")).unwrap();
    assert_eq!(wave.samples.len(), codec.features().hop_size * (saved.meta.frames - 1));
    assert_eq!(wave.sample_rate, codec.features().sample_rate);
}

#[test]
fn a_page_has_recurrent_models_and_other_transforms_too() {
    let folder = TempDir::new().unwrap();
    let corpus = &fixture().corpus;
    let (features, run) = (folder.path().join("features"), folder.path().join("run"));
    // 400 is no power of two, and constant padding no reflection.
    let settings =
        ["--n-fft", "400", "--hop-size", "100", "--n-filterbank", "24", "--pad-mode", "constant", "--only", "logmel"];
    succeed("extract-features", &[&[text(corpus), text(&features)], &settings[..]].concat());
    let recipe = ["--arch", "lstm", "--cells", "16", "--steps", "20", "--batch-size", "8", "--device", "cpu"];
    let folders = [text(&run), text(&features.join("train")), text(&features.join("test"))].map(str::to_string);
    let folders: Vec<&str> = folders.iter().map(String::as_str).collect();
    succeed("train-vae", &[&folders[..], &recipe[..]].concat());
    let run = halved(&run, &folder.path().join("halved"));
    let sound = files(&corpus.join("test"), "wav").remove(0);
    let explorer = fragment(&run, std::slice::from_ref(&sound), &Known::default()).unwrap();
    leave(&folder.path().join("page"), &run, &sound, &explorer);
    compare(&folder.path().join("page"));
}

#[test]
fn latents_are_ranked_by_the_divergence_of_all_sounds_and_examples_are_their_first_codes() {
    let (_, run, _) = runs();
    let sounds = files(&fixture().test, "npz");
    let explorer = fragment(run, &sounds, &Known::default()).unwrap();
    let data = data(&explorer);
    let codec = VaeCodec::open(run, &Device::flex()).unwrap();
    let all: Vec<Codes> = sounds
        .iter()
        .map(|path| read_features(path, codec.features(), run).unwrap())
        .map(|source| codec.encode(source.logmel.view(), source.meta.gain))
        .collect();
    let ranked: Vec<(usize, f64)> = data["latents"]
        .as_array()
        .unwrap()
        .iter()
        .map(|latent| (latent["latent"].as_u64().unwrap() as usize, latent["kl"].as_f64().unwrap()))
        .collect();
    assert_eq!(ranked.len(), codec.latents());
    assert!(ranked.is_sorted_by(|one, other| one.1 >= other.1), "{ranked:?}");
    let (latent, found) = ranked[0];
    let of = |codes: &Codes, segment: usize| {
        let (mean, scale) = (f64::from(codes.mean[[segment, latent]]), f64::from(codes.scale[[segment, latent]]));
        (mean * mean + scale * scale - 1.0) / 2.0 - scale.ln()
    };
    let each: Vec<f64> = all.iter().flat_map(|codes| (0..codes.mean.nrows()).map(|at| of(codes, at))).collect();
    let wanted = each.iter().sum::<f64>() / each.len() as f64;
    assert!((found - wanted).abs() < 1e-9 * wanted, "{found}, not {wanted}");

    let example = &data["examples"][0];
    let name = sounds[0].file_name().unwrap().to_str().unwrap().strip_suffix(".feat.npz").unwrap();
    assert_eq!((example["name"].as_str(), example["path"].as_str()), (Some(name), sounds[0].to_str()));
    // Of 1.5 s everything is there; in base64 four letters are three bytes.
    assert_eq!(example["frames"].as_u64().unwrap() as usize, all[0].meta.frames);
    assert_eq!(example["codes"].as_str().unwrap().len(), (4 * all[0].mean.len()).div_ceil(3) * 4);
}

#[test]
fn latents_are_ranked_by_what_the_test_set_says_of_all_of_them() {
    let (_, run, _) = runs();
    let sounds = files(&fixture().test, "npz");
    let known = |count: usize| Known {
        divergences: (0..count).map(|latent| (latent, latent as f64 / 8.0)).collect(),
        ..Known::default()
    };
    let explorer = fragment(run, &sounds, &known(16)).unwrap();
    let ranked = data(&explorer)["latents"].as_array().unwrap();
    assert_eq!(ranked.len(), 16);
    assert_eq!(ranked[0], json!({ "latent": 15, "kl": 15.0 / 8.0 }));
    assert_eq!(data(&explorer)["measured"], "the test set");
    let explorer = fragment(run, &sounds, &known(15)).unwrap();
    assert_eq!(data(&explorer)["measured"], "these recordings", "nobody has measured latent 15");
    assert_eq!(data(&explorer)["latents"].as_array().unwrap().len(), 16);
}

#[test]
fn an_inverter_a_sound_of_other_features_and_no_sound_are_refused_by_name() {
    let (_, vae, inverter) = runs();
    let sounds = files(&fixture().test, "npz");
    let refused = |run: &Path, sounds: &[PathBuf]| fragment(run, sounds, &Known::default()).unwrap_err().to_string();
    assert!(refused(inverter, &sounds).contains(text(inverter)));
    assert!(refused(vae, &[]).contains("needs a recording or a feature file"));
    let missing = PathBuf::from("no/such.wav");
    assert!(refused(vae, &[missing]).contains("no/such.wav"));
}

#[test]
fn markup_has_no_style_no_script_and_no_address() {
    let (_, run, _) = runs();
    let explorer = fragment(run, &files(&fixture().test, "npz"), &Known::default()).unwrap();
    for tag in explorer.html.split('<').filter_map(|rest| rest.split('>').next()) {
        for forbidden in [" style", " on", " src", " href", "http", "script "] {
            assert!(!tag.contains(forbidden), "{forbidden} in <{tag}>");
        }
    }
    assert!(!explorer.script.contains("innerHTML") && !explorer.script.contains("eval("));
    assert!(!explorer.script.contains("</script") && !explorer.style.contains("</style"));
}
