//! `synth edit`, `interpolate` and `morph`: codes are changed on the way from sound to sound.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;

use super::knobs::{KnobFlags, Knobs};
use super::synth::{PathFlags, SoundFlags, Studio, VaeFlag, for_each};
use super::{require_within, say};
use crate::synth::{
    Change, Codes, Edit, Item, Method, Outputs, Quality, Shape, Source, interpolate, morph, plan_together,
    read_features,
};
use crate::{Error, Result};

/// Latents of a sound changed.
#[derive(Args, Clone, Debug)]
pub struct EditFlags {
    #[command(flatten)]
    vae: VaeFlag,
    #[command(flatten)]
    sound: SoundFlags,
    /// Latent K, from 0, takes this value throughout; may be given for several latents.
    #[arg(long, value_name = "K=VALUE")]
    set: Vec<String>,
    /// This is added to latent K throughout; may be given for several latents.
    #[arg(long, value_name = "K=VALUE")]
    add: Vec<String>,
    #[command(flatten)]
    knobs: KnobFlags,
    #[command(flatten)]
    paths: PathFlags,
}

impl EditFlags {
    /// Makes the sounds.
    ///
    /// # Errors
    /// If a flag, a model or an only input cannot be used.
    pub fn run(&self) -> Result<ExitCode> {
        self.sound.validate()?;
        let (edits, asked) = (self.edits()?, self.knobs.asked()?);
        if edits.is_empty() && asked.is_empty() {
            let message =
                "nothing to change: give --set K=VALUE, --add K=VALUE, or --pitch, --loudness, --tilt, --voicing";
            return Err(Error::Config(message.into()));
        }
        if self.sound.peak.is_some() && asked.iter().any(|(quality, _)| *quality == Quality::Loudness) {
            return Err(Error::Config("--peak sets the level that --loudness moves: leave one of them out".into()));
        }
        let plan = self.paths.plan(Shape::File("wav"), self.sound.png)?;
        let studio = Studio::open(&self.sound, &self.vae)?;
        for edit in &edits {
            require_latent(flag(edit.change), edit.latent, studio.codec.latents())?;
        }
        let knobs = if asked.is_empty() { None } else { Some(Knobs::of(&studio.codec, asked)?) };
        let edit = |codes: &mut Codes| edits.iter().for_each(|edit| edit.apply(codes));
        for_each(&plan, |Item { input, output }| {
            let (source, mut codes) = encoded(&studio, input)?;
            let mut lines = vec![output.display().to_string()];
            match &knobs {
                // A latent that is set keeps its value.
                Some(knobs) => {
                    let (moved, became) =
                        knobs.turn(&studio, &codes, edit).map_err(|error| Error::file(input, error))?;
                    codes = moved;
                    lines.extend(became);
                }
                None => edit(&mut codes),
            }
            studio.make(&codes, &[&source.logmel], input, output)?;
            say(lines.join("\n")); // at once: other files are done beside it
            Ok(())
        })
    }

    /// What `--set` and `--add` say: one thing of each latent.
    fn edits(&self) -> Result<Vec<Edit>> {
        let set = self.set.iter().map(|text| parse(text, "--set", Change::Set));
        let add = self.add.iter().map(|text| parse(text, "--add", Change::Add));
        let edits: Vec<Edit> = set.chain(add).collect::<Result<_>>()?;
        for (index, edit) in edits.iter().enumerate() {
            if let Some(other) = edits[..index].iter().find(|other| other.latent == edit.latent) {
                let (one, two) = (flag(other.change), flag(edit.change));
                let message = format!("latent {} is given twice, by {one} and {two}: once is needed", edit.latent);
                return Err(Error::Config(message));
            }
        }
        Ok(edits)
    }
}

fn flag(change: Change) -> &'static str {
    match change {
        Change::Set(_) => "--set",
        Change::Add(_) => "--add",
    }
}

fn parse(text: &str, flag: &str, change: impl Fn(f32) -> Change) -> Result<Edit> {
    let parts = text
        .split_once('=')
        .and_then(|(latent, value)| Some((latent.trim().parse::<usize>().ok()?, value.trim().parse::<f32>().ok()?)));
    let Some((latent, value)) = parts else {
        return Err(Error::Config(format!("{flag} {text}: K=VALUE is needed, a latent and a number, as 5=-1.5")));
    };
    require_within(&format!("{flag} {text}: the value"), f64::from(value), -100.0..=100.0)?;
    Ok(Edit { latent, change: change(value) })
}

