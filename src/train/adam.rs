//! Adam with gradient clipping, and the running mean of what it makes; its state goes by parameter names.

use std::collections::BTreeMap;
use std::path::Path;

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{Device, Gradients, Tensor, TensorData};

use super::buffers;
use crate::kernels::{self, AdamState, AdamStep, Stepped};
use crate::run::{AdamConfig, Clipping, ModulePath, NamedTensors, parameters, values};
use crate::{Error, Result};

/// Adam (Kingma & Ba 2015, algorithm 1) with decoupled weight decay (Loshchilov & Hutter 2019, algorithm 2), and if it is asked for
/// an exponential moving average of the trained parameters.
///
/// Buffers, such as a norm's running statistics, are no part of the average: they are running means already.
pub struct Adam {
    config: AdamConfig,
    states: BTreeMap<String, AdamState>,
}

/// The gradients of a model's trained parameters by the parameters' names, flattened.
pub struct ByName {
    found: BTreeMap<String, Tensor<1>>,
    /// Of all of them together, before clipping; `[1]`.
    pub norm: Tensor<1>,
}

impl ByName {
    /// Sorts what the backward pass gave.
    pub fn of<M: Module>(model: &M, mut gradients: Gradients) -> Self {
        let mut collect = Collect { path: ModulePath::default(), gradients: &mut gradients, found: BTreeMap::new() };
        model.visit(&mut collect);
        let found = collect.found;
        drop(gradients); // the tape's hold on the parameters ends here, so that they can be updated in place
        let device = model.devices().remove(0).inner();
        let norm = match kernels::on_gpu(&device) {
            true => kernels::squared_norm_of_all(found.values()),
            false => {
                let norm = found.values().map(squared_norm).reduce(|sum, square| sum + square);
                norm.expect("a model has parameters")
            }
        };
        Self { found, norm: norm.sqrt() }
    }
}

impl Adam {
    /// With all moments zero.
    pub fn new(config: AdamConfig) -> Self {
        Self { config, states: BTreeMap::new() }
    }

    /// Continues with the saved state of the parameters that have been `trained`: their names and shapes. Where there is an
    /// average, it is what the saved `model` holds, and is replaced there by the parameters that training goes on from.
    ///
    /// # Errors
    /// [`Error::File`] about `path` naming each tensor that is missing, superfluous, of another size or impossible.
    pub fn restore(
        config: AdamConfig,
        trained: &BTreeMap<String, Vec<usize>>,
        saved: &NamedTensors,
        model: &mut NamedTensors,
        device: &Device,
        path: &Path,
    ) -> Result<Self> {
        let averages = config.ema > 0.0;
        let parts = |(name, shape): (&String, &Vec<usize>)| {
            let flat: Vec<usize> = vec![shape.iter().product()];
            let parts = ["first", "second", RAW].into_iter().take(if averages { 3 } else { 2 });
            parts.map(|part| (format!("{name}.{part}"), flat.clone())).collect::<Vec<_>>()
        };
        let mut wrong = saved.misfits(&trained.iter().flat_map(parts).collect());
        let negative = |(name, (_, values)): &(&String, &(Vec<usize>, Vec<f32>))| {
            name.ends_with(".second") && values.iter().any(|value| *value < 0.0)
        };
        wrong.extend(saved.0.iter().filter(negative).map(|(name, _)| format!("{name} holds squares below zero")));
        if !wrong.is_empty() {
            let message =
                "does not belong to this model; without its folder the run goes on from an earlier checkpoint";
            return Err(Error::file(path, format!("{message}: {}", wrong.join("; "))));
        }
        let flat = |values: Vec<f32>| {
            let count = values.len();
            Tensor::from_data(TensorData::new(values, [count]), device)
        };
        let part = |name: &String, part: &str| saved.0[&format!("{name}.{part}")].1.clone();
        let mut of = |name: &String| {
            let (_, values) = model.0.get_mut(name).expect("the model has every trained parameter");
            let average = averages.then(|| flat(std::mem::replace(values, part(name, RAW))));
            AdamState { first: flat(part(name, "first")), second: flat(part(name, "second")), average }
        };
        let states = trained.keys().map(|name| (name.clone(), of(name))).collect();
        Ok(Self { config, states })
    }

    /// What [`restore`](Self::restore) needs: the model to use, which has the average for parameters if there is one, and the
    /// rest, named after the parameters.
    pub fn state<M: Module>(&self, model: &M) -> (NamedTensors, NamedTensors) {
        let (mut model, mut rest) = (parameters(model), NamedTensors::default());
        for (name, state) in &self.states {
            let mut add = |part: &str, values: Vec<f32>| {
                rest.0.insert(format!("{name}.{part}"), (vec![values.len()], values));
            };
            add("first", values(state.first.clone()));
            add("second", values(state.second.clone()));
            if let Some(average) = &state.average {
                let (_, parameter) = model.0.get_mut(name).expect("the states are this model's");
                add(RAW, std::mem::replace(parameter, values(average.clone())));
            }
        }
        (model, rest)
    }

