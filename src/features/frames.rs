//! Some frames of a spectrogram: of an array, or of a feature file's spectra, read where they lie in it.
//!
//! [`FeatureFile`](super::FeatureFile) reads whole arrays, and the archive's checksums with them; this is for files that do not
//! all fit into memory. Of a file that another program packed or wrote in columns the whole array is read each time.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::{Path, PathBuf};

use ndarray::{Array2, ArrayBase, Data, Ix2, s};

use super::file::{KIND, finite, matrix, require_shape};
use super::npy::{Npz, Stamp};
use super::{FeatureConfig, FeatureMeta};
use crate::{Error, Result};

/// A spectrum that a feature file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spectrum {
    /// `[frames, n_filterbank]`
    Logmel,
    /// `[frames, n_fft / 2 + 1]`
    Logspec,
}

impl Spectrum {
    fn name(self) -> &'static str {
        match self {
            Self::Logmel => "logmel",
            Self::Logspec => "logspec",
        }
    }

    fn columns(self, config: &FeatureConfig) -> usize {
        match self {
            Self::Logmel => config.n_filterbank,
            Self::Logspec => config.bins(),
        }
    }
}

/// A spectrogram whose frames are read when they are needed.
pub trait Frames {
    /// How many there are.
    fn frames(&self) -> usize;

    /// Some of them: `[range.len(), columns]`.
    ///
    /// # Errors
    /// If they are in a file that cannot be read.
    fn read(&self, range: Range<usize>) -> Result<Array2<f32>>;
}

impl<S: Data<Elem = f32>> Frames for ArrayBase<S, Ix2> {
    fn frames(&self) -> usize {
        self.nrows()
    }

    fn read(&self, range: Range<usize>) -> Result<Array2<f32>> {
        Ok(self.slice(s![range, ..]).to_owned())
    }
}

/// One spectrum of a feature file.
///
/// # Errors
/// As [`FrameReader::open`], and if the spectrum is damaged or holds values that are not finite: all of it is looked at once.
pub fn open_frames(path: &Path, meta: &FeatureMeta, spectrum: Spectrum) -> Result<Box<dyn Frames>> {
    let reader = FrameReader::open(path, meta, &[spectrum])?;
    if reader.is_plain() {
        reader.verify()?;
        return Ok(Box::new(reader));
    }
    let whole = reader.read_whole()?.pop().expect("one spectrum was asked for");
    Ok(Box::new(whole))
}

impl Frames for FrameReader {
    fn frames(&self) -> usize {
        self.frames
    }

    /// Of the first of its spectra.
    fn read(&self, range: Range<usize>) -> Result<Array2<f32>> {
        Ok(FrameReader::read(self, range)?.swap_remove(0))
    }
}

/// Reads frames of one feature file, which must stay as it is meanwhile.
pub struct FrameReader {
    path: PathBuf,
    frames: usize,
    samples: u64,
    stamp: Stamp,
    places: Vec<Place>,
}

/// Where a spectrum lies.
struct Place {
    spectrum: Spectrum,
    columns: usize,
    /// Of its first value, in bytes, if its rows lie one after the other.
    start: Option<u64>,
}

impl FrameReader {
    /// For these spectra of the file at `path`, whose description is `meta`. Holds no file open.
    ///
    /// # Errors
    /// If it cannot be opened, lacks one of the spectra, or has one of another shape than it says.
    pub fn open(path: &Path, meta: &FeatureMeta, spectra: &[Spectrum]) -> Result<Self> {
        let mut npz = Npz::open(path, KIND)?;
        let mut place = |&spectrum: &Spectrum| {
            let (name, columns) = (spectrum.name(), spectrum.columns(&meta.config));
            require_shape(&mut npz, path, name, &[meta.frames, columns as u64])?;
            Ok(Place { spectrum, columns, start: npz.start(name)? })
        };
        let places = spectra.iter().map(&mut place).collect::<Result<Vec<_>>>()?;
        // As many values as the shape says are in the file: the number of frames can be addressed.
        let (path, frames, samples) = (path.to_path_buf(), meta.frames as usize, meta.samples());
        Ok(Self { path, frames, samples, stamp: npz.stamp(), places })
    }

    /// Frames of the file.
    pub fn frames(&self) -> usize {
        self.frames
    }

    /// Bytes of all its frames.
    pub fn bytes(&self) -> u64 {
        let columns: usize = self.places.iter().map(|place| place.columns).sum();
        (self.frames * columns * size_of::<f32>()) as u64
    }

