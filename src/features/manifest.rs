//! `manifest.jsonl` beside the feature files: what became of every recording, so that a run that was cut short goes on and
//! one that is repeated does nothing.
//!
//! The first line holds the settings, every other one a recording; a later line about the same recording counts. Lines
//! are appended as the work goes on; one that a kill cut short is passed over.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Write};
use std::path::{Component, Path, PathBuf};
use std::time::UNIX_EPOCH;

use serde::{Deserialize, Serialize};

use super::corpus::{Item, key};
use super::{Contents, FeatureConfig};
use crate::beside::{create_folder, leftover, remove_if_there};
use crate::{Error, Result};

/// What all files of one target folder have in common.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// How features are computed.
    pub config: FeatureConfig,
    /// Which arrays the files hold.
    pub contents: Contents,
}

impl Settings {
    fn differences(&self, other: &Settings) -> Vec<String> {
        let mut lines = self.config.differences(&other.config);
        if self.contents != other.contents {
            lines.push(format!("arrays: {} and {}", self.contents, other.contents));
        }
        lines
    }
}

/// What is known of a recording without opening it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Stamp {
    /// Bytes.
    pub size: u64,
    /// Nanoseconds since 1970 at which it was last changed; 0 if the system does not say.
    pub mtime_ns: u64,
}

impl Stamp {
    /// That of the file at `path`.
    ///
    /// # Errors
    /// [`Error::Io`] if it cannot be looked at.
    pub fn of(path: &Path) -> Result<Stamp> {
        let metadata = fs::metadata(path).map_err(Error::io(path))?;
        let age = metadata.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        Ok(Stamp { size: metadata.len(), mtime_ns: age.map_or(0, |age| age.as_nanos() as u64) })
    }
}

/// What became of a recording.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "status", rename_all = "lowercase")]
pub enum Outcome {
    /// Its feature file is about to be written.
    Begun {
        /// The one that writes it: what it leaves if it is killed bears this number.
        #[serde(default)]
        process: u32,
    },
    /// Its feature file was written.
    Done {
        /// Rows of its spectra.
        frames: u64,
        /// How long the recording lasts.
        seconds: f64,
        /// Size of the feature file.
        bytes: u64,
    },
    /// It has none.
    Failed {
        /// Why.
        error: String,
    },
}

#[derive(Serialize, Deserialize)]
struct Line {
    input: String,
    output: String,
    #[serde(flatten)]
    stamp: Stamp,
    #[serde(flatten)]
    outcome: Outcome,
}

/// An open manifest, held by one process at a time.
pub struct Manifest {
    path: PathBuf,
    file: Option<File>,
    target_dir: PathBuf,
    lines: HashMap<String, Line>,
    /// Recordings whose feature file a killed process was writing, and which one that was.
    interrupted: HashMap<String, u32>,
}

