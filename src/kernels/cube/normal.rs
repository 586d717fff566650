//! Kernels of normal distributions and of distances.

use burn::backend::TensorMetadata;
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::empty;
use super::many::sequence;
use super::products::sigmoid;
use super::sums::{sum, sum_of_cube};
use super::window::{UNITS, cubes};

#[cube]
fn scale(raw: f32, floor: f32) -> f32 {
    floor + f32::max(raw, 0.0f32) + (0.0f32 - raw.abs()).exp().log1p()
}

/// Where the parameters of a value's distribution lie: in tensors of their own, or beside each other in one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Form {
    Apart,
    Beside,
}

impl Form {
    fn of(outputs: &[CubeTensor]) -> Self {
        if outputs.len() == 1 { Self::Beside } else { Self::Apart }
    }

    fn step(self) -> usize {
        if self == Self::Beside { 2 } else { 1 }
    }

    /// Of the raw scale: which tensor it is in, and how far from its beginning.
    fn raw(self) -> (usize, usize) {
        if self == Self::Beside { (0, 1) } else { (1, 0) }
    }
}

/// Each cube adds up the negative log-densities of every so manieth value.
#[cube(launch)]
fn densities(
    x: &Tensor<f32>,
    outputs: &Sequence<Box<[f32]>>,
    parts: &mut Tensor<f32>,
    floor: f32,
    #[comptime] form: Form,
) {
    let means = &outputs[0];
    let raws = &outputs[comptime!(form.raw().0)];
    let mut sum = 0.0f32;
    let mut index = ABSOLUTE_POS;
    while index < x.len() {
        let at = index * comptime!(form.step());
        let scale = scale(raws[at + comptime!(form.raw().1)], floor);
        let z = (x[index] - means[at]) / scale;
        sum += 0.5f32 * z * z + scale.ln();
        index += parts.len() * comptime!(UNITS as usize);
    }
    let sum = sum_of_cube(sum);
    if UNIT_POS_X == 0 {
        parts[CUBE_POS_X as usize] = sum;
    }
}

#[cube(launch)]
fn densities_back(
    gradient: &Tensor<f32>,
    x: &Tensor<f32>,
    outputs: &Sequence<Box<[f32]>>,
    found: &mut Sequence<Box<[f32]>>,
    floor: f32,
    #[comptime] form: Form,
) {
    if ABSOLUTE_POS < x.len() {
        let at = ABSOLUTE_POS * comptime!(form.step());
        let at_raw = at + comptime!(form.raw().1);
        let mean = (&outputs[0])[at];
        let raw = (&outputs[comptime!(form.raw().0)])[at_raw];
        let scale = scale(raw, floor);
        let z = (x[ABSOLUTE_POS] - mean) / scale;
        let slope = gradient[0] / scale;
        let for_mean = &mut found[0];
        for_mean[at] = 0.0f32 - slope * z;
        let for_raw = &mut found[comptime!(form.raw().0)];
        for_raw[at_raw] = slope * (1.0f32 - z * z) * sigmoid(raw);
    }
}

/// Each cube adds up the divergences of every so manieth distribution.
#[cube(launch)]
fn divergences(mean: &Tensor<f32>, raw: &Tensor<f32>, parts: &mut Tensor<f32>, floor: f32) {
    let mut sum = 0.0f32;
    let mut index = ABSOLUTE_POS;
    while index < mean.len() {
        let (mean, scale) = (mean[index], scale(raw[index], floor));
        sum += 0.5f32 * (mean * mean + scale * scale - 1.0f32) - scale.ln();
        index += parts.len() * comptime!(UNITS as usize);
    }
    let sum = sum_of_cube(sum);
    if UNIT_POS_X == 0 {
        parts[CUBE_POS_X as usize] = sum;
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
        for_mean[ABSOLUTE_POS] = gradient[0] * mean[ABSOLUTE_POS];
        for_raw[ABSOLUTE_POS] = gradient[0] * (scale - 1.0f32 / scale) * sigmoid(raw[ABSOLUTE_POS]);
    }
}

#[cube(launch)]
fn samples(mean: &Tensor<f32>, raw: &Tensor<f32>, noise: &Tensor<f32>, values: &mut Tensor<f32>, floor: f32) {
    if ABSOLUTE_POS < values.len() {
        values[ABSOLUTE_POS] = mean[ABSOLUTE_POS] + scale(raw[ABSOLUTE_POS], floor) * noise[ABSOLUTE_POS];
    }
}

#[cube(launch)]
fn samples_back(gradient: &Tensor<f32>, raw: &Tensor<f32>, noise: &Tensor<f32>, for_raw: &mut Tensor<f32>) {
    if ABSOLUTE_POS < for_raw.len() {
        for_raw[ABSOLUTE_POS] = gradient[ABSOLUTE_POS] * noise[ABSOLUTE_POS] * sigmoid(raw[ABSOLUTE_POS]);
    }
}

/// Each cube adds up the weighted distances of every so manieth value in a real frame.
#[cube(launch)]
fn distances(
    x: &Tensor<f32>,
    target: &Tensor<f32>,
    weights: &Tensor<f32>,
    mask: &Tensor<f32>,
    parts: &mut Tensor<f32>,
    #[comptime] masked: bool,
) {
    let mut sum = 0.0f32;
    let mut index = ABSOLUTE_POS;
    while index < x.len() {
        let mut share = weights[index % weights.len()];
        if comptime!(masked) {
            share *= mask[index / weights.len()];
        }
        sum += share * (x[index] - target[index]).abs();
        index += parts.len() * comptime!(UNITS as usize);
    }
    let sum = sum_of_cube(sum);
    if UNIT_POS_X == 0 {
        parts[CUBE_POS_X as usize] = sum;
    }
}

