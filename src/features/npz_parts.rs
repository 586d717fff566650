//! Arrays written into a `.npz` archive part by part: byte for byte what `ndarray_npy` writes of whole ones, and of those that are
//! too large for it what numpy writes.

use std::io::{Seek, Write};
use std::path::Path;

use ndarray::Array2;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

use crate::{Error, Result};

/// Bytes that are written at once.
const PART: usize = 1 << 16;
/// Headers end at a multiple of this, so that values can be mapped into memory.
const ALIGNED: usize = 64;
/// From so many bytes on an entry's size does not fit where archives had it first.
const LARGE: u64 = u32::MAX as u64;

/// An archive of stored arrays that is being written.
pub(crate) struct NpzParts<'a, W: Write + Seek> {
    zip: ZipWriter<W>,
    /// Of the array, not yet written.
    waiting: Vec<u8>,
    path: &'a Path,
}

impl<'a, W: Write + Seek> NpzParts<'a, W> {
    /// Into `file`; `path` is what errors are about.
    pub fn new(file: W, path: &'a Path) -> Self {
        Self { zip: ZipWriter::new(file), waiting: Vec::with_capacity(PART), path }
    }

    /// Begins an array of values of a type in numpy's notation, such as `<f4`, in rows.
    pub fn begin(&mut self, name: &str, descr: &str, shape: &[usize]) -> Result<()> {
        self.write()?;
        let header = header(descr, shape);
        let width: u64 = descr[2..].parse().expect("after order and kind stand the bytes of a value");
        let bytes = shape.iter().fold(width, |bytes, &n| bytes.saturating_mul(n as u64)) + header.len() as u64;
        let options = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
        let options = options.large_file(bytes >= LARGE);
        self.zip.start_file(format!("{name}.npy"), options).map_err(|e| failed(self.path, e))?;
        self.waiting.extend(header);
        Ok(())
    }

    /// Adds a whole array, `[rows, columns]`.
    pub fn matrix(&mut self, name: &str, matrix: &Array2<f32>) -> Result<()> {
        self.begin(name, "<f4", matrix.shape())?;
        matrix.rows().into_iter().try_for_each(|row| match row.to_slice() {
            Some(row) => self.floats(row),
            None => self.floats(&row.to_vec()),
        })
    }

    /// Adds values to the array.
    pub fn floats(&mut self, values: &[f32]) -> Result<()> {
        values.iter().for_each(|value| self.waiting.extend(value.to_le_bytes()));
        self.write_parts()
    }

    /// Adds values to the array.
    pub fn bytes(&mut self, values: &[u8]) -> Result<()> {
        self.waiting.extend(values);
        self.write_parts()
    }

    /// Writes the archive's directory.
    pub fn finish(mut self) -> Result<()> {
        self.write()?;
        self.zip.finish().map(drop).map_err(|e| failed(self.path, e))
    }

    fn write_parts(&mut self) -> Result<()> {
        if self.waiting.len() < PART { Ok(()) } else { self.write() }
    }

    fn write(&mut self) -> Result<()> {
        let written = self.zip.write_all(&self.waiting).map_err(|e| failed(self.path, e));
        self.waiting.clear();
        written
    }
}

fn failed(path: &Path, error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::io(path)(std::io::Error::other(error))
}

/// The header of an array, in version 1.0 of numpy's format.
fn header(descr: &str, shape: &[usize]) -> Vec<u8> {
    let shape: String = match shape {
        [only] => format!("{only},"),
        _ => shape.iter().map(usize::to_string).collect::<Vec<_>>().join(", "),
    };
    let text = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': ({shape})}}");
    let start = b"\x93NUMPY\x01\x00";
    // The text ends with a newline, and with spaces before it up to the next multiple.
    let len = (start.len() + 2 + text.len() + 1) / ALIGNED * ALIGNED + ALIGNED;
    let mut header = start.to_vec();
    let text_len = u16::try_from(len - start.len() - 2).expect("a shape of a few numbers");
    header.extend(text_len.to_le_bytes());
    header.extend(text.as_bytes());
    header.resize(len - 1, b' ');
    header.push(b'\n');
    header
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::SeekFrom;

    use tempfile::TempDir;

    use super::*;
    use crate::features::npy::Npz;
    use crate::features::{BandSums, FeatureConfig, FeatureMeta, FrameReader, Spectrum, VERSION, file};

    /// A file in which parts that are zero take no room on the disk.
    struct Holes(File);

    impl Write for Holes {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            if bytes.len() < PART || bytes[0] != 0 || bytes[1..] != bytes[..bytes.len() - 1] {
                return self.0.write(bytes);
            }
            self.0.seek(SeekFrom::Current(bytes.len() as i64))?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            self.0.flush()
        }
    }

    impl Seek for Holes {
        fn seek(&mut self, to: SeekFrom) -> std::io::Result<u64> {
            self.0.seek(to)
        }
    }

    #[test]
    fn arrays_beyond_four_gigabytes_are_read_where_they_lie_and_what_follows_them_too() {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("long.feat.npz");
        let (frames, bins) = (32_800, 32_769);
        let meta = FeatureMeta {
            config: FeatureConfig { n_fft: 2 * (bins - 1), ..FeatureConfig::default() },
            source_rate: 16_000,
            source_samples: frames as u64 * 160,
            trim_start: 0,
            trim_end: frames as u64 * 160,
            gain: 1.0,
            frames: frames as u64,
            bands: BandSums { count: 0, sum: vec![], sum_sq: vec![], finite: true },
            version: VERSION,
        };
        let mut npz = NpzParts::new(Holes(File::create(&path).unwrap()), &path);
        npz.begin("logspec", "<f4", &[frames, bins]).unwrap();
        let (end, zeros) = (vec![1.5; bins], vec![0; bins * size_of::<f32>()]);
        npz.floats(&end).unwrap();
        (2..frames).for_each(|_| npz.bytes(&zeros).unwrap());
        npz.floats(&end).unwrap();
        npz.matrix("logmel", &Array2::from_elem((frames, 80), 2.5)).unwrap();
        npz.finish().unwrap();
        assert!(path.metadata().unwrap().len() > 1 << 32);

        let reader = FrameReader::open(&path, &meta, &[Spectrum::Logspec, Spectrum::Logmel]).unwrap();
        for (frame, value) in [(0, 1.5), (1, 0.0), (frames - 2, 0.0), (frames - 1, 1.5)] {
            let found = reader.read(frame..frame + 1).unwrap();
            assert!(found[0].iter().all(|&x| x == value) && found[0].dim() == (1, bins), "logspec, frame {frame}");
            assert!(found[1].iter().all(|&x| x == 2.5) && found[1].dim() == (1, 80), "logmel, frame {frame}");
        }
        let logmel = Npz::open(&path, file::KIND).unwrap().floats("logmel").unwrap();
        assert!(logmel.values == [2.5].repeat(frames * 80));
    }
}
