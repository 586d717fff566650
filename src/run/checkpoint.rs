//! One saved moment of a run: `step-N/` with `run.json`, `model.safetensors`, `optimizer.safetensors` and `manifest.json`,
//! which has the size and SHA-256 of the others. Nothing is believed of a file that is not exactly as it was saved.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use super::manifest::{MANIFEST, Manifest};
use super::tensors::NamedTensors;
use super::{ModelConfig, Objective, Origin, RunConfig};
use crate::data::{Position, Standardizer};
use crate::{Error, Result};

const ABOUT: &str = "run.json";
const MODEL: &str = "model.safetensors";
const OPTIMIZER: &str = "optimizer.safetensors";

/// Everything about a checkpoint but the tensors.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct About {
    /// Version of this crate that wrote it.
    pub version: String,
    /// Finished training steps.
    pub step: u64,
    /// Where the next batch comes from.
    pub position: Position,
    /// The last evaluation on the test set, by name; empty before the first.
    pub test: BTreeMap<String, f64>,
    /// The step of that evaluation; 0 before the first.
    pub tested: u64,
    /// The least test loss so far, `None` before the first evaluation.
    pub best: Option<Best>,
    /// Evaluations since that one.
    pub no_better: u64,
    /// Steps whose loss or gradients were not finite.
    pub trouble: Trouble,
    /// From log-mels to the network's input.
    pub standardizer: Standardizer,
    /// The run's identity.
    pub config: RunConfig,
}

/// What a run had of losses and gradients that are not finite.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trouble {
    /// Steps that changed nothing because of it.
    pub skipped: u64,
    /// Of these, how many came last, one after the other.
    pub in_a_row: u32,
    /// The step from which the run was put back to a checkpoint, once, to go on at half the learning rate.
    pub rolled_back: Option<u64>,
}

/// The least test loss of a run.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Best {
    /// When it was measured.
    pub step: u64,
    /// The test set's `total`.
    pub total: f64,
}

impl About {
    /// Notes an evaluation of this step. While what is asked of the latents grows, the test loss, which has it whole, may well
    /// rise: such evaluations do not count against the run.
    pub fn record(&mut self, test: BTreeMap<String, f64>) {
        self.test = test;
        self.tested = self.step;
        let best = self.best.map_or(f64::INFINITY, |best| best.total);
        self.no_better += 1;
        if let Some(total) = self.test_loss().filter(|&total| total < best) {
            self.best = Some(Best { step: self.step, total });
            self.no_better = 0;
        }
        if matches!(&self.config.objective, Objective::BetaVae(objective) if objective.grows(self.step)) {
            self.no_better = 0;
        }
    }

    /// The learning rate of the next step: the schedule's, or half of it once the run was put back.
    pub fn rate(&self) -> f64 {
        self.share() * self.config.schedule.rate(self.step)
    }

    /// The part of every learning rate that is kept: half once the run was put back.
    pub fn share(&self) -> f64 {
        if self.trouble.rolled_back.is_some() { 0.5 } else { 1.0 }
    }

    /// The test loss of the last evaluation, `None` before the first.
    pub fn test_loss(&self) -> Option<f64> {
        self.test.get("total").copied()
    }

    /// Whether more steps are worth it, in a sentence.
    pub fn conclusion(&self) -> String {
        match self.best {
            Some(best) if best.step < self.tested => format!(
                "The test loss was no longer improving: its best, {:.3}, is of step {} of {}.",
                best.total, best.step, self.step
            ),
            Some(_) => "The test loss was still improving at the end: a larger --steps goes on.".into(),
            None => "There is no evaluation on the test set yet.".into(),
        }
    }

