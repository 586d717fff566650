//! Where a run's curves go: TensorBoard's folders and `metrics.jsonl`.

use std::collections::BTreeMap;

use super::means::GRADIENT_NORM;
use super::task::Evaluation;
use crate::Result;
use crate::audio::Waveform;
use crate::board::{EventWriter, Metrics};
use crate::picture::{PictureConfig, comparison_png};
use crate::run::{RunConfig, RunDir, leaves};

pub(super) struct Journal {
    train: EventWriter,
    test: EventWriter,
    lines: Metrics,
}

impl Journal {
    /// For a session that goes on from `step` finished steps; what an earlier one noted beyond is forgotten.
    pub(super) fn open(run: &RunDir, step: u64) -> Result<Self> {
        Ok(Self {
            train: EventWriter::create(&run.path().join("train"), step)?,
            test: EventWriter::create(&run.path().join("test"), step)?,
            lines: Metrics::open(&run.path().join("metrics.jsonl"), step)?,
        })
    }

    /// Shows what makes the run what it is: as text, and beside the test's curves as hyperparameters: TensorBoard finds no curves for
    /// those of the folder that it is started in.
    pub(super) fn configuration(&mut self, config: &RunConfig) -> Result<()> {
        let json = serde_json::to_string_pretty(config).expect("a configuration is plain data");
        self.train.text(0, "configuration", &format!("```json\n{json}\n```"))?;
        let config = serde_json::to_value(config).expect("a configuration is plain data");
        let about_data = ["features", "data", "test_data", "origin"];
        let told = leaves(&config)
            .into_iter()
            .filter(|(name, _)| !about_data.contains(&name.split('.').next().unwrap_or_default()));
        self.test.hyperparameters(told)
    }

    /// Notes training means and what the optimizer did, by name.
    pub(super) fn train(&mut self, step: u64, means: &BTreeMap<String, f64>, optimizer: &[(&str, f64)]) -> Result<()> {
        let rates = optimizer.iter().map(|(name, value)| (format!("optimizer/{name}"), *value));
        let scalars: Vec<(String, f64)> = tagged(means).chain(rates).collect();
        self.train.scalars(step, scalars.iter().cloned())?;
        self.lines.add(step, "train", &scalars)
    }

    /// Notes how recordings sound, by tag.
    pub(super) fn sounds(&mut self, step: u64, sounds: &[(&str, Waveform)]) -> Result<()> {
        sounds.iter().try_for_each(|(tag, sound)| {
            self.test.sound(step, tag, sound.sample_rate, sound.samples.len(), &sound.to_wav())
        })
    }

    /// Notes an evaluation.
    pub(super) fn test(&mut self, step: u64, evaluation: &Evaluation) -> Result<()> {
        let scalars: Vec<(String, f64)> = tagged(&evaluation.means).chain(evaluation.scalars.iter().cloned()).collect();
        self.test.scalars(step, scalars.iter().cloned())?;
        for (tag, values) in &evaluation.histograms {
            self.test.histogram(step, tag, values)?;
        }
        for (tag, panels) in &evaluation.pictures {
            let views: Vec<_> = panels.iter().map(|panel| panel.view()).collect();
            self.test.picture(step, tag, &comparison_png(&views, &PictureConfig::default()))?;
        }
        self.lines.add(step, "test", &scalars)
    }
}

/// TensorBoard groups scalars by the part before the slash.
fn tagged(means: &BTreeMap<String, f64>) -> impl Iterator<Item = (String, f64)> {
    means.iter().map(|(name, value)| {
        let group = if name == GRADIENT_NORM { "optimizer" } else { "loss" };
        (format!("{group}/{name}"), *value)
    })
}
