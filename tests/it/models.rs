//! Models: shapes, gradients, learning, padding.

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{Device, Gradients, Tensor, TensorData};
use rand::Rng;
use rand_distr::StandardNormal;
use vae_workshop::models::{Cbhg, CbhgConfig, ConvVaeConfig, parameter_count};
use vae_workshop::nn::{After, BiGru, ConvBank, Init, Lengths, MaskedBatchNorm, TimeConv};
use vae_workshop::random;
use vae_workshop::run::{AdamConfig, parameters};
use vae_workshop::train::{Adam, ByName};

pub fn cpu() -> Device {
    Device::flex()
}

pub fn noise<const D: usize>(shape: [usize; D], seed: u64) -> Tensor<D> {
    let rng = random::stream(seed, "test", 0);
    let values: Vec<f32> = rng.sample_iter(StandardNormal).take(shape.iter().product()).collect();
    Tensor::from_data(TensorData::new(values, shape), &cpu())
}

pub fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.try_into_vec_as().unwrap()
}

fn assert_close(one: &[f32], other: &[f32], tolerance: f32) {
    assert_eq!(one.len(), other.len());
    let worst = one.iter().zip(other).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(worst <= tolerance, "values differ by up to {worst}");
}

fn tiny_vae() -> ConvVaeConfig {
    ConvVaeConfig { segment_frames: 20, n_mels: 80, channels: [4, 6, 8], hidden: 16, latents: 5 }
}

fn tiny_cbhg() -> CbhgConfig {
    CbhgConfig { n_mels: 10, bins: 17, bank_size: 5, channels: 8, highway_layers: 2, gru_cells: 6, small_output: false }
}

/// Names of trained parameters whose gradient is missing or all zero.
pub fn without_gradient<M: Module>(model: &M, gradients: &Gradients) -> Vec<String> {
    struct Visit<'a>(&'a Gradients, Vec<String>, Vec<String>);
    impl ModuleVisitor for Visit<'_> {
        fn enter_module(&mut self, name: &str, _: &str) {
            self.1.push(name.into());
        }
        fn exit_module(&mut self, _: &str, _: &str) {
            self.1.pop();
        }
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            let gradient = param.val().grad(self.0);
            let reached = gradient.is_some_and(|gradient| values(gradient).iter().any(|value| *value != 0.0));
            if param.is_require_grad() && !reached {
                self.2.push(self.1.join("."));
            }
        }
    }
    let mut visit = Visit(gradients, Vec::new(), Vec::new());
    model.visit(&mut visit);
    visit.2
}

#[test]
fn the_default_models_have_the_stated_numbers_of_parameters() {
    let vae = ConvVaeConfig { segment_frames: 20, n_mels: 80, channels: [32, 64, 64], hidden: 256, latents: 32 };
    assert_eq!(parameter_count(&vae.init(0, &cpu().autodiff())), 1_832_386);
    let cbhg = CbhgConfig {
        n_mels: 80,
        bins: 513,
        bank_size: 16,
        channels: 128,
        highway_layers: 4,
        gru_cells: 128,
        small_output: true,
    };
    assert_eq!(parameter_count(&cbhg.init(0, &cpu().autodiff())), 2_686_753);
}

#[test]
fn the_vae_gives_one_scale_for_each_latent_and_bin_that_starts_near_one() {
    let model = tiny_vae().init(1, &cpu());
    let posterior = model.encode(noise([3, 20, 80], 2));
    assert_eq!(posterior.mean().dims(), [3, 5]);
    let bins = model.decode(posterior.mean());
    assert_eq!(bins.mean().dims(), [3, 20, 80]);
    for scale in values(posterior.scale()).into_iter().chain(values(bins.scale())) {
        assert!((0.7..1.4).contains(&scale), "{scale}");
    }
}

#[test]
fn sizes_that_do_not_fit_are_refused_with_the_flag_to_change() {
    let message = |config: ConvVaeConfig| config.validate().unwrap_err().to_string();
    assert!(message(ConvVaeConfig { segment_frames: 18, ..tiny_vae() }).contains("--segment-frames 18"));
    assert!(message(ConvVaeConfig { n_mels: 60, ..tiny_vae() }).contains("60 mel bands"));
    assert!(message(ConvVaeConfig { latents: 0, ..tiny_vae() }).contains("--latents"));
    assert!(CbhgConfig { bank_size: 0, ..tiny_cbhg() }.validate().unwrap_err().to_string().contains("--bank-size"));
}

#[test]
fn a_seed_decides_the_parameters() {
    let of = |seed| parameters(&tiny_vae().init(seed, &cpu()));
    assert_eq!(of(4), of(4));
    assert_ne!(of(4), of(5));
}

#[test]
fn a_gradient_reaches_every_parameter_of_the_vae() {
    let model = tiny_vae().init(1, &cpu().autodiff());
    let x = noise([4, 20, 80], 2);
    let posterior = model.encode(x.clone());
    let bins = model.decode(posterior.sample(noise([4, 5], 3)));
    let loss = bins.negative_log_likelihood(x) + posterior.total_kl_from_standard();
    assert_eq!(without_gradient(&model, &loss.backward()), Vec::<String>::new());
}

