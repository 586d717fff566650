//! The `.feat.npz` file: arrays that `numpy.load` reads, and a description of how they were made.

use std::io::{Seek, Write};
use std::path::Path;

use ndarray::{Array2, ShapeBuilder};

use super::npy::{Kind, Npz, RawArray};
use super::npz_parts::NpzParts;
use super::{Contents, FeatureConfig, FeatureMeta, Features, Prepared, VERSION};
use crate::beside::{create_parent, write_beside};
use crate::{Error, Result};

/// How the names of feature files end, in any letter case.
pub const FEATURE_SUFFIX: &str = ".feat.npz";

/// Whether the name is that of a feature file.
pub fn is_features(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().to_ascii_lowercase().ends_with(FEATURE_SUFFIX))
}

/// Reading and writing feature files: an uncompressed `.npz` of four arrays.
///
/// | array | type | shape |
/// |---|---|---|
/// | `au` | f32 | `[len]` |
/// | `logspec` | f32 | `[frames, n_fft / 2 + 1]` |
/// | `logmel` | f32 | `[frames, n_filterbank]` |
/// | `meta` | u8 | a [`FeatureMeta`] in JSON |
pub struct FeatureFile;

pub(super) const KIND: Kind = Kind { what: "a feature file", fix: "extract the features again, with all arrays" };

impl FeatureFile {
    /// Writes `features` beside `path`, then renames, so that no half file is ever seen. Makes the folder if need be.
    ///
    /// # Errors
    /// [`Error::Io`] if it cannot be written.
    pub fn write(path: &Path, features: &Features) -> Result<()> {
        FeatureFile::write_contents(path, features, Contents::ALL)
    }

    /// As [`write`](Self::write), without the arrays that `contents` leaves out.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    pub fn write_contents(path: &Path, features: &Features, contents: Contents) -> Result<()> {
        create_parent(path)?;
        write_beside(path, |file| {
            let mut npz = NpzParts::new(file, path);
            if contents.au {
                npz.begin("au", "<f4", &[features.au.len()])?;
                npz.floats(&features.au)?;
            }
            if contents.logspec {
                npz.matrix("logspec", &features.logspec)?;
            }
            end(npz, path, &features.logmel, &features.meta)
        })
    }

    /// Writes the features of a recording while they are made, and gives their description. Of what grows with its length, only
    /// the samples and the log-mel spectrum are held in memory.
    ///
    /// # Errors
    /// As [`write`](Self::write); [`Error::Config`] if its power is beyond f32.
    pub fn write_prepared(path: &Path, sound: &Prepared, contents: Contents) -> Result<FeatureMeta> {
        create_parent(path)?;
        let mut made = None;
        write_beside(path, |file| {
            let mut npz = NpzParts::new(file, path);
            if contents.au {
                npz.begin("au", "<f4", &[sound.samples()])?;
                sound.each_part(|part| npz.floats(part))?;
            }
            if contents.logspec {
                npz.begin("logspec", "<f4", &[sound.frames(), sound.bins()])?;
            }
            let (logmel, meta) = sound.spectra(contents, |row| npz.floats(row))?;
            end(npz, path, &logmel, &meta)?;
            made = Some(meta);
            Ok(())
        })?;
        Ok(made.expect("it was written"))
    }

    /// Everything in the file.
    ///
    /// # Errors
    /// [`Error::Io`] if it cannot be opened; [`Error::File`] if it is no feature file, is damaged, holds NaN or infinite
    /// values, or if an array does not have the shape its description says.
    pub fn read(path: &Path) -> Result<Features> {
        let mut npz = Npz::open(path, KIND)?;
        let meta = meta(&mut npz, path, None)?;
        require_shape(&mut npz, path, "au", &[meta.samples()])?;
        let au = npz.floats("au")?.values;
        finite(path, "au", &au, 0)?;
        let logspec = matrix(&mut npz, path, "logspec", meta.frames, meta.config.bins())?;
        let logmel = matrix(&mut npz, path, "logmel", meta.frames, meta.config.n_filterbank)?;
        Ok(Features { au, logspec, logmel, meta })
    }

    /// Only the description: cheap, whatever the length of the sound.
    ///
    /// # Errors
    /// As [`read`](Self::read), for what it reads.
    pub fn read_meta(path: &Path) -> Result<FeatureMeta> {
        meta(&mut Npz::open(path, KIND)?, path, None)
    }

    /// As [`read_meta`](Self::read_meta), quicker where the settings are `known`: those of a file that was read before.
    pub(crate) fn read_meta_like(path: &Path, known: &FeatureConfig) -> Result<FeatureMeta> {
        meta(&mut Npz::open(path, KIND)?, path, Some(known))
    }

    /// The log-mel spectrum, `[frames, n_filterbank]`, and the linear log-power spectrum, `[frames, n_fft / 2 + 1]`.
    ///
    /// # Errors
    /// As [`read`](Self::read), for what it reads.
    pub fn read_spectra(path: &Path) -> Result<(Array2<f32>, Array2<f32>)> {
        let mut npz = Npz::open(path, KIND)?;
        let meta = meta(&mut npz, path, None)?;
        let logspec = matrix(&mut npz, path, "logspec", meta.frames, meta.config.bins())?;
        let logmel = matrix(&mut npz, path, "logmel", meta.frames, meta.config.n_filterbank)?;
        Ok((logmel, logspec))
    }

    /// Whether what was analysed is there.
    ///
    /// # Errors
    /// As [`read`](Self::read), for what it reads.
    pub fn has_sound(path: &Path) -> Result<bool> {
        Ok(Npz::open(path, KIND)?.shape("au").is_ok())
    }

    /// The log-mel spectrum, `[frames, n_filterbank]`, and the description.
    ///
    /// # Errors
    /// As [`read`](Self::read), for what it reads.
    pub fn read_logmel(path: &Path) -> Result<(Array2<f32>, FeatureMeta)> {
        let mut npz = Npz::open(path, KIND)?;
        let meta = meta(&mut npz, path, None)?;
        let logmel = matrix(&mut npz, path, "logmel", meta.frames, meta.config.n_filterbank)?;
        Ok((logmel, meta))
    }
}

