//! Matrix products and sums on slices.

use gemm::Parallelism;
use rayon::prelude::*;

use super::math::vectorized;
use super::memory::build;

/// A matrix within a slice: element `(r, c)` at `r * row_step + c * column_step`.
#[derive(Clone, Copy)]
pub(super) struct Matrix<'a> {
    values: &'a [f32],
    rows: usize,
    columns: usize,
    row_step: usize,
    column_step: usize,
}

impl<'a> Matrix<'a> {
    /// Rows one after the other.
    pub fn new(values: &'a [f32], rows: usize, columns: usize) -> Self {
        Self::with_step(values, rows, columns, columns)
    }

    /// Rows that begin `row_step` apart; they may overlap.
    pub fn with_step(values: &'a [f32], rows: usize, columns: usize, row_step: usize) -> Self {
        Self { values, rows, columns, row_step, column_step: 1 }
    }

    /// The same values with rows and columns exchanged.
    pub fn transposed(self) -> Self {
        Self { rows: self.columns, columns: self.rows, row_step: self.column_step, column_step: self.row_step, ..self }
    }

    fn fits(&self) -> bool {
        let last = (self.rows.max(1) - 1) * self.row_step + (self.columns.max(1) - 1) * self.column_step;
        self.rows * self.columns == 0 || last < self.values.len()
    }
}

/// Whether a product replaces what is there or is added to it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    Set,
    Add,
}

/// How many threads one product may use.
#[derive(Clone, Copy)]
pub(super) enum Threads {
    One,
    All,
}

/// `out = a b` or `out += a b`; the rows of `out` begin `row_step` apart.
///
/// # Panics
/// If the sizes do not fit together or a matrix does not fit its slice.
pub(super) fn multiply(a: Matrix, b: Matrix, out: &mut [f32], row_step: usize, mode: Mode, threads: Threads) {
    let (rows, columns, inner) = (a.rows, b.columns, a.columns);
    assert_eq!(inner, b.rows, "inner sizes of a matrix product");
    if rows == 0 || columns == 0 {
        return;
    }
    assert!(a.fits() && b.fits() && row_step >= columns && (rows - 1) * row_step + columns <= out.len());
    let parallelism = match threads {
        Threads::One => Parallelism::None,
        Threads::All => Parallelism::Rayon(0),
    };
    // SAFETY: both operands and the result lie within their slices, as just checked; `out` is borrowed exclusively and its
    // rows do not overlap.
    unsafe {
        gemm::gemm(
            rows,
            columns,
            inner,
            out.as_mut_ptr(),
            1,
            row_step as isize,
            mode == Mode::Add,
            a.values.as_ptr(),
            a.column_step as isize,
            a.row_step as isize,
            b.values.as_ptr(),
            b.column_step as isize,
            b.row_step as isize,
            1.0,
            1.0,
            false,
            false,
            false,
            parallelism,
        );
    }
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

/// `[rows, columns]` to `[columns, rows]`.
pub(super) fn transpose(values: &[f32], rows: usize, columns: usize) -> Vec<f32> {
    const SIDE: usize = 16; // of the squares that are read and written together
    build(values.len(), SIDE * rows, |index, out| {
        for first in (0..rows).step_by(SIDE) {
            let across = first..rows.min(first + SIDE);
            for (column, out) in out.chunks_exact_mut(rows).enumerate() {
                for row in across.clone() {
                    out[row] = values[row * columns + index * SIDE + column];
                }
            }
        }
    })
}

/// `to += from`.
pub(super) fn add(to: &mut [f32], from: &[f32]) {
    vectorized(|| to.iter_mut().zip(from).for_each(|(to, from)| *to += from));
}
