//! Makes feature files of a folder of recordings.

use std::borrow::Cow;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use clap::Parser;
use indicatif::ProgressBar;
use rayon::prelude::*;
use serde_json::json;
use vae_workshop::audio::Waveform;
use vae_workshop::cli::log::{self, LogFormat};
use vae_workshop::cli::preview;
use vae_workshop::dsp::stft::PadMode;
use vae_workshop::dsp::trim::is_silent;
use vae_workshop::features::corpus::{Item, Plan, PlanOptions, SplitBy, key, plan};
use vae_workshop::features::manifest::{Manifest, Outcome, Settings, Stamp};
use vae_workshop::features::{Contents, FeatureConfig, FeatureExtractor, FeatureFile, Prepared, RatePreset};
use vae_workshop::{Error, Result, cli};

/// Longest name of a file on common systems, in bytes.
const MAX_NAME: usize = 255;

/// Turns a folder of recordings (.wav, .ogg, .flac, .mp3) into feature files (.feat.npz) that the models train on.
///
/// The folder structure is kept. A folder without train/ and test/ is split into the two.
/// Feature files that are there from the same recordings, unchanged, and with the same settings are left as they are: a run
/// that was interrupted goes on. TARGET_DIR/manifest.jsonl records what became of each recording.
///
/// Exit status: 0 if every recording has its feature file, 3 if some failed, 1 if none came out or nothing could be
/// done, 2 for wrong flags, 130 after Ctrl-C.
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
    /// Make all feature files anew, also those that are there and current
    #[arg(long)]
    overwrite: bool,
    /// Remove the feature files of recordings below AUDIO_DIR that are gone or are not chosen this time
    #[arg(long)]
    prune: bool,
    /// Let a.wav become a.wav.feat.npz, for folders with recordings that differ only in their endings
    #[arg(long)]
    keep_extension: bool,
    /// Stop at the first recording that fails
    #[arg(long)]
    fail_fast: bool,
    /// Stop once so many recordings have failed
    #[arg(long, value_name = "N", conflicts_with = "fail_fast")]
    max_errors: Option<NonZeroUsize>,
    /// Longest recording taken, in hours
    #[arg(long, value_name = "HOURS", default_value_t = 6.0)]
    max_hours_per_file: f64,
    /// Do only the K-th of N parts, for several machines that share the folders
    #[arg(long, value_name = "K/N", value_parser = parse_shard)]
    shard: Option<(usize, usize)>,
    /// Leave out the linear spectra and the sound: enough for train-vae, not for train-inverter
    #[arg(long, value_name = "logmel", value_parser = ["logmel"])]
    only: Option<String>,
    /// Leave out the sound
    #[arg(long)]
    no_au: bool,
    /// Say nothing but errors
    #[arg(long, conflicts_with = "verbose")]
    quiet: bool,
    /// Say what becomes of each recording
    #[arg(short, long)]
    verbose: bool,
    /// What is said on standard error: text, or JSON with a line for each event (done, failed, log, error, summary)
    #[arg(long, value_name = "text|json", default_value = "text", hide_possible_values = true)]
    log_format: LogFormat,
    /// Draw the log-mel spectra of N of the feature files, evenly spread, into TARGET_DIR/preview
    #[arg(long, value_name = "N")]
    preview: Option<NonZeroUsize>,
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

    /// Rate, hop, transform and bands that belong together: 8k, 16k, 22k, 24k or 44k; single flags override
    #[arg(long, value_name = "RATE", default_value = "16k", help_heading = "Features")]
    preset: RatePreset,
    /// Sample rate the sound is brought to, in Hz [default: 16000; 8k: 8000, 22k: 22050, 24k: 24000, 44k: 44100]
    #[arg(long, alias = "sample_rate", help_heading = "Features")]
    sample_rate: Option<u32>,
    /// Samples from one frame to the next [default: 160; 8k: 80, 22k: 220, 24k: 240, 44k: 441]
    #[arg(long, alias = "hop_size", help_heading = "Features")]
    hop_size: Option<usize>,
    /// Samples per Fourier transform [default: 1024; 8k: 512, 44k: 2048]
    #[arg(long, alias = "n_fft", help_heading = "Features")]
    n_fft: Option<usize>,
    /// Mel bands [default: 80; 8k: 40, 44k: 96]
    #[arg(long, alias = "n_filterbank", help_heading = "Features")]
    n_filterbank: Option<usize>,
    /// Lowest frequency of the mel bands, in Hz
    #[arg(long, alias = "f_min", default_value_t = 125.0, help_heading = "Features")]
    f_min: f64,
    /// Highest frequency of the mel bands, in Hz [default: 7600; 8k: 3800, 22k: 10500, 24k: 11400, 44k: 16000]
    #[arg(long, alias = "f_max", help_heading = "Features")]
    f_max: Option<f64>,
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

