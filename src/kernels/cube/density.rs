//! Negative log-densities and divergences of normal distributions whose scale is `floor + softplus(raw)`, and weighted distances, each
//! with its way back in one kernel: as Burn's operations they are a quarter of a step's launches.

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, backend_extension};
use burn::tensor::Tensor;
use burn_cubecl::CubeBackend;

use super::normal;

/// Value by value, all of one shape.
#[backend_extension(Autodiff, Cube: cfg(feature = "cube"), Fusion: cfg(feature = "cube"))]
pub trait Densities: Backend {
    /// The negative log-density of each value of `x`, without the constant `ln(2 pi) / 2`.
    #[fusion(meta = |x, _mean, _raw, _floor| x.clone())]
    fn density(x: FloatTensor<Self>, mean: FloatTensor<Self>, raw: FloatTensor<Self>, floor: f32) -> FloatTensor<Self>;

    /// From its gradient those of `mean` and `raw`.
    #[fusion(meta = |_gradient, _x, mean, raw, _floor| (mean.clone(), raw.clone()))]
    fn density_back(
        gradient: FloatTensor<Self>,
        x: FloatTensor<Self>,
        mean: FloatTensor<Self>,
        raw: FloatTensor<Self>,
        floor: f32,
    ) -> (FloatTensor<Self>, FloatTensor<Self>);

    /// `|x - target|` times the weight `[bins]` of the value's place in the last dimension.
    #[fusion(meta = |x, _target, _weights| x.clone())]
    fn distance(x: FloatTensor<Self>, target: FloatTensor<Self>, weights: FloatTensor<Self>) -> FloatTensor<Self>;

    /// From its gradient that of `x`.
    #[fusion(meta = |_gradient, x, _target, _weights| x.clone())]
    fn distance_back(
        gradient: FloatTensor<Self>,
        x: FloatTensor<Self>,
        target: FloatTensor<Self>,
        weights: FloatTensor<Self>,
    ) -> FloatTensor<Self>;

    /// The divergence from the standard normal.
    #[fusion(meta = |mean, _raw, _floor| mean.clone())]
    fn divergence(mean: FloatTensor<Self>, raw: FloatTensor<Self>, floor: f32) -> FloatTensor<Self>;

    /// From its gradient those of `mean` and `raw`.
    #[fusion(meta = |_gradient, mean, raw, _floor| (mean.clone(), raw.clone()))]
    fn divergence_back(
        gradient: FloatTensor<Self>,
        mean: FloatTensor<Self>,
        raw: FloatTensor<Self>,
        floor: f32,
    ) -> (FloatTensor<Self>, FloatTensor<Self>);
}

impl Densities for CubeBackend {
    fn density(x: FloatTensor<Self>, mean: FloatTensor<Self>, raw: FloatTensor<Self>, floor: f32) -> FloatTensor<Self> {
        normal::density([x, mean, raw], floor)
    }

    fn density_back(
        gradient: FloatTensor<Self>,
        x: FloatTensor<Self>,
        mean: FloatTensor<Self>,
        raw: FloatTensor<Self>,
        floor: f32,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        normal::density_back([gradient, x, mean, raw], floor)
    }

    fn distance(x: FloatTensor<Self>, target: FloatTensor<Self>, weights: FloatTensor<Self>) -> FloatTensor<Self> {
        normal::distance([x, target, weights])
    }

    fn distance_back(
        gradient: FloatTensor<Self>,
        x: FloatTensor<Self>,
        target: FloatTensor<Self>,
        weights: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        normal::distance_back([gradient, x, target, weights])
    }

    fn divergence(mean: FloatTensor<Self>, raw: FloatTensor<Self>, floor: f32) -> FloatTensor<Self> {
        normal::divergence([mean, raw], floor)
    }

    fn divergence_back(
        gradient: FloatTensor<Self>,
        mean: FloatTensor<Self>,
        raw: FloatTensor<Self>,
        floor: f32,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        normal::divergence_back([gradient, mean, raw], floor)
    }
}

/// The tape calls the ways back on the backend below it, so that only a gradient of a gradient would come here.
const FIRST_ORDER: &str = "there are no gradients of gradients";

impl<B: Densities, C: CheckpointStrategy> Densities for Autodiff<B, C> {
    fn density(x: FloatTensor<Self>, mean: FloatTensor<Self>, raw: FloatTensor<Self>, floor: f32) -> FloatTensor<Self> {
        let (x, of_x) = x.into_parts();
        let ((mean, of_mean), (raw, of_raw)) = (mean.into_parts(), raw.into_parts());
        match Density.prepare::<C>([of_x, of_mean, of_raw]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => {
                let state = (x.clone(), mean.clone(), raw.clone(), floor);
                prep.finish(state, B::density(x, mean, raw, floor))
            }
            OpsKind::UnTracked(prep) => prep.finish(B::density(x, mean, raw, floor)),
        }
    }

    fn density_back(
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: f32,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        unreachable!("{FIRST_ORDER}")
    }

