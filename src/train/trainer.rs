//! The training loop.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use burn::module::Module;
use burn::tensor::{Device, Tensor};

use super::adam::Adam;
use super::task::{Task, Term};
use crate::board::EventWriter;
use crate::data::Standardizer;
use crate::run::{About, Checkpoint, NamedTensors, RunConfig, RunDir, load_parameters, parameters, trained_shapes};
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
}

/// A model in training and all that its checkpoint holds.
pub struct Session<M> {
    /// Takes part in autodiff. Absent only during an update, which changes parameters in place where nobody else holds them.
    model: Option<M>,
    adam: Adam,
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
    Saved { step: u64, path: PathBuf },
}

/// Why the loop ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// All steps are done.
    Finished,
    /// Asked to stop before that.
    Interrupted,
}

impl<M: Module> Session<M> {
    /// A run that has not trained yet. `model` takes part in autodiff.
    pub fn start(model: M, config: RunConfig, standardizer: Standardizer) -> Self {
        let adam = Adam::new(config.optimizer.clone());
        let version = env!("CARGO_PKG_VERSION").to_string();
        let about = About {
            version,
            step: 0,
            position: Default::default(),
            test: BTreeMap::new(),
            tested: 0,
            best: None,
            standardizer,
            config,
        };
        Self { model: Some(model), adam, about }
    }

    /// A run as its checkpoint left it. `model` is a fresh one of the run's architecture.
    ///
    /// # Errors
    /// If the checkpoint's tensors cannot be read or do not fit.
    pub fn resume(model: M, checkpoint: Checkpoint, device: &Device) -> Result<Self> {
        let model = load_parameters(model, &checkpoint.model()?, &checkpoint.model_path())?;
        let config = checkpoint.about.config.optimizer.clone();
        let moved = if checkpoint.about.step == 0 { BTreeMap::new() } else { trained_shapes(&model) };
        let adam = Adam::restore(config, &moved, &checkpoint.optimizer()?, device, &checkpoint.optimizer_path())?;
        Ok(Self { model: Some(model), adam, about: checkpoint.about })
    }

    /// The model, which takes part in autodiff.
    pub fn model(&self) -> &M {
        self.model.as_ref().expect("only an update takes it")
    }

    /// Takes one step: a batch, its loss, the gradients, Adam. Gives the loss terms and the norm of all gradients before
    /// clipping, all still on the device.
    pub fn advance<T: Task<Model = M>>(&mut self, task: &mut T) -> (Vec<Term>, Tensor<1>) {
        let step = self.about.step;
        let mut model = self.model.take().expect("only an update takes it");
        let terms = task.train_loss(&mut model, step);
        let gradients = terms.loss.backward();
        drop(terms.loss);
        let rate = self.about.config.schedule.rate(step);
        let (model, norm) = self.adam.step(model, gradients, rate, step);
        self.model = Some(model);
        self.about.step = step + 1;
        self.about.position = task.position();
        (terms.reported, norm)
    }
}

/// Trains until `limits.steps` or until `stop` is no longer zero; either way the last step is saved.
///
/// # Errors
/// [`Error::Diverged`] if a loss or parameter is no longer finite (nothing of that is saved), [`Error::Io`] if the disk fails.
pub fn fit<T: Task>(
    task: &mut T,
    session: &mut Session<T::Model>,
    run: &RunDir,
    limits: &Limits,
    stop: &AtomicUsize,
    tell: &mut dyn FnMut(Report),
) -> Result<Outcome> {
    task.seek(session.about.position);
    let mut board = Boards {
        train: EventWriter::create(&run.path().join("train"), session.about.step)?,
        test: EventWriter::create(&run.path().join("test"), session.about.step)?,
    };
    let mut means = Means::new();
    let mut saved = session.about.step;
    if saved == 0 {
        save(session, run, limits.keep, tell)?; // a disk that cannot be written is found out before the work, not after
    }
    while session.about.step < limits.steps && stop.load(Ordering::Relaxed) == 0 {
        let rate = session.about.config.schedule.rate(session.about.step);
        let (reported, norm) = session.advance(task);
        let step = session.about.step;
        means.add(reported, norm);
        tell(Report::Step { step });

        if step.is_multiple_of(limits.log_every) || step == limits.steps {
            let (terms, steps_per_second) = means.take(step)?;
            let scalars = terms.iter().map(|(name, value)| (tag(name), *value));
            let rates =
                [("optimizer/learning_rate".into(), rate), ("optimizer/steps_per_second".into(), steps_per_second)];
            board.train.scalars(step, scalars.chain(rates))?;
            tell(Report::Training { step, epoch: session.about.position.epoch, terms: &terms, steps_per_second });
        }
        if step.is_multiple_of(limits.eval_every) || step == limits.steps {
            session.about.record(task.evaluate(&session.model().valid()));
            if let Some((name, value)) = session.about.test.iter().find(|(_, value)| !value.is_finite()) {
                return Err(diverged(step, &format!("test {name} is {value}")));
            }
            let scalars = session.about.test.iter().map(|(name, value)| (tag(name), *value));
            board.test.scalars(step, scalars)?;
            tell(Report::Test { step, terms: &session.about.test });
            means.restart_clock();
        }
        if step.is_multiple_of(limits.save_every) || step == limits.steps {
            save(session, run, limits.keep, tell)?;
            saved = step;
            means.restart_clock();
        }
    }
    if saved < session.about.step {
        means.take(session.about.step)?; // a loss that is not finite must not be saved over a good checkpoint
        save(session, run, limits.keep, tell)?;
    }
    Ok(if session.about.step < limits.steps { Outcome::Interrupted } else { Outcome::Finished })
}

