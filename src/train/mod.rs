//! Training: a [`Task`] says what a step computes, [`fit`] is the loop around it.

mod adam;
mod buffers;
mod inverter;
mod journal;
mod means;
mod replay;
mod rival;
mod session;
mod task;
mod trainer;
mod vae;

pub use adam::{Adam, ByName};
pub use inverter::{InverterTask, bin_weights};
pub use means::Shown;
pub use rival::Rival;
pub use session::Session;
pub use task::{Evaluation, Pictures, Task, Term, Terms};
pub use trainer::{Limits, Outcome, Report, SKIPS_IN_A_ROW, fit};
pub use vae::VaeTask;
