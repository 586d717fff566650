//! What trains beside a VAE and against it: FactorVAE's discriminator.

use std::collections::BTreeMap;
use std::path::Path;

use burn::module::Module;
use burn::tensor::{Device, Tensor};

use super::adam::{Adam, ByName, Numbers};
use crate::Result;
use crate::models::Discriminator;
use crate::run::{AdamConfig, NamedTensors, Objective, RunConfig, load_parameters, trained_shapes};

/// Before the names of its tensors in `optimizer.safetensors`.
const PREFIX: &str = "discriminator.";

/// A discriminator and its own Adam, of decays 0.5 and 0.9 (Kim & Mnih 2018, appendix A), at a rate that no schedule changes.
pub struct Rival {
    /// Absent only during an update.
    model: Option<Discriminator>,
    adam: Adam,
    rate: f64,
}

impl Rival {
    /// That of a run of this configuration which has not trained yet, if its objective has one; `device` with autodiff.
    pub fn of(config: &RunConfig, device: &Device) -> Option<Self> {
        let Objective::BetaVae(objective) = &config.objective else { return None };
        let (factor, vae) = objective.factor().zip(config.model.vae())?;
        let model = factor.discriminator.init(vae.latents(), config.seed, device);
        Some(Self { model: Some(model), adam: Adam::new(adam()), rate: factor.learning_rate })
    }

    /// As it was saved among the tensors beside the model's, from which it is taken; `trained` says whether it ever took a step.
    ///
    /// # Errors
    /// [`crate::Error::File`] about `path` naming each tensor that is missing, superfluous or of another shape.
    pub(super) fn restore(self, saved: &mut NamedTensors, trained: bool, path: &Path) -> Result<Self> {
        let model = self.model.expect("only an update takes it");
        let (mut parameters, mut moments) = (NamedTensors::default(), NamedTensors::default());
        let shapes = trained_shapes(&model);
        for (name, tensor) in std::mem::take(&mut saved.0) {
            match name.strip_prefix(PREFIX) {
                Some(name) if shapes.contains_key(name) => parameters.0.insert(name.to_string(), tensor),
                Some(name) => moments.0.insert(name.to_string(), tensor),
                None => saved.0.insert(name, tensor),
            };
        }
        let moved = if trained { shapes } else { BTreeMap::new() };
        let device = model.devices().remove(0).inner();
        let model = load_parameters(model, &parameters, path)?;
        let adam = Adam::restore(adam(), &moved, &moments, &mut parameters, &device, path)?;
        Ok(Self { model: Some(model), adam, ..self })
    }

    /// The discriminator, which takes part in autodiff.
    pub fn model(&self) -> &Discriminator {
        self.model.as_ref().expect("only an update takes it")
    }

    /// What [`restore`](Self::restore) needs, added to the rest beside the model's parameters.
    pub(super) fn add_to(&self, rest: &mut NamedTensors) {
        let (parameters, moments) = self.adam.state(self.model());
        let all = parameters.0.into_iter().chain(moments.0);
        rest.0.extend(all.map(|(name, tensor)| (format!("{PREFIX}{name}"), tensor)));
    }

    /// The gradients of its loss.
    pub(super) fn gradients(&self, loss: Tensor<1>) -> ByName {
        ByName::of(self.model(), loss.backward())
    }

    /// What step `step`, counted from 0, does with gradients, at `share` of its rate.
    pub(super) fn numbers(&self, share: f64, step: u64) -> Numbers {
        self.adam.numbers(share * self.rate, step)
    }

    /// Takes the step of these numbers.
    pub(super) fn update(&mut self, gradients: ByName, numbers: &Numbers) {
        let model = self.model.take().expect("only an update takes it");
        self.model = Some(self.adam.update(model, gradients, numbers));
    }
}

/// How it is minimised.
fn adam() -> AdamConfig {
    AdamConfig { beta1: 0.5, beta2: 0.9, ..AdamConfig::default() }
}
