//! `train-vae LOGDIR TRAIN_DIR TEST_DIR`: trains a VAE, convolutional or recurrent, on extracted features.

use std::process::ExitCode;

use clap::{Parser, ValueEnum};
use vae_workshop::cli;
use vae_workshop::cli::objective::ObjectiveFlags;
use vae_workshop::cli::optimizer::{OptimizerFlags, Shape};
use vae_workshop::cli::train::TrainFlags;
use vae_workshop::data::{SegmentDataset, Standardizer};
use vae_workshop::features::FeatureConfig;
use vae_workshop::models::{ConvVaeConfig, LstmVaeConfig, Scale, VaeConfig};
use vae_workshop::run::{BatchConfig, BetaVae, Clipping, InputScale, Objective, RunConfig};
use vae_workshop::train::VaeTask;
use vae_workshop::{Error, Result};

/// Train a beta-VAE, or a VAE of another objective, on the log-mel spectrograms of TRAIN_DIR.
///
/// The run lives in LOGDIR and is continued if one is there. Watch it with `tensorboard --logdir LOGDIR`. Ctrl-C saves and exits.
#[derive(Parser)]
#[command(name = "train-vae", version, args_override_self = true)]
struct Args {
    #[command(flatten)]
    run: TrainFlags,
    /// Training steps in total, earlier sessions included.
    #[arg(long, default_value_t = 300_000, value_name = "N")]
    steps: u64,
    /// Steps between checkpoints.
    #[arg(long, default_value_t = 10_000, value_name = "STEPS", value_parser = clap::value_parser!(u64).range(1..))]
    save_every: u64,
    /// Sizes of model and batch, and the recipe; single flags override.
    #[arg(long, value_enum, default_value_t = Preset::Default)]
    preset: Preset,
    /// The network [default: conv; workshop: lstm]
    #[arg(long, value_enum)]
    arch: Option<Arch>,
    /// Segments per step [default: 128; tiny: 32]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=4096))]
    batch_size: Option<u32>,
    /// Latent dimensions [default: 32; tiny: 16]
    #[arg(long, value_name = "N")]
    latents: Option<usize>,
    /// With conv: channels of the three convolutions [default: 32,64,64; tiny: 16,32,32]
    #[arg(long, value_name = "A,B,C", value_parser = three)]
    channels: Option<[usize; 3]>,
    /// With conv: width of the fully connected layers [default: 256; tiny: 64]
    #[arg(long, value_name = "N")]
    hidden: Option<usize>,
    /// With lstm: cells on each side [default: 256; tiny: 64]
    #[arg(long, value_name = "N")]
    cells: Option<usize>,
    /// Frames in a segment; with conv a multiple of 4.
    #[arg(long, default_value_t = 20, value_name = "N")]
    segment_frames: usize,
    #[command(flatten)]
    objective: ObjectiveFlags,
    #[command(flatten)]
    optimizer: OptimizerFlags,
}

/// Of a decaying learning rate: the default total, and never a session's own, so that a longer run begins as a shorter one does.
const DECAY_STEPS: u64 = 300_000;

/// Weight of the KL divergence if no flag says otherwise.
const BETA: f64 = 8.0;

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Preset {
    /// Seconds on a laptop, for demos and tests.
    Tiny,
    /// The model of the README.
    Default,
    /// As the 2018 workshop trained: lstm, log-mels / 100, exponential scales, single-sample KL, L2 penalty.
    Workshop,
}

#[derive(Clone, Copy, ValueEnum)]
enum Arch {
    /// Convolutions over time and frequency.
    Conv,
    /// One recurrent layer that reads the segment's frames and one that writes them.
    Lstm,
}

