//! A model in training: its steps, launched or replayed.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use burn::module::Module;
use burn::tensor::{Device, Tensor};

use super::adam::{Adam, ByName, Numbers};
use super::buffers;
use super::means::Shown;
use super::replay::{self, Replay, Way};
use super::rival::Rival;
use super::task::Task;
use crate::data::{Batch, Drawn, Form, Standardizer};
use crate::device::is_cpu;
use crate::kernels::{self, AdamStep};
use crate::models::Discriminator;
use crate::run::{About, Checkpoint, NamedTensors, RunConfig, load_parameters, trained_shapes};
use crate::{Error, Result};

/// A model in training and all that its checkpoint holds.
pub struct Session<M> {
    /// Takes part in autodiff. Absent only during an update, which changes parameters in place where nobody else holds them.
    model: Option<M>,
    adam: Adam,
    /// What is trained beside it, where the objective has such.
    rival: Option<Rival>,
    /// The step of its newest checkpoint.
    pub(super) saved: Option<u64>,
    /// The step as it was recorded, where one is.
    replay: Replay,
    /// What `run.json` will say.
    pub about: About,
}

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

    /// Whether steps are replayed from now on, as one was recorded.
    pub fn replays(&self) -> bool {
        matches!(self.replay, Replay::Ready(_))
    }

    /// The model that is trained, which takes part in autodiff.
    pub fn model(&self) -> &M {
        self.model.as_ref().expect("only an update takes it")
    }

    /// What is trained beside it.
    pub fn rival(&self) -> Option<&Rival> {
        self.rival.as_ref()
    }

    /// The model to use and what is trained beside it, without autodiff.
    pub(super) fn to_evaluate(&self) -> (M, Option<Discriminator>) {
        (self.adam.averaged(self.model()), self.rival.as_ref().map(|rival| rival.model().valid()))
    }

    /// Waits for the device to have done all that it was given.
    ///
    /// # Errors
    /// [`Error::Device`] with what the backend says.
    pub(super) fn wait(&self) -> Result<()> {
        device_of(self.model()).sync().map_err(|error| Error::Device(error.to_string()))
    }

    /// What a checkpoint holds: the model to use, and the rest.
    pub fn state(&self) -> (NamedTensors, NamedTensors) {
        let (model, mut rest) = self.adam.state(self.model());
        self.rival.iter().for_each(|rival| rival.add_to(&mut rest));
        (model, rest)
    }

    /// Goes back to a checkpoint of the same run.
    pub(super) fn go_back(&mut self, checkpoint: Checkpoint) -> Result<()> {
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
