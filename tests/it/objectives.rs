//! What a VAE's latents are asked: values against closed forms and a plain twin, gradients, runs of each objective.

use std::fs;
use std::path::Path;
use std::sync::atomic::AtomicUsize;

use burn::module::Module;
use burn::tensor::{Device, Int, Tensor, TensorData};
use rand::Rng;
use rand_distr::StandardNormal;
use serde_json::{Value, json};
use tempfile::TempDir;
use vae_workshop::data::{Room, SegmentDataset};
use vae_workshop::models::{ConvVaeConfig, Discriminator, DiscriminatorConfig, Gaussian, Vae, VaeConfig};
use vae_workshop::objectives::{Capacity, DipKind, Factor, Regularizer, Sampling};
use vae_workshop::random;
use vae_workshop::run::{AdamConfig, BetaVae, NamedTensors, Objective, RunDir, parameters};
use vae_workshop::train::{Adam, ByName, Outcome, Report, SKIPS_IN_A_ROW, Session, Task, Terms, VaeTask, fit};

use crate::env::{fail, fixture, seal, succeed, text};
use crate::models::{cpu, noise, values, without_gradient};
use crate::training::{about, assert_same_checkpoint, vae_flags};
use crate::unattended::{LIMITS, Wild, config, sets};

/// Posteriors and samples in double precision.
struct Twin {
    mean: Vec<Vec<f64>>,
    scale: Vec<Vec<f64>>,
    noise: Vec<Vec<f64>>,
}

impl Twin {
    fn of(mean: &Tensor<2>, scale: &Tensor<2>, noise: &Tensor<2>) -> Self {
        let rows = |tensor: &Tensor<2>| -> Vec<Vec<f64>> {
            let wide: Vec<f64> = values(tensor.clone()).into_iter().map(f64::from).collect();
            wide.chunks(tensor.dims()[1]).map(<[f64]>::to_vec).collect()
        };
        Self { mean: rows(mean), scale: rows(scale), noise: rows(noise) }
    }

    /// Mutual information, total correlation, dimension-wise divergence as Chen et al. write them, term by term.
    fn parts(&self, sampling: Sampling, data: f64) -> [f64; 3] {
        let batch = self.mean.len();
        let latents = self.mean[0].len();
        let normal = |x: f64, mean: f64, scale: f64| {
            (-0.5 * ((x - mean) / scale).powi(2)).exp() / (scale * (2.0 * std::f64::consts::PI).sqrt())
        };
        let rest = (batch - 1) as f64;
        let weight = |i: usize, m: usize| match sampling {
            Sampling::Weighted => 1.0 / (data * batch as f64),
            Sampling::Stratified if m == i => 1.0 / data,
            Sampling::Stratified if m == (i + 1) % batch => (data - rest) / (data * rest),
            Sampling::Stratified => 1.0 / rest,
        };
        let mut sums = [0.0; 3];
        for i in 0..batch {
            let z: Vec<f64> = (0..latents).map(|l| self.mean[i][l] + self.scale[i][l] * self.noise[i][l]).collect();
            let density = |m: usize, l: usize| normal(z[l], self.mean[m][l], self.scale[m][l]);
            let own: f64 = (0..latents).map(|l| density(i, l).ln()).sum();
            let together = (0..batch).map(|m| weight(i, m) * (0..latents).map(|l| density(m, l)).product::<f64>());
            let together = together.sum::<f64>().ln();
            let apart = (0..latents).map(|l| (0..batch).map(|m| weight(i, m) * density(m, l)).sum::<f64>().ln());
            let apart: f64 = apart.sum();
            let prior: f64 = z.iter().map(|&z| normal(z, 0.0, 1.0).ln()).sum();
            for (sum, part) in sums.iter_mut().zip([own - together, together - apart, apart - prior]) {
                *sum += part / batch as f64;
            }
        }
        sums
    }
}

fn small() -> [Tensor<2>; 3] {
    let (mean, scale) = (noise([9, 4], 1), noise([9, 4], 2).abs().mul_scalar(0.3).add_scalar(0.4));
    [mean, scale, noise([9, 4], 3)]
}

