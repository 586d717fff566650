//! The CPU's kernels against Burn's own operations: same results, same gradients.

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{Device, Gradients, Tensor, TensorData};
use vae_workshop::kernels::plain;
use vae_workshop::models::{CbhgConfig, ConvVaeConfig, LstmVaeConfig, Scale, Vae, VaeConfig};
use vae_workshop::nn::{After, BiGru, ConvBank, Highway, Init, Lengths, Lstm, MaskedBatchNorm, TimeConv};

fn device() -> Device {
    Device::flex().autodiff()
}

fn noise<const D: usize>(shape: [usize; D], seed: u64) -> Tensor<D> {
    noise_on(&device(), shape, seed)
}

/// Values between -1 and 1 without a pattern, a function of `seed`.
pub fn noise_on<const D: usize>(device: &Device, shape: [usize; D], seed: u64) -> Tensor<D> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    };
    let values: Vec<f32> = (0..shape.iter().product()).map(|_| next()).collect();
    Tensor::from_data(TensorData::new(values, shape), device)
}

fn values<const D: usize>(x: Tensor<D>) -> Vec<f32> {
    x.inner().try_into_vec_as().unwrap()
}

/// The largest difference relative to the largest value.
pub fn distance(found: &[f32], wanted: &[f32]) -> f32 {
    assert_eq!(found.len(), wanted.len());
    let largest = wanted.iter().fold(1e-6f32, |most, value| most.max(value.abs()));
    found.iter().zip(wanted).map(|(a, b)| (a - b).abs() / largest).fold(0.0, f32::max)
}

/// The gradient of every parameter, by order of visit.
pub fn gradients<M: Module>(model: &M, gradients: &Gradients) -> Vec<Vec<f32>> {
    struct Collect<'a>(&'a Gradients, Vec<Vec<f32>>);
    impl ModuleVisitor for Collect<'_> {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            if param.is_require_grad() {
                let gradient = param.val().grad(self.0).map(|gradient| gradient.try_into_vec_as().unwrap());
                self.1.push(gradient.unwrap_or_else(|| vec![0.0; param.dims().iter().product()])); // none: not used
            }
        }
    }
    let mut collect = Collect(gradients, Vec::new());
    model.visit(&mut collect);
    collect.1
}

/// Checks that `forward` gives the same output, gradient of `x` and gradients of all parameters with kernels and without.
fn assert_same<M: Module, const D: usize, const E: usize>(
    name: &str,
    model: &M,
    x: Tensor<D>,
    forward: impl Fn(&M, Tensor<D>) -> Tensor<E>,
) {
    let run = || {
        let x = x.clone().require_grad();
        let y = forward(model, x.clone());
        let weights = noise(y.dims(), 99);
        let found = (y.clone() * weights).sum().backward();
        (values(y), x.grad(&found).map(|gradient| gradient.try_into_vec_as().unwrap()), gradients(model, &found))
    };
    let (y, for_x, for_parameters): (_, Option<Vec<f32>>, _) = run();
    let (wanted_y, wanted_for_x, wanted_for_parameters): (_, Option<Vec<f32>>, _) = plain(run);
    assert!(distance(&y, &wanted_y) < 1e-5, "{name}: output differs by {}", distance(&y, &wanted_y));
    let (for_x, wanted) = (for_x.expect("a gradient of x"), wanted_for_x.expect("a gradient of x"));
    assert!(distance(&for_x, &wanted) < 1e-4, "{name}: gradient of the input differs by {}", distance(&for_x, &wanted));
    assert_eq!(for_parameters.len(), wanted_for_parameters.len(), "{name}: parameters with a gradient");
    for (index, (found, wanted)) in for_parameters.iter().zip(&wanted_for_parameters).enumerate() {
        let distance = distance(found, wanted);
        assert!(distance < 1e-4, "{name}: gradient of parameter {index} differs by {distance}");
    }
}

/// Batches of one length, of several, of one frame, and larger than what one task takes.
pub fn batches() -> Vec<Lengths> {
    let of = |lengths: Vec<usize>, frames| Lengths::new(lengths, frames, &Device::flex());
    vec![of(vec![7, 7, 7], 7), of(vec![9, 1, 4, 9], 9), of(vec![1], 1), of(vec![2, 1], 2), of((1..=37).collect(), 37)]
}

#[test]
fn gru_kernel_equals_the_gru_step_by_step() {
    let gru = BiGru::new(5, 6, &mut Init::new(1, &device()));
    for (seed, lengths) in batches().into_iter().enumerate() {
        let x = noise([lengths.each().len(), *lengths.each().iter().max().unwrap(), 5], seed as u64);
        assert_same(&format!("batch {seed}"), &gru, x, |gru, x| gru.forward(x, &lengths));
    }
}

#[test]
fn lstm_kernel_equals_the_lstm_step_by_step() {
    let lstm = Lstm::new(5, 6, &mut Init::new(1, &device()));
    for (batch, frames) in [(1, 1), (3, 8), (35, 3)] {
        assert_same("sequence", &lstm, noise([batch, frames, 5], 2), |lstm, x| lstm.forward(x));
        assert_same("repeated", &lstm, noise([batch, 5], 3), |lstm, x| lstm.forward_repeated(x, frames));
    }
}

