//! Band statistics of the training set: what makes a log-mel spectrogram a network's input.

use ndarray::{Array2, ArrayView2};
use serde::{Deserialize, Serialize};

use super::FeatureSet;
use crate::{Error, Result};

/// Mean of each mel band and one standard deviation for all.
///
/// One deviation, not one per band: the constant bands of narrow-band speech would blow up.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Standardizer {
    /// Of each band, in nats of power: `[mels]`.
    pub mean: Vec<f32>,
    /// Standard deviation about the bands' means, in nats of power.
    pub std: f32,
}

impl Standardizer {
    /// From the sums that the files carry; the arrays are not read.
    ///
    /// # Errors
    /// If the spectrograms are constant (all silence).
    pub fn of(set: &FeatureSet) -> Result<Self> {
        let bands = set.config().n_filterbank;
        let (mut count, mut sum, mut sum_sq) = (0.0, vec![0.0; bands], vec![0.0; bands]);
        for entry in &set.entries {
            count += entry.meta.bands.count as f64;
            for band in 0..bands {
                sum[band] += entry.meta.bands.sum[band];
                sum_sq[band] += entry.meta.bands.sum_sq[band];
            }
        }
        let mean: Vec<f64> = sum.iter().map(|total| total / count).collect();
        let variance =
            sum_sq.iter().zip(&mean).map(|(squares, mean)| squares / count - mean * mean).sum::<f64>() / bands as f64;
        if variance.is_nan() || variance < 1e-8 {
            return Err(Error::file(&set.root, "every file is constant (silence?); there is nothing to learn from"));
        }
        Ok(Self { mean: mean.iter().map(|&m| m as f32).collect(), std: variance.sqrt() as f32 })
    }

    /// Means of 0 and this deviation: division and no more.
    pub fn dividing_by(std: f32, bands: usize) -> Self {
        Self { mean: vec![0.0; bands], std }
    }

    /// `(logmel - mean) / std`.
    ///
    /// # Shapes
    /// `[frames, mels]` in and out.
    pub fn apply(&self, logmel: ArrayView2<f32>) -> Array2<f32> {
        let mut out = logmel.to_owned();
        for mut frame in out.rows_mut() {
            frame.iter_mut().zip(&self.mean).for_each(|(value, mean)| *value = (*value - mean) / self.std);
        }
        out
    }

    /// The inverse of [`apply`](Self::apply).
    ///
    /// # Shapes
    /// `[frames, mels]` in and out.
    pub fn undo(&self, standardized: ArrayView2<f32>) -> Array2<f32> {
        let mut out = standardized.to_owned();
        for mut frame in out.rows_mut() {
            frame.iter_mut().zip(&self.mean).for_each(|(value, mean)| *value = *value * self.std + mean);
        }
        out
    }
}