fn numbers(parts: [Tensor<1>; 3]) -> [f64; 3] {
    parts.map(|part| f64::from(part.into_scalar::<f32>()))
}

#[test]
fn the_parts_of_the_divergence_are_those_of_a_plain_double_precision_twin_and_sum_to_it() {
    let [mean, scale, noise] = small();
    let twin = Twin::of(&mean, &scale, &noise);
    let posterior = Gaussian::new(mean, scale);
    let z = posterior.sample(noise);
    let whole = f64::from(posterior.log_ratio_to_standard(z.clone()).sum().into_scalar::<f32>()) / 9.0;
    for sampling in [Sampling::Weighted, Sampling::Stratified] {
        for data in [9, 1000] {
            let found = numbers(sampling.decompose(&posterior, z.clone(), data));
            for (found, wanted) in found.iter().zip(twin.parts(sampling, data as f64)) {
                assert!((found - wanted).abs() < 1e-5, "{sampling:?} of {data}: {found}, {wanted}");
            }
            assert!((found.iter().sum::<f64>() - whole).abs() < 1e-5, "{found:?}, {whole}");
        }
        // A batch that is larger than the data, whose files repeat, counts as the data.
        let all = numbers(sampling.decompose(&posterior, z.clone(), 9));
        assert_eq!(numbers(sampling.decompose(&posterior, z.clone(), 3)), all);
    }
}

#[test]
fn the_gradients_of_the_parts_are_the_slopes_of_the_twin() {
    let [mean, scale, noise] = small();
    let twin = || Twin::of(&mean, &scale, &noise);
    let weights = [0.7, 5.0, 1.3];
    for sampling in [Sampling::Weighted, Sampling::Stratified] {
        let (mean, scale) = (tracked(&mean), tracked(&scale));
        let posterior = Gaussian::new(mean.clone(), scale.clone());
        let z = posterior.sample(Tensor::from_inner(noise.clone()));
        let parts = sampling.decompose(&posterior, z, 50).into_iter().zip(weights);
        let loss = parts.map(|(part, weight)| part.mul_scalar(weight)).reduce(|sum, part| sum + part).unwrap();
        let gradients = loss.backward();
        let loss = |twin: &Twin| -> f64 {
            twin.parts(sampling, 50.0).iter().zip(weights).map(|(part, weight)| part * weight).sum()
        };
        for (which, tensor) in [mean, scale].into_iter().enumerate() {
            let found = values(tensor.grad(&gradients).unwrap());
            for (index, found) in found.into_iter().enumerate() {
                let moved = |by: f64| {
                    let mut twin = twin();
                    let of = if which == 0 { &mut twin.mean } else { &mut twin.scale };
                    of[index / 4][index % 4] += by;
                    loss(&twin)
                };
                let slope = (moved(1e-5) - moved(-1e-5)) / 2e-5;
                assert!(
                    (f64::from(found) - slope).abs() < 1e-4 * (1.0 + slope.abs()),
                    "{which} {index}: {found}, {slope}"
                );
            }
        }
    }
}

fn tracked(tensor: &Tensor<2>) -> Tensor<2> {
    Tensor::from_inner(tensor.clone()).require_grad()
}

#[test]
fn the_parts_for_correlated_gaussians_are_their_closed_forms() {
    // Means of covariance 0.75 [1 r; r 1] and posteriors of variance 0.25: together the codes have variance 1 and correlation 0.75 r.
    let (count, r) = (1500, 0.9f32);
    let (a, b) = (noise::<2>([count, 1], 5), noise::<2>([count, 1], 6));
    let second = a.clone().mul_scalar(r) + b.mul_scalar((1.0 - r * r).sqrt());
    let mean = Tensor::cat(vec![a, second], 1).mul_scalar(0.75f32.sqrt());
    let posterior = Gaussian::new(mean.clone(), mean.ones_like().mul_scalar(0.5));
    let z = posterior.sample(noise([count, 2], 7));
    let determinant = 1.0 - (0.75 * f64::from(r)).powi(2);
    let wanted = [0.5 * (determinant / 0.0625).ln(), -0.5 * determinant.ln(), 0.0];
    // The mean of 1500 logarithms of ratios of a deviation below 1, over densities of as many: about 1/sqrt(1500) each.
    let bound = 3.0 / (count as f64).sqrt();
    let found = numbers(Sampling::Stratified.decompose(&posterior, z.clone(), count));
    assert!(found.iter().zip(wanted).all(|(found, wanted)| (found - wanted).abs() < bound), "{found:?}, {wanted:?}");
    // The weighted estimate of all the data's density is right but for the factor that its documentation names.
    let ln = (count as f64).ln();
    let [information, correlation, apart] = numbers(Sampling::Weighted.decompose(&posterior, z, count));
    let found = [information - ln, correlation - ln, apart + 2.0 * ln];
    assert!(found.iter().zip(wanted).all(|(found, wanted)| (found - wanted).abs() < bound), "{found:?}, {wanted:?}");
}

