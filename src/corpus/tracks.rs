//! Movement: the steps of a score become smooth curves, one value per millisecond.
//!
//! Every curve is the step function of the targets, smoothed by a raised cosine whose width is how long that articulator
//! takes to move. Short vowels therefore miss their targets, as they do in speech.

use rand::Rng;
use rand_chacha::ChaCha8Rng;

use super::score::Gesture;
use super::speaker::Speaker;

/// Curves in steps of [`Tracks::STEP_SECONDS`]; all have the same length.
#[derive(Debug, Clone, PartialEq)]
pub struct Tracks {
    /// Pitch in Hz, running on through voiceless stretches.
    pub f0_hz: Vec<f64>,
    /// F1, F2, F3 in Hz, scaled to the speaker.
    pub formants_hz: [Vec<f64>; 3],
    /// Linear amplitudes, loudness included.
    pub voice: Vec<f64>,
    pub breath: Vec<f64>,
    /// Fricative and burst noise.
    pub noise: Vec<f64>,
    /// Centre and width of that noise in Hz.
    pub noise_hz: [Vec<f64>; 2],
    /// Openness of the nose, 0 to 1.
    pub nasal: Vec<f64>,
    /// Which gesture of the score is sounding.
    pub gesture: Vec<usize>,
}

impl Tracks {
    /// Resolution of the curves: 1 ms, ten times finer than the fastest formant movement.
    pub const STEP_SECONDS: f64 = 0.001;

    /// The curves of a score in a speaker's voice.
    pub fn draw(score: &[Gesture], speaker: &Speaker, rng: &mut ChaCha8Rng) -> Self {
        let gesture = gesture_at_each_step(score);
        let curve = |target: fn(&Gesture) -> f64, width_seconds: f64| {
            smooth(&gesture.iter().map(|&index| target(&score[index])).collect::<Vec<_>>(), width_seconds)
        };
        // Formants move on a logarithmic axis, on which equal steps sound equal.
        let formant = |k: usize, width_seconds: f64| {
            let targets: Vec<f64> =
                gesture.iter().map(|&index| (score[index].formants[k] * speaker.tract_scale).ln()).collect();
            smooth(&targets, width_seconds).into_iter().map(f64::exp).collect::<Vec<_>>()
        };
        let effort: Vec<f64> =
            curve(|gesture| gesture.effort_db, 0.10).into_iter().map(|db| 10f64.powf(db / 20.0)).collect();
        let loud =
            |curve: Vec<f64>| curve.iter().zip(&effort).map(|(value, effort)| value * effort).collect::<Vec<_>>();
        let friction = curve(|gesture| gesture.friction, 0.045);
        let burst = curve(|gesture| gesture.burst, 0.004);
        let noise = friction.iter().zip(&burst).map(|(friction, burst)| friction + burst).collect();
        // Smaller mouths make higher noises, but by less than the tract's whole length tells.
        let noise_scale = speaker.tract_scale.sqrt();
        let noise_hz = [0, 1].map(|which| noise_curve(score, &gesture, which, noise_scale));
        Self {
            f0_hz: pitch(score, &gesture, speaker, rng),
            formants_hz: [formant(0, 0.055), formant(1, 0.075), formant(2, 0.075)],
            voice: loud(curve(|gesture| gesture.voice, 0.030)),
            breath: loud(curve(|gesture| gesture.breath, 0.025)),
            noise: loud(noise),
            noise_hz,
            nasal: curve(|gesture| gesture.nasal, 0.060),
            gesture,
        }
    }

    /// Number of steps.
    pub fn len(&self) -> usize {
        self.gesture.len()
    }
}

/// A curve's value at `seconds`, on the straight line between its two nearest steps.
pub fn at(curve: &[f64], seconds: f64) -> f64 {
    let position = (seconds / Tracks::STEP_SECONDS).clamp(0.0, (curve.len() - 1) as f64);
    let before = position as usize;
    let after = (before + 1).min(curve.len() - 1);
    curve[before] + (position - before as f64) * (curve[after] - curve[before])
}

