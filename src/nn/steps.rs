//! A sequence as its steps, for recurrent layers.

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
