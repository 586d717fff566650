//! The passes as operations of Burn's backends: deferred under fusion, with their way back on the tape.

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Autodiff, AutodiffBackend, Backend, Dispatch, TensorMetadata, backend_extension};
use burn::tensor::{Int, Tensor};
use burn_cubecl::CubeBackend;

use super::columns::Columns;
use super::product::{Products, over_rows};

/// Passes over time. Those forward keep what the way back needs if they are told to, else give it with one value.
#[backend_extension(Autodiff, Cube: cfg(feature = "cube"), Fusion: cfg(feature = "cube"))]
pub trait Scan: Backend {
    /// States `[batch, frames, 2 * cells]` and activations `[batch, frames, 2, 4 * cells]` (reset, update, new, and the recurrent
    /// product that the reset gate scaled) from projected inputs `[batch, frames, 2, 3 * cells]`, the recurrent weight
    /// `[2, cells, 3 * cells]`, its bias `[2, 1, 3 * cells]` and the lengths `[batch]` (`i32`).
    #[fusion(meta = meta::gru_forward)]
    fn gru_forward(
        gates: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        lengths: IntTensor<Self>,
        keep: bool,
    ) -> (FloatTensor<Self>, FloatTensor<Self>);

    /// From the gradient of the states those of the projected inputs and of the recurrent products `[2, batch * frames, 3 * cells]`,
    /// with them the states before each step `[2, batch * frames, cells]`. `weight` is transposed: `[2, 3 * cells, cells]`.
    #[fusion(meta = meta::gru_backward)]
    fn gru_backward(
        gradient: FloatTensor<Self>,
        output: FloatTensor<Self>,
        activations: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        lengths: IntTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>);

    /// States `[batch, frames, cells]`, activations `[batch, frames, 4 * cells]` and memories `[batch, frames, cells]` from projected
    /// inputs `[batch, frames or 1, 4 * cells]` and the recurrent weight `[cells, 4 * cells]`.
    #[fusion(meta = meta::lstm_forward)]
    fn lstm_forward(
        gates: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        frames: usize,
        keep: bool,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>);

    /// From the gradient of the states that at the gates `[batch, frames, 4 * cells]`, with it the states before each step
    /// `[batch, frames, cells]`. `weight` is transposed: `[4 * cells, cells]`.
    #[fusion(meta = meta::lstm_backward)]
    fn lstm_backward(
        gradient: FloatTensor<Self>,
        output: FloatTensor<Self>,
        activations: FloatTensor<Self>,
        memories: FloatTensor<Self>,
        weight: FloatTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>);
}

/// The shapes that come out, for fusion, which runs later.
mod meta {
    use burn::backend::fusion::custom::TensorSpec;

    fn like(tensor: &TensorSpec, shape: Vec<usize>) -> TensorSpec {
        TensorSpec::new(shape.into(), tensor.dtype)
    }

    fn kept(tensor: &TensorSpec, keep: bool, shape: Vec<usize>) -> TensorSpec {
        like(tensor, if keep { shape } else { vec![1] })
    }

    pub fn gru_forward(
        gates: &TensorSpec,
        weight: &TensorSpec,
        _bias: &TensorSpec,
        _lengths: &TensorSpec,
        keep: &bool,
    ) -> (TensorSpec, TensorSpec) {
        let (batch, frames, cells) = (gates.shape[0], gates.shape[1], weight.shape[1]);
        let output = like(gates, vec![batch, frames, 2 * cells]);
        (output, kept(gates, *keep, vec![batch, frames, 2, 4 * cells]))
    }

    pub fn gru_backward(
        gradient: &TensorSpec,
        output: &TensorSpec,
        _activations: &TensorSpec,
        weight: &TensorSpec,
        _lengths: &TensorSpec,
    ) -> (TensorSpec, TensorSpec, TensorSpec) {
        let (batch, frames, cells) = (output.shape[0], output.shape[1], weight.shape[2]);
        let projected = like(gradient, vec![batch, frames, 2, 3 * cells]);
        let recurrent = like(gradient, vec![2, batch * frames, 3 * cells]);
        (projected, recurrent, like(gradient, vec![2, batch * frames, cells]))
    }

