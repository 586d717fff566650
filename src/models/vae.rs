//! The VAE of either architecture.

use burn::module::Module;
use burn::tensor::{Device, Tensor};

use super::{ConvVae, ConvVaeConfig, Gaussian, LstmVae, LstmVaeConfig};
use crate::Result;

/// Architecture and sizes of a [`Vae`].
#[derive(Clone, Debug, PartialEq)]
pub enum VaeConfig {
    /// Convolutional.
    Conv(ConvVaeConfig),
    /// Recurrent.
    Lstm(LstmVaeConfig),
}

impl VaeConfig {
    /// Frames in a segment.
    pub fn segment_frames(&self) -> usize {
        match self {
            Self::Conv(config) => config.segment_frames,
            Self::Lstm(config) => config.segment_frames,
        }
    }

    /// Mel bands.
    pub fn n_mels(&self) -> usize {
        match self {
            Self::Conv(config) => config.n_mels,
            Self::Lstm(config) => config.n_mels,
        }
    }

    /// Latent dimensions.
    pub fn latents(&self) -> usize {
        match self {
            Self::Conv(config) => config.latents,
            Self::Lstm(config) => config.latents,
        }
    }

    /// Checks that the sizes fit together.
    ///
    /// # Errors
    /// [`crate::Error::Config`] naming the flag and the values that work.
    pub fn validate(&self) -> Result<()> {
        match self {
            Self::Conv(config) => config.validate(),
            Self::Lstm(config) => config.validate(),
        }
    }

    /// A new model, its parameters a function of `seed`.
    ///
    /// # Panics
    /// If [`validate`](Self::validate) fails.
    pub fn init(&self, seed: u64, device: &Device) -> Vae {
        match self {
            Self::Conv(config) => Vae::Conv(config.init(seed, device)),
            Self::Lstm(config) => Vae::Lstm(config.init(seed, device)),
        }
    }
}

/// Encoder and decoder of segments `[batch, frames, mels]`.
#[derive(Module, Debug)]
#[allow(clippy::large_enum_variant)] // there is one in a process, or a few
pub enum Vae {
    /// Convolutional.
    Conv(ConvVae),
    /// Recurrent.
    Lstm(LstmVae),
}

impl Vae {
    /// The posterior of the latents.
    ///
    /// # Shapes
    /// `[batch, frames, mels] -> [batch, latents]`
    pub fn encode(&self, x: Tensor<3>) -> Gaussian<2> {
        match self {
            Self::Conv(vae) => vae.encode(x),
            Self::Lstm(vae) => vae.encode(x),
        }
    }

    /// The distribution of each bin given the latents.
    ///
    /// # Shapes
    /// `[batch, latents] -> [batch, frames, mels]`
    pub fn decode(&self, z: Tensor<2>) -> Gaussian<3> {
        match self {
            Self::Conv(vae) => vae.decode(z),
            Self::Lstm(vae) => vae.decode(z),
        }
    }
}
