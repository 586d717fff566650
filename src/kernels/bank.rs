//! The bank of convolutions of CBHG.

use burn::tensor::Tensor;
use rayon::prelude::*;

use super::math::vectorized;
use super::matrix::{Matrix, Mode, Threads, multiply};
use super::memory::build;
use super::tape::{Kernel, apply};

/// Frames that one task works on.
const CHUNK: usize = 128;

#[derive(Clone, Debug)]
struct Bank {
    batch: usize,
    frames: usize,
    inputs: usize,
    outputs: usize,
    widths: usize,
}

impl Bank {
    /// Frames of a padded sequence.
    fn padded(&self) -> usize {
        self.frames + self.widths - 1
    }

    /// Zeros before the first frame of a padded sequence.
    fn left(&self) -> usize {
        (self.widths - 1) / 2
    }

    /// `[batch, frames + widths - 1, inputs]`
    fn pad(&self, x: &[f32]) -> Vec<f32> {
        let mut padded = vec![0.0; self.batch * self.padded() * self.inputs];
        let rows = padded.chunks_exact_mut(self.padded() * self.inputs);
        for (to, from) in rows.zip(x.chunks_exact(self.frames * self.inputs)) {
            to[self.left() * self.inputs..][..from.len()].copy_from_slice(from);
        }
        padded
    }

    /// What the filter of `width` sees of `count` frames from `frame` of a padded sequence, `[count, width * inputs]`.
    fn windows<'a>(&self, padded: &'a [f32], sequence: usize, frame: usize, count: usize, width: usize) -> Matrix<'a> {
        let first = sequence * self.padded() + frame + self.left() - (width - 1) / 2;
        Matrix::with_step(&padded[first * self.inputs..], count, width * self.inputs, self.inputs)
    }

    /// Where the weights of the filter of `width` lie.
    fn weights(&self, width: usize) -> std::ops::Range<usize> {
        let start = width * (width - 1) / 2 * self.inputs * self.outputs;
        start..start + width * self.inputs * self.outputs
    }
}

impl Kernel<2> for Bank {
    type Saved = ();

    fn forward(&self, [x, weight]: [&[f32]; 2]) -> (Vec<f32>, Vec<usize>, ()) {
        let &Self { batch, frames, inputs, outputs, widths } = self;
        let columns = widths * outputs;
        let padded = self.pad(x);
        let y = build(batch * frames * columns, frames * columns, |sequence, y| {
            y.par_chunks_mut(CHUNK * columns).enumerate().for_each(|(chunk, y)| {
                let count = y.len() / columns;
                for width in 1..=widths {
                    let windows = self.windows(&padded, sequence, chunk * CHUNK, count, width);
                    let weight = Matrix::new(&weight[self.weights(width)], width * inputs, outputs);
                    multiply(windows, weight, &mut y[(width - 1) * outputs..], columns, Mode::Set, Threads::One);
                }
            });
        });
        (y, vec![batch, frames, columns], ())
    }

    fn backward(
        &self,
        [x, weight]: [&[f32]; 2],
        _: &[f32],
        _: &(),
        gradient: &[f32],
        wanted: [bool; 2],
    ) -> [Option<Vec<f32>>; 2] {
        let &Self { batch, frames, inputs, outputs, widths } = self;
        let columns = widths * outputs;
        let of_filter = |sequence: usize, width: usize| {
            Matrix::with_step(
                &gradient[sequence * frames * columns + (width - 1) * outputs..],
                frames,
                outputs,
                columns,
            )
        };
        let for_weight = wanted[1].then(|| {
            let padded = self.pad(x);
            let largest_first: Vec<usize> = (1..=widths).rev().collect();
            let found: Vec<Vec<f32>> = largest_first
                .into_par_iter()
                .with_max_len(1)
                .map(|width| {
                    let mut out = vec![0.0; width * inputs * outputs];
                    for sequence in 0..batch {
                        let windows = self.windows(&padded, sequence, 0, frames, width).transposed();
                        multiply(windows, of_filter(sequence, width), &mut out, outputs, Mode::Add, Threads::One);
                    }
                    out
                })
                .collect();
            found.into_iter().rev().flatten().collect()
        });
        let for_x = wanted[0].then(|| {
            let mut out = vec![0.0; x.len()];
            out.par_chunks_mut(frames * inputs).enumerate().for_each(|(sequence, out)| {
                let mut padded = vec![0.0; self.padded() * inputs];
                for width in 1..=widths {
                    for tap in 0..width {
                        let start = self.weights(width).start + tap * inputs * outputs;
                        let weight = Matrix::new(&weight[start..], inputs, outputs).transposed();
                        let to = &mut padded[(self.left() - (width - 1) / 2 + tap) * inputs..];
                        multiply(of_filter(sequence, width), weight, to, inputs, Mode::Add, Threads::One);
                    }
                }
                vectorized(|| out.copy_from_slice(&padded[self.left() * inputs..][..frames * inputs]));
            });
            out
        });
        [for_x, for_weight]
    }
}

/// Convolutions over time of widths 1 to `widths`, their outputs side by side.
///
/// # Shapes
/// `x` `[batch, frames, inputs]`, `weight` `[inputs * widths * (widths + 1) / 2, outputs]` (one filter after the other, taps in order of time)
/// to `[batch, frames, widths * outputs]`
pub(crate) fn bank(x: Tensor<3>, weight: Tensor<2>, widths: usize) -> Tensor<3> {
    let [batch, frames, inputs] = x.dims();
    let outputs = weight.dims()[1];
    apply(Bank { batch, frames, inputs, outputs, widths }, [x.into(), weight.into()]).0
}