impl Manifest {
    /// Opens the manifest of `target_dir`, or begins one and makes the folder if need be. With `renew` other settings replace those that
    /// are there, and what was done with them is forgotten. Each shard of a run writes a file of its own, named by `shard`, and renews
    /// no other shard's; files that a run cut into other shards, or not at all, has left with other settings are removed.
    ///
    /// # Errors
    /// [`Error::Mismatch`] naming each difference if what is there has other settings; [`Error::Io`] if it cannot be read
    /// or written; [`Error::File`] if it is no manifest or if another process holds it.
    pub fn open(
        target_dir: &Path,
        settings: &Settings,
        shard: Option<(usize, usize)>,
        renew: bool,
    ) -> Result<Manifest> {
        let name = shard.map_or("manifest.jsonl".into(), |(k, n)| format!("manifest-{k}-of-{n}.jsonl"));
        let path = target_dir.join(name);
        create_folder(target_dir)?;
        let file = OpenOptions::new().create(true).append(true).open(&path).map_err(Error::io(&path))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(in_use(&path));
            }
            // Some network file systems have no locks.
            Err(TryLockError::Error(e)) => tracing::debug!("{}: not locked: {e}", path.display()),
        }
        let mut manifest = Manifest::empty(path, target_dir);
        manifest.file = Some(file);
        let mut has_settings = false;
        for other in manifests(target_dir)? {
            let same = manifest.load(&other, settings, renew)?;
            if other == manifest.path {
                has_settings = same;
            } else if renew && !same && !shard.is_some_and(|(_, n)| is_shard_of(&other, n)) {
                retire(&other)?;
            }
        }
        if !has_settings {
            manifest.append(settings)?;
        }
        Ok(manifest)
    }

    /// What the manifests of `target_dir` say, if it is there, to be looked at only.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn look(target_dir: &Path, settings: &Settings, renew: bool) -> Result<Manifest> {
        let path = target_dir.join("manifest.jsonl");
        let mut manifest = Manifest::empty(path, target_dir);
        let found = if target_dir.is_dir() { manifests(target_dir)? } else { Vec::new() };
        found.iter().try_for_each(|path| manifest.load(path, settings, renew).map(drop))?;
        Ok(manifest)
    }

    fn empty(path: PathBuf, target_dir: &Path) -> Manifest {
        let (lines, interrupted) = (HashMap::new(), HashMap::new());
        Manifest { path, file: None, target_dir: target_dir.to_path_buf(), lines, interrupted }
    }

    /// Takes up the lines of one file; whether its last settings are the ones asked for.
    fn load(&mut self, path: &Path, settings: &Settings, renew: bool) -> Result<bool> {
        let bytes = match fs::read(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false), // renewed away by another shard
            read => read.map_err(Error::io(path))?,
        };
        if let Some(file) =
            self.file.as_mut().filter(|_| path == self.path && !bytes.is_empty() && !bytes.ends_with(b"\n"))
        {
            file.write_all(b"\n").map_err(Error::io(path))?;
        }
        let mut lines = Vec::new();
        let mut found: Option<Settings> = None;
        for text in bytes.split(|&byte| byte == b'\n') {
            if let Ok(line) = serde_json::from_slice::<Line>(text) {
                // Who wrote the lines of this process's own file is dead; those of other files may yet be at work.
                if let (Outcome::Begun { process }, true) = (&line.outcome, path == self.path) {
                    self.interrupted.insert(line.input.clone(), *process);
                } else if path == self.path {
                    self.interrupted.remove(&line.input);
                }
                lines.push(line);
            } else if let Ok(newer) = serde_json::from_slice(text) {
                lines.clear();
                found = Some(newer);
            }
        }
        let Some(found) = found else {
            let whole = bytes.contains(&b'\n');
            return if whole { Err(Error::file(path, "is no manifest: move it away")) } else { Ok(false) };
        };
        let differences = found.differences(settings);
        if differences.is_empty() {
            self.lines.extend(lines.into_iter().map(|line| (line.input.clone(), line)));
        } else if !renew {
            return Err(Error::Mismatch(format!(
                "{} was made with other settings (its own, then the ones asked for), as {} says:\n  {}\nchoose another folder, or \
                 make all its files anew with --overwrite",
                self.target_dir.display(),
                path.file_name().unwrap_or_default().display(),
                differences.join("\n  ")
            )));
        }
        Ok(differences.is_empty())
    }

    /// Whether the feature file of `item` is there, from this very recording.
    pub fn is_current(&self, item: &Item, stamp: Stamp) -> bool {
        let Some(line) = self.lines.get(&key(&item.input)) else { return false };
        let Outcome::Done { bytes, .. } = line.outcome else { return false };
        line.stamp == stamp
            && line.output == self.name(&item.output)
            && fs::metadata(&item.output).is_ok_and(|m| m.len() == bytes)
    }

    /// Whether the recording has its feature file.
    pub fn is_done(&self, item: &Item) -> bool {
        let line = self.lines.get(&key(&item.input));
        line.is_some_and(|line| matches!(line.outcome, Outcome::Done { .. }) && line.output == self.name(&item.output))
    }

    /// How many of these recordings have a feature file on the other side of the split.
    pub fn on_other_side(&self, items: &[Item]) -> usize {
        let lies_elsewhere = |item: &&Item| {
            let (line, elsewhere) = (self.lines.get(&key(&item.input)), item.elsewhere.as_ref());
            line.zip(elsewhere).is_some_and(|(line, elsewhere)| line.output == self.name(elsewhere))
        };
        items.iter().filter(lies_elsewhere).count()
    }

    /// Feature files of recordings below `audio_dir` that are not among `items`, which are all that are chosen there, sorted.
    pub fn left_over(&self, audio_dir: &Path, items: &[Item]) -> Vec<PathBuf> {
        let chosen: HashSet<String> = items.iter().map(|item| key(&item.input)).collect();
        let made: HashSet<String> = items.iter().map(|item| self.name(&item.output)).collect();
        let below = key(&audio_dir.join(""));
        let lies_within =
            |output: &str| Path::new(output).components().all(|part| matches!(part, Component::Normal(_)));
        let is_left = |line: &&Line| {
            let is_others = !chosen.contains(&line.input) && !made.contains(&line.output);
            line.input.starts_with(&below) && is_others && lies_within(&line.output)
        };
        let paths = self.lines.values().filter(is_left).map(|line| self.target_dir.join(&line.output));
        let mut found: Vec<PathBuf> = paths.filter(|path| path.is_file()).collect();
        found.sort();
        found
    }

    /// Removes what is [`left_over`](Self::left_over); another shard may do so at the same time.
    ///
    /// # Errors
    /// [`Error::Io`] if a file cannot be removed.
    pub fn prune(left_over: &[PathBuf]) -> Result<()> {
        left_over.iter().try_for_each(|path| remove_if_there(path))
    }

    /// Whether the file at `output` is the one that this manifest has for the recording, and may be replaced.
    pub fn knows(&self, item: &Item, output: &Path) -> bool {
        self.lines.get(&key(&item.input)).is_some_and(|line| line.output == self.name(output))
    }

    /// The part of a feature file that a killed process left, if it did.
    pub fn leftover(&self, item: &Item) -> Option<PathBuf> {
        let process = *self.interrupted.get(&key(&item.input))?;
        [Some(&item.output), item.elsewhere.as_ref()].into_iter().flatten().find_map(|path| leftover(path, process))
    }

    fn name(&self, output: &Path) -> String {
        key(output.strip_prefix(&self.target_dir).unwrap_or(output))
    }

    /// Adds a line about `item`.
    ///
    /// # Errors
    /// [`Error::Io`] if it cannot be written.
    pub fn record(&mut self, item: &Item, stamp: Stamp, outcome: Outcome) -> Result<()> {
        let line = Line { input: key(&item.input), output: self.name(&item.output), stamp, outcome };
        self.append(&line)?;
        self.lines.insert(line.input.clone(), line);
        Ok(())
    }

    fn append(&mut self, value: &impl Serialize) -> Result<()> {
        let mut line = serde_json::to_vec(value).map_err(|e| Error::file(&self.path, e))?;
        line.push(b'\n');
        self.file.as_mut().map_or(Ok(()), |file| file.write_all(&line)).map_err(Error::io(&self.path))
    }
}

/// Whether a manifest is that of one of `n` shards.
fn is_shard_of(path: &Path, n: usize) -> bool {
    path.to_string_lossy().ends_with(&format!("-of-{n}.jsonl"))
}

/// Removes a manifest whose recordings are all done anew, unless somebody works with it.
fn retire(path: &Path) -> Result<()> {
    // Shared, as other shards may be about to remove it too.
    match File::open(path).map(|file| file.try_lock_shared()) {
        Ok(Err(TryLockError::WouldBlock)) => Err(in_use(path)),
        Ok(_) => remove_if_there(path),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(Error::io(path)(error)),
    }
}

fn in_use(path: &Path) -> Error {
    Error::file(path, "is in use: another extract-features works on this folder")
}

/// The manifests in a folder: one, and one for each shard.
fn manifests(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).map_err(Error::io(folder))? {
        let path = entry.map_err(Error::io(folder))?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if name.starts_with("manifest") && name.ends_with(".jsonl") {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}
