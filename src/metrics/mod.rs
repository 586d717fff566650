//! How near a sound is to another: what `evaluate audio` prints.
//!
//! [`pairs()`] matches references and outputs, [`read_reference`] and [`read_output`] bring both to 16 kHz, [`compare`] aligns
//! them and measures: spectra ([`spectral`]), pitch and voicing ([`pitch`]), level. PESQ and ESTOI are measured by
//! `scripts/evaluate_audio.py`, which reads, pairs and aligns as this module does.
//!
//! [`latents`] measures what a VAE's latents mean.

pub mod latents;
mod of_run;
mod pairs;
pub mod pitch;
mod sound;
pub mod spectral;

pub use of_run::SoundOfRun;
pub use pairs::{Pair, pairs};
pub use sound::{RATE, SoundMeasures, compare, read_output, read_reference};

/// The mean, `None` of nothing.
pub(crate) fn mean(values: impl IntoIterator<Item = f64>) -> Option<f64> {
    let (sum, count) = values.into_iter().fold((0.0, 0usize), |(sum, count), value| (sum + value, count + 1));
    (count > 0).then(|| sum / count as f64)
}