#[test]
fn a_gradient_reaches_every_parameter_of_the_cbhg() {
    let mut model = tiny_cbhg().init(1, &cpu().autodiff());
    let lengths = Lengths::new(vec![9, 6], 9, &cpu());
    let y = model.forward_train(noise([2, 9, 10], 2), &lengths);
    assert_eq!(without_gradient(&model, &y.square().sum().backward()), Vec::<String>::new());
}

#[test]
fn the_vae_overfits_one_batch() {
    let mut model = tiny_vae().init(1, &cpu().autodiff());
    let mut adam = Adam::new(AdamConfig::default());
    let x = noise([4, 1, 80], 2).expand([4, 20, 80]); // constant in time: learnable through five latents
    let mut losses = Vec::new();
    for step in 0..500 {
        let posterior = model.encode(x.clone());
        let bins = model.decode(posterior.sample(noise([4, 5], step)));
        let loss = bins.negative_log_likelihood(x.clone()).div_scalar(4.0 * 1600.0);
        losses.push(loss.clone().inner().into_scalar::<f32>());
        model = adam.step(model.clone(), ByName::of(&model, loss.backward()), 3e-3, step);
    }
    // Guessing the mean costs 1.42 nats a bin; at the scale's floor of 0.1 a perfect prediction costs -1.38.
    assert!(losses[0] > 1.2 && losses[499] < 0.2, "from {} to {}", losses[0], losses[499]);
}

#[test]
fn the_cbhg_overfits_one_batch() {
    let mut model = tiny_cbhg().init(1, &cpu().autodiff());
    let mut adam = Adam::new(AdamConfig::default());
    let lengths = Lengths::new(vec![12, 8], 12, &cpu());
    let (x, y) = (noise([2, 12, 10], 2), noise([2, 12, 17], 3));
    let mut losses = Vec::new();
    for step in 0..300 {
        let error = lengths.zero_padding(model.forward_train(x.clone(), &lengths) - y.clone());
        let loss = error.abs().sum().div_scalar(20.0 * 17.0);
        losses.push(loss.clone().inner().into_scalar::<f32>());
        model = adam.step(model.clone(), ByName::of(&model, loss.backward()), 1e-2, step);
    }
    assert!(losses[299] < 0.3 * losses[0], "from {} to {}", losses[0], losses[299]);
}

#[test]
fn padding_changes_nothing_in_real_frames_statistics_or_gradients() {
    let config = tiny_cbhg();
    let x = noise([1, 7, 10], 2);
    let padded = Tensor::cat(vec![x.clone(), noise([1, 5, 10], 9)], 1); // garbage in the padding
    let run = |model: &mut Cbhg, x: Tensor<3>, frames: usize| {
        let lengths = Lengths::new(vec![7], frames, &cpu());
        let y = model.forward_train(x, &lengths).slice([0..1, 0..7, 0..17]);
        let gradients = y.clone().square().sum().backward();
        let mut adam = Adam::new(AdamConfig::default());
        let stepped = adam.step(model.clone(), ByName::of(model, gradients), 1e-3, 0);
        (values(y.inner()), parameters(&stepped), adam.state(&stepped).1)
    };
    let mut one = config.init(1, &cpu().autodiff());
    let mut other = one.clone();
    let (y, _, gradients) = run(&mut one, x.clone(), 7);
    let (y_padded, _, gradients_padded) = run(&mut other, padded.clone(), 12);
    assert_close(&y, &y_padded, 1e-5);
    // Relative to each tensor's largest; what a normalisation cancels is rounding alone, small beside the largest of all.
    let largest = |values: &[f32]| values.iter().fold(0.0f32, |most, value| most.max(value.abs()));
    let first = |(name, _): &(&String, &(Vec<usize>, Vec<f32>))| name.ends_with(".first");
    let of_all = gradients.0.iter().filter(first).map(|(_, (_, gradient))| largest(gradient)).fold(0.0, f32::max);
    for (name, (_, gradient)) in gradients.0.iter().filter(first) {
        let tolerance = 1e-5 * largest(gradient) + 1e-7 * of_all;
        assert_close(gradient, &gradients_padded.0[name].1, tolerance);
    }
    for (name, (_, running)) in parameters(&one).0.iter().filter(|(name, _)| name.contains("running")) {
        assert_close(running, &parameters(&other).0[name].1, 1e-6);
    }
    // Inference as well: the running statistics of both agree now.
    let infer = |model: &Cbhg, x, frames| model.valid().forward(x, &Lengths::new(vec![7], frames, &cpu()));
    let y = infer(&one, x, 7);
    assert_close(&values(y), &values(infer(&other, padded, 12).slice([0..1, 0..7, 0..17])), 1e-5);
}

