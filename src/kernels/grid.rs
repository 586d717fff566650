//! Convolutions that halve the columns of a grid, and their mirrors, without unfolding the input.
//!
//! Both are matrix products, one for each row of the window, whose left operand is the input itself read with overlapping
//! rows; the two layouts of [`Layout`] make that possible. Where both grids have channels enough there are fewer products, of
//! sums of rows: see [`winograd`](super::winograd).

use burn::tensor::Tensor;
use rayon::prelude::*;

use super::layout::{CHUNK, Layout, fill, fill_samples};
use super::math::{leaky_relu, leaky_relu_back, vectorized};
use super::matrix::{Matrix, Mode, Threads, add, column_sums, multiply};
use super::memory::build;
use super::tape::{Kernel, apply};
use super::winograd::{Plan, Sum};

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

    /// The products along rows; fewer, of sums, where these cost less than what they save.
    fn plan(&self) -> Plan {
        Plan::new(self.rows, self.row_stride, self.row_taps, self.fine.min(self.coarse) >= 16)
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

    /// Values of one matrix of weights.
    fn size(&self) -> usize {
        4 * self.fine * self.coarse
    }

    /// From the padded fine grid to `samples` samples from `first` of the coarse one: rows of `[samples * (columns + 1), coarse]`, of
    /// which the last column of each sample means nothing. `weights` are those of [`gathering`](Self::gathering), mixed.
    fn gather(&self, plan: &Plan, fine: &[f32], weights: &[f32], first: usize, samples: usize, out: &mut [&mut [f32]]) {
        let layout = self.fine_layout(Layout::padded);
        let (count, len) = (samples * (self.columns + 1) - 1, samples * layout.stored * self.fine);
        let row = |row: usize| &fine[row * layout.row() + first * layout.stored * self.fine..][..len];
        let size = samples * (self.columns + 1) * self.coarse;
        let (mut room, mut products) = (Vec::new(), Vec::new());
        for tile in &plan.tiles {
            if tile.direct().is_none() {
                products.resize(tile.points.len() * size, 0.0);
            }
            for (index, point) in tile.points.iter().enumerate() {
                let sum = match tile.direct() {
                    Some(row) => &mut *out[row],
                    None => &mut products[index * size..][..size],
                };
                for (index, term) in point.terms.iter().enumerate() {
                    let windows = mixed(&term.fine, row, &mut room);
                    let windows = Matrix::with_step(windows, count, 4 * self.fine, 2 * self.fine);
                    let weights = Matrix::new(&weights[term.weight * self.size()..], 4 * self.fine, self.coarse);
                    multiply(windows, weights, sum, self.coarse, mode(index), Threads::One);
                }
            }
            if tile.direct().is_none() {
                let product = |index: usize| &products[index * size..][..size];
                tile.coarse().iter().for_each(|(&row, sum)| mix(sum, product, out[row], Mode::Set));
            }
        }
    }

    /// From the shared coarse grid to `samples` samples from `first` of the fine one: rows of `[samples * (2 * columns + 2), fine]`, the
    /// first and the last column of each sample being those of the padding. `weights` are those of [`spreading`](Self::spreading), mixed.
    fn spread(
        &self,
        plan: &Plan,
        coarse: &[f32],
        weights: &[f32],
        first: usize,
        samples: usize,
        out: &mut [&mut [f32]],
    ) {
        let layout = self.coarse_layout(Layout::shared);
        let (count, len) = (samples * (self.columns + 1), (samples * layout.stored + 1) * self.coarse);
        let row = |row: usize| &coarse[row * layout.row() + first * layout.stored * self.coarse..][..len];
        let size = count * 2 * self.fine;
        let (mut room, mut products) = (Vec::new(), Vec::new());
        for tile in &plan.tiles {
            if tile.direct().is_none() {
                products.resize(tile.points.iter().map(|point| point.terms.len()).sum::<usize>() * size, 0.0);
            }
            let mut next = products.chunks_exact_mut(size);
            for point in &tile.points {
                let pairs = mixed(&point.coarse, row, &mut room);
                let pairs = Matrix::with_step(pairs, count, 2 * self.coarse, self.coarse);
                for term in &point.terms {
                    let weights = Matrix::new(&weights[term.weight * self.size()..], 2 * self.coarse, 2 * self.fine);
                    let (product, mode) = match tile.direct() {
                        Some(_) => (&mut *out[term.fine[0].0], Mode::Add),
                        None => (next.next().expect("one for each term"), Mode::Set),
                    };
                    multiply(pairs, weights, product, 2 * self.fine, mode, Threads::One);
                }
            }
            if tile.direct().is_none() {
                let product = |index: usize| &products[index * size..][..size];
                tile.fine().iter().for_each(|(&row, sum)| mix(sum, product, out[row], Mode::Add));
            }
        }
    }

    /// The gradient of the weights `[coarse, fine, row taps, 4]` from a padded fine grid and a shared coarse one.
    fn correlate(&self, fine: &[f32], coarse: &[f32]) -> Vec<f32> {
        let plan = self.plan();
        let groups = (GROUP_VALUES / (plan.weights.len() * self.size())).clamp(1, GROUPS);
        let group = CHUNK * self.batch.div_ceil(CHUNK * groups); // samples whose gradients are added as they come
        let starts: Vec<usize> = (0..self.batch).step_by(group).collect();
        let of_group = |&start: &usize| {
            let mut sums = vec![0.0; plan.weights.len() * self.size()];
            for first in (start..self.batch.min(start + group)).step_by(CHUNK) {
                self.correlate_samples(&plan, fine, coarse, first, CHUNK.min(self.batch - first), &mut sums);
            }
            sums
        };
        let sums: Vec<Vec<f32>> = starts.par_iter().map(of_group).collect();
        let totals = build(plan.weights.len() * self.size(), self.size(), |index, total| {
            sums.iter().for_each(|sums| add(total, &sums[index * self.size()..][..self.size()]));
        });
        let mut by_tap = vec![0.0; self.row_taps * self.size()];
        for (total, taps) in totals.chunks_exact(self.size()).zip(&plan.weights) {
            for &(tap, factor) in taps {
                mix(&[(0, factor)], |_| total, &mut by_tap[tap * self.size()..][..self.size()], Mode::Add);
            }
        }
        let mut gradient = vec![0.0; by_tap.len()];
        self.each_weight(|to, q, p, r, t| gradient[to] = by_tap[((r * 4 + t) * self.fine + p) * self.coarse + q]);
        gradient
    }

    /// Adds the gradient of the mixed weights from `samples` samples from `first`: `[4 * fine, coarse]` for each of them.
    fn correlate_samples(
        &self,
        plan: &Plan,
        fine: &[f32],
        coarse: &[f32],
        first: usize,
        samples: usize,
        sums: &mut [f32],
    ) {
        let (fine_layout, coarse_layout) = (self.fine_layout(Layout::padded), self.coarse_layout(Layout::shared));
        let count = samples * (self.columns + 1) - 1;
        let fine_row = |row: usize| {
            let start = row * fine_layout.row() + first * fine_layout.stored * self.fine;
            &fine[start..][..samples * fine_layout.stored * self.fine]
        };
        let coarse_row = |row: usize| {
            let start = row * coarse_layout.row() + (1 + first * coarse_layout.stored) * self.coarse;
            &coarse[start..][..count * self.coarse]
        };
        let (mut fine_room, mut coarse_room) = (Vec::new(), Vec::new());
        for point in plan.tiles.iter().flat_map(|tile| &tile.points) {
            let columns = Matrix::new(mixed(&point.coarse, coarse_row, &mut coarse_room), count, self.coarse);
            for term in &point.terms {
                let windows = mixed(&term.fine, fine_row, &mut fine_room);
                let windows = Matrix::with_step(windows, count, 4 * self.fine, 2 * self.fine);
                let sum = &mut sums[term.weight * self.size()..][..self.size()];
                multiply(windows.transposed(), columns, sum, self.coarse, Mode::Add, Threads::One);
            }
        }
    }
}

