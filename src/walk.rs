//! Folders of inputs: which files count, and whether outputs would come to lie among them.
//!
//! One policy for every program: names that begin with a dot are passed over (other systems leave such companions beside
//! real files), links are followed except back to a folder that they lie in, and the order is that of the paths.

use std::path::{Component, Path, PathBuf};

use walkdir::{DirEntry, WalkDir};

use crate::{Error, Result};

/// What a walk found.
#[derive(Debug)]
pub(crate) struct Found {
    /// Paths relative to the folder, sorted.
    pub files: Vec<PathBuf>,
    /// Folders and links that could not be read.
    pub unreadable: Vec<Error>,
}

impl Found {
    /// Fails if there is no file: with what could not be read, else with `nothing`.
    pub fn require_some(self, nothing: impl FnOnce() -> Error) -> Result<Self> {
        if self.files.is_empty() {
            return Err(self.unreadable.into_iter().next().unwrap_or_else(nothing));
        }
        Ok(self)
    }
}

/// The regular files below `folder` whose paths are `wanted`.
pub(crate) fn files_below(folder: &Path, wanted: impl Fn(&Path) -> bool) -> Found {
    let mut found = Found { files: Vec::new(), unreadable: Vec::new() };
    for entry in WalkDir::new(folder).follow_links(true).into_iter().filter_entry(|entry| !is_hidden(entry)) {
        match entry {
            Ok(entry) if entry.file_type().is_file() && wanted(entry.path()) => {
                let relative = entry.path().strip_prefix(folder).expect("the walk stays below its start");
                found.files.push(relative.to_path_buf());
            }
            Ok(entry) if !entry.file_type().is_dir() && wanted(entry.path()) => {
                tracing::warn!("{}: is not a regular file: skipped", entry.path().display());
            }
            Ok(_) => {}
            Err(e) if e.loop_ancestor().is_some() => tracing::warn!("{e}: not followed"),
            // A broken link matters only if it should have been a wanted file or a folder of them.
            Err(e) if e.path().is_some_and(|p| p.is_symlink() && p.extension().is_some() && !wanted(p)) => {}
            Err(e) => found.unreadable.push(unreadable(folder, e)),
        }
    }
    found.files.sort();
    found
}

/// What kept a walk of `folder` from reading an entry, about the path of that entry.
pub(crate) fn unreadable(folder: &Path, error: walkdir::Error) -> Error {
    let path = error.path().unwrap_or(folder).to_path_buf();
    let text = error.to_string();
    Error::Io { path, source: error.into_io_error().unwrap_or_else(|| std::io::Error::other(text)) }
}

fn is_hidden(entry: &DirEntry) -> bool {
    entry.depth() > 0 && entry.file_name().as_encoded_bytes().starts_with(b".")
}

/// Whether `path`, which need not exist yet, is `folder` or lies below it.
///
/// # Errors
/// [`Error::Io`] if `folder` is not there.
pub(crate) fn lies_inside(path: &Path, folder: &Path) -> Result<bool> {
    let folder = folder.canonicalize().map_err(Error::io(folder))?;
    let path = std::path::absolute(path).map_err(Error::io(path))?;
    // Links are resolved as far as the path exists; the rest of it will be created.
    let existing = path.ancestors().find_map(|a| Some((a.canonicalize().ok()?, path.strip_prefix(a).ok()?)));
    let (mut resolved, rest) = existing.unwrap_or((path.clone(), Path::new("")));
    for part in rest.components() {
        match part {
            Component::ParentDir => drop(resolved.pop()),
            other => resolved.push(other),
        }
    }
    Ok(resolved.starts_with(folder))
}