#[test]
fn the_penalties_on_the_covariance_are_those_found_by_hand() {
    let row = |values: [[f32; 2]; 3]| Tensor::<2>::from_floats(values, &cpu());
    let posterior = Gaussian::new(row([[1.0, 0.0], [3.0, 2.0], [2.0, 4.0]]), row([[1.0, 0.5], [1.0, 1.0], [1.0, 1.5]]));
    // Variances 2/3 and 8/3, covariance 2/3; mean squared scales 1 and 7/6.
    for (kind, diagonal) in [(DipKind::I, 26.0 / 9.0), (DipKind::II, 4.0 / 9.0 + 289.0 / 36.0)] {
        let [off, on] = kind.penalties(&posterior).map(|part| part.into_scalar::<f32>());
        assert!((off - 8.0 / 9.0).abs() < 1e-6 && (on - diagonal).abs() < 1e-5, "{kind:?}: {off} {on}");
    }
    let centred = |kind: DipKind| {
        let mean = tracked(&noise([5, 3], 4));
        let [off, on] = kind.penalties(&Gaussian::new(mean.clone(), mean.ones_like()));
        values(mean.grad(&(off + on).backward()).unwrap())
    };
    for kind in [DipKind::I, DipKind::II] {
        let gradient = centred(kind);
        assert!(gradient.iter().any(|value| *value != 0.0));
        // A covariance does not see where all the codes lie.
        (0..3).for_each(|latent| assert!(gradient.iter().skip(latent).step_by(3).sum::<f32>().abs() < 1e-5));
    }
}

#[test]
fn the_capacity_grows_along_a_line_and_stays() {
    let capacity = Capacity { most: 25.0, steps: 10 };
    assert_eq!([0, 1, 5, 10, 999].map(|step| capacity.at(step)), [0.0, 2.5, 12.5, 25.0, 25.0]);
    assert_eq!(Capacity { most: 3.0, steps: 0 }.at(0), 3.0);
}

#[test]
fn the_discriminators_total_correlation_has_its_slope_at_the_codes_and_leaves_the_discriminator_alone() {
    let discriminator = DiscriminatorConfig { layers: 2, width: 8 }.init(3, 1, &cpu().autodiff());
    let codes = noise::<2>([6, 3], 8);
    let z = tracked(&codes);
    let gradients = Factor::total_correlation(&discriminator, z.clone()).backward();
    assert_eq!(without_gradient(&discriminator, &gradients).len(), 6, "three layers' weights and biases");
    let plain = discriminator.valid();
    let found = values(z.grad(&gradients).unwrap());
    assert!(found.iter().any(|value| value.abs() > 1e-3), "{found:?}");
    let told = |at: usize, by: f32| {
        let mut moved = values(codes.clone());
        moved[at] += by;
        let logits = values(plain.forward(Tensor::from_data(TensorData::new(moved, [6, 3]), &cpu())));
        logits.chunks(2).map(|pair| f64::from(pair[0]) - f64::from(pair[1])).sum::<f64>() / 6.0
    };
    for (at, found) in found.into_iter().enumerate() {
        let slope = (told(at, 1e-3) - told(at, -1e-3)) / 2e-3;
        // Differences of f32 logits near 1, over 2e-3.
        assert!((f64::from(found) - slope).abs() < 5e-4, "{at}: {found}, {slope}");
    }
    // The other way round: its own loss moves it and not the codes.
    let z = tracked(&codes);
    let loss = Factor::discriminator_loss(&discriminator, z.clone(), orders(6, 3, &mut random::stream(1, "test", 0)));
    let gradients = loss.backward();
    assert!(z.grad(&gradients).is_none());
    assert_eq!(without_gradient(&discriminator, &gradients), [""; 0]);
}

