//! What can be synthesised from: audio, feature files, folders of them.

use std::collections::{BTreeMap, BTreeSet};
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

/// The inputs below a folder with the output path of each: the same relative path under `out`, ending in `ending`.
/// A file gives just itself and `out`.
///
/// # Errors
/// If there is no input, two would have the same output, one would be overwritten by its own output, or `out` is to be a file
/// and does not have the ending.
pub fn find_inputs(input: &Path, out: &Path, ending: &str) -> Result<Vec<(PathBuf, PathBuf)>> {
    let pairs = if input.is_dir() {
        find_below(input, out, ending)?
    } else {
        require_ending(out, ending)?;
        vec![(input.to_path_buf(), out.to_path_buf())]
    };
    let inputs: BTreeSet<PathBuf> = pairs.iter().filter_map(|(input, _)| input.canonicalize().ok()).collect();
    for (_, output) in &pairs {
        if output.canonicalize().is_ok_and(|output| inputs.contains(&output)) {
            return Err(Error::file(output, "is an input and would be overwritten; give another OUT"));
        }
    }
    Ok(pairs)
}

/// Refuses a path for an output file that does not end as such files do: it is most likely another argument's.
///
/// # Errors
/// [`Error::File`] with the ending.
pub fn require_ending(out: &Path, ending: &str) -> Result<()> {
    let extension = ending.rsplit('.').next().unwrap_or(ending);
    if out.extension().is_some_and(|found| found.eq_ignore_ascii_case(extension)) && !out.is_dir() {
        return Ok(());
    }
    Err(Error::file(out, format!("an output file whose name ends in .{extension} is needed here")))
}

fn find_below(input: &Path, out: &Path, ending: &str) -> Result<Vec<(PathBuf, PathBuf)>> {
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
        if let Some(other) = found.insert(out.join(format!("{stem}.{ending}")), path.to_path_buf()) {
            let message = format!("and {} would be written to the same file; move one away", other.display());
            return Err(Error::file(path, message));
        }
    }
    if found.is_empty() {
        return Err(Error::file(input, format!("holds no .wav, .ogg or {FEATURE_SUFFIX} files")));
    }
    Ok(found.into_iter().map(|(output, input)| (input, output)).collect())
}
