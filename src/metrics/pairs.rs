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
/// reference and references without an output are warned about.
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
    let alone = missing(&outputs, &references);
    if alone.len() == outputs.len() {
        let message =
            format!("none of its {} sounds has a reference of the same name in {}", outputs.len(), reference.display());
        return Err(Error::file(output, message));
    }
    warn_of(&alone, outputs.len(), "outputs have no reference", reference);
    warn_of(&missing(&references, &outputs), references.len(), "references have no output", output);
    let pair = |(name, output): (String, PathBuf)| {
        let reference = references.get(&name)?.clone();
        Some(Pair { name, reference, output })
    };
    Ok(outputs.into_iter().filter_map(pair).collect())
}

/// The files of one folder that have no namesake in the other.
fn missing<'a>(files: &'a BTreeMap<String, PathBuf>, others: &BTreeMap<String, PathBuf>) -> Vec<&'a PathBuf> {
    files.iter().filter(|(name, _)| !others.contains_key(*name)).map(|(_, path)| path).collect()
}

fn warn_of(alone: &[&PathBuf], of: usize, what: &str, folder: &Path) {
    if let Some(first) = alone.first() {
        let (count, folder, first) = (alone.len(), folder.display(), first.display());
        tracing::warn!("{count} of {of} {what} in {folder}, {first} among them");
    }
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
