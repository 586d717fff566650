//! To and fro between a signal and its spectra, frame by frame: what iterations for phases spend their time on.
//!
//! A frame is analysed, changed and added to the result while it is in the processor's nearest memory; the spectrogram as a
//! whole never exists. Two frames at a time are the real and the imaginary part of one complex transform.

use std::sync::Arc;

use realfft::num_complex::Complex;
use rustfft::{Fft, FftPlanner};

use super::frame_pair::{Cut, Join, Overlap, Split};
use super::stft::Stft;
use crate::kernels::math::vectorized;

const ZERO: Complex<f32> = Complex { re: 0.0, im: 0.0 };

/// The way from a signal to its spectra and back, for signals of one length; made once, used for every iteration.
pub(super) struct Projection<'a> {
    stft: &'a Stft<f32>,
    forward: Arc<dyn Fft<f32>>,
    inverse: Arc<dyn Fft<f32>>,
    /// What to multiply the overlapped sum by, per sample.
    envelope: Vec<f32>,
    /// A frame under the window.
    frame: Vec<f32>,
    /// Two frames as one.
    both: Vec<Complex<f32>>,
    /// The spectrum of each.
    spectra: [Vec<Complex<f32>>; 2],
    scratch: Vec<Complex<f32>>,
}

impl<'a> Projection<'a> {
    /// For signals of `len` samples.
    ///
    /// # Panics
    /// If `len` is not a whole number of hops.
    pub fn new(stft: &'a Stft<f32>, len: usize) -> Self {
        assert!(len.is_multiple_of(stft.hop()), "{len} samples are not a whole number of hops of {}", stft.hop());
        let mut planner = FftPlanner::new();
        let (forward, inverse) = (planner.plan_fft_forward(stft.n_fft()), planner.plan_fft_inverse(stft.n_fft()));
        let mut envelope = Vec::new();
        stft.invert_envelope(stft.frames(len), &mut envelope);
        Self {
            stft,
            envelope,
            frame: vec![0.0; stft.n_fft()],
            both: vec![ZERO; stft.n_fft()],
            spectra: [0, 1].map(|_| vec![ZERO; stft.bins()]),
            scratch: vec![ZERO; forward.get_inplace_scratch_len().max(inverse.get_inplace_scratch_len())],
            forward,
            inverse,
        }
    }

    /// Analyses `signal`, calls `change` with the number and the spectrum of each frame, and resynthesises what is left
    /// there into `out`: [`Stft::forward`], a change, [`Stft::inverse`], up to rounding, which a frame shares with the next.
    ///
    /// # Shapes
    /// `[len]` -> `[len]`, the spectra `[bins]`
    ///
    /// # Panics
    /// If one is not as long as was said.
    pub fn pass(&mut self, signal: &[f32], out: &mut [f32], mut change: impl FnMut(usize, &mut [Complex<f32>])) {
        let frames = self.start(signal.len(), out);
        for first in (0..frames).step_by(2) {
            self.cut(signal, first, frames);
            self.forward.process_with_scratch(&mut self.both, &mut self.scratch);
            vectorized(Split { both: &self.both, spectra: &mut self.spectra });
            for (offset, spectrum) in self.spectra.iter_mut().enumerate().take(frames - first) {
                change(first + offset, spectrum);
            }
            self.resynthesise(first, out);
        }
        self.finish(out);
    }

    /// Resynthesises the spectra that `fill` writes, into `out`: [`Stft::inverse`] up to rounding.
    ///
    /// # Panics
    /// As [`pass`](Self::pass).
    pub fn inverse(&mut self, out: &mut [f32], mut fill: impl FnMut(usize, &mut [Complex<f32>])) {
        let frames = self.start(out.len(), out);
        for first in (0..frames).step_by(2) {
            self.spectra[1].fill(ZERO);
            for (offset, spectrum) in self.spectra.iter_mut().enumerate().take(frames - first) {
                fill(first + offset, spectrum);
            }
            self.resynthesise(first, out);
        }
        self.finish(out);
    }

    fn start(&self, len: usize, out: &mut [f32]) -> usize {
        assert!(len == self.envelope.len() && out.len() == len, "signals of {len} and {} samples", out.len());
        out.fill(0.0);
        self.stft.frames(len)
    }

