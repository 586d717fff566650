//! Convolutions that halve the columns of a grid, and their mirrors, without unfolding the input.
//!
//! The trick is in two layouts, both of rows of the whole batch. In [`Layout::padded`] each sample has a zero column on both sides,
//! so that the windows of four columns with stride two lie at equal distances through the whole batch: a convolution is a
//! matrix product for each row of the window, whose left operand is the input itself read with overlapping rows. In
//! [`Layout::shared`] neighbouring samples share one zero column, so that columns `j - 1` and `j` lie side by side wherever a
//! transposed convolution meets them: it too is a matrix product on the input itself.

use rayon::prelude::*;

use super::math::vectorized;
use super::matrix::{Matrix, Mode, Threads, multiply};
use super::memory::build;
use super::tape::{Kernel, apply};
use burn::tensor::Tensor;

/// Samples that one task works on: their rows fit the cache of a core.
const CHUNK: usize = 16;

/// A convolution from a fine grid to a coarse one of half the columns, or its mirror. The window is four columns wide with
/// stride two; its rows are three with stride one or four with stride two; padding is one everywhere.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Grid {
    pub batch: usize,
    /// Rows and columns of the coarse grid.
    pub rows: usize,
    pub columns: usize,
    pub row_stride: usize,
    pub row_taps: usize,
    /// Channels on the fine grid.
    pub fine: usize,
    /// Channels on the coarse grid.
    pub coarse: usize,
}

/// Where the value of a row, sample, column and channel lies.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Layout {
    batch: usize,
    rows: usize,
    columns: usize,
    channels: usize,
    /// Columns stored for each sample, the zero columns among them, and those before the first real one.
    stored: usize,
    before: usize,
    /// Zero columns before the first sample of a row.
    lead: usize,
}

impl Layout {
    /// `[rows, batch, columns + 2, channels]`
    pub fn padded(batch: usize, rows: usize, columns: usize, channels: usize) -> Self {
        Self { batch, rows, columns, channels, stored: columns + 2, before: 1, lead: 0 }
    }

    /// `[rows, 1 + batch * (columns + 1), channels]`
    pub fn shared(batch: usize, rows: usize, columns: usize, channels: usize) -> Self {
        Self { batch, rows, columns, channels, stored: columns + 1, before: 0, lead: 1 }
    }

    fn shape(&self) -> Vec<usize> {
        match self.lead {
            0 => vec![self.rows, self.batch, self.stored, self.channels],
            _ => vec![self.rows, 1 + self.batch * self.stored, self.channels],
        }
    }

    /// Values in one row of the whole batch.
    fn row(&self) -> usize {
        (self.lead + self.batch * self.stored) * self.channels
    }

    /// Where the real columns of a sample's row begin.
    fn at(&self, row: usize, sample: usize) -> usize {
        row * self.row() + (self.lead + sample * self.stored + self.before) * self.channels
    }
}

impl Grid {
    fn fine_rows(&self) -> usize {
        self.rows * self.row_stride
    }

    fn fine_layout(&self, layout: fn(usize, usize, usize, usize) -> Layout) -> Layout {
        layout(self.batch, self.fine_rows(), 2 * self.columns, self.fine)
    }

    fn coarse_layout(&self, layout: fn(usize, usize, usize, usize) -> Layout) -> Layout {
        layout(self.batch, self.rows, self.columns, self.coarse)
    }

    /// The rows of the window that meet coarse row `row`: (row of the window, row of the fine grid).
    fn window(&self, row: usize) -> impl Iterator<Item = (usize, usize)> {
        let (stride, rows) = (self.row_stride, self.fine_rows());
        (0..self.row_taps).filter_map(move |tap| {
            let fine = (row * stride + tap).checked_sub(1)?;
            (fine < rows).then_some((tap, fine))
        })
    }

    /// The coarse rows whose windows meet fine row `row`: (row of the window, row of the coarse grid).
    fn windows_over(&self, row: usize) -> impl Iterator<Item = (usize, usize)> {
        let grid = *self;
        (0..grid.row_taps).filter_map(move |tap| {
            let start = (row + 1).checked_sub(tap)?;
            (start % grid.row_stride == 0 && start / grid.row_stride < grid.rows)
                .then_some((tap, start / grid.row_stride))
        })
    }

