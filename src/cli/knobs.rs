//! `--pitch`, `--loudness`, `--tilt` and `--voicing` of `synth edit`: asked for by name, and measured afterwards.

use std::ops::RangeInclusive;
use std::path::Path;

use clap::Args;

use super::require_within;
use super::synth::Studio;
use crate::audio::Waveform;
use crate::metrics::latents::heard::of_sound;
use crate::synth::{Codes, EVIDENT, Quality, Steering, VaeCodec, steer};
use crate::{Error, Result};

/// The prior's standard deviation is 1: a code that moves by more is likely to leave all that the decoder knows.
const FAR: f64 = 6.0;

/// What is asked of a sound by name; as latents.json of the VAE's run has it, which `evaluate latents --name` writes.
#[derive(Args, Clone, Debug)]
pub struct KnobFlags {
    /// Pitch moves by so many semitones, as +2st.
    #[arg(long, value_name = "+Nst", allow_hyphen_values = true)]
    pitch: Option<String>,
    /// Loudness moves by so many decibels, as -3dB.
    #[arg(long, value_name = "+NdB", allow_hyphen_values = true)]
    loudness: Option<String>,
    /// The spectrum's slope moves by so many decibels an octave, as +2dB: brighter.
    #[arg(long, value_name = "+NdB", allow_hyphen_values = true)]
    tilt: Option<String>,
    /// The share of frames that have a voice moves by so much, as +0.2.
    #[arg(long, value_name = "+N", allow_hyphen_values = true)]
    voicing: Option<String>,
}

impl KnobFlags {
    /// What is asked for, in order.
    ///
    /// # Errors
    /// [`Error::Config`] naming the flag and what is needed.
    pub fn asked(&self) -> Result<Vec<(Quality, f64)>> {
        let texts = [&self.pitch, &self.loudness, &self.tilt, &self.voicing];
        let given = Quality::ALL.into_iter().zip(texts).filter_map(|(quality, text)| Some((quality, text.as_ref()?)));
        given.map(|(quality, text)| Ok((quality, parse(quality, text)?))).collect()
    }
}

/// How a quality is asked for: the unit, an example, and how far it may go.
fn terms(quality: Quality) -> (&'static str, &'static str, RangeInclusive<f64>) {
    match quality {
        Quality::Pitch => ("st", "semitones as +2st", -36.0..=36.0),
        Quality::Loudness => ("dB", "decibels as -3dB", -60.0..=60.0),
        Quality::Tilt => ("dB", "decibels an octave as +2dB", -30.0..=30.0),
        Quality::Voicing => ("", "a share of the frames as +0.2", -1.0..=1.0),
    }
}

fn parse(quality: Quality, text: &str) -> Result<f64> {
    let (unit, needed, range) = terms(quality);
    let flag = format!("--{} {text}", quality.name());
    // `inf` and `1e3` are numbers to Rust, hardly to whoever types a pitch.
    let plain = |number: &&str| number.chars().all(|char| char.is_ascii_digit() || "+-.".contains(char));
    let number = text.strip_suffix(unit).map(str::trim).filter(plain).and_then(|number| number.parse::<f64>().ok());
    let Some(by) = number else {
        let hertz = quality == Quality::Pitch && text.to_lowercase().ends_with("hz");
        let why = if hertz { "; so many Hz are another interval at every pitch" } else { "" };
        return Err(Error::Config(format!("{flag}: give {needed}{why}")));
    };
    require_within(&format!("{flag}: the value"), by, range)?;
    Ok(by)
}

/// A move that was asked for.
pub struct Knobs {
    asked: Vec<(Quality, f64)>,
    steering: Steering,
}

impl Knobs {
    /// The move for this VAE. What it can only guess at, and moves beyond what it knows, are warned about.
    ///
    /// # Errors
    /// If nobody looked for what its latents mean, what was found is of another model, or has no such quality.
    pub fn of(codec: &VaeCodec, asked: Vec<(Quality, f64)>) -> Result<Self> {
        let run = codec.path();
        let write = format!("`evaluate latents --vae {} FEATURES --name`", run.display());
        let Some(meanings) = codec.meanings()? else {
            let flags = asked.iter().map(|(quality, _)| format!("--{}", quality.name())).collect::<Vec<_>>().join(", ");
            return Err(Error::file(
                run,
                format!("nobody looked for what its latents mean, by which {flags} moves; {write} does"),
            ));
        };
        for (quality, _) in &asked {
            let name = quality.name();
            let Some(slope) = meanings.slope(*quality) else {
                let message = format!(
                    "was named by features that tell no {name}; {write} with features that have the sound and enough of it"
                );
                return Err(Error::file(run, message));
            };
            if slope.r2 < EVIDENT {
                let r2 = slope.r2;
                tracing::warn!("{}: its latents hardly tell {name} (R2 {r2:.2}): expect little", run.display());
            }
        }
        let steering = steer(&meanings.slopes, &asked)?;
        let far = steering.by.dot(&steering.by).sqrt();
        if far > FAR {
            tracing::warn!("codes move by {far:.1}, where most lie within {FAR} of each other: ask for less");
        }
        Ok(Self { asked, steering })
    }

    /// Moves the codes.
    pub fn turn(&self, codes: &mut Codes) {
        codes.mean += &self.steering.by.mapv(|by| by as f32);
    }

    /// What became of it, in lines: the sound that was written, beside that of the codes `before`.
    ///
    /// # Errors
    /// If the sound cannot be made or read.
    pub fn report(&self, studio: &Studio, before: &Codes, written: &Path) -> Result<Vec<String>> {
        let config = studio.codec.features();
        let [was, is] = [studio.sound(before)?, Waveform::read(written)?].map(|sound| of_sound(&sound, config));
        let (was, is) = (was?, is?);
        let line = |(index, quality): (usize, Quality)| {
            let unit = if quality.unit().is_empty() { String::new() } else { format!(" {}", quality.unit()) };
            // What rounds to nothing has no sign.
            let got =
                was[index].zip(is[index]).map(|(was, is)| is - was).map(|got| if got.abs() < 5e-3 { 0.0 } else { got });
            let got = got.map_or("undefined (no voice)".to_string(), |got| format!("{got:+.2}{unit}"));
            let asked = match self.asked.iter().find(|(asked, _)| *asked == quality) {
                Some((_, by)) => format!("asked {by:+.2}{unit}"),
                None if self.steering.held.contains(&quality) => "to be held".into(),
                None => "left free".into(),
            };
            format!("  {}: {asked}, got {got}", quality.name())
        };
        Ok(Quality::ALL.into_iter().enumerate().map(line).collect())
    }
}