    /// Puts frame `first` of `signal` and the one after it, silence where there is none, under the window.
    fn cut(&mut self, signal: &[f32], first: usize, frames: usize) {
        let [a, b] = [first, first + 1].map(|frame| self.stft.inside(signal, frame));
        if let (Some(a), Some(b)) = (a, b) {
            return vectorized(Cut { frames: [a, b], window: self.stft.window(), both: &mut self.both });
        }
        self.stft.cut_frame(signal, first, &mut self.frame);
        self.both.iter_mut().zip(&self.frame).for_each(|(both, &re)| *both = Complex { re, im: 0.0 });
        if first + 1 < frames {
            self.stft.cut_frame(signal, first + 1, &mut self.frame);
            self.both.iter_mut().zip(&self.frame).for_each(|(both, &im)| both.im = im);
        }
    }

    /// Adds frame `first` and the one after it to `out`.
    fn resynthesise(&mut self, first: usize, out: &mut [f32]) {
        vectorized(Join { spectra: &self.spectra, both: &mut self.both });
        self.inverse.process_with_scratch(&mut self.both, &mut self.scratch);
        for (frame, is_second) in [(first, false), (first + 1, true)] {
            let (skip, start) = self.stft.place(frame);
            let sum = out.get_mut(start..).unwrap_or_default();
            let (both, window) = (&self.both[skip..], &self.stft.synthesis()[skip..]);
            match is_second {
                false => vectorized(Overlap::<false> { sum, both, window }),
                true => vectorized(Overlap::<true> { sum, both, window }),
            }
        }
    }

    fn finish(&self, out: &mut [f32]) {
        out.iter_mut().zip(&self.envelope).for_each(|(sample, scale)| *sample *= scale);
    }
}

#[cfg(test)]
mod tests {
    use ndarray::Array2;

    use super::*;
    use crate::dsp::stft::PadMode;

    #[test]
    fn a_pass_is_analysis_a_change_and_resynthesis() {
        // Even and odd numbers of frames, signals shorter than a window, hops that do not divide it, hops beyond it.
        for (n_fft, hop, mode) in [
            (64, 16, PadMode::Reflect),
            (64, 16, PadMode::Constant),
            (62, 10, PadMode::Reflect),
            (8, 7, PadMode::Constant),
            (8, 12, PadMode::Reflect),
            (2, 1, PadMode::Reflect),
        ] {
            let stft = Stft::<f32>::new(n_fft, hop, mode);
            for hops in [1, 2, 3, 4, 11, 12] {
                let signal: Vec<f32> =
                    (0..hops * hop).map(|n| (n as f32 * 0.7).sin() + (n as f32 * 0.11).cos()).collect();
                let mut projection = Projection::new(&stft, signal.len());
                let halve = |frame: usize, spectrum: &mut [Complex<f32>]| {
                    spectrum.iter_mut().for_each(|bin| *bin *= (frame + 1) as f32 * 0.5);
                };

                let mut expected = stft.forward(&signal);
                let seen = expected.clone();
                for (frame, mut row) in expected.rows_mut().into_iter().enumerate() {
                    halve(frame, row.as_slice_mut().unwrap());
                }
                let expected = (stft.inverse(expected.view()), expected);

                let mut met = Array2::from_elem(seen.dim(), ZERO);
                let mut out = vec![f32::NAN; signal.len()];
                projection.pass(&signal, &mut out, |frame, spectrum| {
                    met.row_mut(frame).iter_mut().zip(&*spectrum).for_each(|(met, bin)| *met = *bin);
                    halve(frame, spectrum);
                });
                let about = format!("n_fft {n_fft}, hop {hop}, {mode}, {hops} hops");
                assert!(met.iter().zip(&seen).all(|(met, seen)| (met - seen).norm() < 2e-5), "{about}");
                near(&out, &expected.0, &about);

                out.fill(f32::NAN);
                projection.inverse(&mut out, |frame, spectrum| {
                    spectrum.iter_mut().zip(expected.1.row(frame)).for_each(|(bin, value)| *bin = *value);
                });
                near(&out, &expected.0, &about);
            }
        }
    }

    fn near(found: &[f32], expected: &[f32], about: &str) {
        let largest = expected.iter().fold(0.0f32, |most, x| most.max(x.abs()));
        let differ = found.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, |most: f32, x| most.max(x));
        assert!(found.len() == expected.len() && differ <= 1e-5 * largest, "{about}: {differ} of {largest}");
        assert!(found.iter().all(|x| x.is_finite()), "{about}");
    }
}
