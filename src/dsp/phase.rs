//! Phase recipes by name: from a magnitude spectrum to sound.

use std::fmt;
use std::ops::Range;
use std::str::FromStr;

use ndarray::{Array2, ArrayView2, s};
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use realfft::num_complex::Complex;

use super::griffin_lim::{FAST_MOMENTUM, griffin_lim};
use super::pghi::pghi;
use super::stft::Stft;
use crate::{Result, random};

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

    /// The recipe with its own numbers: where it iterates 50 iterations, as in the workshop, and 100 for the best, which from
    /// mel bands still gain by them.
    pub fn config(self, seed: u64) -> PhaseConfig {
        let iterations = match self {
            Phase::Pghi => 0,
            Phase::PghiFast => 100,
            Phase::Workshop | Phase::GriffinLim | Phase::FastGriffinLim => 50,
        };
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

    fn from_str(name: &str) -> std::result::Result<Self, String> {
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
    let mut signal = Vec::with_capacity(stft.inverse_len(magnitude.nrows()));
    let slice = |range| Ok(magnitude.slice(s![range, ..]).to_owned());
    let append = |part: &[f32]| {
        signal.extend_from_slice(part);
        Ok(())
    };
    reconstruct_ranges(magnitude.nrows(), slice, stft, config, append).expect("neither of the two fails");
    signal
}

/// As [`reconstruct`], in bounded memory: `magnitude` is asked for a range of frames of `frames` at a time, ranges that
/// overlap a little, and `give` is handed the signal part by part.
///
/// # Shapes
/// `magnitude(range)` `[range.len(), bins]` -> parts of `[hop * (frames - 1)]`
///
/// # Errors
/// Those of `magnitude` and `give`.
///
/// # Panics
/// If `bins` is not the transform's.
pub fn reconstruct_ranges(
    frames: usize,
    mut magnitude: impl FnMut(Range<usize>) -> Result<Array2<f32>>,
    stft: &Stft<f32>,
    config: &PhaseConfig,
    give: impl FnMut(&[f32]) -> Result<()>,
) -> Result<()> {
    let solve = |range: Range<usize>, known: ArrayView2<Complex<f32>>| {
        let magnitude =
            magnitude(range.clone())?.mapv_into(|value| if value.is_finite() { value.max(0.0) } else { 0.0 });
        let start = start(magnitude.view(), known, stft, config, range.start);
        Ok(griffin_lim(magnitude.view(), start, known, stft, config.iterations, config.momentum))
    };
    in_blocks(frames, stft, solve, give)
}

/// Frames of a block: 30 s of speech, some 60 MB of spectra.
const BLOCK: usize = 3000;
/// Frames before a block whose spectrum is known from the block before it, and that a block goes on beyond its end; more than
/// a transform spans at any usual hop.
const OVERLAP: usize = 64;

/// A long signal made in blocks of bounded memory, without a seam: `solve` is given a block's frames and the spectrum of its
/// first ones, which an earlier block has made (none for the first block), and gives the block's signal. `give` is handed
/// what no later block changes.
pub(super) fn in_blocks(
    frames: usize,
    stft: &Stft<f32>,
    mut solve: impl FnMut(Range<usize>, ArrayView2<Complex<f32>>) -> Result<Vec<f32>>,
    mut give: impl FnMut(&[f32]) -> Result<()>,
) -> Result<()> {
    let hop = stft.hop();
    // The last samples before a block, as the block before it has them.
    let mut tail: Vec<f32> = Vec::new();
    let mut known = Array2::zeros((0, stft.bins()));
    let mut first = 0;
    loop {
        // What is left over is not worth a block of its own.
        let last = if frames < first + BLOCK + BLOCK / 2 { frames } else { first + BLOCK };
        let range = first - known.nrows()..(last + OVERLAP).min(frames);
        let mut block = solve(range.clone(), known.view())?;
        // Both blocks know the last frames before this one; from one to the other along a line.
        let begin = (first - range.start) * hop - tail.len();
        for (step, (sample, before)) in block[begin..].iter_mut().zip(&tail).enumerate() {
            *sample = before + (*sample - before) * step as f32 / tail.len() as f32;
        }
        if last == frames {
            return give(&block[begin..]);
        }
        let end = (last - range.start) * hop;
        let sure = end - OVERLAP / 2 * hop;
        give(&block[begin..sure])?;
        tail = block[sure..end].to_vec();
        // Of the whole block, for what comes after the frames is in their windows.
        let spectrum = stft.forward(&block[(last - OVERLAP - range.start) * hop..]);
        known = spectrum.slice_move(s![..OVERLAP, ..]);
        first = last;
    }
}

/// The spectrum that a recipe's iterations begin with; only its phases count. The first spectra may be `known`; `first` is the
/// number of the first frame in the whole signal.
///
/// # Shapes
/// `magnitude` `[frames, bins]`, `known` `[up to frames, bins]` -> `[frames, bins]`
pub fn start(
    magnitude: ArrayView2<f32>,
    known: ArrayView2<Complex<f32>>,
    stft: &Stft<f32>,
    config: &PhaseConfig,
    first: usize,
) -> Array2<Complex<f32>> {
    let mut rng = random::stream(config.seed, "phase", first as u64);
    match config.phase {
        Phase::Workshop => noise_phase(magnitude.nrows(), stft, &mut rng),
        Phase::GriffinLim | Phase::FastGriffinLim => random_phase(magnitude.dim(), &mut rng),
        Phase::Pghi | Phase::PghiFast => pghi(magnitude, known, stft.hop(), &mut rng),
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