fn orders(batch: usize, latents: usize, rng: &mut impl Rng) -> Tensor<2, Int> {
    let orders = Factor::orders(batch, latents, rng);
    Tensor::<2>::from_data(TensorData::new(orders, [batch / 2, latents]), &cpu()).int()
}

#[test]
fn a_discriminator_learns_the_total_correlation_of_a_gaussian() {
    let r = 0.8f32;
    let codes = |count: usize, index: u64| {
        let mut rng = random::stream(3, "codes", index);
        let pair = (0..count).flat_map(|_| {
            let [a, b]: [f32; 2] = [rng.sample(StandardNormal), rng.sample(StandardNormal)];
            [a, r * a + (1.0 - r * r).sqrt() * b]
        });
        let pairs: Vec<f32> = pair.collect();
        Tensor::<2>::from_data(TensorData::new(pairs, [count, 2]), &cpu())
    };
    let mut discriminator = DiscriminatorConfig { layers: 3, width: 32 }.init(2, 1, &cpu().autodiff());
    let mut adam = Adam::new(AdamConfig { beta1: 0.5, beta2: 0.9, ..AdamConfig::default() });
    let fresh = codes(20_000, 1 << 40);
    let told = |of: &Discriminator| Factor::total_correlation(&of.valid(), fresh.clone()).into_scalar::<f32>();
    let before = told(&discriminator);
    for step in 0..400 {
        let z = Tensor::from_inner(codes(1024, step));
        let orders = orders(1024, 2, &mut random::stream(3, "permutation", step));
        let loss = Factor::discriminator_loss(&discriminator, z, orders);
        let gradients = ByName::of(&discriminator, loss.backward());
        discriminator = adam.step(discriminator, gradients, if step < 300 { 2e-3 } else { 2e-4 }, step);
    }
    let (told, wanted) = (told(&discriminator), -0.5 * (1.0 - r * r).ln());
    // 0.511 nats. Of 20 000 codes the mean's own error is 0.006; the rest is what 400 steps leave.
    assert!((told - wanted).abs() < 0.05 && (before - wanted).abs() > 0.2, "{before}, then {told} for {wanted}");
}

/// A small VAE of an objective, its run as it stands on disk, and its task.
fn session(run: &RunDir, objective: BetaVae) -> (Session<Vae>, VaeTask) {
    let (train, test, standardizer) = sets();
    let device = Device::flex();
    let model = ConvVaeConfig { segment_frames: 20, n_mels: 80, channels: [4, 4, 4], hidden: 8, latents: 3 };
    let model = VaeConfig::Conv(model);
    let load = |set| SegmentDataset::load(set, &standardizer, 20, &mut Room::unlimited()).unwrap();
    let task = VaeTask::new(load(&train), load(&test), objective.clone(), 4, 3, standardizer.std, 1, &device).unwrap();
    let fresh = model.init(1, &device.clone().autodiff());
    let session = match run.latest().unwrap() {
        Some(checkpoint) => Session::resume(fresh, checkpoint, &device).unwrap(),
        None => Session::start(fresh, config(model.into(), Objective::BetaVae(objective), 20), standardizer),
    };
    (session, task)
}

fn factor(gamma: f64) -> BetaVae {
    let discriminator = DiscriminatorConfig { layers: 2, width: 8 };
    let regularizer = Regularizer::Factor(Factor { gamma, discriminator, learning_rate: 1e-3 });
    BetaVae { regularizer, ..BetaVae::new(1.0) }
}