    /// The model to use, without autodiff: with the average for parameters if there is one.
    pub fn averaged<M: Module>(&self, model: &M) -> M {
        model.valid().map(&mut Averaged { adam: self, path: ModulePath::default() })
    }

    /// Takes step `step`, counted from 0.
    pub fn step<M: Module>(&mut self, model: M, gradients: ByName, rate: f64, step: u64) -> M {
        let numbers = self.numbers(rate, step);
        self.update(model, gradients, &numbers)
    }

    /// What step `step`, counted from 0, does with gradients.
    pub(super) fn numbers(&self, rate: f64, step: u64) -> Numbers {
        let AdamConfig { beta1, beta2, epsilon, weight_decay, .. } = self.config;
        let count = (step + 1) as i32;
        let (unbias1, unbias2) = (1.0 - beta1.powi(count), 1.0 - beta2.powi(count));
        let (keep, share) = (1.0 - rate * weight_decay, self.config.share(step + 1));
        let step = AdamStep {
            beta1: beta1 as f32,
            beta2: beta2 as f32,
            fresh1: (1.0 - beta1) as f32,
            fresh2: (1.0 - beta2) as f32,
            epsilon: epsilon as f32,
            rate: (rate / unbias1) as f32,
            unbias: unbias2 as f32,
            clip: 1.0,
            keep: keep as f32,
            share: share as f32,
        };
        Numbers { step, on_device: None }
    }

    /// Takes the step of these numbers.
    pub(super) fn update<M: Module>(&mut self, model: M, gradients: ByName, numbers: &Numbers) -> M {
        if kernels::on_gpu(&gradients.norm.device()) {
            return self.update_in_place(model, gradients, numbers);
        }
        let clip = match self.config.clipping {
            Clipping::GlobalNorm(bound) => Some(factor(gradients.norm, bound)),
            Clipping::None | Clipping::TensorNorm(_) => None,
        };
        let gradients = gradients.found;
        model.map(&mut Update { adam: self, path: ModulePath::default(), gradients, clip, step: numbers.step })
    }

    /// The same for all parameters at once, in the memory where they are.
    fn update_in_place<M: Module>(&mut self, model: M, gradients: ByName, numbers: &Numbers) -> M {
        let ByName { found: gradients, norm } = gradients;
        let device = norm.device();
        let mut gather = Gather { adam: self, path: ModulePath::default(), gradients, names: vec![], stepped: vec![] };
        model.visit(&mut gather);
        let Gather { names, stepped, .. } = gather;
        let clips = match self.config.clipping {
            Clipping::None => vec![],
            Clipping::GlobalNorm(bound) => vec![factor(norm, bound)],
            Clipping::TensorNorm(bound) => {
                stepped.iter().map(|each| factor(squared_norm(&each.gradient).sqrt(), bound)).collect()
            }
        };
        let mut parameters = BTreeMap::new();
        for (name, (parameter, state)) in
            names.into_iter().zip(kernels::adam_in_place(stepped, clips, numbers.on(&device)))
        {
            parameters.insert(name.clone(), parameter);
            self.states.insert(name, state);
        }
        buffers::put(model, parameters)
    }

    /// A parameter's state; before its first step the moments are zero, and the average is where it stands.
    fn take<const D: usize>(&mut self, name: &str, parameter: &Tensor<D>) -> AdamState {
        self.states.remove(name).unwrap_or_else(|| {
            let flat = parameter.clone().reshape([parameter.shape().num_elements()]);
            let zeros = || flat.zeros_like();
            // The sum has memory of its own: the parameter will change in its.
            AdamState {
                first: zeros(),
                second: zeros(),
                average: (self.config.ema > 0.0).then(|| flat.clone() + zeros()),
            }
        })
    }
}

/// The numbers of one step, in whichever memory the update reads them.
pub(super) struct Numbers {
    step: AdamStep,
    /// [`AdamStep::values`] on the device of the parameters; without it they are brought there anew.
    pub on_device: Option<Tensor<1>>,
}

impl Numbers {
    /// Them on a device, `[numbers]`.
    pub fn on(&self, device: &Device) -> Tensor<1> {
        self.on_device.clone().unwrap_or_else(|| Tensor::from_floats(self.step.values(), device))
    }
}

/// What a parameter is called among the optimizer's tensors where the model's file has its average.
const RAW: &str = "raw";

fn squared_norm(gradient: &Tensor<1>) -> Tensor<1> {
    if kernels::serve(&gradient.device()) {
        return Tensor::from_floats([kernels::squared_norm(gradient) as f32], &gradient.device());
    }
    gradient.clone().square().sum()
}

/// Whether weight decay is for a parameter of this name: neither a bias nor of a norm.
fn is_weight(name: &str) -> bool {
    // A list's members are numbered: `bank.weights.0`.
    name.rsplit('.').find(|part| part.parse::<usize>().is_err()).is_some_and(|part| part.starts_with("weight"))
}