    /// Weights `[coarse, fine, row taps, 4]` as one matrix `[4 * fine, coarse]` for each row of the window.
    fn gathering(&self, weight: &[f32]) -> Vec<f32> {
        let mut result = vec![0.0; weight.len()];
        self.each_weight(|from, q, p, r, t| result[((r * 4 + t) * self.fine + p) * self.coarse + q] = weight[from]);
        result
    }

    /// Weights `[coarse, fine, row taps, 4]` as one matrix `[2 * coarse, 2 * fine]` for each row of the window: from coarse columns
    /// `j - 1` and `j` to padded fine columns `2j` and `2j + 1`.
    fn spreading(&self, weight: &[f32]) -> Vec<f32> {
        let mut result = vec![0.0; weight.len()];
        self.each_weight(|from, q, p, r, t| {
            let (side, column) = (1 - t / 2, t % 2);
            result[((r * 2 + side) * self.coarse + q) * 2 * self.fine + column * self.fine + p] = weight[from];
        });
        result
    }

    fn each_weight(&self, mut visit: impl FnMut(usize, usize, usize, usize, usize)) {
        let mut index = 0;
        for q in 0..self.coarse {
            for p in 0..self.fine {
                for r in 0..self.row_taps {
                    for t in 0..4 {
                        visit(index, q, p, r, t);
                        index += 1;
                    }
                }
            }
        }
    }

    /// From the padded fine grid to coarse row `row` of `samples` samples from `first`: `[samples * (columns + 1), coarse]`, of which
    /// the last column of each sample means nothing.
    fn gather(&self, fine: &[f32], weights: &[f32], row: usize, first: usize, samples: usize, out: &mut [f32]) {
        let layout = self.fine_layout(Layout::padded);
        let count = samples * (self.columns + 1) - 1;
        for (index, (tap, fine_row)) in self.window(row).enumerate() {
            let start = fine_row * layout.row() + first * layout.stored * self.fine;
            let windows = Matrix::with_step(&fine[start..], count, 4 * self.fine, 2 * self.fine);
            let weights = Matrix::new(&weights[tap * 4 * self.fine * self.coarse..], 4 * self.fine, self.coarse);
            multiply(windows, weights, out, self.coarse, mode(index), Threads::One);
        }
    }

    /// From the shared coarse grid to fine row `row` of `samples` samples from `first`: `[samples * (2 * columns + 2), fine]`, the first
    /// and the last column of each sample being those of the padding.
    fn spread(&self, coarse: &[f32], weights: &[f32], row: usize, first: usize, samples: usize, out: &mut [f32]) {
        let layout = self.coarse_layout(Layout::shared);
        let count = samples * (self.columns + 1);
        for (index, (tap, coarse_row)) in self.windows_over(row).enumerate() {
            let start = coarse_row * layout.row() + first * layout.stored * self.coarse;
            let pairs = Matrix::with_step(&coarse[start..], count, 2 * self.coarse, self.coarse);
            let size = 4 * self.coarse * self.fine;
            let weights = Matrix::new(&weights[tap * size..], 2 * self.coarse, 2 * self.fine);
            multiply(pairs, weights, out, 2 * self.fine, mode(index), Threads::One);
        }
    }

    /// The gradient of the weights `[coarse, fine, row taps, 4]` from a padded fine grid and a shared coarse one.
    fn correlate(&self, fine: &[f32], coarse: &[f32]) -> Vec<f32> {
        let (fine_layout, coarse_layout) = (self.fine_layout(Layout::padded), self.coarse_layout(Layout::shared));
        let count = self.batch * (self.columns + 1) - 1;
        let half = 2 * self.fine * self.coarse; // two columns of the window
        let mut halves = vec![0.0; 2 * self.row_taps * half];
        halves.par_chunks_mut(half).enumerate().for_each(|(index, out)| {
            let (tap, side) = (index / 2, index % 2);
            for row in 0..self.rows {
                let Some((_, fine_row)) = self.window(row).find(|&(found, _)| found == tap) else { continue };
                let start = fine_row * fine_layout.row() + side * 2 * self.fine;
                let windows = Matrix::with_step(&fine[start..], count, 2 * self.fine, 2 * self.fine);
                let start = row * coarse_layout.row() + self.coarse;
                let columns = Matrix::new(&coarse[start..], count, self.coarse);
                multiply(windows.transposed(), columns, out, self.coarse, Mode::Add, Threads::One);
            }
        });
        let mut gradient = vec![0.0; halves.len()];
        self.each_weight(|to, q, p, r, t| gradient[to] = halves[((r * 4 + t) * self.fine + p) * self.coarse + q]);
        gradient
    }
}

