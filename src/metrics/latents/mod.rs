//! What latents mean: what `evaluate latents` and `evaluate udr` print.
//!
//! [`measure`] encodes a folder ([`encode`]) and measures the codes by themselves ([`density`]) and against factors
//! ([`scores`]): the true ones of a table ([`table`]), or, without one, what can be heard ([`mod@heard`]). Codes are
//! posterior means, those of latents that are not active left out; segments those that the trainer tests on. [`naming`]
//! makes names of it, [`agreement`] compares runs ([`udr`]). The definitions are disentanglement_lib's where it has them,
//! and `scripts/check_latents.py` computes them anew.

pub mod cholesky;
pub mod dci;
pub mod density;
pub mod encode;
pub mod fixed;
pub mod heard;
pub mod information;
pub mod lasso;
pub mod naming;
pub mod ridge;
pub mod scores;
pub mod table;
pub mod udr;

use std::path::Path;

use ndarray::{Array1, Array2, ArrayView1, Axis};
use ndarray_npy::NpzWriter;
use serde::Serialize;
use serde_json::json;

use self::density::{active, divergences, in_use, mean_pairwise_information, total_correlation};
use self::encode::{Encoded, Importance};
use self::heard::heard;
use self::information::BINS;
use self::scores::{FactorScores, Factors, score};
use self::table::FactorTable;
use crate::beside::{create_parent, write_beside};
use crate::data::FeatureSet;
use crate::synth::VaeCodec;
use crate::{Error, Result};

/// All that is measured of a VAE's latents on a folder of features. `None` is undefined.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LatentReport {
    /// Where the run is.
    pub vae: String,
    /// Step of its checkpoint.
    pub step: u64,
    /// Where the features are.
    pub features: String,
    /// Files with a segment at least.
    pub files: usize,
    /// Files without.
    pub too_short: usize,
    /// Segments, one after the other.
    pub segments: usize,
    /// Latents whose divergence is above 0.01 nats.
    pub active: usize,
    /// Mean divergence of each latent from the prior, in nats.
    pub kl: Vec<f64>,
    /// Mean evidence lower bound of a segment's log-mels, in nats, with the divergence in closed form and at weight 1.
    pub elbo: f64,
    /// Mean negative log-likelihood of a segment, in nats.
    pub reconstruction: f64,
    /// A tighter bound, over some of the segments.
    pub importance: Option<Importance>,
    /// Of a Gaussian with the covariance of the active latents' posterior means, in nats.
    pub total_correlation: Option<f64>,
    /// Mutual information of two active latents' means, averaged over all pairs, in nats.
    pub mean_pairwise_information: Option<f64>,
    /// Where the factors come from: a table's path, or `audio`.
    pub factors_from: String,
    /// Latents against factors.
    pub scores: FactorScores,
}

/// A report and what it was computed from.
pub struct Measured {
    /// The numbers.
    pub report: LatentReport,
    /// The codes.
    pub encoded: Encoded,
    /// The factors of each segment.
    pub factors: Factors,
}

/// Measures the latents of a VAE on a folder of features, against the factors of a table or those that are heard; `samples`
/// of each code for the importance-weighted bound, which 0 leaves out.
///
/// # Errors
/// If the features are not those of the VAE, a file cannot be read, all are shorter than a segment, or the table lacks a file.
pub fn measure(
    codec: &VaeCodec,
    set: &FeatureSet,
    table: Option<(&Path, &FactorTable)>,
    samples: usize,
    seed: u64,
) -> Result<Measured> {
    let encoded = Encoded::of(codec, set)?;
    let files = encoded.files();
    let (factors_from, factors) = match table {
        Some((path, table)) => {
            let normalised = set.config().normalize;
            (path.display().to_string(), table.of(&set.root, &encoded.names, &files, normalised)?)
        }
        None => ("audio".to_string(), heard(set, &encoded)?),
    };
    let count = encoded.items.len();
    if count < BINS {
        tracing::warn!("{count} segments: scores need {BINS} at least, and are undefined");
    } else if count < BINS * BINS {
        let cells = BINS * BINS;
        tracing::warn!(
            "{count} segments in up to {cells} cells: much of the information is chance; compare it with the null"
        );
    }
    let kl = divergences(encoded.mean.view(), encoded.scale.view());
    let active = active(&kl);
    let alone = encoded.mean.select(Axis(1), &active);
    let codes = in_use(encoded.mean.view(), &active);
    if active.is_empty() {
        tracing::warn!(
            "no latent is active, and scores are undefined; train with --kl-warmup-steps or a smaller weight (--beta)"
        );
    }
    let importance = (samples > 0).then(|| encoded.importance(codec, samples, seed)).transpose()?;
    let report = LatentReport {
        vae: codec.path().display().to_string(),
        step: codec.about().step,
        features: set.root.display().to_string(),
        files: encoded.names.len(),
        too_short: encoded.too_short,
        segments: encoded.items.len(),
        active: active.len(),
        elbo: -encoded.reconstruction - kl.iter().sum::<f64>(),
        reconstruction: encoded.reconstruction,
        kl,
        importance,
        total_correlation: total_correlation(alone.view()),
        mean_pairwise_information: mean_pairwise_information(alone.view()),
        factors_from,
        scores: score(codes.view(), &encoded.folds(), &factors, active.len(), seed),
    };
    Ok(Measured { report, encoded, factors })
}

