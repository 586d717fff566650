//! What is said: random words of consonant-vowel(-consonant) syllables, written as a list of gestures.
//!
//! A gesture is a stretch of time with one set of targets; [`super::tracks`] turns the steps between them into movement.

use rand::Rng;
use rand::seq::IndexedRandom;
use rand_chacha::ChaCha8Rng;

use super::phonemes::{CONSONANTS, Consonant, Manner, NEUTRAL, PAUSE, SCHWA, VOWELS, Vowel};
use super::speaker::Speaker;

/// A stretch of time in which every articulator has one target.
#[derive(Debug, Clone, PartialEq)]
pub struct Gesture {
    /// Name of the phoneme it belongs to.
    pub phone: &'static str,
    pub seconds: f64,
    /// F1, F2, F3 in Hz for a tract of scale 1.
    pub formants: [f64; 3],
    /// Amplitude of the voice source, 0 to 1.
    pub voice: f64,
    /// Amplitude of breath noise through the whole tract.
    pub breath: f64,
    /// Amplitude of noise that swells and fades (fricatives).
    pub friction: f64,
    /// Amplitude of noise that starts at once (bursts).
    pub burst: f64,
    /// Centre and width of the noise in Hz; zero where there is none.
    pub noise_hz: [f64; 2],
    /// How far the nose is open, 0 to 1.
    pub nasal: f64,
    /// Loudness of the syllable in dB.
    pub effort_db: f64,
    /// Height of a pitch accent on this gesture, in parts of the speaker's range.
    pub accent: f64,
    /// Number of the phrase it belongs to; the pitch falls through a phrase and starts again with the next.
    pub phrase: usize,
}

/// The gestures of an utterance of about `seconds`, with silence before, between phrases and after.
pub fn compose(speaker: &Speaker, seconds: f64, rng: &mut ChaCha8Rng) -> Vec<Gesture> {
    let mut score = Score { gestures: Vec::new(), effort_db: 0.0, accent: 0.0, phrase: 0, rate: speaker.rate };
    let closing = rng.random_range(0.12..0.22);
    score.pause(rng.random_range(0.10..0.20));
    let mut words_left = rng.random_range(2..=5);
    loop {
        score.word(words_left == 1, rng);
        // 0.5 s is a word's average length: the last word ends as near to the asked length as a coin could place it.
        let left = seconds - closing - score.seconds();
        if left < 0.25 {
            break;
        }
        words_left -= 1;
        if words_left == 0 && left > 0.9 {
            score.pause(rng.random_range(0.18..0.42));
            score.phrase += 1;
            words_left = rng.random_range(2..=5);
        } else if words_left == 0 {
            words_left = 1;
        } else if rng.random_bool(0.25) {
            score.pause(rng.random_range(0.03..0.08));
        }
    }
    score.pause(closing);
    score.gestures
}

/// The list being written, and what applies to the next gesture.
struct Score {
    gestures: Vec<Gesture>,
    effort_db: f64,
    accent: f64,
    phrase: usize,
    rate: f64,
}

impl Score {
    fn seconds(&self) -> f64 {
        self.gestures.iter().map(|gesture| gesture.seconds).sum()
    }

    fn push(&mut self, phone: &'static str, seconds: f64, formants: [f64; 3]) -> &mut Gesture {
        self.gestures.push(Gesture {
            phone,
            seconds: seconds / self.rate,
            formants,
            voice: 0.0,
            breath: 0.0,
            friction: 0.0,
            burst: 0.0,
            noise_hz: [0.0; 2],
            nasal: 0.0,
            effort_db: self.effort_db,
            accent: self.accent,
            phrase: self.phrase,
        });
        self.gestures.last_mut().expect("a gesture was pushed in the line before")
    }

    fn pause(&mut self, seconds: f64) {
        let (rate, effort_db, accent) = (self.rate, self.effort_db, self.accent);
        // A pause does not depend on the speaking rate; its low effort lets the voice fade into it and rise out of it.
        (self.rate, self.effort_db, self.accent) = (1.0, -14.0, 0.0);
        self.push(PAUSE, seconds, NEUTRAL);
        (self.rate, self.effort_db, self.accent) = (rate, effort_db, accent);
    }

