//! What a GPU runs, on CUDA where that is compiled in and else through wgpu, a driver in software included: passes over time,
//! networks, training and programs against the CPU's, all in f32.

use std::fs;
use std::path::Path;
use std::process::Command;

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use serde_json::Value;
use tempfile::TempDir;
use vae_workshop::audio::Waveform;
use vae_workshop::device::{Precision, open};
use vae_workshop::kernels::plain;
use vae_workshop::models::{CbhgConfig, ConvVaeConfig, LstmVaeConfig, Scale, Vae, VaeConfig};
use vae_workshop::nn::{After, BiGru, Init, Lengths, Lstm, MaskedBatchNorm};
use vae_workshop::run::{AdamConfig, Clipping, NamedTensors, RunDir};
use vae_workshop::train::{Adam, ByName};

use crate::env::{binary, fixture, succeed, text};
use crate::kernels::{batches, distance, gradients, loss, noise_on};
use crate::pipeline::{files, runs};

/// As `--device` has it.
const GPU: &str = if cfg!(feature = "cuda") { "cuda" } else { "wgpu" };

/// With autodiff.
fn device() -> Device {
    let opened = open(GPU.parse().unwrap(), Some(Precision::F32));
    opened.expect("these tests need a GPU: see `make test-wgpu` and `make test-cuda`").device.autodiff()
}

fn cpu() -> Device {
    Device::flex().autodiff()
}

/// How far off losses or outputs, and gradients, may be of Burn's own operations, whose products take tensor cores where CUDA has them.
const PLAIN: [f32; 2] = if cfg!(feature = "cuda") { [1e-3, 1e-2] } else { [1e-5, 1e-4] };

/// Small VAEs: convolutional, recurrent, and recurrent as the workshop's.
fn vaes() -> [VaeConfig; 3] {
    let conv = ConvVaeConfig { segment_frames: 8, n_mels: 16, channels: [3, 4, 5], hidden: 6, latents: 2 };
    let lstm = LstmVaeConfig { segment_frames: 6, n_mels: 16, cells: 7, latents: 3, scale: Scale::Softplus };
    let exp = LstmVaeConfig { scale: Scale::Exp, ..lstm.clone() };
    [VaeConfig::Conv(conv), VaeConfig::Lstm(lstm), VaeConfig::Lstm(exp)]
}

const INVERTER: CbhgConfig =
    CbhgConfig { n_mels: 6, bins: 9, bank_size: 6, channels: 5, highway_layers: 2, gru_cells: 4, small_output: false };

/// Four sequences of several lengths for the inverter.
fn lengths(device: &Device) -> Lengths {
    Lengths::new(vec![9, 1, 4, 9], 9, &device.clone().inner())
}

fn assert_within(name: &str, found: &[Vec<f32>], wanted: &[Vec<f32>], most: f32) {
    assert_eq!(found.len(), wanted.len());
    for (index, (found, wanted)) in found.iter().zip(wanted).enumerate() {
        let distance = distance(found, wanted);
        assert!(distance < most, "{name}: gradient {index} differs by {distance}");
    }
}

/// Cells whose weights stay in registers, whole and in slices, and those whose weights are read at each step.
const CELLS: [usize; 5] = [6, 40, 128, 200, 300];

/// What a layer gives, and the gradients of its input and of its parameters.
fn results<M: Module, const D: usize>(
    layer: M,
    x: Tensor<D>,
    forward: impl Fn(&M, Tensor<D>) -> Tensor<3>,
) -> (Vec<f32>, Vec<Vec<f32>>) {
    let x = x.require_grad();
    let y = forward(&layer, x.clone());
    let found = (y.clone() * noise_on(&y.device(), y.dims(), 99)).sum().backward();
    let of_input = x.grad(&found).expect("tracked").try_into_vec_as().unwrap();
    (y.inner().try_into_vec_as().unwrap(), [vec![of_input], gradients(&layer, &found)].concat())
}

