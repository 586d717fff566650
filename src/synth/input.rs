//! What can be synthesised from: audio, feature files, folders of them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use walkdir::WalkDir;

use crate::audio::Waveform;
use crate::data::{FEATURE_SUFFIX, require_same};
use crate::features::corpus::is_audio;
use crate::features::{FeatureConfig, FeatureExtractor, FeatureFile, Features};
use crate::{Error, Result};

/// The features of a `.wav`, `.ogg` or `.feat.npz` file, in the configuration of a run.
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

/// Whether the name is that of a feature file.
pub(super) fn is_features(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().ends_with(FEATURE_SUFFIX))
}

/// The inputs below a folder with the output path of each: the same relative path under `out`, ending in `extension`.
/// A file gives just itself and `out`.
///
/// # Errors
/// If there is no input, or two would have the same output.
pub fn find_inputs(input: &Path, out: &Path, extension: &str) -> Result<Vec<(PathBuf, PathBuf)>> {
    if !input.is_dir() {
        return Ok(vec![(input.to_path_buf(), out.to_path_buf())]);
    }
    let mut found = BTreeMap::new();
    for entry in WalkDir::new(input).follow_links(true).sort_by_file_name() {
        let entry = entry.map_err(|error| Error::file(error.path().unwrap_or(input), &error))?;
        let path = entry.path();
        if !entry.file_type().is_file() || !(is_audio(path) || is_features(path)) {
            continue;
        }
        let relative = path.strip_prefix(input).unwrap_or(path).to_string_lossy().into_owned();
        let stem = match relative.strip_suffix(FEATURE_SUFFIX) {
            Some(stem) => stem,
            None => relative.rsplit_once('.').map_or(relative.as_str(), |(stem, _)| stem),
        };
        if let Some(other) = found.insert(out.join(format!("{stem}.{extension}")), path.to_path_buf()) {
            let message = format!("and {} would be written to the same file; move one away", other.display());
            return Err(Error::file(path, message));
        }
    }
    if found.is_empty() {
        return Err(Error::file(input, format!("holds no .wav, .ogg or {FEATURE_SUFFIX} files")));
    }
    Ok(found.into_iter().map(|(output, input)| (input, output)).collect())
}