/// What every feature file ends with.
fn end<W: Write + Seek>(mut npz: NpzParts<W>, path: &Path, logmel: &Array2<f32>, meta: &FeatureMeta) -> Result<()> {
    let meta = serde_json::to_vec(meta).map_err(|e| Error::file(path, format!("not written: {e}")))?;
    npz.matrix("logmel", logmel)?;
    npz.begin("meta", "|u1", &[meta.len()])?;
    npz.bytes(&meta)?;
    npz.finish()
}

fn meta(npz: &mut Npz, path: &Path, known: Option<&FeatureConfig>) -> Result<FeatureMeta> {
    let json = npz.bytes("meta")?.values;
    let read = serde_json::from_slice(&json);
    // The version first: a newer layout may well lack fields or have others.
    let version = match &read {
        Ok(FeatureMeta { version, .. }) => Some(u64::from(*version)),
        Err(_) => serde_json::from_slice(&json).ok().and_then(|v: serde_json::Value| v.get("version")?.as_u64()),
    };
    if let Some(newer) = version.filter(|&version| version > u64::from(VERSION)) {
        return Err(Error::file(
            path,
            format!("has layout {newer}; this program reads up to {VERSION}: use a newer one"),
        ));
    }
    let meta = read.map_err(|e| {
        Error::file(path, format!("array meta is not a description of features ({e}): extract them again"))
    })?;
    // To validate is to build the filterbank, which for a folder of files takes longer than to read them.
    if known != Some(&meta.config) {
        meta.config.validate().map_err(|error| Error::file(path, error))?;
    }
    if meta.frames == 0 {
        return Err(Error::file(path, "holds no frames: extract it again"));
    }
    // What is believed without reading the spectra: that so many frames are there, and what they add up to.
    let bands = meta.config.n_filterbank;
    require_shape(npz, path, "logmel", &[meta.frames, bands as u64])?;
    let wrong = if !meta.bands.finite {
        "values that are not finite".to_string()
    } else if !is_gain(meta.gain) {
        format!("a gain of {}", meta.gain)
    } else if !sums_are_possible(&meta) {
        format!("sums that {} frames of {bands} bands do not have", meta.frames)
    } else {
        return Ok(meta);
    };
    Err(Error::file(path, format!("array meta: {wrong}: extract it again")))
}

/// Whether sound can be divided by it: a largest absolute value of samples, which are f32.
pub(crate) fn is_gain(gain: f64) -> bool {
    gain as f32 > 0.0 && (gain as f32).is_finite()
}

/// Whether the sums can be those of natural logarithms of powers, which lie within 100 of 0 wherever f32 can hold the power.
fn sums_are_possible(meta: &FeatureMeta) -> bool {
    const LARGEST: f64 = 1000.0;
    let (bands, most) = (&meta.bands, meta.frames as f64 * LARGEST);
    let per_band = [&bands.sum, &bands.sum_sq].iter().all(|sums| sums.len() == meta.config.n_filterbank);
    bands.count == meta.frames
        && per_band
        && bands.sum.iter().all(|sum| sum.abs() <= most)
        && bands.sum_sq.iter().all(|sum| (0.0..=most * LARGEST).contains(sum))
}

/// Holds the word of the header of the array `name` against the description.
pub(super) fn require_shape(npz: &mut Npz, path: &Path, name: &str, needed: &[u64]) -> Result<()> {
    let shape = npz.shape(name)?;
    if shape.iter().map(|&n| n as u64).ne(needed.iter().copied()) {
        return Err(wrong_shape(path, name, &shape, &format!("{needed:?}")));
    }
    Ok(())
}

/// The array `name` in standard layout, once it has the shape `[frames, columns]` and all its values are finite.
pub(super) fn matrix(npz: &mut Npz, path: &Path, name: &str, frames: u64, columns: usize) -> Result<Array2<f32>> {
    require_shape(npz, path, name, &[frames, columns as u64])?; // before anything is unpacked
    let RawArray { fortran_order, values, shape } = npz.floats(name)?;
    finite(path, name, &values, 0)?;
    let array = Array2::from_shape_vec((shape[0], shape[1]).set_f(fortran_order), values)
        .expect("the reader checked that the values fill the shape");
    Ok(if fortran_order { array.as_standard_layout().into_owned() } else { array })
}

/// Fails at the first of `values`, which follow `before` others in the array `name`, that is not finite.
pub(super) fn finite(path: &Path, name: &str, values: &[f32], before: usize) -> Result<()> {
    match values.iter().position(|x| !x.is_finite()) {
        None => Ok(()),
        Some(at) => {
            let (value, at) = (values[at], before + at);
            Err(Error::file(path, format!("array {name}: value {at} is {value}: extract it again")))
        }
    }
}

fn wrong_shape(path: &Path, name: &str, found: &[usize], needed: &str) -> Error {
    Error::file(path, format!("array {name} has the shape {found:?}, but its description says {needed}"))
}
