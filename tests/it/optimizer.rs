//! The optimizer: what it does to parameters, and the mean of them that a run may keep.

use std::path::Path;
use std::sync::atomic::AtomicUsize;

use burn::module::{Module, Param};
use burn::tensor::{Tensor, TensorData};
use serde_json::{Value, json};
use tempfile::TempDir;
use vae_workshop::kernels::plain;
use vae_workshop::models::{Cbhg, CbhgConfig};
use vae_workshop::nn::Lengths;
use vae_workshop::run::{AdamConfig, Checkpoint, NamedTensors, RunDir, load_parameters, parameters};
use vae_workshop::train::{Adam, ByName, Task, fit};

use crate::env::{fail, run, succeed, text};
use crate::models::{cpu, noise, values};
use crate::training::{about, assert_same_checkpoint, inverter_flags, vae_flags};
use crate::unattended::{LIMITS, vae};

/// Gives a small run's flags from its folder and steps.
pub type Flags = for<'a> fn(&'a str, &'a str) -> Vec<&'a str>;

const TRAINERS: [(&str, Flags); 2] = [("train-vae", vae_flags), ("train-inverter", inverter_flags)];

fn cbhg() -> Cbhg {
    let sizes = CbhgConfig {
        n_mels: 10,
        bins: 17,
        bank_size: 3,
        channels: 8,
        highway_layers: 1,
        gru_cells: 6,
        small_output: false,
    };
    sizes.init(1, &cpu().autodiff())
}

/// Some steps of an inverter, each shown after it: what is trained, the optimizer, finished steps.
fn steps(config: AdamConfig, count: u64, mut show: impl FnMut(&Cbhg, &Adam, u64)) {
    let (mut model, mut adam) = (cbhg(), Adam::new(config));
    let lengths = Lengths::new(vec![12, 8], 12, &cpu());
    for step in 0..count {
        let loss = model.forward_train(noise([2, 12, 10], step), &lengths).square().mean();
        let gradients = ByName::of(&model, loss.backward());
        model = adam.step(model, gradients, 1e-2, step);
        show(&model, &adam, step + 1);
    }
}

fn assert_near(found: &NamedTensors, wanted: &NamedTensors, tolerance: f32) {
    for ((name, (_, found)), (_, (_, wanted))) in found.0.iter().zip(&wanted.0) {
        let worst = found.iter().zip(wanted).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(worst <= tolerance, "{name} differs by {worst}");
    }
}

#[test]
fn the_mean_of_parameters_is_the_recursion_in_double_precision_and_leaves_buffers_alone() {
    let config = AdamConfig { ema: 0.8, ..AdamConfig::default() };
    let wide = |tensors: &NamedTensors| -> Vec<(String, Vec<f64>)> {
        let each = tensors.0.iter().map(|(name, (_, values))| (name, values.iter().map(|&value| f64::from(value))));
        each.map(|(name, values)| (name.clone(), values.collect())).collect()
    };
    let mut twin = wide(&parameters(&cbhg()));
    steps(config, 50, |model, adam, finished| {
        let now = parameters(model);
        let share = 1.0 - 0.8f64.min((1.0 + finished as f64) / (10.0 + finished as f64));
        for ((name, means), (_, values)) in twin.iter_mut().zip(wide(&now)) {
            for (mean, value) in means.iter_mut().zip(values) {
                *mean = if name.contains("running") { value } else { *mean + share * (value - *mean) };
            }
        }
        if finished % 10 == 0 {
            let averaged = parameters(&adam.averaged(model));
            let twin = twin.iter().zip(&averaged.0).map(|((name, means), (_, (shape, _)))| {
                (name.clone(), (shape.clone(), means.iter().map(|&mean| mean as f32).collect()))
            });
            assert_near(&averaged, &NamedTensors(twin.collect()), 2e-6);
            assert!(averaged != now);
        }
    });
}

#[test]
fn the_cpus_step_is_that_of_plain_tensor_operations() {
    let config = AdamConfig { ema: 0.9, ..AdamConfig::default() };
    let last = |config: AdamConfig| {
        let (mut seen, mut used) = (NamedTensors::default(), NamedTensors::default());
        steps(config, 5, |model, adam, _| (seen, used) = (parameters(model), parameters(&adam.averaged(model))));
        (seen, used)
    };
    let (model, averaged) = last(config.clone());
    let (plain_model, plain_averaged) = plain(|| last(config));
    // Adam's first steps have the size of the rate whatever the gradient's: where that is rounding alone, signs may differ.
    assert_near(&model, &plain_model, 2e-3);
    assert_near(&averaged, &plain_averaged, 2e-3);
}

