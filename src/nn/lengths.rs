//! How many frames of each padded sequence are real.

use burn::tensor::{Device, Int, IntDType, Tensor, TensorData};

/// The lengths of a batch of sequences padded to a common number of frames.
#[derive(Clone, Debug)]
pub struct Lengths {
    frames: usize,
    lengths: Vec<usize>,
    counts: Tensor<1, Int>,
    mask: Option<Tensor<3>>,
    reversal: Option<Tensor<1, Int>>,
}

impl Lengths {
    /// Sequences of `lengths` frames, padded to `frames`.
    ///
    /// # Panics
    /// If a length is zero or exceeds `frames`.
    pub fn new(lengths: Vec<usize>, frames: usize, device: &Device) -> Self {
        assert!(lengths.iter().all(|&n| (1..=frames).contains(&n)), "lengths {lengths:?} must lie in 1..={frames}");
        let counts: Vec<i32> = lengths.iter().map(|&length| length as i32).collect();
        let counts = TensorData::new(counts, [lengths.len()]);
        let counts = Tensor::<1, Int>::from_data(counts, &device.clone().inner()).cast(IntDType::I32);
        if lengths.iter().all(|&n| n == frames) {
            return Self { frames, lengths, counts, mask: None, reversal: None };
        }
        let valid = |n: usize| (0..frames).map(move |t| if t < n { 1.0f32 } else { 0.0 });
        let mask: Vec<f32> = lengths.iter().flat_map(|&n| valid(n)).collect();
        let source =
            |row: usize, n: usize| (0..frames).map(move |t| (row * frames + if t < n { n - 1 - t } else { t }) as i32);
        let reversal: Vec<i32> = lengths.iter().enumerate().flat_map(|(row, &n)| source(row, n)).collect();
        let (rows, total) = (lengths.len(), mask.len());
        Self {
            frames,
            mask: Some(Tensor::from_data(TensorData::new(mask, [rows, frames, 1]), device)),
            reversal: Some(Tensor::from_data(TensorData::new(reversal, [total]), device)),
            lengths,
            counts,
        }
    }

    /// The number of real frames in each sequence.
    pub fn each(&self) -> &[usize] {
        &self.lengths
    }

    /// The number of real frames in each sequence, `[batch]`, as `i32`.
    pub(super) fn counts(&self) -> Tensor<1, Int> {
        self.counts.clone()
    }

    /// The number of real frames in the whole batch.
    pub fn valid_frames(&self) -> usize {
        self.lengths.iter().sum()
    }

    /// `[batch, frames, 1]`: 1 in real frames, 0 in padding; `None` when nothing is padded.
    pub fn mask(&self) -> Option<&Tensor<3>> {
        self.mask.as_ref()
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
        match &self.reversal {
            None => x.flip([1]),
            Some(indices) => {
                let [batch, frames, channels] = x.dims();
                assert_eq!(frames, self.frames, "lengths are for {} frames, the tensor has {frames}", self.frames);
                let rows = x.reshape([batch * frames, channels]).select(0, indices.clone()); // [batch * frames, channels]
                rows.reshape([batch, frames, channels])
            }
        }
    }
}
