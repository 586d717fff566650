//! Matrix products and sums on slices.

use std::ops::Range;

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
    let out = Output(out.as_mut_ptr());
    let tile = |rows: Range<usize>, columns: Range<usize>| {
        // SAFETY: both operands and the result lie within their slices, as just checked; `out` is borrowed exclusively, its rows do
        // not overlap, and no two tiles share a part of it.
        unsafe {
            gemm::gemm(
                rows.len(),
                columns.len(),
                inner,
                out.at(rows.start * row_step + columns.start),
                1,
                row_step as isize,
                mode == Mode::Add,
                a.values.as_ptr().add(rows.start * a.row_step),
                a.column_step as isize,
                a.row_step as isize,
                b.values.as_ptr().add(columns.start * b.column_step),
                b.column_step as isize,
                b.row_step as isize,
                1.0,
                1.0,
                false,
                false,
                false,
                Parallelism::None,
            );
        }
    };
    match threads {
        Threads::All if inner > 0 => {
            let tiles = |side| rows.div_ceil(side) * columns.div_ceil(side);
            let side = TILE_SIDES.into_iter().find(|&side| tiles(side) >= 4).unwrap_or(TILE_SIDES[3]);
            let across = columns.div_ceil(side);
            (0..rows.div_ceil(side) * across).into_par_iter().for_each(|index| {
                let (row, column) = (index / across * side, index % across * side);
                tile(row..rows.min(row + side), column..columns.min(column + side));
            });
        }
        _ => tile(0..rows, 0..columns),
    }
}

/// Rows and columns that a thread computes at a time: the most of which there are four, whatever the number of threads.
const TILE_SIDES: [usize; 4] = [256, 128, 64, 32];

/// Where several threads write parts of one product.
#[derive(Clone, Copy)]
struct Output(*mut f32);

// SAFETY: it only leads to values that are borrowed exclusively for as long as it is used, and each thread writes others.
unsafe impl Sync for Output {}

impl Output {
    /// # Safety
    /// `offset` must be within what it was made from.
    unsafe fn at(&self, offset: usize) -> *mut f32 {
        // SAFETY: as the caller promises.
        unsafe { self.0.add(offset) }
    }
}

/// The second factor of many small products: its columns in blocks as wide as the innermost loop of a product, each block row by
/// row. Rows of a whole matrix that begin a power of two apart push each other out of the cache.
pub(super) struct Blocks {
    values: Vec<f32>,
    rows: usize,
    columns: usize,
    width: usize,
}

impl Blocks {
    pub fn new(matrix: Matrix) -> Self {
        let Matrix { values, rows, columns, row_step, column_step } = matrix;
        assert!(matrix.fits());
        let width = block_width();
        let values = build(rows * columns, rows * width, |index, block| {
            let width = width.min(columns - index * width);
            for (row, to) in block.chunks_exact_mut(width).enumerate() {
                let from = values[row * row_step + index * block_width() * column_step..].iter().step_by(column_step);
                to.iter_mut().zip(from).for_each(|(to, from)| *to = *from);
            }
        });
        Self { values, rows, columns, width }
    }

    /// [`multiply`] with these as the second factor, by one thread.
    ///
    /// # Panics
    /// As [`multiply`].
    pub fn multiply(&self, a: Matrix, out: &mut [f32], row_step: usize, mode: Mode) {
        for (index, block) in self.values.chunks(self.rows * self.width).enumerate() {
            let first = index * self.width;
            let block = Matrix::new(block, self.rows, self.width.min(self.columns - first));
            multiply(a, block, &mut out[first..], row_step, mode, Threads::One);
        }
    }
}

/// Columns that the innermost loop of a product holds in registers: four AVX-512 registers, or two of AVX2.
fn block_width() -> usize {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx512f") {
        return 64;
    }
    16
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

/// `to += from`.
pub(super) fn add(to: &mut [f32], from: &[f32]) {
    vectorized(|| to.iter_mut().zip(from).for_each(|(to, from)| *to += from));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(len: usize) -> Vec<f32> {
        (0..len).map(|index| ((index * 7919) % 1013) as f32 / 506.5 - 1.0).collect()
    }

    #[test]
    fn products_in_tiles_and_blocks_are_products() {
        for (rows, columns, inner) in [(1, 1, 1), (2, 131, 5), (300, 7, 33), (139, 270, 4), (513, 517, 3), (40, 70, 9)]
        {
            for (turned, row_step) in [(false, columns), (true, columns + 3)] {
                let (a, b) = (values(rows * inner), values(inner * columns));
                let (a, b) = match turned {
                    false => (Matrix::new(&a, rows, inner), Matrix::new(&b, inner, columns)),
                    true => (Matrix::new(&a, inner, rows).transposed(), Matrix::new(&b, columns, inner).transposed()),
                };
                let [mut one, mut all, mut blocks] = [(); 3].map(|()| vec![1.0; rows * row_step]);
                multiply(a, b, &mut one, row_step, Mode::Add, Threads::One);
                multiply(a, b, &mut all, row_step, Mode::Add, Threads::All);
                Blocks::new(b).multiply(a, &mut blocks, row_step, Mode::Add);
                let at = |matrix: &Matrix, row, column| {
                    f64::from(matrix.values[row * matrix.row_step + column * matrix.column_step])
                };
                for (row, column) in (0..rows).flat_map(|row| (0..row_step).map(move |column| (row, column))) {
                    let product = |k| at(&a, row, k) * at(&b, k, column);
                    let wanted = 1.0 + if column < columns { (0..inner).map(product).sum() } else { 0.0 };
                    for found in [&one, &all, &blocks] {
                        let found = f64::from(found[row * row_step + column]);
                        assert!((found - wanted).abs() < 1e-5, "{rows} {columns} {inner}: {found} {wanted}");
                    }
                }
            }
        }
    }
}
