//! The training loop.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use ndarray::ArrayView2;

use super::journal::Journal;
use super::means::Means;
use super::session::Session;
use super::task::{Evaluation, Task};
use crate::audio::Waveform;
use crate::data::Standardizer;
use crate::dsp::phase::Phase;
use crate::run::{About, ModelConfig, NamedTensors, RunConfig, RunDir};
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
            let caught_up = self.catch_up();
            self.or_back(caught_up)?;
        }
        let first = self.step();
        let outcome = loop {
            if let Some(outcome) = self.outcome() {
                break outcome;
            }
            let advanced = self.advance();
            self.or_back(advanced)?;
            if self.step() == first + 1 {
                // What the device has no room for it refuses there and then; it would otherwise be found at the next report.
                self.session.wait()?;
            }
        };
        self.save_last()?;
        Ok(outcome)
    }

    /// Does the evaluation that was interrupted.
    fn catch_up(&mut self) -> Result<()> {
        self.evaluate()?;
        if self.session.about.tested == self.step() {
            self.save()?; // or it would be noted again after a kill
        }
        Ok(())
    }

    /// Goes back to a checkpoint if what was done diverged.
    fn or_back(&mut self, done: Result<()>) -> Result<()> {
        match done {
            Err(Error::Diverged(why)) => self.roll_back(&why),
            done => done,
        }
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
        let (step, best) = (self.step(), self.session.about.best.as_ref());
        if self.is_due(self.limits.save_every) || best.is_some_and(|best| best.step == step) {
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
        let (model, rival) = self.session.to_evaluate();
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

    /// Puts the run back to its last checkpoint before this step that no skipped step came right before, on disk too: a run that is
    /// killed right after it must not do it again.
    fn roll_back(&mut self, why: &str) -> Result<()> {
        let from = self.step();
        if let Some(earlier) = self.session.about.trouble.rolled_back {
            let files = self.task.files().into_iter().collect::<Vec<_>>().join(", ");
            return Err(Error::Diverged(format!(
                "training diverged at step {from}: {why}; files of this batch: {files}. It was put back once already, from \
                 step {earlier}; the last checkpoint is untouched. A lower --learning-rate in a new LOGDIR helps"
            )));
        }
        let Some(checkpoint) = self.run.latest_sound(from)? else {
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
