//! What differs between training the VAE and training the inverter.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::AtomicUsize;

use burn::module::Module;
use burn::tensor::Tensor;
use ndarray::Array2;

use crate::Result;
use crate::data::{Batch, Drawn, Position};
use crate::models::Discriminator;
use crate::run::values;

/// A model, its data and its loss.
pub trait Task: Send {
    /// What is trained.
    type Model: Module;

    /// Draws the next batch and whatever else is of `step` alone. Randomness comes from the seed and `step`.
    ///
    /// # Errors
    /// If the data cannot be read; the position stays before that batch.
    fn draw(&mut self, step: u64) -> Result<Drawn>;

    /// The loss of what was drawn for a step: the same function of models and batch at every step, computed without any other value
    /// from the CPU, so that it can be recorded once and replayed. `rival` is there where the run's objective has one.
    fn loss(&self, model: &mut Self::Model, rival: Option<&Discriminator>, batch: &Batch) -> Terms;

    /// What the whole test set gives for a model and a rival without autodiff; `None` if `stop`, which is looked at before each batch, was
    /// no longer zero.
    ///
    /// # Errors
    /// If the data cannot be read.
    fn evaluate(
        &self,
        model: &Self::Model,
        rival: Option<&Discriminator>,
        stop: &AtomicUsize,
    ) -> Result<Option<Evaluation>>;

    /// The names of the files of the last training batch.
    fn files(&self) -> BTreeSet<String>;

    /// Where the next batch comes from.
    fn position(&self) -> Position;

    /// Makes the next batch come from `position`.
    fn seek(&mut self, position: Position);
}

/// What an evaluation gives.
#[derive(Clone, Debug, Default)]
pub struct Evaluation {
    /// Mean of every reported term by name, `total` among them.
    pub means: BTreeMap<String, f64>,
    /// Further scalars, by TensorBoard tag.
    pub scalars: Vec<(String, f64)>,
    /// Values whose distribution is shown, by TensorBoard tag.
    pub histograms: Vec<(String, Vec<f32>)>,
    /// Spectrograms to be drawn below each other, `[frames, bins]`, by TensorBoard tag.
    pub pictures: Pictures,
    /// Spectrograms to be heard, as the model has them: a recording's own and what is made of it.
    pub heard: [Array2<f32>; 2],
}

/// Spectrograms by TensorBoard tag.
pub type Pictures = Vec<(&'static str, Vec<Array2<f32>>)>;

/// The items of a batch, one after the other.
///
/// # Shapes
/// `[items, frames, bins] -> [items * frames, bins]`
pub(super) fn joined(batch: Tensor<3>) -> Array2<f32> {
    let [items, frames, bins] = batch.dims();
    Array2::from_shape_vec((items * frames, bins), values(batch)).expect("as many values as the shape says")
}

/// A value and its name, `[1]`, without autodiff.
pub type Term = (&'static str, Tensor<1>);

/// The loss of one batch.
pub struct Terms {
    /// What is minimised, `[1]`, tracked by autodiff.
    pub loss: Tensor<1>,
    /// What the rival minimises, `[1]`, tracked by autodiff and apart from the model.
    pub rival: Option<Tensor<1>>,
    /// What is shown; the first is the total.
    pub reported: Vec<Term>,
}