    /// One to three syllables, one of them stressed. The last word of a phrase is drawn out.
    fn word(&mut self, last: bool, rng: &mut ChaCha8Rng) {
        let syllables = *[1, 1, 2, 2, 2, 3].choose(rng).expect("the list is not empty");
        let stressed = rng.random_range(0..syllables);
        let loudness = rng.random_range(-3.0..1.5);
        for syllable in 0..syllables {
            let stress = syllable == stressed;
            let lengthening = if last && syllable + 1 == syllables { 1.4 } else { 1.0 };
            self.syllable(stress, loudness, lengthening, rng);
        }
    }

    fn syllable(&mut self, stress: bool, loudness_db: f64, lengthening: f64, rng: &mut ChaCha8Rng) {
        let nucleus =
            if !stress && rng.random_bool(0.5) { &SCHWA } else { VOWELS.choose(rng).expect("there are vowels") };
        let onset = rng.random_bool(0.88).then(|| CONSONANTS.choose(rng).expect("there are consonants"));
        let coda = rng.random_bool(0.3).then(|| CONSONANTS.choose(rng).expect("there are consonants"));
        self.effort_db = loudness_db + if stress { rng.random_range(0.0..2.0) } else { rng.random_range(-7.0..-3.0) };
        self.accent = if stress { rng.random_range(0.4..1.0) } else { rng.random_range(-0.2..0.1) };
        // ng begins no syllable; h and the glides end none.
        if let Some(consonant) = onset.filter(|consonant| consonant.name != "ng") {
            self.consonant(consonant, nucleus.onset, true, rng);
        }
        self.nucleus(nucleus, if stress { 1.25 } else { 0.75 } * lengthening, rng);
        if let Some(consonant) = coda.filter(|consonant| !matches!(consonant.name, "h" | "w" | "j")) {
            self.consonant(consonant, nucleus.offset, false, rng);
        }
    }

    fn nucleus(&mut self, vowel: &'static Vowel, length: f64, rng: &mut ChaCha8Rng) {
        // 0.115 s: an average vowel of read speech.
        let seconds = 0.115 * vowel.length * length * rng.random_range(0.85..1.2);
        let halves = [vowel.onset, vowel.offset];
        let count = if vowel.onset == vowel.offset { 1 } else { 2 };
        for half in &halves[..count] {
            // No one says a vowel twice alike.
            let formants = half.map(|hz| hz * rng.random_range(0.96..1.04));
            self.push(vowel.name, seconds / count as f64, formants).voice = 1.0;
        }
    }

    fn consonant(&mut self, consonant: &'static Consonant, vowel: [f64; 3], onset: bool, rng: &mut ChaCha8Rng) {
        let mut formants = consonant.locus;
        for (locus, target) in formants.iter_mut().zip(vowel).skip(1) {
            *locus += consonant.yielding * (target - *locus);
        }
        let seconds = consonant.seconds * rng.random_range(0.8..1.25);
        let name = consonant.name;
        let noise_hz = [consonant.noise_hz, consonant.noise_width_hz];
        let level = consonant.noise_level * rng.random_range(0.75..1.25);
        match consonant.manner {
            Manner::Stop => {
                // A voiced closure hums through the walls of the mouth; a voiceless one is silent.
                self.push(name, seconds, formants).voice = if consonant.voiced { 0.14 } else { 0.0 };
                let burst = self.push(name, if consonant.voiced { 0.008 } else { 0.014 }, formants);
                (burst.burst, burst.noise_hz) = (if onset { level } else { 0.4 * level }, noise_hz);
                if !consonant.voiced && onset {
                    let between = [0, 1, 2].map(|k| 0.5 * (formants[k] + vowel[k]));
                    self.push(name, rng.random_range(0.020..0.050), between).breath = 0.16;
                }
            }
            Manner::Fricative => {
                let gesture = self.push(name, seconds, if name == "h" { vowel } else { formants });
                gesture.voice = if consonant.voiced { 0.35 } else { 0.0 };
                gesture.noise_hz = noise_hz;
                *(if name == "h" { &mut gesture.breath } else { &mut gesture.friction }) = level;
            }
            Manner::Nasal => {
                let gesture = self.push(name, seconds, formants);
                (gesture.voice, gesture.nasal) = (0.6, 1.0);
            }
            Manner::Approximant => self.push(name, seconds, formants).voice = 0.75,
        }
    }
}
