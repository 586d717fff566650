//! Who speaks: the size of the vocal tract, the voice, and the manner of speaking.

use rand::Rng;
use rand_chacha::ChaCha8Rng;

/// One voice. Everything that stays the same from one utterance to the next.
#[derive(Debug, Clone, PartialEq)]
pub struct Speaker {
    /// Folder and file-name stem, such as `s02-woman`.
    pub name: String,
    /// Pitch around which the voice moves, in Hz.
    pub f0_hz: f64,
    /// How far accents move the pitch, in semitones.
    pub range_semitones: f64,
    /// Formant frequencies relative to an adult man's (a shorter tract resonates higher).
    pub tract_scale: f64,
    /// Part of a period in which the glottis is open, 0.4 (pressed) to 0.8 (lax).
    pub open_quotient: f64,
    /// Corner of the low-pass that softens the glottal closure, in Hz.
    pub tilt_hz: f64,
    /// Breath noise relative to the voice.
    pub breathiness: f64,
    /// Standard deviation of the period, as a part of it.
    pub jitter: f64,
    /// Standard deviation of a pulse's amplitude, as a part of it.
    pub shimmer: f64,
    /// Speaking rate; 1 is about five syllables a second.
    pub rate: f64,
}

/// Kind of voice: name, f0 in Hz, tract scale, open quotient, tilt corner in Hz, breathiness.
type Kind = (&'static str, f64, f64, f64, f64, f64);

/// Speakers take these in turn. Pitch and tract length go together as in adults and a child of about eight.
const KINDS: [Kind; 4] = [
    ("man", 112.0, 1.0, 0.55, 2600.0, 0.010),
    ("woman", 200.0, 1.16, 0.62, 2300.0, 0.022),
    ("child", 262.0, 1.30, 0.62, 2600.0, 0.026),
    ("elder", 135.0, 0.96, 0.68, 1500.0, 0.040),
];

impl Speaker {
    /// Speaker number `index`: a kind of voice, with individual deviations drawn from `rng`.
    pub fn draw(index: usize, rng: &mut ChaCha8Rng) -> Self {
        let (kind, f0_hz, tract_scale, open_quotient, tilt_hz, breathiness) = KINDS[index % KINDS.len()];
        let mut about = |value: f64, part: f64| value * (1.0 + part * rng.random_range(-1.0..1.0));
        Self {
            name: format!("s{:02}-{kind}", index + 1),
            f0_hz: about(f0_hz, 0.08),
            range_semitones: about(3.6, 0.35),
            tract_scale: about(tract_scale, 0.025),
            open_quotient: about(open_quotient, 0.06),
            tilt_hz: about(tilt_hz, 0.15),
            breathiness: about(breathiness, 0.3),
            jitter: about(0.006, 0.4),
            shimmer: about(0.035, 0.4),
            rate: about(1.0, 0.12),
        }
    }
}
