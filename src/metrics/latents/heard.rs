//! Factors that are heard rather than known: what can be measured of each segment where nobody wrote down the truth.

use std::f64::consts::LN_10;
use std::path::Path;

use ndarray::{Array1, Array2, ArrayView2, s};
use rayon::prelude::*;

use super::encode::Encoded;
use super::scores::Factors;
use super::udr::median;
use crate::Result;
use crate::audio::Waveform;
use crate::data::FeatureSet;
use crate::dsp::emphasis::de_emphasis;
use crate::dsp::mel::{hz_to_mel, mel_to_hz};
use crate::features::{Contents, FeatureConfig, FeatureExtractor, FeatureFile};
use crate::metrics::mean;
use crate::metrics::pitch::PitchTracker;
use crate::synth::Changes;

/// Logarithm of the pitch (pYIN, mean over the frames with a voice, if half of them have one), the share of frames with a
/// voice, logarithm of the mean power in the bands, the slope of the mean spectrum in decibels an octave, and its centroid.
/// The first two need the sound in the feature files.
pub const HEARD: [&str; 5] = ["ln_f0", "voicing", "ln_energy", "tilt_db_per_octave", "centroid_hz"];
/// Pitch trackers need this rate, in hertz.
const LEAST_RATE: u32 = 4000;

/// The factors of each segment, `[segments, 5]`; without sound, a warning says that pitch and voicing are left out.
///
/// # Errors
/// If a file cannot be read.
pub fn heard(set: &FeatureSet, encoded: &Encoded) -> Result<Factors> {
    let config = set.config();
    let has_sound = |name: &String| FeatureFile::has_sound(&set.root.join(name));
    let sounds = encoded.names.par_iter().map(has_sound).collect::<Result<Vec<_>>>()?.into_iter().all(|has| has);
    let tracker =
        (sounds && config.sample_rate >= LEAST_RATE).then(|| PitchTracker::new(config.sample_rate, config.hop_size));
    if tracker.is_none() {
        let root = set.root.display();
        tracing::warn!(
            "{root}: without the sound, or below 4 kHz, pitch and voicing are left out; extract with all arrays"
        );
    }
    let of_file = |(file, name): (usize, &String)| {
        let (logmel, pitch) = read(&set.root.join(name), tracker.as_ref())?;
        let items = encoded.items.iter().filter(|item| item.file as usize == file);
        let rows = items.map(|item| {
            let spectra = logmel.slice(s![item.range(), ..]);
            let [energy, tilt, centroid] = of_spectra(spectra, config);
            let [f0, voicing] = pitch.as_ref().map_or([f64::NAN; 2], |pitch| of_pitch(&pitch[item.range()]));
            [f0, voicing, energy, tilt, centroid]
        });
        Ok(rows.collect::<Vec<_>>())
    };
    let rows: Vec<[f64; 5]> =
        encoded.names.par_iter().enumerate().map(of_file).collect::<Result<Vec<_>>>()?.into_iter().flatten().collect();
    let first = if tracker.is_some() { 0 } else { 2 };
    let values = Array2::from_shape_fn((rows.len(), HEARD.len() - first), |(row, column)| rows[row][first + column]);
    Ok(Factors { names: HEARD[first..].iter().map(|name| name.to_string()).collect(), values })
}

/// What is heard of a whole sound.
pub struct Sounding {
    /// Semitones above 1 Hz of each frame that has a voice; `None` below 4 kHz.
    pitch: Option<Vec<Option<f64>>>,
    decibels: f64,
    tilt: f64,
}

