//! What `train-vae` and `train-inverter` share: their common flags, and the way from flags to a finished run.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::slice;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use burn::tensor::Device;
use clap::Args;
use indicatif::ProgressBar;

use super::interrupts::Interrupts;
use super::{keep_freed_buffers, memory, progress, require_within, say};
use crate::beside::write_beside;
use crate::data::{FeatureSet, Room, Standardizer};
use crate::device::{self, DeviceChoice, OpenDevice, Precision};
use crate::report::{self, ReportConfig};
use crate::run::{About, Checkpoint, Machine, NamedTensors, Origin, RunConfig, RunDir, load_parameters};
use crate::train::{Limits, Outcome, Report, Session, Task, fit};
use crate::{Error, Result};

/// Where to compute.
#[derive(Args, Clone, Debug)]
pub struct DeviceFlags {
    /// Where to compute: auto, cpu, cuda, cuda:N, wgpu or wgpu:N. auto takes the first CUDA GPU if there is one.
    #[arg(long, default_value = "auto", value_name = "DEVICE")]
    pub device: DeviceChoice,
    /// How exactly a GPU multiplies matrices; all else is f32. tf32 and bf16 are CUDA's [default: tf32 on CUDA, else f32]
    #[arg(long, value_name = "PRECISION")]
    pub precision: Option<Precision>,
    /// CPU threads [default: one per core]
    #[arg(long, value_name = "N")]
    pub threads: Option<usize>,
}

impl DeviceFlags {
    /// Limits the threads and opens the device. Call once, before any computation.
    ///
    /// # Errors
    /// As [`device::limit_threads`] and [`device::open`].
    pub fn open(&self) -> Result<Device> {
        device::limit_threads(self.threads)?;
        Ok(device::open(self.device, self.precision)?.device)
    }
}

/// The folders and the flags of every training command.
#[derive(Args, Clone, Debug)]
pub struct TrainFlags {
    /// Where the run is kept: checkpoints and TensorBoard events. A run found here is continued.
    pub logdir: PathBuf,
    /// Feature files to train on.
    pub train_dir: PathBuf,
    /// Feature files to test on.
    pub test_dir: PathBuf,
    /// Seed of parameters, order and noise.
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Steps between reports of the training loss.
    #[arg(long, default_value_t = 50, value_name = "STEPS", value_parser = clap::value_parser!(u64).range(1..))]
    pub log_every: u64,
    /// Steps between evaluations on the test set.
    #[arg(long, default_value_t = 1000, value_name = "STEPS", value_parser = clap::value_parser!(u64).range(1..))]
    pub eval_every: u64,
    /// Evaluations between those at which TensorBoard is given the sound of a test recording's reconstruction, beside the first
    /// and the last; 0 for none.
    #[arg(long, default_value_t = 5, value_name = "N")]
    pub audio_every: u64,
    /// Newest checkpoints kept, beside the one of the least test loss.
    #[arg(long, default_value_t = 3, value_name = "N")]
    pub keep: usize,
    /// Keep LOGDIR/report.html, the page of `evaluate report`, up to date: at saves, in a fiftieth of the time at most, and at the
    /// end. Open in a browser, it follows the run.
    #[arg(long)]
    pub report: bool,
    /// Hours after which this session saves and ends; the same command goes on.
    #[arg(long, value_name = "H")]
    pub max_hours: Option<f64>,
    /// Evaluations in a row without a better test loss after which training ends.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub patience: Option<u64>,
    /// Begin a new run with the model of this one, a LOGDIR or a step-N folder, instead of a random one: with its network, input
    /// and features; optimizer and steps begin anew.
    #[arg(long, value_name = "RUN")]
    pub init_from: Option<PathBuf>,
    /// Take flags and folders from this TOML file (`batch-size = 64`) where the command line does not give them. LOGDIR/config.toml
    /// has those of a run.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Memory for the features of both folders, in GB; what does not fit is read from the files for each batch.
    #[arg(long, default_value_t = 2.0, value_name = "GB")]
    pub data_memory: f64,
    /// On a GPU, launch every kernel anew at every step, which takes longer, instead of replaying a step that was recorded.
    #[arg(long)]
    pub no_replay: bool,
    #[command(flatten)]
    pub compute: DeviceFlags,
    #[arg(skip)]
    open: OnceLock<OpenDevice>,
}

