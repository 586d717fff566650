//! Negative log-densities, divergences and samples of normal distributions whose scale is `floor + softplus(raw)`, and weighted distances, each
//! with its way back in a kernel or two: as Burn's operations they are a quarter of a step's launches.

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::fusion::custom::TensorSpec;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, DispatchTensor, backend_extension};
use burn::tensor::Tensor;
use burn_cubecl::CubeBackend;

use super::many::Many;
use super::normal;
use super::tape::{parts, register};
use super::update::Update;

/// Sums over all values.
#[backend_extension(Autodiff, Cube: cfg(feature = "cube"), Fusion: cfg(feature = "cube"))]
pub trait Densities: Backend {
    /// The negative log-density of `x`, without the constant `ln(2 pi) / 2` of each value, `[1]`. `outputs` are means and raw scales, each
    /// like `x`, or one tensor of as many pairs `[values, 2]`.
    #[fusion(meta = |x, _outputs, _floor| TensorSpec::new([1].into(), x.dtype))]
    fn nll(x: FloatTensor<Self>, #[extension_type] outputs: Many<Self>, floor: f32) -> FloatTensor<Self>;

    /// From its gradient that of `outputs`.
    #[fusion(meta = |_gradient, _x, outputs, _floor| outputs.clone())]
    fn nll_back(
        gradient: FloatTensor<Self>,
        x: FloatTensor<Self>,
        #[extension_type] outputs: Many<Self>,
        floor: f32,
    ) -> Many<Self>;

    /// `mean + scale * noise` of each value.
    #[fusion(meta = |mean, _raw, _noise, _floor| mean.clone())]
    fn sample(
        mean: FloatTensor<Self>,
        raw: FloatTensor<Self>,
        noise: FloatTensor<Self>,
        floor: f32,
    ) -> FloatTensor<Self>;

    /// From its gradient, which is that of `mean`, that of `raw`.
    #[fusion(meta = |_gradient, raw, _noise| raw.clone())]
    fn sample_back(gradient: FloatTensor<Self>, raw: FloatTensor<Self>, noise: FloatTensor<Self>) -> FloatTensor<Self>;

    /// The sum of `|x - target|` `[.., bins]`, each times the weight `[bins]` of its bin and the mask of its frame, `[1]`. Where nothing is
    /// masked, `mask` is anything.
    #[fusion(meta = |x, _target, _weights, _mask, _masked| TensorSpec::new([1].into(), x.dtype))]
    fn distance(
        x: FloatTensor<Self>,
        target: FloatTensor<Self>,
        weights: FloatTensor<Self>,
        mask: FloatTensor<Self>,
        masked: bool,
    ) -> FloatTensor<Self>;

    /// From its gradient that of `x`.
    #[fusion(meta = |_gradient, x, _target, _weights, _mask, _masked| x.clone())]
    fn distance_back(
        gradient: FloatTensor<Self>,
        x: FloatTensor<Self>,
        target: FloatTensor<Self>,
        weights: FloatTensor<Self>,
        mask: FloatTensor<Self>,
        masked: bool,
    ) -> FloatTensor<Self>;

    /// The divergence of all these together from standard normals, `[1]`.
    #[fusion(meta = |mean, _raw, _floor| TensorSpec::new([1].into(), mean.dtype))]
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
    fn nll(x: FloatTensor<Self>, outputs: Many<Self>, floor: f32) -> FloatTensor<Self> {
        normal::nll(x, outputs.0, floor)
    }

    fn nll_back(gradient: FloatTensor<Self>, x: FloatTensor<Self>, outputs: Many<Self>, floor: f32) -> Many<Self> {
        Many(normal::nll_back(gradient, x, outputs.0, floor))
    }

    fn sample(
        mean: FloatTensor<Self>,
        raw: FloatTensor<Self>,
        noise: FloatTensor<Self>,
        floor: f32,
    ) -> FloatTensor<Self> {
        normal::sample([mean, raw, noise], floor)
    }

    fn sample_back(gradient: FloatTensor<Self>, raw: FloatTensor<Self>, noise: FloatTensor<Self>) -> FloatTensor<Self> {
        normal::sample_back([gradient, raw, noise])
    }

    fn distance(
        x: FloatTensor<Self>,
        target: FloatTensor<Self>,
        weights: FloatTensor<Self>,
        mask: FloatTensor<Self>,
        masked: bool,
    ) -> FloatTensor<Self> {
        normal::distance([x, target, weights, mask], masked)
    }

    fn distance_back(
        gradient: FloatTensor<Self>,
        x: FloatTensor<Self>,
        target: FloatTensor<Self>,
        weights: FloatTensor<Self>,
        mask: FloatTensor<Self>,
        masked: bool,
    ) -> FloatTensor<Self> {
        normal::distance_back([gradient, x, target, weights, mask], masked)
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

impl<B: Densities + Update, C: CheckpointStrategy> Densities for Autodiff<B, C> {
    fn nll(x: FloatTensor<Self>, outputs: Many<Self>, floor: f32) -> FloatTensor<Self> {
        match outputs.0.len() {
            1 => nll_on_tape::<B, C, 1>(x, outputs, floor),
            _ => nll_on_tape::<B, C, 2>(x, outputs, floor),
        }
    }

    fn nll_back(_: FloatTensor<Self>, _: FloatTensor<Self>, _: Many<Self>, _: f32) -> Many<Self> {
        unreachable!("{FIRST_ORDER}")
    }

    fn sample(
        mean: FloatTensor<Self>,
        raw: FloatTensor<Self>,
        noise: FloatTensor<Self>,
        floor: f32,
    ) -> FloatTensor<Self> {
        let ((mean, of_mean), (raw, of_raw), (noise, _)) = (mean.into_parts(), raw.into_parts(), noise.into_parts());
        match Sample.prepare::<C>([of_mean, of_raw]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish((raw.clone(), noise.clone()), B::sample(mean, raw, noise, floor)),
            OpsKind::UnTracked(prep) => prep.finish(B::sample(mean, raw, noise, floor)),
        }
    }

    fn sample_back(_: FloatTensor<Self>, _: FloatTensor<Self>, _: FloatTensor<Self>) -> FloatTensor<Self> {
        unreachable!("{FIRST_ORDER}")
    }

    fn distance(
        x: FloatTensor<Self>,
        target: FloatTensor<Self>,
        weights: FloatTensor<Self>,
        mask: FloatTensor<Self>,
        masked: bool,
    ) -> FloatTensor<Self> {
        let (x, of_x) = x.into_parts();
        let x = B::settle(x); // once for both ways
        let [target, weights, mask] = [target, weights, mask].map(|constant| constant.into_parts().0);
        let distance = |[x, target, weights, mask]: [_; 4]| B::distance(x, target, weights, mask, masked);
        let operands = [x, target, weights, mask];
        match Distance.prepare::<C>([of_x]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish((operands.clone(), masked), distance(operands)),
            OpsKind::UnTracked(prep) => prep.finish(distance(operands)),
        }
    }

    fn distance_back(
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: bool,
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

/// `x` is a constant.
fn nll_on_tape<B: Densities + Update, C: CheckpointStrategy, const N: usize>(
    x: FloatTensor<Autodiff<B, C>>,
    outputs: Many<Autodiff<B, C>>,
    floor: f32,
) -> FloatTensor<Autodiff<B, C>> {
    let (Many(outputs), guards) = parts::<B, C, N>(outputs);
    let outputs = Many(outputs.into_iter().map(B::settle).collect()); // once for both ways
    let x = x.into_parts().0;
    match Nll::<N>.prepare::<C>(guards).compute_bound().stateful() {
        OpsKind::Tracked(prep) => prep.finish((x.clone(), outputs.0.clone(), floor), B::nll(x, outputs, floor)),
        OpsKind::UnTracked(prep) => prep.finish(B::nll(x, outputs, floor)),
    }
}

/// Of so many tensors of outputs.
#[derive(Debug)]
struct Nll<const N: usize>;

impl<B: Densities, const N: usize> Backward<B, N> for Nll<N> {
    /// `x`, outputs, floor.
    type State = (FloatTensor<B>, Vec<FloatTensor<B>>, f32);

    fn backward(self, ops: Ops<Self::State, N>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let gradient = gradients.consume::<B>(&ops.node);
        let (x, outputs, floor) = ops.state;
        let found = B::nll_back(gradient, x, Many(outputs), floor);
        register::<B>(ops.parents.map(|node| node.map(|node| node.id)), found.0, gradients);
    }
}

#[derive(Debug)]
struct Sample;

impl<B: Densities> Backward<B, 2> for Sample {
    /// Raw scale, noise.
    type State = (FloatTensor<B>, FloatTensor<B>);

    fn backward(self, ops: Ops<Self::State, 2>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let gradient = gradients.consume::<B>(&ops.node);
        let ([of_mean, of_raw], (raw, noise)) = (ops.parents, ops.state);
        if let Some(node) = of_raw {
            gradients.register::<B>(node.id, B::sample_back(gradient.clone(), raw, noise));
        }
        if let Some(node) = of_mean {
            gradients.register::<B>(node.id, gradient);
        }
    }
}

#[derive(Debug)]
struct Distance;

impl<B: Densities> Backward<B, 1> for Distance {
    /// `x`, target, weights, mask; whether there is one.
    type State = ([FloatTensor<B>; 4], bool);

    fn backward(self, ops: Ops<Self::State, 1>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let gradient = gradients.consume::<B>(&ops.node);
        let ([x, target, weights, mask], masked) = ops.state;
        if let [Some(node)] = ops.parents {
            gradients.register::<B>(node.id, B::distance_back(gradient, x, target, weights, mask, masked));
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
        register::<B>(ops.parents.map(|node| node.map(|node| node.id)), [for_mean, for_raw], gradients);
    }
}

/// The negative log-density of all values of `x` together under normal distributions of scale `floor + softplus(raw)`, without the constant
/// `ln(2 pi) / 2` of each, `[1]`. `outputs` are means and raw scales, each like `x`, or one tensor of as many pairs of them, `[values, 2]`.
pub(crate) fn nll<const D: usize>(x: Tensor<D>, outputs: Vec<DispatchTensor>, floor: f64) -> Tensor<1> {
    Tensor::from_dispatch(Dispatch::nll(x.into_dispatch(), Many(outputs), floor as f32))
}

/// `mean + (floor + softplus(raw)) * noise` of each value. The noise is a constant.
pub(crate) fn sample<const D: usize>(mean: Tensor<D>, raw: Tensor<D>, noise: Tensor<D>, floor: f64) -> Tensor<D> {
    let [mean, raw, noise] = [mean, raw, noise].map(Tensor::into_dispatch);
    Tensor::from_dispatch(Dispatch::sample(mean, raw, noise, floor as f32))
}

/// The sum of `|x - target|`, each times the weight of its bin, over frames that are not masked, `[1]`. The target is a constant.
///
/// # Shapes
/// `[batch, frames, bins]` both, `[bins]`, and `[batch, frames, 1]`
pub(crate) fn distance(x: Tensor<3>, target: Tensor<3>, weights: Tensor<1>, mask: Option<&Tensor<3>>) -> Tensor<1> {
    let weights = weights.into_dispatch();
    let masked = mask.is_some();
    let mask = mask.map_or_else(|| weights.clone(), |mask| mask.clone().into_dispatch());
    Tensor::from_dispatch(Dispatch::distance(x.into_dispatch(), target.into_dispatch(), weights, mask, masked))
}

/// The divergence from standard normals of all these normal distributions of scale `floor + softplus(raw)` together, `[1]`.
pub(crate) fn divergence<const D: usize>(mean: Tensor<D>, raw: Tensor<D>, floor: f64) -> Tensor<1> {
    Tensor::from_dispatch(Dispatch::divergence(mean.into_dispatch(), raw.into_dispatch(), floor as f32))
}
