//! `train-inverter LOGDIR TRAIN_DIR TEST_DIR`: trains the CBHG that turns mel into linear spectrograms.

use std::process::ExitCode;

use clap::{Parser, ValueEnum};
use vae_workshop::Result;
use vae_workshop::cli;
use vae_workshop::cli::optimizer::{OptimizerFlags, Shape};
use vae_workshop::cli::train::TrainFlags;
use vae_workshop::data::{Augment, FeatureSet, PairDataset};
use vae_workshop::features::FeatureFile;
use vae_workshop::models::CbhgConfig;
use vae_workshop::run::{BatchConfig, Clipping, InverterRecipe, ModelConfig, Objective, RunConfig};
use vae_workshop::train::{InverterTask, bin_weights};

/// Train a CBHG network that turns log-mel into linear log-power spectrograms.
///
/// The run lives in LOGDIR and is continued if one is there. Watch it with `tensorboard --logdir LOGDIR`. Ctrl-C saves and exits.
#[derive(Parser)]
#[command(name = "train-inverter", version, args_override_self = true)]
struct Args {
    #[command(flatten)]
    run: TrainFlags,
    /// Training steps in total, earlier sessions included.
    #[arg(long, default_value_t = 40_000, value_name = "N")]
    steps: u64,
    /// Steps between checkpoints.
    #[arg(long, default_value_t = 1000, value_name = "STEPS", value_parser = clap::value_parser!(u64).range(1..))]
    save_every: u64,
    /// Sizes and recipe; single flags override.
    #[arg(long, value_enum, default_value_t = Preset::Default)]
    preset: Preset,
    /// What the network does [default: correction; workshop: workshop]
    #[arg(long, value_enum)]
    recipe: Option<Recipe>,
    /// Frames of a training crop; 0 trains on whole utterances, padded.
    #[arg(long, default_value_t = 128, value_name = "N")]
    crop_frames: usize,
    /// Crops or utterances per step [default: 32; tiny: 8]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=4096))]
    batch_size: Option<u32>,
    /// Widest filter of the convolution bank [default: 16; tiny: 4]
    #[arg(long, value_name = "N")]
    bank_size: Option<usize>,
    /// Channels of the convolutions and highway layers [default: 128; tiny: 32]
    #[arg(long, value_name = "N")]
    channels: Option<usize>,
    /// Highway layers.
    #[arg(long, default_value_t = 4, value_name = "N")]
    highway_layers: usize,
    /// GRU cells in each direction [default: 128; tiny: 64]
    #[arg(long, value_name = "N")]
    gru_cells: Option<usize>,
    /// Share of crops that are analysed anew, at another speed and level and between the frames. 0 for none, which the workshop
    /// recipe has, and features without `au` [default: 0.5]
    #[arg(long, value_name = "SHARE")]
    augment: Option<f64>,
    /// Up to so many semitones up or down: speed changes pitch and formants together [default: 3]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(..=12))]
    augment_semitones: Option<u32>,
    /// Up to so many decibels up or down [default: 6]
    #[arg(long, value_name = "DB")]
    augment_decibels: Option<f64>,
    /// In the loss a frequency f weighs 1 / (1 + f / HZ); 0 for even weights, which the workshop recipe has [default: 2000]
    #[arg(long, value_name = "HZ")]
    knee: Option<f64>,
    /// Bound on the gradient's norm: of all tensors together [default: 1], in the workshop recipe of each [0.001]
    #[arg(long, value_name = "NORM")]
    clip_norm: Option<f64>,
    #[command(flatten)]
    optimizer: OptimizerFlags,
}

/// Of the cosine: the default total, and never a session's own, so that a longer run begins as a shorter one does.
const DECAY_STEPS: u64 = 40_000;

/// Where the loss begins to weigh frequencies less, in hertz.
const KNEE: f64 = 2000.0;

#[derive(Clone, Copy, ValueEnum)]
enum Preset {
    /// Minutes on a laptop, for demos and tests.
    Tiny,
    /// The model of the README.
    Default,
    /// As the 2018 workshop trained it.
    Workshop,
}

#[derive(Clone, Copy, ValueEnum)]
enum Recipe {
    /// Standardised log-mels in, a correction to the KL mel inverse out.
    Correction,
    /// Raw log-mels in, the log spectrum itself out.
    Workshop,
}

