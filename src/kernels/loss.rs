//! Losses in one pass.

use std::sync::Arc;

use burn::tensor::Tensor;
use rayon::prelude::*;

use super::math::{Work, ln, sigmoid, softplus, vectorized};
use super::memory::{BLOCK, zeros};
use super::tape::{Kernel, apply};

/// Sum over all values of the negative log-density under a normal distribution of scale `floor + softplus(raw)`.
#[derive(Clone, Debug)]
struct GaussianNll {
    floor: f32,
}

impl Kernel<3> for GaussianNll {
    type Saved = ();

    fn forward(&self, [x, mean, raw]: [&[f32]; 3]) -> (Vec<f32>, Vec<usize>, ()) {
        let parts = x.par_chunks(BLOCK).zip(mean.par_chunks(BLOCK)).zip(raw.par_chunks(BLOCK));
        let sums: Vec<f64> = parts
            .map(|((x, mean), raw)| {
                let parts = x.chunks(256).zip(mean.chunks(256)).zip(raw.chunks(256));
                parts.map(|((x, mean), raw)| f64::from(vectorized(Densities { x, mean, raw, floor: self.floor }))).sum()
            })
            .collect();
        let half_ln_two_pi = 0.5 * (2.0 * std::f64::consts::PI).ln();
        let sum = sums.iter().sum::<f64>() + x.len() as f64 * half_ln_two_pi;
        (vec![sum as f32], vec![1], ())
    }

    fn backward(
        &self,
        [x, mean, raw]: [&[f32]; 3],
        _: &[f32],
        _: &(),
        gradient: &[f32],
        wanted: [bool; 3],
    ) -> [Option<Vec<f32>>; 3] {
        let factor = gradient[0];
        let (mut for_mean, mut for_raw) = (zeros(x.len()), zeros(x.len()));
        let outputs = for_mean.par_chunks_mut(BLOCK).zip(for_raw.par_chunks_mut(BLOCK));
        let inputs = x.par_chunks(BLOCK).zip(mean.par_chunks(BLOCK)).zip(raw.par_chunks(BLOCK));
        outputs.zip(inputs).for_each(|((for_mean, for_raw), ((x, mean), raw))| {
            vectorized(DensitiesBack { x, mean, raw, floor: self.floor, factor, for_mean, for_raw });
        });
        let for_x = wanted[0].then(|| for_mean.iter().map(|d| -d).collect());
        [for_x, Some(for_mean), Some(for_raw)]
    }
}

/// Mean over real frames of `weight * |x - target|`.
#[derive(Clone, Debug)]
struct MeanAbsoluteError {
    /// Of each value in a frame.
    weights: Arc<[f32]>,
    frames: usize,
    lengths: Vec<usize>,
}

impl MeanAbsoluteError {
    fn count(&self) -> f64 {
        (self.lengths.iter().sum::<usize>() * self.weights.len()) as f64
    }
}

impl Kernel<2> for MeanAbsoluteError {
    type Saved = ();

    fn forward(&self, [x, target]: [&[f32]; 2]) -> (Vec<f32>, Vec<usize>, ()) {
        let bins = self.weights.len();
        let sequence = self.frames * bins;
        let sequences = x.par_chunks_exact(sequence).zip(target.par_chunks_exact(sequence)).zip(&self.lengths);
        let sums: Vec<f64> = sequences
            .map(|((x, target), length)| {
                let frames = x.chunks_exact(bins).zip(target.chunks_exact(bins)).take(*length);
                frames.map(|(x, target)| f64::from(vectorized(|| absolute_difference(x, target, &self.weights)))).sum()
            })
            .collect();
        (vec![(sums.iter().sum::<f64>() / self.count()) as f32], vec![1], ())
    }

