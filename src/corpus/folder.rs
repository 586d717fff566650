//! The corpus as a folder: `train/SPEAKER/X.wav`, `X.factors.csv` beside it, the same under `test/`.

use std::fmt::Write as _;
use std::path::Path;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::target::{EACH_FACTORS, SPEAKERS, begin, write};
use super::{Speaker, Utterance, speak};
use crate::beside::create_folder;
use crate::{Error, Result, random};

/// What to generate.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CorpusConfig {
    /// Number of voices: man, woman, child, elder, and again with other individuals.
    pub speakers: usize,
    /// Utterances of each speaker, train and test together.
    pub utterances: usize,
    /// Length of an utterance in seconds, kept to within the last word.
    pub seconds: f64,
    /// Part of each speaker's utterances that goes to `test/`, rounded; at least one when above 0.
    pub test_fraction: f64,
    /// Samples per second, 8000 to 48000.
    pub sample_rate: u32,
    /// All that is drawn is a function of it.
    pub seed: u64,
}

impl Default for CorpusConfig {
    /// 2.4 minutes to train and 24 seconds to test: enough for a demonstration's model to learn what speech looks like.
    fn default() -> Self {
        Self { speakers: 4, utterances: 14, seconds: 3.0, test_fraction: 0.14, sample_rate: 16_000, seed: 1 }
    }
}

impl CorpusConfig {
    /// # Errors
    /// [`Error::Config`] naming the first value that cannot work.
    pub fn check(&self) -> Result<()> {
        let fail = |message: String| Err(Error::Config(message));
        if !(1..=99).contains(&self.speakers) {
            return fail(format!("--speakers {}: needs 1 to 99", self.speakers));
        }
        if !(1..=9999).contains(&self.utterances) {
            return fail(format!("--utterances {}: needs 1 to 9999", self.utterances));
        }
        if !(0.5..=600.0).contains(&self.seconds) {
            return fail(format!("--seconds {}: needs 0.5 to 600", self.seconds));
        }
        if !(0.0..1.0).contains(&self.test_fraction) {
            return fail(format!("--test-fraction {}: needs 0 or more, below 1", self.test_fraction));
        }
        if !(8000..=48_000).contains(&self.sample_rate) {
            return fail(format!("--sample-rate {}: needs 8000 to 48000", self.sample_rate));
        }
        if self.test_utterances() == self.utterances {
            return fail(format!(
                "--utterances {} with --test-fraction {} leaves none to train: more utterances, or --test-fraction 0",
                self.utterances, self.test_fraction
            ));
        }
        Ok(())
    }

    /// How many of a speaker's utterances go to `test/`: the last ones.
    pub fn test_utterances(&self) -> usize {
        let share = (self.utterances as f64 * self.test_fraction).round() as usize;
        if self.test_fraction > 0.0 { share.max(1) } else { 0 }
    }

    /// The voices of this seed. A speaker does not change when more are asked for.
    pub fn voices(&self) -> Vec<Speaker> {
        (0..self.speakers)
            .map(|index| Speaker::draw(index, &mut random::stream(self.seed, "corpus speaker", index as u64)))
            .collect()
    }
}

/// What was written.
#[derive(Debug, Clone, PartialEq)]
pub struct CorpusSummary {
    /// Files under `train/`.
    pub train_files: usize,
    /// What they last together.
    pub train_seconds: f64,
    /// Files under `test/`.
    pub test_files: usize,
    /// What they last together.
    pub test_seconds: f64,
}

/// Writes the corpus of `config` into `folder`, and makes the folder if need be. Same configuration: same bytes.
///
/// Besides the utterances there are `speakers.csv` and `corpus.json` (the configuration). The utterances are spoken in
/// parallel on rayon's pool.
///
/// # Errors
/// [`Error::Config`] for values that cannot work. [`Error::File`] if `folder` is not empty: without `overwrite` always,
/// with it if anything there is not a corpus of this generator. [`Error::Io`] when writing fails.
pub fn generate(config: &CorpusConfig, folder: &Path, overwrite: bool) -> Result<CorpusSummary> {
    config.check()?;
    begin(folder, config, overwrite)?;
    let voices = config.voices();
    write(&folder.join(SPEAKERS), speaker_table(&voices).as_bytes())?;
    for part in ["train", "test"] {
        for voice in &voices {
            let path = folder.join(part).join(&voice.name);
            if part == "train" || config.test_utterances() > 0 {
                create_folder(&path)?;
            }
        }
    }
    let jobs: Vec<(usize, usize)> =
        (0..config.speakers).flat_map(|speaker| (0..config.utterances).map(move |number| (speaker, number))).collect();
    let first_test = config.utterances - config.test_utterances();
    let lengths = jobs
        .par_iter()
        .map(|&(index, number)| {
            let speaker = &voices[index];
            // A stream of its own for each utterance, so that none depends on how many others there are.
            let mut rng = random::stream(config.seed, "corpus utterance", (index as u64) << 32 | number as u64);
            let utterance = speak(speaker, config.seconds, config.sample_rate, &mut rng);
            let part = if number < first_test { "train" } else { "test" };
            let stem = folder.join(part).join(&speaker.name).join(format!("{}-{number:04}", speaker.name));
            utterance.sound.write(&stem.with_extension("wav"))?;
            write(&stem.with_extension(&EACH_FACTORS[1..]), factor_table(&utterance, &speaker.name).as_bytes())?;
            Ok((part == "test", utterance.sound.duration().as_secs_f64()))
        })
        .collect::<Result<Vec<_>>>()?;
    let part = |test: bool| lengths.iter().filter(move |(in_test, _)| *in_test == test);
    Ok(CorpusSummary {
        train_files: part(false).count(),
        train_seconds: part(false).map(|(_, seconds)| seconds).sum(),
        test_files: part(true).count(),
        test_seconds: part(true).map(|(_, seconds)| seconds).sum(),
    })
}

fn speaker_table(voices: &[Speaker]) -> String {
    let mut text = "speaker,f0_hz,range_semitones,tract_scale,open_quotient,tilt_hz,breathiness,rate\n".to_owned();
    for voice in voices {
        let Speaker { name, f0_hz, range_semitones, tract_scale, open_quotient, tilt_hz, breathiness, rate, .. } =
            voice;
        writeln!(
            text,
            "{name},{f0_hz:.1},{range_semitones:.2},{tract_scale:.3},{open_quotient:.3},{tilt_hz:.0},{breathiness:.4},\
             {rate:.2}"
        )
        .expect("writing to a string cannot fail");
    }
    text
}

fn factor_table(utterance: &Utterance, speaker: &str) -> String {
    let mut text = "time_s,f0_hz,f1_hz,f2_hz,f3_hz,energy_db,voicing,speaker,phone\n".to_owned();
    for row in &utterance.factors {
        let [f1, f2, f3] = row.formants_hz;
        writeln!(
            text,
            "{:.2},{:.2},{f1:.1},{f2:.1},{f3:.1},{:.2},{},{speaker},{}",
            row.time_s,
            row.f0_hz,
            row.energy_db,
            u8::from(row.voiced),
            row.phone
        )
        .expect("writing to a string cannot fail");
    }
    text
}
