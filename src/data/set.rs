//! The feature files of a folder, checked to belong together.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::many_at_once;
use crate::features::{FEATURE_SUFFIX, FeatureConfig, FeatureFile, FeatureMeta, is_features};
use crate::walk::files_below;
use crate::{Error, Result};

/// One feature file: where it is, its name relative to the folder, and what it says of itself.
#[derive(Clone, Debug)]
pub struct FeatureEntry {
    /// Where it is.
    pub path: PathBuf,
    /// Its path relative to the set's folder, with `/` between the parts.
    pub name: String,
    /// What it says of itself.
    pub meta: FeatureMeta,
}

/// The feature files below a folder, sorted by path, all made with one configuration.
#[derive(Clone, Debug)]
pub struct FeatureSet {
    /// The folder.
    pub root: PathBuf,
    /// At least one, sorted by name.
    pub entries: Vec<FeatureEntry>,
}

/// What a run remembers of the data it was trained on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DataIdentity {
    /// Number of files.
    pub files: usize,
    /// Frames of all files.
    pub frames: u64,
    /// SHA-256 over names and band sums, in hexadecimal. Moving the folder does not change it.
    pub hash: String,
}

impl FeatureSet {
    /// Reads the metadata of every feature file below `root`.
    ///
    /// # Errors
    /// If there is none, one or a folder cannot be read, one holds values that are not finite, or two differ in configuration.
    pub fn open(root: &Path) -> Result<Self> {
        if !root.is_dir() {
            return Err(Error::file(root, "is not a folder; give one that extract-features wrote"));
        }
        let found = files_below(root, is_features).require_some(|| {
            Error::file(root, format!("holds no *{FEATURE_SUFFIX} files; make them with extract-features"))
        })?;
        // Training on a part of the data would be another run.
        if let Some(error) = found.unreadable.into_iter().next() {
            return Err(error);
        }
        let known = FeatureFile::read_meta(&root.join(&found.files[0]))?.config;
        let entry = |name: PathBuf| read_entry(root, &name, &known);
        let entries = many_at_once(|| found.files.into_par_iter().map(entry).collect::<Result<Vec<_>>>())?;
        let set = Self { root: root.to_path_buf(), entries };
        for entry in &set.entries {
            require_same(set.config(), &entry.meta.config, &set.entries[0].path, &entry.path)?;
        }
        Ok(set)
    }

    /// The one configuration of all files.
    pub fn config(&self) -> &FeatureConfig {
        &self.entries[0].meta.config
    }

    /// Total length in frames.
    pub fn frames(&self) -> u64 {
        self.entries.iter().map(|entry| entry.meta.frames).sum()
    }

    /// Total length in minutes.
    pub fn minutes(&self) -> f64 {
        let config = self.config();
        self.frames() as f64 * config.hop_size as f64 / f64::from(config.sample_rate) / 60.0
    }

    /// What a run remembers of this set.
    pub fn identity(&self) -> DataIdentity {
        let mut hash = Sha256::new();
        for entry in &self.entries {
            hash.update(entry.name.as_bytes());
            hash.update(fingerprint(&entry.meta));
        }
        let hash = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        DataIdentity { files: self.entries.len(), frames: self.frames(), hash }
    }

    /// Pairs of names (here, in `other`) whose content is the same.
    pub fn shared_with<'a>(&'a self, other: &'a FeatureSet) -> Vec<(&'a str, &'a str)> {
        let ours: HashMap<[u8; 32], &str> =
            self.entries.iter().map(|entry| (fingerprint(&entry.meta), entry.name.as_str())).collect();
        let twins = other.entries.iter();
        twins.filter_map(|entry| ours.get(&fingerprint(&entry.meta)).map(|&name| (name, entry.name.as_str()))).collect()
    }
}

/// Fails with the differences if two configurations are not the same.
pub(crate) fn require_same(one: &FeatureConfig, other: &FeatureConfig, of_one: &Path, of_other: &Path) -> Result<()> {
    let differences = one.differences(other);
    if differences.is_empty() {
        return Ok(());
    }
    Err(Error::Mismatch(format!(
        "{} and {} were made with different feature settings: {}",
        of_one.display(),
        of_other.display(),
        differences.join(", ")
    )))
}

fn read_entry(root: &Path, name: &Path, known: &FeatureConfig) -> Result<FeatureEntry> {
    let path = root.join(name);
    let meta = FeatureFile::read_meta_like(&path, known)?;
    let name = name.to_string_lossy().replace('\\', "/");
    Ok(FeatureEntry { path, name, meta })
}

fn fingerprint(meta: &FeatureMeta) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(meta.frames.to_le_bytes());
    for value in meta.bands.sum.iter().chain(&meta.bands.sum_sq) {
        hash.update(value.to_le_bytes());
    }
    hash.finalize().into()
}