    pub fn lstm_forward(
        gates: &TensorSpec,
        weight: &TensorSpec,
        frames: &usize,
        keep: &bool,
    ) -> (TensorSpec, TensorSpec, TensorSpec) {
        let (batch, cells) = (gates.shape[0], weight.shape[0]);
        let of = |channels| vec![batch, *frames, channels];
        (like(gates, of(cells)), kept(gates, *keep, of(4 * cells)), kept(gates, *keep, of(cells)))
    }

    pub fn lstm_backward(
        gradient: &TensorSpec,
        output: &TensorSpec,
        activations: &TensorSpec,
        _memories: &TensorSpec,
        _weight: &TensorSpec,
    ) -> (TensorSpec, TensorSpec) {
        (like(gradient, activations.shape.to_vec()), like(gradient, output.shape.to_vec()))
    }
}

impl Scan for CubeBackend {
    fn gru_forward(
        gates: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        lengths: IntTensor<Self>,
        keep: bool,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        super::gru::launch_forward([gates, weight, bias, lengths], keep)
    }

    fn gru_backward(
        gradient: FloatTensor<Self>,
        output: FloatTensor<Self>,
        activations: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        lengths: IntTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        super::gru::launch_backward([gradient, output, activations, weight, lengths])
    }

    fn lstm_forward(
        gates: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        frames: usize,
        keep: bool,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        super::lstm::launch_forward(gates, weight, frames, keep)
    }

    fn lstm_backward(
        gradient: FloatTensor<Self>,
        output: FloatTensor<Self>,
        activations: FloatTensor<Self>,
        memories: FloatTensor<Self>,
        weight: FloatTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        super::lstm::launch_backward([gradient, output, activations, memories, weight])
    }
}

/// States of a bidirectional GRU, zero in the padding.
///
/// # Shapes
/// Projected inputs `[batch, frames, 2, 3 * cells]`, the recurrent weight `[2, cells, 3 * cells]` and its bias `[2, 1, 3 * cells]` (gates:
/// reset, update, new), lengths `[batch]` to `[batch, frames, 2 * cells]`.
pub(crate) fn gru(gates: Tensor<4>, weight: Tensor<3>, bias: Tensor<3>, lengths: Tensor<1, Int>) -> Tensor<3> {
    let [gates, weight, bias] = [gates.into_dispatch(), weight.into_dispatch(), bias.into_dispatch()];
    Tensor::from_dispatch(Dispatch::gru_forward(gates, weight, bias, lengths.into_dispatch(), false).0)
}

/// States of an LSTM over `frames` frames; an input of one frame is brought again at each.
///
/// # Shapes
/// Projected inputs `[batch, frames or 1, 4 * cells]`, the recurrent weight `[cells, 4 * cells]` (gates: input, forget, candidate,
/// output) to `[batch, frames, cells]`.
pub(crate) fn lstm(gates: Tensor<3>, weight: Tensor<2>, frames: usize) -> Tensor<3> {
    Tensor::from_dispatch(Dispatch::lstm_forward(gates.into_dispatch(), weight.into_dispatch(), frames, false).0)
}

/// The tape calls the way back on the backend below it, so that only a gradient of a gradient would come here.
const FIRST_ORDER: &str = "there are no gradients of gradients";

impl<B: Scan + Products + Columns, C: CheckpointStrategy> Scan for Autodiff<B, C> {
    fn gru_forward(
        gates: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        lengths: IntTensor<Self>,
        _keep: bool,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let ((gates, for_gates), (weight, for_weight)) = (gates.into_parts(), weight.into_parts());
        let (bias, for_bias) = bias.into_parts();
        match GruBack.prepare::<C>([for_gates, for_weight, for_bias]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => {
                let (output, kept) = B::gru_forward(gates, weight.clone(), bias, lengths.clone(), true);
                let state = (output.clone(), kept.clone(), weight, lengths);
                (prep.finish(state, output), <Self as AutodiffBackend>::from_inner(kept))
            }
            OpsKind::UnTracked(prep) => {
                let (output, kept) = B::gru_forward(gates, weight, bias, lengths, false);
                (prep.finish(output), <Self as AutodiffBackend>::from_inner(kept))
            }
        }
    }

