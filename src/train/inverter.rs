//! The mel inverter task.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use burn::tensor::{Device, Tensor};
use ndarray::Array2;

use super::task::{Evaluation, Task, Terms, joined};
use crate::Result;
use crate::data::{Dataset, Item, Loader, PairBatch, PairDataset, Position, loader_threads};
use crate::kernels;
use crate::models::Cbhg;

/// Longest piece of a test utterance that is evaluated at once, in frames: bounds memory.
const LONGEST: usize = 1000;

/// Frames drawn at an evaluation.
const DRAWN: u32 = 300;

/// Trains a [`Cbhg`] to predict linear log-power spectra.
///
/// The loss is the mean absolute error over real frames and bins, in nats of power.
pub struct InverterTask {
    train: Loader<PairDataset>,
    test: Arc<PairDataset>,
    last: Vec<Item>,
    device: Device,
}

impl InverterTask {
    /// `device` without autodiff; `crop_frames` 0 trains on whole utterances.
    ///
    /// # Errors
    /// If the system gives no threads to load data with.
    pub fn new(
        train: PairDataset,
        test: PairDataset,
        crop_frames: usize,
        batch_size: usize,
        seed: u64,
        device: &Device,
    ) -> Result<Self> {
        let sampler = train.sampler(seed, crop_frames);
        let train = Loader::new(train, sampler, batch_size, loader_threads())?;
        Ok(Self { train, test: Arc::new(test), last: Vec::new(), device: device.clone() })
    }
}

impl InverterTask {
    /// The beginning of a test item: its spectrum above the prediction.
    fn picture(&self, model: &Cbhg, item: Item) -> Result<Vec<Array2<f32>>> {
        let item = Item { frames: item.frames.min(DRAWN), ..item };
        let batch = self.test.batch(&[item])?.on(&self.device);
        let output = model.forward(batch.input, &batch.lengths);
        let corrected = batch.spectrum.clone() - batch.target;
        Ok([batch.spectrum, corrected + output].map(joined).into())
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

    fn train_loss(&mut self, model: &mut Cbhg, _step: u64) -> Result<Terms> {
        let (items, batch) = self.train.next_batch()?;
        self.last = items;
        let batch = batch.on(&self.device);
        let loss = error(model.forward_train(batch.input.clone(), &batch.lengths), &batch);
        Ok(Terms { reported: vec![("total", loss.clone().inner())], loss })
    }

    fn evaluate(&self, model: &Cbhg, stop: &AtomicUsize) -> Result<Option<Evaluation>> {
        let items = self.test.items(LONGEST);
        let (mut sum, mut frames) = (0.0, 0);
        for batch in self.train.each(&self.test, &items, 4) {
            if stop.load(Ordering::Relaxed) != 0 {
                return Ok(None);
            }
            let batch = batch?.on(&self.device);
            let output = model.forward(batch.input.clone(), &batch.lengths);
            sum += f64::from(error(output, &batch).into_scalar::<f32>()) * batch.lengths.valid_frames() as f64;
            frames += batch.lengths.valid_frames();
        }
        let means = BTreeMap::from([("total".to_string(), sum / frames as f64)]);
        let pictures = vec![("pictures/prediction", self.picture(model, items[0])?)];
        Ok(Some(Evaluation { means, scalars: Vec::new(), pictures }))
    }

    fn files(&self) -> BTreeSet<String> {
        self.train.data().names(&self.last)
    }

    fn position(&self) -> Position {
        self.train.position()
    }

    fn seek(&mut self, position: Position) {
        self.train.seek(position);
    }
}
