//! Kernels of normal distributions and of distances, a unit for each value.

use burn::backend::TensorMetadata;
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::empty;
use super::products::sigmoid;
use super::window::{UNITS, cubes};

#[cube]
fn scale(raw: f32, floor: f32) -> f32 {
    floor + f32::max(raw, 0.0f32) + (0.0f32 - raw.abs()).exp().log1p()
}

#[cube(launch)]
fn densities(x: &Tensor<f32>, mean: &Tensor<f32>, raw: &Tensor<f32>, values: &mut Tensor<f32>, floor: f32) {
    if ABSOLUTE_POS < values.len() {
        let scale = scale(raw[ABSOLUTE_POS], floor);
        let z = (x[ABSOLUTE_POS] - mean[ABSOLUTE_POS]) / scale;
        values[ABSOLUTE_POS] = 0.5f32 * z * z + scale.ln();
    }
}

#[cube(launch)]
fn densities_back(
    gradient: &Tensor<f32>,
    x: &Tensor<f32>,
    mean: &Tensor<f32>,
    raw: &Tensor<f32>,
    for_mean: &mut Tensor<f32>,
    for_raw: &mut Tensor<f32>,
    floor: f32,
) {
    if ABSOLUTE_POS < for_mean.len() {
        let scale = scale(raw[ABSOLUTE_POS], floor);
        let z = (x[ABSOLUTE_POS] - mean[ABSOLUTE_POS]) / scale;
        let slope = gradient[ABSOLUTE_POS] / scale;
        for_mean[ABSOLUTE_POS] = 0.0f32 - slope * z;
        for_raw[ABSOLUTE_POS] = slope * (1.0f32 - z * z) * sigmoid(raw[ABSOLUTE_POS]);
    }
}

#[cube(launch)]
fn divergences(mean: &Tensor<f32>, raw: &Tensor<f32>, values: &mut Tensor<f32>, floor: f32) {
    if ABSOLUTE_POS < values.len() {
        let (mean, scale) = (mean[ABSOLUTE_POS], scale(raw[ABSOLUTE_POS], floor));
        values[ABSOLUTE_POS] = 0.5f32 * (mean * mean + scale * scale - 1.0f32) - scale.ln();
    }
}

#[cube(launch)]
fn divergences_back(
    gradient: &Tensor<f32>,
    mean: &Tensor<f32>,
    raw: &Tensor<f32>,
    for_mean: &mut Tensor<f32>,
    for_raw: &mut Tensor<f32>,
    floor: f32,
) {
    if ABSOLUTE_POS < for_mean.len() {
        let scale = scale(raw[ABSOLUTE_POS], floor);
        for_mean[ABSOLUTE_POS] = gradient[ABSOLUTE_POS] * mean[ABSOLUTE_POS];
        for_raw[ABSOLUTE_POS] = gradient[ABSOLUTE_POS] * (scale - 1.0f32 / scale) * sigmoid(raw[ABSOLUTE_POS]);
    }
}

#[cube(launch)]
fn distances(x: &Tensor<f32>, target: &Tensor<f32>, weights: &Tensor<f32>, values: &mut Tensor<f32>) {
    if ABSOLUTE_POS < values.len() {
        let distance = (x[ABSOLUTE_POS] - target[ABSOLUTE_POS]).abs();
        values[ABSOLUTE_POS] = weights[ABSOLUTE_POS % weights.len()] * distance;
    }
}

#[cube(launch)]
fn distances_back(
    gradient: &Tensor<f32>,
    x: &Tensor<f32>,
    target: &Tensor<f32>,
    weights: &Tensor<f32>,
    for_x: &mut Tensor<f32>,
) {
    if ABSOLUTE_POS < for_x.len() {
        let difference = x[ABSOLUTE_POS] - target[ABSOLUTE_POS];
        let slope = gradient[ABSOLUTE_POS] * weights[ABSOLUTE_POS % weights.len()];
        let mut value = 0.0f32;
        if difference > 0.0f32 {
            value = slope;
        }
        if difference < 0.0f32 {
            value = 0.0f32 - slope;
        }
        for_x[ABSOLUTE_POS] = value;
    }
}

