//! What a training step is given.

use burn::tensor::{Device, Tensor, TensorData};
use ndarray::Array2;

use crate::nn::Lengths;

/// It, in the memory of the CPU.
pub struct Drawn {
    /// `f32`, three dimensions each; the first is `[batch, frames, ...]`.
    pub arrays: Vec<TensorData>,
    /// Real frames of each item of the first array.
    pub lengths: Vec<usize>,
    /// Whether there is a mask even where nothing is padded.
    pub masked: bool,
}

/// It, on a device.
#[derive(Clone)]
pub struct Batch {
    /// As [`Drawn::arrays`].
    pub arrays: Vec<Tensor<3>>,
    /// As [`Drawn::lengths`].
    pub lengths: Lengths,
}

/// What another batch must have to be computed in the same way: the shapes of its arrays, and a mask or none.
pub type Form = (Vec<Vec<usize>>, bool);

impl Drawn {
    /// See [`Form`].
    pub fn form(&self) -> Form {
        let padded = self.lengths.iter().any(|&length| length < self.frames());
        (self.arrays.iter().map(|array| array.shape().to_vec()).collect(), self.masked || padded)
    }

    /// The batch on a device.
    pub fn on(self, device: &Device) -> Batch {
        let (frames, (_, masked)) = (self.frames(), self.form());
        let lengths = if masked { Lengths::masked } else { Lengths::new };
        let lengths = lengths(self.lengths, frames, device);
        Batch { arrays: self.arrays.into_iter().map(|array| Tensor::from_data(array, device)).collect(), lengths }
    }

    fn frames(&self) -> usize {
        self.arrays[0].shape()[1]
    }
}

impl Batch {
    /// All that differs from batch to batch of a form.
    pub(crate) fn each_mut(&mut self) -> impl Iterator<Item = &mut Tensor<3>> {
        self.arrays.iter_mut().chain(self.lengths.mask_mut())
    }

    /// What `change` makes of each.
    pub(crate) fn map(mut self, change: impl Fn(Tensor<3>) -> Tensor<3>) -> Self {
        self.each_mut().for_each(|array| *array = change(array.clone()));
        self
    }
}

/// Items of up to `frames` frames, one after the other, with zeros to fill them.
pub(super) struct Padded {
    values: Vec<f32>,
    shape: [usize; 3],
}

impl Padded {
    pub fn new(items: usize, frames: usize, width: usize) -> Self {
        Self { values: Vec::with_capacity(items * frames * width), shape: [items, frames, width] }
    }

    pub fn push(&mut self, item: &Array2<f32>) {
        let [_, frames, width] = self.shape;
        match item.as_slice() {
            Some(values) => self.values.extend_from_slice(values),
            None => self.values.extend(item),
        }
        self.values.resize(self.values.len() + (frames - item.nrows()) * width, 0.0);
    }

    pub fn data(self) -> TensorData {
        TensorData::new(self.values, self.shape)
    }
}
