//! `synth COMMAND`: reconstruct, vocode, sample, traverse, encode, decode, inspect.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use ndarray::{Array2, ArrayView2};
use vae_workshop::cli;
use vae_workshop::cli::train::DeviceFlags;
use vae_workshop::dsp::phase::{Phase, PhaseConfig};
use vae_workshop::features::{FeatureConfig, FeatureExtractor, FeatureFile, Features};
use vae_workshop::picture::{PictureConfig, write_comparison_png};
use vae_workshop::synth::{
    Codes, VaeCodec, Vocoder, VocoderConfig, band_correlation, describe, find_inputs, read_features, require_ending,
};
use vae_workshop::{Error, Result, device};

/// Make sound with a trained VAE and a trained inverter.
///
/// IN is a .wav, .ogg or .feat.npz file or a folder of them; for a folder, OUT is a folder too.
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Encode, decode and vocode: what the VAE keeps of a sound.
    Reconstruct {
        #[command(flatten)]
        vae: VaeFlag,
        #[command(flatten)]
        sound: SoundFlags,
        input: PathBuf,
        output: PathBuf,
    },
    /// Mel to linear to wave, without a VAE: what the inverter keeps of a sound.
    Vocode {
        #[command(flatten)]
        sound: SoundFlags,
        input: PathBuf,
        output: PathBuf,
    },
    /// Draw codes from the prior.
    Sample {
        #[command(flatten)]
        vae: VaeFlag,
        #[command(flatten)]
        sound: SoundFlags,
        /// Length of the sound.
        #[arg(long, default_value_t = 3.0)]
        seconds: f64,
        output: PathBuf,
    },
    /// One latent moved through a range, the others as in IN: one sound a step.
    Traverse {
        #[command(flatten)]
        vae: VaeFlag,
        #[command(flatten)]
        sound: SoundFlags,
        /// Which latent, from 0.
        #[arg(long, value_name = "K")]
        latent: usize,
        /// First and last value.
        #[arg(long, default_value = "-3,3", value_name = "FROM,TO", allow_hyphen_values = true, value_delimiter = ',')]
        range: Vec<f32>,
        /// Number of values.
        #[arg(long, default_value_t = 7, value_name = "N")]
        steps: usize,
        input: PathBuf,
        out_dir: PathBuf,
    },
    /// Write the codes of a sound, to edit them in numpy.
    Encode {
        #[command(flatten)]
        vae: VaeFlag,
        #[command(flatten)]
        compute: DeviceFlags,
        input: PathBuf,
        codes: PathBuf,
    },
    /// Turn a codes file into sound.
    Decode {
        #[command(flatten)]
        vae: VaeFlag,
        #[command(flatten)]
        sound: SoundFlags,
        codes: PathBuf,
        output: PathBuf,
    },
    /// Say what a run, a feature file or a codes file is.
    Inspect { path: PathBuf },
}

#[derive(Args)]
struct VaeFlag {
    /// Run of train-vae (its newest checkpoint is used), or one of its step-N folders.
    #[arg(long, value_name = "DIR")]
    vae: PathBuf,
}

#[derive(Args)]
struct SoundFlags {
    /// Run of train-inverter, or one of its step-N folders; `none` uses the KL mel inverse.
    #[arg(long, value_name = "DIR|none", default_value = "none")]
    inverter: PathBuf,
    /// How phases are found: pghi-fast, fast-griffin-lim, pghi, griffin-lim or workshop (the original recipe).
    #[arg(long, default_value_t = Phase::PghiFast, value_name = "RECIPE")]
    phase: Phase,
    /// Iterations of Griffin-Lim [default: 50]
    #[arg(long, value_name = "N")]
    iterations: Option<usize>,
    /// Seed of random phases and samples.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Log power is multiplied by this before phases are found [default: 1.2 with a network, 1 without]
    #[arg(long, value_name = "FACTOR")]
    emphasis: Option<f32>,
    /// Scale the sound to this peak instead of the source's level (1 is full scale).
    #[arg(long, value_name = "PEAK")]
    peak: Option<f32>,
    /// Also write a picture beside each sound: the input if there is one, what was decoded, what sounds.
    #[arg(long)]
    png: bool,
    #[command(flatten)]
    compute: DeviceFlags,
}

fn main() -> ExitCode {
    let args = Cli::parse();
    cli::run(|| run(args.command))
}