/// Reads `K/N`.
fn parse_shard(text: &str) -> std::result::Result<(usize, usize), String> {
    let parts = text.split_once('/').and_then(|(k, n)| Some((k.parse().ok()?, n.parse().ok()?)));
    parts.filter(|&(k, n)| 1 <= k && k <= n).ok_or_else(|| "must be K/N with K from 1 to N, such as 2/8".into())
}

impl Args {
    fn settings(&self) -> Settings {
        let logspec = self.only.is_none();
        Settings { config: self.config(), contents: Contents { logspec, au: logspec && !self.no_au } }
    }

    fn say(&self, line: impl std::fmt::Display) {
        if !self.quiet {
            cli::say(line);
        }
    }

    fn config(&self) -> FeatureConfig {
        let preset = FeatureConfig::of_rate(self.preset);
        FeatureConfig {
            sample_rate: self.sample_rate.unwrap_or(preset.sample_rate),
            hop_size: self.hop_size.unwrap_or(preset.hop_size),
            n_fft: self.n_fft.unwrap_or(preset.n_fft),
            n_filterbank: self.n_filterbank.unwrap_or(preset.n_filterbank),
            preemphasis: self.preemphasis,
            clip_before_log: self.clip_before_log,
            trim_silence_db: (!self.no_trim).then_some(self.trim_silence_db),
            normalize: !self.no_normalize,
            pad_mode: self.pad_mode,
            f_min: self.f_min,
            f_max: self.f_max.unwrap_or(preset.f_max),
        }
    }
}

fn main() -> ExitCode {
    let args = Args::parse();
    let level = match (args.quiet, args.verbose) {
        (true, _) => "error",
        (_, true) => "debug",
        _ => "info",
    };
    cli::keep_freed_memory();
    cli::run_logging(level, args.log_format, || extract(&args))
}

