//! Mel and linear spectra of the same audio, for the inverter.

use std::collections::BTreeSet;

use burn::tensor::{Device, Tensor, TensorData};
use ndarray::Array2;
use rand::Rng;

use super::batch::Padded;
use super::spectra::Spectra;
use super::{
    Augment, Augmenter, Dataset, Drawn, FeatureSet, Item, LinearEstimate, Position, Room, Sampler, Standardizer,
};
use crate::features::{FeatureFile, Spectrum};
use crate::nn::Lengths;
use crate::{Error, Result, random};

/// Log-mel and log spectra of every file of a set: 0.9 GB for an hour at the default settings.
pub struct PairDataset {
    spectra: Spectra,
    lengths: Vec<usize>,
    /// Mels and bins.
    widths: [usize; 2],
    /// How inputs are standardised, and what the network corrects, if it does.
    correction: Option<(Standardizer, LinearEstimate)>,
    augmented: Option<Augmented>,
    /// What batches are padded to at least, and whether any ever is.
    padded: (usize, bool),
}

/// What is changed in training.
struct Augmented {
    augmenter: Augmenter,
    seed: u64,
}

/// A padded batch in the memory of the CPU, all of it `[batch, frames, ...]`.
pub struct PairValues {
    input: TensorData,
    /// What the network is to predict, if that is not the spectrum itself.
    target: Option<TensorData>,
    spectrum: TensorData,
    lengths: Vec<usize>,
    masked: bool,
}

/// A padded batch.
pub struct PairBatch {
    /// `[batch, frames, mels]`
    pub input: Tensor<3>,
    /// What the network is to predict, `[batch, frames, bins]`.
    pub target: Tensor<3>,
    /// Linear ln power, `[batch, frames, bins]`: the target itself, or what it and the estimate that it corrects add up to.
    pub spectrum: Tensor<3>,
    /// Real frames of each item; what lies beyond is zero.
    pub lengths: Lengths,
}

impl PairDataset {
    /// Reads as many files as there is `room` for. With `standardizer` the inputs are standardised and the targets are what
    /// corrects the estimate of [`LinearEstimate`]; without it, inputs are raw log-mels and targets the spectra themselves.
    ///
    /// # Errors
    /// If a file cannot be read.
    pub fn load(set: &FeatureSet, standardizer: Option<&Standardizer>, room: &mut Room) -> Result<Self> {
        let estimate = |by: &Standardizer| LinearEstimate::new(set.config()).map(|of| (by.clone(), of));
        let correction = standardizer.map(estimate).transpose()?;
        let spectra = Spectra::open(set.entries.iter().collect(), &[Spectrum::Logmel, Spectrum::Logspec], room)?;
        let (lengths, widths) = (spectra.lengths(), [set.config().n_filterbank, set.config().bins()]);
        Ok(Self { spectra, lengths, widths, correction, augmented: None, padded: (0, false) })
    }

    /// The same with crops of `set`, which it was loaded from, changed as `augment` says; `seed` and their place in the order
    /// decide how. Their sound is read from the file each time.
    ///
    /// # Errors
    /// If the first file holds no sound, which `--no-au` leaves out.
    pub fn augmented(self, set: &FeatureSet, augment: Augment, seed: u64) -> Result<Self> {
        let first = &set.entries[0].path;
        if !FeatureFile::has_sound(first)? {
            let message = "holds no sound (au) to augment: extract the features without --no-au, or give --augment 0";
            return Err(Error::file(first, message));
        }
        let augmenter = Augmenter::new(augment, set.config())?;
        Ok(Self { augmented: Some(Augmented { augmenter, seed }), ..self })
    }

    /// The same with batches of at least so many frames, all of them masked if some file is shorter: then all are alike.
    pub fn padded_to(self, frames: usize) -> Self {
        Self { padded: (frames, self.lengths.iter().any(|&length| length < frames)), ..self }
    }

