//! A run's folder: its checkpoints, and the lock that keeps a second trainer out.

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};

use super::tensors::NamedTensors;
use super::{About, Checkpoint};
use crate::{Error, Result};

/// LOGDIR.
#[derive(Clone, Debug)]
pub struct RunDir {
    path: PathBuf,
}

/// Held by the trainer of a run; the system releases it when the process ends, however it ends.
pub struct RunLock {
    _file: File,
}

impl RunDir {
    /// The folder at `path`, which need not exist yet.
    pub fn at(path: &Path) -> Self {
        Self { path: path.to_path_buf() }
    }

    /// The folder's path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Creates the folder if needed and takes its lock.
    ///
    /// # Errors
    /// If the folder cannot be written, or another trainer holds the lock.
    pub fn lock(&self) -> Result<RunLock> {
        fs::create_dir_all(&self.path).map_err(Error::io(&self.path))?;
        let path = self.path.join(".lock");
        let file = File::create(&path).map_err(Error::io(&path))?;
        match file.try_lock() {
            Ok(()) => Ok(RunLock { _file: file }),
            Err(TryLockError::WouldBlock) => {
                Err(Error::file(&self.path, "another trainer is using this folder; give another LOGDIR or stop it"))
            }
            Err(TryLockError::Error(source)) => Err(Error::Io { path, source }),
        }
    }

    /// The newest checkpoint that training can go on from, `None` if the folder has none at all. Damaged ones are named in
    /// the log.
    ///
    /// # Errors
    /// If there are checkpoints but none can be read.
    pub fn latest(&self) -> Result<Option<Checkpoint>> {
        self.newest(|found| found.model().and(found.optimizer()).map(|_| found))
    }

    /// What `load` makes of the newest checkpoint that it does not fail on: one that cannot be loaded must not hide an older
    /// one that can. `None` if the folder has none at all; damaged ones are named in the log.
    ///
    /// # Errors
    /// If there are checkpoints but none can be loaded.
    pub fn newest<T>(&self, load: impl Fn(Checkpoint) -> Result<T>) -> Result<Option<T>> {
        let steps = self.steps()?;
        for &step in steps.iter().rev() {
            match Checkpoint::open(&self.step_path(step)).and_then(&load) {
                Ok(loaded) => return Ok(Some(loaded)),
                Err(error) => tracing::warn!("passing over a damaged checkpoint: {error}"),
            }
        }
        match steps.len() {
            0 => Ok(None),
            count => Err(Error::file(&self.path, format!("none of its {count} checkpoint(s) can be read"))),
        }
    }

    /// Saves a checkpoint, then removes all but the newest `keep`.
    ///
    /// # Errors
    /// If it cannot be written; older checkpoints are then still there.
    pub fn save(&self, about: &About, model: &NamedTensors, optimizer: &NamedTensors, keep: usize) -> Result<PathBuf> {
        let path = self.step_path(about.step);
        if path.exists() {
            fs::remove_dir_all(&path).map_err(Error::io(&path))?; // damaged: resuming passed it over
        }
        Checkpoint::write(&path, about, model, optimizer)?;
        let steps = self.steps()?;
        // Resuming passed over what lies beyond this step: it is damaged, and must not count as the newest.
        let (earlier, beyond) = steps.split_at(steps.partition_point(|&step| step <= about.step));
        for step in earlier[..earlier.len().saturating_sub(keep.max(1))].iter().chain(beyond) {
            let old = self.step_path(*step);
            fs::remove_dir_all(&old).map_err(Error::io(&old))?;
        }
        Ok(path)
    }

    fn step_path(&self, step: u64) -> PathBuf {
        self.path.join(format!("step-{step:08}"))
    }

    /// Steps of the checkpoint folders, ascending.
    fn steps(&self) -> Result<Vec<u64>> {
        let Ok(entries) = fs::read_dir(&self.path) else { return Ok(Vec::new()) };
        let mut steps = Vec::new();
        for entry in entries {
            let name = entry.map_err(Error::io(&self.path))?.file_name();
            let step = name.to_str().and_then(|name| name.strip_prefix("step-"));
            steps.extend(step.and_then(|step| step.parse::<u64>().ok()));
        }
        steps.sort_unstable();
        Ok(steps)
    }
}
