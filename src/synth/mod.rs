//! From codes and mel spectrograms back to sound.
mod blend;
pub use blend::{band_correlation, cross_fade};
