//! What a segment is to sound like: nine factors, independent of each other unless asked otherwise, continuous or on a grid.

use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};
use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// One thing that differs from segment to segment.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Factor {
    /// Its column in the table; up to the first `_` its short name.
    pub name: &'static str,
    low: f64,
    high: f64,
    scale: Scale,
}

/// How a factor's range is filled.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Scale {
    Linear,
    /// Equal ratios are equally likely.
    Logarithmic,
    /// Voiced (1) with the probability [`VOICED`], else whispered (0).
    Voicing,
    /// As many values as there are speakers.
    Speaker,
}

/// Three segments in four have a voice: a whispered one says nothing of pitch.
const VOICED: f64 = 0.75;

/// The factors in the order of the columns. Formants cannot cross, and nothing clips.
pub const FACTORS: [Factor; 9] = [
    // A low man's voice to a child's.
    Factor { name: "f0_hz", low: 90.0, high: 300.0, scale: Scale::Logarithmic },
    Factor { name: "f1_hz", low: 280.0, high: 820.0, scale: Scale::Logarithmic },
    Factor { name: "f2_hz", low: 900.0, high: 2200.0, scale: Scale::Logarithmic },
    Factor { name: "f3_hz", low: 2350.0, high: 3000.0, scale: Scale::Logarithmic },
    // Root mean square re full scale. Peaks are up to 16 dB above it.
    Factor { name: "loudness_db", low: -30.0, high: -18.0, scale: Scale::Linear },
    // Klatt and Klatt's TL: what the low-pass of the source takes away at 3 kHz. More would leave little above the floor of
    // the log-mels.
    Factor { name: "tilt_db", low: 1.0, high: 13.0, scale: Scale::Linear },
    // Noise over pulses in the source.
    Factor { name: "breathiness_db", low: -30.0, high: -6.0, scale: Scale::Linear },
    Factor { name: "voicing", low: 0.0, high: 1.0, scale: Scale::Voicing },
    // Resonances above F3 relative to a man's, from a long tract to a child's.
    Factor { name: "speaker_scale", low: 0.88, high: 1.24, scale: Scale::Speaker },
];

/// The rank correlation that two factors are to have.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Correlation {
    /// Names of the two.
    pub factors: [String; 2],
    /// Spearman's coefficient, greater than -1 and less than 1.
    pub rank: f64,
}

impl std::str::FromStr for Correlation {
    type Err = String;

    /// `f0,f1=0.6`, by column names or short names.
    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let (names, rank) = text.split_once('=').ok_or("two factors and a number are needed, as in f0,f1=0.6")?;
        let (one, other) = names.split_once(',').ok_or("two factors are needed, as in f0,f1=0.6")?;
        let rank: f64 = rank.trim().parse().map_err(|_| format!("`{rank}` is not a number"))?;
        let [one, other] = [index_of(one.trim())?, index_of(other.trim())?];
        if one == other {
            return Err(format!("{} is named twice", FACTORS[one].name));
        }
        // At either end one factor would be a function of the other, which no factor corpus is for.
        if rank.is_nan() || rank.abs() >= 1.0 {
            return Err(format!("{rank} must be greater than -1 and less than 1"));
        }
        Ok(Self { factors: [FACTORS[one].name.into(), FACTORS[other].name.into()], rank })
    }
}

fn index_of(name: &str) -> std::result::Result<usize, String> {
    let short = |factor: &Factor| factor.name.split('_').next() == Some(name);
    FACTORS.iter().position(|factor| factor.name == name || short(factor)).ok_or_else(|| {
        let names: Vec<_> = FACTORS.iter().filter_map(|factor| factor.name.split('_').next()).collect();
        format!("`{name}` is no factor; there are {}", names.join(", "))
    })
}

/// Draws factors: correlated normal values, each turned into a uniform one (a Gaussian copula), then into the factor's range.
#[derive(Debug, Clone)]
pub struct Design {
    /// Lower triangle whose product with its transpose is the normal values' correlation.
    root: [[f64; FACTORS.len()]; FACTORS.len()],
    grid: Option<usize>,
    speakers: usize,
}

