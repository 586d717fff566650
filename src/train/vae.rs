//! The beta-VAE task.

use std::collections::BTreeMap;

use burn::tensor::{Device, Tensor, TensorData};
use rand::Rng;
use rand_distr::StandardNormal;

use super::task::{Task, Terms};
use crate::data::{Position, Sampler, SegmentDataset};
use crate::models::{Vae, mean_half_squared_norm};
use crate::random;
use crate::run::{BetaVae, KlForm};

/// Trains a [`Vae`] on segments.
///
/// The loss is the mean over the batch of the Gaussian negative log-likelihood of all bins plus `beta` times the KL divergence
/// of all latents (Higgins et al. 2017, eq. 4), in nats per segment, and the objective's penalty if it has one. Reported values are those of the log-mels
/// themselves, not of the standardised ones: each bin's density is divided by the standard deviation.
pub struct VaeTask {
    train: SegmentDataset,
    test: SegmentDataset,
    sampler: Sampler,
    objective: BetaVae,
    batch_size: usize,
    latents: usize,
    std: f64,
    seed: u64,
    device: Device,
}

impl VaeTask {
    /// `device` without autodiff; `std` is the standardizer's.
    #[allow(clippy::too_many_arguments)] // each is a number of the run's configuration, used once
    pub fn new(
        train: SegmentDataset,
        test: SegmentDataset,
        objective: BetaVae,
        batch_size: usize,
        latents: usize,
        std: f32,
        seed: u64,
        device: &Device,
    ) -> Self {
        let sampler = train.sampler(seed);
        Self { train, test, sampler, objective, batch_size, latents, std: f64::from(std), seed, device: device.clone() }
    }

    /// Standard normal values `[rows, latents]`, a function of the seed, the purpose and the index.
    fn noise(&self, rows: usize, purpose: &str, index: u64) -> Tensor<2> {
        let rng = random::stream(self.seed, purpose, index);
        let values: Vec<f32> = rng.sample_iter(StandardNormal).take(rows * self.latents).collect();
        Tensor::from_data(TensorData::new(values, [rows, self.latents]), &self.device)
    }

    /// The loss on `x` `[batch, frames, mels]`, and its reconstruction.
    fn terms(&self, model: &Vae, x: Tensor<3>, noise: Tensor<2>) -> (Terms, Tensor<3>) {
        let [batch, frames, mels] = x.dims();
        let posterior = model.encode(x.clone());
        let z = posterior.sample(noise); // [batch, latents]
        let bins = model.decode(z.clone());
        let reconstruction = bins.negative_log_likelihood(x).div_scalar(batch as f64);
        let kl = match self.objective.kl {
            KlForm::Analytic => posterior.kl_from_standard(),
            KlForm::SingleSample => posterior.log_ratio_to_standard(z),
        };
        let kl = kl.sum().div_scalar(batch as f64);
        let mut loss = reconstruction.clone() + kl.clone().mul_scalar(self.objective.beta);
        let penalty = (self.objective.l2 > 0.0).then(|| mean_half_squared_norm(model).mul_scalar(self.objective.l2));
        if let Some(penalty) = &penalty {
            loss = loss + penalty.clone();
        }
        let shift = (frames * mels) as f64 * self.std.ln();
        let mut reported = vec![
            ("total", loss.clone().inner().add_scalar(shift)),
            ("reconstruction", reconstruction.inner().add_scalar(shift)),
            ("kl", kl.inner()),
        ];
        reported.extend(penalty.map(|penalty| ("penalty", penalty.inner())));
        (Terms { loss, reported }, bins.mean)
    }
}

impl Task for VaeTask {
    type Model = Vae;

    fn train_loss(&mut self, model: &mut Vae, step: u64) -> Terms {
        let items = self.sampler.next_batch(self.batch_size);
        let x = self.train.batch(&items, &self.device);
        self.terms(model, x, self.noise(items.len(), "noise", step)).0
    }

    fn evaluate(&self, model: &Vae) -> BTreeMap<String, f64> {
        let items = self.test.items();
        let mut means = BTreeMap::new();
        for (index, batch) in items.chunks(self.batch_size).enumerate() {
            let noise = self.noise(batch.len(), "eval", index as u64);
            let x = self.test.batch(batch, &self.device);
            let (terms, mean) = self.terms(model, x.clone(), noise);
            let error = (mean.inner() - x).abs().mean().mul_scalar(self.std); // in log units
            let share = batch.len() as f64 / items.len() as f64;
            for (name, value) in terms.reported.into_iter().chain([("l1", error)]) {
                *means.entry(name.to_string()).or_insert(0.0) += share * f64::from(value.into_scalar::<f32>());
            }
        }
        means
    }

    fn position(&self) -> Position {
        self.sampler.position()
    }

    fn seek(&mut self, position: Position) {
        self.sampler.seek(position);
    }
}
