//! One recording to its features: resample, trim, normalise, emphasise, transform, weigh into bands, take logarithms.

use std::borrow::Cow;
use std::ops::Range;

use ndarray::Array2;

use super::{BandSums, Contents, FeatureConfig, FeatureMeta, Features, VERSION};
use crate::audio::Waveform;
use crate::dsp::emphasis::pre_emphasis_on;
use crate::dsp::mel::MelFilterbank;
use crate::dsp::stft::Stft;
use crate::dsp::trim::trim_silence;
use crate::kernels::math::{Work, ln, vectorized};
use crate::{Error, Result};

/// Samples that are taken through the chain at once.
const PART: usize = 1 << 16;
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
        self.prepare(Cow::Borrowed(waveform))?.features(contents)
    }

    /// Brings `waveform` to the rate of the features and looks where it begins, where it ends and how loud it is.
    ///
    /// # Errors
    /// [`Error::Config`] if it is empty or holds NaN or infinite samples.
    pub fn prepare<'a>(&'a self, waveform: Cow<'a, Waveform>) -> Result<Prepared<'a>> {
        if waveform.samples.is_empty() {
            return Err(Error::Config("there are no samples to extract features from".into()));
        }
        if let Some(at) = waveform.samples.iter().position(|x| !x.is_finite()) {
            return Err(Error::Config(format!("sample {at} is {}", waveform.samples[at])));
        }
        let (source_rate, source_samples) = (waveform.sample_rate, waveform.samples.len() as u64);
        let samples = match waveform {
            other if source_rate != self.config.sample_rate => {
                Cow::Owned(other.resample(self.config.sample_rate)?.samples)
            }
            Cow::Borrowed(waveform) => Cow::Borrowed(&waveform.samples[..]),
            Cow::Owned(waveform) => Cow::Owned(waveform.samples),
        };
        let kept = self.config.trim_silence_db.map_or(0..samples.len(), |db| trim_silence(&samples, db));
        let gain = if self.config.normalize { peak(&samples[kept.clone()]) } else { 1.0 };
        Ok(Prepared { extractor: self, samples, kept, gain, source_rate, source_samples })
    }

    /// The next part of a sound, divided by `gain` and emphasised; `previous` is the sample before it, divided, or 0.
    fn emphasised(&self, part: &[f32], gain: f64, previous: &mut f64) -> Vec<f64> {
        let mut part: Vec<f64> = part.iter().map(|&x| f64::from(x) / gain).collect();
        pre_emphasis_on(&mut part, self.config.preemphasis, previous);
        part
    }

    /// Hands the frames of a sound that comes in parts to `give`, one by one: the linear log spectrum, empty if it is left out,
    /// and the log-mel spectrum. The sound is divided by `gain` first. Memory does not grow with its length.
    ///
    /// # Errors
    /// Those of the parts and of `give`.
    pub(crate) fn each_frame_of(
        &self,
        parts: impl Iterator<Item = Result<Vec<f32>>>,
        gain: f64,
        contents: Contents,
        mut give: impl FnMut(&[f32], &[f32]) -> Result<()>,
    ) -> Result<()> {
        let (hop, half) = (self.stft.hop(), self.stft.n_fft() / 2);
        // Frames whose samples the next one still needs, or its mirror image at the end.
        let reach = half / hop + 2;
        let mut previous = 0.0;
        // From the centre of frame `first` on.
        let mut signal: Vec<f64> = Vec::new();
        let (mut first, mut next) = (0, 0);
        for part in parts {
            signal.extend(self.emphasised(&part?, gain, &mut previous));
            // Of these the last sample is there, and what the first ones mirror.
            let whole = signal.len().saturating_sub(half).div_ceil(hop);
            if first + whole > next {
                self.each_frame(&signal, next - first..whole, contents, &mut give)?;
                next = first + whole;
                signal.drain(..(next.saturating_sub(reach).saturating_sub(first)) * hop);
                first = first.max(next.saturating_sub(reach));
            }
        }
        self.each_frame(&signal, next - first..self.stft.frames(signal.len()), contents, &mut give)
    }

    /// Hands some frames of an emphasised signal to `give`, as [`each_frame_of`](Self::each_frame_of).
    fn each_frame(
        &self,
        signal: &[f64],
        frames: Range<usize>,
        contents: Contents,
        mut give: impl FnMut(&[f32], &[f32]) -> Result<()>,
    ) -> Result<()> {
        let mut power = vec![0.0; self.stft.bins()];
        let mut sums = vec![0.0; self.filterbank.n_mels()];
        let mut logspec = vec![0.0; if contents.logspec { power.len() } else { 0 }];
        let mut logmel = vec![0.0; sums.len()];
        let clip = self.config.clip_before_log as f32;
        let mut outcome = Ok(());
        self.stft.for_frames(signal, frames, &mut self.stft.scratch(), |_, spectrum| {
            if outcome.is_err() {
                return;
            }
            power.iter_mut().zip(spectrum).for_each(|(p, bin)| *p = bin.norm_sqr());
            sums.iter_mut().zip(self.filterbank.bands()).for_each(|(sum, band)| *sum = band.weigh(&power));
            vectorized(Logarithms { powers: &sums, clip, out: &mut logmel });
            vectorized(Logarithms { powers: &power, clip, out: &mut logspec });
            outcome = give(&logspec, &logmel);
        });
        outcome
    }

    /// `[len]` -> `[frames, bins]`, or `[0, bins]` if left out, and `[frames, n_filterbank]`.
    pub(crate) fn log_spectra(&self, signal: &[f64], contents: Contents) -> (Array2<f32>, Array2<f32>) {
        let frames = self.stft.frames(signal.len());
        let (rows, bins, mels) =
            (if contents.logspec { frames } else { 0 }, self.stft.bins(), self.filterbank.n_mels());
        let (mut logspec, mut logmel) = (Vec::with_capacity(rows * bins), Vec::with_capacity(frames * mels));
        let gather = |spectrum: &[f32], bands: &[f32]| {
            logspec.extend_from_slice(spectrum);
            logmel.extend_from_slice(bands);
            Ok(())
        };
        self.each_frame(signal, 0..frames, contents, gather).expect("memory takes what it has room for");
        let matrix = |shape, values| Array2::from_shape_vec(shape, values).expect("whole frames were given");
        (matrix((rows, bins), logspec), matrix((frames, mels), logmel))
    }
}

