//! A small corpus of synthetic speech with its truth: who babbles, at what pitch, with which formants.
//!
//! Source-filter synthesis after Klatt: glottal pulses and noise (`source`) through moving resonances (`filter`),
//! steered by curves (`tracks`) that smooth a score of random words (`score`) in a speaker's voice (`speaker`).
//! [`speak`] makes one utterance in memory, [`generate`] a folder of them. It is material to run the pipeline on and to
//! measure disentanglement by; it says nothing, and is no text-to-speech.

mod filter;
mod folder;
mod phonemes;
mod score;
mod source;
mod speaker;
mod tracks;
mod voice;

pub use folder::{CorpusConfig, CorpusSummary, generate};
pub use speaker::Speaker;
pub use voice::{FACTOR_SECONDS, Factors, Utterance, speak};
