//! What a model makes of a spectrogram, as arrays for numpy.

use std::path::Path;

use burn::tensor::Device;
use ndarray::Array2;

use super::{Source, VaeCodec, Vocoder, VocoderConfig};
use crate::Result;
use crate::beside::{create_parent, write_beside};
use crate::dsp::phase::Phase;
use crate::features::FeatureConfig;
use crate::features::npz_parts::NpzParts;
use crate::run::Checkpoint;

/// A trained model of either kind.
#[allow(clippy::large_enum_variant)] // there is one in a process
pub enum Predictor {
    /// Gives `mean` and `scale` `[segments, latents]` and `decoded` `[frames, mels]`.
    Vae(VaeCodec),
    /// Gives `network`, what it puts out, and `logspec`, `[frames, bins]` each.
    Inverter(Vocoder),
}

impl Predictor {
    /// With the newest checkpoint of a run, or a checkpoint folder.
    ///
    /// # Errors
    /// If there is none, or it cannot be read.
    pub fn open(dir: &Path, device: &Device) -> Result<Self> {
        let (checkpoint, _) = Checkpoint::with_model(dir)?;
        if checkpoint.about.config.model.vae().is_some() {
            return Ok(Self::Vae(VaeCodec::open(dir, device)?));
        }
        let config = VocoderConfig { phase: Phase::PghiFast.config(0), emphasis: None, peak: None }; // nothing sounds here
        Ok(Self::Inverter(Vocoder::open(dir, config, device)?))
    }

    /// The features the model was trained on.
    pub fn features(&self) -> &FeatureConfig {
        match self {
            Self::Vae(codec) => codec.features(),
            Self::Inverter(vocoder) => vocoder.features(),
        }
    }

    /// Writes an `.npz` with `logmel`, the input, and what the model gives, and makes its folder if need be.
    ///
    /// # Errors
    /// [`Error::Io`](crate::Error::Io) if it cannot be written.
    pub fn write(&self, source: &Source, path: &Path) -> Result<()> {
        let input = source.logmel.view();
        let found: Vec<(&str, Array2<f32>)> = match self {
            Self::Vae(codec) => {
                let codes = codec.encode(input, source.meta.gain);
                let decoded = codec.decode(&codes)?;
                vec![("mean", codes.mean), ("scale", codes.scale), ("decoded", decoded)]
            }
            Self::Inverter(vocoder) => {
                let network = vocoder.predict(input).expect("it was opened with one");
                vec![("network", network), ("logspec", vocoder.linear(input))]
            }
        };
        create_parent(path)?;
        write_beside(path, |file| {
            let mut npz = NpzParts::new(file, path);
            npz.matrix("logmel", &source.logmel)?;
            found.iter().try_for_each(|(name, array)| npz.matrix(name, array))?;
            npz.finish()
        })
    }
}
