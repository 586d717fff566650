//! Highway layer.

use burn::module::Module;
use burn::nn::Linear;
use burn::tensor::{Tensor, activation};

use super::{Init, dense};
use crate::kernels;

/// `t relu(W x) + (1 - t) x` with the gate `t = sigmoid(V x)` (Srivastava et al. 2015).
///
/// Differs from the workshop, whose library carried a transform of `x` where this carries `x` itself.
#[derive(Module, Debug)]
pub struct Highway {
    transform: Linear,
    gate: Linear,
}

impl Highway {
    /// The gate's bias starts at -1, so that a new layer mostly carries its input.
    pub fn new(channels: usize, init: &mut Init) -> Self {
        let transform = init.linear(channels, channels);
        let gate = Linear { bias: Some(init.constant([channels], -1.0)), ..init.linear(channels, channels) };
        Self { transform, gate }
    }

    /// # Shapes
    /// `[batch, frames, channels]` in and out.
    pub fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let of = |layer: &Linear| (layer.weight.val(), layer.bias.as_ref().expect("made with a bias").val());
        if kernels::serve(&x.device()) {
            return kernels::highway(x, of(&self.transform), of(&self.gate));
        }
        if kernels::on_gpu(&x.device()) {
            let (shape, channels) = (x.dims(), x.dims()[2]);
            let [(change, change_bias), (gate, gate_bias)] = [of(&self.transform), of(&self.gate)];
            let x = x.reshape([-1, channels as i64]);
            let both = kernels::product(x.clone(), kernels::beside(vec![change, gate]));
            return kernels::gated(x, both, [change_bias, gate_bias]).reshape(shape);
        }
        let gate = activation::sigmoid(dense(&self.gate, x.clone(), None));
        let change = activation::relu(dense(&self.transform, x.clone(), None)) - x.clone();
        x + gate * change
    }
}
