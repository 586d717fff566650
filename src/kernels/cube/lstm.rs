//! The LSTM's two passes over time: one cube for some sequences.

use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::plan::Plan;
use super::products::{clear, hold, multiply, sigmoid, total};
use super::{empty, shape};

/// See [`super::ops::Scan::lstm_forward`].
#[cube(launch)]
fn forward(
    gates: &Tensor<f32>,
    weight: &Tensor<f32>,
    output: &mut Tensor<f32>,
    activations: &mut Tensor<f32>,
    memories: &mut Tensor<f32>,
    batch: u32,
    given: u32,
    frames: u32,
    #[comptime] keep: bool,
    #[comptime] plan: Plan,
) {
    let cells = comptime!(plan.cells);
    let rows = comptime!(plan.rows);
    let batch = batch as usize;
    let given = given as usize;
    let frames = frames as usize;
    let mut state = Shared::<[f32]>::new_slice(comptime!(rows * cells));
    let mut memory = Shared::<[f32]>::new_slice(comptime!(rows * cells));
    let mut partial = Shared::<[f32]>::new_slice(comptime!(plan.slices * rows * 4 * cells));
    let mut held = Array::<f32>::new(comptime!(plan.kept()));
    hold(weight, 0usize, &mut held, plan);
    clear(&mut state, comptime!(rows * cells), plan);
    clear(&mut memory, comptime!(rows * cells), plan);
    sync_cube();
    for step in 0..frames {
        multiply(&state, weight, 0usize, &held, &mut partial, plan);
        sync_cube();
        let mut item = UNIT_POS_X as usize;
        while item < comptime!(rows * cells) {
            let row = item / cells;
            let cell = item % cells;
            let sequence = CUBE_POS_X as usize * rows + row;
            if sequence < batch {
                let mut frame = 0usize; // of an input that is brought again at each
                if given > 1 {
                    frame = step;
                }
                let from = (sequence * given + frame) * 4 * cells + cell;
                let input = sigmoid(gates[from] + total(&partial, row, cell, plan));
                let forget = sigmoid(gates[from + cells] + total(&partial, row, cells + cell, plan));
                let candidate = (gates[from + 2 * cells] + total(&partial, row, 2 * cells + cell, plan)).tanh();
                let shown = sigmoid(gates[from + 3 * cells] + total(&partial, row, 3 * cells + cell, plan));
                let level = forget * memory[item] + input * candidate;
                let new = shown * level.tanh();
                memory[item] = level;
                state[item] = new;
                let place = sequence * frames + step;
                output[place * cells + cell] = new;
                if comptime!(keep) {
                    memories[place * cells + cell] = level;
                    let to = place * 4 * cells + cell;
                    activations[to] = input;
                    activations[to + cells] = forget;
                    activations[to + 2 * cells] = candidate;
                    activations[to + 3 * cells] = shown;
                }
            }
            item += comptime!(plan.units);
        }
        sync_cube();
    }
}

