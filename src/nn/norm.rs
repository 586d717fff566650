//! Batch normalisation that does not see padding.

use burn::module::{Module, Param};
use burn::tensor::{Tensor, activation};

use super::steps::between_zeros;
use super::{Init, Lengths};
use crate::kernels;

/// Batch normalisation over batch and time (Ioffe & Szegedy 2015), statistics over real frames only.
///
/// Differs from PyTorch: the running variance is the biased one, as TensorFlow's.
#[derive(Module, Debug)]
pub struct MaskedBatchNorm {
    gamma: Param<Tensor<1>>,
    beta: Param<Tensor<1>>,
    running_mean: Param<Tensor<1>>,
    running_variance: Param<Tensor<1>>,
}

/// What follows a normalisation, computed with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum After {
    /// Nothing.
    Nothing,
    /// ReLU.
    Relu,
    /// ReLU, then the maximum of each frame and the next.
    ReluMax,
}

/// Mean and variance of each channel in one batch, `[channels]` each, without autodiff.
#[derive(Clone, Debug)]
pub struct BatchStatistics {
    mean: Tensor<1>,
    variance: Tensor<1>,
}

/// Added to the variance (the workshop's value).
const EPSILON: f64 = 1e-3;
/// Share of the old running statistics kept at each step (the workshop's value).
const DECAY: f64 = 0.99;

impl MaskedBatchNorm {
    /// Starts as the identity.
    pub fn new(channels: usize, init: &mut Init) -> Self {
        Self {
            gamma: init.constant([channels], 1.0),
            beta: init.constant([channels], 0.0),
            running_mean: init.buffer([channels], 0.0),
            running_variance: init.buffer([channels], 1.0),
        }
    }

    /// Normalises with the statistics of this batch, which are appended to `statistics` for [`absorb`](Self::absorb).
    ///
    /// # Shapes
    /// `[batch, frames, channels]` in and out. What `x` holds in the padding means nothing; that of the result is zero.
    pub fn forward_train(
        &self,
        x: Tensor<3>,
        lengths: &Lengths,
        after: After,
        statistics: &mut Vec<BatchStatistics>,
    ) -> Tensor<3> {
        let parameters = || [self.gamma.val(), self.beta.val()];
        let at_once = if kernels::serve(&x.device()) {
            Some(kernels::batch_norm(x.clone(), parameters(), EPSILON, lengths.each(), after))
        } else if kernels::on_gpu(&x.device()) {
            Some(kernels::batch_norm_on_gpu(x.clone(), parameters(), EPSILON, lengths.mask(), after))
        } else {
            None
        };
        if let Some((y, [mean, variance])) = at_once {
            statistics.push(BatchStatistics { mean, variance });
            return y;
        }
        let mean = lengths.mean_of_sum(over_frames(lengths.zero_padding(x.clone()))); // [1, 1, channels]
        let centred = x - mean.clone();
        let variance = lengths.mean_of_sum(over_frames(lengths.zero_padding(centred.clone()).square()));
        let channels = mean.dims()[2];
        statistics.push(BatchStatistics {
            mean: mean.inner().reshape([channels]),
            variance: variance.clone().inner().reshape([channels]),
        });
        let scale = self.gamma.val().reshape([1, 1, channels]) / variance.add_scalar(EPSILON).sqrt();
        after.apply(centred * scale + self.beta.val().reshape([1, 1, channels]), lengths)
    }

    /// Normalises with the running statistics.
    ///
    /// # Shapes
    /// As [`forward_train`](Self::forward_train).
    pub fn forward(&self, x: Tensor<3>, lengths: &Lengths, after: After) -> Tensor<3> {
        if kernels::on_gpu(&x.device()) && !x.is_autodiff() && !self.gamma.val().is_autodiff() {
            let parameters = [&self.gamma, &self.beta, &self.running_mean, &self.running_variance].map(Param::val);
            return kernels::running_norm(x, parameters, EPSILON, lengths.mask(), after);
        }
        let channels = self.gamma.dims()[0];
        let scale = self.gamma.val() / self.running_variance.val().add_scalar(EPSILON).sqrt();
        let shift = self.beta.val() - self.running_mean.val() * scale.clone();
        if kernels::serve(&x.device()) {
            return kernels::affine(x, scale, shift, lengths.each(), after);
        }
        after.apply(x * scale.reshape([1, 1, channels]) + shift.reshape([1, 1, channels]), lengths)
    }

    /// Moves the running statistics a little towards those of a batch.
    pub fn absorb(&mut self, batch: BatchStatistics) {
        let blend = |running: &Param<Tensor<1>>, new: Tensor<1>| {
            running.clone().map(|old| {
                Tensor::from_inner(old.inner().mul_scalar(DECAY) + new.mul_scalar(1.0 - DECAY)).set_require_grad(false)
            })
        };
        self.running_mean = blend(&self.running_mean, batch.mean);
        self.running_variance = blend(&self.running_variance, batch.variance);
    }
}

impl After {
    fn apply(self, x: Tensor<3>, lengths: &Lengths) -> Tensor<3> {
        match self {
            Self::Nothing => lengths.zero_padding(x),
            Self::Relu => lengths.zero_padding(activation::relu(x)),
            Self::ReluMax => max_with_next(lengths.zero_padding(activation::relu(x))),
        }
    }
}

/// The sum over batch and time: `[batch, frames, channels] -> [1, 1, channels]`.
fn over_frames(x: Tensor<3>) -> Tensor<3> {
    x.sum_dims(&[0, 1])
}

/// Maximum of each frame and the next; `x` is not negative, so zeros after the end change nothing.
fn max_with_next(x: Tensor<3>) -> Tensor<3> {
    let [batch, frames, channels] = x.dims();
    if frames == 1 {
        return x;
    }
    let next = between_zeros(x.clone().slice([0..batch, 1..frames, 0..channels]), (0, 1));
    x.max_pair(next)
}