    /// Checks that its parts fit each other.
    fn validate(&self) -> Result<()> {
        let config = &self.config;
        config.features.validate()?;
        let (mels, bins) = match &config.model {
            ModelConfig::Cbhg(model) => {
                model.validate()?;
                (model.n_mels, model.bins)
            }
            model => {
                let model = model.vae().expect("what is not an inverter is a VAE");
                model.validate()?;
                (model.n_mels(), config.features.bins())
            }
        };
        if let Objective::BetaVae(objective) = &config.objective {
            objective.factor().map_or(Ok(()), |factor| factor.discriminator.validate())?;
        }
        let means = self.standardizer.mean.len();
        let fits = [mels, means].iter().all(|&bands| bands == config.features.n_filterbank);
        let finite = self.standardizer.mean.iter().all(|mean| mean.is_finite()) && self.standardizer.std.is_normal();
        if fits && finite && bins == config.features.bins() && self.standardizer.std > 0.0 {
            return Ok(());
        }
        Err(Error::Config("damaged: features, model and standardizer contradict each other".into()))
    }
}

/// A checkpoint folder whose description has been read; the tensors are read, and held against the manifest, when asked for.
#[derive(Clone, Debug)]
pub struct Checkpoint {
    /// The folder `step-N/`.
    pub path: PathBuf,
    manifest: Manifest,
    /// What `run.json` says.
    pub about: About,
}

/// Whether nothing was said yet of which checkpoint of a run is used; from now on something was.
pub(super) fn is_news(run: &Path) -> bool {
    static TOLD: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());
    let run = run.canonicalize().unwrap_or_else(|_| run.to_path_buf());
    TOLD.lock().unwrap_or_else(PoisonError::into_inner).insert(run)
}

impl Checkpoint {
    /// Opens a checkpoint folder.
    ///
    /// # Errors
    /// If `manifest.json` or `run.json` is missing or damaged, or `run.json` is of another version's form.
    pub fn open(path: &Path) -> Result<Self> {
        let manifest = Manifest::read(path)?;
        let about_path = path.join(ABOUT);
        let about: About = serde_json::from_slice(&manifest.verified(path, ABOUT)?)
            .map_err(|error| Error::file(&about_path, format!("not a run description this version reads: {error}")))?;
        about.validate().map_err(|error| Error::file(&about_path, error))?;
        Ok(Self { path: path.to_path_buf(), manifest, about })
    }

    /// Checks that training can go on from it: every file is as it was saved, and the tensors are finite.
    ///
    /// # Errors
    /// Of the first file that is not.
    pub fn verify(&self) -> Result<()> {
        self.model()?;
        self.optimizer()?;
        Ok(())
    }

    /// The newest checkpoint of `dir` whose model can be read, or `dir` itself if it is a checkpoint, with the model's
    /// parameters. The optimizer's moments need not be there.
    ///
    /// # Errors
    /// If there is none.
    pub fn with_model(dir: &Path) -> Result<(Self, NamedTensors)> {
        let load = |checkpoint: Self| checkpoint.model().map(|model| (checkpoint, model));
        if dir.join(ABOUT).exists() || dir.join(MANIFEST).exists() {
            return Self::open(dir).and_then(load);
        }
        match super::RunDir::at(dir).newest(load)? {
            Some((newest, model)) => {
                newest.tell_of_better();
                Ok((newest, model))
            }
            None => Err(Error::file(dir, "holds no checkpoint (step-N folders); give the LOGDIR of a training run")),
        }
    }

    /// Says that another checkpoint of the run has a lesser test loss, where one is there: once, and not to who trains the run.
    fn tell_of_better(&self) {
        let Some(best) = self.about.best.as_ref().filter(|best| best.step != self.about.step) else { return };
        let better = self.path.with_file_name(format!("step-{:08}", best.step));
        if better.is_dir() && self.run_folder().is_ok_and(|run| is_news(&run)) {
            tracing::info!(
                "the newest checkpoint is used, {}; the least test loss is that of {}, which can be named instead",
                self.path.display(),
                better.display()
            );
        }
    }

    /// The run's folder, in which the checkpoint's lies, whichever of them was named, and from wherever.
    ///
    /// # Errors
    /// [`Error::Io`] if it is no longer there.
    pub fn run_folder(&self) -> Result<PathBuf> {
        let path = self.path.canonicalize().map_err(Error::io(&self.path))?;
        Ok(path.parent().unwrap_or(&path).to_path_buf())
    }

