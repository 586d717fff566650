//! How training goes down: the flags of the optimizer that both trainers share.

use clap::{Args, ValueEnum};

use super::require_within;
use crate::Result;
use crate::run::{AdamConfig, Clipping, Decay, Schedule};

/// Adam, its learning rate over time, and what is kept of the parameters.
#[derive(Args, Clone, Debug)]
pub struct OptimizerFlags {
    /// Adam's learning rate, at its highest.
    #[arg(long, default_value_t = 1e-3, value_name = "RATE")]
    learning_rate: f64,
    /// How it falls [default: cosine if one of the next two is given or in train-inverter, where the recipe is not workshop]
    #[arg(long, value_enum, value_name = "SHAPE")]
    schedule: Option<Shape>,
    /// Step from which on it stays at its last value, however many --steps there are; warm-up included; 0 is a constant rate
    /// [default: train-vae 300000, train-inverter 40000]
    #[arg(long, value_name = "STEPS")]
    decay_steps: Option<u64>,
    /// That last value [default: 0.00001]
    #[arg(long, value_name = "RATE")]
    final_learning_rate: Option<f64>,
    /// Steps in which it first rises along a line.
    #[arg(long, default_value_t = 0, value_name = "STEPS")]
    warmup_steps: u64,
    /// Decoupled weight decay (AdamW) of all but biases and norms: times the learning rate, the part lost at each step.
    #[arg(long, default_value_t = 0.0, value_name = "FACTOR")]
    weight_decay: f64,
    /// Test, save and synthesise with an exponential moving average of the parameters of this decay per step, such as 0.999;
    /// 0 for the parameters themselves.
    #[arg(long, default_value_t = 0.0, value_name = "DECAY")]
    ema: f64,
}

/// How a learning rate falls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Shape {
    /// Not at all.
    Constant,
    /// Along half a cosine.
    Cosine,
    /// By the same factor at each step.
    Exponential,
}

impl OptimizerFlags {
    /// Adam with this clipping.
    ///
    /// # Errors
    /// [`crate::Error::Config`] naming the flag that is out of range.
    pub fn adam(&self, clipping: Clipping) -> Result<AdamConfig> {
        require_within("--weight-decay", self.weight_decay, 0.0..=100.0)?;
        require_within("--ema", self.ema, 0.0..=0.999_999)?;
        Ok(AdamConfig { clipping, weight_decay: self.weight_decay, ema: self.ema, ..AdamConfig::default() })
    }

    /// The learning rate over time: of `usual` shape and decaying over `decay_steps` if no flag says otherwise. That the rate
    /// comes to its last value before `steps` is warned of.
    ///
    /// # Errors
    /// [`crate::Error::Config`] naming the flag that is out of range.
    pub fn schedule(&self, usual: Shape, decay_steps: u64, steps: u64) -> Result<Schedule> {
        let &Self { learning_rate: initial, warmup_steps, .. } = self;
        require_within("--learning-rate", initial, f64::MIN_POSITIVE..=10.0)?;
        let asked = self.decay_steps.is_some() || self.final_learning_rate.is_some();
        let shape = self.schedule.unwrap_or(if asked { Shape::Cosine } else { usual });
        let decay_steps = self.decay_steps.unwrap_or(decay_steps);
        let last = self.final_learning_rate.unwrap_or(1e-5);
        if shape == Shape::Constant && asked && self.decay_steps != Some(0) {
            tracing::warn!("--schedule constant has no use for --decay-steps and --final-learning-rate");
        }
        let (shape, last) = match shape {
            _ if shape == Shape::Constant || decay_steps == 0 => {
                return Ok(Schedule { warmup_steps, ..Schedule::constant(initial) });
            }
            Shape::Exponential => (Decay::Exponential, last),
            _ => (Decay::Cosine, last),
        };
        let least = if shape == Decay::Exponential { f64::MIN_POSITIVE } else { 0.0 };
        require_within("--final-learning-rate", last, least..=10.0)?;
        require_within("--warmup-steps", warmup_steps as f64, 0.0..=(decay_steps - 1) as f64)?;
        if decay_steps < steps {
            tracing::warn!(
                "from step {decay_steps} on the learning rate stays at {last}; a new LOGDIR can have a longer --decay-steps"
            );
        }
        Ok(Schedule { initial, last, decay_steps, warmup_steps, shape })
    }
}
