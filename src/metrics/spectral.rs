//! Distances between the spectra of two sounds of one length and level.
//!
//! Spectra are those of the features without their pre-emphasis: periodic Hann windows of 1024 samples every 160, centred,
//! mirrored at the ends. Powers below a floor count as the floor, which lies 80 dB under the reference's largest value
//! for both sounds, so that what cannot be heard beside the rest does not decide. All frames count, pauses included.

use ndarray::{Array2, ArrayView2, Zip};

use super::mean;
use crate::dsp::stft::Stft;
use crate::features::FeatureConfig;

/// Floor of the powers, relative to the reference's largest: -80 dB.
pub const FLOOR: f64 = 1e-8;
/// Cepstral coefficients that [`mel_cepstral_distortion`] compares, from the first; c0, the level, is left out.
pub const CEPSTRA: usize = 24;

/// The power spectrum that the distances are taken of.
///
/// # Shapes
/// `[len]` -> `[1 + len / 160, 513]`
pub fn power(samples: &[f64]) -> Array2<f64> {
    let config = FeatureConfig::default();
    Stft::new(config.n_fft, config.hop_size, config.pad_mode).power(samples)
}

/// Log-spectral distance in dB: over the bins of a frame the root mean square of the difference of both levels, averaged
/// over frames. `None` if there are no frames or the reference is silent.
///
/// # Shapes
/// Powers, both `[frames, bins]`.
///
/// # Panics
/// If the shapes differ.
///
/// # Reference
/// Rabiner and Juang, "Fundamentals of Speech Recognition", 1993, section 4.5.1 (the L2 norm).
pub fn log_spectral_distance(reference: ArrayView2<f64>, output: ArrayView2<f64>) -> Option<f64> {
    let difference = decibels(output, floor(reference)?) - decibels(reference, floor(reference)?);
    mean(difference.rows().into_iter().map(|row| (row.dot(&row) / row.len() as f64).sqrt()))
}

/// Mel-cepstral distortion in dB: 10 / ln 10 sqrt(2 sum (c - c')²) over c1 to c24, averaged over frames, which are compared
/// one with one (no time warping). `None` if there are no frames or the reference is silent.
///
/// The cepstrum is the cosine transform of the 80 mel bands of the features, scaled so that ln |X| = c0 + sum c_k cos: the
/// result is then the root mean square difference in dB of two envelopes, as with the mel-cepstra of speech synthesis.
/// `librosa.feature.mfcc` gives the same coefficients times 20 / ln 10 sqrt(40): figures taken straight from those are
/// larger.
///
/// # Shapes
/// Powers, both `[frames, 513]`.
///
/// # Panics
/// If the shapes differ.
///
/// # Reference
/// Kubichek, "Mel-cepstral distance measure for objective speech quality assessment", 1993.
pub fn mel_cepstral_distortion(reference: ArrayView2<f64>, output: ArrayView2<f64>) -> Option<f64> {
    let filterbank = FeatureConfig::default().filterbank().expect("the default filterbank exists");
    let (reference, output) = (filterbank.apply(reference), filterbank.apply(output));
    let floor = floor(reference.view())?;
    let bands = filterbank.n_mels();
    let cosines = Array2::from_shape_fn((bands, CEPSTRA), |(band, k)| {
        (std::f64::consts::PI / bands as f64 * (band as f64 + 0.5) * (k + 1) as f64).cos()
    });
    // The k-th coefficient of an envelope in dB is 2 / bands times its product with the k-th cosine; in ln |X| it is that
    // times ln 10 / 20, which leaves sqrt(1/2) of the root of the summed squares.
    let cepstra =
        (decibels(output.view(), floor) - decibels(reference.view(), floor)).dot(&cosines) * (2.0 / bands as f64);
    mean(cepstra.rows().into_iter().map(|row| (0.5 * row.dot(&row)).sqrt()))
}

/// Spectral convergence in dB: 20 log10(‖ |Y| - |X| ‖ / ‖X‖) over all bins, the lower the nearer. `None` if the reference
/// is silent or nothing differs at all, where it would be minus infinity.
///
/// It follows the strongest partials; inverted mel spectra that sound better can be further off.
///
/// # Shapes
/// Powers, both `[frames, bins]`.
///
/// # Panics
/// If the shapes differ.
pub fn convergence(reference: ArrayView2<f64>, output: ArrayView2<f64>) -> Option<f64> {
    let mut error = 0.0;
    Zip::from(reference).and(output).for_each(|x, y| error += (y.sqrt() - x.sqrt()).powi(2));
    let ratio = error / reference.sum();
    (ratio > 0.0 && ratio.is_finite()).then(|| 10.0 * ratio.log10())
}

/// The floor of powers beside this reference, `None` beside silence.
fn floor(reference: ArrayView2<f64>) -> Option<f64> {
    let largest = reference.iter().copied().fold(0.0, f64::max);
    (largest > 0.0).then_some(FLOOR * largest)
}

fn decibels(power: ArrayView2<f64>, floor: f64) -> Array2<f64> {
    power.mapv(|value| 10.0 * value.max(floor).log10())
}
