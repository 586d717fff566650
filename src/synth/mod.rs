//! From a spectrogram to codes, from codes to a spectrogram, from a spectrogram to sound.
//!
//! [`read_features`] takes audio or a feature file, [`VaeCodec`] encodes and decodes with a trained VAE, [`Codes`] is what lies
//! between, [`Vocoder`] turns log-mels into sound with a trained inverter or without one.

mod blend;
mod codec;
mod codes;
mod describe;
mod input;
mod vocoder;

pub use blend::{band_correlation, cross_fade};
pub use codec::VaeCodec;
pub use codes::{Codes, CodesMeta};
pub use describe::describe;
pub use input::{find_inputs, read_features, require_ending};
pub use vocoder::{Vocoder, VocoderConfig};