/// The two feature sets of a run, checked against each other.
pub struct Sets {
    /// TRAIN_DIR.
    pub train: FeatureSet,
    /// TEST_DIR.
    pub test: FeatureSet,
    /// Band statistics of the training set; of a fine-tuned run's first one, so that the network is given what it learned on.
    pub standardizer: Standardizer,
    /// What `--init-from` is.
    pub origin: Option<Origin>,
}

impl TrainFlags {
    /// Opens both sets, prints the summary line, warns of files in both. `kind` is the [model's](crate::run::ModelConfig::kind).
    ///
    /// # Errors
    /// If there is no such device or LOGDIR holds a run of another kind, both told before the sets are read; if a set cannot be
    /// used, or the two were made with different settings.
    pub fn open_sets(&self, kind: &str) -> Result<Sets> {
        keep_freed_buffers();
        Interrupts::catch()?;
        self.max_hours.map_or(Ok(()), |hours| require_within("--max-hours", hours, 0.0..=1e6))?;
        require_within("--data-memory", self.data_memory, 0.0..=1e6)?;
        device::limit_threads(self.compute.threads)?; // before anything runs in parallel
        self.opened()?;
        if let Some(found) = RunDir::at(&self.logdir).glance() {
            found.require(kind)?;
        }
        let (train, test) = (FeatureSet::open(&self.train_dir)?, FeatureSet::open(&self.test_dir)?);
        crate::data::require_same(train.config(), test.config(), &self.train_dir, &self.test_dir)?;
        for (name, set) in [("train", &train), ("test", &test)] {
            say(format_args!(
                "{name}: {} files, {:.1} minutes, {} frames",
                set.entries.len(),
                set.minutes(),
                set.frames()
            ));
        }
        let shared = train.shared_with(&test);
        if let Some((here, there)) = shared.first() {
            let count = shared.len();
            tracing::warn!(
                "{count} test file(s) have the same content as training files ({there} is {here}): the test loss will flatter"
            );
        }
        let (origin, standardizer) = match &self.init_from {
            Some(from) => self.origin(from)?,
            None => (None, Standardizer::of(&train)?),
        };
        Ok(Sets { train, test, standardizer, origin })
    }

    /// What to begin `from`, and how its input was made. A run in LOGDIR that began there goes on whatever has become of it.
    fn origin(&self, from: &Path) -> Result<(Option<Origin>, Standardizer)> {
        if let Some(Checkpoint { about, .. }) = RunDir::at(&self.logdir).glance()
            && about.config.origin.as_ref().is_some_and(|origin| origin.run == from)
        {
            return Ok((about.config.origin, about.standardizer));
        }
        let (checkpoint, _) = Checkpoint::with_model(from)?;
        Ok((Some(checkpoint.origin(from)), checkpoint.about.standardizer))
    }

    /// The device, opened once.
    fn opened(&self) -> Result<&OpenDevice> {
        if self.open.get().is_none() {
            let _ = self.open.set(device::open(self.compute.device, self.compute.precision)?);
        }
        Ok(self.open.get().expect("just opened"))
    }

    /// What `--data-memory` says.
    pub fn room(&self) -> Room {
        Room::of((self.data_memory * 1e9) as u64)
    }

    /// Continues the run in LOGDIR or starts one, and trains it to `steps`.
    ///
    /// `flags` is what `config.toml` in LOGDIR will say. `prepare` makes a fresh model on an autodiff device and the task on the
    /// plain one.
    ///
    /// # Errors
    /// If LOGDIR holds a run of another identity (each difference is named), or training fails.
    pub fn train<T: Task>(
        &self,
        flags: &str,
        steps: u64,
        save_every: u64,
        standardizer: Standardizer,
        config: RunConfig,
        prepare: impl FnOnce(&RunConfig, &Device) -> Result<(T::Model, T)>,
    ) -> Result<ExitCode> {
        memory::watch(config.batch.size, || {
            self.train_watched::<T>(flags, steps, save_every, standardizer, config, prepare)
        })
    }

