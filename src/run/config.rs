//! Everything that makes a run what it is. Two runs with equal configurations, data and device are the same run.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::data::{Augment, DataIdentity};
use crate::features::FeatureConfig;
use crate::models::{CbhgConfig, ConvVaeConfig, LstmVaeConfig, VaeConfig};
use crate::objectives::{Factor, Regularizer};

/// A run's identity. The total of steps, the device, logging and saving are free and not part of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunConfig {
    /// The network.
    pub model: ModelConfig,
    /// What is minimised.
    pub objective: Objective,
    /// How it is minimised.
    pub optimizer: AdamConfig,
    /// The learning rate.
    pub schedule: Schedule,
    /// What makes a step.
    pub batch: BatchConfig,
    /// Of parameters, order and noise.
    pub seed: u64,
    /// How the features of both data sets were made.
    pub features: FeatureConfig,
    /// What is trained on.
    pub data: DataIdentity,
    /// What is tested on; runs of earlier versions do not say.
    #[serde(default)]
    pub test_data: Option<DataIdentity>,
    /// Where the first parameters come from, if not from the seed.
    #[serde(default)]
    pub origin: Option<Origin>,
}

/// The checkpoint that a run began from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// The run or checkpoint folder, as it was named.
    pub run: PathBuf,
    /// Its finished steps.
    pub step: u64,
    /// SHA-256 of its `model.safetensors`, in hexadecimal.
    pub sha256: String,
}

/// Which network, and its sizes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "architecture", rename_all = "kebab-case")]
pub enum ModelConfig {
    /// The convolutional VAE.
    ConvVae(ConvVaeConfig),
    /// The recurrent VAE.
    LstmVae(LstmVaeConfig),
    /// The inverter.
    Cbhg(CbhgConfig),
}

impl ModelConfig {
    /// For people: what a run of this model is called.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::ConvVae(_) | Self::LstmVae(_) => "VAE",
            Self::Cbhg(_) => "inverter",
        }
    }

    /// The VAE's configuration, of either architecture, if this is one.
    pub fn vae(&self) -> Option<VaeConfig> {
        match self {
            Self::ConvVae(config) => Some(VaeConfig::Conv(config.clone())),
            Self::LstmVae(config) => Some(VaeConfig::Lstm(config.clone())),
            Self::Cbhg(_) => None,
        }
    }
}

impl From<VaeConfig> for ModelConfig {
    fn from(config: VaeConfig) -> Self {
        match config {
            VaeConfig::Conv(config) => Self::ConvVae(config),
            VaeConfig::Lstm(config) => Self::LstmVae(config),
        }
    }
}

/// What is minimised.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "objective", rename_all = "kebab-case")]
pub enum Objective {
    /// Negative log-likelihood plus `beta` times the KL divergence, or what else is asked of the latents.
    BetaVae(BetaVae),
    /// Mean absolute error of the log spectrum.
    SpectrumL1 {
        /// What the network is given and asked for.
        recipe: InverterRecipe,
        /// A bin at `f` hertz weighs `1 / (1 + f / knee)`, times what makes the mean weight 1: hearing resolves low frequencies
        /// better. `None`: all weigh the same.
        #[serde(default)]
        knee: Option<f64>,
    },
}

/// The objective of Higgins et al. 2017, eq. 4, the forms it comes in, and what others put in the divergence's place. What a run
/// file of an earlier version does not say is as [`BetaVae::new`] has it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BetaVae {
    /// Weight of the KL divergence, or of what [`regularizer`](Self::regularizer) has in its place.
    pub beta: f64,
    /// Steps over which the weights of all that is asked of the latents grow from 0 along a line, in training; what is reported has
    /// them whole from the beginning.
    #[serde(default)]
    pub kl_warmup_steps: u64,
    /// How the divergence is computed.
    #[serde(default)]
    pub kl: KlForm,
    /// Weight of [`mean_half_squared_norm`](crate::models::mean_half_squared_norm) of the model; 0 for none.
    #[serde(default)]
    pub l2: f64,
    /// What the network is given.
    #[serde(default)]
    pub input: InputScale,
    /// What is asked of the latents.
    #[serde(default, skip_serializing_if = "Regularizer::is_beta")]
    pub regularizer: Regularizer,
}

