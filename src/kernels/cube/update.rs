//! What changes tensors where they lie, as operations of Burn's backends: a replayed step finds its parameters in the same memory
//! each time.
//!
//! Each gives the tensors that it was given, changed. Whoever else holds them sees the change, and Burn's fusion, which knows
//! nothing of it, may put off reading them until after: see [`flush`].

use burn::backend::fusion::custom::TensorSpec;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, Dispatch, DispatchTensor, backend_extension};
use burn::tensor::{Device, Tensor};
use burn_cubecl::CubeBackend;
use burn_cubecl::kernel::into_contiguous;

use super::super::{AdamState, Stepped};
use super::in_place;
use super::many::Many;

/// Changes in place.
#[backend_extension(Cube: cfg(feature = "cube"), Fusion: cfg(feature = "cube"))]
pub trait Update: Backend {
    /// `x` in memory without gaps. CUDA's tensors begin each row at an address of their own, so that what a kernel would take for
    /// a tensor's memory is a copy of it.
    #[fusion(meta = |x| x.clone())]
    fn settle(x: FloatTensor<Self>) -> FloatTensor<Self>;

    /// Each of `to`, which have no gaps, with the values of its counterpart.
    #[fusion(meta = |to, _from| to.clone())]
    fn assign(#[extension_type] to: Many<Self>, #[extension_type] from: Many<Self>) -> Many<Self>;

    /// Parameters, both moments and averages, which may be none, after a step of Adam with these gradients, multiplied by `clips`
    /// `[1]` each, none, one for all or one for each, and these `numbers`, as [`AdamStep::values`](super::super::AdamStep::values) has them.
    #[fusion(meta = |parameters, firsts, seconds, averages, _gradients, _clips, _numbers, _decays| {
        (parameters.clone(), firsts.clone(), seconds.clone(), averages.clone())
    })]
    fn adam(
        #[extension_type] parameters: Many<Self>,
        #[extension_type] firsts: Many<Self>,
        #[extension_type] seconds: Many<Self>,
        #[extension_type] averages: Many<Self>,
        #[extension_type] gradients: Many<Self>,
        #[extension_type] clips: Many<Self>,
        numbers: FloatTensor<Self>,
        decays: Vec<bool>,
    ) -> (Many<Self>, Many<Self>, Many<Self>, Many<Self>);

    /// The sum of the squares of all these together, `[1]`.
    #[fusion(meta = |values| TensorSpec::new([1].into(), values[0].dtype))]
    fn squares(#[extension_type] values: Many<Self>) -> FloatTensor<Self>;
}

impl Update for CubeBackend {
    fn settle(x: FloatTensor<Self>) -> FloatTensor<Self> {
        into_contiguous(x)
    }

    fn assign(to: Many<Self>, from: Many<Self>) -> Many<Self> {
        Many(in_place::assign(to.0, from.0))
    }

    fn adam(
        parameters: Many<Self>,
        firsts: Many<Self>,
        seconds: Many<Self>,
        averages: Many<Self>,
        gradients: Many<Self>,
        clips: Many<Self>,
        numbers: FloatTensor<Self>,
        decays: Vec<bool>,
    ) -> (Many<Self>, Many<Self>, Many<Self>, Many<Self>) {
        let changed = [parameters, firsts, seconds, averages].map(|many| many.0);
        let changed = in_place::adam(changed, [gradients.0, clips.0], numbers, decays);
        changed.map(Many).into()
    }

    fn squares(values: Many<Self>) -> FloatTensor<Self> {
        in_place::squares(values.0)
    }
}

/// `x` in memory without gaps, as what is changed in place must be.
pub(crate) fn settle<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    Tensor::from_dispatch(Dispatch::settle(x.into_dispatch()))
}

/// Each of `to`, which have been settled, with the values of its counterpart, in its own memory.
///
/// # Panics
/// Where it is computed, if one has not.
pub(crate) fn assign(to: Vec<DispatchTensor>, from: Vec<DispatchTensor>) -> Vec<DispatchTensor> {
    if to.is_empty() { to } else { Dispatch::assign(Many(to), Many(from)).0 }
}

/// One step of Adam for parameters and what is kept beside them, in their own memory; `clips`, none, one or as many as parameters, and
/// `numbers` are on the device, so that a captured step can be given new ones.
pub(crate) fn adam(
    stepped: Vec<Stepped>,
    clips: Vec<Tensor<1>>,
    numbers: Tensor<1>,
) -> Vec<(DispatchTensor, AdamState)> {
    let decays = stepped.iter().map(|each| each.decays).collect();
    let many = |tensors: &mut dyn Iterator<Item = Tensor<1>>| Many(tensors.map(Tensor::into_dispatch).collect());
    let firsts = many(&mut stepped.iter().map(|each| each.state.first.clone()));
    let seconds = many(&mut stepped.iter().map(|each| each.state.second.clone()));
    let averages = many(&mut stepped.iter().filter_map(|each| each.state.average.clone()));
    let gradients = many(&mut stepped.iter().map(|each| each.gradient.clone()));
    let clips = many(&mut clips.into_iter());
    let parameters = Many(stepped.into_iter().map(|each| each.parameter).collect());
    let numbers = numbers.into_dispatch();
    let (parameters, firsts, seconds, averages) =
        Dispatch::adam(parameters, firsts, seconds, averages, gradients, clips, numbers, decays);
    let mut averages = averages.0.into_iter();
    let moments = firsts.0.into_iter().zip(seconds.0);
    let state = |(first, second)| AdamState {
        first: Tensor::from_dispatch(first),
        second: Tensor::from_dispatch(second),
        average: averages.next().map(Tensor::from_dispatch),
    };
    parameters.0.into_iter().zip(moments.map(state)).collect()
}

/// The squared norm of all of these together, `[1]`.
pub(crate) fn squared_norm_of_all<'a>(tensors: impl Iterator<Item = &'a Tensor<1>>) -> Tensor<1> {
    let values = Many(tensors.map(|tensor| tensor.clone().into_dispatch()).collect());
    Tensor::from_dispatch(Dispatch::squares(values))
}

/// Has everything that was asked for so far sent to the device, so that nothing reads after a change what it was to read before.
pub(crate) fn flush(device: &Device) {
    // What fails here fails again where a value is read.
    let _ = Dispatch::flush(device.clone().inner().as_dispatch());
}