impl Args {
    fn augment(&self, recipe: InverterRecipe, train: &FeatureSet) -> Result<Option<Augment>> {
        let share = match self.augment {
            Some(share) => share,
            None if recipe == InverterRecipe::Workshop => 0.0,
            None if FeatureFile::has_sound(&train.entries[0].path)? => 0.5,
            None => 0.0,
        };
        cli::require_within("--augment", share, 0.0..=1.0)?;
        let (semitones, decibels) = (self.augment_semitones.unwrap_or(3), self.augment_decibels.unwrap_or(6.0));
        cli::require_within("--augment-decibels", decibels, 0.0..=60.0)?;
        if share == 0.0 && (self.augment_semitones.is_some() || self.augment_decibels.is_some()) {
            tracing::warn!(
                "--augment-semitones and --augment-decibels change nothing where no crop is augmented: --augment is 0, as it is by \
                 default in the workshop recipe and for features without `au`"
            );
        }
        Ok((share > 0.0).then_some(Augment { share, semitones, decibels }))
    }
}

fn main() -> ExitCode {
    cli::run(|| {
        let (args, flags) = cli::config::parse::<Args>()?;
        let sets = args.run.open_sets("inverter")?;
        let features = sets.train.config();
        let (bank_size, channels, gru_cells, batch_size) = match args.preset {
            Preset::Tiny => (4, 32, 64, 8),
            Preset::Default | Preset::Workshop => (16, 128, 128, 32),
        };
        let recipe = match (args.recipe, args.preset) {
            (Some(Recipe::Workshop), _) | (None, Preset::Workshop) => InverterRecipe::Workshop,
            _ => InverterRecipe::Correction,
        };
        let model = CbhgConfig {
            n_mels: features.n_filterbank,
            bins: features.bins(),
            bank_size: args.bank_size.unwrap_or(bank_size),
            channels: args.channels.unwrap_or(channels),
            highway_layers: args.highway_layers,
            gru_cells: args.gru_cells.unwrap_or(gru_cells),
            small_output: recipe == InverterRecipe::Correction,
        };
        model.validate()?;
        args.clip_norm.map_or(Ok(()), |norm| cli::require_within("--clip-norm", norm, f64::MIN_POSITIVE..=1e9))?;
        let (clipping, usual) = match recipe {
            InverterRecipe::Workshop => (Clipping::TensorNorm(args.clip_norm.unwrap_or(1e-3)), Shape::Constant),
            InverterRecipe::Correction => (Clipping::GlobalNorm(args.clip_norm.unwrap_or(1.0)), Shape::Cosine),
        };
        let knee = args.knee.unwrap_or(if recipe == InverterRecipe::Workshop { 0.0 } else { KNEE });
        cli::require_within("--knee", knee, 0.0..=1e6)?;
        let knee = (knee > 0.0).then_some(knee);
        let size = args.batch_size.map_or(batch_size, |size| size as usize);
        let augment = args.augment(recipe, &sets.train)?;
        let batch = BatchConfig { size, frames: args.crop_frames, augment };
        let config = RunConfig {
            model: ModelConfig::Cbhg(model.clone()),
            objective: Objective::SpectrumL1 { recipe, knee },
            optimizer: args.optimizer.adam(clipping)?,
            schedule: args.optimizer.schedule(usual, DECAY_STEPS, args.steps)?,
            batch: batch.clone(),
            seed: args.run.seed,
            features: features.clone(),
            data: sets.train.identity(),
            test_data: Some(sets.test.identity()),
            origin: sets.origin.clone(),
        };
        args.run.train::<InverterTask>(
            &flags,
            args.steps,
            args.save_every,
            sets.standardizer.clone(),
            config,
            |config, device| {
                let standardizer = (recipe == InverterRecipe::Correction).then_some(&sets.standardizer);
                let mut room = args.run.room();
                let train = PairDataset::load(&sets.train, standardizer, &mut room)?;
                let train = match augment {
                    Some(augment) => train.augmented(&sets.train, augment, config.seed)?,
                    None => train,
                };
                let test = PairDataset::load(&sets.test, standardizer, &mut room)?;
                let fresh = model.init(config.seed, &device.clone().autodiff());
                let task = InverterTask::new(train, test, &batch, bin_weights(features, knee), config.seed, device)?;
                Ok((fresh, task))
            },
        )
    })
}
