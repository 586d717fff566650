//! A trained VAE as encoder and decoder of whole spectrograms.

use std::path::{Path, PathBuf};

use burn::tensor::{Device, Tensor, TensorData};
use ndarray::{Array2, ArrayView2, ArrayView3, Axis};

use super::blend::CrossFade;
use super::codes::{Codes, CodesMeta};
use super::named::Meanings;
use super::prior::PriorConfig;
use crate::data::cut_segments;
use crate::features::FeatureConfig;
use crate::models::{Vae, VaeConfig};
use crate::run::{About, Checkpoint, load_parameters, values};
use crate::{Error, Result, random};

/// Segments computed at once, so that memory for them does not grow with the sound.
const BATCH: usize = 256;

/// A trained VAE with the statistics and the feature configuration of its run.
pub struct VaeCodec {
    path: PathBuf,
    checkpoint: PathBuf,
    model: Vae,
    config: VaeConfig,
    about: About,
    fingerprint: String,
    device: Device,
}

impl VaeCodec {
    /// Opens the newest checkpoint of a run, or a checkpoint folder.
    ///
    /// # Errors
    /// If there is none, it cannot be read, or it is not a VAE's.
    pub fn open(dir: &Path, device: &Device) -> Result<Self> {
        let (checkpoint, tensors) = Checkpoint::with_model(dir)?;
        let config = checkpoint.require("VAE")?.vae().expect("the kind was checked");
        config.validate()?;
        let model = load_parameters(config.init(0, device), &tensors, &checkpoint.model_path())?;
        Ok(Self {
            path: dir.to_path_buf(),
            model,
            config,
            about: checkpoint.about,
            checkpoint: checkpoint.path,
            fingerprint: tensors.fingerprint(),
            device: device.clone(),
        })
    }

    /// Where the run is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The checkpoint folder that was opened.
    pub fn checkpoint(&self) -> &Path {
        &self.checkpoint
    }

    /// What its latents were found to mean, `None` if nobody looked.
    ///
    /// # Errors
    /// As [`Meanings::read`].
    pub fn meanings(&self) -> Result<Option<Meanings>> {
        Meanings::read(&self.checkpoint, &self.fingerprint, self.latents())
    }

    /// The features the VAE was trained on.
    pub fn features(&self) -> &FeatureConfig {
        &self.about.config.features
    }

    /// The description of the run.
    pub fn about(&self) -> &About {
        &self.about
    }

    /// The model, for what is not made here; it takes segments as [`About::standardizer`] makes them.
    pub fn model(&self) -> &Vae {
        &self.model
    }

    /// Where it computes.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// SHA-256 of the parameters, in hexadecimal; codes carry it.
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// The number of latents.
    pub fn latents(&self) -> usize {
        self.config.latents()
    }

    /// The posteriors of segments that begin every half segment. `gain` is kept for the decoded sound.
    ///
    /// # Shapes
    /// `logmel` `[frames, mels]`
    ///
    /// # Panics
    /// If it has no frame or another number of bands.
    pub fn encode(&self, logmel: ArrayView2<f32>, gain: f64) -> Codes {
        let meta = self.meta(logmel.nrows(), gain);
        let mut segments = cut_segments(logmel, meta.segment_frames, meta.hop);
        let (mut mean, mut scale) = (Vec::new(), Vec::new());
        for first in (0..meta.segments()).step_by(BATCH) {
            let count = BATCH.min(meta.segments() - first);
            let batch = segments.by_ref().take(count).flat_map(|segment| self.about.standardizer.apply(segment.view()));
            let x = TensorData::new(batch.collect(), [count, self.config.segment_frames(), self.config.n_mels()]);
            let posterior = self.model.encode(Tensor::from_data(x, &self.device));
            scale.extend(values(posterior.scale()));
            mean.extend(values(posterior.mean()));
        }
        let matrix = |values| {
            Array2::from_shape_vec((meta.segments(), self.config.latents()), values).expect("one row a segment")
        };
        Codes { mean: matrix(mean), scale: matrix(scale), meta }
    }

    /// The log-mel spectrogram that the codes' means decode to, segments cross-faded.
    ///
    /// # Shapes
    /// `[frames, mels]`
    ///
    /// # Errors
    /// [`Error::Mismatch`] if the codes are of another model, or cut otherwise than it cuts.
    ///
    /// # Panics
    /// If there are more or fewer codes than their frames need, which [`Codes::read`] refuses.
    pub fn decode(&self, codes: &Codes) -> Result<Array2<f32>> {
        self.require(codes)?;
        let (frames, mels) = (self.config.segment_frames(), self.config.n_mels());
        let mut fade = CrossFade::new(codes.meta.frames, mels, codes.meta.hop);
        for batch in codes.mean.axis_chunks_iter(Axis(0), BATCH) {
            let flat: Vec<f32> = batch.iter().copied().collect();
            let z = TensorData::new(flat, [batch.nrows(), self.config.latents()]);
            let mean = values(self.model.decode(Tensor::from_data(z, &self.device)).mean());
            let segments =
                ArrayView3::from_shape((batch.nrows(), frames, mels), &mean).expect("the tensor's own shape");
            segments.outer_iter().for_each(|segment| fade.add(segment));
        }
        Ok(self.about.standardizer.undo(fade.finish().view()))
    }

    /// Codes drawn from the prior.
    pub fn sample(&self, frames: usize, prior: &PriorConfig, seed: u64) -> Codes {
        let meta = self.meta(frames, 1.0);
        let step = (meta.hop * self.features().hop_size) as f64 / f64::from(self.features().sample_rate); // seconds
        let mean = prior.draw(meta.segments(), self.latents(), step, random::stream(seed, "prior", 0));
        Codes { scale: Array2::zeros(mean.dim()), mean, meta }
    }

    /// Checks that codes are this model's, and cut as it cuts.
    fn require(&self, codes: &Codes) -> Result<()> {
        let (found, mine) = (&codes.meta, self.meta(codes.meta.frames, codes.meta.gain));
        if found.vae != mine.vae || codes.mean.ncols() != self.latents() {
            return Err(Error::Mismatch(format!(
                "these codes are of another VAE, or of another checkpoint of it, than {}; encode again",
                self.path.display()
            )));
        }
        if *found != mine {
            return Err(Error::Mismatch(format!(
                "the meta of these codes was edited: {} has segments of {} frames, one every {}, and its own feature \
                 settings; encode again and edit only mean",
                self.path.display(),
                mine.segment_frames,
                mine.hop
            )));
        }
        Ok(())
    }

    fn meta(&self, frames: usize, gain: f64) -> CodesMeta {
        CodesMeta {
            segment_frames: self.config.segment_frames(),
            hop: self.config.segment_frames() / 2,
            frames,
            gain,
            vae: self.fingerprint.clone(),
            features: self.features().clone(),
        }
    }
}
