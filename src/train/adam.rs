//! Adam with gradient clipping; its state goes by parameter names.

use std::collections::BTreeMap;
use std::path::Path;

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{Device, Gradients, Tensor, TensorData};

use crate::run::{AdamConfig, Clipping, ModulePath, NamedTensors};
use crate::{Error, Result, kernels};

/// Adam (Kingma & Ba 2015, algorithm 1).
pub struct Adam {
    config: AdamConfig,
    moments: BTreeMap<String, Moments>,
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
        let norm = found.values().map(squared_norm).reduce(|sum, square| sum + square);
        Self { found, norm: norm.expect("a model has parameters").sqrt() }
    }
}

/// Running means of a parameter's gradient and of its square, flattened.
struct Moments {
    first: Tensor<1>,
    second: Tensor<1>,
}

impl Adam {
    /// With all moments zero.
    pub fn new(config: AdamConfig) -> Self {
        Self { config, moments: BTreeMap::new() }
    }

    /// Continues with saved moments of the parameters that have been `trained`: their names and shapes.
    ///
    /// # Errors
    /// [`Error::File`] about `path` naming each moment that is missing, superfluous, of another size or impossible.
    pub fn restore(
        config: AdamConfig,
        trained: &BTreeMap<String, Vec<usize>>,
        saved: &NamedTensors,
        device: &Device,
        path: &Path,
    ) -> Result<Self> {
        let parts = |(name, shape): (&String, &Vec<usize>)| {
            let flat: Vec<usize> = vec![shape.iter().product()];
            ["first", "second"].map(|part| (format!("{name}.{part}"), flat.clone()))
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
        let tensor = |name: String| {
            let (shape, values) = &saved.0[&name];
            Tensor::from_data(TensorData::new(values.clone(), [shape[0]]), device)
        };
        let of = |name: &String| Moments {
            first: tensor(format!("{name}.first")),
            second: tensor(format!("{name}.second")),
        };
        Ok(Self { config, moments: trained.keys().map(|name| (name.clone(), of(name))).collect() })
    }

    /// The moments, named after their parameters.
    pub fn state(&self) -> NamedTensors {
        let mut state = NamedTensors::default();
        for (name, moments) in &self.moments {
            for (part, tensor) in [("first", &moments.first), ("second", &moments.second)] {
                let values = crate::run::values(tensor.clone());
                state.0.insert(format!("{name}.{part}"), (vec![values.len()], values));
            }
        }
        state
    }

    /// Takes step `step`, counted from 0.
    pub fn step<M: Module>(&mut self, model: M, gradients: ByName, rate: f64, step: u64) -> M {
        let clip = match self.config.clipping {
            Clipping::GlobalNorm(bound) => Some(factor(gradients.norm, bound)),
            Clipping::None | Clipping::TensorNorm(_) => None,
        };
        let gradients = gradients.found;
        model.map(&mut Update { adam: self, path: ModulePath::default(), gradients, clip, rate, step })
    }

    /// A parameter's moments, zero before its first step.
    fn take(&mut self, name: &str, gradient: &Tensor<1>) -> Moments {
        let new = || Moments { first: gradient.zeros_like(), second: gradient.zeros_like() };
        self.moments.remove(name).unwrap_or_else(new)
    }
}

fn squared_norm(gradient: &Tensor<1>) -> Tensor<1> {
    if kernels::serve(&gradient.device()) {
        return Tensor::from_floats([kernels::squared_norm(gradient) as f32], &gradient.device());
    }
    gradient.clone().square().sum()
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

struct Update<'a> {
    adam: &'a mut Adam,
    path: ModulePath,
    gradients: BTreeMap<String, Tensor<1>>,
    clip: Option<Tensor<1>>,
    rate: f64,
    step: u64,
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
        let AdamConfig { beta1, beta2, epsilon, clipping } = self.adam.config;
        let clip = match clipping {
            Clipping::None => None,
            Clipping::GlobalNorm(_) => self.clip.clone(),
            Clipping::TensorNorm(bound) => Some(factor(squared_norm(&gradient).sqrt(), bound)),
        };
        let count = (self.step + 1) as i32;
        let (unbias1, unbias2) = (1.0 - beta1.powi(count), 1.0 - beta2.powi(count));
        if kernels::serve(&gradient.device()) {
            let clip = clip.map_or(1.0, |factor| factor.into_scalar::<f32>());
            let [beta1, beta2, epsilon, rate, unbias] =
                [beta1, beta2, epsilon, self.rate / unbias1, unbias2].map(|number| number as f32);
            let step = kernels::AdamStep { beta1, beta2, epsilon, rate, unbias, clip };
            let Moments { first, second } = self.adam.take(&name, &gradient);
            return param.map(|weight| {
                let (weight, [first, second]) = kernels::adam_step(weight.inner(), gradient, [first, second], step);
                self.adam.moments.insert(name, Moments { first, second });
                Tensor::from_inner(weight).require_grad()
            });
        }
        let gradient = match clip {
            Some(factor) => gradient * factor,
            None => gradient,
        };
        let Moments { first, second } = self.adam.take(&name, &gradient);
        let first = first.mul_scalar(beta1) + gradient.clone().mul_scalar(1.0 - beta1);
        let second = second.mul_scalar(beta2) + gradient.square().mul_scalar(1.0 - beta2);
        let change = first.clone() / second.clone().div_scalar(unbias2).sqrt().add_scalar(epsilon);
        let change = change.mul_scalar(self.rate / unbias1);
        self.adam.moments.insert(name, Moments { first, second });
        param.map(|weight| {
            let weight = weight.inner();
            let shape = weight.dims();
            Tensor::from_inner(weight - change.reshape(shape)).require_grad()
        })
    }
}
