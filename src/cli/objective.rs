//! What a VAE is trained for: the flags of `train-vae` that say it.

use clap::{Args, ValueEnum};

use super::require_within;
use crate::models::DiscriminatorConfig;
use crate::objectives::{BetaTc, Capacity, Dip, DipKind, Factor, Regularizer, Sampling};
use crate::run::BetaVae;
use crate::{Error, Result};

/// What is asked of the latents, and with which weights.
#[derive(Args, Clone, Debug)]
pub struct ObjectiveFlags {
    /// What the latents are asked beside the reconstruction.
    #[arg(long, value_enum, default_value_t = Name::Beta)]
    objective: Name,
    /// With beta: weight of the KL divergence; with beta-tc: of the total correlation [default: 8; beta-tc: 6]
    #[arg(long, value_name = "WEIGHT")]
    beta: Option<f64>,
    /// Steps over which all weights of what is asked of the latents grow from 0; with capacity see --capacity-steps. The totals
    /// shown, and which checkpoint is the best, always count all of it.
    #[arg(long, default_value_t = 0, value_name = "STEPS")]
    kl_warmup_steps: u64,
    /// With capacity: weight of the KL divergence's distance from the capacity; with factor: of the total correlation; with
    /// beta-tc: of the dimension-wise KL [default: 1000; factor: 35; beta-tc: 1]
    #[arg(long, value_name = "WEIGHT")]
    gamma: Option<f64>,
    /// With beta-tc: weight of the mutual information [default: 1]
    #[arg(long, value_name = "WEIGHT")]
    alpha: Option<f64>,
    /// With capacity: the last capacity [default: 25]
    #[arg(long, value_name = "NATS")]
    capacity: Option<f64>,
    /// With capacity: steps over which it grows from 0 [default: 100000]
    #[arg(long, value_name = "STEPS")]
    capacity_steps: Option<u64>,
    /// With beta-tc: how the density of codes is estimated from a batch [default: weighted]
    #[arg(long, value_enum, value_name = "HOW")]
    tc_sampling: Option<SamplingName>,
    /// With factor: hidden layers of the discriminator [default: 6; tiny: 3]
    #[arg(long, value_name = "N")]
    discriminator_layers: Option<usize>,
    /// With factor: units of each [default: 1000; tiny: 64]
    #[arg(long, value_name = "N")]
    discriminator_width: Option<usize>,
    /// With factor: the discriminator's learning rate [default: 0.0001]
    #[arg(long, value_name = "RATE")]
    discriminator_learning_rate: Option<f64>,
    /// With dip: the covariance of the posteriors' means (i) or of the codes (ii) [default: ii]
    #[arg(long, value_enum, value_name = "KIND")]
    dip_kind: Option<DipName>,
    /// With dip: weight of the squared covariances [default: 10]
    #[arg(long, value_name = "WEIGHT")]
    lambda_od: Option<f64>,
    /// With dip: weight of the variances' squared distances from 1 [default: --lambda-od, with i ten times that]
    #[arg(long, value_name = "WEIGHT")]
    lambda_d: Option<f64>,
}

