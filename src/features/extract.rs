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
        if waveform.samples.is_empty() {
            return Err(Error::Config("there are no samples to extract features from".into()));
        }
        if let Some(at) = waveform.samples.iter().position(|x| !x.is_finite()) {
            return Err(Error::Config(format!("sample {at} is {}", waveform.samples[at])));
        }
        let (sound, kept, gain) = self.prepare(waveform)?;
        let sound = &sound[kept.clone()];
        let mut spectra = Gathered::of(self, sound.len(), contents);
        self.each_frame_of(sound.chunks(PART).map(|part| Ok(part.to_vec())), gain, contents, spectra.taking())?;
        let (logspec, logmel) = spectra.matrices(self);
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
        let mut previous = 0.0;
        let mut au = Vec::with_capacity(if contents.au { sound.len() } else { 0 });
        for part in sound.chunks(PART).take_while(|_| contents.au) {
            au.extend(self.emphasised(part, gain, &mut previous).into_iter().map(|x| x as f32));
        }
        Ok(Features { au, logspec, logmel, meta })
    }

    /// The sound at its rate; what trimming leaves of it, and what that is to be divided by.
    fn prepare<'a>(&self, waveform: &'a Waveform) -> Result<(Cow<'a, [f32]>, Range<usize>, f64)> {
        let samples = if waveform.sample_rate == self.config.sample_rate {
            Cow::Borrowed(&waveform.samples[..])
        } else {
            Cow::Owned(waveform.resample(self.config.sample_rate)?.samples)
        };
        let kept = self.config.trim_silence_db.map_or(0..samples.len(), |db| trim_silence(&samples, db));
        let gain = if self.config.normalize { peak(&samples[kept.clone()]) } else { 1.0 };
        Ok((samples, kept, gain))
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
        let mut spectra = Gathered::of(self, signal.len(), contents);
        let frames = 0..self.stft.frames(signal.len());
        self.each_frame(signal, frames, contents, spectra.taking()).expect("memory takes what it has room for");
        spectra.matrices(self)
    }
}

/// Frames one after the other.
struct Gathered {
    logspec: Vec<f32>,
    logmel: Vec<f32>,
}

impl Gathered {
    /// With room for those of `len` samples.
    fn of(extractor: &FeatureExtractor, len: usize, contents: Contents) -> Self {
        let frames = extractor.stft.frames(len);
        let bins = if contents.logspec { extractor.stft.bins() } else { 0 };
        Self {
            logspec: Vec::with_capacity(frames * bins),
            logmel: Vec::with_capacity(frames * extractor.filterbank.n_mels()),
        }
    }

    fn taking(&mut self) -> impl FnMut(&[f32], &[f32]) -> Result<()> {
        |logspec, logmel| {
            self.logspec.extend_from_slice(logspec);
            self.logmel.extend_from_slice(logmel);
            Ok(())
        }
    }

    fn matrices(self, extractor: &FeatureExtractor) -> (Array2<f32>, Array2<f32>) {
        let matrix = |values: Vec<f32>, columns: usize| {
            Array2::from_shape_vec((values.len() / columns, columns), values).expect("whole frames were given")
        };
        (matrix(self.logspec, extractor.stft.bins()), matrix(self.logmel, extractor.filterbank.n_mels()))
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
