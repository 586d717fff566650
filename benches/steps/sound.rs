//! Sound to work on, the same from the same formula everywhere.

use std::f64::consts::TAU;
use std::path::Path;

use vae_workshop::Result;
use vae_workshop::audio::Waveform;
use vae_workshop::data::FeatureSet;
use vae_workshop::features::FEATURE_SUFFIX;
use vae_workshop::features::{FeatureConfig, FeatureExtractor, FeatureFile};

pub const RATE: u32 = 16_000;

/// A voice of 30 harmonics that glides by 15 % and swells 3.8 times a second. `scripts/bench_peers.py` has the same formula.
pub fn voice(seconds: f64, pitch: f64) -> Waveform {
    let sample = |index: usize| {
        let t = index as f64 / f64::from(RATE);
        let phase = TAU * pitch * (t - 0.15 / (TAU * 0.7) * (TAU * 0.7 * t).cos());
        let loudness = 0.02 + (TAU * 1.9 * t).sin().powi(2);
        let harmonics: f64 = (1..=30).map(f64::from).map(|k| (k * phase + k * k).sin() / k).sum();
        (0.1 * loudness * harmonics) as f32
    };
    Waveform { samples: (0..(seconds * f64::from(RATE)) as usize).map(sample).collect(), sample_rate: RATE }
}

/// The features of four voices of 10 s, written into `folder`.
///
/// # Errors
/// If the folder cannot be written.
pub fn feature_set(folder: &Path) -> Result<FeatureSet> {
    let extractor = FeatureExtractor::new(FeatureConfig::default())?;
    for pitch in [90.0, 130.0, 190.0, 260.0] {
        FeatureFile::write(&folder.join(format!("{pitch}{FEATURE_SUFFIX}")), &extractor.extract(&voice(10.0, pitch))?)?;
    }
    FeatureSet::open(folder)
}
