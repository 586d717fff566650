//! From feature files to batches.
//!
//! [`FeatureSet`] lists a folder's files, [`Standardizer`] holds the band statistics, [`Sampler`] gives the order of a seed's
//! epochs, [`SegmentDataset`] cuts blocks for the VAE and [`PairDataset`] padded mel and linear spectra for the inverter. Both
//! keep in memory what there is [`Room`] for and read the rest as it is needed; [`Loader`] has batches ready before they are.

mod augment;
mod batch;
mod estimate;
mod loader;
mod order;
mod pairs;
mod segments;
mod set;
mod spectra;
mod standardizer;

use crate::{Error, Result};

pub use augment::{Augment, Augmenter};
pub use batch::{Batch, Drawn, Form};
pub use estimate::LinearEstimate;
pub use loader::{Dataset, Loader, loader_threads};
pub use order::{Item, Position, Sampler};
pub use pairs::{PairBatch, PairDataset, PairValues};
pub use segments::{SegmentDataset, cut_segments};
pub(crate) use set::require_same;
pub use set::{DataIdentity, FeatureEntry, FeatureSet};
pub use spectra::Room;
pub use standardizer::Standardizer;

/// Runs `work`, whose parallel parts wait for a disk more than they compute: it answers many at once.
fn many_at_once<T: Send>(work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    const AT_ONCE: usize = 16;
    let threads = rayon::ThreadPoolBuilder::new().num_threads(AT_ONCE).build();
    threads.map_err(|error| Error::Config(format!("cannot start {AT_ONCE} threads that read: {error}")))?.install(work)
}
