//! Batch normalisation, ReLU and the maximum of neighbouring frames, in few passes over memory.

use std::sync::Arc;

use burn::tensor::{Tensor, TensorData};
use rayon::prelude::*;

use super::math::{Work, vectorized};
use super::memory::{build, zeros};
use super::tape::{Kernel, apply};
use crate::nn::After;

/// Frames that one task works on.
const CHUNK: usize = 64;

/// Sequences padded to a common length, and what happens to each channel.
#[derive(Clone, Debug)]
struct Frames {
    frames: usize,
    channels: usize,
    lengths: Vec<usize>,
    after: After,
}

impl Frames {
    fn shape(&self) -> Vec<usize> {
        vec![self.lengths.len(), self.frames, self.channels]
    }

    /// Values of one padded sequence.
    fn sequence(&self) -> usize {
        self.frames * self.channels
    }

    /// The real frames of each sequence of `values`.
    fn real<'a>(&self, values: &'a [f32]) -> impl IndexedParallelIterator<Item = &'a [f32]> {
        let sequences = values.par_chunks_exact(self.sequence()).zip(&self.lengths);
        sequences.map(|(values, length)| &values[..length * self.channels])
    }

    /// `after(scale x + shift)`, zero in the padding.
    fn activate(&self, x: &[f32], scale: &[f32], shift: &[f32]) -> Vec<f32> {
        let (channels, floor) = (self.channels, if self.after == After::Nothing { f32::NEG_INFINITY } else { 0.0 });
        build(x.len(), CHUNK * channels, |chunk, y| {
            for (index, y) in y.chunks_exact_mut(channels).enumerate() {
                let row = chunk * CHUNK + index;
                let left = self.lengths[row / self.frames].saturating_sub(row % self.frames); // real frames from here on
                if left == 0 {
                    continue;
                }
                let mut rows = x[row * channels..].chunks_exact(channels);
                let now = rows.next().expect("as many rows as in y");
                let next = rows.next().filter(|_| self.after == After::ReluMax && left > 1);
                vectorized(|| {
                    for (((y, x), scale), shift) in y.iter_mut().zip(now).zip(scale).zip(shift) {
                        *y = (x * scale + shift).max(floor);
                    }
                    if let Some(next) = next {
                        for (((y, x), scale), shift) in y.iter_mut().zip(next).zip(scale).zip(shift) {
                            *y = y.max(x * scale + shift);
                        }
                    }
                });
            }
        })
    }

    /// From the gradient after the activation to that of `scale x + shift`; with, for each sequence, the sums over its frames of
    /// that gradient and of that gradient times `x - centre`.
    fn deactivate<'a>(
        &self,
        x: &'a [f32],
        [scale, shift, centre]: [&[f32]; 3],
        gradient: &'a [f32],
    ) -> (Vec<f32>, Vec<f32>, Vec<f32>) {
        let channels = self.channels;
        let mut d = zeros(x.len());
        let sums: Vec<(Vec<f32>, Vec<f32>)> = d
            .par_chunks_exact_mut(self.sequence())
            .zip(self.real(x))
            .zip(self.real(gradient))
            .map(|((d, x), gradient)| {
                let (mut sums, mut products) = (vec![0.0; channels], vec![0.0; channels]);
                let row = |values: &'a [f32], at: usize| values.get(at * channels..(at + 1) * channels);
                for (t, d) in d[..x.len()].chunks_exact_mut(channels).enumerate() {
                    let now = (row(x, t).expect("a real frame"), row(gradient, t).expect("a real frame"));
                    let before = t.checked_sub(1).and_then(|t| row(x, t).zip(row(gradient, t)));
                    let next = row(x, t + 1);
                    let (sums, products) = (&mut sums, &mut products);
                    let after = self.after;
                    vectorized(FrameBack { after, now, before, next, scale, shift, centre, d, sums, products });
                }
                (sums, products)
            })
            .collect();
        let (mut total, mut total_products) = (vec![0.0; channels], vec![0.0; channels]);
        for (sums, products) in sums {
            total.iter_mut().zip(sums).for_each(|(total, sum)| *total += sum);
            total_products.iter_mut().zip(products).for_each(|(total, sum)| *total += sum);
        }
        (d, total, total_products)
    }

    /// Mean and (biased) variance of each channel over all real frames; two passes over blocks that fit the cache (Chan et
    /// al. 1979).
    fn moments(&self, x: &[f32]) -> Moments {
        let channels = self.channels;
        let of_sequence = |x: &[f32]| {
            let mut all = Moments { count: 0.0, mean: vec![0.0; channels], variance: vec![0.0; channels] };
            for block in x.chunks(32 * channels) {
                let count = (block.len() / channels) as f32;
                let (mut mean, mut square) = (vec![0.0f32; channels], vec![0.0f32; channels]);
                vectorized(|| {
                    for row in block.chunks_exact(channels) {
                        mean.iter_mut().zip(row).for_each(|(mean, x)| *mean += x);
                    }
                    mean.iter_mut().for_each(|mean| *mean /= count);
                    for row in block.chunks_exact(channels) {
                        for ((square, x), mean) in square.iter_mut().zip(row).zip(&mean) {
                            *square += (x - mean) * (x - mean);
                        }
                    }
                });
                all.merge(&Moments { count, mean, variance: square });
            }
            all
        };
        let parts: Vec<Moments> = self.real(x).map(of_sequence).collect();
        let mut all = Moments { count: 0.0, mean: vec![0.0; channels], variance: vec![0.0; channels] };
        parts.iter().for_each(|part| all.merge(part));
        all.variance.iter_mut().for_each(|sum| *sum /= all.count);
        all
    }
}

