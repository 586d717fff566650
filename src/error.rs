//! The crate's one error type. A message names the file or flag, what was found, what was needed, and the fix when it is known.

use std::path::{Path, PathBuf};

/// What can go wrong that is not the program's own fault.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The operating system refused to read, write, create or rename `path`.
    #[error("{}: {source}", path.display())]
    Io { path: PathBuf, source: std::io::Error },
    /// The content of `path` is not what it should be: damaged, truncated, of another kind, or outside the limits.
    #[error("{}: {message}", path.display())]
    File { path: PathBuf, message: String },
    /// A flag or configuration value that cannot work; the message names it and the values that do.
    #[error("{0}")]
    Config(String),
    /// Two things that must belong together do not (features and model, run and flags); the message lists each difference.
    #[error("{0}")]
    Mismatch(String),
    /// The device asked for is not there, or lacks something it needs.
    #[error("{0}")]
    Device(String),
    /// Training produced a value that is not finite.
    #[error("{0}")]
    Diverged(String),
}

impl Error {
    /// An [`Error::Io`] about `path`, for `map_err`.
    pub fn io(path: impl AsRef<Path>) -> impl FnOnce(std::io::Error) -> Error {
        let path = path.as_ref().to_path_buf();
        move |source| Error::Io { path, source }
    }

    /// An [`Error::File`] about the content of `path`.
    pub fn file(path: impl AsRef<Path>, message: impl std::fmt::Display) -> Error {
        Error::File { path: path.as_ref().to_path_buf(), message: message.to_string() }
    }
}

/// `std::result::Result` with this crate's [`Error`].
pub type Result<T> = std::result::Result<T, Error>;
