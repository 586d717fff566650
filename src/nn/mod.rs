//! Layers that Burn lacks or that padding makes different: seeded initialisation, convolution over time with channels last,
//! batch normalisation and a GRU that respect each sequence's length, an LSTM, highway layers.
//!
//! Tensors are `[batch, frames, channels]`.

mod conv;
mod dense;
mod gru;
mod highway;
mod init;
mod lengths;
mod lstm;
mod norm;
mod steps;

pub use conv::{ConvBank, TimeConv};
pub use dense::dense;
pub use gru::BiGru;
pub use highway::Highway;
pub use init::Init;
pub use lengths::Lengths;
pub use lstm::Lstm;
pub use norm::{After, BatchStatistics, MaskedBatchNorm};
