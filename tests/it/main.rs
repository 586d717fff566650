//! Integration tests: one binary, a module a subject.

mod audio;
mod checkpoints;
mod corpus;
mod env;
mod events;
mod extract;
mod faults;
mod features;
mod kernels;
mod lstm;
mod metrics;
mod models;
mod outputs;
mod phase;
mod pipeline;
mod tampering;
mod training;
mod unattended;