/// Values that one pass of a sum goes over.
const BLOCK: usize = 1024;

/// Parts that the samples of a gradient are divided into, at most; and values of the gradients of all parts.
const GROUPS: usize = 16;
const GROUP_VALUES: usize = 1 << 24;

/// The one index of a sum that is nothing else.
fn single(sum: &Sum) -> Option<usize> {
    match sum[..] {
        [(index, 1.0)] => Some(index),
        _ => None,
    }
}

/// The sum itself where it is one of the parts, else in `room`.
fn mixed<'r, 'p: 'r>(sum: &Sum, part: impl Fn(usize) -> &'p [f32], room: &'r mut Vec<f32>) -> &'r [f32] {
    if let Some(index) = single(sum) {
        return part(index);
    }
    room.resize(part(sum[0].0).len(), 0.0);
    mix(sum, part, room, Mode::Set);
    room
}

/// The sum of parts, each times its factor, in place of what is in `out` or added to it.
fn mix<'a>(sum: &[(usize, f32)], part: impl Fn(usize) -> &'a [f32], out: &mut [f32], mode: Mode) {
    for (block, out) in out.chunks_mut(BLOCK).enumerate() {
        for (order, sum) in sum.chunks(4).enumerate() {
            let parts: [_; 4] = std::array::from_fn(|slot| {
                let (index, factor) = sum.get(slot).copied().unwrap_or((sum[0].0, 0.0));
                (&part(index)[block * BLOCK..][..out.len()], factor)
            });
            let [(a, by_a), (b, by_b), (c, by_c), (d, by_d)] = parts;
            let values = out.iter_mut().zip(a).zip(b).zip(c).zip(d);
            if order == 0 && mode == Mode::Set {
                vectorized(move || {
                    values.for_each(|((((out, a), b), c), d)| *out = (by_a * a + by_b * b) + (by_c * c + by_d * d));
                });
            } else {
                vectorized(move || {
                    values.for_each(|((((out, a), b), c), d)| *out += (by_a * a + by_b * b) + (by_c * c + by_d * d));
                });
            }
        }
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
        vectorized(move || {
            for (x, y) in x.chunks_exact(channels).zip(y.chunks_exact_mut(channels)) {
                for ((x, y), bias) in x.iter().zip(y).zip(bias) {
                    *y = leaky_relu(x + bias, slope);
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
            vectorized(move || {
                for ((d, g), y) in d.iter_mut().zip(g).zip(y) {
                    *d = leaky_relu_back(*y, *g, slope);
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

    /// [`Grid::gather`] or [`Grid::spread`] with the weights `[coarse, fine, row taps, 4]`.
    fn product<'a>(&self, way: Way, x: &'a [f32], weight: &[f32]) -> impl Fn(usize, &mut [&mut [f32]]) + Sync + 'a {
        let (grid, plan, size) = (self.grid, self.grid.plan(), self.grid.size());
        let by_tap = self.weights(way, weight);
        let weights = build(plan.weights.len() * size, size, |index, out| {
            mix(&plan.weights[index], |tap| &by_tap[tap * size..][..size], out, Mode::Set);
        });
        move |first, out: &mut [&mut [f32]]| {
            let samples = CHUNK.min(grid.batch - first);
            match way {
                Way::Down => grid.gather(&plan, x, &weights, first, samples, out),
                Way::Up => grid.spread(&plan, x, &weights, first, samples, out),
            }
        }
    }
}

impl Kernel<3> for Convolve {
    type Saved = ();

    fn forward(&self, [x, weight, bias]: [&[f32]; 3]) -> (Vec<f32>, Vec<usize>, ()) {
        let layout = self.end(self.way, self.way.layout());
        let product = self.product(self.way, x, weight);
        // Columns of a sample as the product leaves them, and those before the first real one.
        let (stored, skip) = match self.way {
            Way::Down => (layout.columns + 1, 0),
            Way::Up => (layout.columns + 2, 1),
        };
        let output = fill_samples(&layout, |first, rows| {
            let len = rows[0].len() / layout.stored * stored;
            let mut sums = vec![0.0; rows.len() * len];
            product(first, &mut sums.chunks_mut(len).collect::<Vec<_>>());
            for (sums, row) in sums.chunks(len).zip(rows) {
                activate(sums, skip, stored, bias, self.slope, &layout, row);
            }
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
        let for_x = wanted[0].then(|| fill_samples(&self.end(back, way.layout()), self.product(back, &d, weight)));
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
