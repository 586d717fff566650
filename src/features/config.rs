//! The settings of feature extraction. They travel with the features, into every run, and are compared where two meet.

use std::str::FromStr;

use ndarray::{Array2, ArrayView2, Zip};
use serde::{Deserialize, Serialize};

use crate::audio::SAMPLE_RATES;
use crate::dsp::mel::MelFilterbank;
use crate::dsp::stft::PadMode;
use crate::{Error, Result};

/// Longest transform, in samples.
const MAX_N_FFT: usize = 1 << 16;
/// What counts as silence, in parts of the clip.
const SILENCE: f32 = 0.003;

/// Every number that decides what the features are.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FeatureConfig {
    /// Rate the sound is brought to, in hertz. Default 16 000: speech has little above 8 kHz.
    pub sample_rate: u32,
    /// Samples from one frame to the next. Default 160: 10 ms at 16 kHz.
    pub hop_size: usize,
    /// Samples per transform, even. Default 1024: 64 ms at 16 kHz, which resolves the harmonics of a low voice.
    pub n_fft: usize,
    /// Mel bands. Default 80.
    pub n_filterbank: usize,
    /// Coefficient of the pre-emphasis, 0 for none. Default 0.97.
    pub preemphasis: f64,
    /// Power below which spectra are clipped before the logarithm. Default 1e-4.
    pub clip_before_log: f64,
    /// How far below the loudest frame silence begins, in decibels; `None` leaves it in place. Default 20.
    pub trim_silence_db: Option<f64>,
    /// Whether the sound is divided by its largest absolute value. Default true.
    pub normalize: bool,
    /// What continues the sound beyond its ends. Default reflect.
    pub pad_mode: PadMode,
    /// Lowest frequency of the filterbank, in hertz. Default 125: below lies hum.
    pub f_min: f64,
    /// Highest frequency of the filterbank, in hertz. Default 7600, a little below half of 16 kHz.
    pub f_max: f64,
}

impl Default for FeatureConfig {
    fn default() -> Self {
        Self::of_rate(RatePreset::Khz16)
    }
}

/// A usual sample rate, which settings of its own belong to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RatePreset {
    /// 8 kHz: telephone.
    Khz8,
    /// 16 kHz, the default.
    Khz16,
    /// 22.05 kHz, as many corpora for synthesis have.
    Khz22,
    /// 24 kHz.
    Khz24,
    /// 44.1 kHz.
    Khz44,
}

impl RatePreset {
    const NAMED: [(&str, RatePreset); 5] =
        [("8k", Self::Khz8), ("16k", Self::Khz16), ("22k", Self::Khz22), ("24k", Self::Khz24), ("44k", Self::Khz44)];
}

impl FromStr for RatePreset {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        let found = Self::NAMED.iter().find(|(known, _)| *known == name).map(|&(_, preset)| preset);
        found.ok_or_else(|| Error::Config(format!("{name:?} is not one of 8k, 16k, 22k, 24k and 44k")))
    }
}

impl FeatureConfig {
    /// The defaults at a sample rate: frames every 10 ms, of 64 ms up to 16 kHz as the workshop had them and of 43 to 46 ms above,
    /// which sound better, and bands in a multiple of 8, as the convolutional VAE needs, to a little below half the rate or 16 kHz.
    pub fn of_rate(preset: RatePreset) -> Self {
        let (sample_rate, hop_size, n_fft, n_filterbank, f_max) = match preset {
            RatePreset::Khz8 => (8_000, 80, 512, 40, 3_800.0),
            RatePreset::Khz16 => (16_000, 160, 1024, 80, 7_600.0),
            RatePreset::Khz22 => (22_050, 220, 1024, 80, 10_500.0),
            RatePreset::Khz24 => (24_000, 240, 1024, 80, 11_400.0),
            RatePreset::Khz44 => (44_100, 441, 2048, 96, 16_000.0),
        };
        FeatureConfig {
            sample_rate,
            hop_size,
            n_fft,
            n_filterbank,
            preemphasis: 0.97,
            clip_before_log: 1e-4,
            trim_silence_db: Some(20.0),
            normalize: true,
            pad_mode: PadMode::Reflect,
            f_min: 125.0,
            f_max,
        }
    }

    /// Frequencies per frame of the log spectrum: `n_fft / 2 + 1`.
    pub fn bins(&self) -> usize {
        self.n_fft / 2 + 1
    }

    /// The filterbank these settings describe.
    ///
    /// # Errors
    /// As [`MelFilterbank::new`].
    pub fn filterbank(&self) -> Result<MelFilterbank> {
        MelFilterbank::new(self.sample_rate, self.n_fft, self.n_filterbank, self.f_min, self.f_max)
    }

