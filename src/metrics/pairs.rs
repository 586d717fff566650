//! Which output belongs to which reference.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::features::corpus::is_audio;
use crate::features::{FEATURE_SUFFIX, is_features};
use crate::walk::files_below;
use crate::{Error, Result};

/// An output and what it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    /// The relative path without ending; of two files the output's own name.
    pub name: String,
    /// A sound or a feature file.
    pub reference: PathBuf,
    /// A sound.
    pub output: PathBuf,
}

/// Two files, or the files of two folders that have the same relative path but for the ending, by name. Outputs without a
/// reference are warned about; references without an output are not.
///
/// # Errors
/// If one is not there, one is a file and the other a folder, a folder holds no such files or two of one name, nothing
/// matches, or a folder below cannot be read.
pub fn pairs(reference: &Path, output: &Path) -> Result<Vec<Pair>> {
    let is_dir = |path: &Path| fs::metadata(path).map(|found| found.is_dir()).map_err(Error::io(path));
    match (is_dir(reference)?, is_dir(output)?) {
        (true, true) => {}
        (false, false) => {
            let name = output.file_name().unwrap_or_default().to_string_lossy().into_owned();
            return Ok(vec![Pair { name, reference: reference.to_path_buf(), output: output.to_path_buf() }]);
        }
        (folder, _) => {
            let kind = |is_folder: bool| if is_folder { "a folder" } else { "a file" };
            let message = format!(
                "is {}, {} is {}: two files or two folders are compared",
                kind(!folder),
                reference.display(),
                kind(folder)
            );
            return Err(Error::file(output, message));
        }
    }
    let references = by_name(reference, &format!(".wav, .ogg, .flac, .mp3 or {FEATURE_SUFFIX}"), |path| {
        is_audio(path) || is_features(path)
    })?;
    let outputs = by_name(output, ".wav, .ogg, .flac or .mp3", is_audio)?;
    let alone: Vec<&PathBuf> =
        outputs.iter().filter(|(name, _)| !references.contains_key(*name)).map(|(_, path)| path).collect();
    let nothing = alone.len() == outputs.len();
    if let (Some(first), false) = (alone.first(), nothing) {
        let (count, of) = (alone.len(), reference.display());
        tracing::warn!(
            "{count} of {} outputs have no reference in {of}, {} among them",
            outputs.len(),
            first.display()
        );
    }
    let without: Vec<&PathBuf> =
        references.iter().filter(|(name, _)| !outputs.contains_key(*name)).map(|(_, path)| path).collect();
    if let (Some(first), false) = (without.first(), nothing) {
        let (count, of) = (without.len(), output.display());
        tracing::warn!(
            "{count} of {} references have no output in {of}, {} among them",
            references.len(),
            first.display()
        );
    }
    if nothing {
        let message =
            format!("none of its {} sounds has a reference of the same name in {}", outputs.len(), reference.display());
        return Err(Error::file(output, message));
    }
    let pair = |(name, output): (String, PathBuf)| {
        let reference = references.get(&name)?.clone();
        Some(Pair { name, reference, output })
    };
    Ok(outputs.into_iter().filter_map(pair).collect())
}

/// The wanted files below a folder by their relative paths without ending.
fn by_name(folder: &Path, endings: &str, wanted: fn(&Path) -> bool) -> Result<BTreeMap<String, PathBuf>> {
    let found =
        files_below(folder, wanted).require_some(|| Error::file(folder, format!("holds no {endings} files")))?;
    if let Some(error) = found.unreadable.into_iter().next() {
        return Err(error);
    }
    let mut files = BTreeMap::new();
    for relative in found.files {
        let stem = relative.with_extension("");
        let stem = if is_features(&relative) { stem.with_extension("") } else { stem };
        let path = folder.join(&relative);
        if let Some(other) = files.insert(stem.to_string_lossy().into_owned(), path.clone()) {
            let message = format!("and {} have the same name but for the ending; move one away", other.display());
            return Err(Error::file(path, message));
        }
    }
    Ok(files)
}