/// Refuses a latent that a VAE does not have.
///
/// # Errors
/// [`Error::Config`] naming the flag and the latents there are.
pub fn require_latent(flag: &str, latent: usize, latents: usize) -> Result<()> {
    if latent < latents {
        return Ok(());
    }
    Err(Error::Config(format!("{flag}: there is no latent {latent}; this VAE has latents 0 to {}", latents - 1)))
}

/// Two sounds and how one becomes the other.
#[derive(Args, Clone, Debug)]
struct PairFlags {
    #[command(flatten)]
    vae: VaeFlag,
    #[command(flatten)]
    sound: SoundFlags,
    /// The way between two codes: linear, or slerp (along the circle).
    #[arg(long, default_value_t = Method::Linear)]
    method: Method,
    /// A .wav, .ogg, .flac, .mp3 or .feat.npz file.
    a: PathBuf,
    /// Another.
    b: PathBuf,
}

impl PairFlags {
    /// The models and both sounds, once it is sure that they may become `out`.
    fn open(&self, out: &Path, shape: Shape, overwrite: bool) -> Result<(Studio, [(Source, Codes); 2])> {
        self.sound.validate()?;
        plan_together(&[&self.a, &self.b], out, &Outputs { shape, pictures: self.sound.png, overwrite })?;
        let studio = Studio::open(&self.sound, &self.vae)?;
        let both = [encoded(&studio, &self.a)?, encoded(&studio, &self.b)?];
        Ok((studio, both))
    }
}

/// Sounds between two.
#[derive(Args, Clone, Debug)]
pub struct InterpolateFlags {
    #[command(flatten)]
    pair: PairFlags,
    /// Folder for the sounds.
    #[arg(value_name = "OUT_DIR")]
    out_dir: PathBuf,
    /// Number of sounds, those of A and B included.
    #[arg(long, default_value_t = 7, value_name = "N")]
    steps: usize,
    /// Replace files that exist in OUT_DIR.
    #[arg(long)]
    overwrite: bool,
}

impl InterpolateFlags {
    /// Makes the sounds.
    ///
    /// # Errors
    /// If a flag, a model or an input cannot be used.
    pub fn run(&self) -> Result<ExitCode> {
        require_within("--steps", self.steps as f64, 2.0..=1000.0)?;
        let parts: Vec<f64> = (0..self.steps).map(|step| step as f64 / (self.steps - 1) as f64).collect();
        let name = |(step, part): (usize, &f64)| format!("interpolation_{step:03}_{part:.3}.wav");
        let names: Vec<String> = parts.iter().enumerate().map(name).collect();
        let (studio, [(a, codes_a), (b, codes_b)]) =
            self.pair.open(&self.out_dir, Shape::Folder(names.clone()), self.overwrite)?;
        for (name, &part) in names.iter().zip(&parts) {
            let (codes, output) = (interpolate(&codes_a, &codes_b, part, self.pair.method), self.out_dir.join(name));
            studio.make(&codes, &[&a.logmel, &b.logmel], &self.pair.a, &output)?;
            say(output.display());
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// A sound that turns into another.
#[derive(Args, Clone, Debug)]
pub struct MorphFlags {
    #[command(flatten)]
    pair: PairFlags,
    /// A .wav file, which is replaced if it is there.
    #[arg(value_name = "OUT")]
    output: PathBuf,
}

impl MorphFlags {
    /// Makes the sound.
    ///
    /// # Errors
    /// If a flag, a model or an input cannot be used.
    pub fn run(&self) -> Result<ExitCode> {
        let (studio, [(a, codes_a), (b, codes_b)]) = self.pair.open(&self.output, Shape::File("wav"), true)?;
        let codes = morph(&codes_a, &codes_b, self.pair.method);
        studio.make(&codes, &[&a.logmel, &b.logmel], &self.pair.a, &self.output)?;
        say(self.output.display());
        Ok(ExitCode::SUCCESS)
    }
}

/// A sound and its codes.
fn encoded(studio: &Studio, path: &Path) -> Result<(Source, Codes)> {
    let source = read_features(path, studio.codec.features(), studio.codec.path())?;
    // Said before anything is written, not at the end of an interpolation.
    if source.logmel.nrows() < 2 {
        return Err(Error::file(
            path,
            "has fewer than two frames, between which no sound lies: a longer one is needed",
        ));
    }
    let codes = studio.codec.encode(source.logmel.view(), source.meta.gain);
    Ok((source, codes))
}
