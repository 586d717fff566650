//! What a highway layer does with its products, as an operation of Burn's backends.

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, backend_extension};
use burn::tensor::Tensor;
use burn_cubecl::CubeBackend;

use super::gates;
use super::tape::register;

/// The two ways.
#[backend_extension(Autodiff, Cube: cfg(feature = "cube"), Fusion: cfg(feature = "cube"))]
pub trait Highways: Backend {
    /// `t relu(c) + (1 - t) x` with the gate `t = sigmoid(g)`. `x` is `[rows, channels]`; `both`, `[rows, 2 * channels]`, has `c`, then `g` in
    /// each row, both without their biases `[channels]`.
    #[fusion(meta = |x, _both, _change_bias, _gate_bias| x.clone())]
    fn gated(
        x: FloatTensor<Self>,
        both: FloatTensor<Self>,
        change_bias: FloatTensor<Self>,
        gate_bias: FloatTensor<Self>,
    ) -> FloatTensor<Self>;

    /// From its gradient those of all four.
    #[fusion(meta = |_gradient, x, both, change_bias, gate_bias| {
        (x.clone(), both.clone(), change_bias.clone(), gate_bias.clone())
    })]
    fn gated_back(
        gradient: FloatTensor<Self>,
        x: FloatTensor<Self>,
        both: FloatTensor<Self>,
        change_bias: FloatTensor<Self>,
        gate_bias: FloatTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>);
}

impl Highways for CubeBackend {
    fn gated(
        x: FloatTensor<Self>,
        both: FloatTensor<Self>,
        change_bias: FloatTensor<Self>,
        gate_bias: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        gates::gated([x, both, change_bias, gate_bias])
    }

    fn gated_back(
        gradient: FloatTensor<Self>,
        x: FloatTensor<Self>,
        both: FloatTensor<Self>,
        change_bias: FloatTensor<Self>,
        gate_bias: FloatTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        gates::gated_back([gradient, x, both, change_bias, gate_bias]).into()
    }
}

impl<B: Highways, C: CheckpointStrategy> Highways for Autodiff<B, C> {
    fn gated(
        x: FloatTensor<Self>,
        both: FloatTensor<Self>,
        change_bias: FloatTensor<Self>,
        gate_bias: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        let ((x, of_x), (both, of_both)) = (x.into_parts(), both.into_parts());
        let ((change_bias, of_change), (gate_bias, of_gate)) = (change_bias.into_parts(), gate_bias.into_parts());
        let gated = |[x, both, change_bias, gate_bias]: [_; 4]| B::gated(x, both, change_bias, gate_bias);
        let operands = [x, both, change_bias, gate_bias];
        match Gated.prepare::<C>([of_x, of_both, of_change, of_gate]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish(operands.clone(), gated(operands)),
            OpsKind::UnTracked(prep) => prep.finish(gated(operands)),
        }
    }

    fn gated_back(
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        unreachable!("there are no gradients of gradients")
    }
}

#[derive(Debug)]
struct Gated;

impl<B: Highways> Backward<B, 4> for Gated {
    /// `x`, both, biases.
    type State = [FloatTensor<B>; 4];

    fn backward(self, ops: Ops<Self::State, 4>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let gradient = gradients.consume::<B>(&ops.node);
        let [x, both, change_bias, gate_bias] = ops.state;
        let found = <[_; 4]>::from(B::gated_back(gradient, x, both, change_bias, gate_bias));
        register::<B>(ops.parents.map(|node| node.map(|node| node.id)), found, gradients);
    }
}

/// `t relu(c) + (1 - t) x` with the gate `t = sigmoid(g)`, of products without their biases: `c`, then `g` in each row of `both`.
///
/// # Shapes
/// `[rows, channels]`, `[rows, 2 * channels]` and `[channels]` twice, of `c` and `g`
pub(crate) fn gated(x: Tensor<2>, both: Tensor<2>, [change_bias, gate_bias]: [Tensor<1>; 2]) -> Tensor<2> {
    let [change_bias, gate_bias] = [change_bias, gate_bias].map(Tensor::into_dispatch);
    Tensor::from_dispatch(Dispatch::gated(x.into_dispatch(), both.into_dispatch(), change_bias, gate_bias))
}