/// Checks a pass on the device against the layer step by step on the CPU.
fn assert_pass(name: &str, on: impl Fn(&Device) -> (Vec<f32>, Vec<Vec<f32>>)) {
    let ((found, found_gradients), (wanted, wanted_gradients)) = (on(&device()), plain(|| on(&cpu())));
    assert!(distance(&found, &wanted) < 1e-5, "{name}: output differs by {}", distance(&found, &wanted));
    assert_within(name, &found_gradients, &wanted_gradients, 1e-4);
}

#[test]
fn gru_passes_equal_the_gru_step_by_step() {
    for cells in CELLS {
        for (seed, lengths) in batches().into_iter().enumerate() {
            let (each, frames) = (lengths.each(), *lengths.each().iter().max().unwrap());
            assert_pass(&format!("{cells} cells, batch {seed}"), |device| {
                let gru = BiGru::new(5, cells, &mut Init::new(1, device));
                let lengths = Lengths::new(each.to_vec(), frames, &device.clone().inner());
                results(gru, noise_on(device, [each.len(), frames, 5], seed as u64), |gru, x| gru.forward(x, &lengths))
            });
        }
    }
}

#[test]
fn lstm_passes_equal_the_lstm_step_by_step() {
    for cells in CELLS {
        for (batch, frames) in [(1, 1), (3, 8), (35, 3)] {
            let name = format!("{cells} cells, {batch} x {frames}");
            let lstm = |device: &Device| Lstm::new(5, cells, &mut Init::new(1, device));
            assert_pass(&name, |device| {
                results(lstm(device), noise_on(device, [batch, frames, 5], 2), |lstm, x| lstm.forward(x))
            });
            assert_pass(&format!("{name}, repeated"), |device| {
                let x: Tensor<2> = noise_on(device, [batch, 5], 3);
                results(lstm(device), x, |lstm, x| lstm.forward_repeated(x, frames))
            });
        }
    }
}

#[test]
fn layers_too_large_for_a_pass_go_step_by_step() {
    let on = |device: &Device| -> Vec<f32> {
        let lstm = Lstm::new(3, 600, &mut Init::new(1, device));
        lstm.forward(noise_on(device, [2, 3, 3], 2)).inner().try_into_vec_as().unwrap()
    };
    let distance = distance(&on(&device()), &on(&cpu()));
    assert!(distance < 1e-5, "{distance}");
}

#[test]
fn passes_without_autodiff_give_the_same() {
    let device = device();
    let gru = BiGru::new(5, 16, &mut Init::new(1, &device));
    let lengths = Lengths::new(vec![9, 1, 4], 9, &device.clone().inner());
    let x: Tensor<3> = noise_on(&device, [3, 9, 5], 1);
    let tracked: Vec<f32> = gru.forward(x.clone(), &lengths).inner().try_into_vec_as().unwrap();
    let inferred: Vec<f32> = gru.valid().forward(x.inner(), &lengths).try_into_vec_as().unwrap();
    assert!(tracked == inferred);
}

#[test]
fn norms_equal_the_cpus_whatever_follows() {
    for (seed, lengths) in batches().into_iter().enumerate() {
        let (each, frames) = (lengths.each(), *lengths.each().iter().max().unwrap());
        if each.len() * frames < 3 {
            continue; // a variance of one value is zero: its gradient is rounding
        }
        for after in [After::Nothing, After::Relu, After::ReluMax] {
            let name = format!("batch {seed}, {after:?}");
            let on = |device: &Device| {
                let norm = MaskedBatchNorm::new(40, &mut Init::new(1, device));
                let lengths = Lengths::new(each.to_vec(), frames, &device.clone().inner());
                (norm, lengths, noise_on::<3>(device, [each.len(), frames, 40], seed as u64) * 2.0 + 0.3)
            };
            assert_pass(&name, |device| {
                let (norm, lengths, x) = on(device);
                results(norm, x, |norm, x| norm.forward_train(x, &lengths, after, &mut Vec::new()))
            });
            assert_pass(&format!("{name}, running"), |device| {
                let (mut norm, lengths, x) = on(device);
                let mut statistics = Vec::new();
                norm.forward_train(x.clone(), &lengths, after, &mut statistics);
                norm.absorb(statistics.remove(0));
                let inferred = norm.valid().forward(x.clone().inner(), &lengths, after);
                let (tracked, gradients) = results(norm, x, |norm, x| norm.forward(x, &lengths, after));
                let inferred: Vec<f32> = inferred.try_into_vec_as().unwrap();
                assert!(distance(&inferred, &tracked) < 1e-6, "{name}: {}", distance(&inferred, &tracked));
                (tracked, gradients)
            });
        }
    }
}

