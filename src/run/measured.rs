//! What was measured of a checkpoint's model: a file of JSON in its run's folder, for that model and for no other.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::beside::write_beside;
use crate::{Error, Result};

/// What such a file holds.
pub(crate) trait Measured: Serialize + DeserializeOwned {
    /// The file's name.
    const FILE: &str;
    /// What it says, as in "what latents mean".
    const SAYS: &str;
    /// The command that writes it.
    const COMMAND: &str;

    /// The model's [`fingerprint`](super::NamedTensors::fingerprint), and the step of its checkpoint.
    fn model(&self) -> (&str, u64);
}

/// Writes it into the run that the checkpoint folder lies in, and says where. What was there is replaced.
///
/// # Errors
/// [`Error::Io`] if it cannot be written.
pub(crate) fn keep<T: Measured>(measured: &T, checkpoint: &Path) -> Result<PathBuf> {
    let path = place::<T>(checkpoint)?;
    let text = serde_json::to_string_pretty(measured).expect("numbers and names are plain data");
    write_beside(&path, |out| writeln!(out, "{text}").map_err(Error::io(&path)))?;
    Ok(path)
}

/// That of the run that a checkpoint lies in, `None` if nobody measured. `fingerprint` is the checkpoint's model's.
///
/// # Errors
/// [`Error::Mismatch`] if it is of another checkpoint's model, else if the file cannot be read or says something else.
pub(crate) fn kept<T: Measured>(checkpoint: &Path, fingerprint: &str) -> Result<Option<T>> {
    let path = place::<T>(checkpoint)?;
    let bytes = match fs::read(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        other => other.map_err(Error::io(&path))?,
    };
    let found: T = serde_json::from_slice(&bytes)
        .map_err(|error| Error::file(&path, format!("does not say {}: {error}; {}", T::SAYS, again::<T>())))?;
    let (model, step) = found.model();
    if model == fingerprint {
        return Ok(Some(found));
    }
    let (path, here, again) = (path.display(), checkpoint.display(), again::<T>());
    let message = format!("{path}: is of another model (step {step} of its run) than that of {here}; {again}");
    Err(Error::Mismatch(message))
}

/// An error of what is kept for a checkpoint.
pub(crate) fn wrong<T: Measured>(checkpoint: &Path, message: impl std::fmt::Display) -> Error {
    let path = place::<T>(checkpoint).unwrap_or_else(|_| PathBuf::from(T::FILE));
    Error::file(&path, format!("{message}; {}", again::<T>()))
}

fn again<T: Measured>() -> String {
    format!("`{}` writes it anew", T::COMMAND)
}

/// The run's folder holds the checkpoint's, whichever of them was named, and from wherever.
fn place<T: Measured>(checkpoint: &Path) -> Result<PathBuf> {
    let checkpoint = checkpoint.canonicalize().map_err(Error::io(checkpoint))?;
    Ok(checkpoint.parent().unwrap_or(&checkpoint).join(T::FILE))
}
