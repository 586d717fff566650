//! Kernels that add up rows, and that add one to all.

use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::window::{UNITS, cubes};
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

/// `x + row`, times `slope` where that is below zero: a unit for each value.
#[cube(launch)]
fn rows_biased(x: &Tensor<f32>, row: &Tensor<f32>, y: &mut Tensor<f32>, slope: f32) {
    if ABSOLUTE_POS < y.len() {
        let mut value = x[ABSOLUTE_POS] + row[ABSOLUTE_POS % row.len()];
        if value < 0.0f32 {
            value *= slope;
        }
        y[ABSOLUTE_POS] = value;
    }
}

/// The gradient before the slope, and as [`add_rows`] its sums.
#[cube(launch)]
fn rows_biased_back(
    gradient: &Tensor<f32>,
    y: &Tensor<f32>,
    for_x: &mut Tensor<f32>,
    sums: &mut Tensor<f32>,
    rows: u32,
    columns: u32,
    parts: u32,
    slope: f32,
) {
    let unit = UNIT_POS_X as usize;
    let lane = unit / comptime!(COLUMNS);
    let column = CUBE_POS_X as usize * comptime!(COLUMNS) + unit % comptime!(COLUMNS);
    let (rows, columns, parts) = (rows as usize, columns as usize, parts as usize);
    let mut sum = 0.0f32;
    if column < columns {
        let mut row = CUBE_POS_Y as usize * comptime!(ROWS) + lane;
        while row < rows {
            let at = row * columns + column;
            let mut value = gradient[at];
            if y[at] < 0.0f32 {
                value *= slope;
            }
            for_x[at] = value;
            sum += value;
            row += parts * comptime!(ROWS);
        }
    }
    let sum = sum_of_column(sum);
    if lane == 0 && column < columns {
        sums[CUBE_POS_Y as usize * columns + column] = sum;
    }
}

/// See [`super::columns::Columns::biased`].
pub(super) fn biased(x: CubeTensor, row: CubeTensor, slope: f32) -> CubeTensor {
    let [x, row] = [x, row].map(into_contiguous);
    let y = empty(&x, &shape::<2>(&x));
    rows_biased::launch(
        &y.client,
        cubes(&y),
        CubeDim::new_1d(UNITS),
        x.into_tensor_arg(),
        row.into_tensor_arg(),
        y.clone().into_tensor_arg(),
        slope,
    );
    y
}

/// See [`super::columns::Columns::biased_back`].
pub(super) fn biased_back(gradient: CubeTensor, y: CubeTensor, slope: f32) -> (CubeTensor, CubeTensor) {
    let [gradient, y] = [gradient, y].map(into_contiguous);
    let [rows, columns] = shape(&y);
    let parts = parts(rows);
    let (for_x, sums) = (empty(&y, &[rows, columns]), empty(&y, &[1, parts, columns]));
    rows_biased_back::launch(
        &sums.client,
        CubeCount::Static(columns.div_ceil(COLUMNS) as u32, parts as u32, 1),
        CubeDim::new_1d((ROWS * COLUMNS) as u32),
        gradient.into_tensor_arg(),
        y.into_tensor_arg(),
        for_x.clone().into_tensor_arg(),
        sums.clone().into_tensor_arg(),
        rows as u32,
        columns as u32,
        parts as u32,
        slope,
    );
    (for_x, sums)
}
