//! Training sounds at another speed and level, cut between the frames: speech that nobody recorded.

use std::ops::Range;

use ndarray::{Array2, s};
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::Item;
use crate::Result;
use crate::audio::{SAMPLE_RATES, Waveform};
use crate::features::{Contents, FeatureConfig, FeatureExtractor};

/// How far a training crop may be moved from what was recorded. Each number is drawn evenly from its range.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Augment {
    /// Share of crops that are changed.
    pub share: f64,
    /// Speed changes pitch and formants together, by up to so many whole semitones up or down.
    pub semitones: u32,
    /// The level changes by up to so many decibels up or down.
    pub decibels: f64,
}

/// Analyses changed sounds as the recorded ones were.
pub struct Augmenter {
    augment: Augment,
    extractor: FeatureExtractor,
    /// Frames at each end of an analysis that see beyond the sound.
    edge: usize,
}

/// Of the rates that stand for other speeds, in hertz: few different ones need few resamplers.
const RATE_STEP: f64 = 50.0;

impl Augmenter {
    /// # Errors
    /// If the feature configuration is impossible.
    pub fn new(augment: Augment, features: &FeatureConfig) -> Result<Self> {
        let edge = (features.n_fft / 2).div_ceil(features.hop_size);
        Ok(Self { augment, extractor: FeatureExtractor::new(features.clone())?, edge })
    }

    /// Whether the next item is to be changed.
    pub fn chooses(&self, rng: &mut ChaCha8Rng) -> bool {
        rng.random::<f64>() < self.augment.share
    }