fn mode(index: usize) -> Mode {
    if index == 0 { Mode::Set } else { Mode::Add }
}

/// Fills the real columns of a grid: `write(row, first sample, values of these samples)`, in parallel.
fn fill(layout: &Layout, write: impl Fn(usize, usize, &mut [f32]) + Sync) -> Vec<f32> {
    let chunk = CHUNK * layout.stored * layout.channels;
    build(layout.rows * layout.row(), layout.row(), |row, values| {
        let samples = values[layout.lead * layout.channels..].par_chunks_mut(chunk);
        samples.enumerate().for_each(|(index, values)| write(row, index * CHUNK, values));
    })
}

/// `y = activation(x + bias)` for each column of each sample; `x` has `skip` columns before the real ones of each sample.
fn activate(x: &[f32], skip: usize, x_stored: usize, bias: &[f32], slope: f32, layout: &Layout, out: &mut [f32]) {
    let (channels, columns) = (layout.channels, layout.columns);
    for (x, y) in x.chunks(x_stored * channels).zip(out.chunks_mut(layout.stored * channels)) {
        let x = &x[skip * channels..(skip + columns) * channels];
        let y = &mut y[layout.before * channels..(layout.before + columns) * channels];
        vectorized(|| {
            for (x, y) in x.chunks_exact(channels).zip(y.chunks_exact_mut(channels)) {
                for ((x, y), bias) in x.iter().zip(y).zip(bias) {
                    let sum = x + bias;
                    *y = if sum > 0.0 { sum } else { sum * slope };
                }
            }
        });
    }
}

/// The gradient before the activation, in another layout, and that of the bias.
fn deactivate(gradient: &[f32], output: &[f32], from: &Layout, to: &Layout, slope: f32) -> (Vec<f32>, Vec<f32>) {
    let width = from.columns * from.channels;
    let result = fill(to, |row, first, values| {
        for (index, sample) in values.chunks_mut(to.stored * to.channels).enumerate() {
            let start = from.at(row, first + index);
            let (g, y) = (&gradient[start..start + width], &output[start..start + width]);
            let d = &mut sample[to.before * to.channels..][..width];
            vectorized(|| {
                for ((d, g), y) in d.iter_mut().zip(g).zip(y) {
                    *d = if *y > 0.0 { *g } else { *g * slope };
                }
            });
        }
    });
    let bias = column_sums(&result, to.channels);
    (result, bias)
}

/// Sums over all rows of `[rows, columns]`.
pub(super) fn column_sums(values: &[f32], columns: usize) -> Vec<f32> {
    let partial: Vec<Vec<f32>> = values
        .par_chunks(columns * 1024)
        .map(|rows| {
            let mut sums = vec![0.0; columns];
            vectorized(|| {
                for row in rows.chunks_exact(columns) {
                    for (sum, value) in sums.iter_mut().zip(row) {
                        *sum += value;
                    }
                }
            });
            sums
        })
        .collect();
    let mut sums = vec![0.0; columns];
    for part in partial {
        sums.iter_mut().zip(part).for_each(|(sum, value)| *sum += value);
    }
    sums
}

/// Strided convolution with bias and leaky ReLU.
#[derive(Clone, Debug)]
struct Convolve {
    grid: Grid,
    slope: f32,
}

impl Kernel<3> for Convolve {
    type Saved = ();

    fn forward(&self, [x, weight, bias]: [&[f32]; 3]) -> (Vec<f32>, Vec<usize>, ()) {
        let grid = &self.grid;
        let weights = grid.gathering(weight);
        let layout = grid.coarse_layout(Layout::padded);
        let stored = grid.columns + 1;
        let output = fill(&layout, |row, first, values| {
            let samples = values.len() / (layout.stored * layout.channels);
            let mut sums = vec![0.0; samples * stored * grid.coarse];
            grid.gather(x, &weights, row, first, samples, &mut sums);
            activate(&sums, 0, stored, bias, self.slope, &layout, values);
        });
        (output, layout.shape(), ())
    }

