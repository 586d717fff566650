//! Speech as something to learn from, and back: features, a disentangled latent space, spectrogram inversion, phase.
//!
//! The pipeline, in the order in which a recording passes through it:
//!
//! 1. [`audio`] reads it: one channel, any rate ([`audio::Waveform`]).
//! 2. [`features`] trims, normalises, emphasises and analyses it ([`features::FeatureExtractor`]) into log-mel and linear
//!    log-power spectra, kept in `.feat.npz` files that numpy reads ([`features::FeatureFile`]). [`dsp`] has the transforms.
//! 3. [`data`] turns a folder of them into batches: blocks for the VAE, mel and linear spectra for the inverter.
//! 4. [`train`] fits a model ([`models::Vae`], [`models::Cbhg`], made of the layers in [`nn`]) and leaves a run on disk
//!    ([`run`]) that TensorBoard ([`board`]) can watch. [`objectives`] are what a VAE's latents may be asked, [`kernels`] are the
//!    layers as the CPU computes them.
//! 5. [`synth`] encodes, edits and decodes with the VAE, turns mel into linear spectra with the inverter, and finds phases.
//! 6. [`metrics`] measures how near a sound is to another and what latents mean, [`report`] shows a run as a page.
//!
//! [`device`] opens the CPU or a GPU, [`random`] draws everything that is drawn, [`corpus`] speaks a corpus of its own,
//! [`picture`] draws spectrograms, [`cli`] is what the binaries share.
//!
//! Arrays are time-major, `[frames, bins]`; tensors `[batch, frames, channels]`; logarithms natural unless decibels are named.
//!
//! ```
//! use vae_workshop::audio::Waveform;
//! use vae_workshop::dsp::phase::Phase;
//! use vae_workshop::features::{FeatureConfig, FeatureExtractor};
//! use vae_workshop::synth::{Vocoder, VocoderConfig};
//!
//! let tone = (0..8000).map(|n| 0.5 * (0.2 * n as f32).sin()).collect();
//! let extractor = FeatureExtractor::new(FeatureConfig::default())?;
//! let features = extractor.extract(&Waveform { samples: tone, sample_rate: 16_000 })?;
//! assert_eq!(features.logmel.ncols(), 80);
//!
//! let config = VocoderConfig { phase: Phase::PghiFast.config(0), emphasis: None, peak: None };
//! let vocoder = Vocoder::without_network(extractor.config(), config)?;
//! let sound = vocoder.sound(features.logmel.view(), features.meta.gain)?;
//! assert_eq!(sound.sample_rate, 16_000);
//! # Ok::<(), vae_workshop::Error>(())
//! ```

pub mod audio;
mod beside;
pub mod board;
pub mod cli;
pub mod corpus;
pub mod data;
pub mod device;
pub mod dsp;
mod error;
pub mod explorer;
pub mod features;
pub mod kernels;
pub mod metrics;
pub mod models;
pub mod nn;
pub mod objectives;
pub mod picture;
pub mod random;
pub mod report;
pub mod run;
mod spool;
pub mod synth;
pub mod train;
mod walk;

pub use error::{Error, Result};
