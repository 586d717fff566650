//! A folder's segments as codes, and how well the VAE explains them.
//!
//! # Reference
//! Burda, Grosse and Salakhutdinov, "Importance weighted autoencoders", 2016, equation 8.

use burn::tensor::{Tensor, TensorData};
use ndarray::{Array2, ArrayView2};
use rand::Rng;
use rand_distr::StandardNormal;
use serde::Serialize;

use super::dci::FOLDS;
use crate::data::{Dataset, FeatureSet, Item, Position, Room, SegmentDataset, require_same};
use crate::models::Gaussian;
use crate::run::values;
use crate::synth::VaeCodec;
use crate::{Result, random};

/// Segments that the importance-weighted bound is taken over, at most: each costs as many decodings as there are samples.
const BOUND_SEGMENTS: usize = 500;
/// Bytes of features that are kept in memory; the rest is read when it is needed.
const MEMORY: u64 = 2 << 30;
/// Rows decoded at once.
const BATCH: usize = 256;

/// The segments of a folder, those that the trainer tests on, and their posteriors.
pub struct Encoded {
    /// Names of the files that hold a segment, relative to the folder.
    pub names: Vec<String>,
    /// Files too short for one.
    pub too_short: usize,
    /// Where each segment lies; `file` is an index of `names`.
    pub items: Vec<Item>,
    /// Posterior means, `[segments, latents]`.
    pub mean: Array2<f64>,
    /// Posterior standard deviations, `[segments, latents]`.
    pub scale: Array2<f64>,
    /// Mean negative log-likelihood of a segment's log-mels given one sample of its code, in nats: of a
    /// beta-VAE the trainer's `reconstruction`; trainers of other objectives test in another order, with other noise.
    pub reconstruction: f64,
    dataset: SegmentDataset,
}

/// Bounds on the log-likelihood of a segment's log-mels, in nats, means over segments.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Importance {
    /// Samples of each code.
    pub samples: usize,
    /// Segments that were taken, evenly spread.
    pub segments: usize,
    /// The importance-weighted bound.
    pub bound: f64,
    /// The ELBO of the same samples.
    pub elbo: f64,
}

impl Encoded {
    /// Encodes what the trainer would test on, with the noise that it would use.
    ///
    /// # Errors
    /// If the features are not those of the VAE, a file cannot be read, or all are shorter than a segment.
    pub fn of(codec: &VaeCodec, set: &FeatureSet) -> Result<Self> {
        let run = &codec.about().config;
        require_same(codec.features(), set.config(), codec.path(), &set.root)?;
        let frames = run.batch.frames;
        let dataset = SegmentDataset::load(set, &codec.about().standardizer, frames, &mut Room::of(MEMORY))?;
        let names: Vec<String> = set
            .entries
            .iter()
            .filter(|entry| entry.meta.frames as usize >= frames)
            .map(|entry| entry.name.clone())
            .collect();
        let items = dataset.items();
        let (mut mean, mut scale, mut reconstruction) = (Vec::new(), Vec::new(), 0.0);
        for (index, batch) in items.chunks(run.batch.size).enumerate() {
            let x = dataset.batch(batch, Position::default())?;
            let posterior = codec.model().encode(Tensor::from_data(x.clone(), codec.device()));
            let mut rng = random::stream(run.seed, "eval", index as u64);
            let z = posterior.sample(noise(codec, batch.len(), &mut rng));
            reconstruction -= log_likelihoods(codec, &x, &codec.model().decode(z)).iter().sum::<f64>();
            mean.extend(values(posterior.mean()).into_iter().map(f64::from));
            scale.extend(values(posterior.scale()).into_iter().map(f64::from));
        }
        let matrix = |values| Array2::from_shape_vec((items.len(), codec.latents()), values).expect("a row a segment");
        Ok(Self {
            too_short: set.entries.len() - names.len(),
            names,
            mean: matrix(mean),
            scale: matrix(scale),
            reconstruction: reconstruction / items.len() as f64,
            items,
            dataset,
        })
    }

    /// The file of each segment.
    pub fn files(&self) -> Vec<usize> {
        self.items.iter().map(|item| item.file as usize).collect()
    }

    /// The part of each segment in regressions. Files stay whole, as segments of one are alike; of fewer than 25 files that
    /// would leave too little choice, and pieces of a twenty-fifth of all segments do.
    pub fn folds(&self) -> Vec<usize> {
        let pieces = FOLDS * FOLDS;
        let piece = |row: usize| row * pieces / self.items.len();
        let group = |(row, file): (usize, usize)| if self.names.len() < pieces { piece(row) } else { file };
        self.files().into_iter().enumerate().map(|row| group(row) % FOLDS).collect()
    }

