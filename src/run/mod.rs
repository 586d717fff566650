//! What a training run leaves on disk: `LOGDIR/step-N/`, each folder enough to go on from or to synthesise with.

mod checkpoint;
mod config;
mod dir;
mod machine;
mod manifest;
mod measured;
mod tensors;
mod torch;

pub use checkpoint::{About, Best, Checkpoint, Trouble};
pub(crate) use config::leaves;
pub use config::{
    AdamConfig, BatchConfig, BetaVae, Clipping, Decay, InputScale, InverterRecipe, KlForm, ModelConfig, Objective,
    Origin, RunConfig, Schedule,
};
pub use dir::{RunDir, RunLock};
pub use machine::Machine;
pub(crate) use measured::{Measured, keep, kept, wrong};
pub(crate) use tensors::{ModulePath, values};
pub use tensors::{NamedTensors, load_parameters, parameters, trained_shapes};
pub use torch::{METADATA, to_torch};
