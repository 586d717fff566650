//! Fully connected layers.

use burn::nn::Linear;
use burn::tensor::{Tensor, activation};

use crate::kernels;

/// `layer` over the last dimension of `x`, followed by a leaky ReLU if a slope is given.
///
/// # Shapes
/// `[.., inputs] -> [.., outputs]`
///
/// # Panics
/// If the layer has no bias.
pub fn dense<const D: usize>(layer: &Linear, x: Tensor<D>, slope: Option<f64>) -> Tensor<D> {
    if kernels::serve(&x.device()) {
        let bias = layer.bias.as_ref().expect("every layer here is made with a bias").val();
        return kernels::dense(x, layer.weight.val(), bias, slope.unwrap_or(1.0));
    }
    if kernels::on_gpu(&x.device()) {
        return product(layer, x, slope.unwrap_or(1.0));
    }
    let y = layer.forward(x);
    match slope {
        Some(slope) => activation::leaky_relu(y, slope),
        None => y,
    }
}

/// `layer` as one product, for a GPU.
fn product<const D: usize>(layer: &Linear, x: Tensor<D>, slope: f64) -> Tensor<D> {
    let (mut shape, [inputs, outputs]) = (x.dims(), layer.weight.dims());
    let rows = shape.iter().product::<usize>() / inputs;
    let bias = layer.bias.as_ref().expect("every layer here is made with a bias").val();
    shape[D - 1] = outputs;
    kernels::biased(kernels::product(x.reshape([rows, inputs]), layer.weight.val()), bias, slope).reshape(shape)
}
