//! Two sounds brought to one rate, length and level, and everything that is measured of them.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::mean;
use super::pitch::PitchTracker;
use super::spectral::{convergence, log_spectral_distance, mel_cepstral_distortion, power};
use crate::Result;
use crate::audio::Waveform;
use crate::dsp::emphasis::de_emphasis;
use crate::dsp::trim::trim_silence;
use crate::features::{FeatureConfig, FeatureFile, is_features};

/// The rate at which sounds are compared, in hertz.
pub const RATE: u32 = 16_000;
/// An output is up to a hop shorter than its source; lengths that differ by more than 50 ms are warned about.
const LENGTHS_MAY_DIFFER: usize = RATE as usize / 20;

/// What was measured. `None` is undefined: sounds shorter than a frame of 1024 samples, a silent one, no frame with voice
/// in both.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SoundMeasures {
    /// [`log_spectral_distance`].
    pub lsd_db: Option<f64>,
    /// [`mel_cepstral_distortion`].
    pub mcd_db: Option<f64>,
    /// Spectral [`convergence`]; undefined also where nothing differs.
    pub convergence_db: Option<f64>,
    /// Root mean square of the difference in pitch over the frames with voice in both, in cents.
    pub f0_cents: Option<f64>,
    /// The same in hertz.
    pub f0_hz: Option<f64>,
    /// Share of frames in which one sound has a voice and the other has not.
    pub voicing_error: Option<f64>,
    /// Peak of the output over that of the reference, before levels are aligned.
    pub peak_db: Option<f64>,
    /// The same of root mean squares.
    pub level_db: Option<f64>,
}

impl SoundMeasures {
    /// All values, in the order of the fields.
    pub fn values(&self) -> [Option<f64>; 8] {
        let Self { lsd_db, mcd_db, convergence_db, f0_cents, f0_hz, voicing_error, peak_db, level_db } = *self;
        [lsd_db, mcd_db, convergence_db, f0_cents, f0_hz, voicing_error, peak_db, level_db]
    }

    /// The mean of each measure over the files of which it is defined.
    pub fn mean(files: &[SoundMeasures]) -> SoundMeasures {
        let of = |index: usize| mean(files.iter().filter_map(|file| file.values()[index]));
        let [lsd_db, mcd_db, convergence_db, f0_cents, f0_hz, voicing_error, peak_db, level_db] =
            std::array::from_fn(of);
        SoundMeasures { lsd_db, mcd_db, convergence_db, f0_cents, f0_hz, voicing_error, peak_db, level_db }
    }
}

/// A reference at [`RATE`]: a sound file, or a feature file, whose `au` (what was analysed, already trimmed) is de-emphasised
/// and brought back to the recording's level. With `trim` a sound file is trimmed as features are by default.
///
/// # Errors
/// If it cannot be read.
pub fn read_reference(path: &Path, trim: bool) -> Result<Vec<f32>> {
    if is_features(path) {
        let features = FeatureFile::read(path)?;
        let gain = features.meta.gain as f32;
        let samples = de_emphasis(features.au, features.meta.config.preemphasis);
        let samples = samples.into_iter().map(|sample| sample * gain).collect();
        return Ok(Waveform { samples, sample_rate: features.meta.config.sample_rate }.resample(RATE)?.samples);
    }
    let samples = read_output(path)?;
    let threshold = FeatureConfig::default().trim_silence_db.filter(|_| trim);
    Ok(threshold.map_or(samples.clone(), |db| samples[trim_silence(&samples, db)].to_vec()))
}

/// An output at [`RATE`]: never trimmed or shifted.
///
/// # Errors
/// If it cannot be read.
pub fn read_output(path: &Path) -> Result<Vec<f32>> {
    Ok(Waveform::read(path)?.resample(RATE)?.samples)
}

/// Everything that is measured of two sounds at [`RATE`], the same wherever the sound's level is changed.
///
/// Both begin with their first samples and are cut to the shorter one, with a warning if they differ by more than 50 ms; a
/// delay between them is not compensated. The output is then scaled to the reference's root mean square. Spectra and pitch
/// have a frame every 10 ms.
pub fn compare(name: &str, reference: &[f32], output: &[f32]) -> SoundMeasures {
    if reference.len().abs_diff(output.len()) > LENGTHS_MAY_DIFFER {
        let seconds = |samples: &[f32]| samples.len() as f64 / f64::from(RATE);
        let (ours, theirs) = (seconds(output), seconds(reference));
        tracing::warn!(
            "{name}: lasts {ours:.2} s, its reference {theirs:.2} s; the first {:.2} s are compared (--trim trims the \
             reference as features are trimmed)",
            ours.min(theirs)
        );
    }
    let len = reference.len().min(output.len());
    let widened = |samples: &[f32]| samples[..len].iter().map(|&sample| f64::from(sample)).collect::<Vec<_>>();
    let (reference, mut output) = (widened(reference), widened(output));
    let level = |samples: &[f64]| samples.iter().map(|sample| sample * sample).sum::<f64>().sqrt();
    let peak = |samples: &[f64]| samples.iter().fold(0.0f64, |peak, sample| peak.max(sample.abs()));
    let (wanted, found) = (level(&reference), level(&output));
    if wanted == 0.0 || found == 0.0 {
        return SoundMeasures::default();
    }
    let levels = SoundMeasures {
        peak_db: Some(20.0 * (peak(&output) / peak(&reference)).log10()),
        level_db: Some(20.0 * (found / wanted).log10()),
        ..SoundMeasures::default()
    };
    let config = FeatureConfig::default();
    if len < config.n_fft {
        return levels;
    }
    output.iter_mut().for_each(|sample| *sample *= wanted / found);
    let (x, y) = (power(&reference), power(&output));
    let tracker = PitchTracker::new(RATE, config.hop_size);
    let pitch = Pitch::compare(&tracker.track(&reference), &tracker.track(&output));
    SoundMeasures {
        lsd_db: log_spectral_distance(x.view(), y.view()),
        mcd_db: mel_cepstral_distortion(x.view(), y.view()),
        convergence_db: convergence(x.view(), y.view()),
        f0_cents: pitch.cents,
        f0_hz: pitch.hz,
        voicing_error: pitch.voicing_error,
        ..levels
    }
}

/// How two tracks differ.
struct Pitch {
    cents: Option<f64>,
    hz: Option<f64>,
    voicing_error: Option<f64>,
}

impl Pitch {
    fn compare(reference: &[Option<f64>], output: &[Option<f64>]) -> Pitch {
        let frames = || reference.iter().zip(output);
        let both: Vec<(f64, f64)> = frames().filter_map(|(&x, &y)| x.zip(y)).collect();
        let rms =
            |difference: fn((f64, f64)) -> f64| mean(both.iter().map(|&pair| difference(pair).powi(2))).map(f64::sqrt);
        Pitch {
            cents: rms(|(x, y)| 1200.0 * (y / x).log2()),
            hz: rms(|(x, y)| y - x),
            voicing_error: mean(frames().map(|(x, y)| f64::from(u8::from(x.is_some() != y.is_some())))),
        }
    }
}
