//! What GPUs are given beside Burn's own operations, which are launches by the dozen where one will do: recurrent layers as one kernel for
//! each pass over time ([`ops`]), convolutions as products of unfolded windows ([`grids`]) and of filters among zeros ([`bank`]), products
//! in a precision of one's choice ([`product`]), batch normalisation ([`norm`]), highway layers ([`highway`]), densities, divergences and
//! samples ([`density`]), biases ([`columns`]) and the optimizer's changes in place ([`update`]).
//!
//! CubeCL compiles them for CUDA, Vulkan and whatever else Burn's `Cube` backend has. A cube of units carries a few sequences
//! through all steps; what is exchanged at each, it exchanges through shared memory; recurrent weights stay in registers where they
//! fit ([`plan`]). Projections of the inputs and gradients of weights are matrix products over all steps at once, by Burn.

mod bank;
mod columns;
mod density;
mod exact;
mod filters;
mod frames;
mod gates;
mod grids;
mod gru;
mod highway;
mod in_place;
mod lstm;
mod many;
mod norm;
mod normal;
mod ops;
mod plan;
mod product;
mod products;
mod rows;
mod sums;
mod tape;
mod update;
mod window;

pub(crate) use bank::{TOGETHER as FILTERS_TOGETHER, beside, filters};
pub(crate) use columns::biased;
pub(crate) use density::{distance, divergence, nll, sample};
pub(crate) use grids::{fold, unfold};
pub(crate) use highway::gated;
pub(crate) use norm::{batch_norm, running_norm};
pub(crate) use ops::{gru, lstm};
pub(crate) use product::product;
pub(crate) use update::{adam, assign, flush, settle, squared_norm_of_all};

use burn::backend::{DispatchDevice, TensorMetadata};
use burn::tensor::{Device, Shape};
use burn_cubecl::ops::numeric::empty_device_contiguous_dtype;
use burn_cubecl::tensor::CubeTensor;

/// Whether what is in this folder computes on this device.
pub(crate) fn serve(device: &Device) -> bool {
    matches!(device.clone().inner().as_dispatch(), DispatchDevice::Cube(_)) && !super::is_plain()
}

/// Whether the passes take layers of `cells` on this device.
pub(crate) fn scans(device: &Device, cells: usize) -> bool {
    serve(device) && cells <= plan::MOST_CELLS
}

/// Room for `shape` beside `like`.
fn empty(like: &CubeTensor, shape: &[usize]) -> CubeTensor {
    empty_device_contiguous_dtype(like.client.clone(), like.device.clone(), Shape::from(shape.to_vec()), like.dtype)
}

fn shape<const D: usize>(tensor: &CubeTensor) -> [usize; D] {
    let shape = tensor.shape();
    std::array::from_fn(|dimension| shape[dimension])
}
