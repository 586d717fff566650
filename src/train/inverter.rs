//! The mel inverter task.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};

use burn::tensor::{Device, Tensor};
use ndarray::Array2;

use super::task::{Evaluation, Task, Terms, joined};
use crate::data::{Item, PairBatch, PairDataset, Position, Sampler};
use crate::kernels;
use crate::models::Cbhg;

/// Longest piece of a test utterance that is evaluated at once, in frames: bounds memory.
const LONGEST: usize = 1000;

/// Frames drawn at an evaluation.
const DRAWN: usize = 300;

/// Trains a [`Cbhg`] to predict linear log-power spectra.
///
/// The loss is the mean absolute error over real frames and bins, in nats of power.
pub struct InverterTask {
    train: PairDataset,
    test: PairDataset,
    sampler: Sampler,
    batch_size: usize,
    last: Vec<Item>,
    device: Device,
}

impl InverterTask {
    /// `device` without autodiff; `crop_frames` 0 trains on whole utterances.
    pub fn new(
        train: PairDataset,
        test: PairDataset,
        crop_frames: usize,
        batch_size: usize,
        seed: u64,
        device: &Device,
    ) -> Self {
        let sampler = train.sampler(seed, crop_frames);
        Self { train, test, sampler, batch_size, last: Vec::new(), device: device.clone() }
    }
}

impl InverterTask {
    /// The beginning of a test item: its spectrum above the prediction.
    fn picture(&self, model: &Cbhg, item: Item) -> Vec<Array2<f32>> {
        let item = Item { frames: item.frames.min(DRAWN), ..item };
        let batch = self.test.batch(&[item], &self.device);
        let output = model.forward(batch.input.clone(), &batch.lengths);
        [batch.target, output].map(|of_network| self.test.spectrum(item, joined(of_network))).into()
    }
}

/// Mean absolute error over real frames and bins.
fn error(output: Tensor<3>, batch: &PairBatch) -> Tensor<1> {
    if kernels::serve(&output.device()) {
        return kernels::mean_absolute_error(output, batch.target.clone(), batch.lengths.each());
    }
    let bins = output.dims()[2];
    let difference = batch.lengths.zero_padding(output - batch.target.clone());
    difference.abs().sum().div_scalar((batch.lengths.valid_frames() * bins) as f64)
}

impl Task for InverterTask {
    type Model = Cbhg;

    fn train_loss(&mut self, model: &mut Cbhg, _step: u64) -> Terms {
        self.last = self.sampler.next_batch(self.batch_size);
        let batch = self.train.batch(&self.last, &self.device);
        let loss = error(model.forward_train(batch.input.clone(), &batch.lengths), &batch);
        Terms { reported: vec![("total", loss.clone().inner())], loss }
    }

    fn evaluate(&self, model: &Cbhg, stop: &AtomicUsize) -> Option<Evaluation> {
        let items = self.test.items(LONGEST);
        let (mut sum, mut frames) = (0.0, 0);
        for items in items.chunks(4) {
            if stop.load(Ordering::Relaxed) != 0 {
                return None;
            }
            let batch = self.test.batch(items, &self.device);
            let output = model.forward(batch.input.clone(), &batch.lengths);
            sum += f64::from(error(output, &batch).into_scalar::<f32>()) * batch.lengths.valid_frames() as f64;
            frames += batch.lengths.valid_frames();
        }
        let means = BTreeMap::from([("total".to_string(), sum / frames as f64)]);
        let pictures = vec![("pictures/prediction", self.picture(model, items[0]))];
        Some(Evaluation { means, scalars: Vec::new(), pictures })
    }

    fn files(&self) -> BTreeSet<String> {
        self.train.names(&self.last)
    }

    fn position(&self) -> Position {
        self.sampler.position()
    }

    fn seek(&mut self, position: Position) {
        self.sampler.seek(position);
    }
}
