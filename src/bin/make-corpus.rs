//! Speaks a small corpus of its own: wav files under `train/` and `test/`, the true factors beside each.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use vae_workshop::corpus::{self, CorpusConfig};
use vae_workshop::{Result, cli};

/// Speaks a small corpus of babbling by source-filter synthesis, with the true pitch, formants, energy and voicing of
/// every 10 ms beside each file. The same flags give the same bytes.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// Folder to fill: train/SPEAKER/X.wav, X.factors.csv, the same under test/, speakers.csv, corpus.json.
    out_dir: PathBuf,
    /// Number of voices: a man, a woman, a child, an elder, and so on with others.
    #[arg(long, default_value_t = CorpusConfig::default().speakers)]
    speakers: usize,
    /// Utterances of each speaker, train and test together.
    #[arg(long, default_value_t = CorpusConfig::default().utterances)]
    utterances: usize,
    /// About how long an utterance is, in seconds.
    #[arg(long, default_value_t = CorpusConfig::default().seconds)]
    seconds: f64,
    /// Part of each speaker's utterances that goes to test/.
    #[arg(long, default_value_t = CorpusConfig::default().test_fraction)]
    test_fraction: f64,
    /// Samples per second.
    #[arg(long, default_value_t = CorpusConfig::default().sample_rate)]
    sample_rate: u32,
    /// Another seed gives other speakers and other words.
    #[arg(long, default_value_t = CorpusConfig::default().seed)]
    seed: u64,
    /// Replace a corpus that this tool made before; nothing else is ever deleted.
    #[arg(long)]
    overwrite: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    cli::run(|| speak(&arguments))
}

fn speak(arguments: &Arguments) -> Result<ExitCode> {
    let &Arguments { speakers, utterances, seconds, test_fraction, sample_rate, seed, overwrite, .. } = arguments;
    let config = CorpusConfig { speakers, utterances, seconds, test_fraction, sample_rate, seed };
    let summary = corpus::generate(&config, &arguments.out_dir, overwrite)?;
    cli::say(format_args!(
        "{}: train {} files, {:.1} min; test {} files, {:.1} s",
        arguments.out_dir.display(),
        summary.train_files,
        summary.train_seconds / 60.0,
        summary.test_files,
        summary.test_seconds
    ));
    Ok(ExitCode::SUCCESS)
}