fn extract(args: &Args) -> Result<ExitCode> {
    if let Some(jobs) = args.jobs.filter(|jobs| !(1..=1024).contains(jobs)) {
        return Err(Error::Config(format!("--jobs {jobs}: must be 1 to 1024")));
    }
    cli::require_within("--max-hours-per-file", args.max_hours_per_file, 0.0..=1000.0)?;
    let settings = args.settings();
    let extractor = FeatureExtractor::new(settings.config.clone())?;
    let options = PlanOptions {
        filter_speakers: args.filter_speakers.iter().filter(|s| !s.is_empty()).cloned().collect(),
        split: args.split,
        split_by: args.split_by,
        keep_extension: args.keep_extension,
    };
    // The manifest knows recordings by their path, which must not depend on where the program was started.
    let audio_dir = args.audio_dir.canonicalize().unwrap_or_else(|_| args.audio_dir.clone());
    let Plan { items: all, sides, notes, unreadable } = plan(&audio_dir, &args.target_dir, &options)?;
    unreadable.iter().for_each(cli::complain);
    notes.iter().for_each(|note| tracing::warn!("{note}"));
    if settings.config.hop_size > settings.config.n_fft / 2 {
        tracing::warn!(
            "--hop-size {} is more than half of --n-fft {}: frames overlap too little for good sound to be made of them",
            settings.config.hop_size,
            settings.config.n_fft
        );
    }
    let manifest = if args.dry_run {
        Manifest::look(&args.target_dir, &settings, args.overwrite)?
    } else {
        Manifest::open(&args.target_dir, &settings, args.shard, args.overwrite)?
    };
    let (k, n) = args.shard.unwrap_or((1, 1));
    let items: Vec<Item> = all.iter().skip(k - 1).step_by(n).cloned().collect();
    refuse_existing(args, &items, &manifest)?;
    tidy(args, &manifest, &audio_dir, &all, unreadable.is_empty())?;
    let is_current = |item: &Item| Stamp::of(&item.input).is_ok_and(|stamp| manifest.is_current(item, stamp));
    let (current, work): (Vec<_>, Vec<_>) = items.into_iter().partition(|item| !args.overwrite && is_current(item));
    if args.dry_run {
        work.iter().for_each(|item| cli::say(format_args!("{} -> {}", item.input.display(), item.output.display())));
        let (current, unreadable) = (current.len(), unreadable.len());
        cli::say(format_args!(
            "{} files would be written, {current} are current, {unreadable} could not be read",
            work.len()
        ));
        return Ok(status(work.len() + current, unreadable));
    }
    Run {
        args,
        settings,
        extractor,
        manifest: Mutex::new(manifest),
        tally: Mutex::default(),
        stop: AtomicBool::new(false),
    }
    .all(&work, &current, unreadable.len())
    .inspect(|_| args.say(&sides))
}

/// Says what earlier runs left that would be trained on without being among `all` that are chosen, or removes it; `whole` is whether
/// all of the audio folder could be looked at.
fn tidy(args: &Args, manifest: &Manifest, audio_dir: &Path, all: &[Item], whole: bool) -> Result<()> {
    let moved = manifest.on_other_side(all);
    if moved > 0 {
        tracing::warn!(
            "{moved} recordings change sides between train/ and test/, as recordings came or went, or the split is another: \
             models that were trained before may have heard what is test material now"
        );
    }
    let left_over = manifest.left_over(audio_dir, all);
    let Some(first) = left_over.first() else { return Ok(()) };
    let what = format!(
        "{} feature files in {} are of recordings that are gone or are not chosen this time, {} among them",
        left_over.len(),
        args.target_dir.display(),
        first.display()
    );
    match (args.prune, whole) {
        (true, true) if args.dry_run => args.say(format_args!("{what}: they would be removed")),
        (true, true) => {
            Manifest::prune(&left_over)?;
            args.say(format_args!("{what}: removed"));
        }
        (true, false) => tracing::warn!("{what}: not removed, as not all of the audio folder could be read"),
        (false, _) => tracing::warn!("{what}: training takes them too; --prune removes them"),
    }
    Ok(())
}

/// As [`cli::status`], but a shard that no recording has fallen to has done its part.
fn status(done: usize, failed: usize) -> ExitCode {
    if (done, failed) == (0, 0) { ExitCode::SUCCESS } else { cli::status(done, failed) }
}

/// Nobody's files are replaced unasked, and that is said before any work is done.
fn refuse_existing(args: &Args, items: &[Item], manifest: &Manifest) -> Result<()> {
    let is_foreign = |item: &&Item| item.output.exists() && !manifest.knows(item, &item.output);
    let existing: Vec<_> = items.iter().filter(is_foreign).collect();
    match existing[..] {
        [first, ..] if !args.overwrite => Err(Error::Config(format!(
            "{} of the {} files to be written exist and are not known to be of these recordings, such as {}: --overwrite \
             replaces them",
            existing.len(),
            items.len(),
            first.output.display(),
        ))),
        _ => Ok(()),
    }
}

/// What the workers share.
struct Run<'a> {
    args: &'a Args,
    settings: Settings,
    extractor: FeatureExtractor,
    manifest: Mutex<Manifest>,
    tally: Mutex<Tally>,
    /// Set when no more files are to be begun.
    stop: AtomicBool,
}

#[derive(Default)]
struct Tally {
    written: usize,
    failed: usize,
    audio: Duration,
    /// Why nothing more can be written.
    fatal: Option<Error>,
}

