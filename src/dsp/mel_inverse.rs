//! From mel bands back to linear frequency without a network: multiplicative updates, alone or joined with the phase.
//!
//! # Reference
//! Lee and Seung, "Algorithms for non-negative matrix factorization", 2001, equation 5 (the update of one factor under
//! the generalised Kullback-Leibler divergence).

use std::ops::Range;

use ndarray::{Array2, ArrayView2, Zip, s};
use pulp::{Simd, WithSimd};
use rayon::prelude::*;
use realfft::num_complex::Complex;

use super::griffin_lim::alternate;
use super::mel::MelFilterbank;
use super::phase::{PhaseConfig, in_blocks, start};
use super::stft::Stft;
use crate::Result;

/// Updates after which more change little: the mel error has fallen to a few hundredths of a dB.
pub const ITERATIONS: usize = 30;
/// Power of bins outside all bands, and the least of those inside; its logarithm is finite.
pub const FLOOR: f32 = 1e-10;
/// What an empty bin of the joint iteration counts as; and the magnitude below which a start has no phase.
const LEAST_POWER: f32 = 1e-12;
const NO_PHASE: f32 = 1e-20;
/// Frames that are computed side by side: a band's sum then runs in vector registers.
const LANES: usize = 16;

type Lanes = [f32; LANES];

/// A filterbank with the weights of the update made ready.
#[derive(Debug, Clone)]
pub struct MelInverse {
    bins: usize,
    /// First bin and weights of each band.
    bands: Vec<(usize, Vec<f32>)>,
    /// For each band, the bins from where the band below it ends.
    slopes: Vec<Slope>,
    /// For each bin, one over the sum of its weights in all bands; 0 outside them.
    bin_scale: Vec<f32>,
    /// For each band, one over the sum of its weights.
    band_scale: Vec<f32>,
}

/// Bins of which a band is the lower of at most two.
#[derive(Debug, Clone, Default)]
struct Slope {
    first: usize,
    /// For each bin, its weights in this band and in the next, and both divided by their sum.
    weights: Vec<[f32; 4]>,
}

impl MelInverse {
    /// Prepares the inversion of `filterbank`.
    pub fn new(filterbank: &MelFilterbank) -> Self {
        let mut sums = vec![0.0f64; filterbank.bins()];
        for band in filterbank.bands() {
            sums[band.first..].iter_mut().zip(&band.weights).for_each(|(sum, weight)| *sum += weight);
        }
        let mut slopes = vec![Slope::default(); filterbank.n_mels()];
        for (bin, &sum) in sums.iter().enumerate() {
            let weight = |band: usize| {
                let band = filterbank.bands().get(band)?;
                band.weights.get(bin.checked_sub(band.first)?).copied()
            };
            let Some(lower) = (0..slopes.len()).find(|&band| weight(band).is_some()) else { continue };
            let slope = &mut slopes[lower];
            if slope.weights.is_empty() {
                slope.first = bin;
            }
            let [this, next] = [lower, lower + 1].map(|band| weight(band).unwrap_or(0.0));
            slope.weights.push([this, next, this / sum, next / sum].map(|weight| weight as f32));
        }
        let bands = filterbank.bands().iter();
        Self {
            bins: filterbank.bins(),
            slopes,
            bin_scale: sums.iter().map(|&sum| if sum > 0.0 { (1.0 / sum) as f32 } else { 0.0 }).collect(),
            band_scale: bands.clone().map(|band| (1.0 / band.weights.iter().sum::<f64>()) as f32).collect(),
            bands: bands.map(|band| (band.first, band.weights.iter().map(|&weight| weight as f32).collect())).collect(),
        }
    }

    /// Power spectra whose mel spectra are near `mel`: from the bands spread over their bins, `iterations` updates
    /// `P *= W'(mel / W P) / (W' 1)`.
    ///
    /// Frames are computed in parallel on rayon's pool. Bins outside all bands have [`FLOOR`], the least of any. Values
    /// that are not finite, or negative, count as zero.
    ///
    /// # Shapes
    /// `mel` (power, not its logarithm) `[frames, n_mels]` -> power `[frames, bins]`
    ///
    /// # Panics
    /// If `mel` has another number of bands than the filterbank.
    pub fn power(&self, mel: ArrayView2<f32>, iterations: usize) -> Array2<f32> {
        assert_eq!(mel.ncols(), self.bands.len(), "mel spectra of {} bands", mel.ncols());
        let mut power = Array2::zeros((mel.nrows(), self.bins));
        // Some 50 blocks a task: enough work to pay for its buffers.
        let rows = 50 * LANES;
        let flat = power.as_slice_mut().expect("a new array is contiguous");
        flat.par_chunks_mut(rows * self.bins).enumerate().for_each(|(task, power)| {
            let mut block = Block::new(self);
            for (step, power) in power.chunks_mut(LANES * self.bins).enumerate() {
                let first = task * rows + step * LANES;
                block.fill(self, mel.slice(s![first..first + power.len() / self.bins, ..]));
                pulp::Arch::new().dispatch(Updates { block: &mut block, inverse: self, count: iterations });
                block.give(power);
            }
        });
        power
    }

