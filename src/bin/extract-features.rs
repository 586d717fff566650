//! Makes feature files of a folder of recordings.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use clap::Parser;
use indicatif::ProgressBar;
use rayon::prelude::*;
use vae_workshop::audio::Waveform;
use vae_workshop::dsp::stft::PadMode;
use vae_workshop::features::corpus::{Item, Plan, PlanOptions, SplitBy, plan};
use vae_workshop::features::{FeatureConfig, FeatureExtractor, FeatureFile};
use vae_workshop::{Error, Result, cli};

/// Turns a folder of recordings (.wav, .ogg) into feature files (.feat.npz) that the models train on.
///
/// The folder structure is kept. A folder without train/ and test/ is split into the two.
#[derive(Parser)]
#[command(version)]
struct Args {
    /// Folder of recordings, searched with all its sub-folders
    audio_dir: PathBuf,
    /// Folder for the feature files; must lie outside AUDIO_DIR
    target_dir: PathBuf,

    /// Show what would be done, and do nothing
    #[arg(long, alias = "dry_run")]
    dry_run: bool,
    /// Replace feature files that exist
    #[arg(long)]
    overwrite: bool,
    /// Only recordings whose path below AUDIO_DIR contains one of these
    #[arg(long, alias = "filter_speakers", value_name = "A,B", value_delimiter = ',')]
    filter_speakers: Vec<String>,
    /// Share of a folder without train/ and test/ that becomes test material
    #[arg(long, default_value_t = 0.05)]
    split: f64,
    /// What is split: file, or speaker (the sub-folders of AUDIO_DIR)
    #[arg(long, alias = "split_by", value_name = "file|speaker", default_value = "file")]
    split_by: SplitBy,
    /// Files worked on at once [default: one per core]
    #[arg(long, value_name = "N")]
    jobs: Option<usize>,

    /// Sample rate the sound is brought to, in Hz
    #[arg(long, alias = "sample_rate", default_value_t = 16_000, help_heading = "Features")]
    sample_rate: u32,
    /// Samples from one frame to the next
    #[arg(long, alias = "hop_size", default_value_t = 160, help_heading = "Features")]
    hop_size: usize,
    /// Samples per Fourier transform
    #[arg(long, alias = "n_fft", default_value_t = 1024, help_heading = "Features")]
    n_fft: usize,
    /// Mel bands
    #[arg(long, alias = "n_filterbank", default_value_t = 80, help_heading = "Features")]
    n_filterbank: usize,
    /// Lowest frequency of the mel bands, in Hz
    #[arg(long, alias = "f_min", default_value_t = 125.0, help_heading = "Features")]
    f_min: f64,
    /// Highest frequency of the mel bands, in Hz
    #[arg(long, alias = "f_max", default_value_t = 7600.0, help_heading = "Features")]
    f_max: f64,
    /// Pre-emphasis coefficient; 0 for none
    #[arg(long, default_value_t = 0.97, help_heading = "Features")]
    preemphasis: f64,
    /// Power below which spectra are clipped before the logarithm
    #[arg(long, alias = "clip_before_log", default_value_t = 0.0001, help_heading = "Features")]
    clip_before_log: f64,
    /// Silence at both ends begins this far below the loudest moment, in dB
    #[arg(long, alias = "trim_silence_db", default_value_t = 20.0, help_heading = "Features")]
    trim_silence_db: f64,
    /// Keep the silence at both ends
    #[arg(long, alias = "no_trim", help_heading = "Features")]
    no_trim: bool,
    /// Keep the loudness of each recording instead of bringing its peak to 1
    #[arg(long, alias = "no_normalize", help_heading = "Features")]
    no_normalize: bool,
    /// What continues the sound beyond its ends: reflect, or constant (zeros)
    #[arg(
        long,
        alias = "pad_mode",
        value_name = "reflect|constant",
        default_value_t = PadMode::Reflect,
        help_heading = "Features"
    )]
    pad_mode: PadMode,
}

impl Args {
    fn config(&self) -> FeatureConfig {
        FeatureConfig {
            sample_rate: self.sample_rate,
            hop_size: self.hop_size,
            n_fft: self.n_fft,
            n_filterbank: self.n_filterbank,
            preemphasis: self.preemphasis,
            clip_before_log: self.clip_before_log,
            trim_silence_db: (!self.no_trim).then_some(self.trim_silence_db),
            normalize: !self.no_normalize,
            pad_mode: self.pad_mode,
            f_min: self.f_min,
            f_max: self.f_max,
        }
    }
}

fn main() -> ExitCode {
    let args = Args::parse();
    cli::run(|| extract(&args))
}

