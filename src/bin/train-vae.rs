//! `train-vae LOGDIR TRAIN_DIR TEST_DIR`: trains the convolutional beta-VAE on extracted features.

use std::process::ExitCode;

use clap::{Parser, ValueEnum};
use vae_workshop::cli;
use vae_workshop::cli::train::TrainFlags;
use vae_workshop::data::SegmentDataset;
use vae_workshop::models::ConvVaeConfig;
use vae_workshop::run::{AdamConfig, BatchConfig, ModelConfig, Objective, RunConfig, Schedule};
use vae_workshop::train::VaeTask;

/// Train a convolutional beta-VAE on the log-mel spectrograms of TRAIN_DIR.
///
/// The run lives in LOGDIR and is continued if one is there. Watch it with `tensorboard --logdir LOGDIR`. Ctrl-C saves and exits.
#[derive(Parser)]
#[command(version)]
struct Args {
    #[command(flatten)]
    run: TrainFlags,
    /// Training steps in total, earlier sessions included.
    #[arg(long, default_value_t = 300_000, value_name = "N")]
    steps: u64,
    /// Steps between checkpoints.
    #[arg(long, default_value_t = 10_000, value_name = "STEPS", value_parser = clap::value_parser!(u64).range(1..))]
    save_every: u64,
    /// Sizes of model and batch; single flags override.
    #[arg(long, value_enum, default_value_t = Preset::Default)]
    preset: Preset,
    /// Segments per step [default: 128; tiny: 32]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    batch_size: Option<u32>,
    /// Latent dimensions [default: 32; tiny: 16]
    #[arg(long, value_name = "N")]
    latents: Option<usize>,
    /// Channels of the three convolutions [default: 32,64,64; tiny: 16,32,32]
    #[arg(long, value_name = "A,B,C", value_delimiter = ',', num_args = 3)]
    channels: Option<Vec<usize>>,
    /// Width of the fully connected layers [default: 256; tiny: 64]
    #[arg(long, value_name = "N")]
    hidden: Option<usize>,
    /// Frames in a segment; a multiple of 4.
    #[arg(long, default_value_t = 20, value_name = "N")]
    segment_frames: usize,
    /// Weight of the KL divergence.
    #[arg(long, default_value_t = 8.0)]
    beta: f64,
    /// Adam's learning rate.
    #[arg(long, default_value_t = 1e-3)]
    learning_rate: f64,
}

#[derive(Clone, Copy, ValueEnum)]
enum Preset {
    /// Seconds on a laptop, for demos and tests.
    Tiny,
    /// The model of the README.
    Default,
}

fn main() -> ExitCode {
    let args = Args::parse();
    cli::run(|| {
        let sets = args.run.open_sets()?;
        let (channels, hidden, latents, batch_size) = match args.preset {
            Preset::Tiny => ([16, 32, 32], 64, 16, 32),
            Preset::Default => ([32, 64, 64], 256, 32, 128),
        };
        let model = ConvVaeConfig {
            segment_frames: args.segment_frames,
            n_mels: sets.train.config().n_filterbank,
            channels: args.channels.as_deref().map_or(channels, |list| [list[0], list[1], list[2]]),
            hidden: args.hidden.unwrap_or(hidden),
            latents: args.latents.unwrap_or(latents),
        };
        model.validate()?;
        cli::require_positive("--learning-rate", args.learning_rate)?;
        cli::require_not_negative("--beta", args.beta)?;
        let batch =
            BatchConfig { size: args.batch_size.map_or(batch_size, |size| size as usize), frames: args.segment_frames };
        let config = RunConfig {
            model: ModelConfig::ConvVae(model.clone()),
            objective: Objective::BetaVae { beta: args.beta },
            optimizer: AdamConfig::default(),
            schedule: Schedule::constant(args.learning_rate),
            batch: batch.clone(),
            seed: args.run.seed,
            features: sets.train.config().clone(),
            data: sets.train.identity(),
        };
        let standardizer = &sets.standardizer;
        args.run.train::<VaeTask>(
            args.steps,
            args.save_every,
            standardizer.clone(),
            |_| config,
            |config, device| {
                let train = SegmentDataset::load(&sets.train, standardizer, batch.frames)?;
                let test = SegmentDataset::load(&sets.test, standardizer, batch.frames)?;
                println!("segments: {} to train on, {} to test on", train.items().len(), test.items().len());
                let (seed, std) = (config.seed, standardizer.std);
                let fresh = model.init(seed, &device.clone().autodiff());
                let task = VaeTask::new(train, test, args.beta, batch.size, model.latents, std, seed, device);
                Ok((fresh, task))
            },
        )
    })
}
