//! The VAE task.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use burn::tensor::{Device, Tensor, TensorData};
use ndarray::Array2;
use rand::Rng;
use rand::seq::SliceRandom;
use rand_distr::StandardNormal;

use super::task::{Evaluation, Task, Terms, joined};
use crate::data::{Batch, Dataset, Drawn, Item, Loader, Position, SegmentDataset, loader_threads};
use crate::models::{Discriminator, Gaussian, Vae, mean_half_squared_norm};
use crate::objectives::{Factor, Growth, Latents};
use crate::run::{BetaVae, KlForm, values};
use crate::{Error, Result, random};

/// A latent is active if its mean divergence from the prior on the test set is above this, in nats.
const ACTIVE: f64 = 0.01;

/// Segments drawn at an evaluation.
const DRAWN: usize = 16;

/// Trains a [`Vae`] on segments.
///
/// The loss is the mean over the batch of the Gaussian negative log-likelihood of all bins plus `beta` times the KL divergence
/// of all latents (Higgins et al. 2017, eq. 4) or what the objective's [`Regularizer`](crate::objectives::Regularizer) has in its
/// place, in nats per segment, and the objective's penalty if it has one. Reported values are those of the log-mels
/// themselves, not of the standardised ones: each bin's density is divided by the standard deviation.
///
/// The reported total is the objective as it will be once all that grows has grown. A FactorVAE's has the total correlation as
/// its discriminator tells it by then: while the discriminator learns, it may rise. A beta-TC's parts are estimated for as many
/// segments as there are to train on in the test as well, so that both are on one scale.
pub struct VaeTask {
    train: Loader<SegmentDataset>,
    test: Arc<SegmentDataset>,
    objective: BetaVae,
    batch_size: usize,
    latents: usize,
    /// Segments to train on.
    data: usize,
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
        let (sampler, data) = (train.sampler(seed), train.items().len());
        let (least, found) = (objective.regularizer.least_batch(), test.items().len());
        if found < least {
            let message = format!("the test set holds {found} segments; this objective can be told of {least} or more");
            return Err(Error::Config(message));
        }
        let train = Loader::new(train, sampler, batch_size, loader_threads(device))?;
        let (std, last, device) = (f64::from(std), Vec::new(), device.clone());
        Ok(Self { train, test: Arc::new(test), objective, batch_size, latents, data, std, seed, last, device })
    }

    /// Standard normal values `[rows, 1, latents]`, a function of the seed, the purpose and the index.
    fn normal(&self, rows: usize, purpose: &str, index: u64) -> TensorData {
        let rng = random::stream(self.seed, purpose, index);
        let values: Vec<f32> = rng.sample_iter(StandardNormal).take(rows * self.latents).collect();
        TensorData::new(values, [rows, 1, self.latents])
    }

    /// The same on the device, `[rows, latents]`.
    fn noise(&self, rows: usize, purpose: &str, index: u64) -> Tensor<2> {
        Tensor::<3>::from_data(self.normal(rows, purpose, index), &self.device).squeeze_dim(1)
    }

    /// The first test segments, each beside the next, and what the posterior's mean makes of them.
    fn reconstruction(&self, model: &Vae, items: &[Item]) -> Result<[Array2<f32>; 2]> {
        let first = &items[..items.len().min(DRAWN)];
        let x = Tensor::from_data(self.test.batch(first, Position::default())?, &self.device);
        let reconstruction = model.decode(model.encode(x.clone()).mean()).mean();
        Ok([joined(x), joined(reconstruction.inner())])
    }

    /// The loss on `x` `[batch, frames, mels]`, of as many segments as `data`, the distribution of its bins and its codes: with all that
    /// grows as far as `growth` says, or grown. What is reported is so either way.
    fn terms(
        &self,
        model: &Vae,
        rival: Option<&Discriminator>,
        x: Tensor<3>,
        noise: Tensor<2>,
        data: usize,
        growth: Option<&Growth>,
    ) -> (Terms, Gaussian<3>, Tensor<2>) {
        let [batch, frames, mels] = x.dims();
        let posterior = model.encode(x.clone());
        let z = posterior.sample(noise); // [batch, latents]
        let bins = model.decode(z.clone());
        let reconstruction = bins.negative_log_likelihood(x).div_scalar(batch as f64);
        let kl = match self.objective.kl {
            KlForm::Analytic => posterior.total_kl_from_standard(),
            KlForm::SingleSample => posterior.log_ratio_to_standard(z.clone()).sum(),
        };
        let kl = kl.div_scalar(batch as f64);
        let penalty = (self.objective.l2 > 0.0).then(|| mean_half_squared_norm(model).mul_scalar(self.objective.l2));
        let latents = Latents { posterior: &posterior, z: z.clone(), kl, data, discriminator: rival, growth };
        let asked = self.objective.regularizer.asked(self.objective.beta, &latents);
        let parts = asked.minimised.iter().map(|part| {
            let grown = part.value.clone().mul_scalar(part.weight);
            growth.map_or(grown.clone(), |growth| grown * Tensor::from_inner(growth.share.clone()))
        });
        let loss = parts.chain(penalty.clone()).fold(reconstruction.clone(), |sum, part| sum + part);
        let reconstruction = reconstruction.inner();
        let penalty = penalty.map(Tensor::inner);
        let parts = asked.minimised.into_iter().map(|part| part.judged.mul_scalar(part.weight));
        let total = parts.chain(penalty.clone()).fold(reconstruction.clone(), |sum, part| sum + part);
        let shift = (frames * mels) as f64 * self.std.ln();
        let mut reported =
            vec![("total", total.add_scalar(shift)), ("reconstruction", reconstruction.add_scalar(shift))];
        reported.extend(asked.shown);
        reported.extend(penalty.map(|penalty| ("penalty", penalty)));
        (Terms { loss, rival: None, reported }, bins, z)
    }

    /// The test items and how many make a batch. Where the objective is of batches, they are of one size, as nearly as can be, and
    /// in an order that mixes the files, as training has them.
    fn test_items(&self) -> (Vec<Item>, usize) {
        let mut items = self.test.items();
        if !self.objective.regularizer.is_of_batches() {
            return (items, self.batch_size);
        }
        items.shuffle(&mut random::stream(self.seed, "eval order", 0));
        let (count, least) = (items.len(), self.objective.regularizer.least_batch());
        let batches = count.div_ceil(self.batch_size).min(count / least).max(1);
        let sizes = count.div_ceil(batches)..count;
        let tells = |size: &usize| count % size == 0 || count % size >= least; // of the last batch too
        (items, sizes.clone().find(tells).unwrap_or(count))
    }
}

