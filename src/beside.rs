//! Writing a file so that others see it whole or not at all.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, BufWriter, ErrorKind, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use crate::{Error, Result};

/// Longest name of a file on common systems, in bytes.
const MAX_NAME: usize = 255;

/// Fails if `path` is there but is no regular file: a device, a pipe, a folder.
///
/// # Errors
/// [`Error::Io`] if it is not there, [`Error::File`] if it is something else.
pub(crate) fn require_regular(path: &Path) -> Result<()> {
    let kind = fs::metadata(path).map_err(Error::io(path))?.file_type();
    if kind.is_file() { Ok(()) } else { Err(Error::file(path, "is not a regular file")) }
}

/// Makes the folder, and those that it lies in, unless they are there.
///
/// # Errors
/// [`Error::File`] naming a file that is in the way, else [`Error::Io`] if it cannot be made.
pub(crate) fn create_folder(path: &Path) -> Result<()> {
    fs::create_dir_all(path).map_err(|error| match path.ancestors().find(|part| part.is_file()) {
        Some(file) => Error::file(file, "is a file, where a folder is needed: give another path, or move it away"),
        None => Error::io(path)(error),
    })
}

/// Makes the folder that a file will be written into.
///
/// # Errors
/// As [`create_folder`].
pub(crate) fn create_parent(path: &Path) -> Result<()> {
    path.parent().map_or(Ok(()), create_folder)
}

/// Removes a file that may be gone by now.
///
/// # Errors
/// [`Error::Io`] if it is there and stays.
pub(crate) fn remove_if_there(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(Error::io(path)(error)),
        _ => Ok(()),
    }
}

/// Lets `fill` write a file beside `path`, then renames it to `path`; if anything fails, neither is left. A link is written
/// through, and nothing but a regular file is replaced.
///
/// # Errors
/// What `fill` returns, [`Error::File`] if `path` is a device, a pipe or a folder, or [`Error::Io`] if the file cannot be made, written or renamed.
pub(crate) fn write_beside(path: &Path, fill: impl FnOnce(&mut Beside) -> Result<()>) -> Result<()> {
    let target = target(path)?;
    let path = target.as_path();
    let partial = partial_beside(path)?;

    let write = || {
        let file = File::create(&partial).map_err(Error::io(path))?;
        let mut writer = Beside { file: BufWriter::with_capacity(1 << 16, file), position: 0, error: None };
        let filled = fill(&mut writer);
        let _ = writer.flush();
        writer.error.map_or(Ok(()), |error| Err(Error::io(path)(error)))?;
        filled?;
        fs::rename(&partial, path).map_err(Error::io(path))
    };
    write().inspect_err(|_| {
        // The first error is the one to report; the partial file may not even have been made.
        let _ = fs::remove_file(&partial);
    })
}

/// The file that is meant by a path that can be written to: what a link leads to.
fn target(path: &Path) -> Result<PathBuf> {
    match fs::symlink_metadata(path) {
        Ok(_) => {
            require_regular(path)?;
            fs::canonicalize(path).map_err(Error::io(path))
        }
        Err(_) => Ok(path.to_path_buf()),
    }
}

/// Where something can be kept while `path` is made, on the same disk.
///
/// # Errors
/// [`Error::File`] if `path` is a device, a pipe or a folder, or no name of a file.
pub(crate) fn partial_beside(path: &Path) -> Result<PathBuf> {
    partial(&target(path)?, std::process::id()).ok_or_else(|| Error::file(path, "is not the name of a file"))
}

/// A file that is being written. The first error of the disk is kept and ends it: what is written from then on goes nowhere and
/// succeeds, so that a library in between has nothing to say on its own account.
pub(crate) struct Beside {
    file: BufWriter<File>,
    position: u64,
    error: Option<io::Error>,
}

impl Beside {
    /// What `of_file` gives, or if it or anything before it failed, `instead`.
    fn attempt<T>(&mut self, instead: T, of_file: impl FnOnce(&mut BufWriter<File>) -> io::Result<T>) -> T {
        if self.error.is_some() {
            return instead;
        }
        of_file(&mut self.file).unwrap_or_else(|error| {
            self.error = Some(error);
            instead
        })
    }
}

impl Write for Beside {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.attempt((), |file| file.write_all(bytes));
        self.position += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.attempt((), |file| file.flush());
        Ok(())
    }
}

impl Seek for Beside {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let instead = match to {
            SeekFrom::Start(position) => position,
            SeekFrom::Current(by) | SeekFrom::End(by) => self.position.saturating_add_signed(by),
        };
        self.position = self.attempt(instead, |file| file.seek(to));
        Ok(self.position)
    }
}

/// What is left if process `process` was killed while it wrote `path`, be that a link or the file itself.
pub(crate) fn leftover(path: &Path, process: u32) -> Option<PathBuf> {
    partial(&fs::canonicalize(path).unwrap_or_else(|_| path.to_path_buf()), process).filter(|partial| partial.exists())
}

/// The path under which `path` is written before it is renamed. The process id keeps two programs that write the same file
/// out of each other's way: the last rename wins. A name that leaves no room for the rest is cut and told apart by its sum.
fn partial(path: &Path, process: u32) -> Option<PathBuf> {
    let name = path.file_name()?.as_encoded_bytes();
    let tail = format!(".{process}.partial");
    let mut partial = OsString::from(".");
    if 1 + name.len() + tail.len() <= MAX_NAME {
        partial.push(path.file_name()?);
    } else {
        partial.push(format!("{:08x}-{}", crc32c::crc32c(name), name.len()));
    }
    partial.push(tail);
    Some(path.with_file_name(partial))
}
