//! Mel and linear spectra of the same audio, for the inverter.

use std::collections::BTreeSet;

use burn::tensor::{Device, Tensor, TensorData};
use ndarray::{Array2, s};
use rand::Rng;
use rayon::prelude::*;

use super::{FeatureSet, Item, LinearEstimate, Sampler, Standardizer};
use crate::Result;
use crate::features::FeatureFile;
use crate::nn::Lengths;

/// Input and target of every file of a set, in memory: 0.9 GB for an hour at the default settings.
pub struct PairDataset {
    /// Of each file, for people.
    names: Vec<String>,
    pairs: Vec<Pair>,
    /// How inputs are standardised, and what the network corrects, if it does.
    correction: Option<(Standardizer, LinearEstimate)>,
}

struct Pair {
    /// The network's input, `[frames, mels]`.
    input: Array2<f32>,
    /// What it is to predict, `[frames, bins]`, ln power: the spectrum, or the spectrum less its estimate.
    target: Array2<f32>,
}

/// A padded batch.
pub struct PairBatch {
    /// `[batch, frames, mels]`
    pub input: Tensor<3>,
    /// What the network is to predict, `[batch, frames, bins]`.
    pub target: Tensor<3>,
    /// Real frames of each item; what lies beyond is zero.
    pub lengths: Lengths,
}

impl PairDataset {
    /// Reads every file. With `standardizer` the inputs are standardised and the targets are what corrects the estimate of
    /// [`LinearEstimate`]; without it, inputs are raw log-mels and targets the spectra themselves.
    ///
    /// # Errors
    /// If a file cannot be read.
    pub fn load(set: &FeatureSet, standardizer: Option<&Standardizer>) -> Result<Self> {
        let estimate = |by: &Standardizer| LinearEstimate::new(set.config()).map(|of| (by.clone(), of));
        let correction = standardizer.map(estimate).transpose()?;
        let read = |path| -> Result<Pair> {
            let (input, target) = FeatureFile::read_spectra(path)?;
            Ok(match &correction {
                Some((standardizer, estimate)) => {
                    Pair { target: target - estimate.log_power(input.view()), input: standardizer.apply(input.view()) }
                }
                None => Pair { input, target },
            })
        };
        let pairs = set.entries.par_iter().map(|entry| read(&entry.path)).collect::<Result<Vec<_>>>()?;
        Ok(Self { names: set.entries.iter().map(|entry| entry.name.clone()).collect(), pairs, correction })
    }

    /// The log-power spectrum `[frames, bins]` that `of_network`, a target or what was predicted for `item`, stands for.
    pub fn spectrum(&self, item: Item, of_network: Array2<f32>) -> Array2<f32> {
        let Some((standardizer, estimate)) = &self.correction else { return of_network };
        let input = self.pairs[item.file].input.slice(s![item.start..item.start + item.frames, ..]);
        of_network + estimate.log_power(standardizer.undo(input).view())
    }

    /// All files as pieces of at most `longest` frames, one after the other.
    pub fn items(&self, longest: usize) -> Vec<Item> {
        let pieces = |(file, pair): (usize, &Pair)| {
            let frames = pair.input.nrows();
            let starts = (0..frames).step_by(longest);
            starts.map(move |start| Item { file, start, frames: longest.min(frames - start) }).collect::<Vec<_>>()
        };
        self.pairs.iter().enumerate().flat_map(pieces).collect()
    }

    /// Epochs of crops of `crop_frames` frames at random offsets, or of whole files if it is 0. Files shorter than a crop come
    /// whole.
    pub fn sampler(&self, seed: u64, crop_frames: usize) -> Sampler {
        let lengths: Vec<usize> = self.pairs.iter().map(|pair| pair.input.nrows()).collect();
        Sampler::new(seed, move |rng| {
            let mut items = Vec::new();
            for (file, &frames) in lengths.iter().enumerate() {
                if crop_frames == 0 || frames <= crop_frames {
                    items.push(Item { file, start: 0, frames });
                    continue;
                }
                let offset = rng.random_range(0..crop_frames.min(frames - crop_frames + 1));
                let starts = (offset..=frames - crop_frames).step_by(crop_frames);
                items.extend(starts.map(|start| Item { file, start, frames: crop_frames }));
            }
            items
        })
    }

    /// The names of the files that items are of, each once.
    pub fn names(&self, items: &[Item]) -> BTreeSet<String> {
        items.iter().map(|item| self.names[item.file].clone()).collect()
    }

    /// The items padded to the longest of them.
    pub fn batch(&self, items: &[Item], device: &Device) -> PairBatch {
        let frames = items.iter().map(|item| item.frames).max().expect("a batch has at least one item");
        let gather = |of: &dyn Fn(&Pair) -> &Array2<f32>| {
            let width = of(&self.pairs[0]).ncols();
            let mut values: Vec<f32> = Vec::with_capacity(items.len() * frames * width);
            for item in items {
                values.extend(of(&self.pairs[item.file]).slice(s![item.start..item.start + item.frames, ..]).iter());
                values.resize(values.len() + (frames - item.frames) * width, 0.0f32);
            }
            Tensor::from_data(TensorData::new(values, [items.len(), frames, width]), device)
        };
        PairBatch {
            input: gather(&|pair| &pair.input),
            target: gather(&|pair| &pair.target),
            lengths: Lengths::new(items.iter().map(|item| item.frames).collect(), frames, device),
        }
    }
}
