//! Blocks of a log-mel spectrogram for the VAE.

use std::collections::BTreeSet;

use burn::tensor::{Device, Tensor, TensorData};
use ndarray::{Array2, ArrayView2, s};
use rand::Rng;
use rayon::prelude::*;

use super::{FeatureSet, Item, Sampler, Standardizer};
use crate::features::FeatureFile;
use crate::{Error, Result};

/// The standardised log-mel spectrograms of a set, in memory, cut into segments on demand.
pub struct SegmentDataset {
    /// Of each file, for people.
    names: Vec<String>,
    spectra: Vec<Array2<f32>>,
    segment_frames: usize,
}

impl SegmentDataset {
    /// Reads the log-mels of every file that holds at least one segment.
    ///
    /// # Errors
    /// If a file cannot be read or every file is shorter than a segment.
    pub fn load(set: &FeatureSet, standardizer: &Standardizer, segment_frames: usize) -> Result<Self> {
        let long_enough = set.entries.par_iter().filter(|entry| entry.meta.frames as usize >= segment_frames);
        let (names, spectra): (Vec<_>, Vec<_>) = long_enough
            .map(|entry| Ok((entry.name.clone(), standardizer.apply(FeatureFile::read_logmel(&entry.path)?.0.view()))))
            .collect::<Result<Vec<_>>>()?
            .into_iter()
            .unzip();
        if spectra.is_empty() {
            let message = format!("every file is shorter than one segment of {segment_frames} frames");
            return Err(Error::file(&set.root, message));
        }
        Ok(Self { names, spectra, segment_frames })
    }

    /// The segments of all files, one after the other, from frame 0; tails shorter than a segment are left out.
    pub fn items(&self) -> Vec<Item> {
        let lengths = self.spectra.iter().map(|spectrum| spectrum.nrows());
        lengths.enumerate().flat_map(|(file, frames)| items_of(file, frames, 0, self.segment_frames)).collect()
    }

    /// Epochs of segments that begin at a random offset in each file, new in each epoch.
    pub fn sampler(&self, seed: u64) -> Sampler {
        let lengths: Vec<usize> = self.spectra.iter().map(|spectrum| spectrum.nrows()).collect();
        let segment = self.segment_frames;
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
        items.iter().map(|item| self.names[item.file].clone()).collect()
    }

    /// # Shapes
    /// `[items, segment_frames, mels]`
    pub fn batch(&self, items: &[Item], device: &Device) -> Tensor<3> {
        let mels = self.spectra[0].ncols();
        let mut values: Vec<f32> = Vec::with_capacity(items.len() * self.segment_frames * mels);
        for item in items {
            values.extend(self.spectra[item.file].slice(s![item.start..item.start + item.frames, ..]).iter());
        }
        Tensor::from_data(TensorData::new(values, [items.len(), self.segment_frames, mels]), device)
    }
}

fn items_of(file: usize, frames: usize, offset: usize, segment: usize) -> impl Iterator<Item = Item> {
    (offset..(frames + 1).saturating_sub(segment)).step_by(segment).map(move |start| Item {
        file,
        start,
        frames: segment,
    })
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
