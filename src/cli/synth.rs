//! The flags of `synth`, the models that they name, and what is made with both.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use ndarray::Array2;
use rayon::prelude::*;

use super::train::DeviceFlags;
use super::{complain, require_within, status};
use crate::audio::Waveform;
use crate::dsp::phase::{Phase, PhaseConfig};
use crate::features::Frames;
use crate::synth::{Codes, Item, Outputs, Plan, Shape, VaeCodec, Vocoder, VocoderConfig, draw_beside, plan, render};
use crate::{Error, Result};

/// Which VAE.
#[derive(Args, Clone, Debug)]
pub struct VaeFlag {
    /// Run of train-vae (its newest checkpoint is used), or one of its step-N folders.
    #[arg(long, value_name = "DIR")]
    pub vae: PathBuf,
}

/// How spectrograms become sound.
#[derive(Args, Clone, Debug)]
pub struct SoundFlags {
    /// Run of train-inverter, or one of its step-N folders; `none` uses the KL mel inverse. With `exact`, vocode takes the
    /// linear spectrum itself, so that only the phases are found.
    #[arg(long, value_name = "DIR|none|exact", default_value = "none")]
    pub inverter: PathBuf,
    /// How phases are found: pghi-fast, fast-griffin-lim, pghi, griffin-lim or workshop (the original recipe).
    #[arg(long, default_value_t = Phase::PghiFast, value_name = "RECIPE")]
    pub phase: Phase,
    /// Iterations of Griffin-Lim [default: 100 with pghi-fast, else 50]
    #[arg(long, value_name = "N")]
    pub iterations: Option<usize>,
    /// Seed of random phases and samples.
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Log power is multiplied by this, and phases are found for that spectrum alone. By default the sound keeps to the mel bands
    /// (not with --inverter exact; with the workshop's recipe: 1.2)
    #[arg(long, value_name = "FACTOR")]
    pub emphasis: Option<f32>,
    /// Scale the sound to this peak instead of the source's level (1 is full scale).
    #[arg(long, value_name = "PEAK")]
    pub peak: Option<f32>,
    /// Also write a picture beside each sound: the input and what was decoded, where there are such, then what sounds.
    #[arg(long)]
    pub png: bool,
    /// Where to compute.
    #[command(flatten)]
    pub compute: DeviceFlags,
}

/// What is worked on and where it goes.
#[derive(Args, Clone, Debug)]
pub struct PathFlags {
    /// A .wav, .ogg, .flac, .mp3 or .feat.npz file, or a folder of them.
    #[arg(value_name = "IN")]
    pub input: PathBuf,
    /// For a file, a file, which is replaced if it is there; for a folder, a folder outside it.
    #[arg(value_name = "OUT")]
    pub output: PathBuf,
    /// Replace files that exist in the folder OUT.
    #[arg(long)]
    pub overwrite: bool,
}

impl PathFlags {
    /// Plans an output of this shape for each input.
    ///
    /// # Errors
    /// As [`plan()`].
    pub fn plan(&self, shape: Shape, pictures: bool) -> Result<Plan> {
        plan(&self.input, &self.output, &Outputs { shape, pictures, overwrite: self.overwrite })
    }
}

impl SoundFlags {
    /// Checks the numbers.
    ///
    /// # Errors
    /// [`crate::Error::Config`] naming the flag and its range.
    pub fn validate(&self) -> Result<()> {
        self.emphasis.map_or(Ok(()), |value| require_within("--emphasis", f64::from(value), 0.1..=4.0))?;
        self.peak.map_or(Ok(()), |value| require_within("--peak", f64::from(value), 0.001..=1.0))?;
        self.iterations.map_or(Ok(()), |count| require_within("--iterations", count as f64, 0.0..=10_000.0))
    }

    /// How log power becomes sound.
    pub fn config(&self) -> VocoderConfig {
        let recipe = self.phase.config(self.seed);
        let iterations = self.iterations.unwrap_or(recipe.iterations);
        VocoderConfig { phase: PhaseConfig { iterations, ..recipe }, emphasis: self.emphasis, peak: self.peak }
    }

