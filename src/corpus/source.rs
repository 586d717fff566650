//! Where the sound begins: glottal pulses.
//!
//! # Reference
//! Klatt and Klatt, "Analysis, synthesis, and perception of voice quality variations among female and male talkers",
//! 1990 (the KLGLOTT88 pulse). Välimäki and Huovilainen, "Antialiasing oscillators in subtractive synthesis", 2007 (the
//! polynomial band-limited step).

use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};

use super::speaker::Speaker;
use super::tracks::{Tracks, at};

/// The glottis over time, one value per sample.
pub struct Glottis {
    /// Derivative of the air flow (the lips' radiation included), -1 at the closure of a full-voiced pulse.
    pub flow_derivative: Vec<f64>,
    /// 1 while the glottis is open, 0 while it is closed; breath noise follows it.
    pub open: Vec<f64>,
}

/// [`pulses`] softened by the speaker's tilt.
pub fn glottis(tracks: &Tracks, speaker: &Speaker, sample_rate: f64, samples: usize, rng: &mut ChaCha8Rng) -> Glottis {
    let manner = Manner { open_quotient: speaker.open_quotient, jitter: speaker.jitter, shimmer: speaker.shimmer };
    let mut result = pulses(&tracks.f0_hz, &tracks.voice, &manner, sample_rate, samples, rng);
    let pole = (-std::f64::consts::TAU * speaker.tilt_hz / sample_rate).exp();
    soften(&mut result.flow_derivative, pole);
    result
}

/// How the folds open and close: [`Speaker`]'s values of these names.
pub struct Manner {
    pub open_quotient: f64,
    pub jitter: f64,
    pub shimmer: f64,
}

/// Pulses along a curve of pitches and one of amplitudes, irregular by jitter and shimmer.
pub fn pulses(
    f0_hz: &[f64],
    voice: &[f64],
    manner: &Manner,
    sample_rate: f64,
    samples: usize,
    rng: &mut ChaCha8Rng,
) -> Glottis {
    let mut result = Glottis { flow_derivative: vec![0.0; samples], open: vec![0.0; samples] };
    let mut normal = |deviation: f64| {
        let value: f64 = StandardNormal.sample(rng);
        // Three deviations at most: a rarer outlier would be heard as a hiccup.
        deviation * value.clamp(-3.0, 3.0)
    };
    let mut start = 0.0;
    while (start as usize) < samples {
        let period = sample_rate / at(f0_hz, start / sample_rate) * (1.0 + normal(manner.jitter));
        let closure = start + manner.open_quotient * period;
        let amplitude = at(voice, closure / sample_rate) * (1.0 + normal(manner.shimmer));
        pulse(&mut result, start, closure, amplitude);
        start += period;
    }
    result
}

/// Adds one pulse, opening at `start` and closing at `closure` (in samples, between samples too).
fn pulse(glottis: &mut Glottis, start: f64, closure: f64, amplitude: f64) {
    let samples = glottis.open.len();
    let last = closure.floor() as usize;
    for sample in start.ceil() as usize..=last.min(samples.saturating_sub(1)) {
        let phase = (sample as f64 - start) / (closure - start);
        glottis.flow_derivative[sample] += amplitude * (2.0 * phase - 3.0 * phase * phase);
        glottis.open[sample] = 1.0;
    }
    // The closure is a step from -1 to 0 between two samples; a polynomial spreads it so that it hardly aliases.
    let before = closure - last as f64;
    if last + 1 < samples {
        glottis.flow_derivative[last] += amplitude * (1.0 - before).powi(2) / 2.0;
        glottis.flow_derivative[last + 1] -= amplitude * before.powi(2) / 2.0;
    }
}

/// A one-pole low-pass.
pub fn soften(signal: &mut [f64], pole: f64) {
    let mut state = 0.0;
    for sample in signal {
        state = (1.0 - pole) * *sample + pole * state;
        *sample = state;
    }
}