#[test]
fn a_run_with_a_mean_of_parameters_trains_as_one_without_and_resumes_to_the_bit() {
    let folder = TempDir::new().unwrap();
    let path = |name: &str| folder.path().join(name);
    for (program, flags) in TRAINERS {
        let train = |name: &str, steps: &str, more: &[&str]| {
            let logdir = path(&format!("{program}-{name}"));
            succeed(program, &[&flags(text(&logdir), steps)[..], more].concat());
            logdir.join(format!("step-{steps:0>8}"))
        };
        let ema = ["--ema", "0.9"];
        let without = train("without", "20", &[]);
        let straight = train("straight", "20", &ema);
        train("resumed", "10", &ema);
        assert_same_checkpoint(&straight, &train("resumed", "20", &ema));
        // What is trained is the same; the model's file has the mean of it.
        let read = |folder: &Path, name: &str| NamedTensors::read(&folder.join(name)).unwrap();
        let (model, averaged) = (read(&without, "model.safetensors"), read(&straight, "model.safetensors"));
        let rest = read(&straight, "optimizer.safetensors");
        for (name, (_, values)) in &model.0 {
            let (_, averaged) = &averaged.0[name];
            match rest.0.get(&format!("{name}.raw")) {
                Some((_, raw)) => assert!(raw == values && averaged != values, "{name}"),
                None => assert!(name.contains("running") && averaged == values, "{name}"),
            }
        }
        assert_eq!(about(&path(&format!("{program}-straight")), "/config/optimizer/ema"), 0.9);
    }
    let said = fail("train-vae", &vae_flags(text(&path("train-vae-straight")), "30"));
    assert!(said.contains("optimizer.ema: 0.9 / 0.0"), "{said}");
    let said = fail("train-vae", &[&vae_flags(text(&path("other")), "30")[..], &["--ema", "1"]].concat());
    assert!(said.contains("--ema 1: must be 0 to 0.999999"), "{said}");
}

#[test]
fn the_test_loss_is_that_of_the_model_in_the_checkpoint() {
    let folder = TempDir::new().unwrap();
    let run = RunDir::at(folder.path());
    let (mut session, mut task) = vae(&run, []);
    session.about.config.optimizer.ema = 0.9;
    let mut session = vae_workshop::train::Session::start(
        session.model().clone(),
        session.about.config.clone(),
        session.about.standardizer.clone(),
    );
    fit(&mut task, &mut session, &run, &LIMITS, &AtomicUsize::new(0), &mut |_| {}).unwrap();
    let (checkpoint, tensors) = Checkpoint::with_model(folder.path()).unwrap();
    let model = load_parameters(session.model().valid(), &tensors, folder.path()).unwrap();
    let evaluated = |model| task.evaluate(model, None, &AtomicUsize::new(0)).unwrap().unwrap().means;
    assert_eq!(evaluated(&model), checkpoint.about.test);
    assert_ne!(evaluated(&session.model().valid()), checkpoint.about.test);
}

#[test]
fn a_run_that_skipped_every_step_so_far_goes_on() {
    let folder = TempDir::new().unwrap();
    let run = RunDir::at(folder.path());
    let (mut session, mut task) = vae(&run, [0, 1, 2]);
    let three = vae_workshop::train::Limits { steps: 3, ..LIMITS };
    fit(&mut task, &mut session, &run, &three, &AtomicUsize::new(0), &mut |_| {}).unwrap();
    let (resumed, _) = vae(&run, []);
    assert_eq!((resumed.about.step, resumed.about.trouble.skipped), (3, 3));
}

#[test]
fn both_trainers_take_the_same_schedules_and_log_the_rate_of_each_step() {
    let folder = TempDir::new().unwrap();
    for (program, flags) in TRAINERS {
        let logdir = folder.path().join(program);
        let asked = ["--schedule", "exponential", "--learning-rate", "0.01", "--final-learning-rate", "0.0001"];
        let more = ["--warmup-steps", "3", "--decay-steps", "5", "--log-every", "1"];
        succeed(program, &[&flags(text(&logdir), "7")[..], &asked, &more].concat());
        let lines = std::fs::read_to_string(logdir.join("metrics.jsonl")).unwrap();
        let lines = lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        let rates: Vec<f64> = lines.filter_map(|line| line["optimizer/learning_rate"].as_f64()).collect();
        let wanted = [0.0025, 0.005, 0.0075, 0.01, 0.001, 0.0001, 0.0001];
        assert!(rates.iter().zip(wanted).all(|(found, wanted)| (found - wanted).abs() < 1e-12), "{rates:?}");
        assert_eq!(rates.len(), 7);
        let other = folder.path().join("no");
        let refused = |more: &[&str]| fail(program, &[&flags(text(&other), "7")[..], more].concat());
        let said = refused(&["--schedule", "exponential", "--final-learning-rate", "0"]);
        assert!(said.contains("--final-learning-rate 0: must be") && said.lines().count() == 1, "{said}");
        assert!(refused(&["--warmup-steps", "5", "--decay-steps", "5"]).contains("--warmup-steps 5: must be 0 to 4"));
    }
    let logdir = folder.path().join("constant");
    let flags = [&vae_flags(text(&logdir), "1")[..], &["--schedule", "constant", "--decay-steps", "9"]].concat();
    let said = run("train-vae", &flags);
    assert!(said.code == Some(0) && said.err.contains("--schedule constant has no use for"), "{}", said.err);
    assert_eq!(about(&logdir, "/config/schedule/decay_steps"), json!(0));
}

