//! A step that is recorded once on a GPU and replayed from then on: one launch in place of hundreds.
//!
//! What is recorded are kernels and the memory that they work on, no values: all that a step changes must lie where it lay, all that
//! differs from step to step is brought into the same memory before each. `kernels::assign` and `kernels::adam_in_place` see to
//! that. Devices record through CUDA graphs; wgpu keeps a list.

use burn::backend::{Backend, BackendTypes, Dispatch};
use burn::tensor::{Device, Tensor};

use super::adam::Numbers;
use super::means::Shown;
use crate::data::{Batch, Drawn, Form};
use crate::kernels;
use crate::{Error, Result};

/// Steps in which kernels are found, compiled and fused, before anything is prepared.
const FIRST: u32 = 3;

/// Steps that then show the allocator how much it needs: a recording must find all its memory there.
const PREPARED: u32 = 3;

/// The most recordings that are tried.
const TRIES: u32 = 3;

/// How far a session is with its recording.
#[allow(clippy::large_enum_variant)] // there is one in a process
pub(super) enum Replay {
    /// Every kernel is launched by itself.
    Never,
    /// So many steps of this form have been, and so many tries to record one. The batch that it will be recorded with is held from the
    /// first prepared step on, so that there is memory for it beside the step's own.
    Waiting { form: Form, steps: u32, tries: u32, place: Option<Batch> },
    /// It is there.
    Ready(Recorded),
}

/// What a step is to do.
pub(super) enum Way {
    Launch,
    /// In this form.
    Record(Form),
    Replay,
}

/// A recorded step and the memory that it works on, beside model and optimizer.
pub(super) struct Recorded {
    form: Form,
    batch: Batch,
    numbers: Vec<Tensor<1>>,
    shown: Shown,
    graph: <Dispatch as BackendTypes>::GraphPrimitive,
    device: Device,
}

impl Replay {
    /// Before the first step.
    pub fn new() -> Self {
        Self::Waiting { form: Form::default(), steps: 0, tries: 0, place: None }
    }

    /// After a recording that failed: another is tried, as what was compiled for the first is there now, but not for ever.
    pub fn failed(&mut self) {
        *self = match self {
            Self::Waiting { form, tries, .. } if *tries + 1 < TRIES => {
                Self::Waiting { form: form.clone(), steps: FIRST, tries: *tries + 1, place: None }
            }
            _ => Self::Never,
        };
    }

    /// Before a step of this form is launched.
    pub fn hold(&mut self, next: &Form, batch: &Batch) {
        if let Self::Waiting { form, steps, place: place @ None, .. } = self
            && *steps > FIRST
            && form == next
        {
            // Another batch than any that is drawn, so that those show whether they reach the recording.
            *place = Some(batch.clone().map(|array| kernels::settle(array.mul_scalar(0.5))));
        }
    }

    /// What was held.
    pub fn place(&mut self) -> Option<Batch> {
        match self {
            Self::Waiting { place, .. } => place.take(),
            _ => None,
        }
    }

    /// What the next step is to do, which has this form.
    pub fn way(&mut self, next: Form, device: &Device) -> Way {
        if !kernels::on_gpu(device) {
            return Way::Launch;
        }
        match self {
            Self::Ready(recorded) if recorded.form == next => Way::Replay,
            Self::Waiting { form, steps, place, .. } => {
                if *form != next && *steps <= FIRST {
                    (*form, *steps, *place) = (next.clone(), 0, None);
                }
                *steps += u32::from(*form == next);
                if *steps == FIRST + 1 && *form == next && Dispatch::graph_prepare(device.as_dispatch()).is_err() {
                    *steps = FIRST; // tried again
                }
                if *steps > FIRST + PREPARED && *form == next { Way::Record(next) } else { Way::Launch }
            }
            _ => Way::Launch,
        }
    }
}

/// Records what `step` launches, in a place of which `batch`, each optimizer's `numbers` and all that it changes stay. Nothing of it is computed.
///
/// # Errors
/// If the device cannot; then what `step` was to change is lost.
pub(super) fn record(
    device: &Device,
    form: Form,
    batch: Batch,
    numbers: Vec<Tensor<1>>,
    step: impl FnOnce(&Batch) -> Shown,
) -> Result<Recorded> {
    let dispatch = device.as_dispatch();
    // What the allocator has put off to free it frees when it is next flushed, which CUDA does not do amid a recording.
    kernels::flush(device);
    Dispatch::graph_start_capture(dispatch).map_err(refused)?;
    let shown = step(&batch);
    let graph = Dispatch::graph_stop_capture(dispatch).map_err(refused)?;
    Ok(Recorded { form, batch, numbers, shown, graph, device: device.clone() })
}

impl Recorded {
    /// Takes the step with another batch and other numbers. What is shown is in the same memory each time.
    ///
    /// # Errors
    /// If the device fails.
    pub fn replay(&mut self, drawn: Drawn, numbers: &[Numbers]) -> Result<Shown> {
        let numbers = numbers.iter().map(|numbers| numbers.on(&self.device)).collect();
        self.on(drawn.on(&self.device), numbers)
    }

    /// Takes the step with another batch and these numbers, or those that are there.
    ///
    /// # Errors
    /// If the device fails.
    pub fn on(&mut self, mut batch: Batch, numbers: Vec<Tensor<1>>) -> Result<Shown> {
        let places = self.batch.each_mut().map(|array| array.clone().into_dispatch());
        let places =
            places.chain(self.numbers.iter().take(numbers.len()).map(|numbers| numbers.clone().into_dispatch()));
        let values = batch.each_mut().map(|array| array.clone().into_dispatch());
        let values = values.chain(numbers.into_iter().map(Tensor::into_dispatch));
        let mut put = kernels::assign(places.collect(), values.collect()).into_iter();
        self.batch.each_mut().zip(&mut put).for_each(|(array, put)| *array = Tensor::from_dispatch(put));
        self.numbers.iter_mut().zip(put).for_each(|(numbers, put)| *numbers = Tensor::from_dispatch(put));
        // SAFETY: the graph reads and writes `batch`, `numbers` and `shown`, which are held here, parameters, moments, averages and
        // running statistics, which the session that holds `self` keeps in their memory, and what was allocated while recording, which
        // the graph itself holds. All is used from this thread and through the one stream of the device.
        unsafe { Dispatch::graph_replay(self.device.as_dispatch(), &self.graph) }.map_err(refused)?;
        Ok(self.shown.clone())
    }
}

/// What a backend says in lines with causes below each other, in one.
fn refused(why: impl std::fmt::Display) -> Error {
    let why = why.to_string();
    let lines = why.lines().map(str::trim).take_while(|line| !line.starts_with("Backtrace"));
    let mut said: Vec<&str> = lines.filter(|line| !line.is_empty() && *line != "Caused by:").collect();
    said.dedup();
    Error::Device(said.join(": "))
}
