//! Codes: the posterior of each segment of a spectrogram, and the file that holds them.

use std::path::Path;

use ndarray::{Array2, ArrayView1};
use ndarray_npy::NpzWriter;
use serde::{Deserialize, Serialize};

use crate::beside::{create_parent, write_beside};
use crate::features::npy::{Kind, Npz};
use crate::features::{FeatureConfig, is_gain};
use crate::{Error, Result};

/// Latents are near the standard normal; beyond this a decoder's arithmetic is no longer meaningful.
const LARGEST: f32 = 1e4;
/// In one segment; no model has as many.
const MOST_FRAMES: usize = 1 << 16;

/// The latents of a spectrogram, one row a segment.
#[derive(Clone, Debug, PartialEq)]
pub struct Codes {
    /// Posterior means, `[segments, latents]`.
    pub mean: Array2<f32>,
    /// Posterior standard deviations, `[segments, latents]`.
    pub scale: Array2<f32>,
    /// What they are of.
    pub meta: CodesMeta,
}

/// What codes are of, and of which model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CodesMeta {
    /// Frames in a segment.
    pub segment_frames: usize,
    /// Frames from the start of one segment to the next.
    pub hop: usize,
    /// Frames of the whole spectrogram.
    pub frames: usize,
    /// What the source was divided by when it was normalised.
    pub gain: f64,
    /// SHA-256 of the VAE's parameters, in hexadecimal.
    pub vae: String,
    /// How the model's features are made.
    pub features: FeatureConfig,
}

impl Codes {
    /// Writes an `.npz` with `mean`, `scale` (f32) and `meta` (JSON as u8), and makes its folder if need be.
    ///
    /// # Errors
    /// [`Error::Io`] if it cannot be written.
    pub fn write(&self, path: &Path) -> Result<()> {
        create_parent(path)?;
        let meta = serde_json::to_vec(&self.meta).expect("a description is plain data");
        write_beside(path, |file| {
            let mut npz = NpzWriter::new(file);
            npz.add_array("mean", &self.mean)
                .and_then(|()| npz.add_array("scale", &self.scale))
                .and_then(|()| npz.add_array("meta", &ArrayView1::from(&meta)))
                .and_then(|()| npz.finish().map(drop))
                .map_err(|error| Error::Io { path: path.to_path_buf(), source: std::io::Error::other(error) })
        })
    }

    /// Reads what [`write`](Self::write) wrote; numpy may have changed the values in between.
    ///
    /// # Errors
    /// If it is no codes file, damaged, holds values that are not finite, or describes other codes than it holds.
    pub fn read(path: &Path) -> Result<Self> {
        let mut npz = Npz::open(path, Kind { what: "a codes file", fix: "make it with `synth encode`" })?;
        let meta: CodesMeta = serde_json::from_slice(&npz.bytes("meta")?.values)
            .map_err(|error| Error::file(path, format!("is not a codes file of `synth encode`: {error}")))?;
        let (mean, scale) = (npz.matrix("mean")?, npz.matrix("scale")?);
        for (name, array) in [("mean", &mean), ("scale", &scale)] {
            if let Some(value) = array.iter().find(|value| !value.is_finite() || value.abs() > LARGEST) {
                return Err(Error::file(path, format!("array {name} holds {value}, which is no latent")));
            }
        }
        let wrong = if !meta.fits(mean.nrows()) {
            let CodesMeta { segment_frames, hop, frames, .. } = meta;
            let described = format!("{frames} frames in segments of {segment_frames}, one every {hop}");
            format!("{} segments do not fit its description: {described}", mean.nrows())
        } else if mean.dim() != scale.dim() {
            format!("mean {:?} and scale {:?} differ in shape", mean.dim(), scale.dim())
        } else if !is_gain(meta.gain) {
            format!("array meta: a gain of {}", meta.gain)
        } else {
            return Ok(Self { mean, scale, meta });
        };
        Err(Error::file(path, format!("{wrong}; encode again and edit only mean")))
    }
}

impl CodesMeta {
    /// How many segments hold the frames: the last one begins before their end, and ends at it or after it.
    pub(super) fn segments(&self) -> usize {
        self.frames.saturating_sub(self.segment_frames).div_ceil(self.hop) + 1
    }

    /// Whether it is possible, and so many segments hold the frames.
    fn fits(&self, segments: usize) -> bool {
        let hops = (1..=self.segment_frames).contains(&self.hop) && self.segment_frames <= MOST_FRAMES;
        hops && self.frames > 0 && self.segments() == segments
    }
}
