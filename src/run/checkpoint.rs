//! One saved moment of a run: `step-N/` with `run.json`, `model.safetensors` and `optimizer.safetensors`.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::tensors::NamedTensors;
use super::{ModelConfig, RunConfig};
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
    /// From log-mels to the network's input.
    pub standardizer: Standardizer,
    /// The run's identity.
    pub config: RunConfig,
}

impl About {
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
        let means = self.standardizer.mean.len();
        let fits = [mels, means].iter().all(|&bands| bands == config.features.n_filterbank);
        let finite = self.standardizer.mean.iter().all(|mean| mean.is_finite()) && self.standardizer.std.is_normal();
        if fits && finite && bins == config.features.bins() && self.standardizer.std > 0.0 {
            return Ok(());
        }
        Err(Error::Config("damaged: features, model and standardizer contradict each other".into()))
    }
}

/// A checkpoint folder whose description has been read; the tensors are read when asked for.
#[derive(Clone, Debug)]
pub struct Checkpoint {
    /// The folder `step-N/`.
    pub path: PathBuf,
    /// What `run.json` says.
    pub about: About,
}

impl Checkpoint {
    /// Opens a checkpoint folder.
    ///
    /// # Errors
    /// If `run.json` is missing, damaged or of another version's form.
    pub fn open(path: &Path) -> Result<Self> {
        let about_path = path.join(ABOUT);
        let text = fs::read_to_string(&about_path).map_err(Error::io(&about_path))?;
        let about: About = serde_json::from_str(&text)
            .map_err(|error| Error::file(&about_path, format!("not a run description this version reads: {error}")))?;
        about.validate().map_err(|error| Error::file(&about_path, error))?;
        Ok(Self { path: path.to_path_buf(), about })
    }

    /// The newest checkpoint of `dir` whose model can be read, or `dir` itself if it is a checkpoint, with the model's
    /// parameters. The optimizer's moments need not be there.
    ///
    /// # Errors
    /// If there is none.
    pub fn with_model(dir: &Path) -> Result<(Self, NamedTensors)> {
        let load = |checkpoint: Self| checkpoint.model().map(|model| (checkpoint, model));
        if dir.join(ABOUT).exists() {
            return Self::open(dir).and_then(load);
        }
        match super::RunDir::at(dir).newest(load)? {
            Some(loaded) => Ok(loaded),
            None => Err(Error::file(dir, "holds no checkpoint (step-N folders); give the LOGDIR of a training run")),
        }
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

    /// The model's parameters.
    ///
    /// # Errors
    /// As [`NamedTensors::read`].
    pub fn model(&self) -> Result<NamedTensors> {
        NamedTensors::read(&self.model_path())
    }

    /// The optimizer's moments.
    ///
    /// # Errors
    /// As [`NamedTensors::read`].
    pub fn optimizer(&self) -> Result<NamedTensors> {
        NamedTensors::read(&self.optimizer_path())
    }

    /// Where the model's parameters lie.
    pub fn model_path(&self) -> PathBuf {
        self.path.join(MODEL)
    }

    /// Where the optimizer's moments lie.
    pub fn optimizer_path(&self) -> PathBuf {
        self.path.join(OPTIMIZER)
    }

    /// Writes `path` as a whole or not at all: beside it first, flushed to the disk, then renamed.
    ///
    /// # Errors
    /// [`Error::Io`] of the file that could not be written.
    pub fn write(path: &Path, about: &About, model: &NamedTensors, optimizer: &NamedTensors) -> Result<()> {
        let beside = path.with_extension("tmp");
        if beside.exists() {
            fs::remove_dir_all(&beside).map_err(Error::io(&beside))?;
        }
        Self::fill(&beside, about, model, optimizer).inspect_err(|_| {
            // The first error is the one to report; on a full disk this also gives the room back.
            let _ = fs::remove_dir_all(&beside);
        })?;
        fs::rename(&beside, path).map_err(Error::io(path))?;
        sync_folder(path.parent().unwrap_or(Path::new(".")))
    }

    fn fill(folder: &Path, about: &About, model: &NamedTensors, optimizer: &NamedTensors) -> Result<()> {
        fs::create_dir_all(folder).map_err(Error::io(folder))?;
        let text = serde_json::to_string_pretty(about).expect("a description is plain data");
        for (name, bytes) in [(MODEL, model.to_bytes()), (OPTIMIZER, optimizer.to_bytes()), (ABOUT, text.into_bytes())]
        {
            let file = folder.join(name);
            let mut open = File::create(&file).map_err(Error::io(&file))?;
            open.write_all(&bytes).and_then(|()| open.sync_all()).map_err(Error::io(&file))?;
        }
        sync_folder(folder)
    }
}

/// Makes the names in a folder durable.
fn sync_folder(path: &Path) -> Result<()> {
    File::open(path).and_then(|folder| folder.sync_all()).map_err(Error::io(path))
}