/// The gradients of a loss at the parameters whose names begin so.
fn gradients_of(model: &Vae, loss: Tensor<1>, of: &[&str]) -> Vec<f64> {
    let (mut adam, names) = (Adam::new(AdamConfig { beta1: 0.0, ..AdamConfig::default() }), parameters(model));
    let _ = adam.step(model.clone(), ByName::of(model, loss.backward()), 0.0, 0);
    let (_, moments) = adam.state(model); // with beta1 of 0 the first moment is the gradient
    let names = names.0.into_keys().filter(|name| of.iter().any(|start| name.starts_with(start)));
    names.flat_map(|name| moments.0[&format!("{name}.first")].1.clone()).map(f64::from).collect()
}

#[test]
fn the_encoder_is_trained_against_the_discriminator_and_the_decoder_is_not() {
    let folder = TempDir::new().unwrap();
    let run = RunDir::at(folder.path());
    let terms = |gamma: f64| {
        let (session, mut task) = session(&run, factor(gamma));
        let mut model = session.model().clone();
        let batch = task.draw(0).unwrap().on(&Device::flex());
        let terms = task.loss(&mut model, session.rival().map(|rival| rival.model()), &batch);
        (session, terms)
    };
    const ENCODER: [&str; 3] = ["encoder", "mean", "raw_scale"];
    let of = |gamma: f64, names: &[&str]| {
        let (session, terms) = terms(gamma);
        gradients_of(session.model(), terms.loss, names)
    };
    let [without, with, twice] = [0.0, 100.0, 200.0].map(|gamma| of(gamma, &ENCODER));
    let norm = |one: &[f64], other: &[f64]| one.iter().zip(other).map(|(a, b)| (a - b).powi(2)).sum::<f64>().sqrt();
    let moved = norm(&with, &without);
    assert!(moved > 1e-2, "{moved}");
    // What is added is the weight times one gradient.
    let uneven: Vec<f64> = with.iter().zip(&without).map(|(with, without)| 2.0 * with - without).collect();
    assert!(norm(&twice, &uneven) < 1e-4 * norm(&twice, &without), "{}", norm(&twice, &uneven));
    assert_eq!(of(0.0, &["decoder"]), of(100.0, &["decoder"]));
    // Each loss has gradients at its own network alone.
    let (session, Terms { loss, rival, .. }) = terms(100.0);
    let discriminator = session.rival().unwrap().model();
    assert_eq!(without_gradient(discriminator, &loss.backward()).len(), 6);
    let gradients = rival.unwrap().backward();
    assert_eq!(without_gradient(discriminator, &gradients), [""; 0]);
    assert_eq!(without_gradient(session.model(), &gradients).len(), parameters(session.model()).0.len());
}

/// The task with a rival's loss that is no number at these steps.
fn spoilt<'a>(task: VaeTask, steps: impl IntoIterator<Item = u64>) -> Wild<'a, VaeTask> {
    Wild::new(task, steps, |terms| Terms { rival: terms.rival.map(|loss| loss.mul_scalar(f32::NAN)), ..terms })
}

#[test]
fn a_discriminator_that_is_not_finite_changes_nothing_and_goes_back_with_the_vae() {
    let folder = TempDir::new().unwrap();
    let run = RunDir::at(folder.path());
    let (mut one, task) = session(&run, factor(35.0));
    let mut task = spoilt(task, [1]);
    assert!(one.advance(&mut task).unwrap().is_some());
    let before = one.state();
    assert!(before.1.0.contains_key("discriminator.hidden.0.weight.second"), "{:?}", before.1.0.keys());
    assert!(one.advance(&mut task).unwrap().is_none() && one.state() == before);
    assert!(one.advance(&mut task).unwrap().is_some());
    let after = one.state();
    assert!(after.1.0["discriminator.logits.weight"] != before.1.0["discriminator.logits.weight"]);

    let (mut one, task) = session(&run, factor(35.0));
    let mut task = spoilt(task, 8..8 + u64::from(SKIPS_IN_A_ROW));
    let (stop, mut back) = (AtomicUsize::new(0), Vec::new());
    let outcome = fit(&mut task, &mut one, &run, &LIMITS, &stop, &mut |report| {
        if let Report::RolledBack { from, to, .. } = report {
            back.push((from, to));
        }
    });
    assert_eq!((outcome.unwrap(), back), (Outcome::Finished, vec![(13, 5)]));
    // What it came to is what the checkpoint gone back to comes to, at half of both rates.
    let checkpoints = ["step-00000010", "step-00000015", "step-00000020"];
    checkpoints.iter().for_each(|step| fs::remove_dir_all(run.path().join(step)).unwrap());
    let (mut other, mut task) = session(&run, factor(35.0));
    assert_eq!((other.about.step, other.about.rate()), (5, 5e-4));
    fit(&mut task, &mut other, &run, &LIMITS, &stop, &mut |_| {}).unwrap();
    assert!(one.state() == other.state());
}

