//! Kernels that change tensors where they lie, a unit for each value.

use burn::backend::TensorMetadata;
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

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

/// Units of a cube.
const UNITS: u32 = 256;

/// Enough cubes for a unit each.
fn cubes(tensor: &CubeTensor) -> CubeCount {
    CubeCount::Static((tensor.shape().num_elements() as u32).div_ceil(UNITS), 1, 1)
}

/// See [`super::update::Update::assign`].
pub(super) fn assign(tensors: [CubeTensor; 2]) -> CubeTensor {
    let [to, from] = tensors.map(into_contiguous);
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
