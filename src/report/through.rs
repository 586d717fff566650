//! What a VAE sounds through on a page: the inverter that was named, or the one whose run lies beside its own.

use std::fs;
use std::path::{Path, PathBuf};

use burn::tensor::Device;

use super::inverter::vocoding;
use super::run::Run;
use crate::Result;
use crate::features::FeatureConfig;
use crate::run::RunDir;
use crate::synth::Vocoder;

/// Of several inverters beside a run, the one that is meant is called this.
const USUAL: &str = "inverter";
/// Names told at most where none of several is meant.
const TOLD: usize = 3;

/// The inverter that VAEs sound through.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Inverter {
    /// For each VAE a run in the folder that its own lies in, of the same features; of several the one that is called `inverter`.
    #[default]
    Beside,
    /// This run, or one of its checkpoints.
    Run(PathBuf),
    /// None: mel bands are inverted without a network.
    None,
}

/// What one VAE sounds through.
pub(super) struct Through {
    /// The inverter's run, if there is one.
    pub inverter: Option<PathBuf>,
    pub vocoder: Vocoder,
    /// What a page says of it, as in "without an inverter".
    pub said: String,
}

impl Inverter {
    /// What `run`, a VAE's, sounds through. Whether something lies beside it is logged, unless `quiet`.
    ///
    /// # Errors
    /// If the run that was named cannot be opened, or understands other features.
    pub(super) fn of(&self, run: &Run, quiet: bool, device: &Device) -> Result<Through> {
        match self {
            Self::Run(inverter) => {
                let vocoder = Vocoder::open(inverter, vocoding(), device)?;
                vocoder.require(&run.about.config.features, inverter, &run.path)?;
                let said = format!("through the inverter {}", inverter.display());
                Ok(Through { inverter: Some(inverter.clone()), vocoder, said })
            }
            Self::None => without(run, String::new()),
            Self::Beside => beside(run, quiet, device),
        }
    }
}

/// Without a network; `why` continues the sentence.
fn without(run: &Run, why: String) -> Result<Through> {
    let vocoder = Vocoder::without_network(&run.about.config.features, vocoding())?;
    Ok(Through { inverter: None, vocoder, said: format!("without an inverter{why}") })
}

fn beside(run: &Run, quiet: bool, device: &Device) -> Result<Through> {
    let mut found = inverters(&run.beside, &run.about.config.features, device);
    if found.len() > 1
        && let Some(usual) = found.iter().position(|(path, _)| path.file_name().is_some_and(|name| name == USUAL))
    {
        found = vec![found.swap_remove(usual)];
    }
    let through = match found.len() {
        0 => return without(run, String::new()),
        1 => {
            let (inverter, vocoder) = found.remove(0);
            let said = format!("through the inverter {}, which lies beside the run", inverter.display());
            Through { inverter: Some(inverter), vocoder, said }
        }
        count => {
            let mut names: Vec<_> = found.iter().take(TOLD).map(|(path, _)| path.display().to_string()).collect();
            names.extend((count > TOLD).then(|| format!("{} more", count - TOLD)));
            let last = names.pop().expect("there are several");
            let names = names.join(", ");
            without(run, format!(": {names} and {last} lie beside the run, and --inverter RUN names one"))?
        }
    };
    if !quiet {
        tracing::info!("{}: sounds are made {}", run.path.display(), through.said);
    }
    Ok(through)
}

/// The inverters among the folders of `folder` that take these features, by name. What else is there, broken or not a run at all,
/// is nobody's business here.
fn inverters(folder: &Path, features: &FeatureConfig, device: &Device) -> Vec<(PathBuf, Vocoder)> {
    let place = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let entries = fs::read_dir(place).into_iter().flatten().flatten();
    let mut paths: Vec<PathBuf> = entries.map(|entry| folder.join(entry.file_name())).collect();
    paths.sort();
    let fits = |path: &PathBuf| {
        let about = RunDir::at(path).glance()?.about;
        (about.config.model.kind() == "inverter" && about.config.features.differences(features).is_empty())
            .then_some(())
    };
    let open = |path: PathBuf| {
        fits(&path)?;
        let vocoder = Vocoder::open(&path, vocoding(), device).ok()?;
        Some((path, vocoder))
    };
    paths.into_iter().filter_map(open).collect()
}
