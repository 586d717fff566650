//! Names for sliders, from what was found about a run.

use std::path::Path;

use burn::tensor::Device;

use super::LatentName;
use crate::synth::VaeCodec;

/// The names that `evaluate latents --name` gave to the latents of a run's newest checkpoint; none if it gave none. Names
/// of another checkpoint, and those that cannot be read, are left out with a warning.
pub fn names_of(run: &Path) -> Vec<LatentName> {
    let found = VaeCodec::open(run, &Device::flex()).and_then(|codec| codec.meanings());
    let found = found.unwrap_or_else(|error| {
        tracing::warn!("sliders are without names: {error}");
        None
    });
    let names = found.into_iter().flat_map(|found| found.names);
    names
        .map(|name| LatentName { latent: name.latent, name: name.name, unit: name.unit, per_unit: name.per_unit })
        .collect()
}