#[cube(launch)]
fn distances_back(
    gradient: &Tensor<f32>,
    x: &Tensor<f32>,
    target: &Tensor<f32>,
    weights: &Tensor<f32>,
    mask: &Tensor<f32>,
    for_x: &mut Tensor<f32>,
    #[comptime] masked: bool,
) {
    if ABSOLUTE_POS < for_x.len() {
        let difference = x[ABSOLUTE_POS] - target[ABSOLUTE_POS];
        let mut slope = gradient[0] * weights[ABSOLUTE_POS % weights.len()];
        if comptime!(masked) {
            slope *= mask[ABSOLUTE_POS / weights.len()];
        }
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

/// Values that are worth a cube of their own, and the most cubes that add up.
const VALUES: usize = 16 * UNITS as usize;
const CUBES: usize = 1024;

/// Room for a sum of each of the cubes that add up values of these, and those cubes.
fn parts(tensor: &CubeTensor) -> (CubeTensor, CubeCount) {
    let cubes = tensor.shape().num_elements().div_ceil(VALUES).clamp(1, CUBES);
    (empty(tensor, &[cubes]), CubeCount::Static(cubes as u32, 1, 1))
}

/// See [`super::density::Densities::nll`].
pub(super) fn nll(x: CubeTensor, outputs: Vec<CubeTensor>, floor: f32) -> CubeTensor {
    let x = into_contiguous(x);
    let outputs: Vec<_> = outputs.into_iter().map(into_contiguous).collect();
    let (parts, cubes) = parts(&x);
    densities::launch(
        &parts.client,
        cubes,
        CubeDim::new_1d(UNITS),
        x.into_tensor_arg(),
        sequence(&outputs),
        parts.clone().into_tensor_arg(),
        floor,
        Form::of(&outputs),
    );
    sum(parts)
}

/// See [`super::density::Densities::nll_back`].
pub(super) fn nll_back(gradient: CubeTensor, x: CubeTensor, outputs: Vec<CubeTensor>, floor: f32) -> Vec<CubeTensor> {
    let [gradient, x] = [gradient, x].map(into_contiguous);
    let outputs: Vec<_> = outputs.into_iter().map(into_contiguous).collect();
    let found: Vec<_> = outputs.iter().map(like).collect();
    densities_back::launch(
        &x.client.clone(),
        cubes(&x),
        CubeDim::new_1d(UNITS),
        gradient.into_tensor_arg(),
        x.into_tensor_arg(),
        sequence(&outputs),
        sequence(&found),
        floor,
        Form::of(&outputs),
    );
    found
}

/// See [`super::density::Densities::divergence`].
pub(super) fn divergence(operands: [CubeTensor; 2], floor: f32) -> CubeTensor {
    let [mean, raw] = operands.map(into_contiguous);
    let (parts, cubes) = parts(&mean);
    divergences::launch(
        &parts.client,
        cubes,
        CubeDim::new_1d(UNITS),
        mean.into_tensor_arg(),
        raw.into_tensor_arg(),
        parts.clone().into_tensor_arg(),
        floor,
    );
    sum(parts)
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

/// See [`super::density::Densities::sample`].
pub(super) fn sample(operands: [CubeTensor; 3], floor: f32) -> CubeTensor {
    let [mean, raw, noise] = operands.map(into_contiguous);
    let values = like(&mean);
    samples::launch(
        &values.client,
        cubes(&values),
        CubeDim::new_1d(UNITS),
        mean.into_tensor_arg(),
        raw.into_tensor_arg(),
        noise.into_tensor_arg(),
        values.clone().into_tensor_arg(),
        floor,
    );
    values
}

/// See [`super::density::Densities::sample_back`].
pub(super) fn sample_back(operands: [CubeTensor; 3]) -> CubeTensor {
    let [gradient, raw, noise] = operands.map(into_contiguous);
    let for_raw = like(&raw);
    samples_back::launch(
        &for_raw.client,
        cubes(&for_raw),
        CubeDim::new_1d(UNITS),
        gradient.into_tensor_arg(),
        raw.into_tensor_arg(),
        noise.into_tensor_arg(),
        for_raw.clone().into_tensor_arg(),
    );
    for_raw
}

/// See [`super::density::Densities::distance`].
pub(super) fn distance(operands: [CubeTensor; 4], masked: bool) -> CubeTensor {
    let [x, target, weights, mask] = operands.map(into_contiguous);
    let (parts, cubes) = parts(&x);
    distances::launch(
        &parts.client,
        cubes,
        CubeDim::new_1d(UNITS),
        x.into_tensor_arg(),
        target.into_tensor_arg(),
        weights.into_tensor_arg(),
        mask.into_tensor_arg(),
        parts.clone().into_tensor_arg(),
        masked,
    );
    sum(parts)
}

/// See [`super::density::Densities::distance_back`].
pub(super) fn distance_back(operands: [CubeTensor; 5], masked: bool) -> CubeTensor {
    let [gradient, x, target, weights, mask] = operands.map(into_contiguous);
    let for_x = like(&x);
    distances_back::launch(
        &for_x.client,
        cubes(&for_x),
        CubeDim::new_1d(UNITS),
        gradient.into_tensor_arg(),
        x.into_tensor_arg(),
        target.into_tensor_arg(),
        weights.into_tensor_arg(),
        mask.into_tensor_arg(),
        for_x.clone().into_tensor_arg(),
        masked,
    );
    for_x
}
