//! The recurrent VAE: its layer, its two forms, and the terms of the workshop's objective.

use burn::module::Param;
use burn::nn::Linear;
use burn::tensor::{Device, Tensor};
use vae_workshop::models::{
    ConvVaeConfig, Gaussian, LstmVaeConfig, Scale, VaeConfig, mean_half_squared_norm, parameter_count,
};
use vae_workshop::nn::{Init, Lstm};
use vae_workshop::run::{AdamConfig, BetaVae, Objective, load_parameters, parameters};
use vae_workshop::train::{Adam, ByName};

use crate::models::{cpu, noise, values, without_gradient};

fn tiny(scale: Scale) -> LstmVaeConfig {
    LstmVaeConfig { segment_frames: 6, n_mels: 10, cells: 12, latents: 5, scale }
}

#[test]
fn the_default_size_has_the_stated_number_of_parameters() {
    let vae = LstmVaeConfig { segment_frames: 20, n_mels: 80, cells: 256, latents: 32, scale: Scale::Softplus };
    // Encoder 4 * 256 * (80 + 256 + 1), decoder 4 * 256 * (32 + 256 + 1), heads 257 * (2 * 32 + 2 * 80).
    assert_eq!(parameter_count(&vae.init(0, &cpu().autodiff())), 345_088 + 295_936 + 57_568);
}

#[test]
fn the_lstm_equals_its_equations_written_out() {
    let (inputs, cells, batch, frames) = (3, 4, 2, 7);
    let lstm = Lstm::new(inputs, cells, &mut Init::new(7, &cpu()));
    let x = noise([batch, frames, inputs], 1);
    let found = values(lstm.forward(x.clone())); // [batch, frames, cells]
    let x = values(x);
    let all = parameters(&lstm).0;
    let tensor = |name: &str, row: usize, column: usize| f64::from(all[name].1[row * 4 * cells + column]);
    let sigmoid = |v: f64| 1.0 / (1.0 + (-v).exp());
    for b in 0..batch {
        let (mut h, mut c) = (vec![0.0f64; cells], vec![0.0f64; cells]);
        for t in 0..frames {
            let gate = |gate: usize, cell: usize| {
                let column = gate * cells + cell;
                let input = |i: usize| f64::from(x[(b * frames + t) * inputs + i]) * tensor("weight_input", i, column);
                let hidden = |i: usize| h[i] * tensor("weight_hidden", i, column);
                (0..inputs).map(input).sum::<f64>() + (0..cells).map(hidden).sum::<f64>() + tensor("bias", 0, column)
            };
            let next: Vec<(f64, f64)> = (0..cells)
                .map(|cell| {
                    let [i, f, g, o] = [0, 1, 2, 3].map(|index| gate(index, cell));
                    let c = sigmoid(f) * c[cell] + sigmoid(i) * g.tanh();
                    (sigmoid(o) * c.tanh(), c)
                })
                .collect();
            (h, c) = next.into_iter().unzip();
            for cell in 0..cells {
                // Values below 1 in f32, a few dozen operations a step.
                assert!(
                    (f64::from(found[(b * frames + t) * cells + cell]) - h[cell]).abs() < 1e-5,
                    "sequence {b}, frame {t}"
                );
            }
        }
    }
}

#[test]
fn a_repeated_input_gives_what_it_gives_written_out_for_each_frame_and_the_same_gradients() {
    let lstm = Lstm::new(3, 4, &mut Init::new(7, &cpu().autodiff()));
    let x = noise([2, 3], 1);
    let run = |all: Tensor<3>| {
        let gradients = all.clone().square().sum().backward();
        let norm = ByName::of(&lstm, gradients).norm;
        (values(all.inner()), values(norm))
    };
    let (repeated, norm) = run(lstm.forward_repeated(x.clone(), 5));
    let (written, norm_written) = run(lstm.forward(x.unsqueeze_dim::<3>(1).expand([2, 5, 3])));
    assert!(repeated.iter().zip(&written).all(|(a, b)| (a - b).abs() < 1e-6));
    assert!((norm[0] - norm_written[0]).abs() < 1e-4 * norm[0], "{norm:?} {norm_written:?}");
}

#[test]
fn both_forms_give_one_scale_for_each_latent_and_bin_that_starts_near_one() {
    for scale in [Scale::Softplus, Scale::Exp] {
        let model = VaeConfig::Lstm(tiny(scale)).init(1, &cpu());
        let posterior = model.encode(noise([3, 6, 10], 2));
        assert_eq!(posterior.mean().dims(), [3, 5]);
        let bins = model.decode(posterior.mean());
        assert_eq!(bins.mean().dims(), [3, 6, 10]);
        for scale in values(posterior.scale()).into_iter().chain(values(bins.scale())) {
            assert!((0.7..1.4).contains(&scale), "{scale}");
        }
    }
}

#[test]
fn sizes_that_make_no_model_are_refused_with_the_flag_to_change() {
    let message = |config: LstmVaeConfig| config.validate().unwrap_err().to_string();
    assert!(message(LstmVaeConfig { segment_frames: 1, ..tiny(Scale::Exp) }).contains("--segment-frames 1"));
    assert!(message(LstmVaeConfig { cells: 0, ..tiny(Scale::Exp) }).contains("--cells"));
}

