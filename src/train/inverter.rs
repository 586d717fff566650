//! The mel inverter task.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use burn::tensor::{Device, Tensor};
use ndarray::Array2;

use super::task::{Evaluation, Task, Terms, joined};
use crate::Result;
use crate::data::{Batch, Dataset, Drawn, Item, Loader, PairDataset, Position, loader_threads};
use crate::device::is_cpu;
use crate::features::FeatureConfig;
use crate::kernels;
use crate::models::{Cbhg, Discriminator};
use crate::nn::Lengths;
use crate::run::BatchConfig;

/// Longest piece of a test utterance that is evaluated at once, in frames: bounds memory.
const LONGEST: usize = 1000;

/// Frames drawn at an evaluation.
const DRAWN: u32 = 300;

/// Trains a [`Cbhg`] to predict linear log-power spectra.
///
/// The loss is the weighted mean absolute error over real frames and bins, in nats of power; `l1` is that without weights.
pub struct InverterTask {
    train: Loader<PairDataset>,
    test: Arc<PairDataset>,
    weights: Weights,
    last: Vec<Item>,
    device: Device,
}

impl InverterTask {
    /// `device` without autodiff; `batch.frames` 0 trains on whole utterances; `weights` of the bins in the loss.
    ///
    /// # Errors
    /// If the system gives no threads to load data with.
    pub fn new(
        train: PairDataset,
        test: PairDataset,
        batch: &BatchConfig,
        weights: Vec<f32>,
        seed: u64,
        device: &Device,
    ) -> Result<Self> {
        let sampler = train.sampler(seed, batch.frames);
        // Batches alike can be replayed; on the CPU padding would only be more to compute.
        let train = if is_cpu(device) { train } else { train.padded_to(batch.frames) };
        let train = Loader::new(train, sampler, batch.size, loader_threads(device))?;
        let weights = Weights::new(weights, device);
        Ok(Self { train, test: Arc::new(test), weights, last: Vec::new(), device: device.clone() })
    }

    /// The beginning of a test item: its spectrum and the prediction.
    fn prediction(&self, model: &Cbhg, item: Item) -> Result<[Array2<f32>; 2]> {
        let item = Item { frames: item.frames.min(DRAWN), ..item };
        let batch = self.test.batch(&[item], Position::default())?.on(&self.device);
        let output = model.forward(batch.input, &batch.lengths);
        let corrected = batch.spectrum.clone() - batch.target;
        Ok([batch.spectrum, corrected + output].map(joined))
    }
}

/// Weights of linear frequency bins in the loss, of mean 1: 1 / (1 + frequency / `knee`), all the same without one.
///
/// # Shapes
/// `[bins]`
pub fn bin_weights(features: &FeatureConfig, knee: Option<f64>) -> Vec<f32> {
    let width = f64::from(features.sample_rate) / features.n_fft as f64;
    let weight = |bin: usize| knee.map_or(1.0, |knee| 1.0 / (1.0 + bin as f64 * width / knee));
    let mean = (0..features.bins()).map(weight).sum::<f64>() / features.bins() as f64;
    (0..features.bins()).map(|bin| (weight(bin) / mean) as f32).collect()
}

/// Weights of bins where a kernel reads them and where a device does.
struct Weights {
    values: Arc<[f32]>,
    /// `[bins]`
    on_device: Tensor<1>,
}

impl Weights {
    fn new(values: Vec<f32>, device: &Device) -> Self {
        let on_device = Tensor::from_floats(values.as_slice(), device);
        Self { values: values.into(), on_device }
    }

    /// Weighted mean absolute error over real frames and bins, `[1]`.
    fn error(&self, output: Tensor<3>, target: Tensor<3>, lengths: &Lengths) -> Tensor<1> {
        if kernels::serve(&output.device()) {
            return kernels::mean_absolute_error(output, target, &self.values, lengths.each());
        }
        let sum = match kernels::on_gpu(&output.device()) {
            true => kernels::distance(output, target, self.on_device.clone(), lengths.mask()),
            false => {
                let weights = self.on_device.clone().reshape([1, 1, self.values.len()]);
                lengths.zero_padding((output - target).abs() * weights).sum()
            }
        };
        lengths.mean_of_sum(sum).div_scalar(self.values.len() as f64)
    }
}

impl Task for InverterTask {
    type Model = Cbhg;

    fn draw(&mut self, _step: u64) -> Result<Drawn> {
        let (items, batch) = self.train.next_batch()?;
        self.last = items;
        Ok(batch.for_training())
    }

    fn loss(&self, model: &mut Cbhg, _: Option<&Discriminator>, batch: &Batch) -> Terms {
        let [input, target] = [0, 1].map(|array| batch.arrays[array].clone());
        let loss = self.weights.error(model.forward_train(input, &batch.lengths), target, &batch.lengths);
        Terms { reported: vec![("total", loss.clone().inner())], loss, rival: None }
    }

    fn evaluate(&self, model: &Cbhg, _: Option<&Discriminator>, stop: &AtomicUsize) -> Result<Option<Evaluation>> {
        let items = self.test.items(LONGEST);
        let even = Weights::new(vec![1.0; self.weights.values.len()], &self.device);
        let (mut total, mut l1, mut frames) = (0.0, 0.0, 0);
        for batch in self.train.each(&self.test, &items, 4) {
            if stop.load(Ordering::Relaxed) != 0 {
                return Ok(None);
            }
            let batch = batch?.on(&self.device);
            let output = model.forward(batch.input.clone(), &batch.lengths);
            let real = batch.lengths.valid_frames();
            for (sum, weights) in [(&mut total, &self.weights), (&mut l1, &even)] {
                let error = weights.error(output.clone(), batch.target.clone(), &batch.lengths);
                *sum += f64::from(error.into_scalar::<f32>()) * real as f64;
            }
            frames += real;
        }
        let mean = |sum| sum / frames as f64;
        let means = BTreeMap::from([("total".to_string(), mean(total)), ("l1".to_string(), mean(l1))]);
        let heard = self.prediction(model, items[0])?;
        let pictures = vec![("pictures/prediction", heard.to_vec())];
        Ok(Some(Evaluation { means, pictures, heard, ..Evaluation::default() }))
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
