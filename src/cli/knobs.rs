//! `--pitch`, `--loudness`, `--tilt` and `--voicing` of `synth edit`: asked for by name, and measured afterwards.

use std::ops::RangeInclusive;

use clap::Args;
use ndarray::{Array1, Array2};
use tracing::subscriber::{NoSubscriber, with_default};

use super::require_within;
use super::synth::Studio;
use crate::metrics::latents::heard::Sounding;
use crate::synth::{Codes, EVIDENT, FURTHEST, Quality, Reached, Slope, VaeCodec, pursue, steer};
use crate::{Error, Result};

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

/// What is asked for, and how this VAE may come there.
pub struct Knobs {
    asked: Vec<(Quality, f64)>,
    slopes: Vec<Slope>,
    covariance: Array2<f64>,
}

impl Knobs {
    /// Those of this VAE. What it can only guess at, and moves beyond what it knows, are warned about.
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
        let covariance = meanings.covariance();
        let far = steer(&meanings.slopes, covariance.view(), &asked)?.far;
        if far > FURTHEST {
            tracing::warn!(
                "codes move by {far:.1} of their standard deviations, where {FURTHEST} leave nearly all behind: ask for less"
            );
        }
        Ok(Self { asked, slopes: meanings.slopes, covariance })
    }

    /// The codes moved and then changed by `finish`, and in lines what came of the move in the sound, beside the sound of codes
    /// that were only finished.
    ///
    /// # Errors
    /// If a sound cannot be made.
    pub fn turn(&self, studio: &Studio, codes: &Codes, finish: impl Fn(&mut Codes)) -> Result<(Codes, Vec<String>)> {
        let moved = |by: Option<&Array1<f64>>| {
            let mut moved = codes.clone();
            by.iter().for_each(|by| moved.mean += &by.mapv(|by| by as f32));
            finish(&mut moved);
            moved
        };
        let heard = |codes: &Codes| {
            // What is tried is not what is written: only of that warnings are of use.
            let sound = with_default(NoSubscriber::default(), || studio.sound(codes))?;
            Sounding::of(&sound, studio.codec.features())
        };
        let was = heard(&moved(None))?;
        let measure = |by: &Array1<f64>| Ok(was.change_to(&heard(&moved(Some(by)))?));
        let reached = pursue(&self.slopes, self.covariance.view(), &self.asked, measure)?;
        Ok((moved(Some(&reached.steering.by)), self.lines(&reached, was.has_voice())))
    }

    fn lines(&self, reached: &Reached, had_voice: bool) -> Vec<String> {
        let line = |quality: Quality| {
            let unit = if quality.unit().is_empty() { String::new() } else { format!(" {}", quality.unit()) };
            // What rounds to nothing has no sign.
            let got = reached.got[quality as usize].map(|got| if got.abs() < 5e-3 { 0.0 } else { got });
            let none = if had_voice { "no frame has a voice before and after" } else { "no voice is left by the VAE" };
            let got = got.map_or(format!("undefined ({none})"), |got| format!("{got:+.2}{unit}"));
            let asked = match self.asked.iter().find(|(asked, _)| *asked == quality) {
                Some((_, by)) => format!("asked {by:+.2}{unit}"),
                None if reached.steering.held.contains(&quality) => "to be held".into(),
                None => "left free".into(),
            };
            format!("  {}: {asked}, got {got}", quality.name())
        };
        let Reached { rounds, steering, .. } = reached;
        let furthest = if reached.is_furthest() { ", as far as they may" } else { "" };
        let tries = if *rounds == 1 { "try".to_string() } else { format!("of {rounds} tries") };
        let how = match steering.far {
            0.0 => format!("  codes not moved: none of {rounds} tries came nearer than that"),
            far => format!("  codes moved by {far:.1} of their deviations{furthest}, the best {tries}"),
        };
        Quality::ALL.into_iter().map(line).chain([how]).collect()
    }
}