#[test]
fn vaes_have_the_cpus_loss_and_gradients() {
    for config in vaes() {
        let on = |device: Device| {
            // So many that gradients of weights are products in parts.
            let x = noise_on(&device, [60, config.segment_frames(), config.n_mels()], 6);
            loss(&config.init(3, &device), &x)
        };
        let (wanted, wanted_gradients) = on(cpu());
        let ways = [("kernels", on(device()), [1e-5, 1e-4]), ("plain", plain(|| on(device())), PLAIN)];
        for (how, (found, found_gradients), [of_loss, of_gradients]) in ways {
            assert!((found - wanted).abs() < of_loss * wanted.abs(), "{config:?}, {how}: {found} {wanted}");
            assert_within(&format!("{config:?}, {how}"), &found_gradients, &wanted_gradients, of_gradients);
        }
    }
}

#[test]
fn the_inverter_has_the_cpus_outputs_and_gradients() {
    let on = |device: Device| -> ([Vec<f32>; 2], Vec<Vec<f32>>) {
        let (mut model, lengths) = (INVERTER.init(3, &device), lengths(&device));
        let x: Tensor<3> = noise_on(&device, [4, 9, 6], 6);
        let inferred = lengths.zero_padding(model.forward(x.clone(), &lengths));
        let trained = lengths.zero_padding(model.forward_train(x, &lengths));
        let loss = (trained.clone() * noise_on(&device, trained.dims(), 7)).sum();
        let found = gradients(&model, &loss.backward());
        ([inferred, trained].map(|y| y.inner().try_into_vec_as().unwrap()), found)
    };
    let (wanted, wanted_gradients) = on(cpu());
    let ways = [("kernels", on(device()), [1e-5, 1e-4]), ("plain", plain(|| on(device())), PLAIN)];
    for (how, (found, found_gradients), [of_outputs, of_gradients]) in ways {
        for (found, wanted) in found.iter().zip(&wanted) {
            assert!(distance(found, wanted) < of_outputs, "{how}: {}", distance(found, wanted));
        }
        assert_within(how, &found_gradients, &wanted_gradients, of_gradients);
    }
}

/// The losses of 30 steps, with everything that the optimizer can do.
fn course<M: Module>(mut model: M, loss: impl Fn(&mut M, u64) -> Tensor<1>) -> Vec<f32> {
    let (clipping, ema) = (Clipping::GlobalNorm(5.0), 0.9);
    let mut adam = Adam::new(AdamConfig { clipping, weight_decay: 1e-2, ema, ..AdamConfig::default() });
    let step = |step| {
        let loss = loss(&mut model, step);
        let gradients = ByName::of(&model, loss.backward());
        model = adam.step(model.clone(), gradients, 3e-3, step);
        loss.into_scalar::<f32>()
    };
    (0..30).map(step).collect()
}

/// The first loss differs by the order of sums only, later ones by what training makes of that.
fn assert_follows(name: &str, found: &[f32], wanted: &[f32]) {
    assert!(wanted[wanted.len() - 1] < wanted[0], "{name} learns nothing: {wanted:?}");
    for (step, (found, wanted)) in found.iter().zip(wanted).enumerate() {
        let most = if step == 0 { 1e-5 } else { 1e-3 };
        assert!((found - wanted).abs() < most * wanted.abs(), "{name}, step {step}: {found} {wanted}");
    }
}