    /// The inverter, `None` if there is to be none or the spectrum is exact.
    ///
    /// # Errors
    /// If the device or the inverter cannot be opened.
    pub fn open(&self) -> Result<Option<Vocoder>> {
        let device = self.compute.open()?; // also without a network: a device that is not there is a mistake
        (!self.is_none() && !self.is_exact()).then(|| Vocoder::open(&self.inverter, self.config(), &device)).transpose()
    }

    /// The VAE and a vocoder for its features.
    ///
    /// # Errors
    /// If the device, the VAE or the inverter cannot be opened, or the two were trained on different features.
    pub fn open_with(&self, vae: &VaeFlag) -> Result<(VaeCodec, Vocoder)> {
        if self.is_exact() {
            let message = "--inverter exact: a VAE decodes mel bands only; vocode alone has the linear spectrum";
            return Err(Error::Config(message.into()));
        }
        let device = self.compute.open()?;
        let codec = VaeCodec::open(&vae.vae, &device)?;
        let vocoder = if self.is_none() {
            Vocoder::without_network(codec.features(), self.config())?
        } else {
            Vocoder::open(&self.inverter, self.config(), &device)?
        };
        vocoder.require(codec.features(), &self.inverter, codec.path())?;
        Ok((codec, vocoder))
    }

    /// Whether the linear spectrum itself is vocoded.
    pub fn is_exact(&self) -> bool {
        self.inverter.as_os_str() == "exact"
    }

    fn is_none(&self) -> bool {
        self.inverter.as_os_str() == "none"
    }
}

/// A VAE and a vocoder that belong together.
pub struct Studio {
    /// Between log-mels and codes.
    pub codec: VaeCodec,
    vocoder: Vocoder,
    png: bool,
}

/// What was made of codes: log-mels `[frames, mels]`.
pub struct Made {
    /// By the VAE.
    pub decoded: Array2<f32>,
    /// Of what sounds.
    pub heard: Box<dyn Frames>,
}

impl Studio {
    /// Opens what the flags name.
    ///
    /// # Errors
    /// As [`SoundFlags::open_with`].
    pub fn open(sound: &SoundFlags, vae: &VaeFlag) -> Result<Self> {
        let (codec, vocoder) = sound.open_with(vae)?;
        Ok(Self { codec, vocoder, png: sound.png })
    }

    /// The sound of codes, as [`make`](Self::make) writes it.
    ///
    /// # Errors
    /// If the codes are of another model or have no sound.
    pub fn sound(&self, codes: &Codes) -> Result<Waveform> {
        self.vocoder.sound(self.codec.decode(codes)?.view(), codes.meta.gain)
    }

    /// Writes the sound of codes to `output` and, if asked for, a picture with `above` on top. `source` is what an error is
    /// about.
    ///
    /// # Errors
    /// If the codes are of another model or have no sound, or a file cannot be written.
    pub fn make(&self, codes: &Codes, above: &[&dyn Frames], source: &Path, output: &Path) -> Result<Made> {
        let decoded = self.codec.decode(codes).map_err(|error| Error::file(source, error))?;
        let heard = render(&self.vocoder, &decoded, codes.meta.gain, source, output)?;
        if self.png {
            draw_beside(output, &[above, &[&decoded, &heard]].concat())?;
        }
        Ok(Made { decoded, heard: Box::new(heard) })
    }
}

/// Works on every input, on as many at once as there are cores. Where there are many, one that fails is reported and the others go on;
/// the exit status tells.
///
/// # Errors
/// That of the only input.
pub fn for_each(plan: &Plan, work: impl Fn(&Item) -> Result<()> + Sync) -> Result<ExitCode> {
    if let ([item], []) = (&plan.items[..], &plan.unreadable[..]) {
        return work(item).map(|()| ExitCode::SUCCESS);
    }
    plan.unreadable.iter().for_each(complain);
    let done = plan.items.par_iter().filter(|item| work(item).inspect_err(complain).is_ok()).count();
    Ok(status(done, plan.items.len() - done + plan.unreadable.len()))
}