/// An objective's flags and, by what is shown of it, what the total is beside the reconstruction.
type Case = (&'static [&'static str], &'static [&'static str], fn(&dyn Fn(&str) -> f64) -> f64);

const CASES: [Case; 6] = [
    (
        &["--objective", "capacity", "--gamma", "20", "--capacity", "4", "--capacity-steps", "6"],
        &["kl", "capacity"],
        |of| 20.0 * (of("kl") - 4.0).abs(),
    ),
    (
        &["--objective", "factor", "--discriminator-learning-rate", "0.001", "--ema", "0.5"],
        &["kl", "total_correlation"],
        |of| of("kl") + 35.0 * of("total_correlation"),
    ),
    (
        &["--objective", "beta-tc", "--alpha", "0.5", "--kl-warmup-steps", "3"],
        &["kl", "mutual_information", "total_correlation", "dimension_kl"],
        |of| 0.5 * of("mutual_information") + 6.0 * of("total_correlation") + of("dimension_kl"),
    ),
    (
        &["--objective", "beta-tc", "--beta", "2", "--gamma", "0.5", "--tc-sampling", "stratified"],
        &["kl", "mutual_information", "total_correlation", "dimension_kl"],
        |of| of("mutual_information") + 2.0 * of("total_correlation") + 0.5 * of("dimension_kl"),
    ),
    (&["--objective", "dip", "--dip-kind", "i"], &["kl", "off_diagonal", "diagonal"], |of| {
        of("kl") + 10.0 * of("off_diagonal") + 100.0 * of("diagonal")
    }),
    (&["--objective", "dip", "--lambda-od", "5"], &["kl", "off_diagonal", "diagonal"], |of| {
        of("kl") + 5.0 * of("off_diagonal") + 5.0 * of("diagonal")
    }),
];

