//! The difference of two folders of sounds, as a move of codes.
//!
//! # Reference
//! Larsen et al., "Autoencoding beyond pixels using a learned similarity metric", 2016, section 3.3: attribute vectors.

use std::path::{Path, PathBuf};

use ndarray::Array1;

use super::{VaeCodec, read_features};
use crate::features::corpus::is_audio;
use crate::features::{FEATURE_SUFFIX, is_features};
use crate::walk::files_below;
use crate::{Error, Result};

/// The mean code of all segments of a sound, or of all sounds in a folder: `[latents]`.
///
/// # Errors
/// If there is no sound, or one cannot be read or has other features: a mean of some would pass for that of all.
pub fn mean_code(codec: &VaeCodec, sounds: &Path) -> Result<Array1<f64>> {
    let mut sum = Array1::zeros(codec.latents());
    let mut segments = 0;
    for path in sounds_in(sounds)? {
        let source = read_features(&path, codec.features(), codec.path())?;
        let codes = codec.encode(source.logmel.view(), source.meta.gain);
        codes.mean.rows().into_iter().for_each(|code| sum += &code.mapv(f64::from));
        segments += codes.mean.nrows();
    }
    Ok(sum / segments as f64)
}

fn sounds_in(path: &Path) -> Result<Vec<PathBuf>> {
    if !path.metadata().map_err(Error::io(path))?.is_dir() {
        return Ok(vec![path.to_path_buf()]);
    }
    let found = files_below(path, |file| is_audio(file) || is_features(file))
        .require_some(|| Error::file(path, format!("holds no .wav, .ogg, .flac, .mp3 or {FEATURE_SUFFIX} files")))?;
    match found.unreadable.into_iter().next() {
        Some(error) => Err(error),
        None => Ok(found.files.iter().map(|file| path.join(file)).collect()),
    }
}