/// A weight and a bias on their way to 3.
#[derive(Module, Debug)]
struct Two {
    weight: Param<Tensor<2>>,
    bias: Param<Tensor<1>>,
}

#[test]
fn weight_decay_gives_the_values_of_pytorchs_adamw_and_spares_biases() {
    // torch.optim.AdamW of PyTorch 2.15 in double precision: lr 0.1, weight_decay 0.5 for `weight` and 0 for `bias`, five steps on
    // ((weight - 3) ** 2).sum() + ((bias - 3) ** 2).sum().
    let (weight, bias) = ([0.5f32, -1.0, 2.0, 0.25], [1.0f32, -0.5]);
    let wanted = [0.837918922193297, -0.32318666420382086, 1.9999999977573784, 0.6443717104628055];
    let spared = [1.4970442187049882, -0.0014810400359017706];
    let after = || {
        let device = cpu().autodiff();
        let mut two = Two {
            weight: Param::from_data(TensorData::new(weight.to_vec(), [2, 2]), &device),
            bias: Param::from_data(TensorData::new(bias.to_vec(), [2]), &device),
        };
        let mut adam = Adam::new(AdamConfig { weight_decay: 0.5, ..AdamConfig::default() });
        for step in 0..5 {
            let loss = two.weight.val().sub_scalar(3.0).square().sum() + two.bias.val().sub_scalar(3.0).square().sum();
            let gradients = ByName::of(&two, loss.backward());
            two = adam.step(two, gradients, 0.1, step);
        }
        [values(two.weight.val().inner()), values(two.bias.val().inner())].concat()
    };
    for found in [after(), plain(after)] {
        for (found, wanted) in found.iter().zip(wanted.iter().chain(&spared)) {
            assert!((f64::from(*found) - wanted).abs() < 1e-6, "{found} for {wanted}");
        }
    }
}

#[test]
fn weight_decay_is_for_every_weight_and_neither_for_a_bias_nor_for_a_norm() {
    let folder = TempDir::new().unwrap();
    let read = |logdir: &Path| NamedTensors::read(&logdir.join("step-00000001/model.safetensors")).unwrap();
    let kinds: [(&str, Flags, &[&str]); 3] = [
        ("train-vae", vae_flags, &[]),
        ("train-vae", vae_flags, &["--arch", "lstm", "--cells", "8"]),
        ("train-inverter", inverter_flags, &[]),
    ];
    for (kind, (program, flags, more)) in kinds.into_iter().enumerate() {
        let train = |name: &str, decay: &str| {
            let logdir = folder.path().join(format!("{name}-{kind}"));
            let asked = ["--weight-decay", decay, "--learning-rate", "0.001"];
            succeed(program, &[&flags(text(&logdir), "1")[..], more, &asked].concat());
            (NamedTensors::read(&logdir.join("step-00000000/model.safetensors")).unwrap(), read(&logdir))
        };
        let (start, without) = train("without", "0");
        let (_, with) = train("with", "10");
        for (name, (_, with)) in &with.0 {
            let (without, start) = (&without.0[name].1, &start.0[name].1);
            let spared = ["bias", "gamma", "beta", "running"].iter().any(|part| name.contains(part));
            if spared {
                assert!(with == without, "{name}");
                continue;
            }
            // The first gradient is the same: what differs is the rate times the decay times the weight.
            let differences = with.iter().zip(without).zip(start).map(|((w, o), s)| (w - (o - 0.01 * s)).abs());
            assert!(differences.fold(0.0, f32::max) < 1e-6 && with != without, "{name}");
        }
    }
}

#[test]
fn what_is_reported_of_a_growing_divergence_has_all_of_it() {
    let folder = TempDir::new().unwrap();
    let terms = |name: &str, more: &[&str]| {
        let logdir = folder.path().join(name);
        let more = [more, &["--log-every", "1", "--eval-every", "1", "--patience", "1"]].concat();
        succeed("train-vae", &[&vae_flags(text(&logdir), "6")[..], &more].concat());
        let lines = std::fs::read_to_string(logdir.join("metrics.jsonl")).unwrap();
        let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(about(&logdir, "/step"), lines.last().unwrap()["step"]);
        for line in &lines {
            let term = |name: &str| line[format!("loss/{name}")].as_f64().unwrap();
            assert!((term("total") - term("reconstruction") - 8.0 * term("kl")).abs() < 1e-2, "{line}");
        }
        lines
    };
    let growing = terms("growing", &["--kl-warmup-steps", "100"]);
    assert_eq!(growing.len(), 12, "no patience is lost while it grows");
    // The first step minimises the reconstruction alone; what both begin with is the same.
    let whole = terms("whole", &[]);
    assert_eq!(growing[0]["loss/total"], whole[0]["loss/total"]);
    assert!(growing[0]["optimizer/gradient_norm"] != whole[0]["optimizer/gradient_norm"]);
    let said = fail("train-vae", &vae_flags(text(&folder.path().join("growing")), "9"));
    assert!(said.contains("objective.kl_warmup_steps: 100 / 0"), "{said}");
}
