//! The training loop.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use ndarray::ArrayView2;

use super::adam::{Adam, ByName, Numbers};
use super::buffers;
use super::journal::Journal;
use super::means::{Means, Shown};
use super::replay::{self, Replay, Way};
use super::rival::Rival;
use super::task::{Evaluation, Task};
use crate::audio::Waveform;
use crate::data::{Batch, Drawn, Form, Standardizer};
use crate::device::is_cpu;
use crate::dsp::phase::Phase;
use crate::kernels::{self, AdamStep};
use crate::run::{About, Checkpoint, ModelConfig, NamedTensors, RunConfig, RunDir, load_parameters, trained_shapes};
use crate::synth::{Vocoder, VocoderConfig};
use crate::{Error, Result};

/// How long to train, and how often to look and to save, in steps.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Total, including steps of an earlier session.
    pub steps: u64,
    /// Steps between reports of the training loss.
    pub log_every: u64,
    /// Steps between evaluations on the test set.
    pub eval_every: u64,
    /// Steps between checkpoints.
    pub save_every: u64,
    /// Newest checkpoints kept, beside the one of the least test loss.
    pub keep: usize,
    /// When to stop, whatever is left to do.
    pub deadline: Option<Instant>,
    /// Evaluations between those whose reconstruction is made to sound, beside the first and the last; 0 for none.
    pub audio_every: u64,
    /// Evaluations in a row without a better test loss after which to stop.
    pub patience: Option<u64>,
}

/// A model in training and all that its checkpoint holds.
pub struct Session<M> {
    /// Takes part in autodiff. Absent only during an update, which changes parameters in place where nobody else holds them.
    model: Option<M>,
    adam: Adam,
    /// What is trained beside it, where the objective has such.
    rival: Option<Rival>,
    /// The step of its newest checkpoint.
    saved: Option<u64>,
    /// The step as it was recorded, where one is.
    replay: Replay,
    /// What `run.json` will say.
    pub about: About,
}