fn gesture_at_each_step(score: &[Gesture]) -> Vec<usize> {
    let mut end = 0.0;
    let mut steps = Vec::new();
    for (index, gesture) in score.iter().enumerate() {
        end += gesture.seconds;
        // Rounding the running sum, not each length, keeps the error below one step.
        steps.resize((end / Tracks::STEP_SECONDS).round() as usize, index);
    }
    steps
}

/// Convolution with a raised cosine of the given total width; the ends are held.
fn smooth(steps: &[f64], width_seconds: f64) -> Vec<f64> {
    let half = (width_seconds / Tracks::STEP_SECONDS / 2.0).round() as isize;
    let weights: Vec<f64> =
        (-half..=half).map(|offset| 1.0 + (std::f64::consts::PI * offset as f64 / (half + 1) as f64).cos()).collect();
    let total: f64 = weights.iter().sum();
    let last = steps.len() as isize - 1;
    (0..=last)
        .map(|centre| {
            let sum: f64 = (-half..=half)
                .zip(&weights)
                .map(|(offset, weight)| weight * steps[(centre + offset).clamp(0, last) as usize])
                .sum();
            sum / total
        })
        .collect()
}

/// The noise filter's centre or width. It waits at the coming noise's value, so that no noise is heard while it moves.
fn noise_curve(score: &[Gesture], gesture: &[usize], which: usize, scale: f64) -> Vec<f64> {
    let mut next = [4000.0, 3000.0][which];
    let mut targets = vec![0.0; gesture.len()];
    for (target, &index) in targets.iter_mut().zip(gesture).rev() {
        if score[index].noise_hz[0] > 0.0 {
            next = score[index].noise_hz[which];
        }
        *target = next * scale;
    }
    smooth(&targets, 0.012)
}

/// Pitch in Hz: a phrase that falls, accents on stressed syllables, a last movement, and slow wandering.
fn pitch(score: &[Gesture], gesture: &[usize], speaker: &Speaker, rng: &mut ChaCha8Rng) -> Vec<f64> {
    let steps = gesture.len();
    let mut semitones = vec![0.0; steps];
    let phrases = score.iter().map(|gesture| gesture.phrase).max().map_or(0, |last| last + 1);
    for phrase in 0..phrases {
        let within = |&step: &usize| score[gesture[step]].phrase == phrase;
        let (Some(first), Some(last)) = ((0..steps).find(within), (0..steps).rfind(within)) else { continue };
        let (start, fall) = (rng.random_range(1.0..2.5), rng.random_range(3.0..5.0));
        // One phrase in five ends like a question.
        let ending = if rng.random_bool(0.2) { rng.random_range(3.0..5.0) } else { rng.random_range(-3.0..-1.0) };
        for (offset, value) in semitones[first..=last].iter_mut().enumerate() {
            let along = offset as f64 / (last - first + 1) as f64;
            let at_end = ((along - 0.75) / 0.25).max(0.0);
            *value = start - fall * along + ending * at_end * at_end;
        }
    }
    let accents: Vec<f64> = gesture.iter().map(|&index| score[index].accent * speaker.range_semitones).collect();
    let accents = smooth(&accents, 0.24);
    let wander: Vec<f64> = {
        // One random knot per 100 ms, smoothed: the unsteadiness of a living voice.
        let knots: Vec<f64> = (0..=steps / 100).map(|_| rng.random_range(-0.6..0.6)).collect();
        smooth(&(0..steps).map(|step| knots[step / 100]).collect::<Vec<_>>(), 0.12)
    };
    let semitones: Vec<f64> = (0..steps).map(|step| semitones[step] + accents[step] + wander[step]).collect();
    smooth(&semitones, 0.05).into_iter().map(|value| speaker.f0_hz * 2f64.powf(value / 12.0)).collect()
}
