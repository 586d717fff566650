//! The explorer of a page computes what `synth` computes. Where there is node, its numbers are held against this crate's here;
//! `scripts/check_explorer.py` does so in a browser, with the page that these tests leave in `target/tmp/explorer`.
//!
//! With `EXPLORER_RUN`, `EXPLORER_INVERTER` and `EXPLORER_SOUND` that page is of other runs and another recording than the toy ones.

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
use vae_workshop::explorer::{Known, LatentName, Through, fragment, rounded};
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

/// An inverter that fits into a page whatever its size.
fn through(inverter: &Path) -> Through {
    Through { inverter: inverter.to_path_buf(), most: usize::MAX }
}

/// The explorer of `run`, through `inverter`. Leaves `fragment.json`, which the browser's check makes a page of, and for node
/// `explorer.js`, `data.json`; and what the command line makes of the same sound with the same runs as `reference.json`.
fn leave(folder: &Path, run: &Path, inverter: &Path, sound: &Path, known: &Known) {
    let fragment = fragment(run, Some(&through(inverter)), &[sound.to_path_buf()], known).unwrap();
    let codec = VaeCodec::open(run, &Device::flex()).unwrap();
    let features = codec.features().clone();
    let source = read_features(sound, &features, run).unwrap();
    let codes = codec.encode(source.logmel.view(), source.meta.gain);
    let decoded = codec.decode(&codes).unwrap();
    let config = VocoderConfig { phase: Phase::PghiFast.config(0), emphasis: None, peak: None };
    let plain = Vocoder::without_network(&features, config.clone()).unwrap();
    let inverting = Vocoder::open(inverter, config, &Device::flex()).unwrap();
    let gain = codes.meta.gain;
    let estimated = LinearEstimate::new(&features).unwrap().log_power(decoded.view());
    let inverted = inverting.linear(decoded.view());
    let change = (&inverted - &estimated).mapv(f32::abs).mean().unwrap();
    assert!(change > 0.05, "a network that changes spectra by {change} nats would not be missed");
    let reference = json!({
        "frames": codes.meta.frames,
        "gain": gain,
        "samples": Waveform::read(sound).unwrap().resample(features.sample_rate).unwrap().samples,
        "logmel": flat(&source.logmel),
        "mean": flat(&codes.mean),
        "decoded": flat(&decoded),
        "linear": flat(&estimated),
        "sound": plain.sound(decoded.view(), gain).unwrap().samples,
        "inverter": {
            "linear": flat(&inverted),
            "sound": inverting.sound(decoded.view(), gain).unwrap().samples,
        },
    });
    fs::create_dir_all(folder).unwrap();
    let write = |name: &str, content: String| fs::write(folder.join(name), content).unwrap();
    write("reference.json", reference.to_string());
    write("explorer.js", fragment.script.to_string());
    write("data.json", data(&fragment).to_string());
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
    assert_eq!(checks.len(), 12, "{out}");
    for check in &checks {
        let (found, most) = (check["found"].as_f64().unwrap_or(f64::NAN), check["most"].as_f64().unwrap());
        assert!(found <= most, "{check}");
    }
    true
}