#[test]
fn kernels_over_time_equal_their_layers() {
    let init = &mut Init::new(1, &device());
    let (bank, narrow) = (ConvBank::new(5, 6, 7, init), ConvBank::new(3, 2, 1, init));
    let convs: Vec<TimeConv> = (1..=4).map(|width| TimeConv::new(5, 6, width, init)).collect();
    let highway = Highway::new(5, init);
    for (batch, frames) in [(1, 1), (2, 2), (3, 9), (2, 300)] {
        let x = noise([batch, frames, 5], 4);
        assert_same("bank", &bank, x.clone(), |bank, x| bank.forward(x));
        assert_same("bank of one", &narrow, noise([batch, frames, 3], 5), |bank, x| bank.forward(x));
        convs.iter().for_each(|conv| assert_same("convolution", conv, x.clone(), |conv, x| conv.forward(x)));
        assert_same("highway", &highway, x, |highway, x| highway.forward(x));
    }
}

#[test]
fn normalisation_kernel_equals_its_layer_whatever_follows() {
    let mut norm = MaskedBatchNorm::new(5, &mut Init::new(1, &device()));
    for (seed, lengths) in batches().into_iter().enumerate() {
        let (count, frames) = (lengths.each().len(), *lengths.each().iter().max().unwrap());
        if count * frames < 3 {
            continue; // a variance of one value is zero: its gradient is rounding
        }
        let x = lengths.zero_padding(noise([count, frames, 5], seed as u64) * 2.0 + 0.3);
        for after in [After::Nothing, After::Relu, After::ReluMax] {
            let name = format!("batch {seed}, {after:?}");
            let mut found = Vec::new();
            assert_same(&name, &norm, x.clone(), |norm, x| {
                let mut statistics = Vec::new();
                norm.forward_train(x, &lengths, after, &mut statistics)
            });
            norm.forward_train(x.clone(), &lengths, after, &mut found);
            norm.absorb(found.pop().unwrap());
            assert_same(&name, &norm, x.clone(), |norm, x| norm.forward(x, &lengths, after));
        }
    }
}

/// A VAE's loss and the gradient of every parameter.
pub fn loss(model: &Vae, x: &Tensor<3>) -> (f32, Vec<Vec<f32>>) {
    let [batch, _, _] = x.dims();
    let posterior = model.encode(x.clone());
    let latents = posterior.mean().dims()[1];
    let z = posterior.sample(noise_on(&x.device(), [batch, latents], 5));
    let loss = model.decode(z).negative_log_likelihood(x.clone()) + posterior.total_kl_from_standard();
    let found = gradients(model, &loss.backward());
    (loss.into_scalar::<f32>(), found)
}

#[test]
fn vaes_have_the_same_loss_and_gradients_with_kernels_and_without() {
    let conv = ConvVaeConfig { segment_frames: 8, n_mels: 16, channels: [3, 4, 5], hidden: 6, latents: 2 };
    let lstm = LstmVaeConfig { segment_frames: 6, n_mels: 16, cells: 7, latents: 3, scale: Scale::Softplus };
    let exp = LstmVaeConfig { scale: Scale::Exp, ..lstm.clone() };
    let least = ConvVaeConfig { segment_frames: 4, n_mels: 8, channels: [1, 1, 1], hidden: 1, latents: 1 };
    // Channels enough for Winograd's products: 5 rows, as by default, and 11, which one tile does not cover.
    let wide = ConvVaeConfig { segment_frames: 20, n_mels: 16, channels: [16, 17, 18], hidden: 6, latents: 2 };
    let long = ConvVaeConfig { segment_frames: 44, ..wide.clone() };
    let convs = [conv, least, wide, long].map(VaeConfig::Conv);
    for config in convs.into_iter().chain([lstm, exp].map(VaeConfig::Lstm)) {
        let model = config.init(3, &device());
        for batch in [1, 5, 33] {
            let x = noise([batch, config.segment_frames(), config.n_mels()], 6);
            let (found, found_gradients) = loss(&model, &x);
            let (wanted, wanted_gradients) = plain(|| loss(&model, &x));
            assert!((found - wanted).abs() < 1e-5 * wanted.abs(), "{config:?}: {found} {wanted}");
            assert_eq!(found_gradients.len(), wanted_gradients.len());
            for (index, (found, wanted)) in found_gradients.iter().zip(&wanted_gradients).enumerate() {
                let distance = distance(found, wanted);
                assert!(distance < 1e-4, "{config:?}, batch {batch}: gradient {index} differs by {distance}");
            }
        }
    }
}

#[test]
fn the_inverter_is_the_same_with_kernels_and_without() {
    let config = CbhgConfig {
        n_mels: 6,
        bins: 9,
        bank_size: 4,
        channels: 5,
        highway_layers: 2,
        gru_cells: 4,
        small_output: false,
    };
    let model = config.init(3, &device());
    for lengths in batches().into_iter().skip(1) {
        let (count, frames) = (lengths.each().len(), *lengths.each().iter().max().unwrap());
        if count * frames < 3 {
            continue;
        }
        let x = noise([count, frames, 6], 6);
        let real = |y| lengths.zero_padding(y);
        assert_same("inference", &model, x.clone(), |model, x| real(model.forward(x, &lengths)));
        assert_same("training", &model, x, |model, x| real(model.clone().forward_train(x, &lengths)));
    }
}

#[test]
fn losses_and_gradients_are_the_same_to_the_bit_for_any_number_of_threads() {
    let conv = ConvVaeConfig { segment_frames: 20, n_mels: 80, channels: [32, 64, 64], hidden: 256, latents: 32 };
    let lstm = LstmVaeConfig { segment_frames: 20, n_mels: 80, cells: 64, latents: 32, scale: Scale::Softplus };
    for config in [VaeConfig::Conv(conv), VaeConfig::Lstm(lstm)] {
        let model = config.init(3, &device());
        let x = noise([40, 20, 80], 6);
        let run = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| loss(&model, &x))
        };
        let one = run(1);
        assert!(run(2) == one && run(5) == one, "{config:?}");
    }
}
