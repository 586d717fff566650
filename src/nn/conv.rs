//! Convolution over time with channels last, as few large matrix products.

use burn::module::{Module, Param};
use burn::tensor::Tensor;

use super::Init;
use super::steps::between_zeros;
use crate::kernels;

/// Convolution over time, stride 1, no bias, output as long as the input: `floor((width - 1) / 2)` zeros on the left, the
/// rest right.
#[derive(Module, Debug)]
pub struct TimeConv {
    /// `[inputs, width * outputs]`, the taps side by side.
    weight: Param<Tensor<2>>,
    width: usize,
}

impl TimeConv {
    /// PyTorch's default initialisation (uniform, fan-in `width * inputs`).
    pub fn new(inputs: usize, outputs: usize, width: usize, init: &mut Init) -> Self {
        Self { weight: init.uniform([inputs, width * outputs], inputs * width), width }
    }

    /// # Shapes
    /// `[batch, frames, inputs] -> [batch, frames, outputs]`
    pub fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        if kernels::serve(&x.device()) {
            return kernels::time_conv(x, self.weight.val(), self.width);
        }
        let [batch, frames, inputs] = x.dims();
        let outputs = self.weight.dims()[1] / self.width;
        if kernels::on_gpu(&x.device()) {
            let taps = kernels::product(x.reshape([batch * frames, inputs]), self.weight.val()); // [batch * frames, width * outputs]
            let (_, right) = padding(self.width);
            // A frame is added to the last place that sees it through the first tap.
            let window = kernels::Window { mirrored: true, ..window(frames, self.width, right) };
            return kernels::fold(taps, window).reshape([batch, frames, outputs]);
        }
        // Multiply first, then shift and add: the shifts move `outputs` channels, fewer than `inputs` where it matters.
        let taps = x.reshape([batch * frames, inputs]).matmul(self.weight.val()); // [batch * frames, width * outputs]
        let taps = between_zeros(taps.reshape([batch, frames, self.width * outputs]), padding(self.width));
        (0..self.width)
            .map(|tap| taps.clone().slice([0..batch, tap..tap + frames, tap * outputs..(tap + 1) * outputs]))
            .reduce(|sum, tap| sum + tap)
            .expect("a convolution has at least one tap")
    }
}

/// Convolutions of widths 1 to K over the same input, their outputs side by side (the bank of CBHG; Wang et al. 2017), no bias.
#[derive(Module, Debug)]
pub struct ConvBank {
    /// Of width k: `[k * inputs, outputs]`, taps in order of time.
    weights: Vec<Param<Tensor<2>>>,
}

impl ConvBank {
    /// PyTorch's default initialisation for each width.
    pub fn new(inputs: usize, outputs: usize, widths: usize, init: &mut Init) -> Self {
        Self { weights: (1..=widths).map(|k| init.uniform([k * inputs, outputs], k * inputs)).collect() }
    }

    /// # Shapes
    /// `[batch, frames, inputs] -> [batch, frames, K * outputs]`
    pub fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        if kernels::serve(&x.device()) {
            let weights = Tensor::cat(self.weights.iter().map(Param::val).collect(), 0);
            return kernels::bank(x, weights, self.weights.len());
        }
        let [batch, frames, inputs] = x.dims();
        if kernels::on_gpu(&x.device()) {
            let x = x.unsqueeze_dim(1); // [batch, 1, frames, inputs]
            let starts = (0..self.weights.len()).step_by(kernels::FILTERS_TOGETHER);
            let outputs = Tensor::cat(starts.map(|first| self.group(first, x.clone())).collect(), 1);
            let channels = outputs.dims()[1];
            return outputs.reshape([batch, frames, channels]);
        }
        let (left, right) = padding(self.weights.len());
        let padded = between_zeros(x, (left, right)); // [batch, frames + K - 1, inputs]
        let taps = (0..self.weights.len()).map(|j| padded.clone().slice([0..batch, j..j + frames, 0..inputs]));
        let unfolded = Tensor::cat(taps.collect(), 2).reshape([batch * frames, self.weights.len() * inputs]);
        let outputs = self.weights.iter().enumerate().map(|(index, weight)| {
            let width = index + 1;
            let first = (left - padding(width).0) * inputs; // a narrow filter sees the middle taps
            unfolded.clone().slice([0..batch * frames, first..first + width * inputs]).matmul(weight.val())
        });
        let outputs = Tensor::cat(outputs.collect(), 1); // [batch * frames, K * outputs]
        let channels = outputs.dims()[1];
        outputs.reshape([batch, frames, channels])
    }
}

impl ConvBank {
    /// Some widths, from this one on, as one product, for a GPU: few products that are large, of which zeros are a seventh.
    ///
    /// # Shapes
    /// `[batch, 1, frames, inputs] -> [batch * frames, widths * outputs]`
    fn group(&self, first: usize, x: Tensor<4>) -> Tensor<2> {
        let [_, _, frames, _] = x.dims();
        let widest = self.weights.len().min(first + kernels::FILTERS_TOGETHER);
        let weight = kernels::filters(self.weights[first..widest].iter().map(Param::val).collect(), first + 1);
        kernels::product(kernels::unfold(x, window(frames, widest, padding(widest).0)), weight)
    }
}

/// One window around each of `frames` frames, with `before` zeros before the first.
fn window(frames: usize, width: usize, before: usize) -> kernels::Window {
    let (grid, count) = ([1, frames], [1, frames]);
    kernels::Window { grid, taps: [1, width], stride: [1, 1], before: [0, before], count, mirrored: false }
}

/// Zeros to the left and right that keep the length.
fn padding(width: usize) -> (usize, usize) {
    ((width - 1) / 2, width / 2)
}