    /// The power that a log spectrum stands for. What was clipped on the way there was somewhere below the clip: the clip is
    /// subtracted, down to 0.003 of it. Taken for power that was there, it would sound as noise.
    ///
    /// # Shapes
    /// The same: `[frames, bands]`, natural logarithm of power in, power out.
    pub fn power(&self, log_power: ArrayView2<f32>) -> Array2<f32> {
        let clip = self.clip_before_log as f32;
        log_power.mapv(|log| (log.exp() - clip).max(SILENCE * clip))
    }

    /// The [`power`](Self::power), if what was clipped is `known`, about and from elsewhere: of a power `p`, the part `(clip / p)^2`
    /// is taken from there, but no less than 0.003 of the clip and no more than all of it. So what lies at the clip is `known`, at
    /// twice the clip a quarter of it, far above nothing, and what a model says near the clip, now above and now below, does not
    /// jump.
    ///
    /// # Shapes
    /// Twice the same: `[frames, bands]`, natural logarithm of power and power in, power out.
    ///
    /// # Panics
    /// If the shapes differ.
    pub fn power_beside(&self, log_power: ArrayView2<f32>, known: ArrayView2<f32>) -> Array2<f32> {
        assert_eq!(log_power.dim(), known.dim(), "spectra of other frames or bands");
        let clip = self.clip_before_log as f32;
        Zip::from(log_power).and(known).map_collect(|log, &known| {
            let power = log.exp();
            let share = (clip / power).min(1.0).powi(2);
            power + (known.clamp(SILENCE * clip, clip) - power) * share
        })
    }

    /// Whether features can be made with these settings.
    ///
    /// # Errors
    /// [`Error::Config`] with the first flag that cannot work, its value, and the values that do.
    pub fn validate(&self) -> Result<()> {
        let (low, high) = (SAMPLE_RATES.start(), SAMPLE_RATES.end());
        let checks = [
            (SAMPLE_RATES.contains(&self.sample_rate), "sample-rate", self.sample_rate.to_string(), {
                format!("must be {low} to {high} Hz")
            }),
            (
                (2..=MAX_N_FFT).contains(&self.n_fft) && self.n_fft.is_multiple_of(2),
                "n-fft",
                self.n_fft.to_string(),
                format!("must be even and from 2 to {MAX_N_FFT}"),
            ),
            (
                (1..=self.n_fft).contains(&self.hop_size),
                "hop-size",
                self.hop_size.to_string(),
                format!("must be from 1 to --n-fft {}: longer hops leave samples out", self.n_fft),
            ),
            (
                (1..=self.bins()).contains(&self.n_filterbank),
                "n-filterbank",
                self.n_filterbank.to_string(),
                format!("must be from 1 to {}, the bins of --n-fft {}", self.bins(), self.n_fft),
            ),
            (
                (0.0..1.0).contains(&self.preemphasis),
                "preemphasis",
                self.preemphasis.to_string(),
                "must be at least 0 and below 1".into(),
            ),
            (
                (1e-30..=1e30).contains(&self.clip_before_log),
                "clip-before-log",
                self.clip_before_log.to_string(),
                "must be a positive power, such as 0.0001".into(),
            ),
            (
                self.trim_silence_db.is_none_or(|db| db.is_finite() && db > 0.0),
                "trim-silence-db",
                self.trim_silence_db.unwrap_or_default().to_string(),
                "must be above 0; --no-trim turns trimming off".into(),
            ),
        ];
        if let Some((_, flag, value, need)) = checks.into_iter().find(|(holds, ..)| !holds) {
            return Err(Error::Config(format!("--{flag} {value} {need}")));
        }
        self.filterbank().map(drop)
    }

    /// One line for each setting that differs, with both values: `self`'s, then `other`'s.
    pub fn differences(&self, other: &FeatureConfig) -> Vec<String> {
        let trim = |config: &FeatureConfig| config.trim_silence_db.map_or("none".into(), |db| db.to_string());
        let fields = |c: &FeatureConfig| {
            [
                ("sample_rate", c.sample_rate.to_string()),
                ("hop_size", c.hop_size.to_string()),
                ("n_fft", c.n_fft.to_string()),
                ("n_filterbank", c.n_filterbank.to_string()),
                ("preemphasis", c.preemphasis.to_string()),
                ("clip_before_log", c.clip_before_log.to_string()),
                ("trim_silence_db", trim(c)),
                ("normalize", c.normalize.to_string()),
                ("pad_mode", c.pad_mode.to_string()),
                ("f_min", c.f_min.to_string()),
                ("f_max", c.f_max.to_string()),
            ]
        };
        let pairs = fields(self).into_iter().zip(fields(other));
        pairs
            .filter(|(ours, theirs)| ours != theirs)
            .map(|((name, a), (_, b))| format!("{name}: {a} and {b}"))
            .collect()
    }
}