/// Room for values like those of a tensor.
fn like(tensor: &CubeTensor) -> CubeTensor {
    empty(tensor, &tensor.shape())
}

/// See [`super::density::Densities::density`].
pub(super) fn density(operands: [CubeTensor; 3], floor: f32) -> CubeTensor {
    let [x, mean, raw] = operands.map(into_contiguous);
    let values = like(&x);
    densities::launch(
        &values.client,
        cubes(&values),
        CubeDim::new_1d(UNITS),
        x.into_tensor_arg(),
        mean.into_tensor_arg(),
        raw.into_tensor_arg(),
        values.clone().into_tensor_arg(),
        floor,
    );
    values
}

/// See [`super::density::Densities::density_back`].
pub(super) fn density_back(operands: [CubeTensor; 4], floor: f32) -> (CubeTensor, CubeTensor) {
    let [gradient, x, mean, raw] = operands.map(into_contiguous);
    let (for_mean, for_raw) = (like(&mean), like(&raw));
    densities_back::launch(
        &for_mean.client,
        cubes(&for_mean),
        CubeDim::new_1d(UNITS),
        gradient.into_tensor_arg(),
        x.into_tensor_arg(),
        mean.into_tensor_arg(),
        raw.into_tensor_arg(),
        for_mean.clone().into_tensor_arg(),
        for_raw.clone().into_tensor_arg(),
        floor,
    );
    (for_mean, for_raw)
}

/// See [`super::density::Densities::divergence`].
pub(super) fn divergence(operands: [CubeTensor; 2], floor: f32) -> CubeTensor {
    let [mean, raw] = operands.map(into_contiguous);
    let values = like(&mean);
    divergences::launch(
        &values.client,
        cubes(&values),
        CubeDim::new_1d(UNITS),
        mean.into_tensor_arg(),
        raw.into_tensor_arg(),
        values.clone().into_tensor_arg(),
        floor,
    );
    values
}

/// See [`super::density::Densities::divergence_back`].
pub(super) fn divergence_back(operands: [CubeTensor; 3], floor: f32) -> (CubeTensor, CubeTensor) {
    let [gradient, mean, raw] = operands.map(into_contiguous);
    let (for_mean, for_raw) = (like(&mean), like(&raw));
    divergences_back::launch(
        &for_mean.client,
        cubes(&for_mean),
        CubeDim::new_1d(UNITS),
        gradient.into_tensor_arg(),
        mean.into_tensor_arg(),
        raw.into_tensor_arg(),
        for_mean.clone().into_tensor_arg(),
        for_raw.clone().into_tensor_arg(),
        floor,
    );
    (for_mean, for_raw)
}

/// See [`super::density::Densities::distance`].
pub(super) fn distance(operands: [CubeTensor; 3]) -> CubeTensor {
    let [x, target, weights] = operands.map(into_contiguous);
    let values = like(&x);
    distances::launch(
        &values.client,
        cubes(&values),
        CubeDim::new_1d(UNITS),
        x.into_tensor_arg(),
        target.into_tensor_arg(),
        weights.into_tensor_arg(),
        values.clone().into_tensor_arg(),
    );
    values
}

/// See [`super::density::Densities::distance_back`].
pub(super) fn distance_back(operands: [CubeTensor; 4]) -> CubeTensor {
    let [gradient, x, target, weights] = operands.map(into_contiguous);
    let for_x = like(&x);
    distances_back::launch(
        &for_x.client,
        cubes(&for_x),
        CubeDim::new_1d(UNITS),
        gradient.into_tensor_arg(),
        x.into_tensor_arg(),
        target.into_tensor_arg(),
        weights.into_tensor_arg(),
        for_x.clone().into_tensor_arg(),
    );
    for_x
}
