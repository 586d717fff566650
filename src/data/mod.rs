//! From feature files to batches.
//!
//! [`FeatureSet`] lists a folder's files, [`Standardizer`] holds the band statistics, [`Sampler`] gives the order of a seed's
//! epochs, [`SegmentDataset`] cuts blocks for the VAE and [`PairDataset`] padded mel and linear spectra for the inverter. Both
//! keep in memory what there is [`Room`] for and read the rest as it is needed; [`Loader`] has batches ready before they are.

mod augment;
mod estimate;
mod loader;
mod order;
mod pairs;
mod segments;
mod set;
mod spectra;
mod standardizer;

pub use augment::{Augment, Augmenter};
pub use estimate::LinearEstimate;
pub use loader::{Dataset, Loader, loader_threads};
pub use order::{Item, Position, Sampler};
pub use pairs::{PairBatch, PairDataset, PairValues};
pub use segments::{SegmentDataset, cut_segments};
pub(crate) use set::require_same;
pub use set::{DataIdentity, FeatureEntry, FeatureSet};
pub use spectra::Room;
pub use standardizer::Standardizer;
