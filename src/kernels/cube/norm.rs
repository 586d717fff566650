//! Batch normalisation over the real frames of padded sequences, with what follows it, as one operation of Burn's backends.

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, AutodiffBackend, Backend, Dispatch, backend_extension};
use burn::tensor::Tensor;
use burn_cubecl::CubeBackend;

use super::frames::{self, Form};
use super::tape::register;
use crate::nn::After;

/// The two ways.
#[backend_extension(Autodiff, Cube: cfg(feature = "cube"), Fusion: cfg(feature = "cube"))]
pub trait Norms: Backend {
    /// `x` `[batch, frames, channels]` normalised by the statistics of its real frames, scaled, offset, and what follows; with mean, (biased)
    /// variance, and `[2, channels]` that the way back needs. `mask` is `[batch, frames, 1]`, or anything where nothing is masked.
    #[fusion(meta = meta::masked_norm)]
    fn masked_norm(
        x: FloatTensor<Self>,
        mask: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        epsilon: f32,
        form: Form,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>);

    /// `x` normalised by running statistics in place of its own.
    #[fusion(meta = |x, _mask, _gamma, _beta, _mean, _variance, _epsilon, _form| x.clone())]
    fn running_norm(
        x: FloatTensor<Self>,
        mask: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        mean: FloatTensor<Self>,
        variance: FloatTensor<Self>,
        epsilon: f32,
        form: Form,
    ) -> FloatTensor<Self>;

    /// From its gradient those of `x`, scale and offset.
    #[fusion(meta = meta::masked_norm_back)]
    fn masked_norm_back(
        gradient: FloatTensor<Self>,
        x: FloatTensor<Self>,
        mask: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        mean: FloatTensor<Self>,
        rest: FloatTensor<Self>,
        form: Form,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>);
}

/// The shapes that come out, for fusion, which runs later.
mod meta {
    use burn::backend::fusion::custom::TensorSpec;

    use super::Form;

    pub fn masked_norm(
        x: &TensorSpec,
        _mask: &TensorSpec,
        gamma: &TensorSpec,
        _beta: &TensorSpec,
        _epsilon: &f32,
        _form: &Form,
    ) -> (TensorSpec, TensorSpec, TensorSpec, TensorSpec) {
        let rest = TensorSpec::new(vec![2, gamma.shape[0]].into(), gamma.dtype);
        (x.clone(), gamma.clone(), gamma.clone(), rest)
    }

    pub fn masked_norm_back(
        _gradient: &TensorSpec,
        x: &TensorSpec,
        _mask: &TensorSpec,
        gamma: &TensorSpec,
        beta: &TensorSpec,
        _mean: &TensorSpec,
        _rest: &TensorSpec,
        _form: &Form,
    ) -> (TensorSpec, TensorSpec, TensorSpec) {
        (x.clone(), gamma.clone(), beta.clone())
    }
}

impl Norms for CubeBackend {
    fn masked_norm(
        x: FloatTensor<Self>,
        mask: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        epsilon: f32,
        form: Form,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        frames::masked_norm([x, mask, gamma, beta], epsilon, form).into()
    }

    fn running_norm(
        x: FloatTensor<Self>,
        mask: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        mean: FloatTensor<Self>,
        variance: FloatTensor<Self>,
        epsilon: f32,
        form: Form,
    ) -> FloatTensor<Self> {
        frames::running_norm([x, mask, gamma, beta, mean, variance], epsilon, form)
    }

    fn masked_norm_back(
        gradient: FloatTensor<Self>,
        x: FloatTensor<Self>,
        mask: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        mean: FloatTensor<Self>,
        rest: FloatTensor<Self>,
        form: Form,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        frames::masked_norm_back([gradient, x, mask, gamma, beta, mean, rest], form).into()
    }
}