impl BetaVae {
    /// Standardised input, analytic divergence, no penalty.
    pub fn new(beta: f64) -> Self {
        let (kl, input, regularizer) = (KlForm::default(), InputScale::default(), Regularizer::Beta);
        Self { beta, kl_warmup_steps: 0, kl, l2: 0.0, input, regularizer }
    }

    /// As the 2018 workshop trained: log-mels divided by 100, single-sample divergence, an L2 penalty of weight 1e-4.
    pub fn workshop(beta: f64) -> Self {
        Self { kl: KlForm::SingleSample, l2: 1e-4, input: InputScale::Hundredth, ..Self::new(beta) }
    }

    /// The share that step `step`, counted from 0, has of every weight (Bowman et al. 2016, section 3.1, by a line).
    pub fn share(&self, step: u64) -> f64 {
        if step < self.kl_warmup_steps { step as f64 / self.kl_warmup_steps as f64 } else { 1.0 }
    }

    /// Whether step `step` minimises something else than the last one will.
    pub fn grows(&self, step: u64) -> bool {
        step < self.kl_warmup_steps.max(self.regularizer.grows_until())
    }

    /// FactorVAE's part, if there is one.
    pub fn factor(&self) -> Option<&Factor> {
        match &self.regularizer {
            Regularizer::Factor(factor) => Some(factor),
            _ => None,
        }
    }
}

/// How the divergence of the posterior from the standard normal is computed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum KlForm {
    /// Its closed form.
    #[default]
    Analytic,
    /// The difference of log-densities at the sample that the decoder is given: right on average, noisier.
    SingleSample,
}

/// What the VAE's network is given for a log-mel value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum InputScale {
    /// The value less its band's mean, over one standard deviation, of the training set.
    #[default]
    Standardized,
    /// The value divided by 100.
    Hundredth,
}

/// What the inverter's network is given and asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum InverterRecipe {
    /// Standardised log-mels in; a correction to the KL mel inverse out. Its name in run files is not that of 0.1.0, whose
    /// inverse took what was clipped for power that was there.
    #[serde(rename = "correction-2")]
    Correction,
    /// Raw log-mels in; the log spectrum itself out.
    Workshop,
}

/// Adam (Kingma & Ba 2015) and gradient clipping.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AdamConfig {
    /// Decay per step of the mean of gradients.
    pub beta1: f64,
    /// Decay per step of the mean of their squares.
    pub beta2: f64,
    /// Added to the square root of the mean of squares.
    pub epsilon: f64,
    /// What is done to long gradients first.
    pub clipping: Clipping,
    /// Times the learning rate, the part by which each step shrinks the weights (Loshchilov & Hutter 2019, algorithm 2); biases
    /// and the parameters of norms are left as they are.
    #[serde(default)]
    pub weight_decay: f64,
    /// Decay per step of the mean of the parameters themselves, which is then what a run's model is; 0 for none.
    #[serde(default)]
    pub ema: f64,
}

impl Default for AdamConfig {
    /// The paper's values; no clipping, no weight decay, no mean of the parameters.
    fn default() -> Self {
        Self { beta1: 0.9, beta2: 0.999, epsilon: 1e-8, clipping: Clipping::None, weight_decay: 0.0, ema: 0.0 }
    }
}

impl AdamConfig {
    /// The part of the way to the parameters of `steps` finished steps that their mean goes: `1 - ema`, and more than that at
    /// first, so that where it began is soon forgotten.
    ///
    /// # Reference
    /// `tf.train.ExponentialMovingAverage` with `num_updates`: the decay is at most `(1 + steps) / (10 + steps)`.
    pub fn share(&self, steps: u64) -> f64 {
        let steps = steps as f64;
        1.0 - self.ema.min((1.0 + steps) / (10.0 + steps))
    }
}

/// Bound on the Euclidean norm of gradients.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Clipping {
    /// Gradients as they are.
    None,
    /// Of all gradients together.
    GlobalNorm(f64),
    /// Of each tensor's gradient.
    TensorNorm(f64),
}

