//! Writing a file so that others see it whole or not at all.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

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

/// Makes the folder that a file will be written into.
///
/// # Errors
/// [`Error::Io`] if it cannot be made.
pub(crate) fn create_parent(path: &Path) -> Result<()> {
    path.parent().map_or(Ok(()), |folder| fs::create_dir_all(folder).map_err(Error::io(folder)))
}

/// Lets `fill` write a file beside `path`, then renames it to `path`; if anything fails, neither is left. A link is written
/// through, and nothing but a regular file is replaced.
///
/// # Errors
/// What `fill` returns, [`Error::File`] if `path` is a device, a pipe or a folder, or [`Error::Io`] if the file cannot be made, written or renamed.
pub(crate) fn write_beside(path: &Path, fill: impl FnOnce(&mut BufWriter<File>) -> Result<()>) -> Result<()> {
    let target = match fs::symlink_metadata(path) {
        Ok(_) => {
            require_regular(path)?;
            fs::canonicalize(path).map_err(Error::io(path))?
        }
        Err(_) => path.to_path_buf(),
    };
    let path = target.as_path();
    let name = path.file_name().ok_or_else(|| Error::file(path, "is not the name of a file"))?;
    let partial = path.with_file_name(partial_name(name));

    let write = || {
        let mut writer = BufWriter::with_capacity(1 << 16, File::create(&partial).map_err(Error::io(path))?);
        fill(&mut writer)?;
        writer.flush().map_err(Error::io(path))?;
        drop(writer);
        fs::rename(&partial, path).map_err(Error::io(path))
    };
    write().inspect_err(|_| {
        // The first error is the one to report; the partial file may not even have been made.
        let _ = fs::remove_file(&partial);
    })
}

/// The name under which a file is written before it is renamed to `name`. The process id keeps two programs that write
/// the same file out of each other's way: the last rename wins.
fn partial_name(name: &OsStr) -> OsString {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    let tail = format!(".{}.partial", std::process::id());
    let mut partial = OsString::from(".");
    if 1 + name.len() + tail.len() <= MAX_NAME {
        partial.push(name);
    } else {
        partial.push(COUNT.fetch_add(1, Ordering::Relaxed).to_string());
    }
    partial.push(tail);
    partial
}
