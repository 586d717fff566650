//! Convolutional VAE of fixed blocks of a log-mel spectrogram.

use burn::module::{Module, Param};
use burn::nn::Linear;
use burn::tensor::ops::{ConvOptions, ConvTransposeOptions};
use burn::tensor::{Device, Tensor, activation, module};
use serde::{Deserialize, Serialize};

use super::gaussian::{BIN_FLOOR, Gaussian, HEAD_GAIN, LATENT_FLOOR, raw_for_unit_scale};
use super::require_size;
use crate::nn::{Init, dense};
use crate::{Error, Result, kernels};

/// Slope of every leaky ReLU.
const SLOPE: f64 = 0.1;

/// Sizes of a [`ConvVae`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConvVaeConfig {
    /// Frames in a segment; divisible by 4.
    pub segment_frames: usize,
    /// Mel bands; divisible by 8.
    pub n_mels: usize,
    /// Channels of the three convolutions; the decoder mirrors them.
    pub channels: [usize; 3],
    /// Width of the fully connected layer on each side.
    pub hidden: usize,
    /// Latent dimensions.
    pub latents: usize,
}

impl ConvVaeConfig {
    /// Checks that the sizes fit together.
    ///
    /// # Errors
    /// [`Error::Config`] naming the flag and the values that work.
    pub fn validate(&self) -> Result<()> {
        let fail = |message: String| Err(Error::Config(message));
        if !self.segment_frames.is_multiple_of(4) {
            return fail(format!("--segment-frames {}: must be a multiple of 4", self.segment_frames));
        }
        if self.n_mels == 0 || !self.n_mels.is_multiple_of(8) {
            let wanted = "the convolutions need a multiple of 8; extract features with such an --n-filterbank";
            return fail(format!("the features have {} mel bands: {wanted}", self.n_mels));
        }
        for channels in self.channels {
            require_size("--channels", channels, 1, 4096)?;
        }
        require_size("--segment-frames", self.segment_frames, 4, 4096)?;
        require_size("--hidden", self.hidden, 1, 16_384)?;
        require_size("--latents", self.latents, 1, 4096)
    }

    /// A new model, its parameters a function of `seed`.
    ///
    /// # Panics
    /// If [`validate`](Self::validate) fails.
    pub fn init(&self, seed: u64, device: &Device) -> ConvVae {
        self.validate().expect("sizes are validated before a model is made");
        let init = &mut Init::new(seed, device);
        let [c1, c2, c3] = self.channels;
        let grid = [self.segment_frames / 4, self.n_mels / 8];
        let flat = c3 * grid[0] * grid[1];
        ConvVae {
            encoder: vec![
                Conv::new(1, c1, HALVE_BOTH, init),
                Conv::new(c1, c2, HALVE_BOTH, init),
                Conv::new(c2, c3, HALVE_BANDS, init),
            ],
            encoder_hidden: init.he_linear(flat, self.hidden, SLOPE, 1.0),
            mean: init.he_linear(self.hidden, self.latents, SLOPE, HEAD_GAIN),
            raw_scale: Linear {
                bias: Some(init.constant([self.latents], raw_for_unit_scale(LATENT_FLOOR))),
                ..init.he_linear(self.hidden, self.latents, SLOPE, HEAD_GAIN)
            },
            decoder_hidden: init.he_linear(self.latents, self.hidden, SLOPE, 1.0),
            decoder_grid: init.he_linear(self.hidden, flat, SLOPE, 1.0),
            decoder: vec![
                Deconv::new(c3, c2, HALVE_BANDS, init),
                Deconv::new(c2, c1, HALVE_BOTH, init),
                Deconv::head(c1, HALVE_BOTH, init),
            ],
            grid,
        }
    }
}

/// Encoder and decoder of segments `[batch, frames, mels]`.
///
/// The input is standardised; so is the decoder's distribution. Convolutions see `[batch, channels, frames, mels]`.
#[derive(Module, Debug)]
pub struct ConvVae {
    encoder: Vec<Conv>,
    encoder_hidden: Linear,
    mean: Linear,
    raw_scale: Linear,
    decoder_hidden: Linear,
    decoder_grid: Linear,
    decoder: Vec<Deconv>,
    grid: [usize; 2],
}

