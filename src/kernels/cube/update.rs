//! What changes tensors where they lie, as operations of Burn's backends: a replayed step finds its parameters in the same memory
//! each time.
//!
//! Each gives the tensors that it was given, changed. Whoever else holds them sees the change, and Burn's fusion, which knows
//! nothing of it, may put off reading them until after: see [`flush`].

use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, Dispatch, backend_extension};
use burn::tensor::{Device, Tensor};
use burn_cubecl::CubeBackend;
use burn_cubecl::kernel::into_contiguous;

use super::super::AdamState;
use super::in_place;

/// Changes in place.
#[backend_extension(Cube: cfg(feature = "cube"), Fusion: cfg(feature = "cube"))]
pub trait Update: Backend {
    /// `x` in memory without gaps. CUDA's tensors begin each row at an address of their own, so that what a kernel would take for
    /// a tensor's memory is a copy of it.
    #[fusion(meta = |x| x.clone())]
    fn settle(x: FloatTensor<Self>) -> FloatTensor<Self>;

    /// `to`, which has no gaps, with the values of `from`.
    #[fusion(meta = |to, _from| to.clone())]
    fn assign(to: FloatTensor<Self>, from: FloatTensor<Self>) -> FloatTensor<Self>;

    /// Parameter and moments after a step of Adam with this gradient, multiplied by `clip` `[1]`, and these `numbers`, as
    /// [`AdamStep::values`](super::super::AdamStep::values) has them.
    #[fusion(meta = |parameter, first, second, _gradient, _clip, _numbers, _decays| {
        (parameter.clone(), first.clone(), second.clone())
    })]
    fn adam(
        parameter: FloatTensor<Self>,
        first: FloatTensor<Self>,
        second: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        clip: FloatTensor<Self>,
        numbers: FloatTensor<Self>,
        decays: bool,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>);

    /// `parts`, zero before, with sums of the squares of `values` in the stretch of this number.
    #[fusion(meta = |parts, _values, _place| parts.clone())]
    fn squares(parts: FloatTensor<Self>, values: FloatTensor<Self>, place: usize) -> FloatTensor<Self>;

    /// `average` moved towards `parameter` by the share that is among `numbers`.
    #[fusion(meta = |average, _parameter, _numbers| average.clone())]
    fn approach(
        average: FloatTensor<Self>,
        parameter: FloatTensor<Self>,
        numbers: FloatTensor<Self>,
    ) -> FloatTensor<Self>;
}

impl Update for CubeBackend {
    fn settle(x: FloatTensor<Self>) -> FloatTensor<Self> {
        into_contiguous(x)
    }

    fn assign(to: FloatTensor<Self>, from: FloatTensor<Self>) -> FloatTensor<Self> {
        in_place::assign(to, from)
    }

    fn adam(
        parameter: FloatTensor<Self>,
        first: FloatTensor<Self>,
        second: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        clip: FloatTensor<Self>,
        numbers: FloatTensor<Self>,
        decays: bool,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        in_place::adam([parameter, first, second], [gradient, clip, numbers], decays)
    }

    fn squares(parts: FloatTensor<Self>, values: FloatTensor<Self>, place: usize) -> FloatTensor<Self> {
        in_place::squares(parts, values, place)
    }

    fn approach(
        average: FloatTensor<Self>,
        parameter: FloatTensor<Self>,
        numbers: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        in_place::approach([average, parameter, numbers])
    }
}

/// `x` in memory without gaps, as what is changed in place must be.
pub(crate) fn settle<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    Tensor::from_dispatch(Dispatch::settle(x.into_dispatch()))
}

/// `to`, which has been settled, with the values of `from`, in its own memory.
///
/// # Panics
/// Where it is computed, if it has not.
pub(crate) fn assign<const D: usize>(to: Tensor<D>, from: Tensor<D>) -> Tensor<D> {
    Tensor::from_dispatch(Dispatch::assign(to.into_dispatch(), from.into_dispatch()))
}

/// One step of Adam for one parameter and what is kept beside it, in their own memory; `clip` and `numbers` are on the device, so that
/// a captured step can be given new ones.
pub(crate) fn adam<const D: usize>(
    parameter: Tensor<D>,
    gradient: Tensor<1>,
    state: AdamState,
    clip: Tensor<1>,
    numbers: Tensor<1>,
    decays: bool,
) -> (Tensor<D>, AdamState) {
    let AdamState { first, second, average } = state;
    let [first, second, gradient, clip] = [first, second, gradient, clip].map(Tensor::into_dispatch);
    let numbers = numbers.into_dispatch();
    let parameter = parameter.into_dispatch();
    let (parameter, first, second) = Dispatch::adam(parameter, first, second, gradient, clip, numbers.clone(), decays);
    let average = average
        .map(|average| Tensor::from_dispatch(Dispatch::approach(average.into_dispatch(), parameter.clone(), numbers)));
    let [first, second] = [first, second].map(Tensor::from_dispatch);
    (Tensor::from_dispatch(parameter), AdamState { first, second, average })
}

/// The squared norm of all of these together, `[1]`.
pub(crate) fn squared_norm_of_all<'a>(
    tensors: impl ExactSizeIterator<Item = &'a Tensor<1>>,
    device: &Device,
) -> Tensor<1> {
    let parts: Tensor<1> = Tensor::zeros([tensors.len() * in_place::PARTS], device);
    let add =
        |parts, (place, tensor): (usize, &Tensor<1>)| Dispatch::squares(parts, tensor.clone().into_dispatch(), place);
    Tensor::<1>::from_dispatch(tensors.enumerate().fold(parts.into_dispatch(), add)).sum()
}

/// Has everything that was asked for so far sent to the device, so that nothing reads after a change what it was to read before.
pub(crate) fn flush(device: &Device) {
    // What fails here fails again where a value is read.
    let _ = Dispatch::flush(device.clone().inner().as_dispatch());
}
