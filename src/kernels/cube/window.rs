//! Unfolding and folding a grid.

use burn::backend::TensorMetadata;
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::super::Window;
use super::empty;

/// What a kernel is compiled for. Grids differ from utterance to utterance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Form {
    taps: [usize; 2],
    stride: [usize; 2],
    before: [usize; 2],
    mirrored: bool,
}

/// Where a tap along columns is kept, or what is kept there.
#[cube]
fn mirrored(tap: u32, #[comptime] window: Form) -> u32 {
    let mut place = tap;
    if comptime!(window.mirrored) {
        place = comptime!(window.taps[1] as u32 - 1) - tap;
    }
    place
}

impl From<Window> for Form {
    fn from(Window { taps, stride, before, mirrored, .. }: Window) -> Self {
        Self { taps, stride, before, mirrored }
    }
}

/// A unit for each value of the windows.
#[cube(launch)]
fn unfold_windows(
    x: &Tensor<f32>,
    y: &mut Tensor<f32>,
    rows: u32,
    columns: u32,
    count_rows: u32,
    count_columns: u32,
    #[comptime] window: Form,
    #[comptime] channels: u32,
) {
    let index = ABSOLUTE_POS as u32;
    if ABSOLUTE_POS < y.len() {
        let channel = index % channels;
        let tap = index / channels;
        let tap_column = mirrored(tap % comptime!(window.taps[1] as u32), window);
        let tap = tap / comptime!(window.taps[1] as u32);
        let tap_row = tap % comptime!(window.taps[0] as u32);
        let place = tap / comptime!(window.taps[0] as u32);
        let column = place % count_columns;
        let place = place / count_columns;
        let row = place % count_rows;
        let sample = place / count_rows;
        // Counted from the first padded row and column, so that nothing is below zero.
        let row = row * comptime!(window.stride[0] as u32) + tap_row;
        let column = column * comptime!(window.stride[1] as u32) + tap_column;
        let top = comptime!(window.before[0] as u32);
        let left = comptime!(window.before[1] as u32);
        let mut value = 0.0f32;
        if row >= top && row < top + rows && column >= left && column < left + columns {
            let from = ((sample * rows + row - top) * columns + column - left) * channels + channel;
            value = x[from as usize];
        }
        y[ABSOLUTE_POS] = value;
    }
}

/// A unit for each value of the grid.
#[cube(launch)]
fn fold_windows(
    y: &Tensor<f32>,
    x: &mut Tensor<f32>,
    rows: u32,
    columns: u32,
    count_rows: u32,
    count_columns: u32,
    #[comptime] window: Form,
    #[comptime] channels: u32,
) {
    let index = ABSOLUTE_POS as u32;
    if ABSOLUTE_POS < x.len() {
        let channel = index % channels;
        let place = index / channels;
        let column = place % columns + comptime!(window.before[1] as u32);
        let place = place / columns;
        let row = place % rows + comptime!(window.before[0] as u32);
        let sample = place / rows;
        let down = comptime!(window.stride[0] as u32);
        let across = comptime!(window.stride[1] as u32);
        let taps_rows = comptime!(window.taps[0] as u32);
        let taps_columns = comptime!(window.taps[1] as u32);
        let mut sum = 0.0f32;
        #[unroll]
        for tap_row in 0..taps_rows {
            if row >= tap_row && (row - tap_row) % down == 0 && (row - tap_row) / down < count_rows {
                let at_row = sample * count_rows + (row - tap_row) / down;
                #[unroll]
                for tap_column in 0..taps_columns {
                    if column >= tap_column
                        && (column - tap_column) % across == 0
                        && (column - tap_column) / across < count_columns
                    {
                        let at = at_row * count_columns + (column - tap_column) / across;
                        let tap = at * taps_rows + tap_row;
                        let from = (tap * taps_columns + mirrored(tap_column, window)) * channels + channel;
                        sum += y[from as usize];
                    }
                }
            }
        }
        x[ABSOLUTE_POS] = sum;
    }
}

/// Units of a cube.
pub(super) const UNITS: u32 = 256;

/// Enough cubes for a unit each; along one axis a device takes no more than 65 535.
pub(super) fn cubes(tensor: &CubeTensor) -> CubeCount {
    let count = tensor.shape().num_elements().div_ceil(UNITS as usize);
    let rows = count.div_ceil(MOST_CUBES).max(1);
    CubeCount::Static(count.div_ceil(rows) as u32, rows as u32, 1)
}

/// Of one axis.
const MOST_CUBES: usize = 65_535;

/// See [`super::grids::Grids::unfold`].
pub(super) fn unfold(x: CubeTensor, window: Window) -> CubeTensor {
    let x = into_contiguous(x);
    let [batch, _, _, channels] = super::shape(&x);
    let y = empty(&x, &window.unfolded(batch, channels));
    unfold_windows::launch(
        &x.client.clone(),
        cubes(&y),
        CubeDim::new_1d(UNITS),
        x.into_tensor_arg(),
        y.clone().into_tensor_arg(),
        window.grid[0] as u32,
        window.grid[1] as u32,
        window.count[0] as u32,
        window.count[1] as u32,
        window.into(),
        channels as u32,
    );
    y
}

/// See [`super::grids::Grids::fold`].
pub(super) fn fold(y: CubeTensor, window: Window) -> CubeTensor {
    let y = into_contiguous(y);
    let [rows, columns] = super::shape(&y);
    let folded = window.folded(rows, columns);
    let x = empty(&y, &folded);
    fold_windows::launch(
        &y.client.clone(),
        cubes(&x),
        CubeDim::new_1d(UNITS),
        y.into_tensor_arg(),
        x.clone().into_tensor_arg(),
        window.grid[0] as u32,
        window.grid[1] as u32,
        window.count[0] as u32,
        window.count[1] as u32,
        window.into(),
        folded[3] as u32,
    );
    x
}
