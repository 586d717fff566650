//! The network that tells codes from codes whose latents were drawn apart.

use burn::module::Module;
use burn::nn::Linear;
use burn::tensor::{Device, Tensor};
use rand::Rng;
use serde::{Deserialize, Serialize};

use super::require_size;
use crate::nn::{Init, dense};
use crate::{Result, random};

/// Slope of every leaky ReLU (Kim & Mnih 2018, appendix A).
const SLOPE: f64 = 0.2;

/// The logits start near zero: what a random network says of codes is nothing, and an encoder that obeyed it would be sent far
/// away before the discriminator has learned anything.
const HEAD_GAIN: f64 = 0.01;

/// Sizes of a [`Discriminator`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DiscriminatorConfig {
    /// Hidden layers.
    pub layers: usize,
    /// Units of each.
    pub width: usize,
}

impl Default for DiscriminatorConfig {
    /// The paper's: six layers of 1000.
    fn default() -> Self {
        Self { layers: 6, width: 1000 }
    }
}

impl DiscriminatorConfig {
    /// Checks that the sizes make a network.
    ///
    /// # Errors
    /// [`crate::Error::Config`] naming the flag and the values that work.
    pub fn validate(&self) -> Result<()> {
        require_size("--discriminator-layers", self.layers, 1, 64)?;
        require_size("--discriminator-width", self.width, 1, 16_384)
    }

    /// A new network for codes of so many latents, its parameters a function of `seed` and other ones than a VAE's of that seed.
    ///
    /// # Panics
    /// If [`validate`](Self::validate) fails.
    pub fn init(&self, latents: usize, seed: u64, device: &Device) -> Discriminator {
        self.validate().expect("sizes are validated before a model is made");
        let init = &mut Init::new(random::stream(seed, "discriminator", 0).random(), device);
        let sizes = [vec![latents], vec![self.width; self.layers]].concat();
        let hidden = sizes.windows(2).map(|pair| init.he_linear(pair[0], pair[1], SLOPE, 1.0)).collect();
        Discriminator { hidden, logits: init.he_linear(self.width, 2, 1.0, HEAD_GAIN) }
    }
}

/// Fully connected layers with leaky ReLUs of slope 0.2 and two logits.
///
/// # Reference
/// Kim & Mnih 2018, "Disentangling by Factorising", appendix A.
#[derive(Module, Debug)]
pub struct Discriminator {
    hidden: Vec<Linear>,
    logits: Linear,
}

impl Discriminator {
    /// The logit that a code is as encoded, and the logit that each of its latents is of another code.
    ///
    /// # Shapes
    /// `[batch, latents] -> [batch, 2]`
    pub fn forward(&self, z: Tensor<2>) -> Tensor<2> {
        let h = self.hidden.iter().fold(z, |h, layer| dense(layer, h, Some(SLOPE))); // [batch, width]
        dense(&self.logits, h, None)
    }
}