fn extract(args: &Args) -> Result<ExitCode> {
    if let Some(jobs) = args.jobs.filter(|jobs| !(1..=1024).contains(jobs)) {
        return Err(Error::Config(format!("--jobs {jobs}: must be 1 to 1024")));
    }
    let extractor = FeatureExtractor::new(args.config())?;
    let options = PlanOptions {
        filter_speakers: args.filter_speakers.iter().filter(|s| !s.is_empty()).cloned().collect(),
        split: args.split,
        split_by: args.split_by,
    };
    let Plan { items, unreadable } = plan(&args.audio_dir, &args.target_dir, &options)?;
    if args.dry_run {
        items.iter().for_each(|item| cli::say(format_args!("{} -> {}", item.input.display(), item.output.display())));
    }
    unreadable.iter().for_each(cli::complain);
    refuse_existing(args, &items)?;
    if args.dry_run {
        cli::say(format_args!("{} files would be written, {} could not be read", items.len(), unreadable.len()));
        return Ok(cli::status(items.len(), unreadable.len()));
    }

    std::fs::create_dir_all(&args.target_dir).map_err(Error::io(&args.target_dir))?;
    let interrupted = cli::interrupt_flag()?;
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(args.jobs.unwrap_or(0))
        .build()
        .map_err(|e| Error::Config(format!("cannot start --jobs {}: {e}", args.jobs.unwrap_or(0))))?;
    let work = Work {
        extractor,
        bar: cli::progress(items.len() as u64, "{bar:30} {pos}/{len} files  {msg}  {eta} left"),
        started: Instant::now(),
        tally: Mutex::default(),
    };
    pool.install(|| items.par_iter().for_each(|item| work.file(item, &interrupted)));
    work.bar.finish_and_clear();

    let tally = work.tally.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner());
    let failed = tally.failed + unreadable.len();
    let seconds = work.started.elapsed().as_secs_f64();
    cli::say(format_args!(
        "{} feature files in {}, from {:.1} minutes of audio, in {seconds:.1} s ({:.0} x real time); {failed} failed",
        tally.written,
        args.target_dir.display(),
        tally.audio.as_secs_f64() / 60.0,
        tally.audio.as_secs_f64() / seconds.max(1e-9),
    ));
    if interrupted.load(Ordering::Relaxed) != 0 {
        cli::say(format_args!("interrupted: {} files are not done", items.len() - tally.written - tally.failed));
        return Ok(cli::interrupted(&interrupted));
    }
    Ok(cli::status(tally.written, failed))
}

/// Nobody's files are replaced unasked, and that is said before any work is done.
fn refuse_existing(args: &Args, items: &[Item]) -> Result<()> {
    let existing: Vec<_> = items.iter().filter(|item| item.output.exists()).collect();
    match existing[..] {
        [first, ..] if !args.overwrite => Err(Error::Config(format!(
            "{} of the {} files to be written exist, such as {}: --overwrite replaces them",
            existing.len(),
            items.len(),
            first.output.display(),
        ))),
        _ => Ok(()),
    }
}

/// What the workers share.
struct Work {
    extractor: FeatureExtractor,
    bar: ProgressBar,
    started: Instant,
    tally: Mutex<Tally>,
}

#[derive(Default)]
struct Tally {
    written: usize,
    failed: usize,
    audio: Duration,
}

impl Work {
    /// Does one file, unless the user asked to stop; counts and reports how it went.
    fn file(&self, item: &Item, interrupted: &AtomicUsize) {
        if interrupted.load(Ordering::Relaxed) != 0 {
            return;
        }
        let outcome = self.convert(item);
        let mut tally = self.tally.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        match outcome {
            Ok(duration) => {
                tally.written += 1;
                tally.audio += duration;
            }
            Err(error) => {
                tally.failed += 1;
                self.bar.suspend(|| cli::complain(&error));
            }
        }
        let rate = tally.audio.as_secs_f64() / self.started.elapsed().as_secs_f64().max(1e-9);
        self.bar.set_message(format!("{rate:.0} x real time"));
        self.bar.inc(1);
    }

    /// Reads, extracts and writes; returns how long the recording lasts.
    fn convert(&self, item: &Item) -> Result<Duration> {
        let waveform = Waveform::read(&item.input)?;
        // What is wrong with the samples is wrong with this file.
        let features = self.extractor.extract(&waveform).map_err(|e| Error::file(&item.input, e))?;
        if let Some(folder) = item.output.parent() {
            std::fs::create_dir_all(folder).map_err(Error::io(folder))?;
        }
        FeatureFile::write(&item.output, &features)?;
        Ok(waveform.duration())
    }
}