    /// Bounds from `samples` samples of each code, over 500 segments at most.
    ///
    /// # Errors
    /// If a file cannot be read.
    ///
    /// # Panics
    /// If `samples` is 0.
    pub fn importance(&self, codec: &VaeCodec, samples: usize, seed: u64) -> Result<Importance> {
        let segments = self.items.len().min(BOUND_SEGMENTS);
        let chosen: Vec<usize> = (0..segments).map(|index| index * self.items.len() / segments).collect();
        let mut weights = Vec::with_capacity(segments * samples);
        let rows: Vec<usize> = chosen.iter().flat_map(|&segment| std::iter::repeat_n(segment, samples)).collect();
        for (index, batch) in rows.chunks(BATCH).enumerate() {
            let items: Vec<Item> = batch.iter().map(|&segment| self.items[segment]).collect();
            let x = self.dataset.batch(&items, Position::default())?;
            let mut rng = random::stream(seed, "importance", index as u64);
            let latents = self.mean.ncols();
            let draws: Vec<f64> = (&mut rng).sample_iter(StandardNormal).take(batch.len() * latents).collect();
            let mut z = Vec::with_capacity(draws.len());
            let mut ratios = Vec::with_capacity(batch.len()); // ln p(z) - ln q(z|x)
            for (&segment, draws) in batch.iter().zip(draws.chunks(latents)) {
                let mut ratio = 0.0;
                for (latent, draw) in draws.iter().enumerate() {
                    let scale = self.scale[[segment, latent]];
                    let value = self.mean[[segment, latent]] + scale * draw;
                    ratio += 0.5 * (draw * draw - value * value) + scale.ln();
                    z.push(value as f32);
                }
                ratios.push(ratio);
            }
            let z = Tensor::from_data(TensorData::new(z, [batch.len(), latents]), codec.device());
            let likelihoods = log_likelihoods(codec, &x, &codec.model().decode(z));
            weights.extend(likelihoods.iter().zip(ratios).map(|(likelihood, ratio)| likelihood + ratio));
        }
        let weights = ArrayView2::from_shape((segments, samples), &weights).expect("a weight a sample");
        let (bound, elbo) = bounds(weights);
        Ok(Importance { samples, segments, bound, elbo })
    }
}

/// The importance-weighted bound and the ELBO from logarithms of weights `p(x, z) / q(z|x)`, means over the rows.
///
/// # Shapes
/// `[segments, samples]`
///
/// # Panics
/// If there is no segment or no sample.
pub fn bounds(log_weights: ArrayView2<f64>) -> (f64, f64) {
    let of_row = |row: ndarray::ArrayView1<f64>| {
        let most = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        most + row.mapv(|weight| (weight - most).exp()).mean().expect("there are samples").ln()
    };
    let rows = log_weights.nrows() as f64;
    let bound = log_weights.outer_iter().map(of_row).sum::<f64>() / rows;
    (bound, log_weights.mean().expect("there are segments"))
}

/// Standard normal values `[rows, latents]`.
fn noise(codec: &VaeCodec, rows: usize, rng: &mut rand_chacha::ChaCha8Rng) -> Tensor<2> {
    let values: Vec<f32> = rng.sample_iter(StandardNormal).take(rows * codec.latents()).collect();
    Tensor::from_data(TensorData::new(values, [rows, codec.latents()]), codec.device())
}

/// The log-density of each segment's log-mels, in nats: of the values themselves, not of the standardised ones.
fn log_likelihoods(codec: &VaeCodec, x: &TensorData, bins: &Gaussian<3>) -> Vec<f64> {
    let x: Vec<f32> = x.clone().try_into_vec_as().expect("this crate computes in f32");
    let (mean, scale) = (values(bins.mean()), values(bins.scale()));
    let rows = bins.mean().dims()[0];
    let size = mean.len() / rows;
    let constant = 0.5 * std::f64::consts::TAU.ln() + f64::from(codec.about().standardizer.std).ln();
    let bin = |index: usize| {
        let (mean, scale) = (f64::from(mean[index]), f64::from(scale[index]));
        let z = (f64::from(x[index]) - mean) / scale;
        -0.5 * z * z - scale.ln() - constant
    };
    (0..rows).map(|row| (row * size..(row + 1) * size).map(bin).sum()).collect()
}