impl Sounding {
    /// Hears a sound; power as in the features that `config` makes of the samples as they are.
    ///
    /// # Errors
    /// If the sound is empty, or too loud for f32 spectra.
    pub fn of(sound: &Waveform, config: &FeatureConfig) -> Result<Self> {
        let as_is = FeatureConfig { trim_silence_db: None, normalize: false, ..config.clone() };
        let logmel = FeatureExtractor::new(as_is)?.extract_contents(sound, Contents::LOGMEL)?.logmel;
        let [energy, tilt, _] = of_spectra(logmel.view(), config);
        let pitch = (sound.sample_rate >= LEAST_RATE).then(|| {
            let hop = config.hop_size * sound.sample_rate as usize / config.sample_rate as usize;
            let samples: Vec<f64> = sound.samples.iter().map(|&sample| f64::from(sample)).collect();
            let frames = PitchTracker::new(sound.sample_rate, hop.max(1)).track(&samples);
            frames.into_iter().map(|hz| hz.map(|hz| 12.0 * hz.log2())).collect()
        });
        Ok(Self { pitch, decibels: 10.0 * energy / LN_10, tilt })
    }

    /// By how much another sound of the same codes but for a move differs, in units and order of
    /// [`Quality::ALL`](crate::synth::Quality::ALL): pitch is the median over frames that have a voice in both, lest frames that
    /// gain or lose theirs pass for a change.
    pub fn change_to(&self, other: &Self) -> Changes {
        let both = self.pitch.as_ref().zip(other.pitch.as_ref());
        let pitch = both.and_then(|(was, is)| {
            let moved = was.iter().zip(is).filter_map(|(was, is)| Some((*is)? - (*was)?));
            median(moved.collect())
        });
        let voicing = both.map(|(was, is)| voiced(is) - voiced(was));
        [pitch, Some(other.decibels - self.decibels), Some(other.tilt - self.tilt), voicing]
    }

    /// Whether a frame has a voice.
    pub fn has_voice(&self) -> bool {
        self.pitch.as_ref().is_some_and(|frames| frames.iter().any(Option::is_some))
    }
}

/// Share of frames that have a voice.
fn voiced(frames: &[Option<f64>]) -> f64 {
    frames.iter().flatten().count() as f64 / frames.len() as f64
}

type Heard = (Array2<f32>, Option<Vec<Option<f64>>>);

fn read(path: &Path, tracker: Option<&PitchTracker>) -> Result<Heard> {
    let Some(tracker) = tracker else { return Ok((FeatureFile::read_logmel(path)?.0, None)) };
    let features = FeatureFile::read(path)?;
    let sound = de_emphasis(features.au, features.meta.config.preemphasis);
    let pitch = tracker.track(&sound.into_iter().map(f64::from).collect::<Vec<_>>());
    Ok((features.logmel, Some(pitch)))
}

fn of_pitch(frames: &[Option<f64>]) -> [f64; 2] {
    let voicing = voiced(frames);
    let f0 = mean(frames.iter().flatten().map(|hz| hz.ln())).filter(|_| voicing >= 0.5);
    [f0.unwrap_or(f64::NAN), voicing]
}

/// Logarithm of energy, tilt, centroid of log-mels `[frames, mels]`.
fn of_spectra(logmel: ArrayView2<f32>, config: &FeatureConfig) -> [f64; 3] {
    let power = logmel.mapv(|value| f64::from(value).exp()).mean_axis(ndarray::Axis(0)).expect("a segment has frames");
    let hz: Array1<f64> = (0..power.len()).map(|band| centre_hz(band, config)).collect();
    let (octave, level) = (hz.mapv(f64::log2), power.mapv(|power| 10.0 * power.log10()));
    let centred = |values: &Array1<f64>| values - values.mean().expect("there are bands");
    let (x, y) = (centred(&octave), centred(&level));
    let spread = x.dot(&x);
    let tilt = if spread > 0.0 { x.dot(&y) / spread } else { 0.0 };
    [power.sum().ln(), tilt, hz.dot(&power) / power.sum()]
}

/// Bands lie at equal steps of mel, between the lowest and the highest frequency.
fn centre_hz(band: usize, config: &FeatureConfig) -> f64 {
    let (low, high) = (hz_to_mel(config.f_min), hz_to_mel(config.f_max));
    mel_to_hz(low + (high - low) * (band + 1) as f64 / (config.n_filterbank + 1) as f64)
}
