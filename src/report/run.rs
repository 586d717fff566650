//! A run as the report knows it: its last checkpoint, its curves, its flags and the recordings it was tested on.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::curves::Curves;
use super::markup::{Section, duration, escape, number, paragraph, table};
use crate::data::FeatureSet;
use crate::metrics::SoundOfRun;
use crate::run::{About, Checkpoint, Machine, RunConfig, leaves};
use crate::synth::Meanings;
use crate::{Error, Result};

/// A run that has saved at least one checkpoint.
pub(super) struct Run {
    /// What its folder is called.
    pub name: String,
    /// The folder that was named: the run's or a checkpoint's.
    pub path: PathBuf,
    /// The folder that the run's lies in, among whose folders its inverter may be.
    pub beside: PathBuf,
    /// What its checkpoint says.
    pub about: About,
    /// How many values its model has.
    pub parameters: usize,
    pub curves: Curves,
    /// Of `config.toml`, by name.
    flags: BTreeMap<String, String>,
    /// What it was trained on, or why that is not known.
    machines: std::result::Result<Vec<Machine>, String>,
    /// What its latents were found to mean, if anyone looked, or why that cannot be told.
    pub meanings: std::result::Result<Option<Meanings>, String>,
    /// How it sounds, if anyone measured, or why that cannot be told.
    pub sound: std::result::Result<Option<SoundOfRun>, String>,
    /// What it was tested on, or why that is not here.
    pub recordings: std::result::Result<FeatureSet, String>,
}

impl Run {
    /// Opens a run or one of its checkpoints; `features` is a folder of recordings to show in place of those of its test.
    ///
    /// # Errors
    /// If there is no checkpoint, or none can be read.
    pub(super) fn open(path: &Path, features: Option<&Path>) -> Result<Self> {
        let (checkpoint, tensors) = Checkpoint::with_model(path)?;
        let saved = fs::canonicalize(&checkpoint.path).map_err(Error::io(&checkpoint.path))?;
        let root = saved.parent().unwrap_or(&saved);
        let name = |folder: &Path| folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let is_checkpoint = fs::canonicalize(path).is_ok_and(|given| given == saved);
        let name = if is_checkpoint { format!("{}/{}", name(root), name(&saved)) } else { name(root) };
        let written = if is_checkpoint { path.parent() } else { Some(path) };
        // As the user wrote it, unless that ends in `..` or says nothing.
        let beside = written.filter(|run| run.file_name().is_some()).or(Some(root)).and_then(Path::parent);
        let beside = beside.unwrap_or(root).to_path_buf();
        let flags = flags(&root.join("config.toml"));
        let about = checkpoint.about;
        let recordings = match features {
            Some(folder) => given(folder, &about.config)?,
            None => remembered(root, &flags, &about.config),
        };
        let parameters = tensors.0.values().map(|(_, values)| values.len()).sum();
        let curves = Curves::read(&root.join("metrics.jsonl"));
        let machines = Machine::until(root, about.step).map_err(|error| error.to_string());
        let fingerprint = tensors.fingerprint();
        let latents = about.config.model.vae().map(|vae| vae.latents());
        let meanings = latents.map(|latents| Meanings::read(&saved, &fingerprint, latents));
        let meanings = meanings.transpose().map(Option::flatten).map_err(|error| error.to_string());
        let sound = SoundOfRun::read(&saved, &fingerprint).map_err(|error| error.to_string());
        let path = path.to_path_buf();
        Ok(Self { name, path, beside, about, parameters, curves, flags, machines, meanings, sound, recordings })
    }

    /// Whether it is a VAE's, an inverter's otherwise.
    pub(super) fn is_vae(&self) -> bool {
        self.about.config.model.vae().is_some()
    }

    /// The divergence of each latent over the test set at its last evaluation, in nats, the greatest first; none before it.
    pub(super) fn divergences(&self) -> Vec<(usize, f64)> {
        self.curves.divergences(self.about.tested)
    }

    /// How many latents said anything then.
    pub(super) fn active(&self) -> Option<f64> {
        self.curves.at("latents/active", self.about.tested)
    }

    /// Its configuration as names with dots and values.
    pub(super) fn settings(&self) -> BTreeMap<String, String> {
        told(&serde_json::to_value(&self.about.config).expect("a configuration is plain data"))
    }

    /// What computed its last steps.
    pub(super) fn machine(&self) -> String {
        let last = self.machines.iter().flatten().last();
        last.map_or_else(
            || "not recorded".into(),
            |Machine { device, processor, cores, .. }| format!("{device}; {processor}, {cores} cores"),
        )
    }

    /// Where it was trained, from which step on.
    fn trained_on(&self) -> String {
        match &self.machines {
            Ok(machines) => {
                let row = |Machine { step, device, processor, cores, system, program }: &Machine| {
                    let step = number(*step as f64);
                    let cores = format!("{processor}, {cores} cores");
                    vec![step, device.clone(), cores, system.clone(), program.clone()]
                };
                let headings = ["from step", "device", "processor", "system", "program"].map(String::from);
                let rows: Vec<_> = machines.iter().map(row).collect();
                let known = if rows.is_empty() { String::new() } else { table("Trained on", &headings, &rows) };
                let open =
                    Machine::not_recorded(machines).map(|open| format!("The machine it was trained on is {open}."));
                known + &open.map(paragraph).unwrap_or_default()
            }
            Err(reason) => paragraph(reason),
        }
    }