/// The way back through what follows the normalisation, for one frame: to `d`, and added to the sums. Frames come with the
/// gradients after it.
struct FrameBack<'a> {
    after: After,
    now: (&'a [f32], &'a [f32]),
    before: Option<(&'a [f32], &'a [f32])>,
    next: Option<&'a [f32]>,
    scale: &'a [f32],
    shift: &'a [f32],
    centre: &'a [f32],
    d: &'a mut [f32],
    sums: &'a mut [f32],
    products: &'a mut [f32],
}

impl Work for FrameBack<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let n = self.d.len();
        let (d, x, gradient) = (self.d, &self.now.0[..n], &self.now.1[..n]);
        let (scale, shift, centre) = (&self.scale[..n], &self.shift[..n], &self.centre[..n]);
        d.copy_from_slice(gradient);
        if self.after == After::ReluMax {
            // A frame keeps its gradient where it is not below the next, and gets the previous one's where it is above that.
            if let Some(next) = self.next {
                let next = &next[..n];
                for j in 0..n {
                    d[j] = if x[j] * scale[j] >= next[j] * scale[j] { d[j] } else { 0.0 };
                }
            }
            if let Some((before, gradient)) = self.before {
                let (before, gradient) = (&before[..n], &gradient[..n]);
                for j in 0..n {
                    d[j] += if x[j] * scale[j] > before[j] * scale[j] { gradient[j] } else { 0.0 };
                }
            }
        }
        if self.after != After::Nothing {
            for j in 0..n {
                d[j] = if x[j] * scale[j] + shift[j] > 0.0 { d[j] } else { 0.0 };
            }
        }
        let (sums, products) = (&mut self.sums[..n], &mut self.products[..n]);
        for j in 0..n {
            sums[j] += d[j];
            products[j] += d[j] * (x[j] - centre[j]);
        }
    }
}

/// Count, mean and, while they are gathered, the sum of squared deviations; at the end the variance.
#[derive(Debug)]
pub(crate) struct Moments {
    count: f32,
    pub mean: Vec<f32>,
    pub variance: Vec<f32>,
}

impl Moments {
    fn merge(&mut self, other: &Self) {
        let total = self.count + other.count;
        let (share, weight) = (other.count / total, self.count * other.count / total);
        let (mean, square) = (self.mean.iter_mut(), self.variance.iter_mut());
        for (((mean, square), other_mean), other_square) in mean.zip(square).zip(&other.mean).zip(&other.variance) {
            let difference = other_mean - *mean;
            *mean += difference * share;
            *square += other_square + difference * difference * weight;
        }
        self.count = total;
    }
}

/// Normalisation by the statistics of the batch.
#[derive(Clone, Debug)]
struct BatchNorm {
    frames: Frames,
    epsilon: f32,
}

impl BatchNorm {
    /// Of each channel: scale, shift, and one over the deviation.
    fn affine(&self, moments: &Moments, gamma: &[f32], beta: &[f32]) -> [Vec<f32>; 3] {
        let inverse: Vec<f32> =
            moments.variance.iter().map(|variance| (variance + self.epsilon).sqrt().recip()).collect();
        let scale: Vec<f32> = gamma.iter().zip(&inverse).map(|(gamma, inverse)| gamma * inverse).collect();
        let shift =
            beta.iter().zip(&moments.mean).zip(&scale).map(|((beta, mean), scale)| beta - mean * scale).collect();
        [scale, shift, inverse]
    }
}

impl Kernel<3> for BatchNorm {
    type Saved = Arc<Moments>;

