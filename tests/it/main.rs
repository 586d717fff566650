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
mod latents;
mod lstm;
mod models;
mod outputs;
mod phase;
mod pipeline;
mod streaming;
mod tampering;
mod training;
mod unattended;
