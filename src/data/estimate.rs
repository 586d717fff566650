//! The linear spectrum that a mel spectrum alone suggests; what the inverter corrects.

use ndarray::{Array2, ArrayView2};

use crate::Result;
use crate::dsp::mel_inverse::{ITERATIONS, MelInverse};
use crate::features::FeatureConfig;
use crate::kernels::math::{ln, vectorized};

/// The KL mel inverse between log spectra of one feature configuration.
pub struct LinearEstimate {
    inverse: MelInverse,
    features: FeatureConfig,
}

impl LinearEstimate {
    /// # Errors
    /// If the configuration's filterbank is impossible.
    pub fn new(config: &FeatureConfig) -> Result<Self> {
        Ok(Self { inverse: MelInverse::new(&config.filterbank()?), features: config.clone() })
    }

    /// The inverse itself, between powers.
    pub fn inverse(&self) -> &MelInverse {
        &self.inverse
    }

    /// Linear ln power, clipped as the features are.
    ///
    /// # Shapes
    /// `[frames, mels] -> [frames, bins]`
    pub fn log_power(&self, logmel: ArrayView2<f32>) -> Array2<f32> {
        let mut power = self.inverse.power(self.features.power(logmel).view(), ITERATIONS);
        let clip = self.features.clip_before_log as f32;
        let values = power.as_slice_mut().expect("a new array is contiguous");
        vectorized(move || values.iter_mut().for_each(|value| *value = ln(value.max(clip))));
        power
    }
}
