//! A corpus of segments as a folder: `train/seg-000000.wav`, the same under `test/`, and one table of all their factors.

use std::fmt::Write as _;
use std::path::Path;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::design::{Correlation, Design, FACTORS};
use super::target::{ALL_FACTORS, SEGMENT, begin, write};
use super::{CorpusSummary, segment};
use crate::beside::create_folder;
use crate::{Error, Result, random};

/// What to generate.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FactorConfig {
    /// Number of segments, train and test together.
    pub segments: usize,
    /// Length of each in seconds.
    pub seconds: f64,
    /// Levels of each continuous factor; `None`: any value of its range.
    pub grid: Option<usize>,
    /// Number of vocal tracts.
    pub speakers: usize,
    /// Pairs of factors that go together; all others are independent.
    pub correlations: Vec<Correlation>,
    /// Part of the segments that goes to `test/`: the last ones.
    pub test_fraction: f64,
    /// Samples per second, 10000 to 48000.
    pub sample_rate: u32,
    /// All that is drawn is a function of it.
    pub seed: u64,
}

impl Default for FactorConfig {
    /// 41 frames a segment, two blocks of the VAE; enough of them to tell what a latent stands for.
    fn default() -> Self {
        Self {
            segments: 2000,
            seconds: 0.4,
            grid: None,
            speakers: 4,
            correlations: Vec::new(),
            test_fraction: 0.14,
            sample_rate: 16_000,
            seed: 1,
        }
    }
}

impl FactorConfig {
    /// # Errors
    /// [`Error::Config`] naming the first value that cannot work.
    pub fn check(&self) -> Result<()> {
        let fail = |message: String| Err(Error::Config(message));
        if !(1..=999_999).contains(&self.segments) {
            return fail(format!("--segments {}: needs 1 to 999999", self.segments));
        }
        if !(0.25..=10.0).contains(&self.seconds) {
            return fail(format!(
                "--seconds {} with --factors: needs 0.25, a little more than a block of the VAE, to 10",
                self.seconds
            ));
        }
        if self.grid.is_some_and(|levels| !(2..=20).contains(&levels)) {
            return fail(format!("--grid {}: needs 2 to 20 levels", self.grid.unwrap_or_default()));
        }
        if !(2..=8).contains(&self.speakers) {
            return fail(format!("--speakers {} with --factors: needs 2 to 8", self.speakers));
        }
        if !(0.0..1.0).contains(&self.test_fraction) {
            return fail(format!("--test-fraction {}: needs 0 or more, below 1", self.test_fraction));
        }
        // A child's fourth resonance is at 4340 Hz: lower rates would leave a speaker_scale without any.
        if !(10_000..=48_000).contains(&self.sample_rate) {
            return fail(format!("--sample-rate {} with --factors: needs 10000 to 48000", self.sample_rate));
        }
        if self.test_segments() == self.segments {
            return fail(format!(
                "--segments {} with --test-fraction {} leaves none to train: more segments, or --test-fraction 0",
                self.segments, self.test_fraction
            ));
        }
        Ok(())
    }

    fn test_segments(&self) -> usize {
        let share = (self.segments as f64 * self.test_fraction).round() as usize;
        if self.test_fraction > 0.0 { share.max(1) } else { 0 }
    }
}

/// Writes the corpus of `config` into `folder`, and makes the folder if need be. Same configuration: same bytes.
///
/// Besides the segments there are `factors.csv`, a row for each with its name and the factors that it has, and
/// `corpus.json` (the configuration). A segment does not change when more are asked for.
///
/// # Errors
/// As [`generate`](super::generate), and if the correlations contradict each other.
pub fn generate_factors(config: &FactorConfig, folder: &Path, overwrite: bool) -> Result<CorpusSummary> {
    config.check()?;
    let design = Design::new(&config.correlations, config.grid, config.speakers)?;
    begin(folder, config, overwrite)?;
    let test = config.test_segments();
    let train = config.segments - test;
    for part in if test > 0 { &["train", "test"][..] } else { &["train"] } {
        let path = folder.join(part);
        create_folder(&path)?;
    }
    let speak = |number: usize| {
        let mut rng = random::stream(config.seed, "corpus segment", number as u64);
        let segment = design.draw(&mut rng);
        let name = format!("{}/{SEGMENT}{number:06}", if number < train { "train" } else { "test" });
        let sound = segment::sound(&segment, config.seconds, config.sample_rate, &mut rng);
        sound.write(&folder.join(&name).with_extension("wav"))?;
        Ok((name, segment.told()))
    };
    let rows = (0..config.segments).into_par_iter().map(speak).collect::<Result<Vec<_>>>()?;
    write(&folder.join(ALL_FACTORS), table(&rows).as_bytes())?;
    let seconds = |segments: usize| segments as f64 * config.seconds;
    Ok(CorpusSummary {
        train_files: train,
        train_seconds: seconds(train),
        test_files: test,
        test_seconds: seconds(test),
    })
}

fn table(rows: &[(String, [Option<f64>; FACTORS.len()])]) -> String {
    let mut text = format!("file,{}\n", FACTORS.map(|factor| factor.name).join(","));
    for (name, values) in rows {
        text.push_str(name);
        for value in values {
            text.push(',');
            if let Some(value) = value {
                write!(text, "{value}").expect("writing to a string cannot fail");
            }
        }
        text.push('\n');
    }
    text
}