#[test]
fn losses_follow_the_cpus_over_thirty_steps() {
    for config in vaes() {
        let on = |device: Device| {
            let loss = |model: &mut Vae, step| {
                let x: Tensor<3> = noise_on(&device, [5, config.segment_frames(), config.n_mels()], step % 2);
                let posterior = model.encode(x.clone());
                let z = posterior.sample(noise_on(&device, posterior.mean().dims(), 100 + step));
                model.decode(z).negative_log_likelihood(x) + posterior.total_kl_from_standard()
            };
            course(config.init(3, &device), loss)
        };
        assert_follows(&format!("{config:?}"), &on(device()), &on(cpu()));
    }
    // More parameters than one launch of the optimizer takes.
    let inverter = CbhgConfig { bank_size: 24, ..INVERTER };
    let on = |device: Device| {
        let lengths = lengths(&device);
        course(inverter.init(3, &device), |model, step| {
            let [x, y] = [[4, 9, 6], [4, 9, 9]].map(|shape| noise_on::<3>(&device, shape, step % 2));
            lengths.zero_padding(model.forward_train(x, &lengths) - y).abs().mean()
        })
    };
    assert_follows("inverter", &on(device()), &on(cpu()));
}

/// The training losses of a run, every step's.
fn losses(run: &Path) -> Vec<f64> {
    let lines = fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    let lines = lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    lines.filter(|line| line["phase"] == "train").map(|line| line["loss/total"].as_f64().unwrap()).collect()
}

/// The trainers with each network, and what makes it small.
const TRAINERS: [(&str, &[&str]); 3] = [
    ("train-vae", &["--batch-size", "8"]),
    ("train-vae", &["--arch", "lstm", "--batch-size", "8"]),
    ("train-inverter", &["--batch-size", "2", "--crop-frames", "32", "--bank-size", "2"]),
];

fn train(program: &str, sizes: &[&str], run: &Path, device: &str, steps: &str) {
    let data = fixture();
    let flags = ["--device", device, "--precision", "f32", "--preset", "tiny", "--seed", "3", "--steps", steps];
    let often = ["--log-every", "1", "--eval-every", "6", "--save-every", "3", "--keep", "9"];
    succeed(program, &[&[text(run), text(&data.train), text(&data.test)], &flags[..], &often, sizes].concat());
}

#[test]
fn trainers_follow_the_cpus_and_go_on_where_they_ended() {
    for (program, sizes) in TRAINERS {
        let folder = TempDir::new().unwrap();
        let [cpu, gpu] = ["cpu", GPU].map(|name| folder.path().join(name));
        train(program, sizes, &cpu, "cpu", "6");
        train(program, sizes, &gpu, GPU, "3");
        train(program, sizes, &gpu, GPU, "6");
        let (wanted, found) = (losses(&cpu), losses(&gpu));
        assert!(wanted.len() == 6 && found.len() == 6, "{wanted:?} {found:?}");
        for (step, (found, wanted)) in found.iter().zip(&wanted).enumerate() {
            let most = if step == 0 { 1e-4 } else { 1e-3 };
            assert!((found - wanted).abs() < most * wanted.abs(), "{program} {sizes:?}, step {step}: {found} {wanted}");
        }
    }
}

