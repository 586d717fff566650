//! Kernels of highway layers.

use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::products::sigmoid;
use super::rows::{COLUMNS, ROWS, parts, sum_of_column};
use super::window::{UNITS, cubes};
use super::{empty, shape};

/// A unit for each value. `both` has in each row what changes the values, then what opens the gate, without biases.
#[cube(launch)]
fn gates_opened(
    x: &Tensor<f32>,
    both: &Tensor<f32>,
    change_bias: &Tensor<f32>,
    gate_bias: &Tensor<f32>,
    y: &mut Tensor<f32>,
) {
    if ABSOLUTE_POS < y.len() {
        let channels = gate_bias.len();
        let channel = ABSOLUTE_POS % channels;
        let at = ABSOLUTE_POS / channels * 2 * channels + channel;
        let change = f32::max(both[at] + change_bias[channel], 0.0f32);
        let gate = sigmoid(both[at + channels] + gate_bias[channel]);
        let value = x[ABSOLUTE_POS];
        y[ABSOLUTE_POS] = value + gate * (change - value);
    }
}

/// The gradients of `x`, as far as it is carried, and of `both`; over parts of the rows, `[parts, 2 * channels]`, the sums of the latter.
#[cube(launch)]
fn gates_back(
    gradient: &Tensor<f32>,
    x: &Tensor<f32>,
    both: &Tensor<f32>,
    change_bias: &Tensor<f32>,
    gate_bias: &Tensor<f32>,
    for_x: &mut Tensor<f32>,
    for_both: &mut Tensor<f32>,
    found: &mut Tensor<f32>,
    rows: u32,
    parts: u32,
) {
    let unit = UNIT_POS_X as usize;
    let lane = unit / comptime!(COLUMNS);
    let channel = CUBE_POS_X as usize * comptime!(COLUMNS) + unit % comptime!(COLUMNS);
    let channels = gate_bias.len();
    let mut of_change = 0.0f32;
    let mut of_gate = 0.0f32;
    if channel < channels {
        let mut row = CUBE_POS_Y as usize * comptime!(ROWS) + lane;
        while row < rows as usize {
            let at = row * channels + channel;
            let at_both = row * 2 * channels + channel;
            let before = both[at_both] + change_bias[channel];
            let gate = sigmoid(both[at_both + channels] + gate_bias[channel]);
            let slope = gradient[at];
            let mut at_change = 0.0f32;
            if before > 0.0f32 {
                at_change = slope * gate;
            }
            let at_gate = slope * (f32::max(before, 0.0f32) - x[at]) * gate * (1.0f32 - gate);
            for_x[at] = slope * (1.0f32 - gate);
            for_both[at_both] = at_change;
            for_both[at_both + channels] = at_gate;
            of_change += at_change;
            of_gate += at_gate;
            row += parts as usize * comptime!(ROWS);
        }
    }
    let of_change = sum_of_column(of_change);
    let of_gate = sum_of_column(of_gate);
    if lane == 0 && channel < channels {
        let at = CUBE_POS_Y as usize * 2 * channels + channel;
        found[at] = of_change;
        found[at + channels] = of_gate;
    }
}

/// The gradients of the biases: what the parts come to, a unit for each channel.
#[cube(launch)]
fn gates_total(found: &Tensor<f32>, for_change: &mut Tensor<f32>, for_gate: &mut Tensor<f32>, parts: u32) {
    let channels = for_gate.len();
    if ABSOLUTE_POS < channels {
        let mut of_change = 0.0f32;
        let mut of_gate = 0.0f32;
        for part in 0..parts as usize {
            let at = part * 2 * channels + ABSOLUTE_POS;
            of_change += found[at];
            of_gate += found[at + channels];
        }
        for_change[ABSOLUTE_POS] = of_change;
        for_gate[ABSOLUTE_POS] = of_gate;
    }
}

/// See [`super::highway::Highways::gated`].
pub(super) fn gated(operands: [CubeTensor; 4]) -> CubeTensor {
    let [x, both, change_bias, gate_bias] = operands.map(into_contiguous);
    let y = empty(&x, &shape::<2>(&x));
    gates_opened::launch(
        &y.client,
        cubes(&y),
        CubeDim::new_1d(UNITS),
        x.into_tensor_arg(),
        both.into_tensor_arg(),
        change_bias.into_tensor_arg(),
        gate_bias.into_tensor_arg(),
        y.clone().into_tensor_arg(),
    );
    y
}

/// See [`super::highway::Highways::gated_back`].
pub(super) fn gated_back(operands: [CubeTensor; 5]) -> [CubeTensor; 4] {
    let [gradient, x, both, change_bias, gate_bias] = operands.map(into_contiguous);
    let [rows, channels] = shape(&x);
    let parts = parts(rows);
    let (for_x, for_both) = (empty(&x, &[rows, channels]), empty(&x, &[rows, 2 * channels]));
    let found = empty(&x, &[parts, 2 * channels]);
    gates_back::launch(
        &found.client,
        CubeCount::Static(channels.div_ceil(COLUMNS) as u32, parts as u32, 1),
        CubeDim::new_1d((ROWS * COLUMNS) as u32),
        gradient.into_tensor_arg(),
        x.into_tensor_arg(),
        both.into_tensor_arg(),
        change_bias.into_tensor_arg(),
        gate_bias.into_tensor_arg(),
        for_x.clone().into_tensor_arg(),
        for_both.clone().into_tensor_arg(),
        found.clone().into_tensor_arg(),
        rows as u32,
        parts as u32,
    );
    let [for_change, for_gate] = [(); 2].map(|()| empty(&for_x, &[channels]));
    gates_total::launch(
        &for_gate.client,
        cubes(&for_gate),
        CubeDim::new_1d(UNITS),
        found.into_tensor_arg(),
        for_change.clone().into_tensor_arg(),
        for_gate.clone().into_tensor_arg(),
        parts as u32,
    );
    [for_x, for_both, for_change, for_gate]
}
