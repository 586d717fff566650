//! Alternating projections: from magnitudes without phase to a signal that has them, nearly.
//!
//! One loop serves every variant. It goes to and fro between the spectra that belong to a signal (by resynthesis and
//! analysis) and those that satisfy a constraint. With magnitudes as the constraint it is Griffin and Lim's algorithm;
//! [`super::mel_inverse`] puts a mel spectrum there instead.
//!
//! # References
//! Griffin and Lim, "Signal estimation from modified short-time Fourier transform", 1984. Perraudin, Balazs and
//! Søndergaard, "A fast Griffin-Lim algorithm", 2013 (the momentum).

use ndarray::{Array2, ArrayView2, Zip};
use realfft::num_complex::Complex;

use super::projection::Projection;
use super::stft::Stft;
use crate::kernels::math::{Work, vectorized};

/// What the fast algorithm adds of the last step: 0.99 is the paper's choice and the best of those measured here.
pub const FAST_MOMENTUM: f32 = 0.99;

/// Below this power a bin has no phase; it becomes zero rather than a division by zero.
const NO_PHASE: f32 = 1e-30;

/// A signal whose magnitudes come near `magnitude`, from the phases in `start`.
///
/// `momentum` 0 is Griffin and Lim's algorithm, whose error never grows; with [`FAST_MOMENTUM`] it falls faster and
/// further, though not at every step. No iteration at all resynthesises the start.
///
/// The first frames stay as they are in `known`, which may have none.
///
/// # Shapes
/// `magnitude` (linear, not power) and `start` `[frames, bins]`, `known` `[up to frames, bins]` -> `[hop * (frames - 1)]`; one
/// frame gives no samples.
///
/// # Panics
/// If the shapes differ, or `bins` is not the transform's.
pub fn griffin_lim(
    magnitude: ArrayView2<f32>,
    start: Array2<Complex<f32>>,
    known: ArrayView2<Complex<f32>>,
    stft: &Stft<f32>,
    iterations: usize,
    momentum: f32,
) -> Vec<f32> {
    assert_eq!(magnitude.dim(), start.dim(), "magnitudes and start differ in shape");
    let magnitude = magnitude.as_standard_layout();
    let mut scale = vec![0.0; magnitude.ncols()];
    alternate(start, known, stft, iterations, momentum, |frame, spectrum| {
        let target = magnitude.row(frame);
        let target = target.to_slice().expect("the layout is standard");
        vectorized(Impose { target, spectrum, scale: &mut scale });
    })
}

/// Gives each bin of `spectrum` its target magnitude and leaves its phase. In three passes, each of which the compiler
/// turns into vector instructions; in one it does not.
struct Impose<'a> {
    target: &'a [f32],
    spectrum: &'a mut [Complex<f32>],
    scale: &'a mut [f32],
}

impl Work for Impose<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let Self { target, spectrum, scale } = self;
        for (scale, bin) in scale.iter_mut().zip(&*spectrum) {
            *scale = bin.norm_sqr();
        }
        for (scale, &target) in scale.iter_mut().zip(target) {
            *scale = target / scale.max(NO_PHASE).sqrt();
        }
        for (bin, &scale) in spectrum.iter_mut().zip(&*scale) {
            *bin *= scale;
        }
    }
}

/// The loop: `iterations` times resynthesise, add momentum, analyse and call `constrain` with each frame's number and
/// spectrum; then resynthesise a last time. The constraint is imposed on the start as well. The first frames are those of
/// `known` throughout.
///
/// The fast algorithm adds to a spectrum what it has changed since the iteration before. Analysis is linear: the same is
/// added to the signal here, of which there is less.
///
/// # Panics
/// If `start` does not have the transform's bins.
pub(super) fn alternate(
    start: Array2<Complex<f32>>,
    known: ArrayView2<Complex<f32>>,
    stft: &Stft<f32>,
    iterations: usize,
    momentum: f32,
    mut constrain: impl FnMut(usize, &mut [Complex<f32>]),
) -> Vec<f32> {
    let (frames, bins) = start.dim();
    assert_eq!(bins, stft.bins(), "a spectrum of {bins} bins for a transform of {}", stft.bins());
    let mut signal = vec![0.0; stft.inverse_len(frames)];
    if signal.is_empty() {
        return signal;
    }
    let mut constrain = |frame, spectrum: &mut [Complex<f32>]| match frame < known.nrows() {
        true => spectrum.iter_mut().zip(known.row(frame)).for_each(|(bin, known)| *bin = *known),
        false => constrain(frame, spectrum),
    };
    let mut projection = Projection::new(stft, signal.len());
    projection.inverse(&mut signal, |frame, spectrum| {
        spectrum.iter_mut().zip(start.row(frame)).for_each(|(bin, start)| *bin = *start);
        constrain(frame, spectrum);
    });
    drop(start);
    let mut before = signal.clone();
    let mut next = vec![0.0; signal.len()];
    for _ in 0..iterations {
        // Nothing comes before the first iteration: nothing is added to it.
        for (before, now) in before.iter_mut().zip(&signal) {
            *before = now + (now - *before) * momentum;
        }
        projection.pass(&before, &mut next, &mut constrain);
        std::mem::swap(&mut before, &mut signal);
        std::mem::swap(&mut signal, &mut next);
    }
    signal
}

/// How far `signal` is from having `magnitude`: 20 log10(‖|STFT(signal)| − S‖ / ‖S‖), in dB; the lower the nearer.
///
/// Silence that should be silence is at −infinity.
///
/// # Shapes
/// `[hop * (frames - 1)]` and `[frames, bins]`.
///
/// # Panics
/// If the shapes do not belong to each other under `stft`.
pub fn spectral_convergence(signal: &[f32], magnitude: ArrayView2<f32>, stft: &Stft<f32>) -> f64 {
    let spectrum = stft.forward(signal);
    assert_eq!(spectrum.dim(), magnitude.dim(), "a signal of {} samples has other frames or bins", signal.len());
    let (mut error, mut total) = (0.0, 0.0);
    Zip::from(&spectrum).and(magnitude).for_each(|found, &wanted| {
        error += f64::from(found.norm() - wanted).powi(2);
        total += f64::from(wanted).powi(2);
    });
    if error == 0.0 { f64::NEG_INFINITY } else { 10.0 * (error / total).log10() }
}