impl ConvVae {
    /// The posterior of the latents.
    ///
    /// # Shapes
    /// `[batch, frames, mels] -> [batch, latents]`
    pub fn encode(&self, x: Tensor<3>) -> Gaussian<2> {
        let h = if kernels::serve(&x.device()) {
            kernels::flatten(self.encoder.iter().fold(kernels::pack(x), |h, layer| layer.kernel(h)))
        } else if kernels::on_gpu(&x.device()) {
            let h = x.unsqueeze_dim(3); // [batch, frames, mels, 1]
            let h = self.encoder.iter().fold(h, |h, layer| layer.product(h));
            h.permute([0, 3, 1, 2]).flatten(1, 3)
        } else {
            let h: Tensor<4> = x.unsqueeze_dim(1); // [batch, 1, frames, mels]
            let h = self.encoder.iter().fold(h, |h, layer| activation::leaky_relu(layer.forward(h), SLOPE));
            h.flatten(1, 3) // [batch, c3 * frames / 4 * mels / 8]
        };
        let h = dense(&self.encoder_hidden, h, Some(SLOPE)); // [batch, hidden]
        Gaussian::from_raw(dense(&self.mean, h.clone(), None), dense(&self.raw_scale, h, None), LATENT_FLOOR)
    }

    /// The distribution of each bin given the latents.
    ///
    /// # Shapes
    /// `[batch, latents] -> [batch, frames, mels]`
    pub fn decode(&self, z: Tensor<2>) -> Gaussian<3> {
        let h = dense(&self.decoder_hidden, z, Some(SLOPE)); // [batch, hidden]
        let h = dense(&self.decoder_grid, h, Some(SLOPE));
        let [batch, flat] = h.dims();
        let [rows, columns] = self.grid;
        let slopes = [Some(SLOPE), Some(SLOPE), None];
        let layers = || self.decoder.iter().zip(slopes);
        let planes = if kernels::serve(&h.device()) {
            let h = kernels::from_flat(h, self.grid);
            let h = layers().fold(h, |h, (layer, slope)| layer.kernel(h, batch, slope));
            kernels::unpack(h, batch)
        } else if kernels::on_gpu(&h.device()) {
            let h = h.reshape([batch, flat / (rows * columns), rows, columns]).permute([0, 2, 3, 1]);
            let h = layers().fold(h, |h, (layer, slope)| layer.product(h, slope)); // [batch, frames, mels, 2]
            let [batch, frames, mels, _] = h.dims();
            return Gaussian::from_raw_pairs(h.reshape([-1, 2]), [batch, frames, mels], BIN_FLOOR);
        } else {
            let h = h.reshape([batch, flat / (rows * columns), rows, columns]);
            let h = layers().fold(h, |h, (layer, slope)| match slope {
                Some(slope) => activation::leaky_relu(layer.forward(h), slope),
                None => layer.forward(h),
            });
            h.swap_dims(0, 1)
        }; // [2, batch, frames, mels]
        let part = |index: usize| planes.clone().narrow(0, index, 1).squeeze_dim(0);
        Gaussian::from_raw(part(0), part(1), BIN_FLOOR)
    }
}

/// Kernel and stride along (frames, mels); padding is 1 everywhere.
#[derive(Clone, Copy)]
struct Geometry {
    kernel: [usize; 2],
    stride: [usize; 2],
}

const HALVE_BOTH: Geometry = Geometry { kernel: [4, 4], stride: [2, 2] };
const HALVE_BANDS: Geometry = Geometry { kernel: [3, 4], stride: [1, 2] };

/// Strided convolution.
#[derive(Module, Debug)]
struct Conv {
    /// `[outputs, inputs, kernel frames, kernel mels]`
    weight: Param<Tensor<4>>,
    bias: Param<Tensor<1>>,
    stride: [usize; 2],
}

impl Conv {
    fn new(inputs: usize, outputs: usize, Geometry { kernel, stride }: Geometry, init: &mut Init) -> Self {
        let weight = init.he([outputs, inputs, kernel[0], kernel[1]], inputs * kernel[0] * kernel[1], SLOPE, 1.0);
        Self { weight, bias: init.constant([outputs], 0.0), stride }
    }

    /// With its leaky ReLU, from one padded grid to the next.
    fn kernel(&self, x: Tensor<4>) -> Tensor<4> {
        let [rows, batch, stored, _] = x.dims();
        let [coarse, fine, row_taps, _] = self.weight.dims();
        let [row_stride, _] = self.stride;
        let (rows, columns) = (rows / row_stride, (stored - 2) / 2);
        let grid = kernels::Grid { batch, rows, columns, row_stride, row_taps, fine, coarse };
        kernels::convolve(x, self.weight.val(), self.bias.val(), grid, SLOPE)
    }