/// See [`super::ops::Scan::lstm_backward`].
#[cube(launch)]
fn backward(
    gradient: &Tensor<f32>,
    output: &Tensor<f32>,
    activations: &Tensor<f32>,
    memories: &Tensor<f32>,
    weight: &Tensor<f32>,
    at_gates: &mut Tensor<f32>,
    previous: &mut Tensor<f32>,
    batch: u32,
    frames: u32,
    #[comptime] plan: Plan,
) {
    let cells = comptime!(plan.cells);
    let rows = comptime!(plan.rows);
    let batch = batch as usize;
    let frames = frames as usize;
    let mut at_step = Shared::<[f32]>::new_slice(comptime!(rows * 4 * cells));
    let mut for_memory = Shared::<[f32]>::new_slice(comptime!(rows * cells));
    let mut partial = Shared::<[f32]>::new_slice(comptime!(plan.slices * rows * cells));
    let mut held = Array::<f32>::new(comptime!(plan.kept()));
    hold(weight, 0usize, &mut held, plan);
    clear(&mut for_memory, comptime!(rows * cells), plan);
    clear(&mut partial, comptime!(plan.slices * rows * cells), plan);
    sync_cube();
    for index in 0..frames {
        let step = frames - 1 - index;
        let mut item = UNIT_POS_X as usize;
        while item < comptime!(rows * cells) {
            let row = item / cells;
            let cell = item % cells;
            let sequence = CUBE_POS_X as usize * rows + row;
            let mut for_input = 0.0f32;
            let mut for_forget = 0.0f32;
            let mut for_candidate = 0.0f32;
            let mut for_shown = 0.0f32;
            if sequence < batch {
                let place = sequence * frames + step;
                let from = place * 4 * cells + cell;
                let input = activations[from];
                let forget = activations[from + cells];
                let candidate = activations[from + 2 * cells];
                let shown = activations[from + 3 * cells];
                let mut old = 0.0f32;
                let mut before = 0.0f32;
                if step > 0 {
                    old = memories[(place - 1) * cells + cell];
                    before = output[(place - 1) * cells + cell];
                }
                let level = memories[place * cells + cell].tanh();
                let d = gradient[place * cells + cell] + total(&partial, row, cell, plan);
                let dm = for_memory[item] + d * shown * (1.0f32 - level * level);
                for_input = dm * candidate * input * (1.0f32 - input);
                for_forget = dm * old * forget * (1.0f32 - forget);
                for_candidate = dm * input * (1.0f32 - candidate * candidate);
                for_shown = d * level * shown * (1.0f32 - shown);
                for_memory[item] = dm * forget;
                at_gates[from] = for_input;
                at_gates[from + cells] = for_forget;
                at_gates[from + 2 * cells] = for_candidate;
                at_gates[from + 3 * cells] = for_shown;
                previous[place * cells + cell] = before;
            }
            let to = row * 4 * cells + cell;
            at_step[to] = for_input;
            at_step[to + cells] = for_forget;
            at_step[to + 2 * cells] = for_candidate;
            at_step[to + 3 * cells] = for_shown;
            item += comptime!(plan.units);
        }
        sync_cube();
        multiply(&at_step, weight, 0usize, &held, &mut partial, plan);
        sync_cube();
    }
}

/// Launches the way forward.
pub(super) fn launch_forward(
    gates: CubeTensor,
    weight: CubeTensor,
    frames: usize,
    keep: bool,
) -> (CubeTensor, CubeTensor, CubeTensor) {
    let [gates, weight] = [gates, weight].map(into_contiguous);
    let [batch, given, gates4] = shape(&gates);
    let cells = gates4 / 4;
    let output = empty(&gates, &[batch, frames, cells]);
    let kept = |channels| if keep { empty(&gates, &[batch, frames, channels]) } else { empty(&gates, &[1]) };
    let (activations, memories) = (kept(4 * cells), kept(cells));
    let plan = Plan::forward(cells, 4, batch, &gates);
    forward::launch(
        &output.client,
        CubeCount::Static(batch.div_ceil(plan.rows) as u32, 1, 1),
        CubeDim::new_1d(plan.units as u32),
        gates.into_tensor_arg(),
        weight.into_tensor_arg(),
        output.clone().into_tensor_arg(),
        activations.clone().into_tensor_arg(),
        memories.clone().into_tensor_arg(),
        batch as u32,
        given as u32,
        frames as u32,
        keep,
        plan,
    );
    (output, activations, memories)
}

/// Launches the way back; `weight` is transposed.
pub(super) fn launch_backward(
    [gradient, output, activations, memories, weight]: [CubeTensor; 5],
) -> (CubeTensor, CubeTensor) {
    let [gradient, output, activations, memories, weight] =
        [gradient, output, activations, memories, weight].map(into_contiguous);
    let [batch, frames, cells] = shape(&output);
    let at_gates = empty(&output, &[batch, frames, 4 * cells]);
    let previous = empty(&output, &[batch, frames, cells]);
    let plan = Plan::backward(cells, 4, batch, &output);
    backward::launch(
        &at_gates.client,
        CubeCount::Static(batch.div_ceil(plan.rows) as u32, 1, 1),
        CubeDim::new_1d(plan.units as u32),
        gradient.into_tensor_arg(),
        output.into_tensor_arg(),
        activations.into_tensor_arg(),
        memories.into_tensor_arg(),
        weight.into_tensor_arg(),
        at_gates.clone().into_tensor_arg(),
        previous.clone().into_tensor_arg(),
        batch as u32,
        frames as u32,
        plan,
    );
    (at_gates, previous)
}