    fn backward(
        &self,
        [x, weight, _]: [&[f32]; 3],
        output: &[f32],
        _: &(),
        gradient: &[f32],
        wanted: [bool; 3],
    ) -> [Option<Vec<f32>>; 3] {
        let grid = &self.grid;
        let (from, to) = (grid.coarse_layout(Layout::padded), grid.coarse_layout(Layout::shared));
        let (d, bias) = deactivate(gradient, output, &from, &to, self.slope);
        let for_x = wanted[0].then(|| {
            let weights = grid.spreading(weight);
            let layout = grid.fine_layout(Layout::padded);
            fill(&layout, |row, first, values| {
                let samples = values.len() / (layout.stored * layout.channels);
                grid.spread(&d, &weights, row, first, samples, values);
            })
        });
        [for_x, wanted[1].then(|| grid.correlate(x, &d)), Some(bias)]
    }
}

/// Transposed strided convolution with bias and leaky ReLU.
#[derive(Clone, Debug)]
struct Deconvolve {
    grid: Grid,
    slope: f32,
}

impl Kernel<3> for Deconvolve {
    type Saved = ();

    fn forward(&self, [x, weight, bias]: [&[f32]; 3]) -> (Vec<f32>, Vec<usize>, ()) {
        let grid = &self.grid;
        let weights = grid.spreading(weight);
        let layout = grid.fine_layout(Layout::shared);
        let stored = 2 * grid.columns + 2;
        let output = fill(&layout, |row, first, values| {
            let samples = values.len() / (layout.stored * layout.channels);
            let mut sums = vec![0.0; samples * stored * grid.fine];
            grid.spread(x, &weights, row, first, samples, &mut sums);
            activate(&sums, 1, stored, bias, self.slope, &layout, values);
        });
        (output, layout.shape(), ())
    }

    fn backward(
        &self,
        [x, weight, _]: [&[f32]; 3],
        output: &[f32],
        _: &(),
        gradient: &[f32],
        wanted: [bool; 3],
    ) -> [Option<Vec<f32>>; 3] {
        let grid = &self.grid;
        let (from, to) = (grid.fine_layout(Layout::shared), grid.fine_layout(Layout::padded));
        let (d, bias) = deactivate(gradient, output, &from, &to, self.slope);
        let for_x = wanted[0].then(|| {
            let weights = grid.gathering(weight);
            let layout = grid.coarse_layout(Layout::shared);
            fill(&layout, |row, first, values| {
                let samples = values.len() / (layout.stored * layout.channels);
                grid.gather(&d, &weights, row, first, samples, values);
            })
        });
        [for_x, wanted[1].then(|| grid.correlate(&d, x)), Some(bias)]
    }
}

/// Moves values between a grid and plain arrays.
#[derive(Clone, Debug)]
struct Relay {
    grid: Layout,
    form: Form,
    /// Whether the grid is the output.
    onto_grid: bool,
}

/// How the plain array is ordered.
#[derive(Clone, Copy, Debug)]
enum Form {
    /// `[channels, batch, rows, columns]`
    Planes,
    /// `[batch, channels * rows * columns]`
    Flat,
}

impl Relay {
    /// Where the rows of a channel of a sample begin in the plain array.
    fn plane(&self, sample: usize, channel: usize) -> usize {
        let Layout { batch, rows, columns, channels, .. } = self.grid;
        let index = match self.form {
            Form::Planes => channel * batch + sample,
            Form::Flat => sample * channels + channel,
        };
        index * rows * columns
    }

    fn onto_grid(&self, plain: &[f32]) -> Vec<f32> {
        let Layout { columns, channels, stored, before, .. } = self.grid;
        fill(&self.grid, |row, first, values| {
            for (index, sample) in values.chunks_mut(stored * channels).enumerate() {
                for channel in 0..channels {
                    let line = &plain[self.plane(first + index, channel) + row * columns..][..columns];
                    let to = sample[before * channels + channel..].iter_mut().step_by(channels);
                    to.zip(line).for_each(|(to, from)| *to = *from);
                }
            }
        })
    }