    /// All files as pieces of at most `longest` frames, one after the other.
    pub fn items(&self, longest: usize) -> Vec<Item> {
        let pieces = |(file, &frames): (usize, &usize)| {
            let starts = (0..frames).step_by(longest);
            starts.map(move |start| Item::new(file, start, longest.min(frames - start))).collect::<Vec<_>>()
        };
        self.lengths.iter().enumerate().flat_map(pieces).collect()
    }

    /// Epochs of crops of `crop_frames` frames at random offsets, or of whole files if it is 0. Files shorter than a crop come
    /// whole.
    pub fn sampler(&self, seed: u64, crop_frames: usize) -> Sampler {
        let lengths = self.lengths.clone();
        Sampler::new(seed, move |rng| {
            let mut items = Vec::new();
            for (file, &frames) in lengths.iter().enumerate() {
                if crop_frames == 0 || frames <= crop_frames {
                    items.push(Item::new(file, 0, frames));
                    continue;
                }
                let offset = rng.random_range(0..crop_frames.min(frames - crop_frames + 1));
                let starts = (offset..=frames - crop_frames).step_by(crop_frames);
                items.extend(starts.map(|start| Item::new(file, start, crop_frames)));
            }
            items
        })
    }

    /// The names of the files that items are of, each once.
    pub fn names(&self, items: &[Item]) -> BTreeSet<String> {
        self.spectra.names(items)
    }
}

impl PairDataset {
    /// Log-mel and log spectrum of an item, the `index`-th of the batch at `at`.
    fn spectra(&self, item: Item, index: usize, at: Position) -> Result<[Array2<f32>; 2]> {
        if let Some(Augmented { augmenter, seed }) = &self.augmented {
            let place = (at.epoch << 32) + (at.used + index) as u64;
            let rng = &mut random::stream(*seed, "augment", place);
            if augmenter.chooses(rng) {
                let reader = self.spectra.reader(item);
                let read = |range| reader.read_sound(range);
                if let Some(changed) = augmenter.draw(reader.samples(), read, item, rng)? {
                    return Ok(changed);
                }
            }
        }
        self.spectra.read(item)
    }
}

impl Dataset for PairDataset {
    type Batch = PairValues;

    /// The items padded to the longest of them.
    fn batch(&self, items: &[Item], at: Position) -> Result<PairValues> {
        let lengths: Vec<usize> = items.iter().map(|item| item.frames as usize).collect();
        let (least, masked) = self.padded;
        let frames = lengths.iter().copied().max().expect("a batch has at least one item").max(least);
        let [mels, bins] = self.widths;
        let mut input = Padded::new(items.len(), frames, mels);
        let mut target = self.correction.as_ref().map(|_| Padded::new(items.len(), frames, bins));
        let mut spectrum = Padded::new(items.len(), frames, bins);
        for (index, &item) in items.iter().enumerate() {
            let [logmel, logspec] = self.spectra(item, index, at)?;
            match (&self.correction, &mut target) {
                (Some((standardizer, estimate)), Some(target)) => {
                    target.push(&(&logspec - &estimate.log_power(logmel.view())));
                    input.push(&standardizer.apply(logmel.view()));
                }
                _ => input.push(&logmel),
            }
            spectrum.push(&logspec);
        }
        let (input, target, spectrum) = (input.data(), target.map(Padded::data), spectrum.data());
        Ok(PairValues { input, target, spectrum, lengths, masked })
    }
}

impl PairValues {
    /// Input and target, without what only shows.
    pub(crate) fn for_training(self) -> Drawn {
        Drawn {
            arrays: vec![self.input, self.target.unwrap_or(self.spectrum)],
            lengths: self.lengths,
            masked: self.masked,
        }
    }

    /// The batch on a device.
    pub fn on(self, device: &Device) -> PairBatch {
        let frames = self.input.shape()[1];
        let spectrum = Tensor::from_data(self.spectrum, device);
        PairBatch {
            input: Tensor::from_data(self.input, device),
            target: self.target.map_or_else(|| spectrum.clone(), |target| Tensor::from_data(target, device)),
            spectrum,
            lengths: Lengths::new(self.lengths, frames, device),
        }
    }
}
