//! Training: a [`Task`] says what a step computes, [`fit`] is the loop around it.

mod adam;
mod inverter;
mod task;
mod trainer;
mod vae;

pub use adam::Adam;
pub use inverter::InverterTask;
pub use task::{Task, Term, Terms};
pub use trainer::{Limits, Outcome, Report, Session, fit};
pub use vae::VaeTask;
