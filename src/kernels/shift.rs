//! Convolution over time: one product for all taps, then shifted sums.

use burn::tensor::Tensor;

use super::math::vectorized;
use super::matrix::{Matrix, Mode, Threads, multiply};
use super::memory::{build, zeros};
use super::tape::{Kernel, apply};

/// Frames that one task works on.
const CHUNK: usize = 64;

#[derive(Clone, Debug)]
struct TimeConv {
    batch: usize,
    frames: usize,
    inputs: usize,
    outputs: usize,
    width: usize,
}

impl TimeConv {
    /// The taps that reach a real frame from row `row` (of all frames of all sequences), forwards or backwards in time: (tap, row
    /// that it reaches).
    fn taps(&self, row: usize, forwards: bool) -> impl Iterator<Item = (usize, usize)> {
        let (frame, left, frames) = (row % self.frames, (self.width - 1) / 2, self.frames);
        (0..self.width).filter_map(move |tap| {
            let (gain, loss) = if forwards { (tap, left) } else { (left, tap) };
            let reached = (frame + gain).checked_sub(loss)?;
            (reached < frames).then_some((tap, row - frame + reached))
        })
    }
}

impl Kernel<2> for TimeConv {
    type Saved = ();

    fn forward(&self, [x, weight]: [&[f32]; 2]) -> (Vec<f32>, Vec<usize>, ()) {
        let &Self { batch, frames, inputs, outputs, width } = self;
        let (rows, columns) = (batch * frames, width * outputs);
        let mut taps = zeros(rows * columns);
        let (x, weight) = (Matrix::new(x, rows, inputs), Matrix::new(weight, inputs, columns));
        multiply(x, weight, &mut taps, columns, Mode::Set, Threads::All);
        let y = build(rows * outputs, CHUNK * outputs, |chunk, y| {
            for (index, y) in y.chunks_exact_mut(outputs).enumerate() {
                for (tap, from) in self.taps(chunk * CHUNK + index, true) {
                    let values = &taps[from * columns + tap * outputs..][..outputs];
                    vectorized(|| y.iter_mut().zip(values).for_each(|(y, value)| *y += value));
                }
            }
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
        let taps = build(rows * columns, CHUNK * columns, |chunk, taps| {
            for (index, taps) in taps.chunks_exact_mut(columns).enumerate() {
                for (tap, from) in self.taps(chunk * CHUNK + index, false) {
                    taps[tap * outputs..][..outputs].copy_from_slice(&gradient[from * outputs..][..outputs]);
                }
            }
        });
        let taps = Matrix::new(&taps, rows, columns);
        let for_x = wanted[0].then(|| {
            let mut out = zeros(x.len());
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
