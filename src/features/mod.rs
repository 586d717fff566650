//! From a waveform to the features that models learn from, the file that holds them, and the folder they are made of.

mod config;
pub mod corpus;
mod extract;
mod file;
mod frames;
pub mod manifest;
pub(crate) mod npy;
pub(crate) mod npz_parts;

pub use config::{FeatureConfig, RatePreset};
pub use extract::{FeatureExtractor, Prepared};
pub(crate) use file::is_gain;
pub use file::{FEATURE_SUFFIX, FeatureFile, is_features};
pub use frames::{FrameReader, Frames, Spectrum, open_frames};

use ndarray::Array2;
use serde::{Deserialize, Serialize};

/// The layout of feature files that this crate writes; readers refuse newer ones.
pub const VERSION: u32 = 1;

/// Which arrays a feature file holds besides `logmel` and `meta`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Contents {
    /// Whether `logspec` is there, which the inverter learns from.
    pub logspec: bool,
    /// Whether `au` is there.
    pub au: bool,
}

impl Contents {
    /// Everything.
    pub const ALL: Contents = Contents { logspec: true, au: true };
    /// The log-mel spectrum alone.
    pub const LOGMEL: Contents = Contents { logspec: false, au: false };
}

impl std::fmt::Display for Contents {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        let names = [("logmel", true), ("logspec", self.logspec), ("au", self.au)];
        f.write_str(&names.into_iter().filter(|(_, is)| *is).map(|(name, _)| name).collect::<Vec<_>>().join(", "))
    }
}

/// What one recording became.
#[derive(Clone, Debug, PartialEq)]
pub struct Features {
    /// What was analysed: the sound at the configured rate, trimmed, normalised and pre-emphasised, as in the workshop's
    /// files: `[len]`.
    pub au: Vec<f32>,
    /// Natural logarithm of its power spectrum: `[frames, n_fft / 2 + 1]`.
    pub logspec: Array2<f32>,
    /// Natural logarithm of its mel spectrum: `[frames, n_filterbank]`.
    pub logmel: Array2<f32>,
    /// How they were made.
    pub meta: FeatureMeta,
}

/// What made a feature file and what training wants to know before reading it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FeatureMeta {
    /// The settings of the extraction.
    pub config: FeatureConfig,
    /// Sample rate of the recording, in hertz.
    pub source_rate: u32,
    /// Samples per channel of the recording, at its own rate.
    pub source_samples: u64,
    /// First sample kept by trimming, at the configured rate.
    pub trim_start: u64,
    /// One past the last sample kept; `trim_end - trim_start` is the length of `au`.
    pub trim_end: u64,
    /// What the sound was divided by: its largest absolute value, or 1 if it was silent or not normalised.
    pub gain: f64,
    /// Rows of `logspec` and `logmel`.
    pub frames: u64,
    /// Sums over `logmel`.
    pub bands: BandSums,
    /// Layout of the file, [`VERSION`].
    pub version: u32,
}

impl FeatureMeta {
    /// Samples of what was analysed.
    pub fn samples(&self) -> u64 {
        self.trim_end.saturating_sub(self.trim_start)
    }
}

/// Sums per band from which means and variances over many files follow without reading them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BandSums {
    /// Frames summed over.
    pub count: u64,
    /// Sum of the log-mel values of each band.
    pub sum: Vec<f64>,
    /// Sum of their squares.
    pub sum_sq: Vec<f64>,
    /// Whether all of them are finite.
    pub finite: bool,
}

impl BandSums {
    /// The sums over the frames of `logmel`, `[frames, bands]`.
    pub fn of(logmel: &Array2<f32>) -> BandSums {
        let mut sums = BandSums {
            count: logmel.nrows() as u64,
            sum: vec![0.0; logmel.ncols()],
            sum_sq: vec![0.0; logmel.ncols()],
            finite: true,
        };
        for row in logmel.rows() {
            for ((&x, sum), sum_sq) in row.iter().zip(&mut sums.sum).zip(&mut sums.sum_sq) {
                sums.finite &= x.is_finite();
                *sum += f64::from(x);
                *sum_sq += f64::from(x) * f64::from(x);
            }
        }
        sums
    }
}
