//! A run's folder: its checkpoints, and the lock that keeps a second trainer out.

use std::fs::{self, File, TryLockError};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::checkpoint::{is_news, remove_folder};
use super::tensors::NamedTensors;
use super::{About, Checkpoint};
use crate::beside::create_folder;
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

    /// Creates the folder if needed, takes its lock, and puts back a checkpoint whose replacement was killed half way.
    ///
    /// # Errors
    /// If the folder cannot be written, or another trainer holds the lock.
    pub fn lock(&self) -> Result<RunLock> {
        create_folder(&self.path)?;
        let path = self.path.join(".lock");
        let file = File::create(&path).map_err(Error::io(&path))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let message = "another trainer is using this folder; give another LOGDIR or stop it";
                return Err(Error::file(&self.path, message));
            }
            Err(TryLockError::Error(error)) => tracing::warn!(
                "{}: this file system has no locks ({error}): see to it that nothing else trains in this folder",
                self.path.display()
            ),
        }
        for name in self.names()? {
            let Some(place) = name.strip_suffix(".old").filter(|name| name.starts_with("step-")) else { continue };
            let place = self.path.join(place);
            if !place.exists() {
                fs::rename(self.path.join(&name), &place).map_err(Error::io(&place))?;
            }
        }
        is_news(&self.path); // who trains it uses the newest checkpoint
        Ok(RunLock { _file: file })
    }

    /// The newest checkpoint that training can go on from, `None` if the folder has none at all. Damaged ones are named in
    /// the log.
    ///
    /// # Errors
    /// If there are checkpoints but none can be read.
    pub fn latest(&self) -> Result<Option<Checkpoint>> {
        self.newest(|found| {
            found.verify()?;
            if found.path == self.step_path(found.about.step) {
                return Ok(found);
            }
            let step = found.about.step;
            Err(Error::file(&found.path, format!("is the checkpoint of step {step}, under another's name")))
        })
    }

    /// The newest checkpoint that training which diverged at `step` can go back to: an earlier one as [`latest`](Self::latest) has
    /// it, which was not saved amid steps that were not finite, as what came before them may be the cause. `None` if there is none.
    ///
    /// # Errors
    /// If the folder cannot be read.
    pub fn latest_sound(&self, step: u64) -> Result<Option<Checkpoint>> {
        for earlier in self.steps()?.into_iter().rev().filter(|&earlier| earlier < step) {
            match self.open(earlier).and_then(|found| found.verify().map(|()| found)) {
                Ok(found) if is_sound(&found) => return Ok(Some(found)),
                Ok(_) => {}
                Err(error) => tracing::warn!("passing over a damaged checkpoint: {error}"),
            }
        }
        Ok(None)
    }

    /// What `load` makes of the newest checkpoint that it does not fail on: one that cannot be loaded must not hide an older
    /// one that can. `None` if the folder has none at all; damaged ones are named in the log.
    ///
    /// # Errors
    /// If there are checkpoints but none can be loaded.
    pub fn newest<T>(&self, load: impl Fn(Checkpoint) -> Result<T>) -> Result<Option<T>> {
        let steps = self.steps()?;
        for &step in steps.iter().rev() {
            match self.open(step).and_then(&load) {
                Ok(loaded) => return Ok(Some(loaded)),
                Err(error) => tracing::warn!("passing over a damaged checkpoint: {error}"),
            }
        }
        match steps.len() {
            0 => Ok(None),
            count => Err(Error::file(&self.path, format!("none of its {count} checkpoint(s) can be read"))),
        }
    }

    /// Saves a checkpoint and, once it has been read back, removes all but the newest `keep`, the one of the least test loss and the
    /// newest that training could go back to.
    ///
    /// # Errors
    /// If it cannot be written; older checkpoints are then still there.
    pub fn save(&self, about: &About, model: &NamedTensors, optimizer: &NamedTensors, keep: usize) -> Result<PathBuf> {
        let path = self.step_path(about.step);
        Checkpoint::write(&path, about, model, optimizer)?;
        self.prune(about.step, keep)?;
        Ok(path)
    }

    fn prune(&self, newest: u64, keep: usize) -> Result<()> {
        let steps = self.steps()?;
        // Resuming passed over what lies beyond this step: it is damaged, and must not count as the newest.
        let (earlier, beyond) = steps.split_at(steps.partition_point(|&step| step <= newest));
        let sound = earlier.iter().rev().copied().find(|&step| self.open(step).is_ok_and(|found| is_sound(&found)));
        let kept = [self.best(earlier), sound];
        let old = &earlier[..earlier.len().saturating_sub(keep.max(1))];
        for &step in old.iter().filter(|&&step| !kept.contains(&Some(step))).chain(beyond) {
            remove_folder(&self.step_path(step))?;
        }
        let left = |name: &&String| name.starts_with("step-") && (name.ends_with(".tmp") || name.ends_with(".old"));
        for name in self.names()?.iter().filter(left) {
            remove_folder(&self.path.join(name))?; // a killed session's
        }
        Ok(())
    }

    /// Which of these checkpoints was saved with the least test loss: of equals the first, nearest to the evaluation.
    fn best(&self, steps: &[u64]) -> Option<u64> {
        let loss = |step: &u64| Some((*step, self.open(*step).ok()?.about.test_loss()?));
        steps.iter().filter_map(loss).min_by(|(_, one), (_, other)| one.total_cmp(other)).map(|(step, _)| step)
    }

    /// The newest checkpoint whose description can be read, `None` if there is none: whatever else the folder holds is passed over
    /// without a word, as one does with folders that may be no run's.
    pub fn glance(&self) -> Option<Checkpoint> {
        let steps = self.steps().ok()?;
        steps.into_iter().rev().find_map(|step| self.open(step).ok())
    }

    fn open(&self, step: u64) -> Result<Checkpoint> {
        Checkpoint::open(&self.step_path(step))
    }

    fn step_path(&self, step: u64) -> PathBuf {
        self.path.join(format!("step-{step:08}"))
    }

    /// Steps of the checkpoint folders, ascending.
    fn steps(&self) -> Result<Vec<u64>> {
        let names = self.names()?;
        let number = |name: &String| name.strip_prefix("step-").and_then(|step| step.parse::<u64>().ok());
        let mut steps: Vec<u64> = names.iter().filter_map(number).collect();
        steps.sort_unstable();
        Ok(steps)
    }

    /// What is in the folder, as far as it is text; nothing if the folder is not there.
    fn names(&self) -> Result<Vec<String>> {
        let entries = match fs::read_dir(&self.path) {
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
                return Ok(Vec::new());
            }
            // A folder that cannot be read must not pass for a new one: training would begin anew in it.
            found => found.map_err(Error::io(&self.path))?,
        };
        let name = |entry: std::io::Result<fs::DirEntry>| entry.map(|entry| entry.file_name().into_string().ok());
        let names = entries.map(name).collect::<std::io::Result<Vec<_>>>().map_err(Error::io(&self.path))?;
        Ok(names.into_iter().flatten().collect())
    }
}

/// Whether a checkpoint was not saved amid steps that were not finite.
fn is_sound(checkpoint: &Checkpoint) -> bool {
    checkpoint.about.trouble.in_a_row == 0
}
