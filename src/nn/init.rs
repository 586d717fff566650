//! Parameter initialisation from a seed, the same on every device.

use burn::module::Param;
use burn::nn::Linear;
use burn::tensor::{Device, Tensor, TensorData};
use rand::distr::{Distribution, Uniform};
use rand_chacha::ChaCha8Rng;
use rand_distr::Normal;

use crate::random;

/// Draws parameters one after the other; the order of calls is part of the result.
pub struct Init {
    rng: ChaCha8Rng,
    device: Device,
}

impl Init {
    /// Parameters will live on `device` and take part in autodiff if it does.
    pub fn new(seed: u64, device: &Device) -> Self {
        Self { rng: random::stream(seed, "parameters", 0), device: device.clone() }
    }

    /// Normal with mean 0.
    pub fn normal<const D: usize>(&mut self, shape: [usize; D], std: f64) -> Param<Tensor<D>> {
        let normal = Normal::new(0.0, std).expect("a standard deviation derived from layer sizes is finite");
        self.draw(shape, normal)
    }

    /// Normal with `gain` times the deviation that keeps the signal's variance through a leaky ReLU of slope `slope`
    /// (He et al. 2015, eq. 10 and 15).
    pub fn he<const D: usize>(&mut self, shape: [usize; D], fan_in: usize, slope: f64, gain: f64) -> Param<Tensor<D>> {
        self.normal(shape, gain * (2.0 / ((1.0 + slope * slope) * fan_in as f64)).sqrt())
    }

    /// Uniform in `-1/sqrt(fan_in) .. 1/sqrt(fan_in)`, PyTorch's default for linear, convolutional and recurrent layers.
    pub fn uniform<const D: usize>(&mut self, shape: [usize; D], fan_in: usize) -> Param<Tensor<D>> {
        let bound = 1.0 / (fan_in as f64).sqrt();
        self.draw(shape, Uniform::new(-bound, bound).expect("the bound is positive"))
    }

    /// These values.
    pub fn values(&mut self, values: &[f32]) -> Param<Tensor<1>> {
        Param::from_tensor(Tensor::from_floats(values, &self.device))
    }

    /// One value everywhere.
    pub fn constant<const D: usize>(&mut self, shape: [usize; D], value: f64) -> Param<Tensor<D>> {
        Param::from_tensor(Tensor::full(shape, value, &self.device))
    }

    /// A tensor that is saved with the model but never trained.
    pub fn buffer<const D: usize>(&mut self, shape: [usize; D], value: f64) -> Param<Tensor<D>> {
        self.constant(shape, value).set_require_grad(false)
    }

    /// A linear layer with PyTorch's default initialisation.
    pub fn linear(&mut self, inputs: usize, outputs: usize) -> Linear {
        Linear { weight: self.uniform([inputs, outputs], inputs), bias: Some(self.uniform([outputs], inputs)) }
    }

    /// A linear layer with [`he`](Self::he) initialisation and zero bias.
    pub fn he_linear(&mut self, inputs: usize, outputs: usize, slope: f64, gain: f64) -> Linear {
        Linear { weight: self.he([inputs, outputs], inputs, slope, gain), bias: Some(self.constant([outputs], 0.0)) }
    }

    fn draw<const D: usize>(&mut self, shape: [usize; D], distribution: impl Distribution<f64>) -> Param<Tensor<D>> {
        let values: Vec<f32> = (0..shape.iter().product()).map(|_| distribution.sample(&mut self.rng) as f32).collect();
        Param::from_tensor(Tensor::from_data(TensorData::new(values, shape), &self.device))
    }
}
