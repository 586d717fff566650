//! Finds where the sound is, so that the silence before and after it can be dropped.

use std::ops::Range;

use crate::dsp::Real;

/// Samples per loudness frame: 16 ms at 16 kHz.
const FRAME: usize = 256;
/// Samples from one loudness frame to the next.
const HOP: usize = 128;
/// Powers below this count as this, -100 dB.
const FLOOR: f64 = 1e-10;
/// A signal whose loudest frame is no louder than this is silence throughout: there is nothing to trim it to.
const SILENCE: f64 = 1e-8;

/// The samples from the first to the last frame louder than `threshold_db` below the loudest one.
///
/// Frames of 256 samples every 128 are centred, with zeros beyond the ends, whatever padding the spectra use; their
/// mean squares are compared in decibels with a floor of 1e-10. A signal that is silent throughout (loudest frame at
/// or below 1e-8) is kept whole.
///
/// Equal to `librosa.effects.trim(y, top_db=threshold_db, frame_length=256, hop_length=128)` but for that exception.
pub fn trim_silence<T: Real>(signal: &[T], threshold_db: f64) -> Range<usize> {
    let power = frame_powers(signal);
    let loudest = power.iter().copied().fold(0.0, f64::max);
    if loudest <= SILENCE {
        return 0..signal.len();
    }
    let decibel = |p: f64| 10.0 * p.max(FLOOR).log10();
    let reference = decibel(loudest);
    let sounds = |&p: &f64| decibel(p) - reference > -threshold_db;
    match (power.iter().position(sounds), power.iter().rposition(sounds)) {
        (Some(first), Some(last)) => HOP * first..(HOP * (last + 1)).min(signal.len()),
        // Only a threshold of 0 dB or less leaves out even the loudest frame.
        _ => 0..0,
    }
}

/// Whether the signal is silent throughout, so that [`trim_silence`] has nothing to trim it to.
pub fn is_silent<T: Real>(signal: &[T]) -> bool {
    frame_powers(signal).into_iter().all(|power| power <= SILENCE)
}

/// Mean square of each frame; `1 + len / 128` of them. Each is made of the two hops that it covers.
fn frame_powers<T: Real>(signal: &[T]) -> Vec<f64> {
    let mut before = 0.0;
    let squares = signal.chunks(HOP).map(sum_of_squares).chain([0.0]);
    let powers = squares.map(|after| (std::mem::replace(&mut before, after) + after) / FRAME as f64);
    powers.take(1 + signal.len() / HOP).collect()
}

/// Eight sums side by side, for vector instructions.
fn sum_of_squares<T: Real>(samples: &[T]) -> f64 {
    let mut sums = [0.0; 8];
    for part in samples.chunks(sums.len()) {
        for (sum, &x) in sums.iter_mut().zip(part) {
            let x: f64 = x.into();
            *sum += x * x;
        }
    }
    sums.iter().sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_is_kept_whole_and_a_burst_is_cut_out() {
        assert_eq!(trim_silence(&[0.0f32; 1000], 20.0), 0..1000);
        assert_eq!(trim_silence(&[1e-5f32; 1000], 20.0), 0..1000);
        assert_eq!(trim_silence::<f32>(&[], 20.0), 0..0);
        assert_eq!(trim_silence(&[0.5f32], 20.0), 0..1);
        let mut burst = vec![0.0f32; 4096];
        burst[1280..2560].fill(0.5);
        // Frame 9 (1024..1280) ends where the burst starts; frame 10 is half full.
        assert_eq!(trim_silence(&burst, 20.0), 1280..2688);
    }
}