    fn off_grid(&self, grid: &[f32]) -> Vec<f32> {
        let Layout { batch, rows, columns, channels, .. } = self.grid;
        build(batch * rows * columns * channels, rows * columns, |index, plane| {
            let (sample, channel) = match self.form {
                Form::Planes => (index % batch, index / batch),
                Form::Flat => (index / channels, index % channels),
            };
            for (row, line) in plane.chunks_exact_mut(columns).enumerate() {
                let from = grid[self.grid.at(row, sample) + channel..].iter().step_by(channels);
                line.iter_mut().zip(from).for_each(|(to, from)| *to = *from);
            }
        })
    }
}

impl Kernel<1> for Relay {
    type Saved = ();

    fn forward(&self, [x]: [&[f32]; 1]) -> (Vec<f32>, Vec<usize>, ()) {
        let Layout { batch, rows, columns, channels, .. } = self.grid;
        if self.onto_grid {
            return (self.onto_grid(x), self.grid.shape(), ());
        }
        let shape = match self.form {
            Form::Planes => vec![channels, batch, rows, columns],
            Form::Flat => vec![batch, channels * rows * columns],
        };
        (self.off_grid(x), shape, ())
    }

    fn backward(&self, _: [&[f32]; 1], _: &[f32], _: &(), gradient: &[f32], _: [bool; 1]) -> [Option<Vec<f32>>; 1] {
        [Some(if self.onto_grid { self.off_grid(gradient) } else { self.onto_grid(gradient) })]
    }
}

/// Convolution with bias and leaky ReLU (`slope` 1: none).
///
/// # Shapes
/// `x` on the padded fine grid, `weight` `[coarse, fine, row taps, 4]`, `bias` `[coarse]` to the padded coarse grid.
pub(crate) fn convolve(x: Tensor<4>, weight: Tensor<4>, bias: Tensor<1>, grid: Grid, slope: f64) -> Tensor<4> {
    apply(Convolve { grid, slope: slope as f32 }, [x.into(), weight.into(), bias.into()]).0
}

/// Transposed convolution with bias and leaky ReLU (`slope` 1: none).
///
/// # Shapes
/// `x` on the shared coarse grid, `weight` `[coarse, fine, row taps, 4]`, `bias` `[fine]` to the shared fine grid.
pub(crate) fn deconvolve(x: Tensor<3>, weight: Tensor<4>, bias: Tensor<1>, grid: Grid, slope: f64) -> Tensor<3> {
    apply(Deconvolve { grid, slope: slope as f32 }, [x.into(), weight.into(), bias.into()]).0
}

/// `[batch, rows, columns]` onto a padded grid of one channel.
pub(crate) fn pack(x: Tensor<3>) -> Tensor<4> {
    let [batch, rows, columns] = x.dims();
    apply(Relay { grid: Layout::padded(batch, rows, columns, 1), form: Form::Planes, onto_grid: true }, [x.into()]).0
}

/// A padded grid as `[batch, channels * rows * columns]`.
pub(crate) fn flatten(x: Tensor<4>) -> Tensor<2> {
    let [rows, batch, stored, channels] = x.dims();
    apply(
        Relay { grid: Layout::padded(batch, rows, stored - 2, channels), form: Form::Flat, onto_grid: false },
        [x.into()],
    )
    .0
}

/// `[batch, channels * rows * columns]` onto a shared grid.
pub(crate) fn from_flat(x: Tensor<2>, [rows, columns]: [usize; 2]) -> Tensor<3> {
    let [batch, flat] = x.dims();
    let grid = Layout::shared(batch, rows, columns, flat / (rows * columns));
    apply(Relay { grid, form: Form::Flat, onto_grid: true }, [x.into()]).0
}

/// A shared grid of `batch` samples as `[channels, batch, rows, columns]`.
pub(crate) fn unpack(x: Tensor<3>, batch: usize) -> Tensor<4> {
    let [rows, stored, channels] = x.dims();
    let grid = Layout::shared(batch, rows, (stored - 1) / batch - 1, channels);
    apply(Relay { grid, form: Form::Planes, onto_grid: false }, [x.into()]).0
}
