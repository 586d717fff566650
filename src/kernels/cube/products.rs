//! The matrix product that a cube repeats at every step.

use cubecl::prelude::*;

use super::plan::Plan;

/// The unit's own weights of the matrix `[inputs, outputs * cells]` that begins `at` a place, where the plan holds them.
#[cube]
pub(super) fn hold(weight: &Tensor<f32>, at: usize, held: &mut Array<f32>, #[comptime] plan: Plan) {
    if comptime!(plan.held) {
        let cells = comptime!(plan.cells);
        let outputs = comptime!(plan.outputs);
        let depth = comptime!(plan.depth());
        let slice = UNIT_POS_X as usize / comptime!(plan.width());
        let column = UNIT_POS_X as usize % comptime!(plan.width());
        let start = at + slice * depth * outputs * cells + column;
        #[unroll]
        for input in 0..depth {
            #[unroll]
            for output in 0..outputs {
                held[input * outputs + output] = weight[start + (input * outputs + output) * cells];
            }
        }
    }
}

/// The products of `x` `[rows, inputs]` and the matrix, each slice's by itself: `partial` `[slices, rows, outputs * cells]`.
#[cube]
pub(super) fn multiply(
    x: &Shared<[f32]>,
    weight: &Tensor<f32>,
    at: usize,
    held: &Array<f32>,
    partial: &mut Shared<[f32]>,
    #[comptime] plan: Plan,
) {
    let cells = comptime!(plan.cells);
    let inputs = comptime!(plan.inputs);
    let outputs = comptime!(plan.outputs);
    let rows = comptime!(plan.rows);
    let depth = comptime!(plan.depth());
    let width = comptime!(plan.width());
    let passes = comptime!(plan.passes());
    let slice = UNIT_POS_X as usize / width;
    let first = UNIT_POS_X as usize % width;
    let from = slice * depth;
    for pass in 0..passes {
        let column = first + pass * width;
        if column < cells {
            let mut sums = Array::<f32>::new(comptime!(outputs * rows));
            #[unroll]
            for index in 0..comptime!(outputs * rows) {
                sums[index] = 0.0f32;
            }
            if comptime!(plan.held) {
                #[unroll]
                for input in 0..depth {
                    #[unroll]
                    for row in 0..rows {
                        let value = x[row * inputs + from + input];
                        #[unroll]
                        for output in 0..outputs {
                            sums[row * outputs + output] += value * held[input * outputs + output];
                        }
                    }
                }
            } else {
                for input in 0..depth {
                    let place = at + (from + input) * outputs * cells + column;
                    #[unroll]
                    for output in 0..outputs {
                        let value = weight[place + output * cells];
                        #[unroll]
                        for row in 0..rows {
                            sums[row * outputs + output] += x[row * inputs + from + input] * value;
                        }
                    }
                }
            }
            #[unroll]
            for row in 0..rows {
                #[unroll]
                for output in 0..outputs {
                    partial[(slice * rows + row) * outputs * cells + output * cells + column] =
                        sums[row * outputs + output];
                }
            }
        }
    }
}

/// The sum over all slices of what [`multiply`] left for a row, at `place` within `[outputs * cells]`.
#[cube]
pub(super) fn total(partial: &Shared<[f32]>, row: usize, place: usize, #[comptime] plan: Plan) -> f32 {
    let size = comptime!(plan.outputs * plan.cells);
    let rows = comptime!(plan.rows);
    let mut sum = partial[row * size + place];
    #[unroll]
    for slice in 1..comptime!(plan.slices) {
        sum += partial[(slice * rows + row) * size + place];
    }
    sum
}

/// Zeros in all of `values`, which has `len`.
#[cube]
pub(super) fn clear(values: &mut Shared<[f32]>, #[comptime] len: usize, #[comptime] plan: Plan) {
    let mut index = UNIT_POS_X as usize;
    while index < len {
        values[index] = 0.0f32;
        index += comptime!(plan.units);
    }
}

#[cube]
pub(super) fn sigmoid(x: f32) -> f32 {
    1.0f32 / (1.0f32 + (0.0f32 - x).exp())
}