#[test]
fn a_page_computes_what_synth_computes_from_the_same_weights() {
    let (_, toy, toy_inverter) = runs();
    let other = |name: &str, toy: &Path| std::env::var_os(name).map_or(toy.to_path_buf(), PathBuf::from);
    let (run, inverter) = (other("EXPLORER_RUN", toy), other("EXPLORER_INVERTER", toy_inverter));
    let sound = other("EXPLORER_SOUND", &files(&fixture().corpus.join("test"), "wav")[0]);
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("explorer");
    let (run, inverter) = (halved(&run, &folder), halved(&inverter, &folder.join("inverter")));
    let name = LatentName { latent: 0, name: "<b>pitch</b>".into(), unit: "Hz".into(), per_unit: -12.5 };
    let known = Known { names: vec![name], ..Known::default() };
    leave(&folder, &run, &inverter, &sound, &known);
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
fn a_page_has_recurrent_models_the_workshops_inverter_and_other_transforms_too() {
    let folder = TempDir::new().unwrap();
    let corpus = &fixture().corpus;
    let [features, run, inverter] = ["features", "run", "inverter"].map(|name| folder.path().join(name));
    // 400 is no power of two, and constant padding no reflection.
    let settings = ["--n-fft", "400", "--hop-size", "100", "--n-filterbank", "24", "--pad-mode", "constant"];
    succeed("extract-features", &[&[text(corpus), text(&features)], &settings[..]].concat());
    let common = ["--steps", "20", "--batch-size", "8", "--device", "cpu"];
    let sets = [features.join("train"), features.join("test")];
    let train = |program: &str, run: &Path, recipe: &[&str]| {
        succeed(program, &[&[text(run), text(&sets[0]), text(&sets[1])], &common[..], recipe].concat());
        halved(run, &folder.path().join(program))
    };
    let run = train("train-vae", &run, &["--arch", "lstm", "--cells", "16"]);
    let sizes = ["--bank-size", "3", "--channels", "9", "--gru-cells", "7", "--crop-frames", "32"];
    let inverter = train("train-inverter", &inverter, &[&["--preset", "workshop"], &sizes[..]].concat());
    let sound = files(&corpus.join("test"), "wav").remove(0);
    leave(&folder.path().join("page"), &run, &inverter, &sound, &Known::default());
    compare(&folder.path().join("page"));
}

#[test]
fn latents_are_ranked_by_the_divergence_of_all_sounds_and_examples_are_their_first_codes() {
    let (_, run, _) = runs();
    let sounds = files(&fixture().test, "npz");
    let explorer = fragment(run, None, &sounds, &Known::default()).unwrap();
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
    // Of 1.5 s everything is there; five letters are the four bytes of a value.
    assert_eq!(example["frames"].as_u64().unwrap() as usize, all[0].meta.frames);
    assert_eq!(example["codes"].as_str().unwrap().len(), 5 * all[0].mean.len());
}

#[test]
fn latents_are_ranked_by_what_the_test_set_says_of_all_of_them() {
    let (_, run, _) = runs();
    let sounds = files(&fixture().test, "npz");
    let known = |count: usize| Known {
        divergences: (0..count).map(|latent| (latent, latent as f64 / 8.0)).collect(),
        ..Known::default()
    };
    let explorer = fragment(run, None, &sounds, &known(16)).unwrap();
    let ranked = data(&explorer)["latents"].as_array().unwrap();
    assert_eq!(ranked.len(), 16);
    assert_eq!(ranked[0], json!({ "latent": 15, "kl": 15.0 / 8.0 }));
    assert_eq!(data(&explorer)["measured"], "the test set");
    let explorer = fragment(run, None, &sounds, &known(15)).unwrap();
    assert_eq!(data(&explorer)["measured"], "these recordings", "nobody has measured latent 15");
    assert_eq!(data(&explorer)["latents"].as_array().unwrap().len(), 16);
    let name = |latent: usize| LatentName { latent, name: "pitch".into(), unit: "st".into(), per_unit: 1.0 };
    let explorer = fragment(run, None, &sounds, &Known { names: vec![name(2), name(5)], ..known(16) }).unwrap();
    let ranked = data(&explorer)["latents"].as_array().unwrap();
    let order: Vec<_> = ranked.iter().map(|latent| latent["latent"].as_u64().unwrap()).collect();
    assert_eq!(order[..4], [5, 2, 15, 14], "named ones first");
}

#[test]
fn an_inverter_joins_the_page_where_the_weights_of_both_have_room_and_else_the_page_says_that_it_is_left_out() {
    let (_, vae, inverter) = runs();
    let sounds = files(&fixture().test, "npz");
    let of = |most: usize| {
        let through = Through { most, ..through(inverter) };
        data(&fragment(vae, Some(&through), &sounds, &Known::default()).unwrap()).clone()
    };
    let whole = of(usize::MAX);
    assert_eq!((&whole["inverter"]["run"], &whole["left_out"]), (&json!(text(inverter)), &Value::Null));
    let size = |data: &Value| data["weights"].as_str().unwrap().len();
    let both = size(&whole) + size(&whole["inverter"]);
    assert_eq!(of(both), whole);
    let without = of(both - 1);
    assert_eq!((&without["inverter"], &without["left_out"]), (&Value::Null, &json!(text(inverter))));
    assert_eq!(without["weights"], whole["weights"]);
}

#[test]
fn models_in_each_others_place_a_sound_of_other_features_and_no_sound_are_refused_by_name() {
    let (_, vae, inverter) = runs();
    let sounds = files(&fixture().test, "npz");
    let refused =
        |run: &Path, sounds: &[PathBuf]| fragment(run, None, sounds, &Known::default()).unwrap_err().to_string();
    let misplaced = fragment(vae, Some(&through(vae)), &sounds, &Known::default()).unwrap_err().to_string();
    assert!(misplaced.contains("where one of the inverter is needed"), "{misplaced}");
    assert!(refused(inverter, &sounds).contains(text(inverter)));
    assert!(refused(vae, &[]).contains("needs a recording or a feature file"));
    let missing = PathBuf::from("no/such.wav");
    assert!(refused(vae, &[missing]).contains("no/such.wav"));
}

#[test]
fn markup_has_no_style_no_script_and_no_address() {
    let (_, run, _) = runs();
    let explorer = fragment(run, None, &files(&fixture().test, "npz"), &Known::default()).unwrap();
    for tag in explorer.html.split('<').filter_map(|rest| rest.split('>').next()) {
        for forbidden in [" style", " on", " src", " href", "http", "script "] {
            assert!(!tag.contains(forbidden), "{forbidden} in <{tag}>");
        }
    }
    assert!(!explorer.script.contains("innerHTML") && !explorer.script.contains("eval("));
    assert!(!explorer.script.contains("</script") && !explorer.style.contains("</style"));
}
