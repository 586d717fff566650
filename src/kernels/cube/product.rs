//! Matrix products in the precision that was asked for, with a way back that keeps a large GPU busy.

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, TensorMetadata, backend_extension};
use burn::tensor::{FloatDType, Tensor};
use burn_cubecl::CubeBackend;

use super::exact;
use crate::device::{Precision, precision};

/// Products.
#[backend_extension(Autodiff, Cube: cfg(feature = "cube"), Fusion: cfg(feature = "cube"))]
pub trait Products: Backend {
    /// In f32 throughout.
    #[fusion(meta = meta::product)]
    fn exact(lhs: FloatTensor<Self>, rhs: FloatTensor<Self>) -> FloatTensor<Self>;

    /// In the process's [`Precision`]. `[.., rows, inner]` and `[.., inner, columns]` to `[.., rows, columns]`, in f32.
    #[fusion(default)]
    fn product(lhs: FloatTensor<Self>, rhs: FloatTensor<Self>) -> FloatTensor<Self> {
        match precision() {
            Precision::F32 => Self::exact(lhs, rhs),
            Precision::Tf32 => Self::float_matmul(lhs, rhs),
            Precision::Bf16 => {
                let [lhs, rhs] = [lhs, rhs].map(|factor| Self::float_cast(factor, FloatDType::BF16));
                Self::float_cast(Self::float_matmul(lhs, rhs), FloatDType::F32)
            }
        }
    }
}

/// The shapes that come out, for fusion, which runs later.
mod meta {
    use burn::backend::fusion::custom::TensorSpec;

    pub fn product(lhs: &TensorSpec, rhs: &TensorSpec) -> TensorSpec {
        let mut shape = lhs.shape.to_vec();
        let columns = shape.len() - 1;
        shape[columns] = rhs.shape[columns];
        TensorSpec::new(shape.into(), lhs.dtype)
    }
}

impl Products for CubeBackend {
    fn exact(lhs: FloatTensor<Self>, rhs: FloatTensor<Self>) -> FloatTensor<Self> {
        exact::multiply(lhs, rhs)
    }
}

impl<B: Products, C: CheckpointStrategy> Products for Autodiff<B, C> {
    fn exact(_: FloatTensor<Self>, _: FloatTensor<Self>) -> FloatTensor<Self> {
        unreachable!("what is tracked goes through `product`")
    }

    fn product(lhs: FloatTensor<Self>, rhs: FloatTensor<Self>) -> FloatTensor<Self> {
        let ((lhs, of_lhs), (rhs, of_rhs)) = (lhs.into_parts(), rhs.into_parts());
        match Product.prepare::<C>([of_lhs, of_rhs]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish((lhs.clone(), rhs.clone()), B::product(lhs, rhs)),
            OpsKind::UnTracked(prep) => prep.finish(B::product(lhs, rhs)),
        }
    }
}

#[derive(Debug)]
struct Product;

impl<B: Products> Backward<B, 2> for Product {
    /// The two factors.
    type State = (FloatTensor<B>, FloatTensor<B>);

    fn backward(self, ops: Ops<Self::State, 2>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let gradient = gradients.consume::<B>(&ops.node);
        let ([of_lhs, of_rhs], (lhs, rhs)) = (ops.parents, ops.state);
        if let Some(node) = of_lhs {
            gradients.register::<B>(node.id, B::product(gradient.clone(), B::float_transpose(rhs)));
        }
        if let Some(node) = of_rhs {
            gradients.register::<B>(node.id, over_rows::<B>(lhs, gradient));
        }
    }
}

/// The sides of a product that a multiprocessor computes at a time, about.
const TILE: usize = 64;
/// Tiles that keep a large GPU busy: two for each of its multiprocessors, about.
const TILES: usize = 256;
/// The fewest rows worth a part of their own.
const LEAST_ROWS: usize = 128;

/// The gradient of a weight `[inputs, outputs]`: the product over all rows of `lhs` `[rows, inputs]` and `gradient` `[rows, outputs]`.
///
/// It has many terms and few results, so that whoever computes some of them takes all rows one after the other. Parts of the rows are
/// multiplied beside each other, and added after.
pub(super) fn over_rows<B: Products>(lhs: FloatTensor<B>, gradient: FloatTensor<B>) -> FloatTensor<B> {
    let ([shape, of_gradient], dimensions) = ([lhs.shape(), gradient.shape()], lhs.shape().num_dims());
    let (rows, inputs, outputs) = (shape[dimensions - 2], shape[dimensions - 1], of_gradient[dimensions - 1]);
    let tiles = inputs.div_ceil(TILE) * outputs.div_ceil(TILE);
    let parts = (0..6).map(|power| 1 << power).take_while(|parts| parts * tiles <= TILES);
    let parts = parts.filter(|parts| rows.is_multiple_of(*parts) && rows / parts >= LEAST_ROWS).last().unwrap_or(1);
    if dimensions > 2 || parts == 1 {
        return B::product(B::float_transpose(lhs), gradient);
    }
    let [lhs, gradient] = [(lhs, inputs), (gradient, outputs)]
        .map(|(rows_of, columns)| B::float_reshape(rows_of, [parts, rows / parts, columns].into()));
    let products = B::product(B::float_swap_dims(lhs, 1, 2), gradient); // [parts, inputs, outputs]
    B::float_reshape(B::float_sum_dim(products, 0), [inputs, outputs].into())
}

/// The product of the last two dimensions, in the process's precision.
///
/// # Shapes
/// `[.., rows, inner]` and `[.., inner, columns]` to `[.., rows, columns]`, of the same leading dimensions.
pub(crate) fn product<const D: usize>(lhs: Tensor<D>, rhs: Tensor<D>) -> Tensor<D> {
    Tensor::from_dispatch(Dispatch::product(lhs.into_dispatch(), rhs.into_dispatch()))
}
