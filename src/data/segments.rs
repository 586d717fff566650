//! Blocks of a log-mel spectrogram for the VAE.

use std::collections::BTreeSet;

use burn::tensor::TensorData;
use ndarray::{Array2, ArrayView2};
use rand::Rng;

use super::batch::Padded;
use super::spectra::Spectra;
use super::{Dataset, FeatureSet, Item, Position, Room, Sampler, Standardizer};
use crate::features::Spectrum;
use crate::{Error, Result};

/// The log-mel spectrograms of a set, cut into standardised segments on demand.
pub struct SegmentDataset {
    spectra: Spectra,
    lengths: Vec<usize>,
    standardizer: Standardizer,
    segment_frames: usize,
}

impl SegmentDataset {
    /// Of every file that holds at least one segment; reads as many of them as there is `room` for.
    ///
    /// # Errors
    /// If a file cannot be read or every file is shorter than a segment.
    pub fn load(set: &FeatureSet, standardizer: &Standardizer, segment_frames: usize, room: &mut Room) -> Result<Self> {
        let long_enough: Vec<_> =
            set.entries.iter().filter(|entry| entry.meta.frames as usize >= segment_frames).collect();
        if long_enough.is_empty() {
            let message = format!("every file is shorter than one segment of {segment_frames} frames");
            return Err(Error::file(&set.root, message));
        }
        let spectra = Spectra::open(long_enough, &[Spectrum::Logmel], room)?;
        let (lengths, standardizer) = (spectra.lengths(), standardizer.clone());
        Ok(Self { spectra, lengths, standardizer, segment_frames })
    }

    /// How many files there are; those that are shorter than a segment are not among them.
    pub fn files(&self) -> usize {
        self.lengths.len()
    }

    /// The segments of all files, one after the other, from frame 0; tails shorter than a segment are left out.
    pub fn items(&self) -> Vec<Item> {
        let lengths = self.lengths.iter().enumerate();
        lengths.flat_map(|(file, &frames)| items_of(file, frames, 0, self.segment_frames)).collect()
    }

    /// Epochs of segments that begin at a random offset in each file, new in each epoch.
    pub fn sampler(&self, seed: u64) -> Sampler {
        let (lengths, segment) = (self.lengths.clone(), self.segment_frames);
        Sampler::new(seed, move |rng| {
            let files = lengths.iter().enumerate();
            files
                .flat_map(|(file, &frames)| {
                    let offset = rng.random_range(0..segment.min(frames - segment + 1));
                    items_of(file, frames, offset, segment)
                })
                .collect::<Vec<_>>()
        })
    }

    /// The names of the files that items are of, each once.
    pub fn names(&self, items: &[Item]) -> BTreeSet<String> {
        self.spectra.names(items)
    }
}

impl Dataset for SegmentDataset {
    /// `[items, segment_frames, mels]`
    type Batch = TensorData;

    fn batch(&self, items: &[Item], _: Position) -> Result<TensorData> {
        let mels = self.standardizer.mean.len();
        let mut segments = Padded::new(items.len(), self.segment_frames, mels);
        for &item in items {
            let [logmel] = self.spectra.read(item)?;
            segments.push(&self.standardizer.apply(logmel.view()));
        }
        Ok(segments.data())
    }
}

fn items_of(file: usize, frames: usize, offset: usize, segment: usize) -> impl Iterator<Item = Item> {
    let starts = (offset..(frames + 1).saturating_sub(segment)).step_by(segment);
    starts.map(move |start| Item::new(file, start, segment))
}

/// A whole spectrogram as segments that begin every `hop` frames; the last one is filled by repeating the last frame.
///
/// # Shapes
/// `[frames, mels]` to that many segments of `[segment_frames, mels]`, which together cover every frame.
pub fn cut_segments(
    spectrum: ArrayView2<'_, f32>,
    segment_frames: usize,
    hop: usize,
) -> impl Iterator<Item = Array2<f32>> {
    let (frames, mels) = spectrum.dim();
    let count = frames.saturating_sub(segment_frames).div_ceil(hop) + 1;
    (0..count).map(move |index| {
        Array2::from_shape_fn((segment_frames, mels), |(t, band)| spectrum[[(index * hop + t).min(frames - 1), band]])
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_cover_every_frame_and_repeat_the_last_one_at_the_end() {
        for frames in [1, 9, 10, 11, 20, 21, 47] {
            let spectrum = Array2::from_shape_fn((frames, 3), |(t, _)| t as f32);
            let segments: Vec<_> = cut_segments(spectrum.view(), 20, 10).collect();
            let covered = (segments.len() - 1) * 10 + 20;
            assert!(covered >= frames && covered < frames.max(20) + 10, "{frames} frames: {covered} covered");
            for (index, segment) in segments.iter().enumerate() {
                for t in 0..20 {
                    assert_eq!(segment[[t, 2]], (index * 10 + t).min(frames - 1) as f32);
                }
            }
        }
    }
}
