//! Phase recipes by name: from a magnitude spectrum to sound.

use std::fmt;
use std::str::FromStr;

use ndarray::{Array2, ArrayView2};
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use realfft::num_complex::Complex;

use super::griffin_lim::{FAST_MOMENTUM, griffin_lim};
use super::pghi::pghi;
use super::stft::Stft;
use crate::random;

/// A way to find phases.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// The original workshop's: Griffin-Lim from the phases of uniform noise in [0, 1).
    Workshop,
    /// Griffin-Lim from random phases.
    GriffinLim,
    /// Griffin-Lim with momentum from random phases.
    FastGriffinLim,
    /// Phase gradient heap integration alone.
    Pghi,
    /// Phase gradient heap integration, then Griffin-Lim with momentum: the best of them.
    PghiFast,
}

impl Phase {
    /// All recipes, simplest first.
    pub const ALL: [Phase; 5] =
        [Phase::Workshop, Phase::GriffinLim, Phase::FastGriffinLim, Phase::Pghi, Phase::PghiFast];

    /// The name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Phase::Workshop => "workshop",
            Phase::GriffinLim => "griffin-lim",
            Phase::FastGriffinLim => "fast-griffin-lim",
            Phase::Pghi => "pghi",
            Phase::PghiFast => "pghi-fast",
        }
    }

    /// The recipe with its own numbers: 50 iterations where it iterates, as in the workshop.
    pub fn config(self, seed: u64) -> PhaseConfig {
        let iterations = if self == Phase::Pghi { 0 } else { 50 };
        let momentum = if matches!(self, Phase::FastGriffinLim | Phase::PghiFast) { FAST_MOMENTUM } else { 0.0 };
        PhaseConfig { phase: self, iterations, momentum, seed }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

impl FromStr for Phase {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        Phase::ALL.into_iter().find(|phase| phase.name() == name).ok_or_else(|| {
            format!("no phase recipe is called {name}; there are {}", Phase::ALL.map(Phase::name).join(", "))
        })
    }
}

/// A recipe with its numbers; [`Phase::config`] gives the usual ones.
#[derive(Debug, Clone, PartialEq)]
pub struct PhaseConfig {
    /// Decides the phases to start from.
    pub phase: Phase,
    /// Projections after the start.
    pub iterations: usize,
    /// 0 for Griffin and Lim's algorithm, 0.99 for the fast one.
    pub momentum: f32,
    /// Of the random phases.
    pub seed: u64,
}

/// A signal with nearly these magnitudes. The same recipe and seed give the same samples.
///
/// NaN and infinite magnitudes count as zero; all-zero magnitudes give silence.
///
/// # Shapes
/// `magnitude` (linear, not power) `[frames, bins]` -> `[hop * (frames - 1)]`; one frame gives no samples.
///
/// # Panics
/// If `bins` is not the transform's.
pub fn reconstruct(magnitude: ArrayView2<f32>, stft: &Stft<f32>, config: &PhaseConfig) -> Vec<f32> {
    let magnitude = magnitude.mapv(|value| if value.is_finite() { value.max(0.0) } else { 0.0 });
    let start = start(magnitude.view(), stft, config);
    griffin_lim(magnitude.view(), start, stft, config.iterations, config.momentum)
}

/// The spectrum that a recipe's iterations begin with; only its phases count.
///
/// # Shapes
/// `[frames, bins]` -> `[frames, bins]`
pub fn start(magnitude: ArrayView2<f32>, stft: &Stft<f32>, config: &PhaseConfig) -> Array2<Complex<f32>> {
    let mut rng = random::stream(config.seed, "phase", 0);
    match config.phase {
        Phase::Workshop => noise_phase(magnitude.nrows(), stft, &mut rng),
        Phase::GriffinLim | Phase::FastGriffinLim => random_phase(magnitude.dim(), &mut rng),
        Phase::Pghi | Phase::PghiFast => pghi(magnitude, stft.hop(), &mut rng),
    }
}

/// Independent uniform phases, magnitude 1.
fn random_phase(shape: (usize, usize), rng: &mut ChaCha8Rng) -> Array2<Complex<f32>> {
    Array2::from_shape_simple_fn(shape, || Complex::cis(rng.random_range(0.0..std::f32::consts::TAU)))
}

/// The spectrum of a signal of independent uniform samples in [0, 1): consistent phases, if of noise.
fn noise_phase(frames: usize, stft: &Stft<f32>, rng: &mut ChaCha8Rng) -> Array2<Complex<f32>> {
    if frames == 0 {
        return Array2::zeros((0, stft.bins()));
    }
    let noise: Vec<f32> = (0..stft.inverse_len(frames)).map(|_| rng.random()).collect();
    stft.forward(&noise)
}
