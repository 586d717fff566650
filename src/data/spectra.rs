//! The spectra of a set's files: in memory as far as there is room, the rest where it lies on the disk.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread;

use ndarray::{Array2, s};
use rayon::prelude::*;

use super::{FeatureEntry, Item, many_at_once};
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
    files: Arc<Vec<OneFile>>,
    reading: Arc<Reading>,
}

struct OneFile {
    /// For people.
    name: String,
    reader: FrameReader,
    /// All of it, if there is room and it has been read.
    kept: OnceLock<Vec<Array2<f32>>>,
}

/// How the reading ahead of what is to be kept goes.
#[derive(Default)]
struct Reading {
    stop: AtomicBool,
    failed: Mutex<Option<Error>>,
}

impl Spectra {
    /// Of these files, as many of which are kept as there is `room` for: all of them are read here and now; if they do not
    /// all fit, those that do are read by and by, while others are read for each item.
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
        let readers = many_at_once(|| entries.par_iter().map(open).collect::<Result<Vec<_>>>())?;
        let mut order: Vec<usize> = (0..readers.len()).collect();
        order.sort_by_key(|&file| readers[file].is_plain()); // the others would be read whole for each item
        let fit = order.iter().take_while(|&&file| room.take(readers[file].bytes())).count();
        let slow = || order[fit..].iter().map(|&file| &readers[file]).filter(|reader| !reader.is_plain());
        if let Some(first) = slow().next() {
            tracing::warn!(
                "{} file(s) are compressed or stored by columns and read whole for each item ({}): a larger --data-memory or \
                 extracting them again makes training faster",
                slow().count(),
                first.path().display()
            );
        }
        let named = entries.iter().zip(readers);
        let file =
            |(entry, reader): (&&FeatureEntry, _)| OneFile { name: entry.name.clone(), reader, kept: OnceLock::new() };
        let (files, reading) = (Arc::new(named.map(file).collect::<Vec<_>>()), Arc::new(Reading::default()));
        if fit == files.len() {
            files.par_iter().try_for_each(OneFile::keep)?;
        } else if fit > 0 {
            order.truncate(fit);
            let (files, reading) = (files.clone(), reading.clone());
            let read = move || reading.all(order.iter().map(|&file| &files[file]));
            thread::Builder::new()
                .name("reading-ahead".into())
                .spawn(read)
                .map_err(|error| Error::Config(format!("cannot start a thread that reads data: {error}")))?;
        }
        Ok(Self { files, reading })
    }

    /// Frames of each file.
    pub(super) fn lengths(&self) -> Vec<usize> {
        self.files.iter().map(|file| file.reader.frames()).collect()
    }

    /// An item's frames of each spectrum.
    ///
    /// # Errors
    /// If its file, or one that was to be kept, cannot be read, is no longer what it was, or holds values that are not finite.
    ///
    /// # Panics
    /// If there are not `N` spectra.
    pub(super) fn read<const N: usize>(&self, item: Item) -> Result<[Array2<f32>; N]> {
        if let Some(error) = self.reading.failed.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).take() {
            return Err(error);
        }
        let OneFile { reader, kept, .. } = &self.files[item.file as usize];
        let arrays = match kept.get() {
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

impl OneFile {
    fn keep(&self) -> Result<()> {
        self.reader.read_whole().map(|arrays| drop(self.kept.set(arrays)))
    }
}

impl Reading {
    /// Reads the files to keep, one after the other, until one fails or nobody needs them any more.
    fn all<'a>(&self, mut files: impl Iterator<Item = &'a OneFile>) {
        let outcome = files.try_for_each(|file| match self.stop.load(Ordering::Relaxed) {
            true => Ok(()),
            false => file.keep(),
        });
        *self.failed.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = outcome.err();
    }
}

impl Drop for Spectra {
    fn drop(&mut self) {
        self.reading.stop.store(true, Ordering::Relaxed);
    }
}
