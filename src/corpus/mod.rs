//! A small corpus of synthetic speech with its truth: who babbles, at what pitch, with which formants.
//!
//! Source-filter synthesis after Klatt: glottal pulses and noise (`source`) through moving resonances (`filter`),
//! steered by curves (`tracks`) that smooth a score of random words (`score`) in a speaker's voice (`speaker`).
//! [`speak`] makes one utterance in memory, [`generate`] a folder of them. It is material to run the pipeline on; it says
//! nothing, and is no text-to-speech.
//!
//! To measure disentanglement by there are segments of one steady sound each, whose factors are drawn (`design`) rather
//! than spoken: [`generate_factors`] makes a folder of them and one table of the truth.

mod design;
mod factor_folder;
mod filter;
mod folder;
mod phonemes;
mod score;
mod segment;
mod source;
mod speaker;
mod target;
mod tracks;
mod voice;

pub use design::{Correlation, FACTORS};
pub use factor_folder::{FactorConfig, generate_factors};
pub use folder::{CorpusConfig, CorpusSummary, generate};
pub use speaker::Speaker;
pub use voice::{FACTOR_SECONDS, Factors, Utterance, speak};
