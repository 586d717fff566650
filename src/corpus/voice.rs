//! One utterance: source and filter joined, and the truth about it written down.

use rand::Rng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};

use super::filter::{Band, Resonator};
use super::score::{self, Gesture};
use super::source::glottis;
use super::speaker::Speaker;
use super::tracks::{Tracks, at};
use crate::audio::Waveform;

/// Seconds between two rows of factors: the hop of the features.
pub const FACTOR_SECONDS: f64 = 0.01;
/// Width of the window whose mean square is a row's energy: two rows.
const ENERGY_SECONDS: f64 = 0.02;
/// Energy in dB that stands for digital silence.
const ENERGY_FLOOR_DB: f64 = -100.0;
/// Amplitude of the voice source from which a frame counts as voiced; 0.05 is 26 dB below a full voice.
const VOICED_FROM: f64 = 0.05;
/// Background noise relative to the speech's peak: -66 dB, a quiet room.
const ROOM_NOISE: f64 = 5e-4;

/// What a speaker said.
#[derive(Debug, Clone, PartialEq)]
pub struct Utterance {
    /// The sound, within ±0.95.
    pub sound: Waveform,
    /// One row per [`FACTOR_SECONDS`], the first at 0 s: 1 + floor(duration / 0.01 s) of them.
    pub factors: Vec<Factors>,
}

/// The truth about one moment.
#[derive(Debug, Clone, PartialEq)]
pub struct Factors {
    /// Seconds from the start.
    pub time_s: f64,
    /// Pitch in Hz; 0 where unvoiced.
    pub f0_hz: f64,
    /// F1, F2, F3 in Hz: where the tract's resonances are, heard or not.
    pub formants_hz: [f64; 3],
    /// Mean square of the samples within 10 ms, in dB re full scale, from -100.
    pub energy_db: f64,
    /// Whether the vocal folds sound.
    pub voiced: bool,
    /// Name of the phoneme; `pause` in silence.
    pub phone: &'static str,
}

/// An utterance of about `seconds`; everything in it that is left open is drawn from `rng`.
///
/// # Panics
/// If `seconds` is not positive and finite or `sample_rate` is below 8000.
pub fn speak(speaker: &Speaker, seconds: f64, sample_rate: u32, rng: &mut ChaCha8Rng) -> Utterance {
    assert!(seconds > 0.0 && seconds.is_finite(), "an utterance of {seconds} s");
    assert!(sample_rate >= 8000, "speech at {sample_rate} Hz");
    let score = score::compose(speaker, seconds, rng);
    let tracks = Tracks::draw(&score, speaker, rng);
    let samples = synthesize(&tracks, speaker, f64::from(sample_rate), rng);
    let factors = factors(&samples, f64::from(sample_rate), &tracks, &score);
    Utterance { sound: Waveform { samples, sample_rate }, factors }
}

fn synthesize(tracks: &Tracks, speaker: &Speaker, sample_rate: f64, rng: &mut ChaCha8Rng) -> Vec<f32> {
    let samples = (tracks.len() as f64 * Tracks::STEP_SECONDS * sample_rate) as usize;
    let glottis = glottis(tracks, speaker, sample_rate, samples, rng);
    let mut tract = Tract::new(speaker, sample_rate);
    let mut band = Band::default();
    let mut output = Vec::with_capacity(samples);
    for sample in 0..samples {
        // Filters set anew at every sample: settings kept for a few leave faint lines beside the nasals.
        let seconds = sample as f64 / sample_rate;
        tract.tune(tracks, seconds);
        let centre = (at(&tracks.noise_hz[0], seconds) / sample_rate).min(0.46);
        band.tune(centre, at(&tracks.noise_hz[1], seconds) / sample_rate);
        let (voice, breath) = (at(&tracks.voice, seconds), at(&tracks.breath, seconds));
        let noise = at(&tracks.noise, seconds);
        let [turbulence, friction]: [f64; 2] = [StandardNormal.sample(rng), StandardNormal.sample(rng)];
        // Breath flows while the glottis is open, and a little while it is closed.
        let leak = speaker.breathiness * voice * (0.3 + 0.7 * glottis.open[sample]);
        let voiced = glottis.flow_derivative[sample] + (leak + 0.5 * breath) * turbulence;
        // Voicing chops the air stream that makes a voiced fricative's noise.
        let chopped = 1.0 - 0.5 * (4.0 * voice).min(1.0) * (1.0 - glottis.open[sample]);
        output.push(tract.step(voiced) + noise * chopped * band.step(friction));
    }
    finish(output, sample_rate, rng)
}

