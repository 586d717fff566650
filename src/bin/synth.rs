//! `synth COMMAND`: reconstruct, vocode, sample, traverse, edit, attribute, interpolate, morph, encode, decode, predict, export, inspect.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use vae_workshop::cli;
use vae_workshop::cli::attribute::AttributeFlags;
use vae_workshop::cli::latents::{EditFlags, InterpolateFlags, MorphFlags, require_latent};
use vae_workshop::cli::synth::{Made, PathFlags, SoundFlags, Studio, VaeFlag, for_each};
use vae_workshop::cli::train::DeviceFlags;
use vae_workshop::features::Frames;
use vae_workshop::run::Checkpoint;
use vae_workshop::synth::{
    Change, Codes, Edit, Item, Outputs, Predictor, PriorConfig, Shape, Stream, VaeCodec, Vocoder, band_correlation,
    describe, draw_beside, own_config, plan_together, read_features, render, require_ending, stream_features,
};
use vae_workshop::{Error, Result};

/// Make sound with a trained VAE and a trained inverter.
///
/// IN is a .wav, .ogg, .flac, .mp3 or .feat.npz file or a folder of them. A file named as OUT is replaced if it is there; in a
/// folder OUT nothing is replaced without --overwrite.
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
        #[command(flatten)]
        paths: PathFlags,
    },
    /// Mel to linear to wave, without a VAE: what the inverter keeps of a sound.
    Vocode {
        #[command(flatten)]
        sound: SoundFlags,
        #[command(flatten)]
        paths: PathFlags,
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
        /// Seconds in which codes change; 0 draws each on its own, without transitions as speech has them.
        #[arg(long, default_value_t = PriorConfig::default().smoothness, value_name = "SECONDS")]
        smoothness: f64,
        /// Scale of the codes: less than 1 is nearer to the average sound, more is stranger.
        #[arg(long, default_value_t = PriorConfig::default().temperature, value_name = "SCALE")]
        temperature: f64,
        /// A .wav file, which is replaced if it is there.
        #[arg(value_name = "OUT")]
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
        /// A .wav, .ogg, .flac, .mp3 or .feat.npz file, or a folder of them.
        #[arg(value_name = "IN")]
        input: PathBuf,
        /// Folder for the sounds; if IN is a folder, each input has a folder of its own in it.
        #[arg(value_name = "OUT_DIR")]
        out_dir: PathBuf,
        /// Replace files that exist in OUT_DIR.
        #[arg(long)]
        overwrite: bool,
    },
    /// Latents set or moved, or qualities asked for by name: the sound of IN with other codes.
    ///
    /// For --pitch, --loudness, --tilt and --voicing the codes move by what `evaluate latents --name` found: the likeliest way
    /// that does it, and so that the others of the four stay as they are where that is possible. What came of it is measured
    /// against the same sound without the move, aimed anew as often as six times, and printed beside what was asked. Latents
    /// are set and added to after it.
    Edit(EditFlags),
    /// What sets the sounds of one folder apart from those of another, given to IN: the difference of their mean codes.
    Attribute(AttributeFlags),
    /// Sounds between A and B, from the reconstruction of the one to that of the other. Each is as long as its part of the
    /// way demands; codes are resampled in time.
    Interpolate(InterpolateFlags),
    /// One sound that begins as A and ends as B, as long as the longer; the other one's codes are resampled in time.
    Morph(MorphFlags),
    /// Write the codes of a sound, to edit them in numpy.
    Encode {
        #[command(flatten)]
        vae: VaeFlag,
        #[command(flatten)]
        compute: DeviceFlags,
        #[command(flatten)]
        paths: PathFlags,
    },
    /// Turn a codes file into sound.
    Decode {
        #[command(flatten)]
        vae: VaeFlag,
        #[command(flatten)]
        sound: SoundFlags,
        /// A file that encode wrote.
        #[arg(value_name = "CODES")]
        codes: PathBuf,
        /// A .wav file, which is replaced if it is there.
        #[arg(value_name = "OUT")]
        output: PathBuf,
    },
    /// Write what a model makes of a sound as arrays [frames, ..] for numpy: logmel, and of a VAE the mean and scale of each
    /// segment's latents and decoded, of an inverter network (what it puts out) and logspec (the linear spectrum that sounds).
    Predict {
        /// Run of train-vae or train-inverter, or one of its step-N folders.
        run: PathBuf,
        #[command(flatten)]
        compute: DeviceFlags,
        #[command(flatten)]
        paths: PathFlags,
    },
    /// Write a model for PyTorch: names and layouts that load_state_dict takes, the run's description as metadata. See
    /// examples/torch_models.py.
    Export {
        /// Run of train-vae or train-inverter, or one of its step-N folders.
        run: PathBuf,
        /// A .safetensors file, which is replaced if it is there.
        #[arg(value_name = "OUT")]
        output: PathBuf,
    },
    /// Say what a run, a feature file or a codes file is.
    Inspect {
        /// The LOGDIR of a run or one of its step-N folders, a .feat.npz file, or a codes file.
        path: PathBuf,
    },
}