/// What was made of one recording.
struct Done {
    frames: u64,
    /// How long the recording lasts.
    duration: Duration,
}

/// Whose fault it is that there is no feature file.
enum Failure {
    Recording(Error),
    /// A disk that is full or cannot be written would fail every other file too.
    Target(Error),
}

impl Run<'_> {
    /// Does all of `work`, says how it went, and gives the exit status.
    fn all(self, work: &[Item], current: &[Item], unreadable: usize) -> Result<ExitCode> {
        let interrupted = cli::interrupt_flag()?;
        let started = Instant::now();
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(self.args.jobs.unwrap_or(0))
            .build()
            .map_err(|e| Error::Config(format!("cannot start --jobs {}: {e}", self.args.jobs.unwrap_or(0))))?;
        let bar = match self.args.quiet || log::is_json() {
            true => ProgressBar::hidden(),
            false => cli::progress(work.len() as u64, "{bar:30} {pos}/{len} files  {msg}  {eta} left"),
        };
        pool.install(|| {
            work.par_iter().for_each(|item| {
                if interrupted.load(Ordering::Relaxed) == 0 && !self.stop.load(Ordering::Relaxed) {
                    self.file(item, &bar, started);
                }
            });
        });
        bar.finish_and_clear();

        let Run { args, tally, manifest, .. } = self;
        let Tally { written, failed, audio, fatal } =
            tally.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner());
        let left = work.len() - written - failed;
        let failed = failed + unreadable;
        let seconds = started.elapsed().as_secs_f64();
        let speed = if written == 0 {
            String::new() // nothing to be fast at
        } else {
            let (minutes, rate) = (audio.as_secs_f64() / 60.0, audio.as_secs_f64() / seconds.max(1e-9));
            format!(", from {minutes:.1} minutes of audio in {seconds:.1} s ({rate:.0} x real time)")
        };
        args.say(format_args!(
            "{} recordings: {written} feature files written, {} current, {failed} failed, {left} not done; in {}{speed}",
            work.len() + current.len() + unreadable,
            current.len(),
            args.target_dir.display(),
        ));
        if log::is_json() && !args.quiet {
            log::tell(&json!({
                "event": "summary", "recordings": work.len() + current.len() + unreadable, "written": written,
                "current": current.len(), "failed": failed, "left": left, "audio_seconds": audio.as_secs_f64(), "seconds": seconds,
            }));
        }
        if let Some(fatal) = fatal {
            return Err(fatal);
        }
        if interrupted.load(Ordering::Relaxed) != 0 {
            args.say("interrupted: the same command goes on");
            return Ok(cli::interrupted(&interrupted));
        }
        if let Some(count) = args.preview {
            let manifest = manifest.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner());
            let done = work.iter().chain(current).filter(|item| manifest.is_done(item));
            let mut files: Vec<_> = done.map(|item| item.output.clone()).collect();
            files.sort();
            preview::draw(&files, count.get(), &args.target_dir)?;
        }
        Ok(status(written + current.len(), failed))
    }

    /// Does one file; counts, records and reports how it went.
    fn file(&self, item: &Item, bar: &ProgressBar, started: Instant) {
        let outcome = self.convert(item);
        let mut tally = self.tally.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        match outcome {
            Ok(Done { frames, duration }) => {
                tally.written += 1;
                tally.audio += duration;
                if log::is_json() && !self.args.quiet {
                    let (path, output) = (key(&item.input), key(&item.output));
                    log::tell(&json!({
                        "event": "done", "path": path, "output": output, "frames": frames, "seconds": duration.as_secs_f64(),
                    }));
                } else {
                    tracing::debug!("{} -> {}", item.input.display(), item.output.display());
                }
            }
            Err(Failure::Recording(error)) => {
                tally.failed += 1;
                if log::is_json() {
                    let (path, error) = (key(&item.input), error.to_string());
                    log::tell(&json!({ "event": "failed", "path": path, "error": error }));
                } else {
                    bar.suspend(|| cli::complain(&error));
                }
                let most = if self.args.fail_fast { Some(1) } else { self.args.max_errors.map(NonZeroUsize::get) };
                if most.is_some_and(|most| tally.failed >= most) {
                    self.stop.store(true, Ordering::Relaxed);
                }
            }
            Err(Failure::Target(error)) => {
                self.stop.store(true, Ordering::Relaxed);
                tally.fatal.get_or_insert(error);
            }
        }
        let rate = tally.audio.as_secs_f64() / started.elapsed().as_secs_f64().max(1e-9);
        bar.set_message(format!("{rate:.0} x real time"));
        bar.inc(1);
    }

    /// Makes one feature file and records what became of it.
    fn convert(&self, item: &Item) -> std::result::Result<Done, Failure> {
        let stamp = Stamp::of(&item.input).map_err(Failure::Recording)?;
        self.remove_leftover(item).map_err(Failure::Target)?;
        let failed = |error: Error| {
            let outcome = Outcome::Failed { error: error.to_string() };
            self.record(item, stamp, outcome).err().unwrap_or(Failure::Recording(error))
        };
        let (sound, duration) = self.prepare(item).map_err(failed)?;
        self.remove_elsewhere(item).map_err(Failure::Target)?;
        self.record(item, stamp, Outcome::Begun { process: std::process::id() })?;
        let frames = self.write(item, &sound).map_err(|error| match error {
            // What is wrong with the samples is wrong with this file.
            Error::Config(message) => failed(Error::file(&item.input, message)),
            other => Failure::Target(other),
        })?;
        let bytes = Stamp::of(&item.output).map_err(Failure::Target)?.size;
        let outcome = Outcome::Done { frames, seconds: duration.as_secs_f64(), bytes };
        self.record(item, stamp, outcome).map(|()| Done { frames, duration })
    }

    /// Reads, resamples and trims; and how long it was before.
    fn prepare(&self, item: &Item) -> Result<(Prepared<'_>, Duration)> {
        let name = item.output.file_name().unwrap_or_default().len();
        if name > MAX_NAME {
            return Err(Error::file(
                &item.input,
                format!("its feature file would have a name of {name} bytes, and {MAX_NAME} are allowed: shorten it"),
            ));
        }
        let waveform =
            Waveform::read_within(&item.input, Duration::from_secs_f64(self.args.max_hours_per_file * 3600.0))?;
        if !self.args.no_trim && is_silent(&waveform.samples) {
            return Err(Error::file(
                &item.input,
                "is silent throughout: nothing is left after trimming (--no-trim keeps it)",
            ));
        }
        let duration = waveform.duration();
        let sound = self.extractor.prepare(Cow::Owned(waveform)).map_err(|e| Error::file(&item.input, e))?;
        Ok((sound, duration))
    }

    /// Writes the features, and says of how many frames they are.
    fn write(&self, item: &Item, sound: &Prepared) -> Result<u64> {
        Ok(FeatureFile::write_prepared(&item.output, sound, self.settings.contents)?.frames)
    }

    /// A run that was killed left a part of this feature file under another name.
    fn remove_leftover(&self, item: &Item) -> Result<()> {
        let manifest = self.manifest.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        manifest.leftover(item).map_or(Ok(()), |path| std::fs::remove_file(&path).map_err(Error::io(&path)))
    }

    /// Recordings that were added may move the split: nothing may be in training and in test.
    fn remove_elsewhere(&self, item: &Item) -> Result<()> {
        let manifest = self.manifest.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        match item.elsewhere.as_ref().filter(|elsewhere| manifest.knows(item, elsewhere) && elsewhere.exists()) {
            Some(elsewhere) => std::fs::remove_file(elsewhere).map_err(Error::io(elsewhere)),
            None => Ok(()),
        }
    }

    fn record(&self, item: &Item, stamp: Stamp, outcome: Outcome) -> std::result::Result<(), Failure> {
        let mut manifest = self.manifest.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        manifest.record(item, stamp, outcome).map_err(Failure::Target)
    }
}