impl LatentReport {
    /// What sums the latents up, by name.
    pub fn headline(&self) -> Vec<(&'static str, Option<f64>)> {
        let mut all = self.scores.headline().to_vec();
        all.extend([
            ("Gaussian total correlation", self.total_correlation),
            ("mean pairwise information", self.mean_pairwise_information),
            ("ELBO at beta 1", Some(self.elbo)),
            ("importance-weighted bound", self.importance.as_ref().map(|importance| importance.bound)),
        ]);
        all
    }
}

impl Measured {
    /// Writes the codes as `.npz`: `mean` and `scale` `[segments, latents]`, `factors` `[segments, factors]` (NaN where a
    /// segment has one not), `file`, `start` in frames and `fold` (the part in regressions) `[segments]`, and `meta`, the names as
    /// JSON.
    ///
    /// # Errors
    /// [`Error::Io`] if it cannot be written.
    pub fn write_codes(&self, path: &Path) -> Result<()> {
        let Self { encoded, factors, .. } = self;
        let meta = json!({ "files": encoded.names, "factors": factors.names }).to_string().into_bytes();
        let [file, start, fold]: [Array1<u32>; 3] = [
            encoded.items.iter().map(|item| item.file).collect(),
            encoded.items.iter().map(|item| item.start).collect(),
            encoded.folds().into_iter().map(|fold| fold as u32).collect(),
        ];
        create_parent(path)?;
        write_beside(path, |out| {
            let mut npz = NpzWriter::new(out);
            npz.add_array("mean", &encoded.mean)
                .and_then(|()| npz.add_array("scale", &encoded.scale))
                .and_then(|()| npz.add_array("factors", &factors.values))
                .and_then(|()| npz.add_array("file", &file))
                .and_then(|()| npz.add_array("start", &start))
                .and_then(|()| npz.add_array("fold", &fold))
                .and_then(|()| npz.add_array("meta", &ArrayView1::from(&meta)))
                .and_then(|()| npz.finish().map(drop))
                .map_err(|error| Error::Io { path: path.to_path_buf(), source: std::io::Error::other(error) })
        })
    }
}

/// How one of several runs agrees with the others.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Agreement {
    /// Where the run is.
    pub vae: String,
    /// Its active latents.
    pub active: usize,
    /// Its UDR with each run, `None` with itself, where either has no active latent, and of too few segments.
    pub with: Vec<Option<f64>>,
    /// The median of them: the run's UDR.
    pub udr: Option<f64>,
}

/// Compares runs by their codes of the same features.
///
/// # Errors
/// As [`measure`], and [`Error::Config`] of fewer than two runs or of runs whose segments differ in length.
pub fn agreement(codecs: &[VaeCodec], set: &FeatureSet) -> Result<Vec<Agreement>> {
    let [first, _, ..] = codecs else {
        return Err(Error::Config("UDR compares runs: two at least are needed".into()));
    };
    let length = |codec: &VaeCodec| codec.about().config.batch.frames;
    if let Some(other) = codecs.iter().find(|codec| length(codec) != length(first)) {
        let [one, two] = [first, other].map(|codec| format!("{} has {}", codec.path().display(), length(codec)));
        return Err(Error::Mismatch(format!("runs of one segment length are compared: {one} frames, {two}")));
    }
    let alone = |codec: &VaeCodec| -> Result<Array2<f64>> {
        let Encoded { mean, scale, .. } = Encoded::of(codec, set)?;
        Ok(mean.select(Axis(1), &active(&divergences(mean.view(), scale.view()))))
    };
    let codes = codecs.iter().map(alone).collect::<Result<Vec<_>>>()?;
    let segments = codes.first().map_or(0, Array2::nrows);
    if segments < BINS {
        tracing::warn!("{segments} segments: UDR needs {BINS} at least, and is undefined");
    }
    let mut pairs = vec![vec![None; codes.len()]; codes.len()];
    for one in 0..codes.len() {
        for other in 0..one {
            let udr = udr::udr(codes[one].view(), codes[other].view()); // of both the same
            (pairs[one][other], pairs[other][one]) = (udr, udr);
        }
    }
    let of = |(run, with): (usize, Vec<Option<f64>>)| {
        let udr = udr::median(with.iter().flatten().copied().collect());
        Agreement { vae: codecs[run].path().display().to_string(), active: codes[run].ncols(), with, udr }
    };
    Ok(pairs.into_iter().enumerate().map(of).collect())
}
