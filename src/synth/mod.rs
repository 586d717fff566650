//! From a spectrogram to codes, from codes to a spectrogram, from a spectrogram to sound.
//!
//! [`plan()`] says which input becomes which output, [`read_features`] takes audio or a feature file, [`VaeCodec`] encodes
//! and decodes with a trained VAE, [`Codes`] is what lies between: drawn ([`PriorConfig`]), changed ([`Edit`]) or between
//! those of two sounds ([`interpolate`], [`morph`]), or moved by what latents mean ([`Meanings`], [`steer()`], [`pursue()`])
//! or by what sets sounds apart ([`mean_code`]). [`Vocoder`] turns log-mels into sound with a trained inverter or without one,
//! [`render`] writes that sound.

mod attribute;
mod blend;
mod codec;
mod codes;
mod describe;
mod edit;
mod input;
mod mix;
mod named;
mod plan;
mod predict;
mod prior;
mod pursue;
mod render;
mod steer;
mod vocoder;

pub use attribute::mean_code;
pub use blend::band_correlation;
pub use codec::VaeCodec;
pub use codes::{Codes, CodesMeta};
pub use describe::describe;
pub use edit::{Change, Edit};
pub use input::{Source, Stream, own_config, read_features, stream_features};
pub use mix::{Method, interpolate, morph};
pub use named::{EVIDENT, Meanings, Name, Quality, Slope};
pub use plan::{Item, Outputs, Plan, Shape, plan, plan_together, require_ending};
pub use predict::Predictor;
pub use prior::PriorConfig;
pub use pursue::{Changes, FURTHEST, Reached, pursue};
pub use render::{draw_beside, render};
pub use steer::{Steering, steer};
pub use vocoder::{Vocoder, VocoderConfig};
