//! Integration tests: one binary, a module a subject.

mod abuse;
mod audio;
mod checkpoints;
mod control;
mod corpus;
mod disk;
mod env;
mod events;
mod explorer;
mod extract;
mod factors;
mod faults;
mod features;
#[cfg(feature = "cube")]
mod gpu;
mod kernels;
mod latents;
mod long;
mod lstm;
mod measures;
mod metrics;
mod models;
mod mutants;
mod named;
mod objectives;
mod optimizer;
mod outputs;
mod phase;
mod pipeline;
mod report;
mod settings;
mod streaming;
mod tampering;
mod torch;
mod training;
mod unattended;
