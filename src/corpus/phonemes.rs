//! The sounds the generator knows: vowels by their formants, consonants by how and where they are made.
//!
//! Frequencies are those of an adult man's vocal tract; [`super::speaker`] scales them for others.
//!
//! # References
//! Vowel formants: Peterson and Barney, "Control methods used in a study of the vowels", 1952. Consonant targets follow
//! the ranges of Klatt, "Software for a cascade/parallel formant synthesizer", 1980, and Stevens, "Acoustic Phonetics",
//! 1998, rounded.

/// A vowel or diphthong: where its formants start and where they end.
#[derive(Debug, PartialEq)]
pub struct Vowel {
    pub name: &'static str,
    /// F1, F2, F3 in Hz at the beginning.
    pub onset: [f64; 3],
    /// F1, F2, F3 in Hz at the end; the same as `onset` in a plain vowel.
    pub offset: [f64; 3],
    /// Length relative to the average vowel.
    pub length: f64,
}

/// How a consonant is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// Closure, then a burst; then breath when voiceless.
    Stop,
    /// Noise at a constriction.
    Fricative,
    /// Mouth closed, nose open: a pole and a zero join the vocal tract.
    Nasal,
    /// A vowel-like glide or liquid.
    Approximant,
}

/// A consonant: formant targets for the neighbouring transitions, and the noise it makes.
#[derive(Debug, PartialEq)]
pub struct Consonant {
    pub name: &'static str,
    pub manner: Manner,
    pub voiced: bool,
    /// F1, F2, F3 in Hz: the locus that transitions point to.
    pub locus: [f64; 3],
    /// How far the locus gives way to the vowel beside it, 0 to 1 (the slope of the locus equation).
    pub yielding: f64,
    /// Centre of the noise in Hz; 0 when the noise is breath through the whole tract, or there is none.
    pub noise_hz: f64,
    /// Width of the noise in Hz.
    pub noise_width_hz: f64,
    /// Level of the noise relative to a vowel's voice source.
    pub noise_level: f64,
    /// Length in seconds at an average speaking rate, bursts and breath not counted.
    pub seconds: f64,
}

const fn vowel(name: &'static str, formants: [f64; 3], length: f64) -> Vowel {
    Vowel { name, onset: formants, offset: formants, length }
}

const fn diphthong(name: &'static str, onset: [f64; 3], offset: [f64; 3]) -> Vowel {
    Vowel { name, onset, offset, length: 1.35 }
}

const I: [f64; 3] = [300.0, 2250.0, 3010.0];
const SHORT_I: [f64; 3] = [390.0, 1990.0, 2550.0];
const E: [f64; 3] = [530.0, 1840.0, 2480.0];
const AE: [f64; 3] = [660.0, 1720.0, 2410.0];
const A: [f64; 3] = [730.0, 1090.0, 2440.0];
const O: [f64; 3] = [570.0, 840.0, 2410.0];
const SHORT_U: [f64; 3] = [440.0, 1020.0, 2240.0];
const U: [f64; 3] = [310.0, 870.0, 2240.0];
const UH: [f64; 3] = [640.0, 1190.0, 2390.0];
const ER: [f64; 3] = [490.0, 1350.0, 1690.0];

/// Formants of the neutral tract: the unstressed vowel, and where the mouth rests in a pause.
pub const NEUTRAL: [f64; 3] = [500.0, 1480.0, 2500.0];

/// The vowels of stressed syllables.
pub static VOWELS: [Vowel; 13] = [
    vowel("i", I, 1.0),
    vowel("ih", SHORT_I, 0.75),
    vowel("eh", E, 0.85),
    vowel("ae", AE, 1.1),
    vowel("a", A, 1.1),
    vowel("o", O, 1.05),
    vowel("uh", SHORT_U, 0.75),
    vowel("u", U, 1.0),
    vowel("ah", UH, 0.8),
    vowel("er", ER, 1.05),
    diphthong("ai", A, SHORT_I),
    diphthong("ei", E, I),
    diphthong("ou", O, U),
];