/// Learning rate over time: up a line to `initial`, down a curve to `last`, and `last` from then on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Schedule {
    /// The highest rate: that of step `warmup_steps`, counted from 0.
    pub initial: f64,
    /// Rate after `decay_steps` steps and for ever.
    pub last: f64,
    /// When the rate is at its last, warm-up included. 0: constant at `initial`.
    pub decay_steps: u64,
    /// Steps of a lower rate at the beginning.
    #[serde(default)]
    pub warmup_steps: u64,
    /// The curve.
    #[serde(default)]
    pub shape: Decay,
}

/// The curve on which a learning rate falls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Decay {
    /// Half a cosine (Loshchilov & Hutter 2017, eq. 5, without restarts).
    #[default]
    Cosine,
    /// The same factor at each step.
    Exponential,
}

impl Schedule {
    /// The same rate for ever.
    pub fn constant(rate: f64) -> Self {
        Self { initial: rate, last: rate, decay_steps: 0, warmup_steps: 0, shape: Decay::Cosine }
    }

    /// Half a cosine from `initial` to `last`.
    pub fn cosine(initial: f64, last: f64, decay_steps: u64) -> Self {
        Self { last, decay_steps, ..Self::constant(initial) }
    }

    /// The rate of step `step`, counted from 0.
    pub fn rate(&self, step: u64) -> f64 {
        let &Self { initial, last, decay_steps, warmup_steps, shape } = self;
        if step < warmup_steps {
            return initial * (step + 1) as f64 / (warmup_steps + 1) as f64;
        }
        if decay_steps == 0 {
            return initial;
        }
        if step >= decay_steps {
            return last;
        }
        let gone = (step - warmup_steps) as f64 / (decay_steps - warmup_steps) as f64;
        match shape {
            Decay::Cosine => last + 0.5 * (initial - last) * (1.0 + (std::f64::consts::PI * gone).cos()),
            Decay::Exponential => initial * (last / initial).powf(gone),
        }
    }
}

/// How many items make a step, and how long they are.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BatchConfig {
    /// Items of a step.
    pub size: usize,
    /// Frames of an item; 0 is the whole utterance.
    pub frames: usize,
    /// How items are changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub augment: Option<Augment>,
}

impl RunConfig {
    /// Why parameters of a run of this configuration would mean something else in one of the `other`: each difference in the
    /// network, in what it is given and in the features, as [`differences`](Self::differences) has them.
    pub fn network_differences(&self, other: &RunConfig) -> Vec<String> {
        let parts = ["model.", "features.", "objective.objective:", "objective.input:", "objective.recipe:"];
        let mut found = self.differences(other);
        found.retain(|difference| parts.iter().any(|part| difference.starts_with(part)));
        found
    }

    /// Every value that differs, as `name: here / there`. Test data that one of them does not say is no difference.
    pub fn differences(&self, other: &RunConfig) -> Vec<String> {
        let test_known = self.test_data.is_some() && other.test_data.is_some();
        let json = |config: &RunConfig| {
            let test_data = config.test_data.clone().filter(|_| test_known);
            let mut schedule = config.schedule.clone();
            if schedule.decay_steps == 0 {
                schedule.last = schedule.initial; // never come to; runs of earlier versions may say another
            }
            serde_json::to_value(RunConfig { test_data, schedule, ..config.clone() })
                .expect("a configuration is plain data")
        };
        let mut found = Vec::new();
        compare("", &json(self), &json(other), &mut found);
        found
    }
}

/// The values below `value` that are no objects, each by its names with dots between them.
pub(crate) fn leaves(value: &Value) -> Vec<(String, &Value)> {
    let Value::Object(parts) = value else { return vec![(String::new(), value)] };
    let below = |(key, part): (&String, _)| {
        let join = |name: String| if name.is_empty() { key.clone() } else { format!("{key}.{name}") };
        leaves(part).into_iter().map(|(name, value)| (join(name), value)).collect::<Vec<_>>()
    };
    parts.iter().flat_map(below).collect()
}

