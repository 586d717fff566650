//! A row that is added to all others, whose gradient is the sum of columns over all rows: of these there are thousands, of columns a
//! hundred.

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, TensorMetadata, backend_extension};
use burn::tensor::Tensor;
use burn_cubecl::CubeBackend;

use super::rows;

/// Of matrices `[rows, columns]`, or of several beside each other.
#[backend_extension(Autodiff, Cube: cfg(feature = "cube"), Fusion: cfg(feature = "cube"))]
pub trait Columns: Backend {
    /// The sums over parts of the rows: `[matrices, rows, columns]` to `[matrices, parts, columns]`.
    #[fusion(meta = meta::sums_of_parts)]
    fn sums_of_parts(x: FloatTensor<Self>) -> FloatTensor<Self>;

    /// The sums over all rows: `[matrices, rows, columns]` to `[matrices, 1, columns]`.
    #[fusion(default)]
    fn column_sums(x: FloatTensor<Self>) -> FloatTensor<Self> {
        let sums = Self::sums_of_parts(x);
        if sums.shape()[1] == 1 { sums } else { Self::float_sum_dim(sums, 1) }
    }

    /// `x` with `row` `[columns]` added to each of its rows.
    #[fusion(default)]
    fn add_row(x: FloatTensor<Self>, row: FloatTensor<Self>) -> FloatTensor<Self> {
        let columns = row.shape()[0];
        Self::float_add(x, Self::float_reshape(row, [1, columns].into()))
    }
}

/// The shapes that come out, for fusion, which runs later.
mod meta {
    use burn::backend::fusion::custom::TensorSpec;

    use super::rows::parts;

    pub fn sums_of_parts(x: &TensorSpec) -> TensorSpec {
        TensorSpec::new(vec![x.shape[0], parts(x.shape[1]), x.shape[2]].into(), x.dtype)
    }
}

impl Columns for CubeBackend {
    fn sums_of_parts(x: FloatTensor<Self>) -> FloatTensor<Self> {
        rows::sums_of_parts(x)
    }
}

impl<B: Columns, C: CheckpointStrategy> Columns for Autodiff<B, C> {
    fn sums_of_parts(_: FloatTensor<Self>) -> FloatTensor<Self> {
        unreachable!("only ways back add up columns")
    }

    fn add_row(x: FloatTensor<Self>, row: FloatTensor<Self>) -> FloatTensor<Self> {
        let ((x, of_x), (row, of_row)) = (x.into_parts(), row.into_parts());
        match AddRow.prepare::<C>([of_x, of_row]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish((), B::add_row(x, row)),
            OpsKind::UnTracked(prep) => prep.finish(B::add_row(x, row)),
        }
    }
}

#[derive(Debug)]
struct AddRow;

impl<B: Columns> Backward<B, 2> for AddRow {
    type State = ();

    fn backward(self, ops: Ops<(), 2>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let gradient = gradients.consume::<B>(&ops.node);
        let [of_x, of_row] = ops.parents;
        if let Some(node) = of_row {
            let [rows, columns] = [0, 1].map(|dimension| gradient.shape()[dimension]);
            let sums = B::column_sums(B::float_reshape(gradient.clone(), [1, rows, columns].into()));
            gradients.register::<B>(node.id, B::float_reshape(sums, [columns].into()));
        }
        if let Some(node) = of_x {
            gradients.register::<B>(node.id, gradient);
        }
    }
}

/// `x` with `row` added to each of its rows.
///
/// # Shapes
/// `[rows, columns]` and `[columns]`
pub(crate) fn add_row(x: Tensor<2>, row: Tensor<1>) -> Tensor<2> {
    Tensor::from_dispatch(Dispatch::add_row(x.into_dispatch(), row.into_dispatch()))
}