fn run(command: Command) -> Result<ExitCode> {
    match command {
        Command::Reconstruct { vae, sound, input, output } => {
            let (codec, vocoder) = sound.open_with(&vae)?;
            for_each(&input, &output, "wav", |input, output| {
                let features = read_features(input, codec.features(), codec.path())?;
                let codes = codec.encode(features.logmel.view(), features.meta.gain);
                let decoded = codec.decode(&codes)?;
                let heard = sound.write(&vocoder, input, output, &decoded, codes.meta.gain, Some(&features))?;
                report(output, &features.logmel, &[("decoded", decoded.view()), ("sound", heard.view())]);
                Ok(())
            })
        }
        Command::Vocode { sound, input, output } => {
            sound.validate()?;
            device::limit_threads(sound.compute.threads)?;
            let open = (!sound.is_none()).then(|| sound.open()).transpose()?;
            for_each(&input, &output, "wav", |input, output| {
                // Without a network there is no run to say how features are made: a feature file says it itself.
                let vocoder = match &open {
                    Some(vocoder) => vocoder,
                    None => &Vocoder::without_network(&own_config(input)?, sound.config())?,
                };
                let features = read_features(input, vocoder.features(), &sound.inverter)?;
                let heard =
                    sound.write(vocoder, input, output, &features.logmel, features.meta.gain, Some(&features))?;
                report(output, &features.logmel, &[("sound", heard.view())]);
                Ok(())
            })
        }
        Command::Sample { vae, sound, seconds, output } => {
            cli::require_within("--seconds", seconds, 0.02..=3600.0)?;
            require_ending(&output, "wav")?;
            let (codec, vocoder) = sound.open_with(&vae)?;
            let config = codec.features();
            let frames = (seconds * f64::from(config.sample_rate) / config.hop_size as f64).round() as usize + 1;
            let decoded = codec.decode(&codec.sample(frames, sound.seed))?;
            let quiet = SoundFlags { peak: sound.peak.or(Some(0.9)), ..sound }; // no source, so no level to restore
            let vocoder = vocoder.with_config(quiet.config());
            quiet.write(&vocoder, &output, &output, &decoded, 1.0, None)?;
            cli::say(format_args!("{}: {seconds} s from the prior", output.display()));
            Ok(ExitCode::SUCCESS)
        }
        Command::Traverse { vae, sound, latent, range, steps, input, out_dir } => {
            let [from, to] = range[..] else {
                return Err(Error::Config("--range takes two numbers, as --range=-3,3".into()));
            };
            for end in [from, to] {
                cli::require_within("--range", f64::from(end), -100.0..=100.0)?;
            }
            cli::require_within("--steps", steps as f64, 1.0..=1000.0)?;
            let (codec, vocoder) = sound.open_with(&vae)?;
            cli::require_within("--latent", latent as f64, 0.0..=(codec.latents() - 1) as f64)?;
            let features = read_features(&input, codec.features(), codec.path())?;
            let codes = codec.encode(features.logmel.view(), features.meta.gain);
            for step in 0..steps {
                let value = from + (to - from) * step as f32 / (steps - 1).max(1) as f32;
                let mut moved = codes.clone();
                moved.mean.column_mut(latent).fill(value);
                let output = out_dir.join(format!("latent-{latent:02}_{step:02}_{value:+.2}.wav"));
                sound.write(&vocoder, &input, &output, &codec.decode(&moved)?, codes.meta.gain, Some(&features))?;
                cli::say(output.display());
            }
            Ok(ExitCode::SUCCESS)
        }
        Command::Encode { vae, compute, input, codes } => {
            device::limit_threads(compute.threads)?;
            let codec = VaeCodec::open(&vae.vae, &device::open(compute.device)?.device)?;
            for_each(&input, &codes, "codes.npz", |input, output| {
                let features = read_features(input, codec.features(), codec.path())?;
                let found = codec.encode(features.logmel.view(), features.meta.gain);
                cli::create_parent(output)?;
                found.write(output)?;
                let (segments, latents) = found.mean.dim();
                cli::say(format_args!("{}: {segments} segments of {latents} latents", output.display()));
                Ok(())
            })
        }
        Command::Decode { vae, sound, codes, output } => {
            require_ending(&output, "wav")?;
            let (codec, vocoder) = sound.open_with(&vae)?;
            let found = Codes::read(&codes)?;
            sound.write(&vocoder, &codes, &output, &codec.decode(&found)?, found.meta.gain, None)?;
            cli::say(output.display());
            Ok(ExitCode::SUCCESS)
        }
        Command::Inspect { path } => {
            cli::say(describe(&path)?.trim_end());
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// Works on every input. Where there are many, one that fails is reported and the others go on; the exit status tells.
fn for_each(
    input: &Path,
    output: &Path,
    ending: &str,
    mut work: impl FnMut(&Path, &Path) -> Result<()>,
) -> Result<ExitCode> {
    let pairs = find_inputs(input, output, ending)?;
    if let [(input, output)] = &pairs[..] {
        return work(input, output).map(|()| ExitCode::SUCCESS);
    }
    let failed = pairs.iter().filter(|(input, output)| work(input, output).inspect_err(cli::complain).is_err()).count();
    Ok(match failed {
        0 => ExitCode::SUCCESS,
        _ if failed == pairs.len() => ExitCode::FAILURE,
        _ => ExitCode::from(cli::EXIT_SOME_FAILED),
    })
}

impl SoundFlags {
    fn is_none(&self) -> bool {
        self.inverter.as_os_str() == "none"
    }

    fn config(&self) -> VocoderConfig {
        let recipe = self.phase.config(self.seed);
        let iterations = self.iterations.unwrap_or(recipe.iterations);
        VocoderConfig { phase: PhaseConfig { iterations, ..recipe }, emphasis: self.emphasis, peak: self.peak }
    }

    fn validate(&self) -> Result<()> {
        self.emphasis.map_or(Ok(()), |value| cli::require_within("--emphasis", f64::from(value), 0.1..=4.0))?;
        self.peak.map_or(Ok(()), |value| cli::require_within("--peak", f64::from(value), 0.001..=1.0))?;
        self.iterations.map_or(Ok(()), |count| cli::require_within("--iterations", count as f64, 0.0..=10_000.0))
    }

    fn open(&self) -> Result<Vocoder> {
        Vocoder::open(&self.inverter, self.config(), &device::open(self.compute.device)?.device)
    }

    /// The VAE and a vocoder for its features.
    fn open_with(&self, vae: &VaeFlag) -> Result<(VaeCodec, Vocoder)> {
        self.validate()?;
        device::limit_threads(self.compute.threads)?;
        let device = device::open(self.compute.device)?.device;
        let codec = VaeCodec::open(&vae.vae, &device)?;
        let vocoder = if self.is_none() {
            Vocoder::without_network(codec.features(), self.config())?
        } else {
            Vocoder::open(&self.inverter, self.config(), &device)?
        };
        vocoder.require(codec.features(), &self.inverter, codec.path())?;
        Ok((codec, vocoder))
    }

    /// Writes the sound of a log-mel spectrogram, and its picture if asked for; gives the log-mel of what sounds. `input` is
    /// what an error is about.
    fn write(
        &self,
        vocoder: &Vocoder,
        input: &Path,
        output: &Path,
        logmel: &Array2<f32>,
        gain: f64,
        source: Option<&Features>,
    ) -> Result<Array2<f32>> {
        let sound = vocoder.sound(logmel.view(), gain).map_err(|error| Error::file(input, error))?;
        cli::create_parent(output)?;
        sound.write(output)?;
        let as_is = FeatureConfig { trim_silence_db: None, ..vocoder.features().clone() };
        let heard = FeatureExtractor::new(as_is)?.extract(&sound)?.logmel;
        if self.png {
            let panels: Vec<ArrayView2<f32>> = source
                .map(|features| features.logmel.view())
                .into_iter()
                .chain([logmel.view(), heard.view()])
                .collect();
            write_comparison_png(&output.with_extension("png"), &panels, &PictureConfig::default())?;
        }
        Ok(heard)
    }
}

/// The feature configuration of a feature file, the default one for audio.
fn own_config(input: &Path) -> Result<FeatureConfig> {
    if input.extension().is_some_and(|extension| extension == "npz") {
        return Ok(FeatureFile::read_meta(input)?.config);
    }
    Ok(FeatureConfig::default())
}

/// Says how much of the input's spectrogram is found again.
fn report(output: &Path, input: &Array2<f32>, found: &[(&str, ArrayView2<f32>)]) {
    let shares: Vec<String> =
        found.iter().map(|(name, logmel)| format!("{name} {:.3}", band_correlation(input.view(), *logmel))).collect();
    cli::say(format_args!("{}: log-mel correlation with the input: {}", output.display(), shares.join(", ")));
}