    /// Log-mel `[frames, mels]` and log power `[frames, bins]` of a changed sound, from about where `item` lies in a file of so
    /// many samples, which `read` gives; `None` if they are too few.
    ///
    /// # Errors
    /// As `read`.
    pub fn draw(
        &self,
        samples: u64,
        read: impl FnOnce(Range<usize>) -> Result<Vec<f32>>,
        item: Item,
        rng: &mut ChaCha8Rng,
    ) -> Result<Option<[Array2<f32>; 2]>> {
        let FeatureConfig { sample_rate, hop_size, .. } = *self.extractor.config();
        let range = i32::try_from(self.augment.semitones).unwrap_or(i32::MAX);
        let speed = 2f64.powf(f64::from(rng.random_range(-range..=range)) / 12.0);
        let gain = 10f64.powf(self.augment.decibels * rng.random_range(-1.0..=1.0) / 20.0);
        let shift: f64 = rng.random_range(-0.5..0.5);
        let rate = RATE_STEP * (f64::from(sample_rate) * speed / RATE_STEP).round();
        let rate = rate.clamp(f64::from(*SAMPLE_RATES.start()), f64::from(*SAMPLE_RATES.end()));
        let wanted = (item.frames as usize - 1 + 2 * self.edge) * hop_size + 1;
        let needed = (wanted as f64 * rate / f64::from(sample_rate)).ceil() as usize;
        let Some(last) = usize::try_from(samples).ok().and_then(|samples| samples.checked_sub(needed)) else {
            return Ok(None);
        };
        let first = (f64::from(item.start) + shift - self.edge as f64) * hop_size as f64;
        let first = (first.max(0.0) as usize).min(last);
        let piece = Waveform { samples: read(first..first + needed)?, sample_rate: rate as u32 };
        let piece: Vec<f64> = piece.resample(sample_rate)?.samples.iter().map(|x| f64::from(*x) * gain).collect();
        let (logspec, logmel) = self.extractor.log_spectra(&piece[..wanted], Contents::ALL);
        let inside = |all: Array2<f32>| all.slice_move(s![self.edge..self.edge + item.frames as usize, ..]);
        Ok(Some([inside(logmel), inside(logspec)]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random;

    fn tone(hertz: f32) -> Vec<f32> {
        (0..32_000).map(|n| 0.5 * (std::f32::consts::TAU * hertz * n as f32 / 16_000.0).sin()).collect()
    }

    fn drawn(by: &Augmenter, sound: &[f32], item: Item, rng: &mut ChaCha8Rng) -> Option<[Array2<f32>; 2]> {
        by.draw(sound.len() as u64, |range| Ok(sound[range].to_vec()), item, rng).unwrap()
    }

    fn loudest(logspec: &Array2<f32>) -> Vec<usize> {
        let index = |row: ndarray::ArrayView1<f32>| (0..row.len()).max_by(|a, b| row[*a].total_cmp(&row[*b])).unwrap();
        logspec.rows().into_iter().map(index).collect()
    }

    #[test]
    fn a_tone_moves_by_whole_semitones_and_decibels_within_their_ranges() {
        let augment = Augment { share: 1.0, semitones: 3, decibels: 6.0 };
        let augmenter = Augmenter::new(augment, &FeatureConfig::default()).unwrap();
        let plain = FeatureExtractor::new(FeatureConfig::default()).unwrap();
        let wide: Vec<f64> = tone(1000.0).into_iter().map(f64::from).collect();
        let level = plain.log_spectra(&wide, Contents::ALL).0[[80, 64]];
        let mut found = std::collections::BTreeSet::new();
        for index in 0..40 {
            let rng = &mut random::stream(1, "test", index);
            let [logmel, logspec] = drawn(&augmenter, &tone(1000.0), Item::new(0, 20, 100), rng).unwrap();
            assert_eq!((logmel.dim(), logspec.dim()), ((100, 80), (100, 513)));
            let bins = loudest(&logspec);
            assert!(bins.iter().all(|bin| bin.abs_diff(bins[0]) <= 1), "{bins:?}");
            let semitones = 12.0 * (bins[50] as f64 / 64.0).log2();
            assert!(semitones.abs() < 3.3, "{semitones}");
            found.insert(semitones.round() as i32);
            let decibels = (logspec[[50, bins[50]]] - level) * 10.0 / std::f32::consts::LN_10;
            assert!(decibels < 6.1 && decibels > -7.6, "{decibels} dB"); // a tone between two bins is up to 1.4 dB lower in both
        }
        assert_eq!(found, (-3..=3).collect());
    }

    #[test]
    fn without_a_range_only_the_place_changes_and_short_sounds_stay_as_they_are() {
        let augment = Augment { share: 1.0, semitones: 0, decibels: 0.0 };
        let augmenter = Augmenter::new(augment, &FeatureConfig::default()).unwrap();
        let chirp: Vec<f32> = (0..32_000).map(|n| 0.5 * (0.1 * n as f32 + 1e-5 * (n as f32).powi(2)).sin()).collect();
        let plain = FeatureExtractor::new(FeatureConfig::default()).unwrap();
        let whole = plain.log_spectra(&chirp.iter().copied().map(f64::from).collect::<Vec<_>>(), Contents::ALL).0;
        let rng = &mut random::stream(1, "test", 0);
        let [_, logspec] = drawn(&augmenter, &chirp, Item::new(0, 50, 60), rng).unwrap();
        let near = |frame: usize| loudest(&whole)[50 + frame].abs_diff(loudest(&logspec)[frame]);
        assert!((0..60).all(|frame| near(frame) <= 1));
        assert!(drawn(&augmenter, &chirp[..9000], Item::new(0, 0, 60), rng).is_none());
    }

    #[test]
    fn the_lowest_rate_that_features_have_is_augmented_too() {
        let features = FeatureConfig {
            sample_rate: 1000,
            hop_size: 10,
            n_fft: 64,
            n_filterbank: 8,
            f_min: 50.0,
            f_max: 400.0,
            ..FeatureConfig::default()
        };
        let augment = Augment { share: 1.0, semitones: 12, decibels: 0.0 };
        let augmenter = Augmenter::new(augment, &features).unwrap();
        for index in 0..20 {
            let rng = &mut random::stream(1, "test", index);
            let [logmel, _] = drawn(&augmenter, &tone(1600.0), Item::new(0, 20, 100), rng).unwrap();
            assert_eq!(logmel.dim(), (100, 8));
        }
    }
}