fn main() -> ExitCode {
    let args = Cli::parse();
    cli::run(|| run(args.command))
}

fn run(command: Command) -> Result<ExitCode> {
    match command {
        Command::Reconstruct { vae, sound, paths } => reconstruct(&vae, &sound, &paths),
        Command::Vocode { sound, paths } => vocode(&sound, &paths),
        Command::Sample { vae, sound, seconds, smoothness, temperature, output } => {
            sample(&vae, sound, seconds, &PriorConfig { smoothness, temperature }, &output)
        }
        Command::Traverse { vae, sound, latent, range, steps, input, out_dir, overwrite } => {
            let paths = PathFlags { input, output: out_dir, overwrite };
            traverse(&vae, &sound, latent, &values(&range, steps)?, &paths)
        }
        Command::Edit(edit) => edit.run(),
        Command::Attribute(attribute) => attribute.run(),
        Command::Interpolate(interpolate) => interpolate.run(),
        Command::Morph(morph) => morph.run(),
        Command::Encode { vae, compute, paths } => encode(&vae, &compute, &paths),
        Command::Decode { vae, sound, codes, output } => decode(&vae, &sound, &codes, &output),
        Command::Predict { run, compute, paths } => predict(&run, &compute, &paths),
        Command::Export { run, output } => export(&run, &output),
        Command::Inspect { path } => {
            cli::say(describe(&path)?.trim_end());
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn reconstruct(vae: &VaeFlag, sound: &SoundFlags, paths: &PathFlags) -> Result<ExitCode> {
    sound.validate()?;
    let plan = paths.plan(Shape::File("wav"), sound.png)?;
    let studio = Studio::open(sound, vae)?;
    for_each(&plan, |Item { input, output }| {
        let source = read_features(input, studio.codec.features(), studio.codec.path())?;
        let codes = studio.codec.encode(source.logmel.view(), source.meta.gain);
        let Made { decoded, heard } = studio.make(&codes, &[&source.logmel], input, output)?;
        report(output, &source.logmel, &[("decoded", &decoded), ("sound", &*heard)])
    })
}

fn vocode(sound: &SoundFlags, paths: &PathFlags) -> Result<ExitCode> {
    sound.validate()?;
    let plan = paths.plan(Shape::File("wav"), sound.png)?;
    let inverter = sound.open()?;
    for_each(&plan, |Item { input, output }| {
        // Without a network there is no run to say how features are made: a feature file says it itself.
        let vocoder = match &inverter {
            Some(vocoder) => vocoder,
            None if sound.is_exact() => &Vocoder::exact(&own_config(input)?, sound.config())?,
            None => &Vocoder::without_network(&own_config(input)?, sound.config())?,
        };
        let Stream { logmel, logspec, meta } =
            stream_features(input, vocoder.features(), &sound.inverter, sound.is_exact())?;
        let heard = render(vocoder, &**logspec.as_ref().unwrap_or(&logmel), meta.gain, input, output)?;
        if sound.png {
            draw_beside(output, &[&*logmel, &heard])?;
        }
        report(output, &*logmel, &[("sound", &heard)])
    })
}

fn sample(vae: &VaeFlag, mut sound: SoundFlags, seconds: f64, prior: &PriorConfig, output: &Path) -> Result<ExitCode> {
    cli::require_within("--seconds", seconds, 0.02..=3600.0)?;
    prior.validate()?;
    sound.validate()?;
    plan_together(&[], output, &Outputs { shape: Shape::File("wav"), pictures: sound.png, overwrite: false })?;
    sound.peak = sound.peak.or(Some(0.9)); // no source, so no level to restore
    let studio = Studio::open(&sound, vae)?;
    let config = studio.codec.features();
    let frames = (seconds * f64::from(config.sample_rate) / config.hop_size as f64).round() as usize + 1;
    studio.make(&studio.codec.sample(frames, prior, sound.seed), &[], output, output)?;
    cli::say(format_args!("{}: {seconds} s from the prior", output.display()));
    Ok(ExitCode::SUCCESS)
}

/// The values that a latent takes one after the other.
fn values(range: &[f32], steps: usize) -> Result<Vec<f32>> {
    let [from, to] = *range else {
        return Err(Error::Config("--range takes two numbers, as --range=-3,3".into()));
    };
    for end in [from, to] {
        cli::require_within("--range", f64::from(end), -100.0..=100.0)?;
    }
    cli::require_within("--steps", steps as f64, 1.0..=1000.0)?;
    Ok((0..steps).map(|step| from + (to - from) * step as f32 / (steps - 1).max(1) as f32).collect())
}

fn traverse(vae: &VaeFlag, sound: &SoundFlags, latent: usize, values: &[f32], paths: &PathFlags) -> Result<ExitCode> {
    sound.validate()?;
    let name = |(step, value): (usize, &f32)| format!("latent-{latent:02}_{step:02}_{value:+.2}.wav");
    let names: Vec<String> = values.iter().enumerate().map(name).collect();
    let plan = paths.plan(Shape::Folder(names.clone()), sound.png)?;
    let studio = Studio::open(sound, vae)?;
    require_latent("--latent", latent, studio.codec.latents())?;
    for_each(&plan, |Item { input, output: folder }| {
        let source = read_features(input, studio.codec.features(), studio.codec.path())?;
        let mut codes = studio.codec.encode(source.logmel.view(), source.meta.gain);
        for (name, &value) in names.iter().zip(values) {
            let output = folder.join(name);
            Edit { latent, change: Change::Set(value) }.apply(&mut codes);
            studio.make(&codes, &[&source.logmel], input, &output)?;
            cli::say(output.display());
        }
        Ok(())
    })
}

fn encode(vae: &VaeFlag, compute: &DeviceFlags, paths: &PathFlags) -> Result<ExitCode> {
    let plan = paths.plan(Shape::File("codes.npz"), false)?;
    let codec = VaeCodec::open(&vae.vae, &compute.open()?)?;
    for_each(&plan, |Item { input, output }| {
        let source = read_features(input, codec.features(), codec.path())?;
        let codes = codec.encode(source.logmel.view(), source.meta.gain);
        codes.write(output)?;
        let (segments, latents) = codes.mean.dim();
        cli::say(format_args!("{}: {segments} segments of {latents} latents", output.display()));
        Ok(())
    })
}

fn decode(vae: &VaeFlag, sound: &SoundFlags, input: &Path, output: &Path) -> Result<ExitCode> {
    sound.validate()?;
    plan_together(&[input], output, &Outputs { shape: Shape::File("wav"), pictures: sound.png, overwrite: false })?;
    let codes = Codes::read(input)?;
    Studio::open(sound, vae)?.make(&codes, &[], input, output)?;
    cli::say(output.display());
    Ok(ExitCode::SUCCESS)
}

fn predict(run: &Path, compute: &DeviceFlags, paths: &PathFlags) -> Result<ExitCode> {
    let plan = paths.plan(Shape::File("npz"), false)?;
    let predictor = Predictor::open(run, &compute.open()?)?;
    for_each(&plan, |Item { input, output }| {
        let source = read_features(input, predictor.features(), run)?;
        predictor.write(&source, output)?;
        cli::say(output.display());
        Ok(())
    })
}

fn export(run: &Path, output: &Path) -> Result<ExitCode> {
    require_ending(output, "safetensors")?;
    let (checkpoint, _) = Checkpoint::with_model(run)?;
    checkpoint.export(output)?;
    cli::say(format_args!("{}: the model of {}", output.display(), checkpoint.path.display()));
    Ok(ExitCode::SUCCESS)
}

/// Says how much of the input's spectrogram is found again.
fn report(output: &Path, input: &dyn Frames, found: &[(&str, &dyn Frames)]) -> Result<()> {
    let share = |(name, logmel): &(&str, &dyn Frames)| Ok(format!("{name} {:.3}", band_correlation(input, *logmel)?));
    let shares = found.iter().map(share).collect::<Result<Vec<String>>>()?;
    cli::say(format_args!("{}: log-mel correlation with the input: {}", output.display(), shares.join(", ")));
    Ok(())
}
