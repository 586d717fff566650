//! The GRU's two passes over time: one cube for each direction of some sequences.

use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::plan::Plan;
use super::products::{clear, hold, multiply, sigmoid, total};
use super::{empty, shape};

/// The frame that a direction reaches at a step; past the sequence's end, where there is only padding to fill, that of the step.
#[cube]
fn frame_at(step: usize, length: usize, direction: usize) -> usize {
    let mut frame = step;
    if direction == 1 && step < length {
        frame = length - 1 - step;
    }
    frame
}

/// See [`super::ops::Scan::gru_forward`].
#[cube(launch)]
fn forward(
    gates: &Tensor<f32>,
    weight: &Tensor<f32>,
    bias: &Tensor<f32>,
    lengths: &Tensor<i32>,
    output: &mut Tensor<f32>,
    activations: &mut Tensor<f32>,
    batch: u32,
    frames: u32,
    #[comptime] keep: bool,
    #[comptime] plan: Plan,
) {
    let cells = comptime!(plan.cells);
    let rows = comptime!(plan.rows);
    let direction = CUBE_POS_Y as usize;
    let batch = batch as usize;
    let frames = frames as usize;
    let at = direction * cells * 3 * cells;
    let mut state = Shared::<[f32]>::new_slice(comptime!(rows * cells));
    let mut partial = Shared::<[f32]>::new_slice(comptime!(plan.slices * rows * 3 * cells));
    let mut held = Array::<f32>::new(comptime!(plan.kept()));
    hold(weight, at, &mut held, plan);
    clear(&mut state, comptime!(rows * cells), plan);
    sync_cube();
    for step in 0..frames {
        multiply(&state, weight, at, &held, &mut partial, plan);
        sync_cube();
        let mut item = UNIT_POS_X as usize;
        while item < comptime!(rows * cells) {
            let row = item / cells;
            let cell = item % cells;
            let sequence = CUBE_POS_X as usize * rows + row;
            if sequence < batch {
                let length = lengths[sequence] as usize;
                let place = sequence * frames + frame_at(step, length, direction);
                let mut new = 0.0f32;
                if step < length {
                    let input = (place * 2 + direction) * 3 * cells + cell;
                    let bias_at = direction * 3 * cells + cell;
                    let recurrent_reset = bias[bias_at] + total(&partial, row, cell, plan);
                    let recurrent_update = bias[bias_at + cells] + total(&partial, row, cells + cell, plan);
                    let product = bias[bias_at + 2 * cells] + total(&partial, row, 2 * cells + cell, plan);
                    let reset = sigmoid(gates[input] + recurrent_reset);
                    let update = sigmoid(gates[input + cells] + recurrent_update);
                    let candidate = (gates[input + 2 * cells] + reset * product).tanh();
                    new = candidate + update * (state[item] - candidate);
                    state[item] = new;
                    if comptime!(keep) {
                        let to = (place * 2 + direction) * 4 * cells + cell;
                        activations[to] = reset;
                        activations[to + cells] = update;
                        activations[to + 2 * cells] = candidate;
                        activations[to + 3 * cells] = product;
                    }
                }
                output[place * 2 * cells + direction * cells + cell] = new;
            }
            item += comptime!(plan.units);
        }
        sync_cube();
    }
}

