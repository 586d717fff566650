//! Numbers on disk in place of memory, while a file is made of them.
//!
//! They lie beside that file, where there is room for it. Their own file has no name from the moment it is there: it vanishes with
//! the process, however that ends.

use std::fs::{self, File};
use std::io::{BufWriter, Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};

use ndarray::Array2;

use crate::beside::partial_beside;
use crate::features::Frames;
use crate::{Error, Result};

/// Rows that are being written.
pub(crate) struct Spool {
    file: BufWriter<File>,
    columns: usize,
    values: usize,
    /// The file that they are for: what errors are about.
    path: PathBuf,
}

/// Rows that can be read.
pub(crate) struct Spooled {
    file: File,
    columns: usize,
    rows: usize,
    path: PathBuf,
}

impl Spool {
    /// For rows of so many columns, on the disk that `path` will be written to.
    ///
    /// # Errors
    /// [`Error::Io`] if nothing can be written there.
    pub fn beside(path: &Path, columns: usize) -> Result<Self> {
        let hidden = partial_beside(path)?;
        let file = File::options().read(true).write(true).create(true).truncate(true).open(&hidden);
        let file = file.map_err(Error::io(path))?;
        fs::remove_file(&hidden).map_err(Error::io(path))?;
        Ok(Self { file: BufWriter::with_capacity(1 << 16, file), columns, values: 0, path: path.to_path_buf() })
    }

    /// Takes more values.
    ///
    /// # Errors
    /// [`Error::Io`] if the disk does not.
    pub fn append(&mut self, values: &[f32]) -> Result<()> {
        self.values += values.len();
        let mut write = || values.iter().try_for_each(|value| self.file.write_all(&value.to_le_bytes()));
        write().map_err(Error::io(&self.path))
    }

    /// What was written, to be read.
    ///
    /// # Errors
    /// [`Error::Io`] if the disk did not take it all.
    ///
    /// # Panics
    /// If the last row is not full.
    pub fn finish(self) -> Result<Spooled> {
        let Self { file, columns, values, path } = self;
        assert!(values.is_multiple_of(columns), "{values} values are no rows of {columns}");
        let file = file.into_inner().map_err(|error| Error::io(&path)(error.into_error()))?;
        Ok(Spooled { file, columns, rows: values / columns, path })
    }
}

impl Frames for Spooled {
    fn frames(&self) -> usize {
        self.rows
    }

    fn read(&self, range: Range<usize>) -> Result<Array2<f32>> {
        let width = self.columns * size_of::<f32>();
        let mut bytes = vec![0; range.len() * width];
        let mut file = &self.file;
        file.seek(SeekFrom::Start((range.start * width) as u64))
            .and_then(|_| file.read_exact(&mut bytes))
            .map_err(Error::io(&self.path))?;
        let values = bytes.as_chunks::<4>().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect();
        Ok(Array2::from_shape_vec((range.len(), self.columns), values).expect("as many values as were asked for"))
    }
}

#[cfg(test)]
mod tests {
    use ndarray::array;

    use super::*;

    #[test]
    fn rows_come_back_in_any_order_and_no_file_is_seen() {
        let folder = tempfile::TempDir::new().unwrap();
        let mut spool = Spool::beside(&folder.path().join("out.wav"), 2).unwrap();
        spool.append(&[1.0, 2.0, 3.0]).unwrap();
        spool.append(&[f32::INFINITY, -5.0, 6.0]).unwrap();
        let spooled = spool.finish().unwrap();
        assert_eq!(spooled.frames(), 3);
        assert_eq!(spooled.read(1..3).unwrap(), array![[3.0, f32::INFINITY], [-5.0, 6.0]]);
        assert_eq!(spooled.read(0..1).unwrap(), array![[1.0, 2.0]]);
        assert_eq!(spooled.read(3..3).unwrap().dim(), (0, 2));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        let error = Spool::beside(&folder.path().join("no/out.wav"), 2).err().unwrap().to_string();
        assert!(error.contains("no/out.wav"), "{error}");
    }
}
