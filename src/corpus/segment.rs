//! A segment: one steady sound with the factors of a [`Segment`].
//!
//! A source (glottal pulses with breath, or noise alone in a whisper), tilted by one pole, through resonances in cascade.
//!
//! # Reference
//! Klatt and Klatt, "Analysis, synthesis, and perception of voice quality variations among female and male talkers",
//! 1990: the pulses, and TL as the measure of tilt.

use rand::Rng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};

use super::design::Segment;
use super::filter::Resonator;
use super::source::{Manner, pulses, soften};
use crate::audio::Waveform;

/// Sound before the segment, in which the resonances settle.
const LEAD_SECONDS: f64 = 0.06;
/// The edges rise and fall along a raised cosine this long: no clicks, and hardly any of a block.
const RAMP_SECONDS: f64 = 0.005;
/// A pulse like the next is a buzz, which no voice is; pitch stays within 1 % of what it is said to be.
const MANNER: Manner = Manner { open_quotient: 0.6, jitter: 0.004, shimmer: 0.02 };
/// Where the loss of [`tilt_pole`] is counted.
const TILT_HZ: f64 = 3000.0;

/// The sound of a segment; what its factors leave open is drawn from `rng`.
///
/// Between its ramps the root mean square is the loudness exactly.
///
/// # Panics
/// If `sample_rate` is below 8000.
pub fn sound(segment: &Segment, seconds: f64, sample_rate: u32, rng: &mut ChaCha8Rng) -> Waveform {
    assert!(sample_rate >= 8000, "a segment at {sample_rate} Hz");
    let rate = f64::from(sample_rate);
    let [f0_hz, f1_hz, f2_hz, f3_hz, loudness_db, tilt_db, breathiness_db, _, speaker_scale] = segment.values;
    // The lead differs, lest all begin at the opening of the folds.
    let lead = ((LEAD_SECONDS + rng.random_range(0.0..0.012)) * rate) as usize;
    let samples = (seconds * rate).round() as usize;
    let mut source = excitation(segment.is_voiced().then_some((f0_hz, breathiness_db)), rate, lead + samples, rng);
    soften(&mut source, tilt_pole(tilt_db, rate));
    // The open glottis of a whisper damps the first formants; narrow ones would ring as a voice does.
    let [first, second] = if segment.is_voiced() { [70.0, 100.0] } else { [250.0, 150.0] };
    let mut resonances: Vec<(f64, f64)> = vec![(f1_hz, first), (f2_hz, second), (f3_hz, 150.0)];
    let above = (3..).map(|k| (500.0 + 1000.0 * k as f64) * speaker_scale).take_while(|&hz| hz < 0.46 * rate);
    resonances.extend(above.map(|hz| (hz, 250.0)));
    for (hz, width) in resonances {
        let mut resonator = Resonator::default();
        resonator.tune(hz / rate, width / rate);
        source.iter_mut().for_each(|sample| *sample = resonator.step(*sample));
    }
    let mut kept = source.split_off(lead);
    let ramp = (RAMP_SECONDS * rate) as usize;
    let gain = 10f64.powf(loudness_db / 20.0) / root_mean_square(&kept[ramp..samples - ramp]);
    for (index, sample) in kept.iter_mut().enumerate() {
        let from_edge = (index.min(samples - 1 - index) as f64 + 0.5) / ramp as f64;
        let fade = 0.5 - 0.5 * (std::f64::consts::PI * from_edge.min(1.0)).cos();
        *sample *= gain * fade;
    }
    Waveform { samples: kept.into_iter().map(|sample| sample as f32).collect(), sample_rate }
}

/// Pulses of unit power with breath of `breathiness_db`, or, without a voice, noise of unit power.
fn excitation(voice: Option<(f64, f64)>, rate: f64, samples: usize, rng: &mut ChaCha8Rng) -> Vec<f64> {
    let Some((f0_hz, breathiness_db)) = voice else {
        return (0..samples).map(|_| StandardNormal.sample(rng)).collect();
    };
    let glottis = pulses(&[f0_hz], &[1.0], &MANNER, rate, samples, rng);
    // Breath flows while the glottis is open, and a little while it is closed.
    let mut white = || -> f64 { StandardNormal.sample(rng) };
    let breath: Vec<f64> = glottis.open.iter().map(|open| (0.3 + 0.7 * open) * white()).collect();
    let of_pulses = 1.0 / root_mean_square(&glottis.flow_derivative);
    let of_breath = 10f64.powf(breathiness_db / 20.0) / root_mean_square(&breath);
    let both = glottis.flow_derivative.iter().zip(&breath);
    both.map(|(pulse, breath)| of_pulses * pulse + of_breath * breath).collect()
}

/// The pole of the one-pole low-pass that is `db` weaker at 3 kHz than at 0 Hz.
fn tilt_pole(db: f64, rate: f64) -> f64 {
    let loss = 10f64.powf(db / 10.0);
    // |H|² = (1 - p)² / (1 - 2 p cos w + p²) = 1 / loss, solved for p.
    let middle = (loss - (std::f64::consts::TAU * TILT_HZ / rate).cos()) / (loss - 1.0);
    middle - (middle * middle - 1.0).sqrt()
}

fn root_mean_square(samples: &[f64]) -> f64 {
    (samples.iter().map(|sample| sample * sample).sum::<f64>() / samples.len() as f64).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tilt_is_what_is_lost_at_3_khz() {
        for (db, rate) in [(2.0, 16_000.0), (11.0, 8000.0), (20.0, 44_100.0)] {
            let mut response = vec![0.0; 1 << 14];
            response[0] = 1.0;
            soften(&mut response, tilt_pole(db, rate));
            let gain = |hz: f64| {
                let turn = |n: usize| std::f64::consts::TAU * hz / rate * n as f64;
                let part = |of: fn(f64) -> f64| response.iter().enumerate().map(|(n, h)| h * of(turn(n))).sum::<f64>();
                10.0 * (part(f64::cos).powi(2) + part(f64::sin).powi(2)).log10()
            };
            assert!((gain(0.0) - gain(TILT_HZ) - db).abs() < 1e-6, "{db} dB at {rate} Hz");
        }
    }
}
