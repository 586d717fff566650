//! Sums of all values.

use burn::backend::TensorMetadata;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::empty;
use super::window::UNITS;

/// The sum of what the units of a cube bring, all of which must call it.
#[cube]
pub(super) fn sum_of_cube(value: f32) -> f32 {
    let mut sums = Shared::<[f32]>::new_slice(comptime!(UNITS as usize));
    let unit = UNIT_POS_X as usize;
    sums[unit] = value;
    sync_cube();
    #[unroll]
    for halving in 0..comptime!(UNITS.ilog2()) {
        let half = comptime!(UNITS as usize >> (halving + 1));
        if unit < half {
            sums[unit] = sums[unit] + sums[unit + half];
        }
        sync_cube();
    }
    sums[0]
}

/// One cube adds up all.
#[cube(launch)]
fn sum_values(values: &Tensor<f32>, total: &mut Tensor<f32>) {
    let mut sum = 0.0f32;
    let mut index = UNIT_POS_X as usize;
    while index < values.len() {
        sum += values[index];
        index += comptime!(UNITS as usize);
    }
    let sum = sum_of_cube(sum);
    if UNIT_POS_X == 0 {
        total[0] = sum;
    }
}

/// The sum of some thousand values at most, without gaps, `[1]`.
pub(super) fn sum(values: CubeTensor) -> CubeTensor {
    if values.shape().num_elements() == 1 {
        return values;
    }
    let total = empty(&values, &[1]);
    sum_values::launch(
        &total.client,
        CubeCount::Static(1, 1, 1),
        CubeDim::new_1d(UNITS),
        values.into_tensor_arg(),
        total.clone().into_tensor_arg(),
    );
    total
}
