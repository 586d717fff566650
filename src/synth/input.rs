//! What can be synthesised from: audio and feature files.

use std::path::Path;

use ndarray::Array2;

use crate::audio::Waveform;
use crate::data::require_same;
use crate::features::{Contents, FeatureConfig, FeatureExtractor, FeatureFile, FeatureMeta, Features, is_features};
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

/// As [`read_features`], and the linear ln power spectrum, `[frames, bins]`.
///
/// # Errors
/// As [`read_features`], and if a feature file has none.
pub fn read_linear(path: &Path, config: &FeatureConfig, of: &Path) -> Result<(Source, Array2<f32>)> {
    if is_features(path) {
        let source = read_features(path, config, of)?;
        return Ok((source, FeatureFile::read_spectra(path)?.1));
    }
    let Features { logmel, logspec, meta, .. } = extracted(path, config, Contents::ALL)?;
    Ok((Source { logmel, meta }, logspec))
}

fn extracted(path: &Path, config: &FeatureConfig, contents: Contents) -> Result<Features> {
    let waveform = Waveform::read(path)?;
    FeatureExtractor::new(config.clone())?
        .extract_contents(&waveform, contents)
        .map_err(|error| Error::file(path, error))
}

/// The configuration of a feature file, the default one for audio: what to use where no run says it.
///
/// # Errors
/// If the feature file cannot be read.
pub fn own_config(path: &Path) -> Result<FeatureConfig> {
    if is_features(path) { FeatureFile::read_meta(path).map(|meta| meta.config) } else { Ok(FeatureConfig::default()) }
}
