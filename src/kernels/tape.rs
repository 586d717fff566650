//! How a kernel becomes an operation of Burn's CPU backend that autodiff can walk back through.

use std::fmt::Debug;

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::NoCheckpointing;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::flex::FlexTensor;
use burn::backend::{Autodiff, AutodiffBackend, Flex};
use burn::tensor::{Tensor, TensorData};

/// A differentiable function of `N` tensors. All values are `f32`, contiguous, last dimension fastest.
pub(crate) trait Kernel<const N: usize>: Clone + Debug + Send + 'static {
    /// What the way back needs besides inputs and output.
    type Saved: Clone + Debug + Send + 'static;

    /// The output and its shape.
    fn forward(&self, inputs: [&[f32]; N]) -> (Vec<f32>, Vec<usize>, Self::Saved);

    /// From the output's gradient to those of the inputs that are `wanted`; the others are not looked at.
    fn backward(
        &self,
        inputs: [&[f32]; N],
        output: &[f32],
        saved: &Self::Saved,
        gradient: &[f32],
        wanted: [bool; N],
    ) -> [Option<Vec<f32>>; N];
}

/// A tensor on its way into a kernel.
pub(crate) enum Input {
    Inner(FlexTensor),
    Tracked(<Autodiff<Flex> as burn::backend::BackendTypes>::FloatTensorPrimitive),
}

impl<const D: usize> From<Tensor<D>> for Input {
    fn from(tensor: Tensor<D>) -> Self {
        match tensor.clone().try_into_primitive::<Autodiff<Flex>>() {
            Ok(tracked) => Self::Tracked(tracked),
            Err(_) => Self::Inner(tensor.try_into_primitive::<Flex>().expect("kernels are given tensors on the CPU")),
        }
    }
}

/// Computes `kernel` on `inputs`; the result takes part in autodiff if one of them does. With it comes what the kernel saved.
pub(crate) fn apply<K: Kernel<N>, const N: usize, const D: usize>(
    kernel: K,
    inputs: [Input; N],
) -> (Tensor<D>, K::Saved) {
    if inputs.iter().all(|input| matches!(input, Input::Inner(_))) {
        let inputs = inputs.map(|input| match input {
            Input::Inner(tensor) => tensor.to_contiguous(),
            Input::Tracked(_) => unreachable!("just looked"),
        });
        let (output, saved) = run(&kernel, &inputs);
        return (Tensor::from_primitive::<Flex>(output), saved);
    }
    let parts = inputs.map(|input| match input {
        Input::Inner(tensor) => <Autodiff<Flex> as AutodiffBackend>::from_inner(tensor).into_parts(),
        Input::Tracked(tensor) => tensor.into_parts(),
    });
    let (mut inputs, mut guards) = (Vec::with_capacity(N), Vec::with_capacity(N));
    for (tensor, guard) in parts {
        inputs.push(tensor.to_contiguous());
        guards.push(guard);
    }
    let inputs: [FlexTensor; N] = inputs.try_into().expect("one tensor per input");
    let guards = guards.try_into().expect("one guard per input");
    let (output, saved) = run(&kernel, &inputs);
    let result =
        match Step::<K, N>(std::marker::PhantomData).prepare::<NoCheckpointing>(guards).compute_bound().stateful() {
            OpsKind::Tracked(prep) => {
                prep.finish(State { kernel, inputs, output: output.clone(), saved: saved.clone() }, output)
            }
            OpsKind::UnTracked(prep) => prep.finish(output),
        };
    (Tensor::from_primitive::<Autodiff<Flex>>(result), saved)
}

fn run<K: Kernel<N>, const N: usize>(kernel: &K, inputs: &[FlexTensor; N]) -> (FlexTensor, K::Saved) {
    let (values, shape, saved) = kernel.forward(inputs.each_ref().map(values));
    (tensor(values, shape), saved)
}

fn values(tensor: &FlexTensor) -> &[f32] {
    tensor.as_slice().expect("inputs were made contiguous f32")
}

fn tensor(values: Vec<f32>, shape: impl Into<burn::tensor::Shape>) -> FlexTensor {
    FlexTensor::from_data(TensorData::new(values, shape))
}

#[derive(Clone, Debug)]
struct State<K: Kernel<N>, const N: usize> {
    kernel: K,
    inputs: [FlexTensor; N],
    output: FlexTensor,
    saved: K::Saved,
}

#[derive(Debug)]
struct Step<K, const N: usize>(std::marker::PhantomData<K>);

impl<K: Kernel<N>, const N: usize> Backward<Flex, N> for Step<K, N> {
    type State = State<K, N>;

    fn backward(self, ops: Ops<Self::State, N>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let gradient = gradients.consume::<Flex>(&ops.node).to_contiguous();
        let State { kernel, inputs, output, saved } = ops.state;
        let wanted = ops.parents.each_ref().map(Option::is_some);
        let found = kernel.backward(inputs.each_ref().map(values), values(&output), &saved, values(&gradient), wanted);
        for ((parent, input), found) in ops.parents.into_iter().zip(&inputs).zip(found) {
            if let (Some(parent), Some(found)) = (parent, found) {
                gradients.register::<Flex>(parent.id, tensor(found, input.layout().shape().clone()));
            }
        }
    }
}
