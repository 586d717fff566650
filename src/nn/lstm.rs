//! Long short-term memory over sequences of one length.

use burn::module::{Module, Param};
use burn::tensor::{Tensor, activation};

use super::Init;
use super::steps::steps;
use crate::kernels;

/// LSTM (Hochreiter & Schmidhuber 1997, with the forget gate of Gers et al. 2000), from a state of zeros.
///
/// Differs from PyTorch: one bias where it adds two, and the forget gate's begins at 1, so that a new network remembers
/// (Jozefowicz et al. 2015).
#[derive(Module, Debug)]
pub struct Lstm {
    /// `[inputs, 4 * cells]`: gates in the order input, forget, candidate, output.
    weight_input: Param<Tensor<2>>,
    /// `[cells, 4 * cells]`
    weight_hidden: Param<Tensor<2>>,
    /// `[4 * cells]`
    bias: Param<Tensor<1>>,
}

impl Lstm {
    /// Weights by PyTorch's default initialisation: uniform, bounded by `1 / sqrt(cells)`. Biases 0, the forget gate's 1.
    pub fn new(inputs: usize, cells: usize, init: &mut Init) -> Self {
        let bias: Vec<f32> = (0..4 * cells).map(|gate| if gate / cells == 1 { 1.0 } else { 0.0 }).collect();
        Self {
            weight_input: init.uniform([inputs, 4 * cells], cells),
            weight_hidden: init.uniform([cells, 4 * cells], cells),
            bias: init.values(&bias),
        }
    }

    /// The hidden state after each frame. The input's projection for all frames is one matrix product.
    ///
    /// # Shapes
    /// `[batch, frames, inputs] -> [batch, frames, cells]`
    pub fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let [batch, frames, inputs] = x.dims();
        if kernels::serve(&x.device()) {
            return self.kernel(x, frames);
        }
        if self.scans(&x) {
            let gates = self.project(x.reshape([batch * frames, inputs])); // [batch * frames, 4 cells]
            return kernels::lstm_scan(
                gates.reshape([batch as i64, frames as i64, -1]),
                self.weight_hidden.val(),
                frames,
            );
        }
        let flat = x.swap_dims(0, 1).reshape([frames * batch, inputs]);
        let gates = self.project(flat); // [frames * batch, 4 cells]
        let columns = gates.dims()[1];
        self.run(steps(gates.reshape([frames, batch, columns])))
    }

    /// The hidden state after each of `frames` frames that all bring the same input, which is projected once.
    ///
    /// # Shapes
    /// `[batch, inputs] -> [batch, frames, cells]`
    pub fn forward_repeated(&self, x: Tensor<2>, frames: usize) -> Tensor<3> {
        if kernels::serve(&x.device()) {
            return self.kernel(x.unsqueeze_dim(1), frames);
        }
        if self.scans(&x) {
            return kernels::lstm_scan(self.project(x).unsqueeze_dim(1), self.weight_hidden.val(), frames);
        }
        self.run(vec![self.project(x); frames])
    }

    fn scans<const D: usize>(&self, x: &Tensor<D>) -> bool {
        kernels::scans(&x.device(), self.weight_hidden.dims()[0])
    }

    fn kernel(&self, x: Tensor<3>, frames: usize) -> Tensor<3> {
        kernels::lstm(x, [self.weight_input.val(), self.weight_hidden.val()], self.bias.val(), frames)
    }

    /// The input's part of all gates: `[rows, inputs] -> [rows, 4 * cells]`.
    fn project(&self, x: Tensor<2>) -> Tensor<2> {
        kernels::add_row(kernels::product(x, self.weight_input.val()), self.bias.val())
    }

    /// From each frame's projected input `[batch, 4 * cells]` to the states `[batch, frames, cells]`.
    fn run(&self, inputs: Vec<Tensor<2>>) -> Tensor<3> {
        let cells = self.weight_hidden.dims()[0];
        let mut states: Vec<Tensor<2>> = Vec::with_capacity(inputs.len());
        let mut memory: Option<Tensor<2>> = None; // [batch, cells]; none is zeros, which would be multiplied for nothing
        for input in inputs {
            let gates = match states.last() {
                Some(state) => input + kernels::product(state.clone(), self.weight_hidden.val()),
                None => input,
            }; // [batch, 4 cells]
            let gate = |index: usize| gates.clone().narrow(1, index * cells, cells); // [batch, cells]
            let written = activation::sigmoid(gate(0)) * gate(2).tanh();
            let new = match memory {
                Some(memory) => activation::sigmoid(gate(1)) * memory + written,
                None => written,
            };
            states.push(activation::sigmoid(gate(3)) * new.clone().tanh());
            memory = Some(new);
        }
        Tensor::stack(states, 1)
    }
}
