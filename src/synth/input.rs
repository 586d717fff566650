//! What can be synthesised from: audio and feature files.

use std::path::Path;

use crate::audio::Waveform;
use crate::data::require_same;
use crate::features::{FeatureConfig, FeatureExtractor, FeatureFile, Features, is_features};
use crate::{Error, Result};

/// The features of a `.wav`, `.ogg`, `.flac`, `.mp3` or `.feat.npz` file, in the configuration of a run.
///
/// # Errors
/// If the file cannot be read, or holds features of another configuration.
pub fn read_features(path: &Path, config: &FeatureConfig, of: &Path) -> Result<Features> {
    if is_features(path) {
        let features = FeatureFile::read(path)?;
        require_same(config, &features.meta.config, of, path)?;
        return Ok(features);
    }
    let waveform = Waveform::read(path)?;
    FeatureExtractor::new(config.clone())?.extract(&waveform).map_err(|error| Error::file(path, error))
}

/// The configuration of a feature file, the default one for audio: what to use where no run says it.
///
/// # Errors
/// If the feature file cannot be read.
pub fn own_config(path: &Path) -> Result<FeatureConfig> {
    if is_features(path) { FeatureFile::read_meta(path).map(|meta| meta.config) } else { Ok(FeatureConfig::default()) }
}
