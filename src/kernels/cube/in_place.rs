//! Kernels that change tensors where they lie, a unit for each value.

use burn::backend::TensorMetadata;
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::window::{UNITS, cubes};

#[cube(launch)]
fn assign_values(to: &mut Tensor<f32>, from: &Tensor<f32>) {
    let index = ABSOLUTE_POS;
    if index < to.len() {
        to[index] = from[index];
    }
}

#[cube(launch)]
fn adam_step(
    parameter: &mut Tensor<f32>,
    first: &mut Tensor<f32>,
    second: &mut Tensor<f32>,
    gradient: &Tensor<f32>,
    clip: &Tensor<f32>,
    numbers: &Tensor<f32>,
    #[comptime] decays: bool,
) {
    let index = ABSOLUTE_POS;
    if index < parameter.len() {
        let slope = gradient[index] * clip[0];
        let mean = numbers[0] * first[index] + numbers[2] * slope;
        let square = numbers[1] * second[index] + numbers[3] * slope * slope;
        first[index] = mean;
        second[index] = square;
        let mut kept = parameter[index];
        if comptime!(decays) {
            kept *= numbers[7];
        }
        parameter[index] = kept - numbers[5] * mean / ((square / numbers[6]).sqrt() + numbers[4]);
    }
}

#[cube(launch)]
fn approach_values(average: &mut Tensor<f32>, parameter: &Tensor<f32>, numbers: &Tensor<f32>) {
    let index = ABSOLUTE_POS;
    if index < average.len() {
        let before = average[index];
        average[index] = before + numbers[8] * (parameter[index] - before);
    }
}

/// Parts in which the squares of one tensor are added up.
pub(super) const PARTS: usize = 64;
/// Values that are worth a cube of their own.
const WORTH: usize = 4096;

/// Each cube adds up the squares of every so manieth value, and leaves the sum at its place.
#[cube(launch)]
fn add_squares(parts: &mut Tensor<f32>, values: &Tensor<f32>, first: u32, cubes: u32) {
    let mut sums = Shared::<[f32]>::new_slice(comptime!(UNITS as usize));
    let unit = UNIT_POS_X as usize;
    let step = comptime!(UNITS as usize) * cubes as usize;
    let mut index = CUBE_POS_X as usize * comptime!(UNITS as usize) + unit;
    let mut sum = 0.0f32;
    while index < values.len() {
        sum += values[index] * values[index];
        index += step;
    }
    sums[unit] = sum;
    sync_cube();
    #[unroll]
    for halving in 0..comptime!(UNITS.ilog2()) {
        let half = comptime!(UNITS as usize >> (halving + 1));
        if unit < half {
            sums[unit] = sums[unit] + sums[unit + half];
        }
        sync_cube();
    }
    if unit == 0 {
        parts[first as usize + CUBE_POS_X as usize] = sums[0];
    }
}

/// See [`super::update::Update::squares`].
pub(super) fn squares(parts: CubeTensor, values: CubeTensor, place: usize) -> CubeTensor {
    let [parts, values] = [parts, values].map(into_contiguous);
    let cubes = values.shape().num_elements().div_ceil(WORTH).clamp(1, PARTS) as u32;
    add_squares::launch(
        &parts.client,
        CubeCount::Static(cubes, 1, 1),
        CubeDim::new_1d(UNITS),
        parts.clone().into_tensor_arg(),
        values.into_tensor_arg(),
        (place * PARTS) as u32,
        cubes,
    );
    parts
}

/// See [`super::update::Update::assign`].
pub(super) fn assign(to: CubeTensor, from: CubeTensor) -> CubeTensor {
    assert!(to.is_contiguous(), "what is changed in place must have been settled: {:?}", to.meta);
    let from = into_contiguous(from);
    assign_values::launch(
        &to.client,
        cubes(&to),
        CubeDim::new_1d(UNITS),
        to.clone().into_tensor_arg(),
        from.into_tensor_arg(),
    );
    to
}

/// See [`super::update::Update::adam`].
pub(super) fn adam(
    changed: [CubeTensor; 3],
    read: [CubeTensor; 3],
    decays: bool,
) -> (CubeTensor, CubeTensor, CubeTensor) {
    let [parameter, first, second] = changed.map(into_contiguous);
    let [gradient, clip, numbers] = read.map(into_contiguous);
    adam_step::launch(
        &parameter.client,
        cubes(&parameter),
        CubeDim::new_1d(UNITS),
        parameter.clone().into_tensor_arg(),
        first.clone().into_tensor_arg(),
        second.clone().into_tensor_arg(),
        gradient.into_tensor_arg(),
        clip.into_tensor_arg(),
        numbers.into_tensor_arg(),
        decays,
    );
    (parameter, first, second)
}

/// See [`super::update::Update::approach`].
pub(super) fn approach(tensors: [CubeTensor; 3]) -> CubeTensor {
    let [average, parameter, numbers] = tensors.map(into_contiguous);
    approach_values::launch(
        &average.client,
        cubes(&average),
        CubeDim::new_1d(UNITS),
        average.clone().into_tensor_arg(),
        parameter.into_tensor_arg(),
        numbers.into_tensor_arg(),
    );
    average
}
