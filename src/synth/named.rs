//! What a run's latents were found to mean: `latents.json`, beside its checkpoints.
//!
//! `evaluate latents --name` writes it ([`crate::metrics::latents::naming`]), `synth inspect` shows it, `synth edit --pitch`
//! and the like move by it ([`steer`](super::steer()), [`pursue`](super::pursue()). It is of one checkpoint's model, and of no other.

use std::fmt;
use std::path::{Path, PathBuf};

use ndarray::Array2;
use serde::{Deserialize, Serialize};

use crate::Result;
use crate::run::{Measured, keep, kept, wrong};

/// Share of a variance that must be explained for a name to be given, or for a quality to be held.
pub const EVIDENT: f64 = 0.3;

/// What can be heard of speech, and asked for by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Quality {
    /// Pitch, in semitones.
    Pitch,
    /// Power in the mel bands, in decibels.
    Loudness,
    /// Slope of the mean spectrum, in decibels an octave.
    Tilt,
    /// Share of the frames that have a voice.
    Voicing,
}

impl Quality {
    /// All, in order.
    pub const ALL: [Self; 4] = [Self::Pitch, Self::Loudness, Self::Tilt, Self::Voicing];

    /// As in flags and files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pitch => "pitch",
            Self::Loudness => "loudness",
            Self::Tilt => "tilt",
            Self::Voicing => "voicing",
        }
    }

    /// As behind a number; voicing has none.
    pub fn unit(self) -> &'static str {
        match self {
            Self::Pitch => "st",
            Self::Loudness => "dB",
            Self::Tilt => "dB/octave",
            Self::Voicing => "",
        }
    }
}

/// What a latent stands for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Name {
    /// Which latent, from 0.
    pub latent: usize,
    /// What it changes, as "pitch".
    pub name: String,
    /// The unit of that, as "st"; may be empty.
    pub unit: String,
    /// By how many units that changes for a step of 1 in the latent, as one line through all segments has it.
    pub per_unit: f64,
    /// Share of that one's variance which the latent explains by itself.
    pub r2: f64,
}

/// A quality as a linear function of all latents.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Slope {
    /// Of what.
    pub quality: Quality,
    /// By how many units it changes with each latent; 0 of those that are not in use.
    pub weights: Vec<f64>,
    /// Share of the variance that is explained on segments which it was not learned from.
    pub r2: f64,
}

/// What the latents of one checkpoint's model mean.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Meanings {
    /// SHA-256 of the VAE's parameters, in hexadecimal.
    pub vae: String,
    /// Step of the checkpoint.
    pub step: u64,
    /// Where the features were.
    pub features: String,
    /// How many segments were looked at.
    pub segments: usize,
    /// Where the names come from: a table's path, or `audio`.
    pub factors_from: String,
    /// What was measured of all together, by name; empty in files of earlier versions. `None` is undefined.
    #[serde(default)]
    pub scores: Vec<(String, Option<f64>)>,
    /// Latents that stand for something by themselves, in order.
    pub names: Vec<Name>,
    /// What all together tell; a quality that no segment has is left out.
    pub slopes: Vec<Slope>,
    /// Covariance of the codes of all segments, `[latents, latents]`; 0 of latents that are not in use.
    pub covariance: Vec<Vec<f64>>,
}

impl Measured for Meanings {
    const FILE: &str = "latents.json";
    const SAYS: &str = "what latents mean";
    const COMMAND: &str = "evaluate latents --vae RUN FEATURES --name";

    fn model(&self) -> (&str, u64) {
        (&self.vae, self.step)
    }
}

impl Meanings {
    /// Writes them into the run that the checkpoint folder lies in, and says where. What was there is replaced.
    ///
    /// # Errors
    /// [`Error::Io`](crate::Error::Io) if it cannot be written.
    pub fn write(&self, checkpoint: &Path) -> Result<PathBuf> {
        keep(self, checkpoint)
    }

    /// Those of the run that a checkpoint lies in, `None` if nobody looked for any. `fingerprint` and `latents` are its model's.
    ///
    /// # Errors
    /// [`Error::Mismatch`](crate::Error::Mismatch) if they are of another checkpoint's model, else if the file cannot be read or is
    /// damaged.
    pub fn read(checkpoint: &Path, fingerprint: &str, latents: usize) -> Result<Option<Self>> {
        let Some(found) = kept::<Self>(checkpoint, fingerprint)? else { return Ok(None) };
        let wrong = |message: String| wrong::<Self>(checkpoint, message);
        let slopes = &found.slopes;
        if let Some(slope) = slopes.iter().find(|slope| slope.weights.len() != latents) {
            let (name, count) = (slope.quality.name(), slope.weights.len());
            return Err(wrong(format!("{name} has {count} weights, the VAE {latents} latents")));
        }
        let rows = &found.covariance;
        if rows.len() != latents || rows.iter().any(|row| row.len() != latents) {
            return Err(wrong(format!("has a covariance of {} rows, the VAE {latents} latents", rows.len())));
        }
        let twice = |(at, slope): (usize, &Slope)| slopes[..at].iter().any(|other| other.quality == slope.quality);
        if slopes.iter().enumerate().any(twice) || found.names.iter().any(|name| name.latent >= latents) {
            return Err(wrong(format!("names a quality twice, or a latent beyond {}", latents - 1)));
        }
        Ok(Some(found))
    }

    /// [`covariance`](Self::covariance) as an array.
    ///
    /// # Panics
    /// If its rows differ in length, which [`read`](Self::read) refuses.
    pub fn covariance(&self) -> Array2<f64> {
        let count = self.covariance.len();
        Array2::from_shape_vec((count, count), self.covariance.concat()).expect("as many columns as rows")
    }

    /// What all latents together say of a quality.
    pub fn slope(&self, quality: Quality) -> Option<&Slope> {
        self.slopes.iter().find(|slope| slope.quality == quality)
    }

    /// The names as lines, and one of what can be asked for.
    pub fn lines(&self) -> Vec<String> {
        let mut lines: Vec<String> = self.names.iter().map(Name::to_string).collect();
        if lines.is_empty() {
            lines.push("no latent stands for one thing by itself".into());
        }
        let told: Vec<String> =
            self.slopes.iter().map(|slope| format!("{} {:.2}", slope.quality.name(), slope.r2.max(0.0))).collect();
        if !told.is_empty() {
            lines.push(format!("all together tell (R2): {}", told.join(", ")));
        }
        lines
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let Self { latent, name, unit, per_unit, r2 } = self;
        let unit = if unit.is_empty() { String::new() } else { format!(" {unit}") };
        write!(f, "z{latent}: {name}, R2 {r2:.2}, about {per_unit:+.2}{unit} per unit")
    }
}