/// What shrinks a gradient of this norm to `bound`: 1 if it is shorter.
fn factor(norm: Tensor<1>, bound: f64) -> Tensor<1> {
    norm.add_scalar(1e-6).recip().mul_scalar(bound).clamp_max(1.0)
}

/// Takes each trained parameter's gradient, flattened.
struct Collect<'a> {
    path: ModulePath,
    gradients: &'a mut Gradients,
    found: BTreeMap<String, Tensor<1>>,
}

impl ModuleVisitor for Collect<'_> {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.enter(name, container);
    }

    fn exit_module(&mut self, _: &str, container: &str) {
        self.path.exit(container);
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if let Some(gradient) = param.val().grad_remove(self.gradients) {
            let count = gradient.shape().num_elements();
            self.found.insert(self.path.name(), gradient.reshape([count]));
        }
    }
}

/// Puts averages in the place of parameters.
struct Averaged<'a> {
    adam: &'a Adam,
    path: ModulePath,
}

impl ModuleMapper for Averaged<'_> {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.enter(name, container);
    }

    fn exit_module(&mut self, _: &str, container: &str) {
        self.path.exit(container);
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        match self.adam.states.get(&self.path.name()).and_then(|state| state.average.clone()) {
            Some(average) => param.map(|parameter| average.reshape(parameter.dims())),
            None => param,
        }
    }
}

/// Gathers what a step is given that all parameters take at once.
struct Gather<'a> {
    adam: &'a mut Adam,
    path: ModulePath,
    gradients: BTreeMap<String, Tensor<1>>,
    names: Vec<String>,
    stepped: Vec<Stepped>,
}

impl ModuleVisitor for Gather<'_> {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.enter(name, container);
    }

    fn exit_module(&mut self, _: &str, container: &str) {
        self.path.exit(container);
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let name = self.path.name();
        let Some(gradient) = self.gradients.remove(&name) else { return };
        let parameter = param.val().inner();
        let (state, decays) = (self.adam.take(&name, &parameter), is_weight(&name));
        self.stepped.push(Stepped { parameter: parameter.into_dispatch(), gradient, state, decays });
        self.names.push(name);
    }
}

struct Update<'a> {
    adam: &'a mut Adam,
    path: ModulePath,
    gradients: BTreeMap<String, Tensor<1>>,
    clip: Option<Tensor<1>>,
    step: AdamStep,
}

impl Update<'_> {
    /// With Burn's own operations.
    fn plainly<const D: usize>(
        parameter: Tensor<D>,
        gradient: Tensor<1>,
        state: AdamState,
        step: &AdamStep,
    ) -> (Tensor<D>, AdamState) {
        let (shape, count) = (parameter.dims(), parameter.shape().num_elements());
        let AdamStep { beta1, beta2, fresh1, fresh2, epsilon, rate, unbias, keep, share, .. } = *step;
        let AdamState { first, second, average } = state;
        let first = first.mul_scalar(beta1) + gradient.clone().mul_scalar(fresh1);
        let second = second.mul_scalar(beta2) + gradient.square().mul_scalar(fresh2);
        let change = first.clone() / second.clone().div_scalar(unbias).sqrt().add_scalar(epsilon);
        let parameter = parameter.reshape([count]).mul_scalar(keep) - change.mul_scalar(rate);
        let average = average.map(|average| average.clone() + (parameter.clone() - average).mul_scalar(share));
        (parameter.reshape(shape), AdamState { first, second, average })
    }
}

impl ModuleMapper for Update<'_> {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.enter(name, container);
    }

    fn exit_module(&mut self, _: &str, container: &str) {
        self.path.exit(container);
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let name = self.path.name();
        let Some(gradient) = self.gradients.remove(&name) else { return param };
        let clip = match self.adam.config.clipping {
            Clipping::None | Clipping::GlobalNorm(_) => self.clip.clone(),
            Clipping::TensorNorm(bound) => Some(factor(squared_norm(&gradient).sqrt(), bound)),
        };
        let (device, decays) = (gradient.device(), is_weight(&name));
        let step = AdamStep { keep: if decays { self.step.keep } else { 1.0 }, ..self.step };
        param.map(|parameter| {
            let parameter = parameter.inner();
            let state = self.adam.take(&name, &parameter);
            let (parameter, state) = if kernels::serve(&device) {
                let clip = clip.map_or(1.0, |factor| factor.into_scalar::<f32>());
                kernels::adam_step(parameter, gradient, state, AdamStep { clip, ..step })
            } else {
                let gradient = clip.map_or(gradient.clone(), |factor| gradient * factor);
                Self::plainly(parameter, gradient, state, &step)
            };
            self.adam.states.insert(name, state);
            Tensor::from_inner(parameter).require_grad()
        })
    }
}