    /// With its leaky ReLU as one product of windows, channels last.
    fn product(&self, x: Tensor<4>) -> Tensor<4> {
        let ([batch, rows, columns, _], [outputs, inputs, down, across]) = (x.dims(), self.weight.dims());
        let window = window([rows / self.stride[0], columns / self.stride[1]], [down, across], self.stride);
        let weight = self.weight.val().permute([2, 3, 1, 0]).reshape([down * across * inputs, outputs]);
        let y = kernels::biased(kernels::product(kernels::unfold(x, window), weight), self.bias.val(), SLOPE);
        y.reshape([batch, window.count[0], window.count[1], outputs])
    }

    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let options = ConvOptions::new(self.stride, [1, 1], [1, 1], 1);
        module::conv2d(x, self.weight.val(), Some(self.bias.val()), options)
    }
}

/// Transposed strided convolution, the mirror of [`Conv`].
#[derive(Module, Debug)]
struct Deconv {
    /// `[inputs, outputs, kernel frames, kernel mels]`
    weight: Param<Tensor<4>>,
    bias: Param<Tensor<1>>,
    stride: [usize; 2],
}

impl Deconv {
    fn new(inputs: usize, outputs: usize, geometry: Geometry, init: &mut Init) -> Self {
        let weight = Self::weight(inputs, outputs, geometry, 1.0, init);
        Self { weight, bias: init.constant([outputs], 0.0), stride: geometry.stride }
    }

    /// The last layer: one channel for the mean, one for the raw scale, which starts at 1.
    fn head(inputs: usize, geometry: Geometry, init: &mut Init) -> Self {
        let weight = Self::weight(inputs, 2, geometry, HEAD_GAIN, init);
        Self { weight, bias: init.values(&[0.0, raw_for_unit_scale(BIN_FLOOR) as f32]), stride: geometry.stride }
    }

    fn weight(inputs: usize, outputs: usize, geometry: Geometry, gain: f64, init: &mut Init) -> Param<Tensor<4>> {
        let [frames, mels] = geometry.kernel;
        // PyTorch's fan-in of a transposed convolution: that of the convolution it mirrors. Counting only the taps that
        // reach a bin gives larger weights, which were measured to learn more slowly at first.
        init.he([inputs, outputs, frames, mels], outputs * frames * mels, SLOPE, gain)
    }

    /// With its leaky ReLU, if it has one, from one shared grid to the next.
    fn kernel(&self, x: Tensor<3>, batch: usize, slope: Option<f64>) -> Tensor<3> {
        let [rows, stored, _] = x.dims();
        let [coarse, fine, row_taps, _] = self.weight.dims();
        let [row_stride, _] = self.stride;
        let columns = (stored - 1) / batch - 1;
        let grid = kernels::Grid { batch, rows, columns, row_stride, row_taps, fine, coarse };
        kernels::deconvolve(x, self.weight.val(), self.bias.val(), grid, slope.unwrap_or(1.0))
    }

    /// With its leaky ReLU, if it has one, as one product whose windows are added up, channels last.
    fn product(&self, x: Tensor<4>, slope: Option<f64>) -> Tensor<4> {
        let ([batch, rows, columns, _], [inputs, outputs, down, across]) = (x.dims(), self.weight.dims());
        let weight = self.weight.val().permute([0, 2, 3, 1]).reshape([inputs, down * across * outputs]);
        let windows = kernels::product(x.reshape([batch * rows * columns, inputs]), weight);
        let window = window([rows, columns], [down, across], self.stride);
        let y = kernels::fold(windows, window).reshape([-1, outputs as i64]);
        let y = kernels::biased(y, self.bias.val(), slope.unwrap_or(1.0));
        y.reshape([batch, window.grid[0], window.grid[1], outputs])
    }

    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let options = ConvTransposeOptions::new(self.stride, [1, 1], [0, 0], [1, 1], 1);
        module::conv_transpose2d(x, self.weight.val(), Some(self.bias.val()), options)
    }
}

/// `count` windows on a grid that is padded by one everywhere.
fn window(count: [usize; 2], taps: [usize; 2], stride: [usize; 2]) -> kernels::Window {
    let grid = [count[0] * stride[0], count[1] * stride[1]];
    kernels::Window { grid, taps, stride, before: [1, 1], count, mirrored: false }
}