#[test]
fn a_gradient_reaches_every_parameter_of_both_forms() {
    for scale in [Scale::Softplus, Scale::Exp] {
        let model = tiny(scale).init(1, &cpu().autodiff());
        let x = noise([4, 6, 10], 2);
        let posterior = model.encode(x.clone());
        let z = posterior.sample(noise([4, 5], 3));
        let loss = model.decode(z.clone()).negative_log_likelihood(x) + posterior.log_ratio_to_standard(z).sum();
        assert_eq!(without_gradient(&model, &loss.backward()), Vec::<String>::new());
    }
}

#[test]
fn the_recurrent_vae_overfits_one_batch() {
    let mut model = tiny(Scale::Softplus).init(1, &cpu().autodiff());
    let mut adam = Adam::new(AdamConfig::default());
    let x = noise([4, 1, 10], 2).expand([4, 6, 10]); // constant in time: learnable through five latents
    let mut losses = Vec::new();
    for step in 0..500 {
        let posterior = model.encode(x.clone());
        let bins = model.decode(posterior.sample(noise([4, 5], step)));
        let loss = bins.negative_log_likelihood(x.clone()).div_scalar(4.0 * 60.0);
        losses.push(loss.clone().inner().into_scalar::<f32>());
        model = adam.step(model.clone(), ByName::of(&model, loss.backward()), 1e-2, step);
    }
    // Guessing the mean costs 1.42 nats a bin; at the scale's floor of 0.1 a perfect prediction costs -1.38.
    assert!(losses[0] > 1.2 && losses[499] < 0.2, "from {} to {}", losses[0], losses[499]);
}

#[test]
fn a_models_names_do_not_say_which_architecture_it_is_and_another_ones_values_are_refused() {
    let conv = ConvVaeConfig { segment_frames: 8, n_mels: 16, channels: [2, 2, 2], hidden: 4, latents: 3 };
    let (bare, wrapped) = (conv.init(1, &cpu()), VaeConfig::Conv(conv.clone()).init(1, &cpu()));
    assert_eq!(parameters(&bare), parameters(&wrapped));
    let path = std::path::Path::new("model.safetensors");
    let loaded = load_parameters(VaeConfig::Conv(conv).init(2, &cpu()), &parameters(&bare), path).unwrap();
    assert_eq!(parameters(&loaded), parameters(&bare));
    let recurrent = VaeConfig::Lstm(tiny(Scale::Softplus)).init(1, &cpu());
    let message = load_parameters(recurrent, &parameters(&bare), path).unwrap_err().to_string();
    assert!(message.contains("encoder.weight_input is missing"), "{message}");
}

#[test]
fn the_divergence_at_single_samples_averages_to_the_closed_form() {
    let row = |values: [f32; 3]| Tensor::<2>::from_floats([values], &cpu());
    let gaussian = Gaussian::new(row([0.0, 1.5, -0.5]), row([1.0, 0.3, 2.0]));
    let count = 40_000;
    let many = |tensor: &Tensor<2>| tensor.clone().expand([count, 3]);
    let repeated = Gaussian::new(many(&gaussian.mean()), many(&gaussian.scale()));
    let found = repeated.log_ratio_to_standard(repeated.sample(noise([count, 3], 4))).mean_dim(0);
    let wanted = values(gaussian.kl_from_standard());
    for (index, (found, wanted)) in values(found).into_iter().zip(wanted).enumerate() {
        // The ratio at mean + scale * e is a constant + mean * scale * e + (scale^2 - 1) / 2 * e^2: its deviations are
        // 0, 0.78 and 2.35 for these three. Five standard errors of the mean, and f32's rounding.
        let deviation = [0.0, 0.78, 2.35][index];
        let bound = 5.0 * deviation / (count as f32).sqrt() + 1e-4;
        assert!((found - wanted).abs() < bound, "latent {index}: {found}, {wanted}");
    }
}

#[test]
fn the_penalty_is_the_mean_over_tensors_of_half_their_squared_norm() {
    let device = Device::flex().autodiff();
    let layer = Linear {
        weight: Param::from_tensor(Tensor::from_floats([[1.0, -2.0], [0.5, 3.0]], &device)),
        bias: Some(Param::from_tensor(Tensor::from_floats([2.0, -1.0], &device))),
    };
    // Squares: 1 + 4 + 0.25 + 9 = 14.25 and 4 + 1 = 5; half of each, then their mean.
    let penalty = mean_half_squared_norm(&layer);
    assert!((penalty.clone().inner().into_scalar::<f32>() - 0.5 * (7.125 + 2.5)).abs() < 1e-6);
    let gradient = layer.weight.val().grad(&penalty.backward()).unwrap();
    assert_eq!(values(gradient), [0.5, -1.0, 0.25, 1.5]); // each value over the number of tensors
}

#[test]
fn an_objective_of_an_earlier_version_reads_as_the_plain_one() {
    let old: Objective = serde_json::from_str(r#"{"objective": "beta-vae", "beta": 8.0}"#).unwrap();
    assert_eq!(old, Objective::BetaVae(BetaVae::new(8.0)));
}
