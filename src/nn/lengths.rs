//! How many frames of each padded sequence are real.

use burn::tensor::{Device, Int, IntDType, Tensor, TensorData};

/// The lengths of a batch of sequences padded to a common number of frames.
///
/// On a device that replays steps the mask may be given other values, for another batch of as many frames: what layers compute
/// there is of the mask, whatever the lengths were.
#[derive(Clone, Debug)]
pub struct Lengths {
    frames: usize,
    lengths: Vec<usize>,
    device: Device,
    mask: Option<Tensor<3>>,
}

impl Lengths {
    /// Sequences of `lengths` frames, padded to `frames`.
    ///
    /// # Panics
    /// If a length is zero or exceeds `frames`.
    pub fn new(lengths: Vec<usize>, frames: usize, device: &Device) -> Self {
        match lengths.iter().all(|&n| n == frames) {
            true => Self { frames, lengths, device: device.clone(), mask: None },
            false => Self::masked(lengths, frames, device),
        }
    }

    /// The same, with a mask even if nothing is padded.
    ///
    /// # Panics
    /// As [`new`](Self::new).
    pub fn masked(lengths: Vec<usize>, frames: usize, device: &Device) -> Self {
        assert!(lengths.iter().all(|&n| (1..=frames).contains(&n)), "lengths {lengths:?} must lie in 1..={frames}");
        let valid = |n: usize| (0..frames).map(move |t| if t < n { 1.0f32 } else { 0.0 });
        let mask: Vec<f32> = lengths.iter().flat_map(|&n| valid(n)).collect();
        let mask = Tensor::from_data(TensorData::new(mask, [lengths.len(), frames, 1]), device);
        Self { frames, lengths, device: device.clone(), mask: Some(mask) }
    }

    /// The number of real frames in each sequence.
    pub fn each(&self) -> &[usize] {
        &self.lengths
    }

    /// The number of real frames in each sequence, `[batch]`, as `i32`.
    pub(super) fn counts(&self) -> Tensor<1, Int> {
        let batch = self.lengths.len();
        let counts = match &self.mask {
            None => Tensor::full([batch], self.frames as i64, &self.device.clone().inner()),
            Some(mask) => mask.clone().inner().sum_dim(1).reshape([batch]).int(),
        };
        counts.cast(IntDType::I32)
    }

    /// The number of real frames in the whole batch.
    pub fn valid_frames(&self) -> usize {
        self.lengths.iter().sum()
    }

    /// A sum over all real frames, divided by their number.
    pub fn mean_of_sum<const D: usize>(&self, sum: Tensor<D>) -> Tensor<D> {
        match &self.mask {
            None => sum.div_scalar(self.valid_frames() as f64),
            Some(mask) => sum / mask.clone().sum().reshape([1; D]),
        }
    }

    /// `[batch, frames, 1]`: 1 in real frames, 0 in padding; `None` when nothing is padded.
    pub fn mask(&self) -> Option<&Tensor<3>> {
        self.mask.as_ref()
    }

    /// The same, to be given other values.
    pub(crate) fn mask_mut(&mut self) -> Option<&mut Tensor<3>> {
        self.mask.as_mut()
    }

    /// `x` `[batch, frames, channels]` with zeros in the padding.
    pub fn zero_padding(&self, x: Tensor<3>) -> Tensor<3> {
        match &self.mask {
            Some(mask) => x * mask.clone(),
            None => x,
        }
    }

    /// `x` `[batch, frames, channels]` backwards in time within each length; padding stays where it is. Its own inverse.
    pub fn reverse(&self, x: Tensor<3>) -> Tensor<3> {
        let [batch, frames, channels] = x.dims();
        assert_eq!(frames, self.frames, "lengths are for {} frames, the tensor has {frames}", self.frames);
        if self.mask.is_none() {
            return x.flip([1]);
        }
        let device = &self.device.clone().inner();
        let range = |count: usize| Tensor::<1, Int>::arange(0..count as i64, device).cast(IntDType::I32);
        let here: Tensor<2, Int> = range(frames).unsqueeze_dim::<2>(0).repeat_dim(0, batch); // [batch, frames]
        let mirrored = self.counts().unsqueeze_dim::<2>(1).sub_scalar(1) - here.clone();
        let from = here.mask_where(mirrored.clone().greater_equal_elem(0), mirrored);
        let rows: Tensor<2, Int> = range(batch).unsqueeze_dim::<2>(1).mul_scalar(frames as i32);
        let from = (from + rows).reshape([batch * frames]);
        x.reshape([batch * frames, channels]).select(0, from).reshape([batch, frames, channels])
    }
}