    /// What it is made of: configuration, data, versions and machines.
    pub(super) fn particulars(&self, id: &str) -> Section {
        let RunConfig { data, test_data, features, .. } = &self.about.config;
        let minutes = |frames: u64| frames as f64 * features.hop_size as f64 / f64::from(features.sample_rate) / 60.0;
        let of = |name: &str, files: usize, frames: u64| {
            let place = self.flags.get(&format!("{name}-dir")).or(self.flags.get(&format!("{name}_dir"))).cloned();
            vec![
                name.to_string(),
                number(files as f64),
                number(frames as f64),
                number(minutes(frames)),
                place.unwrap_or_else(|| "not known".into()),
            ]
        };
        let mut rows = vec![of("train", data.files, data.frames)];
        rows.extend(test_data.iter().map(|data| of("test", data.files, data.frames)));
        let headings = ["", "files", "frames", "minutes", "folder"].map(String::from);
        let mut body = table("Data", &headings, &rows);
        body += &self.trained_on();
        let facts = [
            ("run written by", format!("vae-workshop {}", self.about.version)),
            ("page made by", format!("vae-workshop {}", env!("CARGO_PKG_VERSION"))),
            ("training time", duration(self.curves.seconds())),
            ("steps that were not finite and skipped", number(self.about.trouble.skipped as f64)),
            ("values in the model", number(self.parameters as f64)),
        ];
        let pairs = facts.map(|(name, value)| vec![name.to_string(), value]);
        body += &table("Versions and sizes", &["".into(), "value".into()], &pairs);
        let settings: Vec<_> = self.settings().into_iter().map(|(name, value)| vec![name, value]).collect();
        body += &format!(
            "<details><summary>Configuration: {} settings</summary>\n{}</details>\n",
            settings.len(),
            table("Configuration", &["setting".into(), "value".into()], &settings)
        );
        Section::new(format!("{id}-run"), "The run", body)
    }

    /// Why there are no recordings, as a paragraph.
    pub(super) fn without_recordings(reason: &str) -> String {
        format!("<p class=\"note\">{}</p>\n", escape(reason))
    }
}

/// Values by their names, with dots, as text. A sum is told by its beginning.
fn told(value: &Value) -> BTreeMap<String, String> {
    let text = |name: &str, value: &Value| match value {
        Value::Null => "none".into(),
        Value::String(text) if name.ends_with("hash") || name.ends_with("sha256") => text.chars().take(12).collect(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    leaves(value).into_iter().map(|(name, value)| (name.clone(), text(&name, value))).collect()
}

/// The values of a TOML file as text; none if it is not there or is none.
fn flags(path: &Path) -> BTreeMap<String, String> {
    let parsed = fs::read_to_string(path).ok().and_then(|text| text.parse::<toml::Table>().ok()).unwrap_or_default();
    let text = |value: toml::Value| value.as_str().map_or_else(|| value.to_string(), str::to_string);
    parsed.into_iter().map(|(name, value)| (name, text(value))).collect()
}

/// Recordings that the user names, or why the run has no use for them.
///
/// # Errors
/// If there are none.
fn given(folder: &Path, config: &RunConfig) -> Result<std::result::Result<FeatureSet, String>> {
    let test = folder.join("test");
    let set = FeatureSet::open(if test.is_dir() { &test } else { folder })?;
    let differences = config.features.differences(set.config());
    if differences.is_empty() {
        return Ok(Ok(set));
    }
    let why = format!(
        "The features of {} are made with other settings than the run's (run / there): {}.",
        folder.display(),
        differences.join(", ")
    );
    tracing::warn!("{why}");
    Ok(Err(why))
}

/// The recordings of the run's test, where its flags say they were: seen from here or from where training was begun.
fn remembered(
    root: &Path,
    flags: &BTreeMap<String, String>,
    config: &RunConfig,
) -> std::result::Result<FeatureSet, String> {
    const FIX: &str = "Name a folder of them with --features DIR.";
    let flag = |name: &str| flags.get(&name.replace('_', "-")).or(flags.get(name)).map(Path::new);
    let Some(folder) = flag("test_dir") else {
        return Err(format!("The run does not say where the recordings of its test are. {FIX}"));
    };
    let logdir = flag("logdir").filter(|logdir| root.ends_with(logdir));
    let begun = logdir.and_then(|logdir| root.ancestors().nth(logdir.components().count()));
    let places = [Some(folder.to_path_buf()), begun.map(|begun| begun.join(folder))];
    let sets = places.into_iter().flatten().filter_map(|place| FeatureSet::open(&place).ok());
    let same = |set: &FeatureSet| match &config.test_data {
        Some(known) => set.identity() == *known,
        None => config.features == *set.config(),
    };
    sets.into_iter().find(same).ok_or_else(|| {
        format!("The recordings of the run's test are not in {}, or are others by now. {FIX}", folder.display())
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn settings_have_their_place_in_their_names() {
        let value =
            json!({ "a": { "b": 1.5, "list": [1, 2] }, "data": { "hash": "0123456789abcdef" }, "c": null, "d": "x" });
        let found = told(&value);
        let wanted = [("a.b", "1.5"), ("a.list", "[1,2]"), ("c", "none"), ("d", "x"), ("data.hash", "0123456789ab")];
        assert!(found.iter().map(|(name, value)| (name.as_str(), value.as_str())).eq(wanted));
    }
}
