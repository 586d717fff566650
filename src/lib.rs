pub mod audio;
pub mod board;
pub mod cli;
#[path = "cli/train.rs"]
pub mod cli_train;
pub mod corpus;
pub mod data;
pub mod device;
pub mod dsp;
mod error;
pub mod features;
pub mod models;
pub mod nn;
pub mod picture;
pub mod random;
pub mod run;
pub mod synth;
pub mod train;

pub use error::{Error, Result};
