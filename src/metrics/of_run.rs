//! How a run sounds: `audio.json`, beside its checkpoints.
//!
//! `evaluate audio --run` writes it, pages show it. Whether the sounds were made with the run is for the user to know.

use std::fs;
use std::io::Write;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::SoundMeasures;
use crate::beside::write_beside;
use crate::run::Checkpoint;
use crate::{Error, Result};

/// The file's name.
const FILE: &str = "audio.json";

/// What was measured of sounds that a run made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SoundOfRun {
    /// Step of the checkpoint at that time.
    pub step: u64,
    /// Where the references are.
    pub reference: String,
    /// Where the sounds are.
    pub output: String,
    /// How many were compared.
    pub files: usize,
    /// Their mean.
    pub mean: SoundMeasures,
}

impl SoundOfRun {
    /// Writes it into the folder of the checkpoint's run, in place of what was there.
    ///
    /// # Errors
    /// [`Error::Io`] if it cannot be written.
    pub fn write(&self, checkpoint: &Checkpoint) -> Result<()> {
        let path = checkpoint.run_folder()?.join(FILE);
        let text = serde_json::to_string_pretty(self).expect("numbers and names are plain data");
        write_beside(&path, |file| writeln!(file, "{text}").map_err(Error::io(&path)))
    }

    /// That of a run's folder, `None` if nobody measured.
    ///
    /// # Errors
    /// If the file cannot be read or says something else.
    pub fn read(run: &Path) -> Result<Option<Self>> {
        let path = run.join(FILE);
        let bytes = match fs::read(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            other => other.map_err(Error::io(&path))?,
        };
        let wrong = |error| {
            let fix = "`evaluate audio REF OUT --run RUN` writes it anew";
            Error::file(&path, format!("does not say how the run sounds: {error}; {fix}"))
        };
        serde_json::from_slice(&bytes).map(Some).map_err(wrong)
    }
}
