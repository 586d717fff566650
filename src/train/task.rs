//! What differs between training the VAE and training the inverter.

use std::collections::BTreeMap;

use burn::module::Module;
use burn::tensor::Tensor;

use crate::data::Position;

/// A model, its data and its loss.
pub trait Task {
    /// What is trained.
    type Model: Module;

    /// Draws the next batch and computes its loss. Randomness comes from the seed and `step` alone.
    fn train_loss(&mut self, model: &mut Self::Model, step: u64) -> Terms;

    /// Mean of every reported term over the whole test set, for a model without autodiff.
    fn evaluate(&self, model: &Self::Model) -> BTreeMap<String, f64>;

    /// Where the next batch comes from.
    fn position(&self) -> Position;

    /// Makes the next batch come from `position`.
    fn seek(&mut self, position: Position);
}

/// A value and its name, `[1]`, without autodiff.
pub type Term = (&'static str, Tensor<1>);

/// The loss of one batch.
pub struct Terms {
    /// What is minimised, `[1]`, tracked by autodiff.
    pub loss: Tensor<1>,
    /// What is shown; the first is the total.
    pub reported: Vec<Term>,
}
