//! Arrays written into a `.npz` archive part by part: byte for byte what `ndarray_npy` writes of whole ones.

use std::io::{Seek, Write};
use std::path::Path;

use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

use crate::{Error, Result};

/// Bytes that are written at once.
const PART: usize = 1 << 16;
/// Headers end at a multiple of this, so that values can be mapped into memory.
const ALIGNED: usize = 64;

/// An archive of stored arrays that is being written.
pub(super) struct NpzParts<'a, W: Write + Seek> {
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

    /// Begins an array of values of a type in numpy's notation, in rows.
    pub fn begin(&mut self, name: &str, descr: &str, shape: &[usize]) -> Result<()> {
        self.write()?;
        let options = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
        self.zip.start_file(format!("{name}.npy"), options).map_err(|e| failed(self.path, e))?;
        self.waiting.extend(header(descr, shape));
        Ok(())
    }

    /// Adds values to the array.
    pub fn floats(&mut self, values: &[f32]) -> Result<()> {
        values.iter().for_each(|value| self.waiting.extend(value.to_le_bytes()));
        if self.waiting.len() < PART { Ok(()) } else { self.write() }
    }

    /// Adds values to the array.
    pub fn bytes(&mut self, values: &[u8]) -> Result<()> {
        self.waiting.extend(values);
        Ok(())
    }

    /// Writes the archive's directory.
    pub fn finish(mut self) -> Result<()> {
        self.write()?;
        self.zip.finish().map(drop).map_err(|e| failed(self.path, e))
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