#[test]
fn the_gru_equals_its_equations_written_out() {
    let (inputs, cells, batch, frames) = (3, 4, 2, 6);
    let gru = BiGru::new(inputs, cells, &mut Init::new(7, &cpu()));
    let x = noise([batch, frames, inputs], 1);
    let lengths = [6usize, 4];
    let y = gru.forward(x.clone(), &Lengths::new(lengths.to_vec(), frames, &cpu()));
    let (x, y) = (values(x), values(y));
    let all = parameters(&gru).0;
    let tensor = |name: &str, d: usize, row: usize, column: usize| {
        let (shape, values) = &all[name];
        f64::from(values[(d * shape[1] + row) * shape[2] + column])
    };
    let sigmoid = |v: f64| 1.0 / (1.0 + (-v).exp());
    for b in 0..batch {
        for d in 0..2 {
            let mut h = vec![0.0f64; cells];
            for step in 0..lengths[b] {
                let t = if d == 0 { step } else { lengths[b] - 1 - step };
                let gate = |gate: usize, cell: usize| {
                    let column = gate * cells + cell;
                    let input: f64 = (0..inputs)
                        .map(|i| f64::from(x[(b * frames + t) * inputs + i]) * tensor("weight_input", d, i, column))
                        .sum();
                    let hidden: f64 = (0..cells).map(|i| h[i] * tensor("weight_hidden", d, i, column)).sum();
                    (input + tensor("bias_input", d, 0, column), hidden + tensor("bias_hidden", d, 0, column))
                };
                h = (0..cells)
                    .map(|cell| {
                        let [(ri, rh), (zi, zh), (ni, nh)] = [0, 1, 2].map(|g| gate(g, cell));
                        let (r, z) = (sigmoid(ri + rh), sigmoid(zi + zh));
                        (1.0 - z) * (ni + r * nh).tanh() + z * h[cell]
                    })
                    .collect();
                for cell in 0..cells {
                    let found = f64::from(y[(b * frames + t) * 2 * cells + d * cells + cell]);
                    assert!((found - h[cell]).abs() < 1e-5, "sequence {b}, direction {d}, frame {t}");
                }
            }
        }
    }
    assert!(y[(frames + 4) * 2 * cells..].iter().all(|value| *value == 0.0), "padding is zero");
}

#[test]
fn convolutions_equal_their_sums_written_out() {
    let (inputs, outputs, frames) = (3, 2, 7);
    let init = &mut Init::new(5, &cpu());
    let x = noise([1, frames, inputs], 1);
    // Of frame `t`, with the weight of each tap and input.
    let sum = |x: &[f32], t: usize, width: usize, weight: &dyn Fn(usize, usize) -> f32| {
        let mut sum = 0.0;
        for tap in 0..width {
            let seen = (t + tap) as i64 - ((width - 1) / 2) as i64;
            if (0..frames as i64).contains(&seen) {
                sum += (0..inputs).map(|i| x[seen as usize * inputs + i] * weight(tap, i)).sum::<f32>();
            }
        }
        sum
    };
    for width in [1usize, 2, 3, 4, 5] {
        let conv = TimeConv::new(inputs, outputs, width, init);
        let weight = &parameters(&conv).0["weight"].1; // [inputs, width * outputs]
        let (y, x) = (values(conv.forward(x.clone())), values(x.clone()));
        for t in 0..frames {
            for o in 0..outputs {
                let wanted = sum(&x, t, width, &|tap, i| weight[i * width * outputs + tap * outputs + o]);
                assert!((y[t * outputs + o] - wanted).abs() < 1e-5, "width {width}, frame {t}");
            }
        }
    }
    let bank = ConvBank::new(inputs, outputs, 4, init);
    let all = parameters(&bank).0;
    let (y, x) = (values(bank.forward(x.clone())), values(x));
    for (index, width) in (1usize..=4).enumerate() {
        let weight = &all[&format!("weights.{index}")].1; // [width * inputs, outputs]
        for t in 0..frames {
            for o in 0..outputs {
                let wanted = sum(&x, t, width, &|tap, i| weight[(tap * inputs + i) * outputs + o]);
                assert!((y[t * 4 * outputs + index * outputs + o] - wanted).abs() < 1e-5, "width {width}, frame {t}");
            }
        }
    }
}

#[test]
fn batch_normalisation_makes_real_frames_zero_mean_and_unit_variance() {
    let norm = MaskedBatchNorm::new(3, &mut Init::new(0, &cpu().autodiff()));
    let lengths = Lengths::new(vec![5, 3], 5, &cpu());
    let x = lengths.zero_padding(noise([2, 5, 3], 1).mul_scalar(2.0).add_scalar(4.0));
    let y = values(norm.forward_train(x, &lengths, After::Nothing, &mut Vec::new()).inner());
    for channel in 0..3 {
        let real: Vec<f32> = (0..10).filter(|&t| t < 5 || t < 8).map(|t| y[t * 3 + channel]).collect();
        let mean = real.iter().sum::<f32>() / 8.0;
        let variance = real.iter().map(|v| (v - mean).powi(2)).sum::<f32>() / 8.0;
        assert!(mean.abs() < 1e-5 && (variance - 1.0).abs() < 2e-3, "mean {mean}, variance {variance}");
    }
}