    fn forward(&self, [x, gamma, beta]: [&[f32]; 3]) -> (Vec<f32>, Vec<usize>, Arc<Moments>) {
        let moments = self.frames.moments(x);
        let [scale, shift, _] = self.affine(&moments, gamma, beta);
        (self.frames.activate(x, &scale, &shift), self.frames.shape(), moments.into())
    }

    fn backward(
        &self,
        [x, gamma, beta]: [&[f32]; 3],
        _: &[f32],
        moments: &Arc<Moments>,
        gradient: &[f32],
        _: [bool; 3],
    ) -> [Option<Vec<f32>>; 3] {
        let [scale, shift, inverse] = self.affine(moments, gamma, beta);
        let (mut d, sums, products) = self.frames.deactivate(x, [&scale, &shift, &moments.mean], gradient);
        let for_gamma: Vec<f32> = products.iter().zip(&inverse).map(|(product, inverse)| product * inverse).collect();
        // d becomes scale * (d - mean(d) - normalised x * mean(d * normalised x)): per channel a d + b x + c.
        let channels = self.frames.channels;
        let slope: Vec<f32> = (0..channels).map(|j| -scale[j] * inverse[j] * for_gamma[j] / moments.count).collect();
        let constant: Vec<f32> =
            (0..channels).map(|j| -scale[j] * sums[j] / moments.count - slope[j] * moments.mean[j]).collect();
        d.par_chunks_exact_mut(self.frames.sequence()).zip(self.frames.real(x)).for_each(|(d, x)| {
            vectorized(|| {
                for (d, x) in d.chunks_exact_mut(channels).zip(x.chunks_exact(channels)) {
                    let terms = scale.iter().zip(&slope).zip(&constant);
                    for ((d, x), ((scale, slope), constant)) in d.iter_mut().zip(x).zip(terms) {
                        *d = scale * *d + slope * x + constant;
                    }
                }
            });
        });
        [Some(d), Some(for_gamma), Some(sums)]
    }
}

/// A given scale and shift.
#[derive(Clone, Debug)]
struct Affine(Frames);

impl Kernel<3> for Affine {
    type Saved = ();

    fn forward(&self, [x, scale, shift]: [&[f32]; 3]) -> (Vec<f32>, Vec<usize>, ()) {
        (self.0.activate(x, scale, shift), self.0.shape(), ())
    }

    fn backward(
        &self,
        [x, scale, shift]: [&[f32]; 3],
        _: &[f32],
        _: &(),
        gradient: &[f32],
        _: [bool; 3],
    ) -> [Option<Vec<f32>>; 3] {
        let zeros = vec![0.0; scale.len()];
        let (mut d, sums, products) = self.0.deactivate(x, [scale, shift, &zeros], gradient);
        d.par_chunks_exact_mut(scale.len()).for_each(|d| d.iter_mut().zip(scale).for_each(|(d, scale)| *d *= scale));
        [Some(d), Some(products), Some(sums)]
    }
}

/// Normalises by the statistics of the batch's real frames, then `after`; with mean and (biased) variance, `[channels]` each.
///
/// # Shapes
/// `[batch, frames, channels]` in and out, zeros in the padding.
pub(crate) fn batch_norm(
    x: Tensor<3>,
    [gamma, beta]: [Tensor<1>; 2],
    epsilon: f64,
    lengths: &[usize],
    after: After,
) -> (Tensor<3>, [Tensor<1>; 2]) {
    let device = gamma.device().inner();
    let frames = frames(&x, lengths, after);
    let channels = frames.channels;
    let kernel = BatchNorm { frames, epsilon: epsilon as f32 };
    let (y, moments) = apply(kernel, [x.into(), gamma.into(), beta.into()]);
    let statistic = |values: &[f32]| Tensor::from_data(TensorData::new(values.to_vec(), [channels]), &device);
    (y, [statistic(&moments.mean), statistic(&moments.variance)])
}

/// `after(scale x + shift)` with one scale and shift for each channel.
///
/// # Shapes
/// `[batch, frames, channels]` in and out, zeros in the padding.
pub(crate) fn affine(x: Tensor<3>, scale: Tensor<1>, shift: Tensor<1>, lengths: &[usize], after: After) -> Tensor<3> {
    apply(Affine(frames(&x, lengths, after)), [x.into(), scale.into(), shift.into()]).0
}

fn frames(x: &Tensor<3>, lengths: &[usize], after: After) -> Frames {
    let [_, frames, channels] = x.dims();
    Frames { frames, channels, lengths: lengths.to_vec(), after }
}
