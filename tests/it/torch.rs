//! Models for PyTorch: the layouts that its own modules have. `make test-torch` holds the outputs against PyTorch's.

use std::collections::BTreeMap;
use std::fs;

use burn::tensor::Device;
use ndarray::Array2;
use ndarray_npy::NpzReader;
use safetensors::SafeTensors;
use tempfile::TempDir;
use vae_workshop::models::{CbhgConfig, ConvVaeConfig, LstmVaeConfig, Scale, VaeConfig};
use vae_workshop::run::{About, Checkpoint, METADATA, ModelConfig, NamedTensors, RunDir, parameters, to_torch};

use crate::env::{fail, fixture, succeed, text};
use crate::pipeline::{files, runs};

/// The shapes of an export by name.
fn shapes(tensors: &NamedTensors) -> BTreeMap<&str, &[usize]> {
    tensors.0.iter().map(|(name, (shape, _))| (name.as_str(), &shape[..])).collect()
}

/// The value of a tensor at an index.
fn at(tensors: &NamedTensors, name: &str, index: &[usize]) -> f32 {
    let (shape, values) = &tensors.0[name];
    assert_eq!(shape.len(), index.len(), "{name}");
    values[index.iter().zip(shape).fold(0, |flat, (i, size)| flat * size + i)]
}

#[test]
fn the_convolutional_vae_differs_only_in_its_linear_layers() {
    let config = ConvVaeConfig { segment_frames: 8, n_mels: 16, channels: [3, 4, 5], hidden: 7, latents: 2 };
    let ours = parameters(&VaeConfig::Conv(config.clone()).init(1, &Device::flex()));
    let theirs = to_torch(&ModelConfig::ConvVae(config), &ours);
    assert!(ours.0.keys().eq(theirs.0.keys()));
    let found = shapes(&theirs);
    assert_eq!(found["encoder.1.weight"], [4, 3, 4, 4]);
    assert_eq!(found["decoder.2.weight"], [3, 2, 4, 4]);
    assert_eq!(found["encoder_hidden.weight"], [7, 5 * 2 * 2]);
    assert_eq!(at(&theirs, "encoder_hidden.weight", &[6, 11]), at(&ours, "encoder_hidden.weight", &[11, 6]));
    assert_eq!(ours.0["decoder.0.weight"], theirs.0["decoder.0.weight"]);
}

#[test]
fn an_lstm_has_packed_gates_and_a_second_bias_of_zeros() {
    let config = LstmVaeConfig { segment_frames: 4, n_mels: 3, cells: 5, latents: 2, scale: Scale::Softplus };
    let ours = parameters(&VaeConfig::Lstm(config.clone()).init(1, &Device::flex()));
    let theirs = to_torch(&ModelConfig::LstmVae(config), &ours);
    let found = shapes(&theirs);
    assert_eq!(found["encoder.weight_ih_l0"], [20, 3]);
    assert_eq!(found["decoder.weight_hh_l0"], [20, 5]);
    assert_eq!(found["bin_mean.weight"], [3, 5]);
    assert_eq!(at(&theirs, "encoder.weight_ih_l0", &[17, 2]), at(&ours, "encoder.weight_input", &[2, 17]));
    assert_eq!(theirs.0["encoder.bias_ih_l0"], ours.0["encoder.bias"]);
    assert_eq!(theirs.0["encoder.bias_hh_l0"], (vec![20], vec![0.0; 20]));
    assert_eq!(theirs.0["mean.bias"], ours.0["mean.bias"]);
    assert!(!found.contains_key("encoder.bias"));
}