/// The vowel that unstressed syllables are often reduced to.
pub static SCHWA: Vowel = vowel("schwa", NEUTRAL, 0.7);

/// The name written for silence.
pub const PAUSE: &str = "pause";

const fn stop(name: &'static str, voiced: bool, locus: [f64; 3], yielding: f64, noise: [f64; 3]) -> Consonant {
    let [noise_hz, noise_width_hz, noise_level] = noise;
    let seconds = if voiced { 0.055 } else { 0.075 };
    Consonant { name, manner: Manner::Stop, voiced, locus, yielding, noise_hz, noise_width_hz, noise_level, seconds }
}

const fn fricative(name: &'static str, voiced: bool, locus: [f64; 3], noise: [f64; 3]) -> Consonant {
    let [noise_hz, noise_width_hz, noise_level] = noise;
    let (manner, yielding) = (Manner::Fricative, 0.4);
    let seconds = if voiced { 0.075 } else { 0.115 };
    Consonant { name, manner, voiced, locus, yielding, noise_hz, noise_width_hz, noise_level, seconds }
}

const fn sonorant(name: &'static str, manner: Manner, locus: [f64; 3], yielding: f64) -> Consonant {
    let seconds = 0.075;
    let (voiced, noise_hz, noise_width_hz, noise_level) = (true, 0.0, 0.0, 0.0);
    Consonant { name, manner, voiced, locus, yielding, noise_hz, noise_width_hz, noise_level, seconds }
}

/// The consonants.
pub static CONSONANTS: [Consonant; 20] = [
    stop("p", false, [250.0, 900.0, 2150.0], 0.6, [900.0, 1400.0, 0.17]),
    stop("t", false, [250.0, 1750.0, 2650.0], 0.35, [4300.0, 2600.0, 0.51]),
    stop("k", false, [250.0, 1900.0, 2250.0], 0.7, [1900.0, 700.0, 0.476]),
    stop("b", true, [220.0, 900.0, 2150.0], 0.6, [800.0, 1200.0, 0.102]),
    stop("d", true, [220.0, 1750.0, 2650.0], 0.35, [4000.0, 2600.0, 0.272]),
    stop("g", true, [220.0, 1900.0, 2250.0], 0.7, [1900.0, 700.0, 0.272]),
    fricative("s", false, [320.0, 1550.0, 2600.0], [6300.0, 2800.0, 0.578]),
    fricative("sh", false, [320.0, 1800.0, 2550.0], [3300.0, 1900.0, 0.612]),
    fricative("f", false, [320.0, 1050.0, 2150.0], [4500.0, 7000.0, 0.102]),
    fricative("th", false, [320.0, 1350.0, 2550.0], [5800.0, 5500.0, 0.076]),
    fricative("h", false, NEUTRAL, [0.0, 0.0, 0.16]),
    fricative("z", true, [270.0, 1550.0, 2600.0], [6300.0, 2800.0, 0.272]),
    fricative("v", true, [270.0, 1050.0, 2150.0], [4500.0, 7000.0, 0.043]),
    sonorant("m", Manner::Nasal, [260.0, 1050.0, 2150.0], 0.4),
    sonorant("n", Manner::Nasal, [260.0, 1550.0, 2550.0], 0.3),
    sonorant("ng", Manner::Nasal, [260.0, 2050.0, 2500.0], 0.5),
    sonorant("l", Manner::Approximant, [350.0, 1200.0, 2750.0], 0.2),
    sonorant("r", Manner::Approximant, [330.0, 1150.0, 1500.0], 0.1),
    sonorant("w", Manner::Approximant, [300.0, 680.0, 2200.0], 0.05),
    sonorant("j", Manner::Approximant, [280.0, 2150.0, 2980.0], 0.05),
];
