//! Convolutions that halve the columns of a grid, and their mirrors, without unfolding the input.
//!
//! Both are matrix products, one for each row of the window, whose left operand is the input itself read with overlapping
//! rows; the two layouts of [`Layout`] make that possible.

use burn::tensor::Tensor;
use rayon::prelude::*;

use super::layout::{Layout, fill};
use super::math::vectorized;
use super::matrix::{Matrix, Mode, Threads, column_sums, multiply};
use super::tape::{Kernel, apply};

/// A convolution from a fine grid to a coarse one of half the columns, or its mirror. The window is four columns wide with
/// stride two; its rows are three with stride one or four with stride two; padding is one everywhere.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Grid {
    /// Samples.
    pub batch: usize,
    /// Rows and columns of the coarse grid.
    pub rows: usize,
    pub columns: usize,
    /// Of the window: 1 and 3, or 2 and 4.
    pub row_stride: usize,
    pub row_taps: usize,
    /// Channels on the fine grid.
    pub fine: usize,
    /// Channels on the coarse grid.
    pub coarse: usize,
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

/// Which way a convolution goes, with the layout that both its ends have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// From the fine grid to the coarse one; padded.
    Down,
    /// From the coarse grid to the fine one; shared.
    Up,
}

impl Way {
    fn layout(self) -> fn(usize, usize, usize, usize) -> Layout {
        match self {
            Self::Down => Layout::padded,
            Self::Up => Layout::shared,
        }
    }

    fn back(self) -> Self {
        match self {
            Self::Down => Self::Up,
            Self::Up => Self::Down,
        }
    }
}

/// Strided convolution, transposed or not, with bias and leaky ReLU.
#[derive(Clone, Debug)]
struct Convolve {
    grid: Grid,
    way: Way,
    slope: f32,
}

impl Convolve {
    /// The grid that `way` leads to.
    fn end(&self, way: Way, layout: fn(usize, usize, usize, usize) -> Layout) -> Layout {
        match way {
            Way::Down => self.grid.coarse_layout(layout),
            Way::Up => self.grid.fine_layout(layout),
        }
    }

    fn weights(&self, way: Way, weight: &[f32]) -> Vec<f32> {
        match way {
            Way::Down => self.grid.gathering(weight),
            Way::Up => self.grid.spreading(weight),
        }
    }

    /// [`Grid::gather`] or [`Grid::spread`]; the weights are those of `way`.
    fn product(&self, way: Way, x: &[f32], weights: &[f32], at: (usize, usize, usize), out: &mut [f32]) {
        let (row, first, samples) = at;
        match way {
            Way::Down => self.grid.gather(x, weights, row, first, samples, out),
            Way::Up => self.grid.spread(x, weights, row, first, samples, out),
        }
    }
}

impl Kernel<3> for Convolve {
    type Saved = ();

    fn forward(&self, [x, weight, bias]: [&[f32]; 3]) -> (Vec<f32>, Vec<usize>, ()) {
        let weights = self.weights(self.way, weight);
        let layout = self.end(self.way, self.way.layout());
        // Columns of a sample as the product leaves them, and those before the first real one.
        let (stored, skip) = match self.way {
            Way::Down => (layout.columns + 1, 0),
            Way::Up => (layout.columns + 2, 1),
        };
        let output = fill(&layout, |row, first, values| {
            let samples = values.len() / (layout.stored * layout.channels);
            let mut sums = vec![0.0; samples * stored * layout.channels];
            self.product(self.way, x, &weights, (row, first, samples), &mut sums);
            activate(&sums, skip, stored, bias, self.slope, &layout, values);
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
        let (way, back) = (self.way, self.way.back());
        let (from, to) = (self.end(way, way.layout()), self.end(way, back.layout()));
        let (d, bias) = deactivate(gradient, output, &from, &to, self.slope);
        let for_x = wanted[0].then(|| {
            let weights = self.weights(back, weight);
            let layout = self.end(back, way.layout());
            fill(&layout, |row, first, values| {
                let samples = values.len() / (layout.stored * layout.channels);
                self.product(back, &d, &weights, (row, first, samples), values);
            })
        });
        let for_weight = wanted[1].then(|| match way {
            Way::Down => self.grid.correlate(x, &d),
            Way::Up => self.grid.correlate(&d, x),
        });
        [for_x, for_weight, Some(bias)]
    }
}

/// Convolution with bias and leaky ReLU (`slope` 1: none).
///
/// # Shapes
/// `x` on the padded fine grid, `weight` `[coarse, fine, row taps, 4]`, `bias` `[coarse]` to the padded coarse grid.
pub(crate) fn convolve(x: Tensor<4>, weight: Tensor<4>, bias: Tensor<1>, grid: Grid, slope: f64) -> Tensor<4> {
    apply(Convolve { grid, way: Way::Down, slope: slope as f32 }, [x.into(), weight.into(), bias.into()]).0
}

/// Transposed convolution with bias and leaky ReLU (`slope` 1: none).
///
/// # Shapes
/// `x` on the shared coarse grid, `weight` `[coarse, fine, row taps, 4]`, `bias` `[fine]` to the shared fine grid.
pub(crate) fn deconvolve(x: Tensor<3>, weight: Tensor<4>, bias: Tensor<1>, grid: Grid, slope: f64) -> Tensor<3> {
    apply(Convolve { grid, way: Way::Up, slope: slope as f32 }, [x.into(), weight.into(), bias.into()]).0
}
