//! Codes: the posterior of each segment of a spectrogram, and the file that holds them.

use std::path::Path;

use ndarray::{Array2, ArrayView1};
use ndarray_npy::NpzWriter;
use serde::{Deserialize, Serialize};

use crate::beside::write_beside;
use crate::features::FeatureConfig;
use crate::features::npy::Npz;
use crate::{Error, Result};

/// The latents of a spectrogram, one row a segment.
#[derive(Clone, Debug, PartialEq)]
pub struct Codes {
    /// Posterior means, `[segments, latents]`.
    pub mean: Array2<f32>,
    /// Posterior standard deviations, `[segments, latents]`.
    pub scale: Array2<f32>,
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
    pub features: FeatureConfig,
}

impl Codes {
    /// Writes an `.npz` with `mean`, `scale` (f32) and `meta` (JSON as u8).
    ///
    /// # Errors
    /// [`Error::Io`] if it cannot be written.
    pub fn write(&self, path: &Path) -> Result<()> {
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
    /// If it is no codes file, damaged, or holds values that are not finite.
    pub fn read(path: &Path) -> Result<Self> {
        let mut npz = Npz::open(path)?;
        let meta: CodesMeta = serde_json::from_slice(&npz.bytes("meta")?.values)
            .map_err(|error| Error::file(path, format!("is not a codes file of `synth encode`: {error}")))?;
        let mut matrix = |name: &str| {
            let array = npz.floats(name)?;
            let wrong =
                || Error::file(path, format!("array {name} has the shape {:?}, not [segments, latents]", array.shape));
            let [rows, columns] = array.shape[..] else { return Err(wrong()) };
            if array.fortran_order || rows == 0 || columns == 0 {
                return Err(wrong());
            }
            if let Some(at) = array.values.iter().position(|value| !value.is_finite()) {
                return Err(Error::file(path, format!("array {name}: value {at} is {}", array.values[at])));
            }
            Ok(Array2::from_shape_vec((rows, columns), array.values).expect("the reader checked the number of values"))
        };
        let (mean, scale) = (matrix("mean")?, matrix("scale")?);
        let covered = (mean.nrows() - 1).saturating_mul(meta.hop).saturating_add(meta.segment_frames);
        if mean.dim() != scale.dim() || meta.hop == 0 || meta.hop > meta.segment_frames || meta.frames > covered {
            return Err(Error::file(path, "its arrays and its description contradict each other"));
        }
        Ok(Self { mean, scale, meta })
    }
}
