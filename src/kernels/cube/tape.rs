//! What operations of several tensors share on the tape.

use burn::backend::autodiff::NodeId;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::NodeGuard;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend};

use super::many::Many;

/// Tensors and their places on the tape.
///
/// # Panics
/// If there are not `N`.
pub(super) fn parts<B: Backend, C: CheckpointStrategy, const N: usize>(
    tensors: Many<Autodiff<B, C>>,
) -> (Many<B>, [NodeGuard; N]) {
    let (values, guards): (_, Vec<_>) = tensors.0.into_iter().map(|tensor| tensor.into_parts()).unzip();
    (Many(values), guards.try_into().unwrap_or_else(|_| panic!("as many as there are places")))
}

/// Gives those parents that are tracked the gradients that were found for them.
pub(super) fn register<B: Backend>(
    parents: impl IntoIterator<Item = Option<NodeId>>,
    found: impl IntoIterator<Item = FloatTensor<B>>,
    gradients: &mut Gradients,
) {
    for (parent, found) in parents.into_iter().zip(found) {
        if let Some(parent) = parent {
            gradients.register::<B>(parent, found);
        }
    }
}