/// The objectives' names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Name {
    /// Few nats: beta-VAE.
    Beta,
    /// So many nats, and little by little: controlled capacity.
    Capacity,
    /// Few nats of total correlation, told by a discriminator: FactorVAE.
    Factor,
    /// The same, estimated from the batch: beta-TCVAE.
    BetaTc,
    /// Codes that do not correlate: DIP-VAE.
    Dip,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum SamplingName {
    /// Every one in the batch alike.
    Weighted,
    /// Its own and another one less than the rest.
    Stratified,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum DipName {
    /// Of the means.
    I,
    /// Of the codes.
    Ii,
}

impl ObjectiveFlags {
    /// The preset's objective with what the flags say; `tiny` is whether that is the preset, `batch` the size of one.
    ///
    /// # Errors
    /// [`Error::Config`] naming the flag that is out of range or of another objective.
    pub fn of(&self, preset: BetaVae, tiny: bool, batch: usize) -> Result<BetaVae> {
        self.refuse_others()?;
        let regularizer = self.regularizer(tiny)?;
        let beta = match self.objective {
            Name::Beta => self.beta.unwrap_or(preset.beta),
            Name::BetaTc => self.beta.unwrap_or(6.0),
            Name::Capacity => self.weight("--gamma", self.gamma, 1000.0)?,
            Name::Factor | Name::Dip => 1.0,
        };
        require_within("--beta", beta, 0.0..=1e6)?;
        let least = regularizer.least_batch();
        if batch < least {
            let name = self.objective.text();
            return Err(Error::Config(format!("--batch-size {batch}: --objective {name} needs at least {least}")));
        }
        Ok(BetaVae { beta, kl_warmup_steps: self.kl_warmup_steps, regularizer, ..preset })
    }

    fn regularizer(&self, tiny: bool) -> Result<Regularizer> {
        Ok(match self.objective {
            Name::Beta => Regularizer::Beta,
            Name::Capacity => {
                let most = self.weight("--capacity", self.capacity, 25.0)?;
                Regularizer::Capacity(Capacity { most, steps: self.capacity_steps.unwrap_or(100_000) })
            }
            Name::Factor => {
                let usual = DiscriminatorConfig::default();
                let usual = if tiny { DiscriminatorConfig { layers: 3, width: 64 } } else { usual };
                let discriminator = DiscriminatorConfig {
                    layers: self.discriminator_layers.unwrap_or(usual.layers),
                    width: self.discriminator_width.unwrap_or(usual.width),
                };
                discriminator.validate()?;
                let learning_rate = self.discriminator_learning_rate.unwrap_or(1e-4);
                require_within("--discriminator-learning-rate", learning_rate, f64::MIN_POSITIVE..=10.0)?;
                Regularizer::Factor(Factor {
                    gamma: self.weight("--gamma", self.gamma, 35.0)?,
                    discriminator,
                    learning_rate,
                })
            }
            Name::BetaTc => Regularizer::BetaTc(BetaTc {
                alpha: self.weight("--alpha", self.alpha, 1.0)?,
                gamma: self.weight("--gamma", self.gamma, 1.0)?,
                sampling: match self.tc_sampling.unwrap_or(SamplingName::Weighted) {
                    SamplingName::Weighted => Sampling::Weighted,
                    SamplingName::Stratified => Sampling::Stratified,
                },
            }),
            Name::Dip => {
                let (kind, times) = match self.dip_kind.unwrap_or(DipName::Ii) {
                    DipName::I => (DipKind::I, 10.0),
                    DipName::Ii => (DipKind::II, 1.0),
                };
                let off_diagonal = self.weight("--lambda-od", self.lambda_od, 10.0)?;
                let diagonal = self.weight("--lambda-d", self.lambda_d, times * off_diagonal)?;
                Regularizer::Dip(Dip { kind, off_diagonal, diagonal })
            }
        })
    }

    fn weight(&self, flag: &str, given: Option<f64>, usual: f64) -> Result<f64> {
        let weight = given.unwrap_or(usual);
        require_within(flag, weight, 0.0..=1e6)?;
        Ok(weight)
    }

    /// Refuses what another objective has a use for.
    fn refuse_others(&self) -> Result<()> {
        use Name::{Beta, BetaTc, Capacity, Dip, Factor};
        let flags: [(&str, bool, &[Name]); 13] = [
            ("--beta", self.beta.is_some(), &[Beta, BetaTc]),
            ("--kl-warmup-steps", self.kl_warmup_steps > 0, &[Beta, Factor, BetaTc, Dip]),
            ("--gamma", self.gamma.is_some(), &[Capacity, Factor, BetaTc]),
            ("--alpha", self.alpha.is_some(), &[BetaTc]),
            ("--capacity", self.capacity.is_some(), &[Capacity]),
            ("--capacity-steps", self.capacity_steps.is_some(), &[Capacity]),
            ("--tc-sampling", self.tc_sampling.is_some(), &[BetaTc]),
            ("--discriminator-layers", self.discriminator_layers.is_some(), &[Factor]),
            ("--discriminator-width", self.discriminator_width.is_some(), &[Factor]),
            ("--discriminator-learning-rate", self.discriminator_learning_rate.is_some(), &[Factor]),
            ("--dip-kind", self.dip_kind.is_some(), &[Dip]),
            ("--lambda-od", self.lambda_od.is_some(), &[Dip]),
            ("--lambda-d", self.lambda_d.is_some(), &[Dip]),
        ];
        if let Some((flag, _, of)) = flags.into_iter().find(|(_, given, of)| *given && !of.contains(&self.objective)) {
            let of: Vec<_> = of.iter().map(|name| name.text()).collect();
            let (of, here) = (of.join(" or "), self.objective.text());
            return Err(Error::Config(format!("{flag} is for --objective {of}; leave it out with --objective {here}")));
        }
        Ok(())
    }
}

impl Name {
    /// As on the command line.
    fn text(self) -> String {
        self.to_possible_value().expect("no objective is hidden").get_name().to_string()
    }
}