/// A recording at the rate of its features, of which spectra are made frame by frame.
pub struct Prepared<'a> {
    extractor: &'a FeatureExtractor,
    samples: Cow<'a, [f32]>,
    /// What trimming leaves.
    kept: Range<usize>,
    /// What that is divided by.
    gain: f64,
    source_rate: u32,
    source_samples: u64,
}

impl Prepared<'_> {
    /// Samples of what is analysed.
    pub fn samples(&self) -> usize {
        self.kept.len()
    }

    /// Values of its linear spectra.
    pub fn bins(&self) -> usize {
        self.extractor.stft.bins()
    }

    /// Its frames.
    pub fn frames(&self) -> usize {
        self.extractor.stft.frames(self.samples())
    }

    /// Everything, with empty arrays for what `contents` leaves out.
    ///
    /// # Errors
    /// As [`spectra`](Self::spectra).
    pub fn features(&self, contents: Contents) -> Result<Features> {
        let mut au = Vec::with_capacity(if contents.au { self.samples() } else { 0 });
        if contents.au {
            self.each_part(|part| {
                au.extend_from_slice(part);
                Ok(())
            })?;
        }
        let frames = if contents.logspec { self.frames() } else { 0 };
        let mut logspec = Vec::with_capacity(frames * self.bins());
        let (logmel, meta) = self.spectra(contents, |row| {
            logspec.extend_from_slice(row);
            Ok(())
        })?;
        let logspec = Array2::from_shape_vec((frames, self.bins()), logspec).expect("whole frames were given");
        Ok(Features { au, logspec, logmel, meta })
    }

    /// Hands what is analysed to `give` part by part: trimmed, normalised, emphasised.
    ///
    /// # Errors
    /// Those of `give`.
    pub fn each_part(&self, mut give: impl FnMut(&[f32]) -> Result<()>) -> Result<()> {
        let mut previous = 0.0;
        for part in self.samples[self.kept.clone()].chunks(PART) {
            let part = self.extractor.emphasised(part, self.gain, &mut previous);
            give(&part.into_iter().map(|x| x as f32).collect::<Vec<_>>())?;
        }
        Ok(())
    }

    /// Hands the linear log spectrum of each frame, `[bins]`, to `give`, nothing if `contents` leaves it out; gives the log-mel
    /// spectrum, `[frames, n_filterbank]`, and the description.
    ///
    /// # Errors
    /// [`Error::Config`] if power is beyond f32, and those of `give`.
    pub fn spectra(
        &self,
        contents: Contents,
        mut give: impl FnMut(&[f32]) -> Result<()>,
    ) -> Result<(Array2<f32>, FeatureMeta)> {
        let Self { extractor, samples, kept, gain, source_rate, source_samples } = self;
        let mels = extractor.filterbank.n_mels();
        let mut logmel = Vec::with_capacity(self.frames() * mels);
        let parts = samples[kept.clone()].chunks(PART).map(|part| Ok(part.to_vec()));
        extractor.each_frame_of(parts, *gain, contents, |spectrum, bands| {
            if spectrum.iter().chain(bands).any(|x| !x.is_finite()) {
                return Err(Error::Config("the sound is too loud for f32 spectra: normalise it".into()));
            }
            logmel.extend_from_slice(bands);
            give(spectrum)
        })?;
        let logmel = Array2::from_shape_vec((self.frames(), mels), logmel).expect("whole frames were given");
        let meta = FeatureMeta {
            config: extractor.config.clone(),
            source_rate: *source_rate,
            source_samples: *source_samples,
            trim_start: kept.start as u64,
            trim_end: kept.end as u64,
            gain: *gain,
            frames: logmel.nrows() as u64,
            bands: BandSums::of(&logmel),
            version: VERSION,
        };
        Ok((logmel, meta))
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
