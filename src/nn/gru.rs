//! Bidirectional gated recurrent unit that respects lengths.

use burn::module::{Module, Param};
use burn::tensor::{Tensor, activation};

use super::steps::steps;
use super::{Init, Lengths};
use crate::kernels;

/// Bidirectional GRU (Cho et al. 2014; the reset gate acts after the recurrent product, as in cuDNN and PyTorch).
///
/// Both directions share each step's matrix product, and the input's projection for all steps is one product.
#[derive(Module, Debug)]
pub struct BiGru {
    /// `[2, inputs, 3 * cells]`: directions; gates in the order reset, update, new.
    weight_input: Param<Tensor<3>>,
    /// `[2, cells, 3 * cells]`
    weight_hidden: Param<Tensor<3>>,
    /// `[2, 1, 3 * cells]`
    bias_input: Param<Tensor<3>>,
    /// `[2, 1, 3 * cells]`
    bias_hidden: Param<Tensor<3>>,
}

impl BiGru {
    /// PyTorch's default initialisation: uniform, bounded by `1 / sqrt(cells)`.
    pub fn new(inputs: usize, cells: usize, init: &mut Init) -> Self {
        Self {
            weight_input: init.uniform([2, inputs, 3 * cells], cells),
            weight_hidden: init.uniform([2, cells, 3 * cells], cells),
            bias_input: init.uniform([2, 1, 3 * cells], cells),
            bias_hidden: init.uniform([2, 1, 3 * cells], cells),
        }
    }

    /// Forward and backward states side by side. The backward direction starts at each sequence's last real frame.
    ///
    /// # Shapes
    /// `[batch, frames, inputs] -> [batch, frames, 2 * cells]`; the padding of the result is zero.
    pub fn forward(&self, x: Tensor<3>, lengths: &Lengths) -> Tensor<3> {
        if kernels::serve(&x.device()) {
            let weights = [self.weight_input.val(), self.weight_hidden.val()];
            return kernels::gru(x, weights, [self.bias_input.val(), self.bias_hidden.val()], lengths.each());
        }
        let [batch, frames, inputs] = x.dims();
        let [_, cells, _] = self.weight_hidden.dims();
        if kernels::scans(&x.device(), cells) {
            let weight = self.weight_input.val().swap_dims(0, 1).reshape([inputs, 6 * cells]); // the directions side by side
            let flat = x.reshape([batch * frames, inputs]);
            let bias = self.bias_input.val().reshape([6 * cells]);
            let gates = kernels::add_row(kernels::product(flat, weight), bias); // [batch * frames, 6 cells]
            let gates = gates.reshape([batch, frames, 2, 3 * cells]);
            let counts = lengths.counts();
            return kernels::gru_scan(gates, self.weight_hidden.val(), self.bias_hidden.val(), counts);
        }
        let time_major = |x: Tensor<3>| x.swap_dims(0, 1).reshape([1, frames * batch, inputs]);
        let both = Tensor::cat(vec![time_major(x.clone()), time_major(lengths.reverse(x))], 0); // [2, frames * batch, inputs]
        let gates = kernels::product(both, self.weight_input.val()) + self.bias_input.val(); // [2, frames * batch, 3 cells]
        let gates = gates.reshape([2, frames, batch, 3 * cells]).swap_dims(0, 1); // [frames, 2, batch, 3 cells]

        let mut state = Tensor::zeros([2, batch, cells], &gates.device());
        let mut states = Vec::with_capacity(frames);
        for input in steps::<4, 3>(gates) {
            state = self.step(input, state);
            states.push(state.clone());
        }
        let states = Tensor::stack::<4>(states, 1); // [2, frames, batch, cells]
        let direction = |d: usize| {
            states.clone().narrow(0, d, 1).reshape([frames, batch, cells]).swap_dims(0, 1) // [batch, frames, cells]
        };
        lengths.zero_padding(Tensor::cat(vec![direction(0), lengths.reverse(direction(1))], 2))
    }

    /// One step of both directions: projected input `[2, batch, 3 cells]` and state `[2, batch, cells]` to the next state.
    fn step(&self, input: Tensor<3>, state: Tensor<3>) -> Tensor<3> {
        let [_, batch, cells] = state.dims();
        let recurrent = kernels::product(state.clone(), self.weight_hidden.val()) + self.bias_hidden.val(); // [2, batch, 3 cells]
        let part = |x: &Tensor<3>, from: usize, to: usize| x.clone().slice([0..2, 0..batch, from * cells..to * cells]);
        let gates = activation::sigmoid(part(&input, 0, 2) + part(&recurrent, 0, 2));
        let (reset, update) = (part(&gates, 0, 1), part(&gates, 1, 2));
        let new = (part(&input, 2, 3) + reset * part(&recurrent, 2, 3)).tanh();
        new.clone() + update * (state - new)
    }
}