    /// One update of a single frame's `power`; `ratio` (per band) and `factor` (per bin) are scratch.
    fn update(&self, mel: &[f32], power: &mut [f32], ratio: &mut [f32], factor: &mut [f32]) {
        for (((first, weights), &wanted), ratio) in self.bands.iter().zip(mel).zip(ratio.iter_mut()) {
            let found: f32 = weights.iter().zip(&power[*first..]).map(|(weight, power)| weight * power).sum();
            *ratio = wanted / found.max(FLOOR);
        }
        factor.fill(0.0);
        for ((first, weights), ratio) in self.bands.iter().zip(ratio) {
            factor[*first..].iter_mut().zip(weights).for_each(|(factor, weight)| *factor += weight * *ratio);
        }
        for ((power, factor), scale) in power.iter_mut().zip(factor).zip(&self.bin_scale) {
            *power *= *factor * scale;
        }
    }
}

/// Sixteen frames, transposed so that a lane is a frame.
struct Block {
    mel: Vec<Lanes>,
    ratio: Vec<Lanes>,
    power: Vec<Lanes>,
}

impl Block {
    fn new(inverse: &MelInverse) -> Self {
        let (n_mels, bins) = (inverse.bands.len(), inverse.bins);
        let lanes = |count| vec![[0.0; LANES]; count];
        Self { mel: lanes(n_mels), ratio: lanes(n_mels), power: lanes(bins) }
    }

    /// Takes up to sixteen frames.
    fn fill(&mut self, inverse: &MelInverse, mel: ArrayView2<f32>) {
        for (band, lanes) in self.mel.iter_mut().enumerate() {
            *lanes = [0.0; LANES];
            for (lane, &value) in lanes.iter_mut().zip(mel.column(band)) {
                *lane = if value.is_finite() { value.max(0.0) } else { 0.0 };
            }
        }
        for ((ratio, mel), &scale) in self.ratio.iter_mut().zip(&self.mel).zip(&inverse.band_scale) {
            *ratio = mel.map(|value| value * scale);
        }
        for (power, &scale) in self.power.iter_mut().zip(&inverse.bin_scale) {
            *power = [if scale > 0.0 { 1.0 } else { 0.0 }; LANES];
        }
    }

    /// Writes as many frames as `power` has.
    fn give(&self, power: &mut [f32]) {
        for (lane, row) in power.chunks_exact_mut(self.power.len()).enumerate() {
            row.iter_mut().zip(&self.power).for_each(|(out, lanes)| *out = lanes[lane].max(FLOOR));
        }
    }
}

/// So many updates of a block, in vector registers named as such: left to itself the compiler gathers along the bins.
struct Updates<'a> {
    block: &'a mut Block,
    inverse: &'a MelInverse,
    count: usize,
}

impl WithSimd for Updates<'_> {
    type Output = ();

    /// Each pass multiplies the bins by the weighted mean of their bands' ratios and adds them up to the bands of the next.
    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { block: Block { mel, ratio, power }, inverse, count } = self;
        // A frame's lanes are one or more registers.
        let registers = LANES / S::F32_LANES;
        let [mel, ratio, power] = [mel, ratio, power].map(|part| S::as_mut_simd_f32s(part.as_flattened_mut()).0);
        let [zero, floor] = [0.0, FLOOR].map(|value| simd.splat_f32s(value));
        for _ in 0..=count {
            let mut sums = [zero; LANES]; // of the band, as far as the slope below reached it
            for (band, slope) in inverse.slopes.iter().enumerate() {
                let (mut lower, mut upper, mut next) = ([zero; LANES], [zero; LANES], [zero; LANES]);
                for register in 0..registers {
                    lower[register] = ratio[band * registers + register];
                    upper[register] = ratio.get((band + 1) * registers + register).copied().unwrap_or(zero);
                }
                let powers = power[slope.first * registers..].chunks_exact_mut(registers);
                for (powers, weights) in powers.zip(&slope.weights) {
                    let [this, above, mean_this, mean_above] = weights.map(|weight| simd.splat_f32s(weight));
                    for register in 0..registers {
                        let factor = simd.mul_f32s(mean_above, upper[register]);
                        let factor = simd.mul_add_e_f32s(mean_this, lower[register], factor);
                        let power = simd.mul_f32s(powers[register], factor);
                        powers[register] = power;
                        sums[register] = simd.mul_add_e_f32s(this, power, sums[register]);
                        next[register] = simd.mul_add_e_f32s(above, power, next[register]);
                    }
                }
                for (register, &sum) in sums[..registers].iter().enumerate() {
                    let at = band * registers + register;
                    ratio[at] = simd.div_f32s(mel[at], simd.max_f32s(sum, floor));
                }
                sums = next;
            }
        }
    }
}