    /// Whether frames can be read without the ones before them.
    pub fn is_plain(&self) -> bool {
        self.places.iter().all(|place| place.start.is_some())
    }

    /// Where the file is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// These frames of each spectrum, `[frames, columns]`, in the order in which they were asked for.
    ///
    /// # Errors
    /// If the file is gone or is no longer the one that was opened, if it cannot be read, or if it holds values that are not
    /// finite there.
    pub fn read(&self, frames: Range<usize>) -> Result<Vec<Array2<f32>>> {
        if !self.is_plain() {
            let whole = self.read_whole()?;
            return Ok(whole.into_iter().map(|array| array.slice(s![frames.clone(), ..]).to_owned()).collect());
        }
        let mut file = File::open(&self.path).map_err(Error::io(&self.path))?;
        self.require_unchanged(Stamp::of(&file.metadata().map_err(Error::io(&self.path))?))?;
        let read = |place: &Place| self.rows(&mut file, place, frames.clone());
        self.places.iter().map(read).collect()
    }

    /// All frames of each spectrum, held against the archive's checksums.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn read_whole(&self) -> Result<Vec<Array2<f32>>> {
        let mut npz = Npz::open(&self.path, KIND)?;
        self.require_unchanged(npz.stamp())?;
        let frames = self.frames as u64;
        let read = |place: &Place| matrix(&mut npz, &self.path, place.spectrum.name(), frames, place.columns);
        self.places.iter().map(read).collect()
    }

    /// Reads everything once, without keeping it.
    ///
    /// # Errors
    /// As [`read_whole`](Self::read_whole).
    pub fn verify(&self) -> Result<()> {
        let mut npz = Npz::open(&self.path, KIND)?;
        self.require_unchanged(npz.stamp())?;
        for place in &self.places {
            let (name, mut before) = (place.spectrum.name(), 0);
            npz.each_float(name, |values| {
                finite(&self.path, name, values, before)?;
                before += values.len();
                Ok(())
            })?;
        }
        Ok(())
    }

    /// Samples of what was analysed.
    pub fn samples(&self) -> u64 {
        self.samples
    }

    /// These samples of what was analysed.
    ///
    /// # Errors
    /// As [`read`](Self::read), and if the file was written without it.
    pub fn read_sound(&self, samples: Range<usize>) -> Result<Vec<f32>> {
        let now = std::fs::metadata(&self.path).map_err(Error::io(&self.path))?;
        self.require_unchanged(Stamp::of(&now))?;
        let mut npz = Npz::open(&self.path, KIND)?;
        require_shape(&mut npz, &self.path, "au", &[self.samples])?;
        let Some(start) = npz.start("au")? else {
            let whole = npz.floats("au")?.values;
            finite(&self.path, "au", &whole, 0)?;
            return Ok(whole[samples].to_vec());
        };
        let mut file = File::open(&self.path).map_err(Error::io(&self.path))?;
        self.values(&mut file, "au", start, samples)
    }

    fn rows(&self, file: &mut File, place: &Place, frames: Range<usize>) -> Result<Array2<f32>> {
        let start = place.start.expect("only of files whose arrays lie plainly");
        let wanted = frames.start * place.columns..frames.end * place.columns;
        let values = self.values(file, place.spectrum.name(), start, wanted)?;
        Ok(Array2::from_shape_vec((frames.len(), place.columns), values).expect("as many values as were asked for"))
    }

    /// Values of the array `name`, which lies plainly from byte `start` on.
    fn values(&self, file: &mut File, name: &str, start: u64, wanted: Range<usize>) -> Result<Vec<f32>> {
        let mut bytes = vec![0; wanted.len() * size_of::<f32>()];
        file.seek(SeekFrom::Start(start + (wanted.start * size_of::<f32>()) as u64))
            .and_then(|_| file.read_exact(&mut bytes))
            .map_err(Error::io(&self.path))?;
        let values: Vec<f32> = bytes.as_chunks::<4>().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect();
        finite(&self.path, name, &values, wanted.start)?;
        Ok(values)
    }

    fn require_unchanged(&self, now: Stamp) -> Result<()> {
        if now == self.stamp {
            return Ok(());
        }
        let message = format!(
            "was changed while it was in use ({} bytes, {} before): put it back as it was, and the same command goes on",
            now.len, self.stamp.len
        );
        Err(Error::file(&self.path, message))
    }
}