    fn distance(x: FloatTensor<Self>, target: FloatTensor<Self>, weights: FloatTensor<Self>) -> FloatTensor<Self> {
        let ((x, of_x), (target, of_target), (weights, _)) =
            (x.into_parts(), target.into_parts(), weights.into_parts());
        match Distance.prepare::<C>([of_x, of_target]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => {
                let state = (x.clone(), target.clone(), weights.clone());
                prep.finish(state, B::distance(x, target, weights))
            }
            OpsKind::UnTracked(prep) => prep.finish(B::distance(x, target, weights)),
        }
    }

    fn distance_back(
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        unreachable!("{FIRST_ORDER}")
    }

    fn divergence(mean: FloatTensor<Self>, raw: FloatTensor<Self>, floor: f32) -> FloatTensor<Self> {
        let ((mean, of_mean), (raw, of_raw)) = (mean.into_parts(), raw.into_parts());
        match Divergence.prepare::<C>([of_mean, of_raw]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => {
                let state = (mean.clone(), raw.clone(), floor);
                prep.finish(state, B::divergence(mean, raw, floor))
            }
            OpsKind::UnTracked(prep) => prep.finish(B::divergence(mean, raw, floor)),
        }
    }

    fn divergence_back(
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: f32,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        unreachable!("{FIRST_ORDER}")
    }
}

#[derive(Debug)]
struct Density;

impl<B: Densities> Backward<B, 3> for Density {
    /// `x`, mean, raw, floor.
    type State = (FloatTensor<B>, FloatTensor<B>, FloatTensor<B>, f32);

    fn backward(self, ops: Ops<Self::State, 3>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let gradient = gradients.consume::<B>(&ops.node);
        let (x, mean, raw, floor) = ops.state;
        let (for_mean, for_raw) = B::density_back(gradient, x, mean, raw, floor);
        let [of_x, of_mean, of_raw] = ops.parents;
        if let Some(node) = of_x {
            gradients.register::<B>(node.id, B::float_neg(for_mean.clone()));
        }
        for (node, found) in [(of_mean, for_mean), (of_raw, for_raw)] {
            if let Some(node) = node {
                gradients.register::<B>(node.id, found);
            }
        }
    }
}

#[derive(Debug)]
struct Distance;

impl<B: Densities> Backward<B, 2> for Distance {
    /// `x`, target, weights.
    type State = (FloatTensor<B>, FloatTensor<B>, FloatTensor<B>);

    fn backward(self, ops: Ops<Self::State, 2>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let gradient = gradients.consume::<B>(&ops.node);
        let (x, target, weights) = ops.state;
        let for_x = B::distance_back(gradient, x, target, weights);
        let [of_x, of_target] = ops.parents;
        if let Some(node) = of_target {
            gradients.register::<B>(node.id, B::float_neg(for_x.clone()));
        }
        if let Some(node) = of_x {
            gradients.register::<B>(node.id, for_x);
        }
    }
}

#[derive(Debug)]
struct Divergence;

impl<B: Densities> Backward<B, 2> for Divergence {
    /// Mean, raw, floor.
    type State = (FloatTensor<B>, FloatTensor<B>, f32);

    fn backward(self, ops: Ops<Self::State, 2>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let gradient = gradients.consume::<B>(&ops.node);
        let (mean, raw, floor) = ops.state;
        let (for_mean, for_raw) = B::divergence_back(gradient, mean, raw, floor);
        let [of_mean, of_raw] = ops.parents;
        for (node, found) in [(of_mean, for_mean), (of_raw, for_raw)] {
            if let Some(node) = node {
                gradients.register::<B>(node.id, found);
            }
        }
    }
}

/// The negative log-density of each value of `x` under a normal distribution of scale `floor + softplus(raw)`,
/// without the constant `ln(2 pi) / 2`. All of one shape.
pub(crate) fn density<const D: usize>(x: Tensor<D>, mean: Tensor<D>, raw: Tensor<D>, floor: f64) -> Tensor<D> {
    let [x, mean, raw] = [x, mean, raw].map(Tensor::into_dispatch);
    Tensor::from_dispatch(Dispatch::density(x, mean, raw, floor as f32))
}

/// `|x - target|` times the weight of the value's place in the last dimension.
///
/// # Shapes
/// `[.., bins]`, `[.., bins]` and `[bins]`
pub(crate) fn distance<const D: usize>(x: Tensor<D>, target: Tensor<D>, weights: Tensor<1>) -> Tensor<D> {
    Tensor::from_dispatch(Dispatch::distance(x.into_dispatch(), target.into_dispatch(), weights.into_dispatch()))
}

/// The divergence from the standard normal of each normal distribution of scale `floor + softplus(raw)`.
pub(crate) fn divergence<const D: usize>(mean: Tensor<D>, raw: Tensor<D>, floor: f64) -> Tensor<D> {
    Tensor::from_dispatch(Dispatch::divergence(mean.into_dispatch(), raw.into_dispatch(), floor as f32))
}