impl<B: Norms, C: CheckpointStrategy> Norms for Autodiff<B, C> {
    fn masked_norm(
        x: FloatTensor<Self>,
        mask: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        epsilon: f32,
        form: Form,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        let ((x, of_x), (mask, _)) = (x.into_parts(), mask.into_parts());
        let ((gamma, of_gamma), (beta, of_beta)) = (gamma.into_parts(), beta.into_parts());
        let forward = |x, mask, gamma, beta| B::masked_norm(x, mask, gamma, beta, epsilon, form);
        let untracked = |tensor| <Self as AutodiffBackend>::from_inner(tensor);
        match MaskedNorm.prepare::<C>([of_x, of_gamma, of_beta]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => {
                let (y, mean, variance, rest) = forward(x.clone(), mask.clone(), gamma.clone(), beta.clone());
                let state = ([x, mask, gamma, beta, mean.clone(), rest.clone()], form);
                (prep.finish(state, y), untracked(mean), untracked(variance), untracked(rest))
            }
            OpsKind::UnTracked(prep) => {
                let (y, mean, variance, rest) = forward(x, mask, gamma, beta);
                (prep.finish(y), untracked(mean), untracked(variance), untracked(rest))
            }
        }
    }

    fn running_norm(
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: f32,
        _: Form,
    ) -> FloatTensor<Self> {
        unreachable!("what is tracked is normalised by Burn's operations")
    }

    fn masked_norm_back(
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: Form,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        unreachable!("there are no gradients of gradients")
    }
}

#[derive(Debug)]
struct MaskedNorm;

impl<B: Norms> Backward<B, 3> for MaskedNorm {
    /// `x`, mask, scale, offset, mean, the rest.
    type State = ([FloatTensor<B>; 6], Form);

    fn backward(self, ops: Ops<Self::State, 3>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let gradient = gradients.consume::<B>(&ops.node);
        let ([x, mask, gamma, beta, mean, rest], form) = ops.state;
        let (for_x, for_gamma, for_beta) = B::masked_norm_back(gradient, x, mask, gamma, beta, mean, rest, form);
        register::<B>(ops.parents.map(|node| node.map(|node| node.id)), [for_x, for_gamma, for_beta], gradients);
    }
}

/// Normalises by the statistics of the batch's real frames, then `after`; with mean and (biased) variance, `[channels]` each, which are
/// constants to autodiff.
///
/// # Shapes
/// `[batch, frames, channels]` in and out, zeros in the padding; the mask is `[batch, frames, 1]`.
pub(crate) fn batch_norm(
    x: Tensor<3>,
    [gamma, beta]: [Tensor<1>; 2],
    epsilon: f64,
    mask: Option<&Tensor<3>>,
    after: After,
) -> (Tensor<3>, [Tensor<1>; 2]) {
    let form = Form { after, masked: mask.is_some() };
    let [gamma, beta] = [gamma, beta].map(Tensor::into_dispatch);
    let mask = mask.map_or_else(|| gamma.clone(), |mask| mask.clone().into_dispatch());
    let (y, mean, variance, _) = Dispatch::masked_norm(x.into_dispatch(), mask, gamma, beta, epsilon as f32, form);
    (Tensor::from_dispatch(y), [mean, variance].map(|tensor| Tensor::<1>::from_dispatch(tensor).inner()))
}

/// Normalises by running mean and variance, then `after`, without autodiff.
///
/// # Shapes
/// As [`batch_norm`].
pub(crate) fn running_norm(
    x: Tensor<3>,
    parameters: [Tensor<1>; 4],
    epsilon: f64,
    mask: Option<&Tensor<3>>,
    after: After,
) -> Tensor<3> {
    let form = Form { after, masked: mask.is_some() };
    let [gamma, beta, mean, variance] = parameters.map(Tensor::into_dispatch);
    let mask = mask.map_or_else(|| gamma.clone(), |mask| mask.clone().into_dispatch());
    let x = x.into_dispatch();
    Tensor::from_dispatch(Dispatch::running_norm(x, mask, gamma, beta, mean, variance, epsilon as f32, form))
}