impl Args {
    /// The network that the flags ask for.
    fn model(&self, n_mels: usize) -> Result<VaeConfig> {
        let tiny = self.preset == Preset::Tiny;
        let workshop = self.preset == Preset::Workshop;
        let segment_frames = self.segment_frames;
        let latents = self.latents.unwrap_or(if tiny { 16 } else { 32 });
        let fail = |message: &str| Err(Error::Config(message.into()));
        let model = match self.arch.unwrap_or(if workshop { Arch::Lstm } else { Arch::Conv }) {
            Arch::Conv if workshop => return fail("--preset workshop is a recipe of the lstm; leave out --arch conv"),
            Arch::Conv if self.cells.is_some() => {
                return fail("--cells is the lstm's; conv has --channels and --hidden");
            }
            Arch::Lstm if self.channels.is_some() || self.hidden.is_some() => {
                return fail("--channels and --hidden are the convolutional network's; the lstm has --cells");
            }
            Arch::Conv => {
                let (channels, hidden) = if tiny { ([16, 32, 32], 64) } else { ([32, 64, 64], 256) };
                VaeConfig::Conv(ConvVaeConfig {
                    segment_frames,
                    n_mels,
                    channels: self.channels.unwrap_or(channels),
                    hidden: self.hidden.unwrap_or(hidden),
                    latents,
                })
            }
            Arch::Lstm => VaeConfig::Lstm(LstmVaeConfig {
                segment_frames,
                n_mels,
                cells: self.cells.unwrap_or(if tiny { 64 } else { 256 }),
                latents,
                scale: if workshop { Scale::Exp } else { Scale::Softplus },
            }),
        };
        model.validate()?;
        Ok(model)
    }
}

/// Three numbers with commas between them.
fn three(text: &str) -> std::result::Result<[usize; 3], String> {
    let numbers: Option<Vec<usize>> = text.split(',').map(|number| number.trim().parse().ok()).collect();
    numbers.and_then(|numbers| numbers.try_into().ok()).ok_or_else(|| "three numbers are needed, as in 32,64,64".into())
}

fn main() -> ExitCode {
    cli::run(|| {
        let (args, flags) = cli::config::parse::<Args>()?;
        // Before the folders are read, which may take a while.
        let tiny = args.preset == Preset::Tiny;
        let batch_size = args.batch_size.map_or(if tiny { 32 } else { 128 }, |size| size as usize);
        let objective = match args.preset {
            Preset::Workshop => BetaVae::workshop(BETA),
            Preset::Tiny | Preset::Default => BetaVae::new(BETA),
        };
        let objective = args.objective.of(objective, tiny, batch_size)?;
        let optimizer = args.optimizer.adam(Clipping::None)?;
        let schedule = args.optimizer.schedule(Shape::Constant, DECAY_STEPS, args.steps)?;
        args.model(FeatureConfig::default().n_filterbank)?;
        let sets = args.run.open_sets("VAE")?;
        let n_mels = sets.train.config().n_filterbank;
        let model = args.model(n_mels)?;
        let standardizer = match objective.input {
            InputScale::Standardized => sets.standardizer,
            InputScale::Hundredth => Standardizer::dividing_by(100.0, n_mels),
        };
        let batch = BatchConfig { size: batch_size, frames: args.segment_frames, augment: None };
        let config = RunConfig {
            model: model.clone().into(),
            objective: Objective::BetaVae(objective.clone()),
            optimizer,
            schedule,
            batch: batch.clone(),
            seed: args.run.seed,
            features: sets.train.config().clone(),
            data: sets.train.identity(),
            test_data: Some(sets.test.identity()),
            origin: sets.origin.clone(),
        };
        args.run.train::<VaeTask>(
            &flags,
            args.steps,
            args.save_every,
            standardizer.clone(),
            config,
            |config, device| {
                let mut room = args.run.room();
                let train = SegmentDataset::load(&sets.train, &standardizer, batch.frames, &mut room)?;
                let test = SegmentDataset::load(&sets.test, &standardizer, batch.frames, &mut room)?;
                let short = sets.train.entries.len() + sets.test.entries.len() - train.files() - test.files();
                let left_out = match short {
                    0 => String::new(),
                    _ => format!("; {short} files are shorter than {} frames and left out", batch.frames),
                };
                let (of_train, of_test) = (train.items().len(), test.items().len());
                cli::say(format_args!("segments: {of_train} to train on, {of_test} to test on{left_out}"));
                let (seed, std) = (config.seed, standardizer.std);
                let fresh = model.init(seed, &device.clone().autodiff());
                let task = VaeTask::new(train, test, objective, batch.size, model.latents(), std, seed, device)?;
                Ok((fresh, task))
            },
        )
    })
}
