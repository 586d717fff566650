//! Sequences as their steps, for recurrent layers, and with zeros around them, for convolutions.

use burn::tensor::Tensor;

/// The slices of `x` along its first dimension, time; each without it (`E` is `D - 1`).
///
/// Cut by halves: the gradient of a slice is as large as what it was cut from, so that cutting each step from the whole would
/// cost time quadratic in the number of frames.
pub(super) fn steps<const D: usize, const E: usize>(x: Tensor<D>) -> Vec<Tensor<E>> {
    let frames = x.dims()[0];
    if frames == 1 {
        return vec![x.squeeze_dim(0)];
    }
    let half = frames / 2;
    let mut first = steps(x.clone().narrow(0, 0, half));
    first.extend(steps::<D, E>(x.narrow(0, half, frames - half)));
    first
}

/// `x` `[batch, frames, channels]` with so many frames of zeros before and after it.
///
/// Burn's `pad` brings a tensor of the result's size from the CPU each time.
pub(super) fn between_zeros(x: Tensor<3>, (before, after): (usize, usize)) -> Tensor<3> {
    let ([batch, _, channels], device) = (x.dims(), x.device());
    let zeros = |frames: usize| (frames > 0).then(|| Tensor::zeros([batch, frames, channels], &device));
    Tensor::cat([zeros(before), Some(x), zeros(after)].into_iter().flatten().collect(), 1)
}