    fn gru_backward(
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: IntTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        unreachable!("{FIRST_ORDER}")
    }

    fn lstm_forward(
        gates: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        frames: usize,
        _keep: bool,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        let ((gates, for_gates), (weight, for_weight)) = (gates.into_parts(), weight.into_parts());
        let repeated = gates.shape()[1] == 1;
        let untracked = |tensor| <Self as AutodiffBackend>::from_inner(tensor);
        match LstmBack.prepare::<C>([for_gates, for_weight]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => {
                let (output, kept, memories) = B::lstm_forward(gates, weight.clone(), frames, true);
                let state = (output.clone(), kept.clone(), memories.clone(), weight, repeated);
                (prep.finish(state, output), untracked(kept), untracked(memories))
            }
            OpsKind::UnTracked(prep) => {
                let (output, kept, memories) = B::lstm_forward(gates, weight, frames, false);
                (prep.finish(output), untracked(kept), untracked(memories))
            }
        }
    }

    fn lstm_backward(
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        unreachable!("{FIRST_ORDER}")
    }
}

/// The GRU's entry on the tape.
#[derive(Debug)]
struct GruBack;

impl<B: Scan + Products + Columns> Backward<B, 3> for GruBack {
    /// States, activations, the recurrent weight, lengths.
    type State = (FloatTensor<B>, FloatTensor<B>, FloatTensor<B>, IntTensor<B>);

    fn backward(self, ops: Ops<Self::State, 3>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let gradient = gradients.consume::<B>(&ops.node);
        let [gates, for_weight, bias] = ops.parents;
        let (output, activations, weight, lengths) = ops.state;
        let transposed = B::float_swap_dims(weight, 1, 2);
        let (projected, recurrent, previous) = B::gru_backward(gradient, output, activations, transposed, lengths);
        if let Some(node) = gates {
            gradients.register::<B>(node.id, projected);
        }
        if let Some(node) = for_weight {
            gradients.register::<B>(node.id, over_rows::<B>(previous, recurrent.clone()));
        }
        if let Some(node) = bias {
            gradients.register::<B>(node.id, B::column_sums(recurrent));
        }
    }
}

/// The LSTM's entry on the tape.
#[derive(Debug)]
struct LstmBack;

impl<B: Scan + Products + Columns> Backward<B, 2> for LstmBack {
    /// States, activations, memories, the recurrent weight, and whether the input was of one frame.
    type State = (FloatTensor<B>, FloatTensor<B>, FloatTensor<B>, FloatTensor<B>, bool);

    fn backward(self, ops: Ops<Self::State, 2>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let gradient = gradients.consume::<B>(&ops.node);
        let [gates, for_weight] = ops.parents;
        let (output, activations, memories, weight, repeated) = ops.state;
        let transposed = B::float_swap_dims(weight, 0, 1);
        let (at_gates, previous) = B::lstm_backward(gradient, output, activations, memories, transposed);
        if let Some(node) = for_weight {
            let [batch, frames, cells] = [0, 1, 2].map(|dimension| previous.shape()[dimension]);
            let previous = B::float_reshape(previous, [batch * frames, cells].into());
            let at_gates = B::float_reshape(at_gates.clone(), [batch * frames, 4 * cells].into());
            gradients.register::<B>(node.id, over_rows::<B>(previous, at_gates));
        }
        if let Some(node) = gates {
            gradients.register::<B>(node.id, if repeated { B::float_sum_dim(at_gates, 1) } else { at_gates });
        }
    }
}
