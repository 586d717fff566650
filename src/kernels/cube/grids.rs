//! Unfolding and folding as operations of Burn's backends, each the other's way back.

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, backend_extension};
use burn::tensor::Tensor;
use burn_cubecl::CubeBackend;

use super::super::Window;
use super::window;

/// The two.
#[backend_extension(Autodiff, Cube: cfg(feature = "cube"), Fusion: cfg(feature = "cube"))]
pub trait Grids: Backend {
    /// The windows `[batch * count, taps * channels]` of a grid `[batch, rows, columns, channels]`.
    #[fusion(meta = meta::unfold)]
    fn unfold(x: FloatTensor<Self>, window: Window) -> FloatTensor<Self>;

    /// The grid on which these windows have been added up.
    #[fusion(meta = meta::fold)]
    fn fold(y: FloatTensor<Self>, window: Window) -> FloatTensor<Self>;
}

/// The shapes that come out, for fusion, which runs later.
mod meta {
    use burn::backend::fusion::custom::TensorSpec;

    use super::Window;

    pub fn unfold(x: &TensorSpec, window: &Window) -> TensorSpec {
        TensorSpec::new(window.unfolded(x.shape[0], x.shape[3]).to_vec().into(), x.dtype)
    }

    pub fn fold(y: &TensorSpec, window: &Window) -> TensorSpec {
        TensorSpec::new(window.folded(y.shape[0], y.shape[1]).to_vec().into(), y.dtype)
    }
}

impl Grids for CubeBackend {
    fn unfold(x: FloatTensor<Self>, window: Window) -> FloatTensor<Self> {
        window::unfold(x, window)
    }

    fn fold(y: FloatTensor<Self>, window: Window) -> FloatTensor<Self> {
        window::fold(y, window)
    }
}

impl<B: Grids, C: CheckpointStrategy> Grids for Autodiff<B, C> {
    fn unfold(x: FloatTensor<Self>, window: Window) -> FloatTensor<Self> {
        let (x, guard) = x.into_parts();
        match Unfold.prepare::<C>([guard]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish(window, B::unfold(x, window)),
            OpsKind::UnTracked(prep) => prep.finish(B::unfold(x, window)),
        }
    }

    fn fold(y: FloatTensor<Self>, window: Window) -> FloatTensor<Self> {
        let (y, guard) = y.into_parts();
        match Fold.prepare::<C>([guard]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish(window, B::fold(y, window)),
            OpsKind::UnTracked(prep) => prep.finish(B::fold(y, window)),
        }
    }
}

#[derive(Debug)]
struct Unfold;

impl<B: Grids> Backward<B, 1> for Unfold {
    type State = Window;

    fn backward(self, ops: Ops<Window, 1>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let gradient = gradients.consume::<B>(&ops.node);
        if let [Some(node)] = ops.parents {
            gradients.register::<B>(node.id, B::fold(gradient, ops.state));
        }
    }
}

#[derive(Debug)]
struct Fold;

impl<B: Grids> Backward<B, 1> for Fold {
    type State = Window;

    fn backward(self, ops: Ops<Window, 1>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let gradient = gradients.consume::<B>(&ops.node);
        if let [Some(node)] = ops.parents {
            gradients.register::<B>(node.id, B::unfold(gradient, ops.state));
        }
    }
}

/// The windows of a grid.
///
/// # Shapes
/// `[batch, rows, columns, channels] -> [batch * count, taps * channels]`
pub(crate) fn unfold(x: Tensor<4>, window: Window) -> Tensor<2> {
    Tensor::from_dispatch(Dispatch::unfold(x.into_dispatch(), window))
}

/// The grid on which windows have been added up.
///
/// # Shapes
/// `[batch * count, taps * channels] -> [batch, rows, columns, channels]`
pub(crate) fn fold(y: Tensor<2>, window: Window) -> Tensor<4> {
    Tensor::from_dispatch(Dispatch::fold(y.into_dispatch(), window))
}