fn compare(name: &str, one: &Value, other: &Value, found: &mut Vec<String>) {
    if let (Value::Object(a), Value::Object(b)) = (one, other) {
        let keys: std::collections::BTreeSet<&String> = a.keys().chain(b.keys()).collect();
        for key in keys {
            let name = if name.is_empty() { key.clone() } else { format!("{name}.{key}") };
            compare(&name, a.get(key).unwrap_or(&Value::Null), b.get(key).unwrap_or(&Value::Null), found);
        }
    } else if one != other {
        found.push(format!("{name}: {one} / {other}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cosine_begins_at_the_initial_rate_and_stays_at_the_last() {
        let schedule = Schedule::cosine(1e-3, 1e-5, 100);
        assert_eq!(schedule.rate(0), 1e-3);
        assert!((schedule.rate(50) - 0.5 * (1e-3 + 1e-5)).abs() < 1e-12);
        assert_eq!((schedule.rate(100), schedule.rate(5000)), (1e-5, 1e-5));
        assert_eq!(Schedule::constant(0.5).rate(7), 0.5);
    }

    #[test]
    fn a_warm_up_rises_by_equal_steps_to_where_the_decay_begins() {
        let schedule = Schedule { warmup_steps: 4, ..Schedule::cosine(1e-3, 1e-5, 104) };
        for step in 0..=4 {
            assert!((schedule.rate(step) - 2e-4 * (step + 1) as f64).abs() < 1e-15);
        }
        let whole = Schedule::cosine(1e-3, 1e-5, 100);
        assert!((5..200).all(|step| schedule.rate(step) == whole.rate(step - 4)));
        let constant = Schedule { warmup_steps: 1, ..Schedule::constant(0.5) };
        assert_eq!([0, 1, 2, 1000].map(|step| constant.rate(step)), [0.25, 0.5, 0.5, 0.5]);
    }

    #[test]
    fn an_exponential_decay_has_the_same_factor_at_each_step() {
        let schedule = Schedule { shape: Decay::Exponential, ..Schedule::cosine(1e-2, 1e-4, 200) };
        assert!((schedule.rate(100) - 1e-3).abs() < 1e-15, "half way the geometric mean");
        let factor = 0.01f64.powf(1.0 / 200.0);
        assert!((0..200).all(|step| (schedule.rate(step + 1) / schedule.rate(step) - factor).abs() < 1e-12));
        assert_eq!((schedule.rate(200), schedule.rate(10_000)), (1e-4, 1e-4));
    }

    #[test]
    fn the_weight_of_the_divergence_grows_by_equal_steps_from_nothing() {
        let objective = BetaVae { kl_warmup_steps: 4, ..BetaVae::new(8.0) };
        assert_eq!([0, 1, 2, 3, 4, 5000].map(|step| objective.share(step)), [0.0, 0.25, 0.5, 0.75, 1.0, 1.0]);
        assert_eq!(BetaVae::new(8.0).share(0), 1.0);
        let old: BetaVae = serde_json::from_str(r#"{"beta":8.0}"#).unwrap();
        assert_eq!(old, BetaVae::new(8.0));
    }

    #[test]
    fn what_an_older_run_file_does_not_say_is_as_it_was() {
        let old: Schedule = serde_json::from_str(r#"{"initial":0.001,"last":0.00001,"decay_steps":40000}"#).unwrap();
        assert_eq!(old, Schedule::cosine(1e-3, 1e-5, 40_000));
        let old = r#"{"beta1":0.9,"beta2":0.999,"epsilon":1e-8,"clipping":"none"}"#;
        assert_eq!(serde_json::from_str::<AdamConfig>(old).unwrap(), AdamConfig::default());
    }

    #[test]
    fn a_mean_of_parameters_follows_fast_at_first_and_by_its_decay_later() {
        let config = AdamConfig { ema: 0.99, ..AdamConfig::default() };
        assert_eq!(config.share(1), 1.0 - 2.0 / 11.0);
        assert_eq!(config.share(90), 1.0 - 0.91);
        assert_eq!(config.share(100_000), 1.0 - 0.99);
    }
}