/// See [`super::ops::Scan::gru_backward`].
#[cube(launch)]
fn backward(
    gradient: &Tensor<f32>,
    output: &Tensor<f32>,
    activations: &Tensor<f32>,
    weight: &Tensor<f32>,
    lengths: &Tensor<i32>,
    projected: &mut Tensor<f32>,
    recurrent: &mut Tensor<f32>,
    previous: &mut Tensor<f32>,
    batch: u32,
    frames: u32,
    #[comptime] plan: Plan,
) {
    let cells = comptime!(plan.cells);
    let rows = comptime!(plan.rows);
    let direction = CUBE_POS_Y as usize;
    let batch = batch as usize;
    let frames = frames as usize;
    let at = direction * 3 * cells * cells;
    let mut at_gates = Shared::<[f32]>::new_slice(comptime!(rows * 3 * cells));
    let mut carried = Shared::<[f32]>::new_slice(comptime!(rows * cells));
    let mut partial = Shared::<[f32]>::new_slice(comptime!(plan.slices * rows * cells));
    let mut held = Array::<f32>::new(comptime!(plan.kept()));
    hold(weight, at, &mut held, plan);
    clear(&mut carried, comptime!(rows * cells), plan);
    clear(&mut partial, comptime!(plan.slices * rows * cells), plan);
    sync_cube();
    for index in 0..frames {
        let step = frames - 1 - index;
        let mut item = UNIT_POS_X as usize;
        while item < comptime!(rows * cells) {
            let row = item / cells;
            let cell = item % cells;
            let sequence = CUBE_POS_X as usize * rows + row;
            let mut for_reset = 0.0f32;
            let mut for_update = 0.0f32;
            let mut for_candidate = 0.0f32;
            let mut for_product = 0.0f32;
            let mut before = 0.0f32;
            if sequence < batch {
                let length = lengths[sequence] as usize;
                let place = sequence * frames + frame_at(step, length, direction);
                if step < length {
                    let side = direction * cells + cell;
                    let from = (place * 2 + direction) * 4 * cells + cell;
                    let reset = activations[from];
                    let update = activations[from + cells];
                    let candidate = activations[from + 2 * cells];
                    let product = activations[from + 3 * cells];
                    if step > 0 {
                        let place = sequence * frames + frame_at(step - 1, length, direction);
                        before = output[place * 2 * cells + side];
                    }
                    let d = carried[item] + total(&partial, row, cell, plan) + gradient[place * 2 * cells + side];
                    for_candidate = d * (1.0f32 - update) * (1.0f32 - candidate * candidate);
                    for_update = d * (before - candidate) * update * (1.0f32 - update);
                    for_reset = for_candidate * product * reset * (1.0f32 - reset);
                    for_product = for_candidate * reset;
                    carried[item] = d * update;
                }
                let to = (place * 2 + direction) * 3 * cells + cell;
                projected[to] = for_reset;
                projected[to + cells] = for_update;
                projected[to + 2 * cells] = for_candidate;
                let by_direction = direction * batch * frames + place;
                let to = by_direction * 3 * cells + cell;
                recurrent[to] = for_reset;
                recurrent[to + cells] = for_update;
                recurrent[to + 2 * cells] = for_product;
                previous[by_direction * cells + cell] = before;
            }
            at_gates[row * 3 * cells + cell] = for_reset;
            at_gates[row * 3 * cells + cells + cell] = for_update;
            at_gates[row * 3 * cells + 2 * cells + cell] = for_product;
            item += comptime!(plan.units);
        }
        sync_cube();
        multiply(&at_gates, weight, at, &held, &mut partial, plan);
        sync_cube();
    }
}

/// Launches the way forward.
pub(super) fn launch_forward([gates, weight, bias, lengths]: [CubeTensor; 4], keep: bool) -> (CubeTensor, CubeTensor) {
    let [gates, weight, bias, lengths] = [gates, weight, bias, lengths].map(into_contiguous);
    let [batch, frames, _, gates3] = shape(&gates);
    let cells = gates3 / 3;
    let output = empty(&gates, &[batch, frames, 2 * cells]);
    let activations = if keep { empty(&gates, &[batch, frames, 2, 4 * cells]) } else { empty(&gates, &[1]) };
    let plan = Plan::forward(cells, 3, batch, &gates);
    forward::launch(
        &output.client,
        CubeCount::Static(batch.div_ceil(plan.rows) as u32, 2, 1),
        CubeDim::new_1d(plan.units as u32),
        gates.into_tensor_arg(),
        weight.into_tensor_arg(),
        bias.into_tensor_arg(),
        lengths.into_tensor_arg(),
        output.clone().into_tensor_arg(),
        activations.clone().into_tensor_arg(),
        batch as u32,
        frames as u32,
        keep,
        plan,
    );
    (output, activations)
}

/// Launches the way back; `weight` is transposed.
pub(super) fn launch_backward(
    [gradient, output, activations, weight, lengths]: [CubeTensor; 5],
) -> (CubeTensor, CubeTensor, CubeTensor) {
    let [gradient, output, activations, weight, lengths] =
        [gradient, output, activations, weight, lengths].map(into_contiguous);
    let [batch, frames, cells2] = shape(&output);
    let cells = cells2 / 2;
    let projected = empty(&output, &[batch, frames, 2, 3 * cells]);
    let recurrent = empty(&output, &[2, batch * frames, 3 * cells]);
    let previous = empty(&output, &[2, batch * frames, cells]);
    let plan = Plan::backward(cells, 3, batch, &output);
    backward::launch(
        &projected.client,
        CubeCount::Static(batch.div_ceil(plan.rows) as u32, 2, 1),
        CubeDim::new_1d(plan.units as u32),
        gradient.into_tensor_arg(),
        output.into_tensor_arg(),
        activations.into_tensor_arg(),
        weight.into_tensor_arg(),
        lengths.into_tensor_arg(),
        projected.clone().into_tensor_arg(),
        recurrent.clone().into_tensor_arg(),
        previous.clone().into_tensor_arg(),
        batch as u32,
        frames as u32,
        plan,
    );
    (projected, recurrent, previous)
}
