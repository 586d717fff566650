//! What can be synthesised from: audio and feature files.

use std::borrow::Cow;
use std::path::Path;

use ndarray::Array2;

use crate::audio::Waveform;
use crate::data::require_same;
use crate::features::{
    Contents, FeatureConfig, FeatureExtractor, FeatureFile, FeatureMeta, Features, Frames, Spectrum, is_features,
    open_frames,
};
use crate::{Error, Result};

/// What synthesis wants to know of a sound.
pub struct Source {
    /// Natural logarithm of its mel spectrum: `[frames, n_filterbank]`.
    pub logmel: Array2<f32>,
    /// How it was made.
    pub meta: FeatureMeta,
}

/// The features of a `.wav`, `.ogg`, `.flac`, `.mp3` or `.feat.npz` file, in the configuration of a run.
///
/// # Errors
/// If the file cannot be read, or holds features of another configuration.
pub fn read_features(path: &Path, config: &FeatureConfig, of: &Path) -> Result<Source> {
    if is_features(path) {
        // The linear spectrum and the samples are most of a file, and it may well be without them.
        let (logmel, meta) = FeatureFile::read_logmel(path)?;
        require_same(config, &meta.config, of, path)?;
        return Ok(Source { logmel, meta });
    }
    let Features { logmel, meta, .. } = extracted(path, config, Contents::LOGMEL)?;
    Ok(Source { logmel, meta })
}

/// A sound whose spectra are read as they are needed.
pub struct Stream {
    /// Natural logarithm of its mel spectrum: `[frames, n_filterbank]`.
    pub logmel: Box<dyn Frames>,
    /// Natural logarithm of its linear power, `[frames, bins]`, if it was asked for.
    pub logspec: Option<Box<dyn Frames>>,
    /// How it was made.
    pub meta: FeatureMeta,
}

/// As [`read_features`], without holding what lies in a feature file as rows; with the linear ln power spectrum if `linear`.
///
/// # Errors
/// As [`read_features`], and if a feature file has no linear spectrum.
pub fn stream_features(path: &Path, config: &FeatureConfig, of: &Path, linear: bool) -> Result<Stream> {
    if is_features(path) {
        let meta = FeatureFile::read_meta(path)?;
        require_same(config, &meta.config, of, path)?;
        let open = |spectrum| open_frames(path, &meta, spectrum);
        let (logmel, logspec) = (open(Spectrum::Logmel)?, linear.then(|| open(Spectrum::Logspec)).transpose()?);
        return Ok(Stream { logmel, logspec, meta });
    }
    let contents = if linear { Contents { au: false, ..Contents::ALL } } else { Contents::LOGMEL };
    let Features { logmel, logspec, meta, .. } = extracted(path, config, contents)?;
    Ok(Stream { logmel: Box::new(logmel), logspec: linear.then(|| Box::new(logspec) as Box<dyn Frames>), meta })
}

fn extracted(path: &Path, config: &FeatureConfig, contents: Contents) -> Result<Features> {
    let waveform = Cow::Owned(Waveform::read(path)?);
    let extractor = FeatureExtractor::new(config.clone())?;
    extractor.prepare(waveform).and_then(|sound| sound.features(contents)).map_err(|error| Error::file(path, error))
}

/// The configuration of a feature file, the default one for audio: what to use where no run says it.
///
/// # Errors
/// If the feature file cannot be read.
pub fn own_config(path: &Path) -> Result<FeatureConfig> {
    if is_features(path) { FeatureFile::read_meta(path).map(|meta| meta.config) } else { Ok(FeatureConfig::default()) }
}