impl Design {
    /// `grid` levels of each continuous factor, or any value of its range; `speakers` levels of the speaker.
    ///
    /// # Errors
    /// [`Error::Config`] if no distribution has these correlations together.
    pub fn new(correlations: &[Correlation], grid: Option<usize>, speakers: usize) -> Result<Self> {
        let count = FACTORS.len();
        let mut wanted = [[0.0; FACTORS.len()]; FACTORS.len()];
        (0..count).for_each(|i| wanted[i][i] = 1.0);
        for Correlation { factors, rank } in correlations {
            let [i, j] = [&factors[0], &factors[1]].map(|name| index_of(name));
            let (i, j) = (i.map_err(Error::Config)?, j.map_err(Error::Config)?);
            if i == j || wanted[i][j] != 0.0 {
                let message =
                    format!("--correlate {},{}: two factors are needed, and each pair once", factors[0], factors[1]);
                return Err(Error::Config(message));
            }
            // Between normal values whose ranks correlate so (Pearson 1907).
            let normal = 2.0 * (std::f64::consts::PI * rank / 6.0).sin();
            (wanted[i][j], wanted[j][i]) = (normal, normal);
        }
        let mut root = [[0.0; FACTORS.len()]; FACTORS.len()];
        for i in 0..count {
            for j in 0..=i {
                let rest = wanted[i][j] - (0..j).map(|k| root[i][k] * root[j][k]).sum::<f64>();
                if i != j {
                    root[i][j] = rest / root[j][j];
                } else if rest > 1e-9 {
                    root[i][i] = rest.sqrt();
                } else {
                    let message = "--correlate: no factors can have these correlations together; weaken one of them";
                    return Err(Error::Config(message.into()));
                }
            }
        }
        Ok(Self { root, grid, speakers })
    }

    /// The next segment's factors.
    pub fn draw(&self, rng: &mut ChaCha8Rng) -> Segment {
        let normal: [f64; FACTORS.len()] = std::array::from_fn(|_| StandardNormal.sample(rng));
        let values = std::array::from_fn(|factor| {
            let mixed: f64 = self.root[factor].iter().zip(&normal).map(|(weight, value)| weight * value).sum();
            self.value(&FACTORS[factor], normal_cdf(mixed))
        });
        Segment { values }
    }

    /// The factor's value at a share of its range, rounded so that a table holds it exactly.
    fn value(&self, factor: &Factor, share: f64) -> f64 {
        let level = |levels: usize| ((share * levels as f64) as usize).min(levels - 1) as f64 / (levels - 1) as f64;
        let &Factor { low, high, .. } = factor;
        let share = match factor.scale {
            Scale::Voicing => return f64::from(u8::from(share >= 1.0 - VOICED)),
            Scale::Speaker => level(self.speakers),
            _ => self.grid.map_or(share, level),
        };
        let value = match factor.scale {
            Scale::Logarithmic => low * (high / low).powf(share),
            _ => low + (high - low) * share,
        };
        (value * 1e4).round() / 1e4
    }
}

/// The factors of one segment, the same throughout it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Segment {
    /// One for each of [`FACTORS`].
    pub values: [f64; FACTORS.len()],
}

impl Segment {
    /// Whether the folds sound.
    pub fn is_voiced(&self) -> bool {
        self.values[7] > 0.5
    }

    /// The values as a table has them: a whisper has no pitch, nor a share of breath.
    pub fn told(&self) -> [Option<f64>; FACTORS.len()] {
        let untold = |name| !self.is_voiced() && matches!(name, "f0_hz" | "breathiness_db");
        std::array::from_fn(|factor| (!untold(FACTORS[factor].name)).then_some(self.values[factor]))
    }
}

/// The standard normal distribution function, to 1e-7 (Abramowitz and Stegun 1964, 26.2.17).
fn normal_cdf(x: f64) -> f64 {
    let t = 1.0 / (1.0 + 0.231_641_9 * x.abs());
    let series = [1.330_274_429, -1.821_255_978, 1.781_477_937, -0.356_563_782, 0.319_381_530];
    let tail = series.iter().fold(0.0, |sum, c| (sum + c) * t) * (-x * x / 2.0).exp() / std::f64::consts::TAU.sqrt();
    if x < 0.0 { tail } else { 1.0 - tail }
}
