//! What a VAE's latents are asked beside the reconstruction. A [`Regularizer`] says it as values and their weights.
//!
//! The reconstruction, the growth of weights in training and the optimizer are [`train`](crate::train)'s.

mod beta_tc;
mod capacity;
mod dip;
mod factor;

pub use beta_tc::{BetaTc, Sampling};
pub use capacity::Capacity;
pub use dip::{Dip, DipKind};
pub use factor::Factor;

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use crate::models::{Discriminator, Gaussian};

/// What is asked of the latents; `beta`, the weight of its main term, stands beside it in [`BetaVae`](crate::run::BetaVae).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(tag = "form", rename_all = "kebab-case")]
pub enum Regularizer {
    /// `beta KL(q(z|x) || p(z))` (Higgins et al. 2017, "beta-VAE: Learning Basic Visual Concepts with a Constrained Variational
    /// Framework", eq. 4).
    #[default]
    Beta,
    /// `beta |KL - C|` with a growing `C`.
    Capacity(Capacity),
    /// `beta KL` and the total correlation, told by a discriminator.
    Factor(Factor),
    /// The three parts of the divergence with a weight each, `beta` that of the total correlation.
    BetaTc(BetaTc),
    /// `beta KL` and how far the codes' covariance is from the identity.
    Dip(Dip),
}

/// The latents of a batch.
pub struct Latents<'a> {
    /// Of each segment, `[batch, latents]`.
    pub posterior: &'a Gaussian<2>,
    /// A sample of each posterior, `[batch, latents]`.
    pub z: Tensor<2>,
    /// Mean over the batch of the divergence of all latents from the prior, `[1]`.
    pub kl: Tensor<1>,
    /// Segments in the set that the batch is of.
    pub data: usize,
    /// With [`Regularizer::Factor`] the one that is trained beside the VAE.
    pub discriminator: Option<&'a Discriminator>,
    /// What may still have to grow; `None` where all has grown.
    pub growth: Option<&'a Growth>,
}

/// How far what grows in training has grown.
#[derive(Clone, Debug)]
pub struct Growth {
    /// Of every weight, from 0 to 1, `[1]`.
    pub share: Tensor<1>,
    /// [`Capacity::at`] this step, in nats, `[1]`; of other forms 0.
    pub capacity: Tensor<1>,
}

/// A value that is minimised with a weight.
pub struct Weighed {
    /// `[1]`, as this step minimises it.
    pub value: Tensor<1>,
    /// `[1]`, without autodiff, as the reported total has it: once all that grows has grown.
    pub judged: Tensor<1>,
    /// Its weight, grown.
    pub weight: f64,
}

impl Weighed {
    /// What does not change in the course of training.
    fn steady(value: Tensor<1>, weight: f64) -> Self {
        Self { judged: value.clone().inner(), value, weight }
    }
}

/// What is minimised of a batch's latents, and what is shown of them, in nats per segment.
pub struct Asked {
    /// In this order summed.
    pub minimised: Vec<Weighed>,
    /// By name, without autodiff.
    pub shown: Vec<(&'static str, Tensor<1>)>,
}

impl Regularizer {
    /// Whether this is the plain divergence, of which run files say nothing.
    pub fn is_beta(&self) -> bool {
        *self == Self::Beta
    }

    /// What [`Growth::capacity`] is at step `step`, counted from 0.
    pub fn capacity(&self, step: u64) -> f64 {
        match self {
            Self::Capacity(capacity) => capacity.at(step),
            _ => 0.0,
        }
    }

    /// Steps after which nothing grows any more.
    pub fn grows_until(&self) -> u64 {
        match self {
            Self::Capacity(capacity) => capacity.steps,
            _ => 0,
        }
    }

    /// Whether its values are of a batch as a whole and no means over segments, so that a test batch has to be drawn as a training
    /// batch is.
    pub fn is_of_batches(&self) -> bool {
        !matches!(self, Self::Beta)
    }

    /// The least batch of which its values can be told.
    pub fn least_batch(&self) -> usize {
        match self {
            Self::Beta | Self::Capacity(_) => 1,
            Self::BetaTc(_) | Self::Dip(_) => 2,
            Self::Factor(_) => 4, // two of each half
        }
    }

    /// What is asked of these latents.
    ///
    /// # Panics
    /// If this is [`Factor`] and there is no discriminator.
    pub fn asked(&self, beta: f64, latents: &Latents) -> Asked {
        let Latents { posterior, z, kl, .. } = latents;
        let mut shown = vec![("kl", kl.clone().inner())];
        let divergence = || Weighed::steady(kl.clone(), beta);
        let minimised = match self {
            Self::Beta => vec![divergence()],
            Self::Capacity(capacity) => {
                let most = kl.clone().inner().zeros_like().add_scalar(capacity.most);
                let now = latents.growth.map_or(most.clone(), |growth| growth.capacity.clone());
                let gap = |capacity: Tensor<1>| (kl.clone() - Tensor::from_inner(capacity)).abs();
                shown.push(("capacity", now.clone()));
                vec![Weighed { value: gap(now), judged: gap(most).inner(), weight: beta }]
            }
            Self::Factor(factor) => {
                let discriminator = latents.discriminator.expect("a FactorVAE is trained beside a discriminator");
                let tc = Factor::total_correlation(discriminator, z.clone());
                shown.push(("total_correlation", tc.clone().inner()));
                vec![divergence(), Weighed::steady(tc, factor.gamma)]
            }
            Self::BetaTc(parts) => {
                let values = parts.sampling.decompose(posterior, z.clone(), latents.data);
                let names = ["mutual_information", "total_correlation", "dimension_kl"];
                shown.extend(names.into_iter().zip(values.clone().map(Tensor::inner)));
                let weights = [parts.alpha, beta, parts.gamma];
                values.into_iter().zip(weights).map(|(value, weight)| Weighed::steady(value, weight)).collect()
            }
            Self::Dip(dip) => {
                let [off_diagonal, diagonal] = dip.kind.penalties(posterior);
                shown.push(("off_diagonal", off_diagonal.clone().inner()));
                shown.push(("diagonal", diagonal.clone().inner()));
                let penalties = [(off_diagonal, dip.off_diagonal), (diagonal, dip.diagonal)];
                let penalties = penalties.map(|(value, weight)| Weighed::steady(value, weight));
                [divergence()].into_iter().chain(penalties).collect()
            }
        };
        Asked { minimised, shown }
    }
}
