//! What GPUs are given beside Burn's own operations: recurrent layers as one kernel for each pass over time, where those are some
//! dozen launches a step, and the optimizer's changes in place ([`update`]).
//!
//! CubeCL compiles them for CUDA, Vulkan and whatever else Burn's `Cube` backend has. A cube of units carries a few sequences
//! through all steps; what is exchanged at each, it exchanges through shared memory; recurrent weights stay in registers where they
//! fit ([`plan`]). Projections of the inputs and gradients of weights are matrix products over all steps at once, by Burn.

mod gru;
mod in_place;
mod lstm;
mod ops;
mod plan;
mod products;
mod update;

pub(crate) use ops::{gru, lstm};
pub(crate) use update::{adam, assign, flush};

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