#[test]
fn a_cbhg_has_taps_last_and_each_direction_of_its_gru_by_name() {
    let config = CbhgConfig {
        n_mels: 3,
        bins: 9,
        bank_size: 3,
        channels: 4,
        highway_layers: 1,
        gru_cells: 5,
        small_output: false,
    };
    let ours = parameters(&config.init(1, &Device::flex()));
    let theirs = to_torch(&ModelConfig::Cbhg(config), &ours);
    let found = shapes(&theirs);
    assert_eq!(found["bank.2.weight"], [4, 3, 3]);
    assert_eq!(found["project_down.weight"], [4, 12, 3]);
    assert_eq!(found["project_back.weight"], [3, 4, 3]);
    // ours: [taps * inputs, outputs] and [inputs, taps * outputs]
    assert_eq!(at(&theirs, "bank.2.weight", &[3, 1, 2]), at(&ours, "bank.weights.2", &[2 * 3 + 1, 3]));
    assert_eq!(at(&theirs, "project_down.weight", &[3, 11, 1]), at(&ours, "project_down.weight", &[11, 4 + 3]));
    assert_eq!(found["gru.weight_ih_l0"], [15, 4]);
    assert_eq!(found["gru.bias_hh_l0_reverse"], [15]);
    let reverse = at(&theirs, "gru.weight_hh_l0_reverse", &[14, 2]);
    assert_eq!(reverse, at(&ours, "gru.weight_hidden", &[1, 2, 14]));
    assert_eq!(at(&theirs, "gru.bias_ih_l0_reverse", &[7]), at(&ours, "gru.bias_input", &[1, 0, 7]));
    for (name, of) in [("weight", "gamma"), ("bias", "beta"), ("running_mean", "running_mean")] {
        assert_eq!(theirs.0[&format!("bank_norm.{name}")], ours.0[&format!("bank_norm.{of}")]);
    }
    assert_eq!(theirs.0["down_norm.running_var"], ours.0["down_norm.running_variance"]);
    assert_eq!(found["highway.0.gate.weight"], [4, 4]);
    assert_eq!(found["output.weight"], [9, 10]);
}

#[test]
fn an_export_has_the_model_that_synthesis_uses_and_the_runs_description() {
    let (_, vae, _) = runs();
    let folder = TempDir::new().unwrap();
    let run = folder.path().join("averaged");
    let data = fixture();
    let flags = [text(&run), text(&data.train), text(&data.test), "--device", "cpu", "--preset", "tiny"];
    succeed("train-vae", &[&flags[..], &["--steps", "3", "--batch-size", "4", "--ema", "0.9"]].concat());
    for run in [vae, &run] {
        let out = folder.path().join("made/model.safetensors");
        succeed("synth", &["export", text(run), text(&out)]);
        let checkpoint = RunDir::at(run).latest().unwrap().unwrap();
        let bytes = fs::read(&out).unwrap();
        let (_, header) = SafeTensors::read_metadata(&bytes).unwrap();
        let about: About = serde_json::from_str(&header.metadata().as_ref().unwrap()[METADATA]).unwrap();
        assert_eq!(about, checkpoint.about);
        let wanted = to_torch(&checkpoint.about.config.model, &Checkpoint::with_model(run).unwrap().1);
        assert!(NamedTensors::from_bytes(&bytes, &out).unwrap() == wanted);
    }
    // Nothing is written into a checkpoint, and no other kind of file over an export.
    let inside = RunDir::at(vae).latest().unwrap().unwrap().model_path();
    let before = fs::read(&inside).unwrap();
    assert!(fail("synth", &["export", text(vae), text(&inside)]).contains("lies in a checkpoint"));
    assert!(fs::read(&inside).unwrap() == before);
    assert!(fail("synth", &["export", text(vae), text(&folder.path().join("model.pt"))]).contains(".safetensors"));
    assert!(
        fail("synth", &["export", text(folder.path()), text(&folder.path().join("m.safetensors"))]).contains("run")
    );
}

#[test]
fn what_a_model_makes_of_a_sound_comes_as_arrays() {
    let (_, vae, inverter) = runs();
    let folder = TempDir::new().unwrap();
    let input = &files(&fixture().test, "npz")[0];
    let made = |run| -> BTreeMap<&str, Array2<f32>> {
        let out = folder.path().join("out.npz");
        succeed("synth", &["predict", text(run), "--device", "cpu", text(input), text(&out)]);
        let mut npz = NpzReader::new(fs::File::open(&out).unwrap()).unwrap();
        let names = ["logmel", "mean", "scale", "decoded", "network", "logspec"];
        names.into_iter().filter_map(|name| Some((name, npz.by_name(name).ok()?))).collect()
    };
    let found = made(vae);
    assert!(found.keys().eq(&["decoded", "logmel", "mean", "scale"]));
    assert_eq!(found["decoded"].dim(), found["logmel"].dim());
    assert_eq!(found["mean"].dim(), found["scale"].dim());
    let found = made(inverter);
    assert!(found.keys().eq(&["logmel", "logspec", "network"]));
    for name in ["network", "logspec"] {
        assert_eq!(found[name].dim(), (found["logmel"].nrows(), 513));
        assert!(found[name].iter().all(|value| value.is_finite()));
    }
    assert_ne!(found["network"], found["logspec"]);
}
