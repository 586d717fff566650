//! What the models spend their time on: whole layers as one operation each, forward and backward, written for the CPU, and for GPUs
//! (`cube`) what Burn's own operations take long for.
//!
//! Burn's CPU backend runs a layer as a chain of small operations, each a pass over memory and an entry on the tape. A
//! kernel is the whole chain: it reads and writes `f32` slices, does its work in few large matrix products and few passes,
//! and is one entry. Inside [`plain`], [`nn`](crate::nn) and [`models`](crate::models) compute the
//! same with Burn's own operations; results agree to rounding.
//!
//! Every kernel divides its work without regard to the number of threads, so that results do not depend on it.

mod adam;
mod bank;
#[cfg(feature = "cube")]
mod cube;
mod dense;
mod grid;
mod gru;
mod highway;
mod layout;
mod loss;
mod lstm;
pub(crate) mod math;
mod matrix;
mod memory;
mod norm;
mod shift;
mod tape;
mod window;
mod winograd;

pub(crate) use adam::{AdamStep, State as AdamState, Stepped, adam_step, squared_norm};
pub(crate) use bank::bank;
pub(crate) use cube::{
    FILTERS_TOGETHER, adam as adam_in_place, assign, batch_norm as batch_norm_on_gpu, beside, biased, distance,
    divergence, filters, flush, fold, gated, gru as gru_scan, lstm as lstm_scan, nll, running_norm, sample, scans,
    serve as on_gpu, settle, squared_norm_of_all, unfold,
};
pub(crate) use dense::dense;
pub(crate) use grid::{Grid, convolve, deconvolve};
pub(crate) use gru::gru;
pub(crate) use highway::highway;
pub(crate) use layout::{flatten, from_flat, pack, unpack};
pub(crate) use loss::{gaussian_nll, mean_absolute_error};
pub(crate) use lstm::lstm;
pub(crate) use norm::{affine, batch_norm};
pub(crate) use shift::time_conv;
pub(crate) use window::Window;

use std::cell::Cell;

use burn::tensor::{Device, Tensor};

thread_local! {
    static PLAIN: Cell<bool> = const { Cell::new(false) };
}

/// Runs `f` with Burn's own operations in place of kernels on this thread: for comparing the two.
pub fn plain<R>(f: impl FnOnce() -> R) -> R {
    let before = PLAIN.replace(true);
    let result = f();
    PLAIN.set(before);
    result
}

fn is_plain() -> bool {
    PLAIN.get()
}

/// Whether the CPU's kernels compute on this device.
pub(crate) fn serve(device: &Device) -> bool {
    !is_plain() && crate::device::is_cpu(device)
}

/// The product of the last two dimensions; on a GPU in the process's precision.
///
/// # Shapes
/// `[.., rows, inner]` and `[.., inner, columns]` to `[.., rows, columns]`, of the same leading dimensions.
pub(crate) fn product<const D: usize>(lhs: Tensor<D>, rhs: Tensor<D>) -> Tensor<D> {
    if on_gpu(&lhs.device()) { cube::product(lhs, rhs) } else { lhs.matmul(rhs) }
}

/// `x` with `row` added to each of its rows.
///
/// # Shapes
/// `[rows, columns]` and `[columns]`
pub(crate) fn add_row(x: Tensor<2>, row: Tensor<1>) -> Tensor<2> {
    if on_gpu(&x.device()) { biased(x, row, 1.0) } else { x + row.unsqueeze() }
}

/// Has one of the threads do `work` that the CPU's kernels share, where they compute on this device: each kernel then begins where it
/// is called, in place of waking one of them first and waiting for it. `work` must not wait for anything that needs such a thread, nor hold a lock over a
/// kernel that other work wants: while it waits for its parts, the thread may begin another's.
pub(crate) fn on_worker<R: Send>(device: &Device, work: impl FnOnce() -> R + Send) -> R {
    if serve(device) { rayon::scope(|_| work()) } else { work() }
}

/// A build without a GPU's backend.
#[cfg(not(feature = "cube"))]
mod cube {
    use burn::backend::DispatchTensor;
    use burn::tensor::{Device, Int, Tensor};

    use super::{AdamState, Stepped, Window};
    use crate::nn::After;

