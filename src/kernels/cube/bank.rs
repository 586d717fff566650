//! Filters of neighbouring widths as one matrix, each among zeros within the widest.

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::fusion::custom::TensorSpec;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, backend_extension};
use burn::tensor::Tensor;
use burn_cubecl::CubeBackend;

use super::filters::{self, Filters};
use super::many::Many;
use super::tape::{parts, register};

/// From filters `[taps * inputs, outputs]` to one matrix, and back.
#[backend_extension(Autodiff, Cube: cfg(feature = "cube"), Fusion: cfg(feature = "cube"))]
pub trait Banks: Backend {
    /// As columns beside each other, zeros above and below those that are shorter.
    #[fusion(meta = |weights, filters| TensorSpec::new(filters.shape().to_vec().into(), weights[0].dtype))]
    fn filters(#[extension_type] weights: Many<Self>, filters: Filters) -> FloatTensor<Self>;

    /// The filters' part of such a matrix.
    #[fusion(meta = meta::filters_back)]
    fn filters_back(matrix: FloatTensor<Self>, filters: Filters) -> Many<Self>;
}

/// The shapes that come out, for fusion, which runs later.
mod meta {
    use super::{Filters, TensorSpec};

    pub fn filters_back(matrix: &TensorSpec, filters: &Filters) -> Vec<TensorSpec> {
        let of = |filter| TensorSpec::new(filters.shape_of(filter).to_vec().into(), matrix.dtype);
        (0..filters.count).map(of).collect()
    }
}

impl Banks for CubeBackend {
    fn filters(weights: Many<Self>, filters: Filters) -> FloatTensor<Self> {
        filters::together(weights.0, filters)
    }

    fn filters_back(matrix: FloatTensor<Self>, filters: Filters) -> Many<Self> {
        Many(filters::apart(matrix, filters))
    }
}

/// The most filters of a matrix.
pub(crate) const TOGETHER: usize = 4;

impl<B: Banks, C: CheckpointStrategy> Banks for Autodiff<B, C> {
    fn filters(weights: Many<Self>, filters: Filters) -> FloatTensor<Self> {
        match filters.count {
            1 => on_tape::<B, C, 1>(weights, filters),
            2 => on_tape::<B, C, 2>(weights, filters),
            3 => on_tape::<B, C, 3>(weights, filters),
            TOGETHER => on_tape::<B, C, TOGETHER>(weights, filters),
            count => unreachable!("{count} filters for one matrix"),
        }
    }

    fn filters_back(_: FloatTensor<Self>, _: Filters) -> Many<Self> {
        unreachable!("there are no gradients of gradients")
    }
}

fn on_tape<B: Banks, C: CheckpointStrategy, const N: usize>(
    weights: Many<Autodiff<B, C>>,
    filters: Filters,
) -> FloatTensor<Autodiff<B, C>> {
    let (weights, guards) = parts::<B, C, N>(weights);
    match OfFilters::<N>.prepare::<C>(guards).compute_bound().stateful() {
        OpsKind::Tracked(prep) => prep.finish(filters, B::filters(weights, filters)),
        OpsKind::UnTracked(prep) => prep.finish(B::filters(weights, filters)),
    }
}

/// Of so many filters.
#[derive(Debug)]
struct OfFilters<const N: usize>;

impl<B: Banks, const N: usize> Backward<B, N> for OfFilters<N> {
    type State = Filters;

    fn backward(self, ops: Ops<Filters, N>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let found = B::filters_back(gradients.consume::<B>(&ops.node), ops.state);
        register::<B>(ops.parents.map(|node| node.map(|node| node.id)), found.0, gradients);
    }
}

/// At most [`TOGETHER`] filters, the first of `narrowest` taps and each of one more, as the columns of one matrix, zeros above and below
/// those that are shorter.
///
/// # Shapes
/// `[taps * inputs, outputs]` each to `[most taps * inputs, filters * outputs]`
pub(crate) fn filters(weights: Vec<Tensor<2>>, narrowest: usize) -> Tensor<2> {
    let [rows, outputs] = weights[0].dims();
    of(weights, Filters { narrowest, more: 1, count: 0, inputs: rows / narrowest, outputs })
}

/// Matrices of one shape beside each other. With autodiff at most [`TOGETHER`].
///
/// # Shapes
/// `[rows, columns]` each to `[rows, matrices * columns]`
pub(crate) fn beside(matrices: Vec<Tensor<2>>) -> Tensor<2> {
    let [inputs, outputs] = matrices[0].dims();
    of(matrices, Filters { narrowest: 1, more: 0, count: 0, inputs, outputs })
}

fn of(weights: Vec<Tensor<2>>, filters: Filters) -> Tensor<2> {
    let filters = Filters { count: weights.len(), ..filters };
    let weights = weights.into_iter().map(Tensor::into_dispatch).collect();
    Tensor::from_dispatch(Dispatch::filters(Many(weights), filters))
}
