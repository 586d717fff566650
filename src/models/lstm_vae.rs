//! Recurrent VAE of fixed blocks of a log-mel spectrogram.

use burn::module::Module;
use burn::nn::Linear;
use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};

use super::gaussian::{BIN_FLOOR, Gaussian, HEAD_GAIN, LATENT_FLOOR, raw_for_unit_scale};
use super::require_size;
use crate::Result;
use crate::nn::{Init, Lstm, dense};

/// Sizes and form of an [`LstmVae`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LstmVaeConfig {
    /// Frames in a segment; at least 2, since decoding cross-fades segments that begin every half segment.
    pub segment_frames: usize,
    /// Mel bands.
    pub n_mels: usize,
    /// Cells of the encoder's and of the decoder's LSTM.
    pub cells: usize,
    /// Latent dimensions.
    pub latents: usize,
    /// How both networks' raw outputs become standard deviations.
    pub scale: Scale,
}

/// How a network's raw outputs become standard deviations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scale {
    /// [`Gaussian::from_raw`], with the floors of the convolutional model: 1e-4 for latents, 0.1 for bins.
    Softplus,
    /// [`Gaussian::from_log`], the 2018 workshop's.
    Exp,
}

impl LstmVaeConfig {
    /// Checks that the sizes make a model.
    ///
    /// # Errors
    /// [`crate::Error::Config`] naming the flag and the values that work.
    pub fn validate(&self) -> Result<()> {
        require_size("--segment-frames", self.segment_frames, 2, 4096)?;
        require_size("--n-filterbank", self.n_mels, 1, 4096)?;
        require_size("--cells", self.cells, 1, 8192)?;
        require_size("--latents", self.latents, 1, 4096)
    }

    /// A new model, its parameters a function of `seed`. All scales begin near 1.
    ///
    /// # Panics
    /// If [`validate`](Self::validate) fails.
    pub fn init(&self, seed: u64, device: &Device) -> LstmVae {
        self.validate().expect("sizes are validated before a model is made");
        let init = &mut Init::new(seed, device);
        let head = |outputs: usize, bias: f64, init: &mut Init| Linear {
            bias: Some(init.constant([outputs], bias)),
            ..init.he_linear(self.cells, outputs, 1.0, HEAD_GAIN)
        };
        LstmVae {
            encoder: Lstm::new(self.n_mels, self.cells, init),
            mean: head(self.latents, 0.0, init),
            raw_scale: head(self.latents, self.scale.unit(LATENT_FLOOR), init),
            decoder: Lstm::new(self.latents, self.cells, init),
            bin_mean: head(self.n_mels, 0.0, init),
            bin_raw_scale: head(self.n_mels, self.scale.unit(BIN_FLOOR), init),
            segment_frames: self.segment_frames,
            scale: self.scale,
        }
    }
}

impl Scale {
    /// The distribution that a network's two outputs stand for.
    fn gaussian<const D: usize>(self, mean: Tensor<D>, raw: Tensor<D>, floor: f64) -> Gaussian<D> {
        match self {
            Self::Softplus => Gaussian::from_raw(mean, raw, floor),
            Self::Exp => Gaussian::from_log(mean, raw),
        }
    }

    /// The raw output that stands for 1.
    fn unit(self, floor: f64) -> f64 {
        match self {
            Self::Softplus => raw_for_unit_scale(floor),
            Self::Exp => 0.0,
        }
    }
}

/// Encoder and decoder of segments `[batch, frames, mels]`: an LSTM that reads the frames and one that writes them.
///
/// The posterior is a function of the encoder's last state. The decoder is given the latents anew at each frame and nothing
/// of what it has written, so that all it knows of the segment comes through them.
///
/// # Reference
/// Hsu, Zhang, Glass 2017, "Unsupervised Learning of Disentangled and Interpretable Representations from Sequential Data",
/// read and write segments of speech with recurrent layers of this size.
#[derive(Module, Debug)]
pub struct LstmVae {
    encoder: Lstm,
    mean: Linear,
    raw_scale: Linear,
    decoder: Lstm,
    bin_mean: Linear,
    bin_raw_scale: Linear,
    segment_frames: usize,
    #[module(skip)]
    scale: Scale,
}

impl LstmVae {
    /// The posterior of the latents.
    ///
    /// # Shapes
    /// `[batch, frames, mels] -> [batch, latents]`
    pub fn encode(&self, x: Tensor<3>) -> Gaussian<2> {
        let states = self.encoder.forward(x); // [batch, frames, cells]
        let [batch, frames, cells] = states.dims();
        let last = states.slice([0..batch, frames - 1..frames]).reshape([batch, cells]);
        let raw = dense(&self.raw_scale, last.clone(), None);
        self.scale.gaussian(dense(&self.mean, last, None), raw, LATENT_FLOOR)
    }

    /// The distribution of each bin given the latents.
    ///
    /// # Shapes
    /// `[batch, latents] -> [batch, frames, mels]`
    pub fn decode(&self, z: Tensor<2>) -> Gaussian<3> {
        let states = self.decoder.forward_repeated(z, self.segment_frames); // [batch, frames, cells]
        let raw = dense(&self.bin_raw_scale, states.clone(), None);
        self.scale.gaussian(dense(&self.bin_mean, states, None), raw, BIN_FLOOR)
    }
}
