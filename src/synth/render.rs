//! Sound files of spectrograms, and what is looked at afterwards: the spectrogram of what sounds, and pictures.
//!
//! Nothing here grows with the length of the sound but what lies on disk while it is made.

use std::path::Path;

use ndarray::{Array2, Axis, concatenate};

use super::Vocoder;
use crate::audio::{Waveform, require_room};
use crate::beside::create_parent;
use crate::features::{Contents, FeatureConfig, FeatureExtractor, Frames};
use crate::picture::{PictureConfig, write_comparison_png};
use crate::spool::Spool;
use crate::{Error, Result};

/// Samples, and frames, that are worked on at once.
const PART: usize = 1 << 16;
pub(super) const SOME_FRAMES: usize = 2000;

/// Writes the sound of a log-mel spectrogram (of a linear one, if the vocoder is [`exact`](Vocoder::exact)), and gives the log-mel
/// spectrogram of that sound. `gain` is what the source was divided by; `source` is what an error of the spectrogram is about.
///
/// # Shapes
/// `[frames, mels]` in and out.
///
/// # Errors
/// As [`Vocoder::sound`], if the sound would be beyond f32, if the spectrogram cannot be read, and [`Error::Io`] if the file or
/// its folder cannot be written.
pub fn render(
    vocoder: &Vocoder,
    spectrogram: &dyn Frames,
    gain: f64,
    source: &Path,
    output: &Path,
) -> Result<impl Frames + use<>> {
    require_room(output, vocoder.samples(spectrogram.frames()) as u64)?;
    create_parent(output)?;
    // Its level is known when all of it is there.
    let mut raw = Spool::beside(output, 1)?;
    let mut peak = 0.0f32;
    let taken = vocoder.stream(spectrogram, |part| {
        require_finite(part, spectrogram, source)?;
        peak = part.iter().fold(peak, |most, sample| most.max(sample.abs()));
        raw.append(part)
    });
    taken.map_err(|error| match error {
        Error::Config(message) => Error::file(source, message),
        other => other,
    })?;
    let (raw, factor) = (raw.finish()?, vocoder.level(peak, gain, Some(source)));

    let features = vocoder.features();
    let extractor = FeatureExtractor::new(FeatureConfig { trim_silence_db: None, ..features.clone() })?;
    let mut heard = Spool::beside(output, features.n_filterbank)?;
    Waveform::write_parts(output, features.sample_rate, |file| {
        let parts = (0..raw.frames()).step_by(PART).map(|first| {
            let part = raw.read(first..(first + PART).min(raw.frames()))? * factor;
            let part = part.into_raw_vec_and_offset().0;
            require_finite(&part, spectrogram, source)?;
            file.append(&part)?;
            Ok(part)
        });
        let loudest = if features.normalize && peak * factor > 0.0 { f64::from(peak * factor) } else { 1.0 };
        extractor.each_frame_of(parts, loudest, Contents::LOGMEL, |_, logmel| heard.append(logmel))
    })?;
    heard.finish()
}

fn require_finite(samples: &[f32], spectrogram: &dyn Frames, source: &Path) -> Result<()> {
    if samples.iter().all(|sample| sample.is_finite()) {
        return Ok(());
    }
    let mut loudest = f32::NEG_INFINITY;
    for_some_frames(&[spectrogram], SOME_FRAMES, |parts| {
        loudest = parts[0].iter().fold(loudest, |most, &value| most.max(value));
    })?;
    let message = format!("decodes to a log-mel of {loudest}, which is beyond any sound: codes nearer to 0 are needed");
    Err(Error::file(source, message))
}

/// Reads spectrograms side by side, `count` frames at a time, as many as the shortest has.
pub(super) fn for_some_frames(
    spectrograms: &[&dyn Frames],
    count: usize,
    mut look: impl FnMut(&[Array2<f32>]),
) -> Result<()> {
    let frames = spectrograms.iter().map(|spectrogram| spectrogram.frames()).min().unwrap_or(0);
    for first in (0..frames).step_by(count) {
        let read = |spectrogram: &&dyn Frames| spectrogram.read(first..(first + count).min(frames));
        look(&spectrograms.iter().map(read).collect::<Result<Vec<_>>>()?);
    }
    Ok(())
}

/// Draws spectrograms below each other into a `.png` beside a sound file.
///
/// # Errors
/// As [`write_comparison_png`], and if a spectrogram cannot be read.
pub fn draw_beside(sound: &Path, panels: &[&dyn Frames]) -> Result<()> {
    let config = PictureConfig::default();
    let shrink = config.shrink(panels.iter().map(|panel| panel.frames()).max().unwrap_or(0));
    // As many frames at once as become whole columns.
    let count = SOME_FRAMES.next_multiple_of(shrink);
    let shrunk = |panel: &&dyn Frames| {
        let mut columns = Vec::new();
        for_some_frames(&[*panel], count, |parts| {
            let means = parts[0].axis_chunks_iter(Axis(0), shrink).filter_map(|frames| frames.mean_axis(Axis(0)));
            columns.extend(means.map(|mean| mean.insert_axis(Axis(0))));
        })?;
        let views: Vec<_> = columns.iter().map(|column| column.view()).collect();
        Ok(concatenate(Axis(0), &views).expect("columns of one spectrogram"))
    };
    let panels: Vec<Array2<f32>> = panels.iter().map(shrunk).collect::<Result<_>>()?;
    let views: Vec<_> = panels.iter().map(|panel| panel.view()).collect();
    write_comparison_png(&sound.with_extension("png"), &views, &config)
}