fn save<M: Module>(session: &Session<M>, run: &RunDir, keep: usize, tell: &mut dyn FnMut(Report)) -> Result<()> {
    let (model, optimizer) = (parameters(session.model()), session.adam.state());
    let step = session.about.step;
    if let Some(name) = not_finite(&model).or_else(|| not_finite(&optimizer)) {
        return Err(diverged(step, &format!("{name} holds values that are not finite")));
    }
    let path = run.save(&session.about, &model, &optimizer, keep)?;
    tell(Report::Saved { step, path });
    Ok(())
}

fn not_finite(tensors: &NamedTensors) -> Option<&String> {
    tensors.0.iter().find(|(_, (_, values))| values.iter().any(|value| !value.is_finite())).map(|(name, _)| name)
}

fn diverged(step: u64, what: &str) -> Error {
    Error::Diverged(format!(
        "training diverged by step {step}: {what}; the last checkpoint is untouched. A lower --learning-rate in a new LOGDIR helps"
    ))
}

/// TensorBoard groups scalars by the part before the slash.
fn tag(name: &str) -> String {
    if name == GRADIENT_NORM { format!("optimizer/{name}") } else { format!("loss/{name}") }
}

/// Reported beside the task's own terms.
const GRADIENT_NORM: &str = "gradient_norm";

struct Boards {
    train: EventWriter,
    test: EventWriter,
}

/// Sums of the reported terms since the last report, on the device: nothing is read back in between.
struct Means {
    names: Vec<&'static str>,
    sums: Vec<Tensor<1>>,
    count: u32,
    since: Instant,
    timed: u32,
}

impl Means {
    fn new() -> Self {
        Self { names: Vec::new(), sums: Vec::new(), count: 0, since: Instant::now(), timed: 0 }
    }

    fn add(&mut self, terms: Vec<Term>, norm: Tensor<1>) {
        let terms = terms.into_iter().chain([(GRADIENT_NORM, norm)]);
        if self.count == 0 {
            (self.names, self.sums) = terms.unzip();
        } else {
            let sums = std::mem::take(&mut self.sums).into_iter().zip(terms);
            self.sums = sums.map(|(sum, (_, term))| sum + term).collect();
        }
        self.count += 1;
        self.timed += 1;
    }

    /// The means and the rate since the last call, or an error if one is not finite.
    fn take(&mut self, step: u64) -> Result<(BTreeMap<String, f64>, f64)> {
        let count = f64::from(self.count);
        let mut means = BTreeMap::new();
        for (name, sum) in self.names.drain(..).zip(self.sums.drain(..)) {
            let mean = f64::from(sum.into_scalar::<f32>()) / count;
            if !mean.is_finite() {
                return Err(diverged(step, &format!("{name} is {mean}")));
            }
            means.insert(name.to_string(), mean);
        }
        let rate = f64::from(self.timed) / self.since.elapsed().as_secs_f64();
        self.count = 0;
        self.restart_clock();
        Ok((means, rate))
    }

    /// Time spent evaluating and saving is not the steps' time.
    fn restart_clock(&mut self) {
        (self.since, self.timed) = (Instant::now(), 0);
    }
}
