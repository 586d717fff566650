//! The spectra of a set's files: in memory as far as there is room, the rest where it lies on the disk.

use std::collections::{BTreeSet, HashSet};

use ndarray::{Array2, s};
use rayon::prelude::*;

use super::{FeatureEntry, Item};
use crate::features::{FrameReader, Spectrum};
use crate::{Error, Result};

/// Memory that data may still take.
#[derive(Clone, Copy, Debug)]
pub struct Room {
    bytes: u64,
}

impl Room {
    /// So many bytes.
    pub fn of(bytes: u64) -> Self {
        Self { bytes }
    }

    /// Enough for everything.
    pub fn unlimited() -> Self {
        Self::of(u64::MAX)
    }

    /// Takes so many bytes if they are there.
    fn take(&mut self, bytes: u64) -> bool {
        let left = self.bytes.checked_sub(bytes);
        self.bytes = left.unwrap_or(self.bytes);
        left.is_some()
    }
}

/// The files of a set as items are cut from them. Whether a file is in memory changes no value.
pub(super) struct Spectra {
    files: Vec<OneFile>,
}

struct OneFile {
    /// For people.
    name: String,
    reader: FrameReader,
    /// All of it, if there was room.
    kept: Option<Vec<Array2<f32>>>,
}

impl Spectra {
    /// Of these files; reads as many of them as there is `room` for.
    ///
    /// # Errors
    /// If a file cannot be read or lacks one of the spectra.
    pub(super) fn open(entries: Vec<&FeatureEntry>, spectra: &[Spectrum], room: &mut Room) -> Result<Self> {
        let open = |entry: &&FeatureEntry| {
            if u32::try_from(entry.meta.frames).is_err() {
                return Err(Error::file(&entry.path, "is longer than training can address: split it"));
            }
            FrameReader::open(&entry.path, &entry.meta, spectra)
        };
        let readers = entries.par_iter().map(open).collect::<Result<Vec<_>>>()?;
        let mut order: Vec<usize> = (0..readers.len()).collect();
        order.sort_by_key(|&file| readers[file].is_plain()); // the others would be read whole for each item
        let fits: HashSet<usize> = order.into_iter().take_while(|&file| room.take(readers[file].bytes())).collect();
        let slow = || readers.iter().enumerate().filter(|(file, reader)| !reader.is_plain() && !fits.contains(file));
        if let Some((_, first)) = slow().next() {
            tracing::warn!(
                "{} file(s) are compressed or stored by columns and read whole for each item ({}): a larger --data-memory or \
                 extracting them again makes training faster",
                slow().count(),
                first.path().display()
            );
        }
        let load = |(file, (entry, reader)): (usize, (&FeatureEntry, FrameReader))| {
            let kept = fits.contains(&file).then(|| reader.read_whole()).transpose()?;
            Ok(OneFile { name: entry.name.clone(), reader, kept })
        };
        let files = entries.into_par_iter().zip(readers).enumerate().map(load).collect::<Result<_>>()?;
        Ok(Self { files })
    }

    /// Frames of each file.
    pub(super) fn lengths(&self) -> Vec<usize> {
        self.files.iter().map(|file| file.reader.frames()).collect()
    }

    /// An item's frames of each spectrum.
    ///
    /// # Errors
    /// If its file cannot be read, is no longer what it was, or holds values that are not finite there.
    ///
    /// # Panics
    /// If there are not `N` spectra.
    pub(super) fn read<const N: usize>(&self, item: Item) -> Result<[Array2<f32>; N]> {
        let OneFile { reader, kept, .. } = &self.files[item.file as usize];
        let arrays = match kept {
            Some(arrays) => arrays.iter().map(|array| array.slice(s![item.range(), ..]).to_owned()).collect(),
            None => reader.read(item.range())?,
        };
        Ok(arrays.try_into().unwrap_or_else(|arrays: Vec<_>| panic!("{} spectra, not {N}", arrays.len())))
    }

    /// What reads an item's file.
    pub(super) fn reader(&self, item: Item) -> &FrameReader {
        &self.files[item.file as usize].reader
    }

    /// The names of the files that items are of, each once.
    pub(super) fn names(&self, items: &[Item]) -> BTreeSet<String> {
        items.iter().map(|item| self.files[item.file as usize].name.clone()).collect()
    }
}
