//! Integration tests: one binary, a module a subject.

mod abuse;
mod audio;
mod checkpoints;
mod corpus;
mod disk;
mod env;
mod events;
mod extract;
mod faults;
mod features;
mod kernels;
mod latents;
mod lstm;
mod metrics;
mod models;
mod mutants;
mod optimizer;
mod outputs;
mod phase;
mod pipeline;
mod settings;
mod streaming;
mod tampering;
mod torch;
mod training;
mod unattended;
