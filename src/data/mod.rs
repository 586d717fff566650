//! From feature files to batches.
//!
//! [`FeatureSet`] lists a folder's files, [`Standardizer`] holds the band statistics, [`Sampler`] gives the order of a seed's
//! epochs, [`SegmentDataset`] cuts blocks for the VAE and [`PairDataset`] padded mel and linear spectra for the inverter.

mod estimate;
mod order;
mod pairs;
mod segments;
mod set;
mod standardizer;

pub use estimate::LinearEstimate;
pub use order::{Item, Position, Sampler};
pub use pairs::{PairBatch, PairDataset};
pub use segments::{SegmentDataset, cut_segments};
pub(crate) use set::require_same;
pub use set::{DataIdentity, FeatureEntry, FeatureSet};
pub use standardizer::Standardizer;