    fn backward(
        &self,
        [x, target]: [&[f32]; 2],
        _: &[f32],
        _: &(),
        gradient: &[f32],
        wanted: [bool; 2],
    ) -> [Option<Vec<f32>>; 2] {
        let factor = (f64::from(gradient[0]) / self.count()) as f32;
        let bins = self.weights.len();
        let sequence = self.frames * bins;
        let mut for_x = zeros(x.len());
        let inputs = x.par_chunks_exact(sequence).zip(target.par_chunks_exact(sequence)).zip(&self.lengths);
        for_x.par_chunks_exact_mut(sequence).zip(inputs).for_each(|(for_x, ((x, target), length))| {
            let frames = for_x.chunks_exact_mut(bins).zip(x.chunks_exact(bins)).zip(target.chunks_exact(bins));
            for ((for_x, x), target) in frames.take(*length) {
                vectorized(|| {
                    for (((d, x), target), weight) in for_x.iter_mut().zip(x).zip(target).zip(&*self.weights) {
                        let difference = x - target;
                        *d = if difference == 0.0 { 0.0 } else { weight * factor.copysign(difference * factor) };
                    }
                });
            }
        });
        let for_target = wanted[1].then(|| for_x.iter().map(|d| -d).collect());
        [Some(for_x), for_target]
    }
}

/// Sum of the negative log-densities without their constant, in sixteen interleaved partial sums.
struct Densities<'a> {
    x: &'a [f32],
    mean: &'a [f32],
    raw: &'a [f32],
    floor: f32,
}

impl Work for Densities<'_> {
    type Output = f32;

    #[inline(always)]
    fn call(self) -> f32 {
        let Self { x, mean, raw, floor } = self;
        let mut sums = [0.0f32; 16];
        for ((x, mean), raw) in x.chunks(16).zip(mean.chunks(16)).zip(raw.chunks(16)) {
            for (((sum, x), mean), raw) in sums.iter_mut().zip(x).zip(mean).zip(raw) {
                let scale = floor + softplus(*raw);
                let z = (x - mean) / scale;
                *sum += 0.5 * z * z + ln(scale);
            }
        }
        sums.iter().sum()
    }
}

/// Gradients of that sum, times `factor`.
struct DensitiesBack<'a> {
    x: &'a [f32],
    mean: &'a [f32],
    raw: &'a [f32],
    floor: f32,
    factor: f32,
    for_mean: &'a mut [f32],
    for_raw: &'a mut [f32],
}

impl Work for DensitiesBack<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let Self { x, mean, raw, floor, factor, for_mean, for_raw } = self;
        let inputs = x.iter().zip(mean).zip(raw);
        for ((for_mean, for_raw), ((x, mean), raw)) in for_mean.iter_mut().zip(for_raw).zip(inputs) {
            let inverse = 1.0 / (floor + softplus(*raw));
            let z = (x - mean) * inverse;
            *for_mean = -factor * z * inverse;
            *for_raw = factor * (1.0 - z * z) * inverse * sigmoid(*raw);
        }
    }
}

/// Sum of `weight * |x - y|`, in eight interleaved partial sums.
#[inline(always)]
fn absolute_difference(x: &[f32], y: &[f32], weights: &[f32]) -> f32 {
    let mut sums = [0.0f32; 8];
    for ((x, y), weights) in x.chunks(8).zip(y.chunks(8)).zip(weights.chunks(8)) {
        for (((sum, x), y), weight) in sums.iter_mut().zip(x).zip(y).zip(weights) {
            *sum += weight * (x - y).abs();
        }
    }
    sums.iter().sum()
}

/// Sum over all values of the negative log-density of `x` under a normal distribution of mean `mean` and scale
/// `floor + softplus(raw)`, in nats, `[1]`.
///
/// # Shapes
/// All alike.
pub(crate) fn gaussian_nll<const D: usize>(x: Tensor<D>, mean: Tensor<D>, raw: Tensor<D>, floor: f64) -> Tensor<1> {
    apply(GaussianNll { floor: floor as f32 }, [x.into(), mean.into(), raw.into()]).0
}

/// Mean of `weight * |x - target|` over real frames, `[1]`.
///
/// # Shapes
/// `x` and `target` `[batch, frames, bins]`, `weights` `[bins]`.
pub(crate) fn mean_absolute_error(
    x: Tensor<3>,
    target: Tensor<3>,
    weights: &Arc<[f32]>,
    lengths: &[usize],
) -> Tensor<1> {
    let frames = x.dims()[1];
    apply(MeanAbsoluteError { weights: weights.clone(), frames, lengths: lengths.to_vec() }, [x.into(), target.into()])
        .0
}
