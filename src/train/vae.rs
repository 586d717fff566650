//! The beta-VAE task.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use burn::tensor::{Device, Tensor, TensorData};
use ndarray::Array2;
use rand::Rng;
use rand_distr::StandardNormal;

use super::task::{Evaluation, Task, Terms, joined};
use crate::data::{Dataset, Item, Loader, Position, SegmentDataset, loader_threads};
use crate::models::{Vae, mean_half_squared_norm};
use crate::run::{BetaVae, KlForm, values};
use crate::{Result, random};

/// A latent is active if its mean divergence from the prior on the test set is above this, in nats.
const ACTIVE: f64 = 0.01;

/// Segments drawn at an evaluation.
const DRAWN: usize = 16;

/// Trains a [`Vae`] on segments.
///
/// The loss is the mean over the batch of the Gaussian negative log-likelihood of all bins plus `beta` times the KL divergence
/// of all latents (Higgins et al. 2017, eq. 4), in nats per segment, and the objective's penalty if it has one. Reported values are those of the log-mels
/// themselves, not of the standardised ones: each bin's density is divided by the standard deviation.
pub struct VaeTask {
    train: Loader<SegmentDataset>,
    test: Arc<SegmentDataset>,
    objective: BetaVae,
    batch_size: usize,
    latents: usize,
    std: f64,
    seed: u64,
    last: Vec<Item>,
    device: Device,
}

impl VaeTask {
    /// `device` without autodiff; `std` is the standardizer's.
    ///
    /// # Errors
    /// If the system gives no threads to load data with.
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
    ) -> Result<Self> {
        let sampler = train.sampler(seed);
        let train = Loader::new(train, sampler, batch_size, loader_threads())?;
        let (std, last, device) = (f64::from(std), Vec::new(), device.clone());
        Ok(Self { train, test: Arc::new(test), objective, batch_size, latents, std, seed, last, device })
    }

    /// Standard normal values `[rows, latents]`, a function of the seed, the purpose and the index.
    fn noise(&self, rows: usize, purpose: &str, index: u64) -> Tensor<2> {
        let rng = random::stream(self.seed, purpose, index);
        let values: Vec<f32> = rng.sample_iter(StandardNormal).take(rows * self.latents).collect();
        Tensor::from_data(TensorData::new(values, [rows, self.latents]), &self.device)
    }

    /// The first test segments, each beside the next, and what the posterior's mean makes of them.
    fn reconstruction(&self, model: &Vae, items: &[Item]) -> Result<[Array2<f32>; 2]> {
        let first = &items[..items.len().min(DRAWN)];
        let x = Tensor::from_data(self.test.batch(first, Position::default())?, &self.device);
        let reconstruction = model.decode(model.encode(x.clone()).mean).mean;
        Ok([joined(x), joined(reconstruction.inner())])
    }

    /// The loss on `x` `[batch, frames, mels]` with this weight of the divergence, and its reconstruction. What is reported has
    /// the objective's own weight.
    fn terms(&self, model: &Vae, x: Tensor<3>, noise: Tensor<2>, beta: f64) -> (Terms, Tensor<3>) {
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
        let penalty = (self.objective.l2 > 0.0).then(|| mean_half_squared_norm(model).mul_scalar(self.objective.l2));
        let weighed = |beta: f64| {
            let sum = reconstruction.clone() + kl.clone().mul_scalar(beta);
            penalty.iter().fold(sum, |sum, penalty| sum + penalty.clone())
        };
        let loss = weighed(beta);
        let whole = self.objective.beta;
        let total = if beta == whole { loss.clone().inner() } else { weighed(whole).inner() };
        let shift = (frames * mels) as f64 * self.std.ln();
        let mut reported = vec![
            ("total", total.add_scalar(shift)),
            ("reconstruction", reconstruction.inner().add_scalar(shift)),
            ("kl", kl.inner()),
        ];
        reported.extend(penalty.map(|penalty| ("penalty", penalty.inner())));
        (Terms { loss, reported }, bins.mean)
    }
}

impl Task for VaeTask {
    type Model = Vae;

    fn train_loss(&mut self, model: &mut Vae, step: u64) -> Result<Terms> {
        let (items, x) = self.train.next_batch()?;
        self.last = items;
        let x = Tensor::from_data(x, &self.device);
        let noise = self.noise(self.last.len(), "noise", step);
        Ok(self.terms(model, x, noise, self.objective.beta_of(step)).0)
    }

    fn evaluate(&self, model: &Vae, stop: &AtomicUsize) -> Result<Option<Evaluation>> {
        let items = self.test.items();
        let mut means = BTreeMap::new();
        let mut divergences = vec![0.0; self.latents];
        let (mut latents, mut samples) = (Vec::new(), Vec::new());
        for (index, batch) in self.train.each(&self.test, &items, self.batch_size).enumerate() {
            if stop.load(Ordering::Relaxed) != 0 {
                return Ok(None);
            }
            let x = Tensor::from_data(batch?, &self.device);
            let rows = x.dims()[0];
            let noise = self.noise(rows, "eval", index as u64);
            let (terms, mean) = self.terms(model, x.clone(), noise.clone(), self.objective.beta);
            let error = (mean.inner() - x.clone()).abs().mean().mul_scalar(self.std); // in log units
            let share = rows as f64 / items.len() as f64;
            for (name, value) in terms.reported.into_iter().chain([("l1", error)]) {
                *means.entry(name.to_string()).or_insert(0.0) += share * f64::from(value.into_scalar::<f32>());
            }
            let posterior = model.encode(x);
            latents.extend(values(posterior.mean.clone().inner()));
            samples.extend(values(posterior.sample(noise).inner()));
            let of_each = posterior.kl_from_standard().inner().mean_dim(0); // [1, latents]
            divergences.iter_mut().zip(values(of_each)).for_each(|(sum, mean)| *sum += share * f64::from(mean));
        }
        let heard = self.reconstruction(model, &items)?;
        let prior = joined(model.decode(self.noise(DRAWN, "pictures", 0)).mean.inner());
        let pictures = vec![("pictures/reconstruction", heard.to_vec()), ("pictures/prior", vec![prior])];
        let histograms = latent_histograms(latents, samples, self.latents);
        Ok(Some(Evaluation { means, scalars: latent_scalars(&divergences), histograms, pictures, heard }))
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

/// The divergence of each latent from the prior, in nats, and how many latents say anything.
fn latent_scalars(divergences: &[f64]) -> Vec<(String, f64)> {
    let active = divergences.iter().filter(|&&divergence| divergence > ACTIVE).count();
    let each = divergences.iter().enumerate().map(|(latent, value)| (format!("kl/latent-{latent:02}"), *value));
    each.chain([("latents/active".to_string(), active as f64)]).collect()
}

/// The posteriors' means, of each latent and of all, and a sample of each posterior; `means` and `samples` are
/// `[segments, latents]`, flattened.
fn latent_histograms(means: Vec<f32>, samples: Vec<f32>, latents: usize) -> Vec<(String, Vec<f32>)> {
    let of = |latent: usize| means.iter().skip(latent).step_by(latents).copied().collect();
    let mut found: Vec<_> = (0..latents).map(|latent| (format!("means/latent-{latent:02}"), of(latent))).collect();
    found.extend([("latents/means".to_string(), means), ("latents/samples".to_string(), samples)]);
    found
}