/// A run of 16 steps, with all that a step can change: the losses, the last checkpoint's tensors, whether steps were replayed.
fn trained(program: &str, flags: &[&str], run: &Path) -> (Vec<f64>, [NamedTensors; 2], bool) {
    let data = fixture();
    let common = [
        "--device",
        GPU,
        "--precision",
        "f32",
        "--preset",
        "tiny",
        "--seed",
        "3",
        "--steps",
        "16",
        "--log-every",
        "1",
        "--eval-every",
        "9",
    ];
    let all = [
        "--ema",
        "0.9",
        "--weight-decay",
        "0.01",
        "--schedule",
        "cosine",
        "--decay-steps",
        "12",
        "--warmup-steps",
        "3",
    ];
    let folders = [text(run), text(&data.train), text(&data.test)];
    let output = Command::new(binary(program))
        .args([&folders[..], &common, &all, flags].concat())
        .env("VAE_WORKSHOP_LOG", "error,vae_workshop=debug")
        .output()
        .unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success() && !said.contains("cannot be replayed"), "{program} {flags:?}: {said}");
    let last = RunDir::at(run).latest().unwrap().unwrap();
    (losses(run), [last.model().unwrap(), last.optimizer().unwrap()], said.contains("a recorded step is replayed"))
}

#[test]
fn replayed_steps_change_what_launched_ones_do() {
    let more: [(&str, &[&str]); 7] = [
        ("train-inverter", &["--batch-size", "2", "--crop-frames", "250", "--bank-size", "2"]), // longer than the files
        ("train-vae", &["--batch-size", "8", "--objective", "beta-tc"]),
        (
            "train-vae",
            &["--batch-size", "8", "--objective", "beta-tc", "--tc-sampling", "stratified", "--kl-warmup-steps", "12"],
        ),
        ("train-vae", &["--batch-size", "8", "--objective", "dip"]),
        ("train-vae", &["--batch-size", "8", "--objective", "capacity", "--capacity-steps", "12"]),
        ("train-vae", &["--batch-size", "8", "--objective", "factor", "--kl-warmup-steps", "3"]),
        ("train-vae", &["--batch-size", "8", "--preset", "workshop", "--cells", "16"]),
    ];
    for (program, flags) in TRAINERS.into_iter().chain(more) {
        let folder = TempDir::new().unwrap();
        let [launched, replayed] = ["launched", "replayed"].map(|name| folder.path().join(name));
        let (wanted, wanted_state, never) = trained(program, &[flags, &["--no-replay"]].concat(), &launched);
        let (found, found_state, always) = trained(program, flags, &replayed);
        assert!(always && !never, "{program} {flags:?}");
        assert_eq!(found.len(), 16);
        for (step, (found, wanted)) in found.iter().zip(&wanted).enumerate() {
            assert!(
                (found - wanted).abs() <= 1e-6 * wanted.abs(),
                "{program} {flags:?}, step {step}: {found} {wanted}"
            );
        }
        for (found, wanted) in found_state.iter().zip(&wanted_state) {
            assert!(found.0.keys().eq(wanted.0.keys()));
            for (name, (_, wanted)) in &wanted.0 {
                let distance = distance(&found.0[name].1, wanted);
                assert!(distance < 1e-5, "{program} {flags:?}: {name} differs by {distance}");
            }
        }
    }
}

#[test]
fn synth_sounds_as_it_does_on_the_cpu() {
    let (_, vae, inverter) = runs();
    let folder = TempDir::new().unwrap();
    let input = files(&fixture().corpus.join("test"), "wav").remove(0);
    let sound = |device: &str| {
        let out = folder.path().join(device).with_extension("wav");
        let models = ["--vae", text(vae), "--inverter", text(inverter), "--device", device, "--precision", "f32"];
        succeed("synth", &[&["reconstruct"], &models[..], &[text(&input), text(&out)]].concat());
        Waveform::read(&out).unwrap().samples
    };
    let (cpu, gpu) = (sound("cpu"), sound(GPU));
    assert_eq!(cpu.len(), gpu.len());
    let power = |samples: &[f32]| samples.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>() / samples.len() as f64;
    // Phases found from nearly equal spectra may differ; how loud each stretch is may not.
    for (cpu, gpu) in cpu.chunks(1600).zip(gpu.chunks(1600)) {
        let (cpu, gpu) = (power(cpu), power(gpu));
        assert!((cpu - gpu).abs() < 0.05 * (cpu + 1e-6), "{cpu} {gpu}");
    }
}
