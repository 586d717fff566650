//! How a run sounds: `audio.json`, beside its checkpoints.
//!
//! `evaluate audio --run` writes it, pages show it. It is of one checkpoint's model, and of no other; whether the sounds were made
//! with that is for the user to know.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::SoundMeasures;
use crate::Result;
use crate::run::{Measured, keep, kept};

/// What was measured of sounds that a run made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SoundOfRun {
    /// SHA-256 of the model's parameters, in hexadecimal.
    pub model: String,
    /// Step of the checkpoint.
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

impl Measured for SoundOfRun {
    const FILE: &str = "audio.json";
    const SAYS: &str = "how the run sounds";
    const COMMAND: &str = "evaluate audio REF OUT --run RUN";

    fn model(&self) -> (&str, u64) {
        (&self.model, self.step)
    }
}

impl SoundOfRun {
    /// Writes it into the run that the checkpoint folder lies in, in place of what was there.
    ///
    /// # Errors
    /// [`Error::Io`](crate::Error::Io) if it cannot be written.
    pub fn write(&self, checkpoint: &Path) -> Result<()> {
        keep(self, checkpoint).map(drop)
    }

    /// That of the run that a checkpoint lies in, `None` if nobody measured. `fingerprint` is its model's.
    ///
    /// # Errors
    /// [`Error::Mismatch`](crate::Error::Mismatch) if it is of another checkpoint's model, else if the file cannot be read or is
    /// damaged.
    pub fn read(checkpoint: &Path, fingerprint: &str) -> Result<Option<Self>> {
        kept(checkpoint, fingerprint)
    }
}