    fn train_watched<T: Task>(
        &self,
        flags: &str,
        steps: u64,
        save_every: u64,
        standardizer: Standardizer,
        config: RunConfig,
        prepare: impl FnOnce(&RunConfig, &Device) -> Result<(T::Model, T)>,
    ) -> Result<ExitCode> {
        let interrupts = Interrupts::catch()?;
        let deadline = self.max_hours.map(|hours| Instant::now() + Duration::from_secs_f64(3600.0 * hours));
        let open = self.opened()?;
        let run = RunDir::at(&self.logdir);
        let _lock = run.lock()?;
        let found = run.latest()?;
        if let Some(found) = &found {
            let differences = found.about.config.differences(&config);
            if !differences.is_empty() {
                return Err(Error::Mismatch(format!(
                    "{} holds another run; give another LOGDIR, or the run's own settings and data. Run / asked for:\n  {}",
                    self.logdir.display(),
                    differences.join("\n  ")
                )));
            }
        }
        let begun = if found.is_none() { begun(&config)? } else { None };
        let (model, mut task) = prepare(&config, &open.device)?;
        let count = crate::models::parameter_count(&model);
        say(format_args!("model: {} parameters; device: {}", grouped(count as u64), open.name));
        let mut session = match found {
            Some(checkpoint) => {
                say(format_args!("continuing {} from step {}", self.logdir.display(), checkpoint.about.step));
                Session::resume(model, checkpoint, &open.device)?
            }
            None => {
                let model = match begun {
                    Some((path, tensors)) => {
                        say(format_args!("beginning with the model of {}", path.display()));
                        load_parameters(model, &tensors, &path)?
                    }
                    None => model,
                };
                Session::start(model, config, standardizer)
            }
        };
        if self.no_replay {
            session.never_replay();
        }
        let done = session.about.step;
        // At the last step without its evaluation, that was interrupted; only it is left to do.
        if done > steps || done == steps && session.about.tested == done {
            say(format_args!("{} has {done} steps already; a larger --steps goes on", self.logdir.display()));
            return Ok(ExitCode::SUCCESS);
        }
        let &Self { log_every, eval_every, audio_every, keep, patience, .. } = self;
        let limits = Limits { steps, log_every, eval_every, save_every, audio_every, keep, deadline, patience };
        let path = self.logdir.join("config.toml");
        write_beside(&path, |file| file.write_all(flags.as_bytes()).map_err(Error::io(&path)))?;
        Machine::here(done, &open.name).note(&self.logdir)?;
        let mut display = Display::new(steps, session.about.step);
        let mut page = self.report.then(|| Page::of(&self.logdir, &open.device));
        interrupts.begin_to_save();
        let stop = &interrupts.signal;
        let outcome = fit(&mut task, &mut session, &run, &limits, stop, &mut |report| {
            if let (Some(page), Report::Saved { about, .. }) = (&mut page, &report) {
                page.follow(about);
            }
            display.show(report);
        });
        display.bar.finish_and_clear();
        page.iter_mut().for_each(|page| page.write(false)); // also of a run that failed
        let outcome = outcome?;
        let step = session.about.step;
        match outcome {
            Outcome::Finished => say(session.about.conclusion()),
            Outcome::NoBetter => {
                say(format_args!("ended at step {step}: --patience {}", patience.unwrap_or_default()));
                say(session.about.conclusion());
            }
            Outcome::OutOfTime => {
                say(format_args!("--max-hours is over: saved at step {step}; the same command goes on from there"));
            }
            Outcome::Interrupted => {
                say(format_args!("interrupted: saved at step {step}; the same command goes on from there"));
                return Ok(interrupts.status());
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// What a new run of this configuration begins with, if it does not draw its parameters, and where that lies.
fn begun(config: &RunConfig) -> Result<Option<(PathBuf, NamedTensors)>> {
    let Some(origin) = &config.origin else { return Ok(None) };
    let (checkpoint, tensors) = Checkpoint::with_model(&origin.run)?;
    checkpoint.require(config.model.kind())?;
    let differences = checkpoint.about.config.network_differences(config);
    if !differences.is_empty() {
        return Err(Error::Mismatch(format!(
            "--init-from {}: its network, input and features must be those asked for. Its / asked for:\n  {}",
            origin.run.display(),
            differences.join("\n  ")
        )));
    }
    if checkpoint.origin(&origin.run) != *origin {
        return Err(Error::file(
            &origin.run,
            "another checkpoint was saved there just now; give one of its step-N folders",
        ));
    }
    Ok(Some((checkpoint.model_path(), tensors)))
}

/// The report of a run in training.
struct Page {
    run: PathBuf,
    device: Device,
    /// When the last one was done, and what it took.
    last: Option<(Instant, Duration)>,
}

impl Page {
    fn of(run: &Path, device: &Device) -> Self {
        Self { run: run.to_path_buf(), device: device.clone(), last: None }
    }

    /// Shows a checkpoint, once there is an evaluation to show and the last page took no longer than a fiftieth of the time since.
    fn follow(&mut self, about: &About) {
        if about.best.is_some() && self.last.is_none_or(|(done, took)| done.elapsed() >= 50 * took) {
            self.write(true);
        }
    }

    /// A page that cannot be written is no reason to end training.
    fn write(&mut self, live: bool) {
        let begun = Instant::now();
        let config = ReportConfig { live, ..ReportConfig::default() };
        if let Err(error) =
            report::write(slice::from_ref(&self.run), &config, &self.run.join("report.html"), &self.device)
        {
            tracing::warn!("no report: {error}");
        }
        self.last = Some((Instant::now(), begun.elapsed()));
    }
}

/// A bar on a terminal, lines elsewhere.
struct Display {
    bar: ProgressBar,
}

impl Display {
    fn new(steps: u64, done: u64) -> Self {
        let bar = progress(steps, "{bar:30} {pos}/{len} steps, {eta} left  {msg}");
        bar.set_position(done);
        bar.reset_eta();
        bar.enable_steady_tick(Duration::from_millis(500));
        Self { bar }
    }

    fn show(&mut self, report: Report) {
        match report {
            Report::Step { step } => self.bar.set_position(step),
            Report::Training { step, epoch, terms, steps_per_second } => {
                let line = format!("epoch {epoch}  {}  {steps_per_second:.1} steps/s", list(terms));
                if self.bar.is_hidden() {
                    say(format_args!("step {step}  train  {line}"));
                } else {
                    self.bar.set_message(line);
                }
            }
            Report::Test { step, terms } => self.line(format!("step {step}  test   {}", list(terms))),
            Report::Saved { path, about } => self.line(format!("saved {}{}", path.display(), standing(about))),
            Report::Skipped { step, files } => {
                let files = files.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
                self.line(format!("step {step}  skipped: the loss or its gradients are not finite; batch of {files}"));
            }
            Report::RolledBack { from, to, why } => {
                self.bar.set_position(to);
                self.line(format!("step {from}  {why}: back to step {to}, once, at half the learning rate"));
            }
        }
    }

    fn line(&self, line: String) {
        if self.bar.is_hidden() { say(&line) } else { self.bar.suspend(|| say(&line)) }
    }
}

/// How the last test loss stands against the least.
fn standing(about: &About) -> String {
    match (about.test_loss(), about.best) {
        (Some(_), Some(best)) if best.step == about.tested => {
            format!("; test loss {:.3} at step {}, the best so far", best.total, best.step)
        }
        (Some(loss), Some(best)) => {
            format!("; test loss {loss:.3} at step {}, the best {:.3} at step {}", about.tested, best.total, best.step)
        }
        _ => String::new(),
    }
}

fn list(terms: &BTreeMap<String, f64>) -> String {
    terms.iter().map(|(name, value)| format!("{name} {value:.3}")).collect::<Vec<_>>().join("  ")
}

fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let groups = digits.as_bytes().rchunks(3).rev().map(|group| String::from_utf8_lossy(group).into_owned());
    groups.collect::<Vec<_>>().join(" ")
}
