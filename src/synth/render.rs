//! Sound files of spectrograms, and what is looked at afterwards: the spectrogram of what sounds, and pictures.

use std::path::Path;

use ndarray::{Array2, ArrayView2};

use super::Vocoder;
use crate::beside::create_parent;
use crate::features::{Contents, FeatureConfig, FeatureExtractor};
use crate::picture::{PictureConfig, write_comparison_png};
use crate::{Error, Result};

/// Writes the sound of a log-mel spectrogram, and gives the log-mel spectrogram of that sound. `gain` is what the
/// source was divided by; `source` is what an error of the spectrogram is about.
///
/// # Shapes
/// `[frames, mels]` in and out; there may be a frame more or less.
///
/// # Errors
/// As [`Vocoder::sound`], if the sound would be beyond f32, and [`Error::Io`] if the file or its folder cannot be written.
pub fn render(
    vocoder: &Vocoder,
    logmel: ArrayView2<f32>,
    gain: f64,
    source: &Path,
    output: &Path,
) -> Result<Array2<f32>> {
    let sound = vocoder.sound(logmel, gain).map_err(|error| Error::file(source, error))?;
    if !sound.samples.iter().all(|sample| sample.is_finite()) {
        let loudest = logmel.iter().fold(f32::NEG_INFINITY, |most, &value| most.max(value));
        let message =
            format!("decodes to a log-mel of {loudest}, which is beyond any sound: codes nearer to 0 are needed");
        return Err(Error::file(source, message));
    }
    create_parent(output)?;
    sound.write(output)?;
    let as_is = FeatureConfig { trim_silence_db: None, ..vocoder.features().clone() };
    Ok(FeatureExtractor::new(as_is)?.extract_contents(&sound, Contents::LOGMEL)?.logmel)
}

/// Draws spectrograms below each other into a `.png` beside a sound file.
///
/// # Errors
/// As [`write_comparison_png`].
pub fn draw_beside(sound: &Path, panels: &[ArrayView2<f32>]) -> Result<()> {
    write_comparison_png(&sound.with_extension("png"), panels, &PictureConfig::default())
}
