//! Any number of tensors as one argument or result of an operation of Burn's backends, for which its macros have no form.

use burn::backend::fusion::custom::{
    ExtensionMetadata, Float, FusionValueAdapter, HandleContainer, OutputTensor, TensorId, TensorIr, TensorSpec,
};
use burn::backend::fusion::{ExecutionError, Fusion, FusionBackend, FusionRuntime, FusionTensor};
use burn::backend::tensor::FloatTensor;
use burn::backend::{
    Backend, BackendTensor, Dispatch, DispatchAutodiffContext, DispatchTensor, DispatchTensorKind, ExtensionType,
};
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::SequenceArg;

/// Them.
#[derive(Clone, Debug)]
pub struct Many<B: Backend>(pub Vec<FloatTensor<B>>);

impl<B: Backend> ExtensionType<B> for Many<B> {
    type Target = Many<Dispatch>;

    fn map_to_dispatch<F>(self, map_kind: F, autodiff: DispatchAutodiffContext) -> Many<Dispatch>
    where
        F: Fn(BackendTensor<B>) -> DispatchTensorKind,
    {
        let map = |tensor| DispatchTensor { kind: map_kind(BackendTensor::Float(tensor)), autodiff };
        Many(self.0.into_iter().map(map).collect())
    }

    fn map_from_dispatch<F>(target: Many<Dispatch>, unwrap_kind: F) -> Self
    where
        F: Fn(DispatchTensor) -> BackendTensor<B>,
    {
        Self(target.0.into_iter().map(|tensor| unwrap_kind(tensor).float()).collect())
    }

    fn routing_tensor(target: &Many<Dispatch>) -> Option<&DispatchTensor> {
        target.0.first()
    }

    fn routing_float_tensor(target: &Many<Dispatch>) -> Option<&DispatchTensor> {
        target.0.first()
    }

    fn autodiff_context(target: &Many<Dispatch>) -> DispatchAutodiffContext {
        target.0.iter().fold(DispatchAutodiffContext::Disabled, |context, tensor| context.merge(tensor.autodiff))
    }
}

impl<B: Backend> ExtensionMetadata for Many<B> {
    type Metadata = Vec<TensorSpec>;
    type Input = Vec<TensorIr>;
    type Output = Vec<OutputTensor>;
}

/// Each as a single tensor has it.
impl<B: FusionBackend> FusionValueAdapter<B> for Many<B> {
    type Metadata = Vec<TensorSpec>;
    type Input = Vec<TensorIr>;
    type Output = Vec<OutputTensor>;
    type Inner = Self;
    type Fused = Many<Fusion<B>>;

    fn to_metadata(value: &Self::Fused) -> Vec<TensorSpec> {
        value.0.iter().map(<Float as FusionValueAdapter<B>>::to_metadata).collect()
    }

    fn visit_fused_tensors(value: &Self::Fused, visit: &mut impl FnMut(&FusionTensor<B::FusionRuntime>)) {
        value.0.iter().for_each(visit);
    }

    fn tensor_count(meta: &Vec<TensorSpec>) -> usize {
        meta.len()
    }

    fn append_input_ir(value: Self::Fused, inputs: &mut Vec<TensorIr>) -> Vec<TensorIr> {
        value.0.into_iter().map(|tensor| <Float as FusionValueAdapter<B>>::append_input_ir(tensor, inputs)).collect()
    }

    fn resolve_inputs(
        input: &Vec<TensorIr>,
        handles: &mut HandleContainer<<B::FusionRuntime as FusionRuntime>::FusionHandle>,
    ) -> Self {
        Self(input.iter().map(|input| <Float as FusionValueAdapter<B>>::resolve_inputs(input, handles)).collect())
    }

    fn append_output_ir(
        meta: &Vec<TensorSpec>,
        out: &mut Vec<TensorIr>,
        create: &mut impl FnMut() -> TensorId,
    ) -> Vec<OutputTensor> {
        meta.iter().map(|meta| <Float as FusionValueAdapter<B>>::append_output_ir(meta, out, create)).collect()
    }

    fn validate_outputs(
        value: &Self,
        output: &Vec<OutputTensor>,
        device: Option<&B::Device>,
    ) -> Result<(), ExecutionError> {
        let mut pairs = value.0.iter().zip(output);
        pairs.try_for_each(|(value, output)| <Float as FusionValueAdapter<B>>::validate_outputs(value, output, device))
    }

    fn register_output_handles(
        value: Self,
        output: &Vec<OutputTensor>,
        handles: &mut HandleContainer<<B::FusionRuntime as FusionRuntime>::FusionHandle>,
    ) {
        for (value, output) in value.0.into_iter().zip(output) {
            <Float as FusionValueAdapter<B>>::register_output_handles(value, output, handles);
        }
    }

    fn build_fused_output(
        meta: &Vec<TensorSpec>,
        tensors: &mut std::vec::IntoIter<FusionTensor<B::FusionRuntime>>,
    ) -> Self::Fused {
        let build = |meta| <Float as FusionValueAdapter<B>>::build_fused_output(meta, tensors);
        Many(meta.iter().map(build).collect())
    }
}

/// Them as a kernel is given them: buffers without shapes, which on CUDA may be longer than what is in them.
pub(super) fn sequence(tensors: &[CubeTensor]) -> SequenceArg<Box<[f32]>> {
    tensors.iter().map(|tensor| tensor.clone().into_buffer_arg()).collect()
}