/// Removes what lies below hearing, adds the room, and sets the peak.
fn finish(mut output: Vec<f64>, sample_rate: f64, rng: &mut ChaCha8Rng) -> Vec<f32> {
    // 40 Hz: below every voice.
    let pole = (-std::f64::consts::TAU * 40.0 / sample_rate).exp();
    let (mut before, mut high_passed) = (0.0, 0.0);
    for sample in &mut output {
        high_passed = pole * (high_passed + *sample - before);
        before = *sample;
        *sample = high_passed;
    }
    let peak = output.iter().fold(1e-9f64, |peak, sample| peak.max(sample.abs()));
    let level = 0.7 * 10f64.powf(rng.random_range(-5.0..0.0) / 20.0);
    let mut room = 0.0;
    output
        .into_iter()
        .map(|sample| {
            let white: f64 = StandardNormal.sample(rng);
            // A room's noise is darker than white.
            room = 0.7 * room + 0.7 * ROOM_NOISE * white;
            ((sample / peak + room) * level).clamp(-0.95, 0.95) as f32
        })
        .collect()
}

/// The resonances from the glottis to the lips, in cascade, with the nose's pole and zero.
struct Tract {
    sample_rate: f64,
    scale: f64,
    formants: Vec<Resonator>,
    nasal_pole: Resonator,
    nasal_zero: Resonator,
}

impl Tract {
    fn new(speaker: &Speaker, sample_rate: f64) -> Self {
        // A uniform tract resonates every 1000 Hz; those above the moving three keep their places.
        let count = (3..).take_while(|&k| fixed_formant_hz(k, speaker.tract_scale) < highest_hz(sample_rate)).count();
        let formants = vec![Resonator::default(); 3 + count];
        let (nasal_pole, nasal_zero) = (Resonator::default(), Resonator::default());
        Self { sample_rate, scale: speaker.tract_scale, formants, nasal_pole, nasal_zero }
    }

    fn tune(&mut self, tracks: &Tracks, seconds: f64) {
        let (breath, nasal) = (at(&tracks.breath, seconds), at(&tracks.nasal, seconds));
        for (k, resonator) in self.formants.iter_mut().enumerate() {
            let hz = match tracks.formants_hz.get(k) {
                Some(curve) => at(curve, seconds).min(highest_hz(self.sample_rate)),
                None => fixed_formant_hz(k, self.scale),
            };
            // An open glottis damps the first formant, an open nose all of them.
            let width = [60.0, 90.0, 140.0, 210.0].get(k).copied().unwrap_or(300.0) * (1.0 + nasal);
            let width = if k == 0 { width + 600.0 * breath } else { width };
            resonator.tune(hz / self.sample_rate, width * self.scale / self.sample_rate);
        }
        // Pole and zero lie on each other, and so do nothing, while the nose is closed.
        let pole_hz = 270.0 * self.scale;
        self.nasal_pole.tune(pole_hz / self.sample_rate, 100.0 / self.sample_rate);
        self.nasal_zero.tune((pole_hz + 350.0 * nasal) / self.sample_rate, 100.0 / self.sample_rate);
    }

    fn step(&mut self, source: f64) -> f64 {
        let nasal = self.nasal_zero.undo(self.nasal_pole.step(source));
        self.formants.iter_mut().fold(nasal, |signal, resonator| resonator.step(signal))
    }
}

/// Resonances end here, a little below half the sample rate.
fn highest_hz(sample_rate: f64) -> f64 {
    0.46 * sample_rate
}

/// F4 (k = 3) and above in Hz.
fn fixed_formant_hz(k: usize, scale: f64) -> f64 {
    (500.0 + 1000.0 * k as f64) * scale
}

fn factors(samples: &[f32], sample_rate: f64, tracks: &Tracks, score: &[Gesture]) -> Vec<Factors> {
    let rows = 1 + (samples.len() as f64 / sample_rate / FACTOR_SECONDS + 1e-9) as usize;
    (0..rows)
        .map(|row| {
            let time_s = row as f64 * FACTOR_SECONDS;
            let step = ((time_s / Tracks::STEP_SECONDS).round() as usize).min(tracks.len() - 1);
            let voiced = tracks.voice[step] >= VOICED_FROM;
            let within = |seconds: f64| ((seconds * sample_rate).round().max(0.0) as usize).min(samples.len());
            let window = &samples[within(time_s - ENERGY_SECONDS / 2.0)..within(time_s + ENERGY_SECONDS / 2.0)];
            let power: f64 = window.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>() / window.len().max(1) as f64;
            Factors {
                time_s,
                f0_hz: if voiced { tracks.f0_hz[step] } else { 0.0 },
                formants_hz: [0, 1, 2].map(|k| tracks.formants_hz[k][step].min(highest_hz(sample_rate))),
                energy_db: (10.0 * power.log10()).max(ENERGY_FLOOR_DB),
                voiced,
                phone: score[tracks.gesture[step]].phone,
            }
        })
        .collect()
}