/// A signal whose mel spectrum comes near `mel`: Griffin-Lim whose constraint is one multiplicative update towards the
/// mel spectrum, rather than fixed magnitudes. Bins outside all bands stay as they are in `magnitude`.
///
/// It starts from `magnitude`, such as the root of [`MelInverse::power`] or better, with the phases of `config`. From exact
/// mel bands it sounds better than keeping to those magnitudes; [`Phase::PghiFast`](super::phase::Phase::PghiFast) is the
/// best start.
///
/// # Shapes
/// `spectra(range)` gives `mel` (power, not its logarithm) `[range.len(), n_mels]` and `magnitude` (not power)
/// `[range.len(), bins]` -> parts of `[hop * (frames - 1)]`; one frame gives no samples. What is not finite counts as zero. Long
/// signals are made in blocks, as by [`reconstruct_ranges`](super::phase::reconstruct_ranges).
///
/// # Errors
/// Those of `spectra` and `give`.
///
/// # Panics
/// If `mel` has another number of bands than `inverse`, or one of the two has another shape than it should.
pub fn joint_reconstruct(
    frames: usize,
    mut spectra: impl FnMut(Range<usize>) -> Result<(Array2<f32>, Array2<f32>)>,
    inverse: &MelInverse,
    stft: &Stft<f32>,
    config: &PhaseConfig,
    give: impl FnMut(&[f32]) -> Result<()>,
) -> Result<()> {
    let solve = |range: Range<usize>, known: ArrayView2<Complex<f32>>| {
        let (mel, magnitude) = spectra(range.clone())?;
        assert_eq!(mel.dim(), (range.len(), inverse.bands.len()), "mel spectra of other frames or bands");
        assert_eq!(magnitude.dim(), (range.len(), inverse.bins), "magnitudes of other frames or bins");
        Ok(joint_block(mel, magnitude, known, range.start, inverse, stft, config))
    };
    in_blocks(frames, stft, solve, give)
}

/// [`joint_reconstruct`] of one block, whose first frame is `first` of all and whose first spectra are `known`.
fn joint_block(
    mel: Array2<f32>,
    magnitude: Array2<f32>,
    known: ArrayView2<Complex<f32>>,
    first: usize,
    inverse: &MelInverse,
    stft: &Stft<f32>,
    config: &PhaseConfig,
) -> Vec<f32> {
    let finite = |value: f32| if value.is_finite() { value.max(0.0) } else { 0.0 };
    let (mel, magnitude) = (mel.mapv(finite), magnitude.mapv_into(finite));
    let mut spectrum = start(magnitude.view(), known, stft, config, first);
    Zip::from(&mut spectrum).and(&magnitude).for_each(|bin, &magnitude| *bin *= magnitude / bin.norm().max(NO_PHASE));

    let mut power = vec![0.0; inverse.bins];
    let mut before = vec![0.0; inverse.bins];
    let mut factor = vec![0.0; inverse.bins];
    let mut ratio = vec![0.0; inverse.bands.len()];
    alternate(spectrum, known, stft, config.iterations, config.momentum, |frame, spectrum| {
        for ((power, before), bin) in power.iter_mut().zip(&mut before).zip(&*spectrum) {
            // The least power keeps an empty bin able to grow.
            *power = bin.norm_sqr() + LEAST_POWER;
            *before = *power;
        }
        let wanted = mel.row(frame);
        inverse.update(wanted.to_slice().expect("mapped arrays are contiguous"), &mut power, &mut ratio, &mut factor);
        for (index, bin) in spectrum.iter_mut().enumerate() {
            let wanted = if inverse.bin_scale[index] > 0.0 { power[index] } else { magnitude[[frame, index]].powi(2) };
            *bin *= (wanted / before[index]).sqrt();
        }
    })
}