    /// Checks that this is a run of the wanted kind and gives its model's configuration.
    ///
    /// # Errors
    /// [`Error::Mismatch`] naming both kinds. `wanted` is "VAE" or "inverter".
    pub fn require(&self, wanted: &str) -> Result<&ModelConfig> {
        let model = &self.about.config.model;
        if model.kind() == wanted {
            return Ok(model);
        }
        Err(Error::Mismatch(format!(
            "{} is a run of the {}, where one of the {wanted} is needed",
            self.path.display(),
            model.kind()
        )))
    }

    /// The parameters of the model to use: their average where the run keeps one.
    ///
    /// # Errors
    /// If the file is not as it was saved; then as [`NamedTensors::from_bytes`].
    pub fn model(&self) -> Result<NamedTensors> {
        NamedTensors::from_bytes(&self.manifest.verified(&self.path, MODEL)?, &self.model_path())
    }

    /// What training needs beside them to go on: the optimizer's moments, the parameters that an average is of, and the
    /// discriminator with its own moments.
    ///
    /// # Errors
    /// As [`model`](Self::model).
    pub fn optimizer(&self) -> Result<NamedTensors> {
        NamedTensors::from_bytes(&self.manifest.verified(&self.path, OPTIMIZER)?, &self.optimizer_path())
    }

    /// What a run says of itself that begins with this model; `run` is how the checkpoint was named.
    pub fn origin(&self, run: &Path) -> Origin {
        let sha256 = self.manifest.sha256(MODEL).to_string();
        Origin { run: run.to_path_buf(), step: self.about.step, sha256 }
    }

    /// Where the model's parameters lie.
    pub fn model_path(&self) -> PathBuf {
        self.path.join(MODEL)
    }

    /// Where the optimizer's moments lie.
    pub fn optimizer_path(&self) -> PathBuf {
        self.path.join(OPTIMIZER)
    }

    /// Writes `path` as a whole or not at all: as `step-N.tmp` first, each file flushed to the disk and the manifest last, then
    /// renamed. What is at `path` is replaced; it steps aside as `step-N.old` until the new one is in its place, and
    /// [`RunDir::lock`](super::RunDir::lock) puts it back if that never happened.
    ///
    /// # Errors
    /// [`Error::Io`] of the file that could not be written, or as [`verify`](Self::verify) if the disk does not give back
    /// what was written; what was at `path` is then still there.
    pub fn write(path: &Path, about: &About, model: &NamedTensors, optimizer: &NamedTensors) -> Result<()> {
        let beside = path.with_extension("tmp");
        remove_folder(&beside)?;
        let written = Self::fill(&beside, about, model, optimizer).and_then(|()| Self::open(&beside)?.verify());
        written.inspect_err(|_| {
            // The first error is the one to report; on a full disk this also gives the room back.
            let _ = fs::remove_dir_all(&beside);
        })?;
        let aside = path.with_extension("old");
        if path.exists() {
            remove_folder(&aside)?;
            fs::rename(path, &aside).map_err(Error::io(path))?;
        }
        fs::rename(&beside, path).map_err(Error::io(path))?;
        sync_folder(path.parent().unwrap_or(Path::new(".")))?;
        remove_folder(&aside)
    }

    fn fill(folder: &Path, about: &About, model: &NamedTensors, optimizer: &NamedTensors) -> Result<()> {
        fs::create_dir_all(folder).map_err(Error::io(folder))?;
        let text = serde_json::to_string_pretty(about).expect("a description is plain data");
        let mut manifest = Manifest::default();
        for (name, bytes) in [(MODEL, model.to_bytes()), (OPTIMIZER, optimizer.to_bytes()), (ABOUT, text.into_bytes())]
        {
            manifest.add(name, &bytes);
            write_synced(&folder.join(name), &bytes)?;
        }
        write_synced(&folder.join(MANIFEST), &manifest.to_bytes())?;
        sync_folder(folder)
    }
}

fn write_synced(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut file = File::create(path).map_err(Error::io(path))?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(Error::io(path))
}

/// Removes a folder with what is in it, if it is there.
pub(super) fn remove_folder(path: &Path) -> Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        removed => removed.map_err(Error::io(path)),
    }
}

/// Makes the names in a folder durable.
fn sync_folder(path: &Path) -> Result<()> {
    File::open(path).and_then(|folder| folder.sync_all()).map_err(Error::io(path))
}
