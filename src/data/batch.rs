//! What a training step is given.

use burn::tensor::{Device, Tensor, TensorData};

use crate::nn::Lengths;

/// It, in the memory of the CPU.
pub struct Drawn {
    /// `f32`, `[batch, ...]`, three dimensions each.
    pub arrays: Vec<TensorData>,
    /// Real frames of each item of the first array, `[batch, frames, ...]`.
    pub lengths: Vec<usize>,
}

/// It, on a device.
#[derive(Clone)]
pub struct Batch {
    /// As [`Drawn::arrays`].
    pub arrays: Vec<Tensor<3>>,
    /// As [`Drawn::lengths`].
    pub lengths: Lengths,
}

/// Shapes of the arrays of a batch without padding: what another batch must have to be computed in the same way.
pub type Form = Vec<Vec<usize>>;

impl Drawn {
    /// `None` if there is padding.
    pub fn form(&self) -> Option<Form> {
        let frames = self.arrays[0].shape()[1];
        let whole = self.lengths.iter().all(|&length| length == frames);
        whole.then(|| self.arrays.iter().map(|array| array.shape().to_vec()).collect())
    }

    /// The batch on a device.
    pub fn on(self, device: &Device) -> Batch {
        let frames = self.arrays[0].shape()[1];
        let arrays = self.arrays.into_iter().map(|array| Tensor::from_data(array, device)).collect();
        Batch { arrays, lengths: Lengths::new(self.lengths, frames, device) }
    }
}
