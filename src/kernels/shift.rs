//! Convolution over time: one product for all taps, then shifted sums.

use burn::tensor::Tensor;
use rayon::prelude::*;

use super::math::vectorized;
use super::matrix::{Matrix, Mode, Threads, multiply};
use super::tape::{Kernel, apply};

#[derive(Clone, Debug)]
struct TimeConv {
    batch: usize,
    frames: usize,
    inputs: usize,
    outputs: usize,
    width: usize,
}

impl TimeConv {
    /// Visits, for each tap, the frames that it takes from: (tap, first output frame, first input frame, count).
    fn taps(&self) -> impl Iterator<Item = (usize, usize, usize, usize)> {
        let (left, frames) = ((self.width - 1) / 2, self.frames);
        (0..self.width).map(move |tap| {
            let (to, from) = (left.saturating_sub(tap), tap.saturating_sub(left));
            (tap, to.min(frames), from.min(frames), frames.saturating_sub(to.max(from)))
        })
    }
}

impl Kernel<2> for TimeConv {
    type Saved = ();

    fn forward(&self, [x, weight]: [&[f32]; 2]) -> (Vec<f32>, Vec<usize>, ()) {
        let &Self { batch, frames, inputs, outputs, width } = self;
        let (rows, columns) = (batch * frames, width * outputs);
        let mut taps = vec![0.0; rows * columns];
        let (x, weight) = (Matrix::new(x, rows, inputs), Matrix::new(weight, inputs, columns));
        multiply(x, weight, &mut taps, columns, Mode::Set, Threads::All);
        let mut y = vec![0.0; rows * outputs];
        y.par_chunks_mut(frames * outputs).zip(taps.par_chunks(frames * columns)).for_each(|(y, taps)| {
            vectorized(|| {
                for (tap, to, from, count) in self.taps() {
                    let rows = taps[from * columns..].chunks_exact(columns).take(count);
                    for (y, row) in y[to * outputs..].chunks_exact_mut(outputs).zip(rows) {
                        for (y, value) in y.iter_mut().zip(&row[tap * outputs..][..outputs]) {
                            *y += value;
                        }
                    }
                }
            });
        });
        (y, vec![batch, frames, outputs], ())
    }

    fn backward(
        &self,
        [x, weight]: [&[f32]; 2],
        _: &[f32],
        _: &(),
        gradient: &[f32],
        wanted: [bool; 2],
    ) -> [Option<Vec<f32>>; 2] {
        let &Self { batch, frames, inputs, outputs, width } = self;
        let (rows, columns) = (batch * frames, width * outputs);
        let mut taps = vec![0.0; rows * columns];
        taps.par_chunks_mut(frames * columns).zip(gradient.par_chunks(frames * outputs)).for_each(
            |(taps, gradient)| {
                for (tap, to, from, count) in self.taps() {
                    let rows = taps[from * columns..].chunks_exact_mut(columns).take(count);
                    for (row, gradient) in rows.zip(gradient[to * outputs..].chunks_exact(outputs)) {
                        row[tap * outputs..][..outputs].copy_from_slice(gradient);
                    }
                }
            },
        );
        let taps = Matrix::new(&taps, rows, columns);
        let for_x = wanted[0].then(|| {
            let mut out = vec![0.0; x.len()];
            let weight = Matrix::new(weight, inputs, columns).transposed();
            multiply(taps, weight, &mut out, inputs, Mode::Set, Threads::All);
            out
        });
        let for_weight = wanted[1].then(|| {
            let mut out = vec![0.0; weight.len()];
            let x = Matrix::new(x, rows, inputs).transposed();
            multiply(x, taps, &mut out, columns, Mode::Set, Threads::All);
            out
        });
        [for_x, for_weight]
    }
}

/// Convolution over time, output as long as the input.
///
/// # Shapes
/// `x` `[batch, frames, inputs]`, `weight` `[inputs, width * outputs]` to `[batch, frames, outputs]`
pub(crate) fn time_conv(x: Tensor<3>, weight: Tensor<2>, width: usize) -> Tensor<3> {
    let [batch, frames, inputs] = x.dims();
    let outputs = weight.dims()[1] / width;
    apply(TimeConv { batch, frames, inputs, outputs, width }, [x.into(), weight.into()]).0
}