fn lines(logdir: &Path) -> Vec<Value> {
    let text = fs::read_to_string(logdir.join("metrics.jsonl")).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn every_objective_learns_shows_its_parts_and_resumes_to_the_bit() {
    let folder = TempDir::new().unwrap();
    for (index, (flags, names, total)) in CASES.into_iter().enumerate() {
        let train = |name: &str, steps: &str| {
            let logdir = folder.path().join(format!("{name}-{index}"));
            let more = ["--log-every", "1", "--eval-every", "5", "--learning-rate", "0.005"];
            let said = succeed("train-vae", &[&vae_flags(text(&logdir), steps), flags, &more].concat());
            assert!(!said.contains("skipped"), "{said}");
            logdir
        };
        let straight = train("straight", "20");
        train("resumed", "10");
        let resumed = train("resumed", "20");
        assert_same_checkpoint(&straight.join("step-00000020"), &resumed.join("step-00000020"));
        let lines = lines(&straight);
        assert_eq!(lines.len(), 24);
        for line in &lines {
            let of = |name: &str| line[format!("loss/{name}")].as_f64().unwrap_or_else(|| panic!("{name}: {line}"));
            let (found, wanted) = (of("total"), of("reconstruction") + total(&of));
            let bound = 2e-3 + 1e-6 * wanted.abs();
            // The mean of several batches' distances from the capacity is no less than that of their mean.
            let more = if index == 0 && line["phase"] == "test" { f64::INFINITY } else { bound };
            assert!((-bound..more).contains(&(found - wanted)), "{flags:?}: {found}, {wanted}: {line}");
            names.iter().for_each(|name| assert!(of(name).is_finite()));
        }
        let tested = lines.iter().filter(|line| line["phase"] == "test");
        let tested: Vec<f64> = tested.map(|line| line["loss/total"].as_f64().unwrap()).collect();
        assert!(tested[3] < tested[0] - 20.0, "{flags:?}: {tested:?}");
        let parts = about(&straight, "/config/objective/regularizer/form");
        assert_eq!(parts, flags[1]);
    }
    // The capacity that is shown is that of the step, and the last one where it is tested.
    let shown = lines(&folder.path().join("straight-0"));
    let steps = shown.iter().filter(|line| line["phase"] == "train");
    let capacities: Vec<f64> = steps.map(|line| line["loss/capacity"].as_f64().unwrap()).collect();
    let wanted: Vec<f64> = (0..8).map(|step| 4.0 * f64::from(step.min(6)) / 6.0).collect();
    assert!(capacities.iter().zip(&wanted).all(|(found, wanted)| (found - wanted).abs() < 1e-5), "{capacities:?}");
    assert!(shown.iter().filter(|line| line["phase"] == "test").all(|line| line["loss/capacity"] == 4.0));
    // The discriminator is as large as asked, in the checkpoint and not in the model that is used.
    let factor = folder.path().join("straight-1/step-00000020");
    let [model, rest] =
        ["model", "optimizer"].map(|name| NamedTensors::read(&factor.join(format!("{name}.safetensors"))).unwrap());
    assert!(model.0.keys().all(|name| !name.contains("discriminator")));
    assert_eq!(rest.0["discriminator.hidden.2.weight"].0, [64, 64]);
    assert_eq!(rest.0["discriminator.logits.bias.second"].0, [2]);
    assert!(!rest.0.contains_key("discriminator.logits.bias.raw"), "its average is nobody's");
    assert_eq!(
        lines(&folder.path().join("straight-1")).iter().filter(|line| line["loss/discriminator"].is_f64()).count(),
        20
    );
}

#[test]
fn a_discriminator_that_is_not_the_runs_is_refused_and_named() {
    let folder = TempDir::new().unwrap();
    let (logdir, flags) = (folder.path().join("run"), ["--objective", "factor"]);
    succeed("train-vae", &[&vae_flags(text(&logdir), "1"), &flags[..]].concat());
    let checkpoint = logdir.join("step-00000001");
    let path = checkpoint.join("optimizer.safetensors");
    let whole = NamedTensors::read(&path).unwrap();
    let names = ["discriminator.logits.weight", "discriminator.hidden.0.bias.first"];
    for name in names {
        let mut less = whole.clone();
        less.0.remove(name).unwrap();
        fs::write(&path, less.to_bytes()).unwrap();
        seal(&checkpoint);
        let said = fail("train-vae", &[&vae_flags(text(&logdir), "2"), &flags[..]].concat());
        let short = name.trim_start_matches("discriminator.");
        assert!(said.contains("optimizer.safetensors") && said.contains(&format!("{short} is missing")), "{said}");
    }
    // What is heard of the run needs none of it.
    fs::remove_file(&path).unwrap();
    succeed(
        "synth",
        &["encode", "--vae", text(&checkpoint), text(&first_test()), text(&folder.path().join("codes.npz"))],
    );
}

fn first_test() -> std::path::PathBuf {
    crate::pipeline::files(&fixture().test, "npz").remove(0)
}

#[test]
fn flags_of_another_objective_are_refused_by_name() {
    let folder = TempDir::new().unwrap();
    let refused = |more: &[&str]| {
        let said = fail("train-vae", &[&vae_flags(text(&folder.path().join("run")), "1"), more].concat());
        assert_eq!(said.lines().count(), 1, "{said}");
        said
    };
    let cases: [(&[&str], &str); 14] = [
        (
            &["--gamma", "2"],
            "--gamma is for --objective capacity or factor or beta-tc; leave it out with --objective beta",
        ),
        (&["--objective", "capacity", "--beta", "2"], "--beta is for --objective beta or beta-tc"),
        (&["--objective", "capacity", "--kl-warmup-steps", "2"], "--kl-warmup-steps is for"),
        (&["--objective", "factor", "--beta", "2"], "leave it out with --objective factor"),
        (&["--objective", "factor", "--alpha", "2"], "--alpha is for --objective beta-tc"),
        (&["--objective", "dip", "--capacity", "2"], "--capacity is for --objective capacity"),
        (&["--objective", "dip", "--tc-sampling", "weighted"], "--tc-sampling is for --objective beta-tc"),
        (&["--lambda-d", "2"], "--lambda-d is for --objective dip"),
        (&["--objective", "beta-tc", "--discriminator-width", "2"], "--discriminator-width is for --objective factor"),
        (&["--objective", "factor", "--discriminator-width", "0"], "--discriminator-width 0: must be 1 to 16384"),
        (&["--objective", "factor", "--gamma", "nan"], "--gamma NaN: must be 0 to 1000000"),
        (&["--objective", "factor", "--batch-size", "3"], "--batch-size 3: --objective factor needs at least 4"),
        (&["--objective", "beta-tc", "--batch-size", "1"], "--batch-size 1: --objective beta-tc needs at least 2"),
        (&["--objective", "factor", "--discriminator-learning-rate", "0"], "--discriminator-learning-rate 0: must be"),
    ];
    for (flags, wanted) in cases {
        let said = refused(flags);
        assert!(said.contains(wanted), "{flags:?}: {said}");
    }
}

#[test]
fn objectives_go_with_the_other_network_and_recipe_with_files_of_flags_and_with_other_runs_models() {
    let folder = TempDir::new().unwrap();
    let path = |name: &str| folder.path().join(name);
    let (plain, tuned) = (path("plain"), path("tuned"));
    succeed("train-vae", &vae_flags(text(&plain), "2"));
    assert_eq!(about(&plain, "/config/objective/regularizer"), json!(null), "as run files of earlier versions have it");
    let from = ["--init-from", text(&plain), "--objective", "factor", "--gamma", "7"];
    assert!(succeed("train-vae", &[&vae_flags(text(&tuned), "2"), &from[..]].concat()).contains("beginning with"));
    let file = tuned.join("config.toml");
    let again = ["--config", text(&file), "--steps", "3"];
    assert!(succeed("train-vae", &again).contains("from step 2"));
    assert_eq!(about(&tuned, "/config/objective/regularizer/gamma"), json!(7.0));
    let said = fail("train-vae", &vae_flags(text(&tuned), "4"));
    assert!(said.contains("objective.regularizer: {"), "{said}");
    let data = fixture();
    let base = [text(&data.train), text(&data.test), "--device", "cpu", "--steps", "2", "--batch-size", "8"];
    for (index, objective) in ["capacity", "factor", "beta-tc", "dip"].into_iter().enumerate() {
        let logdir = path(objective);
        let lstm: &[&str] = match index % 2 {
            0 => &["--preset", "workshop", "--cells", "8"],
            _ => &["--preset", "tiny", "--arch", "lstm", "--cells", "8"],
        };
        succeed("train-vae", &[&[text(&logdir)], &base[..], lstm, &["--objective", objective]].concat());
        assert_eq!(about(&logdir, "/step"), 2);
    }
}

#[test]
fn a_test_set_that_does_not_divide_into_batches_is_told_of_all_the_same_and_too_small_a_one_is_refused() {
    let folder = TempDir::new().unwrap();
    let run = folder.path().join("run");
    // Ten segments: by threes, one would be left.
    let objective = ["--objective", "beta-tc", "--tc-sampling", "stratified", "--batch-size", "3"];
    succeed("train-vae", &[&vae_flags(text(&run), "2")[..], &objective[..]].concat());
    assert!(about(&run, "/test/total_correlation").as_f64().unwrap().is_finite());
    let other = folder.path().join("other");
    let long = ["--objective", "dip", "--segment-frames", "108"];
    let said = fail("train-vae", &[&vae_flags(text(&other), "2")[..], &long[..]].concat());
    assert!(said.contains("the test set holds 1 segments; this objective can be told of 2 or more"), "{said}");
}
