//! Triangular filters evenly spaced on Slaney's mel scale, each of unit area in hertz.
//!
//! Equal to `librosa.filters.mel(htk=False, norm="slaney")`. Hardly 2 % of the dense matrix is not zero, so each band
//! keeps only its own run of weights.

use ndarray::{Array2, ArrayView2};

use crate::dsp::Real;
use crate::{Error, Result};

/// Hertz per mel below the break.
const LINEAR_STEP: f64 = 200.0 / 3.0;
/// From here on the scale is logarithmic.
const BREAK_HZ: f64 = 1000.0;
/// The break in mels: `BREAK_HZ / LINEAR_STEP`.
const BREAK_MEL: f64 = 15.0;
/// Natural logarithm of the frequency ratio per mel above the break: ln(6.4) / 27.
const LOG_STEP: f64 = 0.068_751_777_420_949_12;

/// One triangle: its weights and the bin the first of them belongs to.
#[derive(Clone, Debug, PartialEq)]
pub struct Band {
    /// First bin with a weight.
    pub first: usize,
    /// Weights of bins `first..first + weights.len()`, none of them zero.
    pub weights: Vec<f64>,
}

/// A bank of triangular filters over the bins of a power spectrum.
///
/// # Reference
/// Slaney, "Auditory Toolbox", version 2, Interval Research technical report 1998-010, 1998.
#[derive(Clone, Debug, PartialEq)]
pub struct MelFilterbank {
    bins: usize,
    bands: Vec<Band>,
}

impl MelFilterbank {
    /// `n_mels` triangles between `f_min` and `f_max` hertz, over the `n_fft / 2 + 1` bins at `sample_rate`.
    ///
    /// # Errors
    /// [`Error::Config`] if the range is empty or passes half the sample rate, or if a band is so narrow that no bin
    /// falls into it (librosa only warns; such a band would carry nothing).
    pub fn new(sample_rate: u32, n_fft: usize, n_mels: usize, f_min: f64, f_max: f64) -> Result<Self> {
        let nyquist = sample_rate as f64 / 2.0;
        if n_mels == 0 {
            return Err(Error::Config("--n-filterbank must be at least 1".into()));
        }
        if !(f_min.is_finite() && f_max.is_finite() && 0.0 <= f_min && f_min < f_max) {
            return Err(Error::Config(format!(
                "the filterbank's range {f_min}-{f_max} Hz is empty: --f-min must be at least 0 and below --f-max"
            )));
        }
        if f_max > nyquist {
            return Err(Error::Config(format!(
                "--f-max {f_max} Hz is above {nyquist} Hz, half of --sample-rate {sample_rate}: lower --f-max or raise \
                 --sample-rate"
            )));
        }
        let bins = n_fft / 2 + 1;
        let (low, high) = (hz_to_mel(f_min), hz_to_mel(f_max));
        let edge = |i: usize| mel_to_hz(low + (high - low) * i as f64 / (n_mels + 1) as f64);
        let frequency = |bin: usize| bin as f64 * sample_rate as f64 / n_fft as f64;

        let mut bands = Vec::with_capacity(n_mels);
        for i in 0..n_mels {
            let (left, centre, right) = (edge(i), edge(i + 1), edge(i + 2));
            let area = 2.0 / (right - left);
            let weight = |bin: usize| {
                let rising = (frequency(bin) - left) / (centre - left);
                let falling = (right - frequency(bin)) / (right - centre);
                rising.min(falling).max(0.0) * area
            };
            // Only the bins strictly inside the triangle have a weight: one run, by the triangle's shape.
            let Some(first) = (0..bins).find(|&bin| weight(bin) > 0.0) else {
                return Err(Error::Config(format!(
                    "band {i} of {n_mels} ({left:.1}-{right:.1} Hz) holds none of the bins, which are {:.1} Hz apart: \
                     lower --n-filterbank or raise --n-fft {n_fft}",
                    frequency(1)
                )));
            };
            let weights = (first..bins).map(weight).take_while(|&w| w > 0.0).collect();
            bands.push(Band { first, weights });
        }
        Ok(MelFilterbank { bins, bands })
    }

    /// The triangles, lowest first.
    pub fn bands(&self) -> &[Band] {
        &self.bands
    }

    /// Number of bands.
    pub fn n_mels(&self) -> usize {
        self.bands.len()
    }

    /// Bins of the power spectra the bank applies to.
    pub fn bins(&self) -> usize {
        self.bins
    }

    /// The weighted sum of each band, per frame; summed in f64.
    ///
    /// # Shapes
    /// `[frames, bins]` -> `[frames, n_mels]`
    ///
    /// # Panics
    /// If `power` has another number of bins.
    pub fn apply<T: Real>(&self, power: ArrayView2<'_, T>) -> Array2<T> {
        assert_eq!(power.ncols(), self.bins, "power must have the filterbank's bins");
        let power = power.as_standard_layout();
        let mut mel = Array2::from_elem((power.nrows(), self.n_mels()), T::zero());
        for (row, mut out) in power.rows().into_iter().zip(mel.rows_mut()) {
            let row = row.to_slice().expect("rows of the standard layout are contiguous");
            self.bands.iter().zip(&mut out).for_each(|(band, value)| *value = T::of(band.weigh(row)));
        }
        mel
    }
}

impl Band {
    /// The band's weighted sum over one frame of a power spectrum, in f64.
    pub fn weigh<T: Real>(&self, power: &[T]) -> f64 {
        self.weights.iter().zip(&power[self.first..]).map(|(&w, &p)| w * p.into()).sum()
    }
}

/// Slaney's scale: linear up to 1 kHz, logarithmic above.
pub fn hz_to_mel(hz: f64) -> f64 {
    if hz < BREAK_HZ { hz / LINEAR_STEP } else { BREAK_MEL + (hz / BREAK_HZ).ln() / LOG_STEP }
}

/// The inverse of [`hz_to_mel`].
pub fn mel_to_hz(mel: f64) -> f64 {
    if mel < BREAK_MEL { mel * LINEAR_STEP } else { BREAK_HZ * ((mel - BREAK_MEL) * LOG_STEP).exp() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mel_scale_and_its_inverse_undo_each_other() {
        assert!((LOG_STEP - 6.4f64.ln() / 27.0).abs() < 1e-17);
        for hz in [0.0, 125.0, 999.9, 1000.0, 1000.1, 7600.0] {
            assert!((mel_to_hz(hz_to_mel(hz)) - hz).abs() < 1e-9);
        }
    }
}
