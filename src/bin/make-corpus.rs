//! Speaks a small corpus of its own: wav files under `train/` and `test/`, the true factors beside each.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use vae_workshop::corpus::{self, CorpusConfig, Correlation, FactorConfig};
use vae_workshop::{Result, cli};

/// Speaks a small corpus of babbling by source-filter synthesis, with the true pitch, formants, energy and voicing of
/// every 10 ms beside each file. With --factors, short steady segments whose factors are drawn independently, and one
/// table of them. The same flags give the same bytes.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// Folder to fill: train/SPEAKER/X.wav, X.factors.csv, the same under test/, speakers.csv, corpus.json. With --factors
    /// train/seg-NNNNNN.wav, the same under test/, factors.csv, corpus.json.
    out_dir: PathBuf,
    /// Number of voices: a man, a woman, a child, an elder, and so on with others. With --factors, of vocal tracts.
    #[arg(long, default_value_t = CorpusConfig::default().speakers)]
    speakers: usize,
    /// Utterances of each speaker, train and test together.
    #[arg(long, default_value_t = CorpusConfig::default().utterances, conflicts_with = "factors")]
    utterances: usize,
    /// About how long an utterance is, in seconds: by default 3, with --factors 0.4, which is exact.
    #[arg(long)]
    seconds: Option<f64>,
    /// Speak steady segments instead, to measure latents by. In factors.csv, for each: f0_hz, f1_hz to f3_hz; loudness_db
    /// (root mean square re full scale), tilt_db (what the source lacks at 3 kHz), breathiness_db (breath over pulses),
    /// voicing (1, or 0 for a whisper, of which f0_hz and breathiness_db are empty), speaker_scale (resonances above F3
    /// relative to a man's).
    #[arg(long)]
    factors: bool,
    /// Number of segments.
    #[arg(long, default_value_t = FactorConfig::default().segments, requires = "factors")]
    segments: usize,
    /// Give each continuous factor this many levels instead of any value in its range.
    #[arg(long, value_name = "LEVELS", requires = "factors")]
    grid: Option<usize>,
    /// Give two factors this rank correlation, as in `f0,f1=0.6`; can be repeated. All others are independent. Factors with levels
    /// have it before their values are rounded to them.
    #[arg(long, value_name = "A,B=R", requires = "factors")]
    correlate: Vec<Correlation>,
    /// Part of each speaker's utterances, or of the segments, that goes to test/.
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
    let &Arguments { speakers, utterances, test_fraction, sample_rate, seed, overwrite, .. } = arguments;
    let summary = if arguments.factors {
        let config = FactorConfig {
            segments: arguments.segments,
            seconds: arguments.seconds.unwrap_or(FactorConfig::default().seconds),
            grid: arguments.grid,
            speakers,
            correlations: arguments.correlate.clone(),
            test_fraction,
            sample_rate,
            seed,
        };
        corpus::generate_factors(&config, &arguments.out_dir, overwrite)?
    } else {
        let seconds = arguments.seconds.unwrap_or(CorpusConfig::default().seconds);
        let config = CorpusConfig { speakers, utterances, seconds, test_fraction, sample_rate, seed };
        corpus::generate(&config, &arguments.out_dir, overwrite)?
    };
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
