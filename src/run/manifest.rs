//! What a checkpoint's files are, byte for byte: written last, so that a folder without it was never finished.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{Error, Result};

/// The manifest's own name.
pub(super) const MANIFEST: &str = "manifest.json";

/// Size and SHA-256 of each file of a folder, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Manifest(BTreeMap<String, Sum>);

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Sum {
    bytes: u64,
    /// In hexadecimal.
    sha256: String,
}

impl Sum {
    fn of(bytes: &[u8]) -> Self {
        let sha256 = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        Self { bytes: bytes.len() as u64, sha256 }
    }
}

impl Manifest {
    /// Notes a file's content.
    pub(super) fn add(&mut self, name: &str, bytes: &[u8]) {
        self.0.insert(name.to_string(), Sum::of(bytes));
    }

    /// The SHA-256 of a file as it was saved, in hexadecimal; empty if it was not.
    pub(super) fn sha256(&self, name: &str) -> &str {
        self.0.get(name).map_or("", |sum| &sum.sha256)
    }

    /// The content of the manifest's own file.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec_pretty(self).expect("names and numbers")
    }

    /// Reads a folder's manifest, which must be exactly as [`to_bytes`](Self::to_bytes) writes it.
    pub(super) fn read(folder: &Path) -> Result<Self> {
        let path = folder.join(MANIFEST);
        let bytes = match fs::read(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(Error::file(folder, format!("has no {MANIFEST}: it was not saved to its end")));
            }
            read => read.map_err(Error::io(&path))?,
        };
        let found: Self =
            serde_json::from_slice(&bytes).map_err(|error| Error::file(&path, format!("damaged: {error}")))?;
        // The manifest is the one file that nothing vouches for; a changed byte may still parse.
        if found.to_bytes() == bytes { Ok(found) } else { Err(Error::file(&path, "damaged: it was edited")) }
    }

    /// The content of a file that must be as it was saved.
    pub(super) fn verified(&self, folder: &Path, name: &str) -> Result<Vec<u8>> {
        let path = folder.join(name);
        let wanted = self.0.get(name).ok_or_else(|| Error::file(&path, format!("{MANIFEST} does not name it")))?;
        let bytes = fs::read(&path).map_err(Error::io(&path))?;
        if bytes.len() as u64 != wanted.bytes {
            let (found, saved) = (bytes.len(), wanted.bytes);
            return Err(Error::file(&path, format!("damaged: {found} bytes, where {saved} were saved")));
        }
        if Sum::of(&bytes) != *wanted {
            return Err(Error::file(&path, "damaged: its content is not what was saved (SHA-256)"));
        }
        Ok(bytes)
    }
}
