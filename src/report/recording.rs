//! Test recordings as the page shows them: a few of them, and of each the beginning.

use std::path::PathBuf;

use ndarray::{Array2, ArrayView2, s};

use super::run::Run;
use crate::Result;
use crate::audio::Waveform;
use crate::data::{FeatureEntry, FeatureSet};
use crate::dsp::emphasis::de_emphasis;
use crate::features::FeatureFile;

/// The beginning of a recording.
pub(super) struct Recording {
    /// Its feature file, without the ending.
    pub name: String,
    /// `[frames, mels]`
    pub logmel: Array2<f32>,
    /// `[frames, bins]`, if the file has it.
    pub logspec: Option<Array2<f32>>,
    /// What was analysed, at the source's level, if the file has it.
    pub sound: Option<Waveform>,
    /// What the source was divided by.
    pub gain: f64,
}

/// `count` recordings of the run's test, spread over all of them, or a sentence that says why there are none.
pub(super) fn some(run: &Run, count: usize, longest: usize) -> std::result::Result<Vec<Recording>, String> {
    let set = run.recordings.as_ref().map_err(String::clone)?;
    let read = |entry| Recording::read(entry, longest);
    spread(set, count).map(read).collect::<Result<_>>().map_err(|error| error.to_string())
}

/// The feature files of `count` such recordings, none if there are none.
pub(super) fn paths(run: &Run, count: usize) -> Vec<PathBuf> {
    run.recordings.iter().flat_map(|set| spread(set, count)).map(|entry| entry.path.clone()).collect()
}

fn spread(set: &FeatureSet, count: usize) -> impl Iterator<Item = &FeatureEntry> {
    let count = count.min(set.entries.len());
    (0..count).map(move |index| &set.entries[index * set.entries.len() / count])
}

impl Recording {
    fn read(entry: &FeatureEntry, longest: usize) -> Result<Self> {
        let path = &entry.path;
        let (logmel, logspec, au) = match FeatureFile::read(path) {
            Ok(features) => (features.logmel, Some(features.logspec), Some(features.au)),
            Err(_) => match FeatureFile::read_spectra(path) {
                Ok((logmel, logspec)) => (logmel, Some(logspec), None),
                Err(_) => (FeatureFile::read_logmel(path)?.0, None, None),
            },
        };
        let (frames, config) = (logmel.nrows().min(longest), &entry.meta.config);
        let begin = |spectrum: Array2<f32>| spectrum.slice(s![..frames, ..]).to_owned();
        let sound = au.map(|au| {
            let end = au.len().min(frames * config.hop_size);
            let mut samples = de_emphasis(au[..end].to_vec(), config.preemphasis);
            let peak = samples.iter().fold(0.0f32, |peak, sample| peak.max(sample.abs()));
            let gain = (entry.meta.gain as f32).min(if peak > 0.0 { 1.0 / peak } else { 1.0 });
            samples.iter_mut().for_each(|sample| *sample *= gain);
            Waveform { samples, sample_rate: config.sample_rate }
        });
        Ok(Self {
            name: entry.name.strip_suffix(crate::features::FEATURE_SUFFIX).unwrap_or(&entry.name).to_string(),
            logmel: begin(logmel),
            logspec: logspec.map(begin),
            sound,
            gain: entry.meta.gain,
        })
    }

    /// The loudest `frames` frames of it, all of it if it is shorter.
    pub(super) fn loudest(&self, frames: usize) -> ArrayView2<'_, f32> {
        let count = self.logmel.nrows();
        let frames = frames.min(count);
        let mean = |start: usize| self.logmel.slice(s![start..start + frames, ..]).mean().unwrap_or(f32::NEG_INFINITY);
        let start = (0..=count - frames).step_by(10).max_by(|&one, &other| mean(one).total_cmp(&mean(other)));
        let start = start.unwrap_or(0);
        self.logmel.slice(s![start..start + frames, ..])
    }
}

/// Mean absolute difference of two spectrograms of equal shape, in their unit.
pub(super) fn mean_error(one: &Array2<f32>, other: &Array2<f32>) -> f64 {
    let sum: f64 = one.iter().zip(other).map(|(a, b)| f64::from((a - b).abs())).sum();
    sum / one.len().max(1) as f64
}
