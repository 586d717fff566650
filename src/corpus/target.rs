//! A corpus's folder: made or emptied, marked as this generator's, and never cleared of what others wrote.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use serde::Serialize;
use walkdir::WalkDir;

use crate::beside::{create_folder, write_beside};
use crate::walk::unreadable;
use crate::{Error, Result};

/// Written first and kept: by it a folder is known to be this generator's, and how it was made.
const MARK: &str = "corpus.json";
/// The voices of a babbling corpus.
pub const SPEAKERS: &str = "speakers.csv";
/// Ending of the table beside each utterance.
pub const EACH_FACTORS: &str = ".factors.csv";
/// The one table of a corpus of segments.
pub const ALL_FACTORS: &str = "factors.csv";
/// What the names of segments begin with.
pub const SEGMENT: &str = "seg-";

/// Empties the folder or makes it, and marks it with its configuration.
///
/// # Errors
/// [`Error::File`] if `folder` is not empty: without `overwrite` always, with it if anything there is not a corpus of
/// this generator. [`Error::Io`] when writing fails.
pub fn begin(folder: &Path, config: &impl Serialize, overwrite: bool) -> Result<()> {
    clear(folder, overwrite)?;
    create_folder(folder)?;
    let mark = serde_json::to_string_pretty(config).expect("a configuration is plain numbers");
    write(&folder.join(MARK), (mark + "\n").as_bytes())
}

/// Writes a small file whole.
pub fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    write_beside(path, |file| file.write_all(bytes).map_err(Error::io(path)))
}

/// Makes sure that `folder` holds nothing, and never deletes what this generator did not write.
fn clear(folder: &Path, overwrite: bool) -> Result<()> {
    if !folder.is_dir() {
        return Ok(());
    }
    let mut entries = fs::read_dir(folder).map_err(Error::io(folder))?;
    if entries.next().is_none() {
        return Ok(());
    }
    if !overwrite {
        return Err(Error::file(folder, "is not empty; --overwrite replaces a corpus, or name another folder"));
    }
    if !is_mark(&folder.join(MARK)) {
        return Err(Error::file(
            folder,
            format!("is no corpus of this tool (it has no {MARK} of its); name another folder"),
        ));
    }
    let mut files: Vec<PathBuf> = Vec::new();
    let mut folders: Vec<PathBuf> = Vec::new();
    for entry in WalkDir::new(folder).min_depth(1).sort_by_file_name() {
        let entry = entry.map_err(|error| unreadable(folder, error))?;
        if entry.file_type().is_dir() && is_our_folder(entry.path(), entry.depth()) {
            folders.push(entry.into_path());
        } else if is_ours(entry.path(), entry.depth()) {
            files.push(entry.into_path());
        } else {
            return Err(Error::file(
                entry.path(),
                "was not written by this tool; move it away, or name another folder",
            ));
        }
    }
    // The mark goes last: a clearing that is interrupted can be taken up again.
    files.sort_by_key(|path| path.ends_with(MARK));
    for path in files {
        fs::remove_file(&path).map_err(Error::io(&path))?;
    }
    for path in folders.iter().rev() {
        fs::remove_dir(path).map_err(Error::io(path))?;
    }
    Ok(())
}

/// Whether a file is the configuration of a corpus, whichever kind and version.
fn is_mark(path: &Path) -> bool {
    let config = fs::read(path).ok().and_then(|bytes| serde_json::from_slice::<serde_json::Value>(&bytes).ok());
    config.is_some_and(|config| ["sample_rate", "seed"].iter().all(|name| config[name].is_u64()))
}

/// Whether a folder is one that this generator makes: `train|test` or `train|test/SPEAKER`.
fn is_our_folder(path: &Path, depth: usize) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    match depth {
        1 => ["train", "test"].contains(&&*name),
        2 => is_speaker(&name),
        _ => false,
    }
}

/// Whether a name is that of a speaker, such as `s01-man`.
fn is_speaker(name: &str) -> bool {
    let number = name.strip_prefix('s').and_then(|rest| rest.split_once('-')).map_or("", |(number, _)| number);
    number.len() >= 2 && number.bytes().all(|byte| byte.is_ascii_digit())
}

/// Whether a file is one that this generator writes: a table, `train|test/SPEAKER/SPEAKER-0000.wav|.factors.csv`, or
/// `train|test/seg-000000.wav`.
fn is_ours(path: &Path, depth: usize) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    // A run that was killed may leave `.NAME.PROCESS.partial`.
    let partial =
        name.strip_prefix('.').and_then(|name| name.strip_suffix(".partial")).and_then(|name| name.rsplit_once('.'));
    let name = partial.map_or(&*name, |(name, _)| name);
    if depth == 1 {
        return [MARK, SPEAKERS, ALL_FACTORS].contains(&name);
    }
    let counts = |digits: &str, length| digits.len() == length && digits.bytes().all(|byte| byte.is_ascii_digit());
    if depth == 2 {
        let number = name.strip_prefix(SEGMENT).and_then(|rest| rest.strip_suffix(".wav"));
        return number.is_some_and(|digits| counts(digits, 6));
    }
    let speaker = path.parent().and_then(Path::file_name).unwrap_or_default().to_string_lossy();
    let number = name.strip_prefix(&*speaker).and_then(|rest| rest.strip_prefix('-'));
    let number = number.and_then(|rest| rest.strip_suffix(".wav").or_else(|| rest.strip_suffix(EACH_FACTORS)));
    depth == 3 && is_speaker(&speaker) && number.is_some_and(|digits| counts(digits, 4))
}
