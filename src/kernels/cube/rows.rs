//! The kernel that adds up rows.

use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::{empty, shape};

/// Columns of a cube, which read one stretch of memory.
pub(super) const COLUMNS: usize = 32;
/// Rows that a cube reads at a time.
pub(super) const ROWS: usize = 8;
/// Rows that a unit adds up, about.
const EACH: usize = 16;
/// The most parts.
const PARTS: usize = 64;

/// Parts in which so many rows are added up.
pub(super) fn parts(rows: usize) -> usize {
    rows.div_ceil(ROWS * EACH).clamp(1, PARTS)
}

/// The sum of what the units of a column bring, all of which must call it, for the first of them.
#[cube]
pub(super) fn sum_of_column(value: f32) -> f32 {
    let mut found = Shared::<[f32]>::new_slice(comptime!(ROWS * COLUMNS));
    let unit = UNIT_POS_X as usize;
    let mut sum = value;
    found[unit] = value;
    sync_cube();
    if unit < comptime!(COLUMNS) {
        #[unroll]
        for other in 1..comptime!(ROWS) {
            sum += found[unit + other * comptime!(COLUMNS)];
        }
    }
    sum
}

/// A unit adds up every so manieth row of its column, the first unit of a column what its others found.
#[cube(launch)]
fn add_rows(x: &Tensor<f32>, sums: &mut Tensor<f32>, rows: u32, columns: u32, parts: u32) {
    let unit = UNIT_POS_X as usize;
    let lane = unit / comptime!(COLUMNS);
    let column = CUBE_POS_X as usize * comptime!(COLUMNS) + unit % comptime!(COLUMNS);
    let (rows, columns, parts) = (rows as usize, columns as usize, parts as usize);
    let mut sum = 0.0f32;
    if column < columns {
        let mut row = CUBE_POS_Y as usize * comptime!(ROWS) + lane;
        let matrix = CUBE_POS_Z as usize * rows;
        while row < rows {
            sum += x[(matrix + row) * columns + column];
            row += parts * comptime!(ROWS);
        }
    }
    let sum = sum_of_column(sum);
    if lane == 0 && column < columns {
        sums[(CUBE_POS_Z as usize * parts + CUBE_POS_Y as usize) * columns + column] = sum;
    }
}

/// See [`super::columns::Columns::sums_of_parts`].
pub(super) fn sums_of_parts(x: CubeTensor) -> CubeTensor {
    let x = into_contiguous(x);
    let [matrices, rows, columns] = shape(&x);
    let parts = parts(rows);
    let sums = empty(&x, &[matrices, parts, columns]);
    add_rows::launch(
        &sums.client,
        CubeCount::Static(columns.div_ceil(COLUMNS) as u32, parts as u32, matrices as u32),
        CubeDim::new_1d((ROWS * COLUMNS) as u32),
        x.into_tensor_arg(),
        sums.clone().into_tensor_arg(),
        rows as u32,
        columns as u32,
        parts as u32,
    );
    sums
}
