//! How a batch of grids lies in memory for the convolutions of [`grid`](super::grid), and the way there and back.
//!
//! Rows of the whole batch follow one another. In [`Layout::padded`] each sample has a zero column on both sides, so that windows
//! of four columns with stride two begin at equal distances through the whole batch. In [`Layout::shared`] neighbouring samples
//! share one zero column, so that columns `j - 1` and `j` lie side by side wherever a transposed convolution meets them.

use burn::tensor::Tensor;
use rayon::prelude::*;

use super::memory::{build, build_blocks};
use super::tape::{Kernel, apply};

/// Samples that one task works on: their rows fit the cache of a core.
pub(super) const CHUNK: usize = 8;

/// Where the value of a row, sample, column and channel lies.
#[derive(Clone, Copy, Debug)]
pub(super) struct Layout {
    pub batch: usize,
    pub rows: usize,
    pub columns: usize,
    pub channels: usize,
    /// Columns stored for each sample, the zero columns among them, and those before the first real one.
    pub stored: usize,
    pub before: usize,
    /// Zero columns before the first sample of a row.
    pub lead: usize,
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

    pub fn shape(&self) -> Vec<usize> {
        match self.lead {
            0 => vec![self.rows, self.batch, self.stored, self.channels],
            _ => vec![self.rows, 1 + self.batch * self.stored, self.channels],
        }
    }

    /// Values in one row of the whole batch.
    pub fn row(&self) -> usize {
        (self.lead + self.batch * self.stored) * self.channels
    }

    /// Where the real columns of a sample's row begin.
    pub fn at(&self, row: usize, sample: usize) -> usize {
        row * self.row() + (self.lead + sample * self.stored + self.before) * self.channels
    }
}

/// Fills the real columns of a grid: `write(row, first sample, values of these samples)`, in parallel.
pub(super) fn fill(layout: &Layout, write: impl Fn(usize, usize, &mut [f32]) + Sync) -> Vec<f32> {
    let chunk = CHUNK * layout.stored * layout.channels;
    build(layout.rows * layout.row(), layout.row(), |row, values| {
        let samples = values[layout.lead * layout.channels..].par_chunks_mut(chunk);
        samples.enumerate().for_each(|(index, values)| write(row, index * CHUNK, values));
    })
}

/// Fills the real columns of a grid: `write(first sample, a slice for each row of these samples' values)`, in parallel.
pub(super) fn fill_samples(layout: &Layout, write: impl Fn(usize, &mut [&mut [f32]]) + Sync) -> Vec<f32> {
    let Layout { rows, stored, channels, lead, .. } = *layout;
    let chunk = CHUNK * stored * channels;
    build_blocks(rows, layout.row(), lead * channels, chunk, |index, rows| write(index * CHUNK, rows))
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
