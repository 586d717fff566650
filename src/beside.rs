//! Writing a file so that others see it whole or not at all.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::Path;

use crate::{Error, Result};

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
    let mut partial_name = std::ffi::OsString::from(".");
    partial_name.push(name);
    // The process id keeps two programs that write the same file out of each other's way: the last rename wins.
    partial_name.push(format!(".{}.partial", std::process::id()));
    let partial = path.with_file_name(partial_name);

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