impl Task for VaeTask {
    type Model = Vae;

    fn draw(&mut self, step: u64) -> Result<Drawn> {
        let (items, x) = self.train.next_batch()?;
        self.last = items;
        let [rows, frames] = [0, 1].map(|dimension| x.shape()[dimension]);
        let mut arrays = vec![x, self.normal(rows, "noise", step)];
        if self.objective.grows(0) {
            let growth = [self.objective.share(step), self.objective.regularizer.capacity(step)];
            arrays.push(TensorData::new(growth.map(|value| value as f32).to_vec(), [1, 1, 2]));
        }
        if self.objective.factor().is_some() {
            let orders = Factor::orders(rows, self.latents, &mut random::stream(self.seed, "permutation", step));
            arrays.push(TensorData::new(orders, [rows / 2, 1, self.latents]));
        }
        Ok(Drawn { arrays, lengths: vec![frames; rows], masked: false })
    }

    fn loss(&self, model: &mut Vae, rival: Option<&Discriminator>, batch: &Batch) -> Terms {
        let mut arrays = batch.arrays.iter().cloned();
        let mut next = || arrays.next().expect("a batch has what was drawn");
        let (x, noise) = (next(), next().squeeze_dim(1));
        let growth = self.objective.grows(0).then(|| {
            let [share, capacity] = next().reshape([2]).chunk(2, 0).try_into().expect("two of them");
            Growth { share, capacity }
        });
        let (mut terms, _, z) = self.terms(model, rival, x, noise, self.data, growth.as_ref());
        let Some(rival) = rival else { return terms };
        let loss = Factor::discriminator_loss(rival, z, next().squeeze_dim::<2>(1).int());
        terms.reported.push(("discriminator", loss.clone().inner()));
        Terms { rival: Some(loss), ..terms }
    }

    fn evaluate(&self, model: &Vae, rival: Option<&Discriminator>, stop: &AtomicUsize) -> Result<Option<Evaluation>> {
        let (items, size) = self.test_items();
        let mut means = BTreeMap::new();
        let mut divergences = vec![0.0; self.latents];
        let (mut latents, mut samples) = (Vec::new(), Vec::new());
        for (index, batch) in self.train.each(&self.test, &items, size).enumerate() {
            if stop.load(Ordering::Relaxed) != 0 {
                return Ok(None);
            }
            let x = Tensor::from_data(batch?, &self.device);
            let rows = x.dims()[0];
            let noise = self.noise(rows, "eval", index as u64);
            let (terms, bins, _) = self.terms(model, rival, x.clone(), noise.clone(), self.data, None);
            let error = (bins.mean().inner() - x.clone()).abs().mean().mul_scalar(self.std); // in log units
            let share = rows as f64 / items.len() as f64;
            for (name, value) in terms.reported.into_iter().chain([("l1", error)]) {
                *means.entry(name.to_string()).or_insert(0.0) += share * f64::from(value.into_scalar::<f32>());
            }
            let posterior = model.encode(x);
            latents.extend(values(posterior.mean().inner()));
            samples.extend(values(posterior.sample(noise).inner()));
            let of_each = posterior.kl_from_standard().inner().mean_dim(0); // [1, latents]
            divergences.iter_mut().zip(values(of_each)).for_each(|(sum, mean)| *sum += share * f64::from(mean));
        }
        let heard = self.reconstruction(model, &self.test.items())?;
        let prior = joined(model.decode(self.noise(DRAWN, "pictures", 0)).mean().inner());
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
