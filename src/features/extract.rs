//! One recording to its features: resample, trim, normalise, emphasise, transform, weigh into bands, take logarithms.

use std::ops::Range;

use ndarray::{Array2, ArrayViewMut1};

use super::{BandSums, Contents, FeatureConfig, FeatureMeta, Features, VERSION};
use crate::audio::Waveform;
use crate::dsp::emphasis::pre_emphasis;
use crate::dsp::mel::MelFilterbank;
use crate::dsp::stft::Stft;
use crate::dsp::trim::trim_silence;
use crate::kernels::math::{Work, ln, vectorized};
use crate::{Error, Result};

/// Added after clipping, as the original workshop did.
const LOG_OFFSET: f32 = 1e-10;

/// Turns waveforms into features; planned once, shared by any number of threads.
///
/// Samples are taken through the chain in f64: in f32 the rounding of loud partials would show in quiet bins, by more
/// than the 1e-3 that separates two good implementations.
pub struct FeatureExtractor {
    config: FeatureConfig,
    stft: Stft<f64>,
    filterbank: MelFilterbank,
}

impl FeatureExtractor {
    /// Plans the transforms and the filterbank for `config`.
    ///
    /// # Errors
    /// As [`FeatureConfig::validate`].
    pub fn new(config: FeatureConfig) -> Result<Self> {
        config.validate()?;
        let stft = Stft::new(config.n_fft, config.hop_size, config.pad_mode);
        let filterbank = config.filterbank()?;
        Ok(FeatureExtractor { config, stft, filterbank })
    }

    /// The settings it was made with.
    pub fn config(&self) -> &FeatureConfig {
        &self.config
    }

    /// The features of `waveform`, at any sample rate and from one sample on.
    ///
    /// # Shapes
    /// `[len]` -> `au [len]`, `logspec [1 + len / hop, bins]`, `logmel [1 + len / hop, n_filterbank]`, with the `len` that
    /// resampling and trimming leave.
    ///
    /// # Errors
    /// [`Error::Config`] if the waveform is empty, holds NaN or infinite samples, or is so loud (without
    /// normalisation) that its power is beyond f32.
    pub fn extract(&self, waveform: &Waveform) -> Result<Features> {
        self.extract_contents(waveform, Contents::ALL)
    }

    /// As [`extract`](Self::extract), without the work for the arrays that `contents` leaves out, which are empty.
    ///
    /// # Errors
    /// As [`extract`](Self::extract); power beyond f32 is found in what is made.
    pub fn extract_contents(&self, waveform: &Waveform, contents: Contents) -> Result<Features> {
        if waveform.samples.is_empty() {
            return Err(Error::Config("there are no samples to extract features from".into()));
        }
        if let Some(at) = waveform.samples.iter().position(|x| !x.is_finite()) {
            return Err(Error::Config(format!("sample {at} is {}", waveform.samples[at])));
        }
        let (sound, kept, gain) = self.prepare(waveform)?;
        let emphasised = pre_emphasis(sound, self.config.preemphasis);
        let (logspec, logmel) = self.log_spectra(&emphasised, contents);
        let bands = BandSums::of(&logmel);
        if !bands.finite || logspec.iter().any(|x| !x.is_finite()) {
            return Err(Error::Config("the sound is too loud for f32 spectra: normalise it".into()));
        }
        let meta = FeatureMeta {
            config: self.config.clone(),
            source_rate: waveform.sample_rate,
            source_samples: waveform.samples.len() as u64,
            trim_start: kept.start as u64,
            trim_end: kept.end as u64,
            gain,
            frames: logmel.nrows() as u64,
            bands,
            version: VERSION,
        };
        let au = if contents.au { emphasised.into_iter().map(|x| x as f32).collect() } else { Vec::new() };
        Ok(Features { au, logspec, logmel, meta })
    }

    /// The sound at its rate, trimmed and normalised; what was kept of it, and what it was divided by.
    fn prepare(&self, waveform: &Waveform) -> Result<(Vec<f64>, Range<usize>, f64)> {
        let resampled;
        let samples = if waveform.sample_rate == self.config.sample_rate {
            &waveform.samples
        } else {
            resampled = waveform.resample(self.config.sample_rate)?.samples;
            &resampled
        };
        let kept = self.config.trim_silence_db.map_or(0..samples.len(), |db| trim_silence(samples, db));
        let samples = &samples[kept.clone()];
        let gain = if self.config.normalize { peak(samples) } else { 1.0 };
        Ok((samples.iter().map(|&x| f64::from(x) / gain).collect(), kept, gain))
    }

    /// `[len]` -> `[frames, bins]`, or `[0, bins]` if left out, and `[frames, n_filterbank]`, one frame at a time.
    pub(crate) fn log_spectra(&self, signal: &[f64], contents: Contents) -> (Array2<f32>, Array2<f32>) {
        let frames = self.stft.frames(signal.len());
        let mut logspec = Array2::zeros((if contents.logspec { frames } else { 0 }, self.stft.bins()));
        let mut logmel = Array2::zeros((frames, self.filterbank.n_mels()));
        let mut power = vec![0.0; self.stft.bins()];
        let mut sums = vec![0.0; self.filterbank.n_mels()];
        let clip = self.config.clip_before_log as f32;
        self.stft.for_each_frame(signal, &mut self.stft.scratch(), |t, spectrum| {
            power.iter_mut().zip(spectrum).for_each(|(p, bin)| *p = bin.norm_sqr());
            sums.iter_mut().zip(self.filterbank.bands()).for_each(|(sum, band)| *sum = band.weigh(&power));
            let logarithms = |powers, mut row: ArrayViewMut1<f32>| {
                let out = row.as_slice_mut().expect("rows of arrays just made are contiguous");
                vectorized(Logarithms { powers, clip, out });
            };
            logarithms(&sums, logmel.row_mut(t));
            if contents.logspec {
                logarithms(&power, logspec.row_mut(t));
            }
        });
        (logspec, logmel)
    }
}

/// The logarithm of each power, clipped: for vector instructions.
struct Logarithms<'a> {
    powers: &'a [f64],
    clip: f32,
    out: &'a mut [f32],
}

impl Work for Logarithms<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        for (out, &power) in self.out.iter_mut().zip(self.powers) {
            let clipped = (power as f32).max(self.clip) + LOG_OFFSET;
            // What is beyond f32 must show: `ln` gives a number for infinity too.
            *out = ln(clipped) + 0.0 * clipped;
        }
    }
}

/// The largest absolute value, or 1 if all are zero.
fn peak(samples: &[f32]) -> f64 {
    let peak = samples.iter().fold(0.0f32, |peak, x| peak.max(x.abs()));
    if peak > 0.0 { f64::from(peak) } else { 1.0 }
}