/// What the loop tells its caller.
#[derive(Clone, Debug)]
pub enum Report<'a> {
    /// After every step: how many are finished.
    Step { step: u64 },
    /// Every `log_every` steps: means by name since the last report, as [`Terms`](super::Terms) has them, and the rate.
    Training { step: u64, epoch: u64, terms: &'a BTreeMap<String, f64>, steps_per_second: f64 },
    /// The test set's means by name, as [`Task::evaluate`] gives them.
    Test { step: u64, terms: &'a BTreeMap<String, f64> },
    /// A checkpoint is on the disk.
    Saved { path: PathBuf, about: &'a About },
    /// A loss or gradients were not finite, and the step changed nothing; `files` are its batch's.
    Skipped { step: u64, files: &'a BTreeSet<String> },
    /// The run was put back from step `from` to the checkpoint of step `to`, to go on at half the learning rate.
    RolledBack { from: u64, to: u64, why: &'a str },
}

/// Why the loop ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// All steps are done, and the last one is evaluated.
    Finished,
    /// Asked to stop before that.
    Interrupted,
    /// The deadline has passed.
    OutOfTime,
    /// The test loss has not become better for as many evaluations as there is patience for.
    NoBetter,
}

/// Skipped steps in a row after which the run is put back to a checkpoint: a bad batch is one or two, a run that has left
/// the numbers' range does not come back by itself.
pub const SKIPS_IN_A_ROW: u32 = 5;

impl<M: Module> Session<M> {
    /// A run that has not trained yet. `model` takes part in autodiff.
    pub fn start(model: M, config: RunConfig, standardizer: Standardizer) -> Self {
        let adam = Adam::new(config.optimizer.clone());
        let rival = Rival::of(&config, &device_of(&model).autodiff());
        let version = env!("CARGO_PKG_VERSION").to_string();
        let about = About {
            version,
            step: 0,
            position: Default::default(),
            test: BTreeMap::new(),
            tested: 0,
            best: None,
            no_better: 0,
            trouble: Default::default(),
            standardizer,
            config,
        };
        Self { model: Some(model), adam, rival, saved: None, replay: Replay::new(), about }
    }

    /// A run as its checkpoint left it. `model` is a fresh one of the run's architecture.
    ///
    /// # Errors
    /// If the checkpoint's tensors cannot be read or do not fit.
    pub fn resume(model: M, checkpoint: Checkpoint, device: &Device) -> Result<Self> {
        let state = (checkpoint.model()?, checkpoint.optimizer()?);
        let paths = [&checkpoint.model_path(), &checkpoint.optimizer_path()];
        let saved = Some(checkpoint.about.step);
        Ok(Self { saved, ..Self::restored(model, checkpoint.about, state, device, paths.map(PathBuf::as_path))? })
    }

    /// A run as [`state`](Self::state) has it; `paths` are what errors name.
    fn restored(
        model: M,
        about: About,
        (mut tensors, mut rest): (NamedTensors, NamedTensors),
        device: &Device,
        [of_model, of_rest]: [&Path; 2],
    ) -> Result<Self> {
        let model = load_parameters(model, &tensors, of_model)?;
        let About { config, step, trouble, .. } = &about;
        let trained = *step != trouble.skipped;
        let moved = if trained { trained_shapes(&model) } else { BTreeMap::new() };
        let rival = Rival::of(config, &device.clone().autodiff());
        let rival = rival.map(|rival| rival.restore(&mut rest, trained, of_rest)).transpose()?;
        let adam = Adam::restore(config.optimizer.clone(), &moved, &rest, &mut tensors, device, of_rest)?;
        let model = load_parameters(model, &tensors, of_rest)?; // where there is an average, training goes on from what it is of
        Ok(Self { model: Some(model), adam, rival, saved: None, replay: Replay::new(), about })
    }

    /// Has every kernel launched anew at every step, where steps would be recorded and replayed.
    pub fn never_replay(&mut self) {
        self.replay = Replay::Never;
    }

    /// The model that is trained, which takes part in autodiff.
    pub fn model(&self) -> &M {
        self.model.as_ref().expect("only an update takes it")
    }

    /// What is trained beside it.
    pub fn rival(&self) -> Option<&Rival> {
        self.rival.as_ref()
    }

    /// What a checkpoint holds: the model to use, and the rest.
    pub fn state(&self) -> (NamedTensors, NamedTensors) {
        let (model, mut rest) = self.adam.state(self.model());
        self.rival.iter().for_each(|rival| rival.add_to(&mut rest));
        (model, rest)
    }

    /// Goes back to a checkpoint of the same run.
    fn go_back(&mut self, checkpoint: Checkpoint) -> Result<()> {
        let device = device_of(self.model());
        let model = self.model().clone(); // which is still there if this fails
        let replay = if matches!(self.replay, Replay::Never) { Replay::Never } else { Replay::new() };
        *self = Self { replay, ..Self::resume(model, checkpoint, &device)? };
        Ok(())
    }

    /// Takes one step: a batch, its loss, the gradients, Adam; so does what is trained beside the model. Gives the loss terms and
    /// the norm of all gradients before clipping, all still on the device.
    ///
    /// On the CPU a loss or gradients that are not finite change nothing but the count of skipped steps and the place in the
    /// data, and give `None`. Elsewhere looking at them would make the device wait for us at every step.
    ///
    /// On a GPU the kernels of a step are recorded once and replayed from then on, where batches are of one form.
    ///
    /// # Errors
    /// If the batch cannot be read: then nothing has changed. [`Error::Device`] if a replay fails.
    pub fn advance<T: Task<Model = M>>(&mut self, task: &mut T) -> Result<Option<Shown>> {
        let step = self.about.step;
        let drawn = task.draw(step)?;
        let device = device_of(self.model());
        let of_rival = self.rival.as_ref().map(|rival| rival.numbers(self.about.share(), step));
        let numbers: Vec<_> = [self.adam.numbers(self.about.rate(), step)].into_iter().chain(of_rival).collect();
        let form = drawn.form();
        let shown = match (self.replay.way(form.clone(), &device), &mut self.replay) {
            (Way::Replay, Replay::Ready(recorded)) => Some(recorded.replay(drawn, &numbers)?),
            (Way::Record(form), _) => self.record(task, form, settled(drawn, &device), numbers)?,
            _ => {
                let (session, task, device, numbers) = (&mut *self, &mut *task, &device, &numbers);
                kernels::on_worker(device, move || {
                    let batch = settled(drawn, device);
                    session.replay.hold(&form, &batch);
                    session.launch(task, &batch, numbers)
                })
            }
        };
        self.about.step = step + 1;
        self.about.position = task.position();
        let trouble = &mut self.about.trouble;
        match &shown {
            Some(_) => trouble.in_a_row = 0,
            None => (trouble.skipped, trouble.in_a_row) = (trouble.skipped + 1, trouble.in_a_row + 1),
        }
        Ok(shown)
    }

    /// Computes a step, or has it computed, kernel by kernel. `numbers` are the model's and the rival's. `None` if it changed nothing,
    /// its numbers not being finite.
    fn launch<T: Task<Model = M>>(&mut self, task: &T, batch: &Batch, numbers: &[Numbers]) -> Option<Shown> {
        let device = device_of(self.model());
        // What is put off is fused with what comes after it. A step's kernels are to be those that a recording will launch, which knows
        // no step before or after it.
        let apart = || kernels::on_gpu(&device).then(|| kernels::flush(&device));
        apart();
        let before = self.model.take().expect("only an update takes it");
        let mut model = before.clone(); // handles: training also moves buffers, such as a norm's running means
        let terms = task.loss(&mut model, self.rival.as_ref().map(Rival::model), batch);
        let gradients = ByName::of(&model, terms.loss.backward());
        let loss = terms.loss.inner();
        let beside = self.rival.as_ref().zip(terms.rival).map(|(rival, loss)| rival.gradients(loss));
        let norms = [Some(&gradients), beside.as_ref()].into_iter().flatten().map(|gradients| &gradients.norm);
        if !norms.chain([&loss]).all(is_finite) {
            self.model = Some(before);
            return None;
        }
        let shown = Shown::of(terms.reported, gradients.norm.clone());
        let model = buffers::in_place(before, model); // `before` ends here: parameters are changed in place where nobody else holds them
        self.model = Some(self.adam.update(model, gradients, &numbers[0]));
        if let Some((rival, gradients)) = self.rival.as_mut().zip(beside) {
            rival.update(gradients, &numbers[1]);
        }
        apart();
        Some(shown)
    }

    /// Takes a step by recording and replaying it. What the replay shows must be what the same model gives without it; if it is not,
    /// or if the device cannot, this step is launched, and so are all that follow if it fails again and again.
    ///
    /// # Errors
    /// [`Error::Device`] if the device cannot be read.
    fn record<T: Task<Model = M>>(
        &mut self,
        task: &T,
        form: Form,
        batch: Batch,
        mut numbers: Vec<Numbers>,
    ) -> Result<Option<Shown>> {
        let device = device_of(self.model());
        let (before, about) = (self.state(), self.about.clone());
        let wanted = self.shown(task, &batch).read();
        let place = self.replay.place().expect("prepared steps have been");
        // An upload is put off until the values are used, and none must be part of the recording.
        let zeros = || Tensor::<1>::zeros([AdamStep::NUMBERS], &device).into_dispatch();
        let places = numbers.iter().map(|_| zeros()).collect();
        let of_device = kernels::assign(places, numbers.iter().map(|each| each.on(&device).into_dispatch()).collect());
        let of_device: Vec<_> = of_device.into_iter().map(Tensor::from_dispatch).collect();
        numbers.iter_mut().zip(&of_device).for_each(|(each, of_device)| each.on_device = Some(of_device.clone()));
        let recorded = replay::record(&device, form, place, of_device, |batch| {
            self.launch(task, batch, &numbers).expect("elsewhere than on the CPU every step is taken")
        });
        let why = match recorded.and_then(|mut recorded| Ok((recorded.on(batch.clone(), vec![])?, recorded))) {
            Ok((shown, recorded)) => match differing(&wanted, &shown.read()) {
                None => {
                    tracing::debug!("from step {} on a recorded step is replayed", about.step + 1);
                    self.replay = Replay::Ready(recorded);
                    return Ok(Some(shown));
                }
                Some(what) => format!("replayed it gave another {what}"),
            },
            Err(error) => error.to_string(),
        };
        let model = self.model().clone(); // which is still there if this fails
        let restored = Self::restored(model, about, before, &device, [Path::new("memory"); 2])?;
        self.replay.failed();
        *self = Self { saved: self.saved, replay: std::mem::replace(&mut self.replay, Replay::Never), ..restored };
        match self.replay {
            Replay::Never => tracing::warn!(
                "every kernel is launched anew at every step, which takes longer: they cannot be replayed ({why})"
            ),
            _ => tracing::debug!("a step could not be recorded, which will be tried again ({why})"),
        }
        numbers.iter_mut().for_each(|each| each.on_device = None);
        Ok(self.launch(task, &batch, &numbers))
    }

    /// What a step would show.
    fn shown<T: Task<Model = M>>(&self, task: &T, batch: &Batch) -> Shown {
        let mut model = self.model().clone();
        let terms = task.loss(&mut model, self.rival.as_ref().map(Rival::model), batch);
        Shown::of(terms.reported, ByName::of(&model, terms.loss.backward()).norm)
    }
}

/// A batch on a device; on one that may record the step as it is recorded, so that kernels are chosen for what they will compute.
fn settled(drawn: Drawn, device: &Device) -> Batch {
    let batch = drawn.on(device);
    if kernels::on_gpu(device) { batch.map(kernels::settle) } else { batch }
}

/// Where a model is, without autodiff.
fn device_of<M: Module>(model: &M) -> Device {
    model.devices().remove(0).inner()
}

/// The name of a value that is not what was wanted, rounding apart.
fn differing(wanted: &[(&'static str, f64)], found: &[(&'static str, f64)]) -> Option<&'static str> {
    let near = |wanted: f64, found: f64| {
        wanted == found || (wanted - found).abs() <= 0.01 * wanted.abs().max(found.abs()) + 1e-6
    };
    let differing = |((name, wanted), (_, found)): (&(&'static str, f64), &(&'static str, f64))| {
        let both_nan = wanted.is_nan() && found.is_nan(); // which the next report will say
        (!both_nan && !near(*wanted, *found)).then_some(*name)
    };
    wanted.iter().zip(found).find_map(differing)
}

/// Whether a number is finite, where looking is free: true on any device but the CPU.
fn is_finite(number: &Tensor<1>) -> bool {
    !is_cpu(&number.device()) || number.clone().into_scalar::<f32>().is_finite()
}

/// Trains until one of `limits` or until `stop` is no longer zero; either way the last step is saved.
///
/// Numbers that are not finite: on the CPU such a step is skipped, elsewhere they are found at the next report. After
/// [`SKIPS_IN_A_ROW`] skipped steps or such a report the run is put back to its last checkpoint, once, to go on at half
/// the learning rate.
///
/// # Errors
/// [`Error::Diverged`] when that happens a second time (the checkpoints are untouched), [`Error::Io`] if the disk fails, what the
/// task says if its data cannot be read: then the last step is saved.
pub fn fit<T: Task>(
    task: &mut T,
    session: &mut Session<T::Model>,
    run: &RunDir,
    limits: &Limits,
    stop: &AtomicUsize,
    tell: &mut dyn FnMut(Report),
) -> Result<Outcome> {
    task.seek(session.about.position);
    let journal = Journal::open(run, session.about.step)?;
    Loop { task, session, run, limits, stop, tell, journal, means: Means::new() }.run()
}

/// What [`fit`] works with.
struct Loop<'a, T: Task> {
    task: &'a mut T,
    session: &'a mut Session<T::Model>,
    run: &'a RunDir,
    limits: &'a Limits,
    stop: &'a AtomicUsize,
    tell: &'a mut dyn FnMut(Report),
    journal: Journal,
    means: Means,
}

impl<T: Task> Loop<'_, T> {
    fn run(mut self) -> Result<Outcome> {
        if self.session.saved.is_none() {
            self.journal.configuration(&self.session.about.config)?;
            self.save()?; // a disk that cannot be written is found out before the work, not after
        } else if self.is_due(self.limits.eval_every) && self.session.about.tested < self.step() {
            self.evaluate()?; // it was interrupted
            if self.session.about.tested == self.step() {
                self.save()?; // or it would be noted again after a kill
            }
        }
        let first = self.step();
        let outcome = loop {
            if let Some(outcome) = self.outcome() {
                break outcome;
            }
            match self.advance() {
                Err(Error::Diverged(why)) => self.roll_back(&why)?,
                advanced => advanced?,
            }
            if self.step() == first + 1 {
                self.settle()?;
            }
        };
        self.save_last()?;
        Ok(outcome)
    }

    /// Waits for the device to have done the first step. What it has no room for is refused there and then, and would otherwise be
    /// found at the next report.
    ///
    /// # Errors
    /// [`Error::Device`] with what the backend says.
    fn settle(&self) -> Result<()> {
        device_of(self.session.model()).sync().map_err(|error| Error::Device(error.to_string()))
    }

    /// Saves the last step unless that was done.
    fn save_last(&mut self) -> Result<()> {
        if self.session.saved != Some(self.step()) {
            self.means.take().map_err(Error::Diverged)?; // what is not finite must not be saved over a good checkpoint
            self.save()?;
        }
        Ok(())
    }

    /// What was `read` by the task; if it could not be, with the last step saved.
    fn of_data<R>(&mut self, read: Result<R>) -> Result<R> {
        read.inspect_err(|_| {
            // The data's error is the one to report; without this the run is at its checkpoint before.
            let _ = self.save_last();
        })
    }

    /// Why to end here, `None` to go on.
    fn outcome(&self) -> Option<Outcome> {
        let Limits { steps, deadline, patience, .. } = *self.limits;
        let tested = self.session.about.tested == self.step();
        if self.step() >= steps && tested {
            Some(Outcome::Finished)
        } else if self.step() >= steps || self.stop.load(Ordering::Relaxed) != 0 {
            Some(Outcome::Interrupted)
        } else if patience.is_some_and(|patience| self.session.about.no_better >= patience) {
            Some(Outcome::NoBetter)
        } else if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            Some(Outcome::OutOfTime)
        } else {
            None
        }
    }

    /// Finished steps.
    fn step(&self) -> u64 {
        self.session.about.step
    }

    /// Whether something that is done every so many steps is to be done now.
    fn is_due(&self, every: u64) -> bool {
        self.step() > 0 && (self.step().is_multiple_of(every) || self.step() == self.limits.steps)
    }

    /// One step, and what is due after it.
    fn advance(&mut self) -> Result<()> {
        let rate = self.session.about.rate();
        let advanced = self.session.advance(self.task);
        match self.of_data(advanced)? {
            Some(shown) => self.means.add(shown),
            None => self.skipped()?,
        }
        (self.tell)(Report::Step { step: self.session.about.step });
        if self.is_due(self.limits.log_every) {
            self.log(rate)?;
        }
        if self.is_due(self.limits.eval_every) {
            self.evaluate()?;
        }
        if self.is_due(self.limits.save_every) {
            self.save()?;
        }
        Ok(())
    }

    fn skipped(&mut self) -> Result<()> {
        let (step, files) = (self.step(), self.task.files());
        (self.tell)(Report::Skipped { step, files: &files });
        match self.session.about.trouble.in_a_row {
            SKIPS_IN_A_ROW.. => Err(Error::Diverged(format!("{SKIPS_IN_A_ROW} steps in a row were not finite"))),
            _ => Ok(()),
        }
    }

    fn log(&mut self, rate: f64) -> Result<()> {
        let (terms, steps_per_second) = self.means.take().map_err(Error::Diverged)?;
        let About { step, position, trouble, .. } = &self.session.about;
        let optimizer = [
            ("learning_rate", rate),
            ("steps_per_second", steps_per_second),
            ("skipped_steps", trouble.skipped as f64),
        ];
        self.journal.train(*step, &terms, &optimizer)?;
        (self.tell)(Report::Training { step: *step, epoch: position.epoch, terms: &terms, steps_per_second });
        Ok(())
    }

    /// Evaluates, notes and reports it; an interrupted evaluation is as if it had not been begun.
    fn evaluate(&mut self) -> Result<()> {
        let model = self.session.adam.averaged(self.session.model());
        let rival = self.session.rival.as_ref().map(|rival| rival.model().valid());
        let evaluated = self.task.evaluate(&model, rival.as_ref(), self.stop);
        drop((model, rival)); // parameters are changed in place where nobody else holds them
        let Some(evaluation) = self.of_data(evaluated)? else { return Ok(()) };
        if let Some((name, value)) = evaluation.means.iter().find(|(_, value)| !value.is_finite()) {
            return Err(Error::Diverged(format!("test {name} is {value}")));
        }
        self.journal.test(self.step(), &evaluation)?;
        self.sound(&evaluation)?;
        self.session.about.record(evaluation.means);
        (self.tell)(Report::Test { step: self.session.about.step, terms: &self.session.about.test });
        self.means.restart_clock();
        Ok(())
    }

    /// Lets some evaluations be heard: the first, with the recording itself, every so many, and the last.
    fn sound(&mut self, evaluation: &Evaluation) -> Result<()> {
        let Limits { eval_every, audio_every, steps, .. } = *self.limits;
        let (step, first) = (self.step(), self.step() <= eval_every);
        let due = first || step == steps || (step / eval_every).is_multiple_of(audio_every);
        if audio_every == 0 || !due {
            return Ok(());
        }
        let About { config, standardizer, .. } = &self.session.about;
        let [own, made] = &evaluation.heard;
        let mut sounds = Vec::new();
        for (tag, spectrum) in [("audio/original", own), ("audio/reconstruction", made)] {
            if (first || tag != "audio/original") && spectrum.nrows() > 1 {
                sounds.push((tag, preview(config, standardizer, spectrum.view())?));
            }
        }
        self.journal.sounds(step, &sounds)
    }

    fn save(&mut self) -> Result<()> {
        let (model, optimizer) = self.session.state();
        if let Some(name) = not_finite(&model).or_else(|| not_finite(&optimizer)) {
            return Err(Error::Diverged(format!("{name} holds values that are not finite")));
        }
        let path = self.run.save(&self.session.about, &model, &optimizer, self.limits.keep)?;
        self.session.saved = Some(self.step());
        (self.tell)(Report::Saved { path, about: &self.session.about });
        self.means.restart_clock();
        Ok(())
    }

    /// Puts the run back to its last checkpoint that no skipped step came right before, on disk too: a run that is killed right
    /// after it must not do it again.
    fn roll_back(&mut self, why: &str) -> Result<()> {
        let from = self.step();
        if let Some(earlier) = self.session.about.trouble.rolled_back {
            let files = self.task.files().into_iter().collect::<Vec<_>>().join(", ");
            return Err(Error::Diverged(format!(
                "training diverged at step {from}: {why}; files of this batch: {files}. It was put back once already, from \
                 step {earlier}; the last checkpoint is untouched. A lower --learning-rate in a new LOGDIR helps"
            )));
        }
        let Some(checkpoint) = self.run.latest_sound()? else {
            return Err(Error::Diverged(format!(
                "training diverged at step {from}: {why}; there is no checkpoint to go back to"
            )));
        };
        self.session.go_back(checkpoint)?;
        self.session.about.trouble.rolled_back = Some(from);
        self.task.seek(self.session.about.position);
        self.save()?;
        let to = self.step();
        self.journal = Journal::open(self.run, to)?;
        self.means = Means::new();
        (self.tell)(Report::RolledBack { from, to, why });
        Ok(())
    }
}

/// The sound of a spectrogram as the run's model has it: a VAE's log-mels through the mel inverse, an inverter's spectrum itself.
fn preview(config: &RunConfig, standardizer: &Standardizer, spectrum: ArrayView2<f32>) -> Result<Waveform> {
    let vocoder = VocoderConfig { phase: Phase::PghiFast.config(0), emphasis: None, peak: Some(0.9) };
    match config.model {
        ModelConfig::Cbhg(_) => Vocoder::exact(&config.features, vocoder)?.sound(spectrum, 1.0),
        _ => Vocoder::without_network(&config.features, vocoder)?.sound(standardizer.undo(spectrum).view(), 1.0),
    }
}

fn not_finite(tensors: &NamedTensors) -> Option<&String> {
    tensors.0.iter().find(|(_, (_, values))| values.iter().any(|value| !value.is_finite())).map(|(name, _)| name)
}
