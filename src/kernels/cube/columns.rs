//! Biases: a row that is added to all others, and a leaky ReLU after it. Their gradients are sums of columns over all rows: of these there
//! are thousands, of columns a hundred.

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, TensorMetadata, backend_extension};
use burn::tensor::Tensor;
use burn_cubecl::CubeBackend;

use super::rows;
use super::tape::register;

/// Of matrices `[rows, columns]`, or of several beside each other.
#[backend_extension(Autodiff, Cube: cfg(feature = "cube"), Fusion: cfg(feature = "cube"))]
pub trait Columns: Backend {
    /// The sums over parts of the rows: `[matrices, rows, columns]` to `[matrices, parts, columns]`.
    #[fusion(meta = meta::sums_of_parts)]
    fn sums_of_parts(x: FloatTensor<Self>) -> FloatTensor<Self>;

    /// The sums over all rows: `[matrices, rows, columns]` to `[matrices, 1, columns]`.
    #[fusion(default)]
    fn column_sums(x: FloatTensor<Self>) -> FloatTensor<Self> {
        Self::sum_of_parts(Self::sums_of_parts(x))
    }

    /// What such parts come to.
    #[fusion(default)]
    fn sum_of_parts(sums: FloatTensor<Self>) -> FloatTensor<Self> {
        if sums.shape()[1] == 1 { sums } else { Self::float_sum_dim(sums, 1) }
    }

    /// `x` `[rows, columns]` with `row` `[columns]` added to each of its rows, then what is below zero times `slope`.
    #[fusion(meta = |x, _row, _slope| x.clone())]
    fn biased(x: FloatTensor<Self>, row: FloatTensor<Self>, slope: f32) -> FloatTensor<Self>;

    /// From the gradient of what [`biased`](Self::biased) gave that of `x`, and the sums of its columns over parts of the rows,
    /// `[1, parts, columns]`.
    #[fusion(meta = meta::biased_back)]
    fn biased_back(
        gradient: FloatTensor<Self>,
        y: FloatTensor<Self>,
        slope: f32,
    ) -> (FloatTensor<Self>, FloatTensor<Self>);
}

/// The shapes that come out, for fusion, which runs later.
mod meta {
    use burn::backend::fusion::custom::TensorSpec;

    use super::rows::parts;

    pub fn sums_of_parts(x: &TensorSpec) -> TensorSpec {
        TensorSpec::new(vec![x.shape[0], parts(x.shape[1]), x.shape[2]].into(), x.dtype)
    }

    pub fn biased_back(gradient: &TensorSpec, y: &TensorSpec, _slope: &f32) -> (TensorSpec, TensorSpec) {
        (gradient.clone(), TensorSpec::new(vec![1, parts(y.shape[0]), y.shape[1]].into(), y.dtype))
    }
}

impl Columns for CubeBackend {
    fn sums_of_parts(x: FloatTensor<Self>) -> FloatTensor<Self> {
        rows::sums_of_parts(x)
    }

    fn biased(x: FloatTensor<Self>, row: FloatTensor<Self>, slope: f32) -> FloatTensor<Self> {
        rows::biased(x, row, slope)
    }

    fn biased_back(
        gradient: FloatTensor<Self>,
        y: FloatTensor<Self>,
        slope: f32,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        rows::biased_back(gradient, y, slope)
    }
}

impl<B: Columns, C: CheckpointStrategy> Columns for Autodiff<B, C> {
    fn sums_of_parts(_: FloatTensor<Self>) -> FloatTensor<Self> {
        unreachable!("only ways back add up columns")
    }

    fn biased(x: FloatTensor<Self>, row: FloatTensor<Self>, slope: f32) -> FloatTensor<Self> {
        let ((x, of_x), (row, of_row)) = (x.into_parts(), row.into_parts());
        match Biased.prepare::<C>([of_x, of_row]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => {
                let y = B::biased(x, row, slope);
                // Without a slope the gradient passes as it is.
                prep.finish((slope != 1.0).then(|| (y.clone(), slope)), y)
            }
            OpsKind::UnTracked(prep) => prep.finish(B::biased(x, row, slope)),
        }
    }

    fn biased_back(_: FloatTensor<Self>, _: FloatTensor<Self>, _: f32) -> (FloatTensor<Self>, FloatTensor<Self>) {
        unreachable!("there are no gradients of gradients")
    }
}

#[derive(Debug)]
struct Biased;

impl<B: Columns> Backward<B, 2> for Biased {
    /// What came out and the slope, where there is one.
    type State = Option<(FloatTensor<B>, f32)>;

    fn backward(self, ops: Ops<Self::State, 2>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let gradient = gradients.consume::<B>(&ops.node);
        let [rows, columns] = [0, 1].map(|dimension| gradient.shape()[dimension]);
        let (for_x, sums) = match ops.state {
            Some((y, slope)) => B::biased_back(gradient, y, slope),
            None => (gradient.clone(), B::sums_of_parts(B::float_reshape(gradient, [1, rows, columns].into()))),
        };
        let for_row = B::float_reshape(B::sum_of_parts(sums), [columns].into());
        register::<B>(ops.parents.map(|node| node.map(|node| node.id)), [for_x, for_row], gradients);
    }
}

/// `x` with `row` added to each of its rows, then what is below zero times `slope`.
///
/// # Shapes
/// `[rows, columns]` and `[columns]`
pub(crate) fn biased(x: Tensor<2>, row: Tensor<1>, slope: f64) -> Tensor<2> {
    Tensor::from_dispatch(Dispatch::biased(x.into_dispatch(), row.into_dispatch(), slope as f32))
}