    const ASKED: &str = "whether there is such a device is asked first";

    pub(crate) fn serve(_: &Device) -> bool {
        false
    }

    pub(crate) fn scans(_: &Device, _cells: usize) -> bool {
        false
    }

    pub(crate) fn gru(_: Tensor<4>, _: Tensor<3>, _: Tensor<3>, _: Tensor<1, Int>) -> Tensor<3> {
        unreachable!("{ASKED}")
    }

    pub(crate) fn lstm(_: Tensor<3>, _: Tensor<2>, _frames: usize) -> Tensor<3> {
        unreachable!("{ASKED}")
    }

    pub(crate) fn unfold(_: Tensor<4>, _: Window) -> Tensor<2> {
        unreachable!("{ASKED}")
    }

    pub(crate) fn fold(_: Tensor<2>, _: Window) -> Tensor<4> {
        unreachable!("{ASKED}")
    }

    pub(crate) fn product<const D: usize>(_: Tensor<D>, _: Tensor<D>) -> Tensor<D> {
        unreachable!("{ASKED}")
    }

    pub(crate) fn biased(_: Tensor<2>, _: Tensor<1>, _slope: f64) -> Tensor<2> {
        unreachable!("{ASKED}")
    }

    pub(crate) fn beside(_: Vec<Tensor<2>>) -> Tensor<2> {
        unreachable!("{ASKED}")
    }

    pub(crate) fn gated(_: Tensor<2>, _: Tensor<2>, _: [Tensor<1>; 2]) -> Tensor<2> {
        unreachable!("{ASKED}")
    }

    pub(crate) const FILTERS_TOGETHER: usize = 1;

    pub(crate) fn filters(_: Vec<Tensor<2>>, _narrowest: usize) -> Tensor<2> {
        unreachable!("{ASKED}")
    }

    pub(crate) fn distance(_: Tensor<3>, _: Tensor<3>, _weights: Tensor<1>, _mask: Option<&Tensor<3>>) -> Tensor<1> {
        unreachable!("{ASKED}")
    }

    pub(crate) fn sample<const D: usize>(_: Tensor<D>, _: Tensor<D>, _: Tensor<D>, _floor: f64) -> Tensor<D> {
        unreachable!("{ASKED}")
    }

    pub(crate) fn nll<const D: usize>(_: Tensor<D>, _outputs: Vec<DispatchTensor>, _floor: f64) -> Tensor<1> {
        unreachable!("{ASKED}")
    }

    pub(crate) fn divergence<const D: usize>(_: Tensor<D>, _: Tensor<D>, _floor: f64) -> Tensor<1> {
        unreachable!("{ASKED}")
    }

    pub(crate) fn squared_norm_of_all<'a>(_: impl Iterator<Item = &'a Tensor<1>>) -> Tensor<1> {
        unreachable!("{ASKED}")
    }

    pub(crate) fn settle<const D: usize>(_: Tensor<D>) -> Tensor<D> {
        unreachable!("{ASKED}")
    }

    pub(crate) fn assign(_: Vec<DispatchTensor>, _: Vec<DispatchTensor>) -> Vec<DispatchTensor> {
        unreachable!("{ASKED}")
    }

    pub(crate) fn adam(
        _: Vec<Stepped>,
        _clips: Vec<Tensor<1>>,
        _numbers: Tensor<1>,
    ) -> Vec<(DispatchTensor, AdamState)> {
        unreachable!("{ASKED}")
    }

    pub(crate) fn batch_norm(
        _: Tensor<3>,
        _: [Tensor<1>; 2],
        _epsilon: f64,
        _mask: Option<&Tensor<3>>,
        _: After,
    ) -> (Tensor<3>, [Tensor<1>; 2]) {
        unreachable!("{ASKED}")
    }

    pub(crate) fn running_norm(
        _: Tensor<3>,
        _parameters: [Tensor<1>; 4],
        _epsilon: f64,
        _mask: Option<&Tensor<3>>,
        _: After,
    ) -> Tensor<3> {
        unreachable!("{ASKED}")
    }

    pub(crate) fn flush(_: &Device) {
        unreachable!("{ASKED}")
    }
}
