//! The short-time Fourier transform and its inverse, centred frames under a periodic Hann window.
//!
//! The result equals `librosa.stft(y, n_fft, hop_length, center=True)` transposed: time runs along the first axis here.
//! Transforms are not scaled: `power` is |X|², neither divided by the window's energy nor by the transform's length.

use std::fmt;
use std::ops::Range;
use std::str::FromStr;
use std::sync::Arc;

use ndarray::{Array2, ArrayView2, ArrayViewMut2};
use realfft::num_complex::Complex;
use realfft::{ComplexToReal, RealFftPlanner, RealToComplex};
use serde::{Deserialize, Serialize};

use crate::dsp::Real;
use crate::{Error, Result};

/// What stands before the first and after the last sample, half a window on each side.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PadMode {
    /// The signal mirrored at its first and last sample, as often as needed (`numpy.pad(…, mode="reflect")`).
    Reflect,
    /// Zeros.
    Constant,
}

impl FromStr for PadMode {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        match name {
            "reflect" => Ok(PadMode::Reflect),
            "constant" => Ok(PadMode::Constant),
            _ => Err(Error::Config(format!("{name:?} is neither reflect nor constant"))),
        }
    }
}

impl fmt::Display for PadMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            PadMode::Reflect => "reflect",
            PadMode::Constant => "constant",
        })
    }
}

/// A planned transform: made once, used by any number of threads, each with a [`Scratch`] of its own.
#[derive(Clone)]
pub struct Stft<T: Real> {
    n_fft: usize,
    hop: usize,
    pad_mode: PadMode,
    window: Vec<T>,
    /// The window divided by the transform's length, for the unscaled inverse transform.
    synthesis: Vec<T>,
    to_spectrum: Arc<dyn RealToComplex<T>>,
    to_signal: Arc<dyn ComplexToReal<T>>,
}

/// The buffers one thread needs; kept between calls, nothing is allocated per frame.
#[derive(Clone, Debug)]
pub struct Scratch<T> {
    frame: Vec<T>,
    spectrum: Vec<Complex<T>>,
    forward: Vec<Complex<T>>,
    inverse: Vec<Complex<T>>,
    /// For signals of `envelope_frames` frames: what to multiply the overlapped sum by, per sample.
    envelope: Vec<T>,
    envelope_frames: usize,
}

impl<T: Real> Stft<T> {
    /// Plans transforms of `n_fft` samples every `hop` samples.
    ///
    /// # Panics
    /// If `n_fft` is odd or below 2, or `hop` is 0.
    pub fn new(n_fft: usize, hop: usize, pad_mode: PadMode) -> Self {
        assert!(n_fft >= 2 && n_fft.is_multiple_of(2), "n_fft must be even and at least 2, not {n_fft}");
        assert!(hop >= 1, "hop must be at least 1");
        let window = periodic_hann(n_fft);
        let mut planner = RealFftPlanner::new();
        Stft {
            n_fft,
            hop,
            pad_mode,
            synthesis: window.iter().map(|&w| T::of(w / n_fft as f64)).collect(),
            window: window.into_iter().map(T::of).collect(),
            to_spectrum: planner.plan_fft_forward(n_fft),
            to_signal: planner.plan_fft_inverse(n_fft),
        }
    }

    /// Samples per transform.
    pub fn n_fft(&self) -> usize {
        self.n_fft
    }

    /// Samples from one frame to the next.
    pub fn hop(&self) -> usize {
        self.hop
    }

    /// Frequencies per frame: `n_fft / 2 + 1`, from 0 to half the sample rate.
    pub fn bins(&self) -> usize {
        self.n_fft / 2 + 1
    }

    /// Frames of a signal of `len` samples: `1 + len / hop`; frame `t` is centred on sample `t * hop`.
    pub fn frames(&self, len: usize) -> usize {
        1 + len / self.hop
    }

    /// Samples that [`inverse`](Self::inverse) returns for `frames` frames: `hop * (frames - 1)`.
    pub fn inverse_len(&self, frames: usize) -> usize {
        self.hop * frames.saturating_sub(1)
    }

    /// Buffers for the `_into` methods.
    pub fn scratch(&self) -> Scratch<T> {
        Scratch {
            frame: vec![T::zero(); self.n_fft],
            spectrum: vec![Complex::new(T::zero(), T::zero()); self.bins()],
            forward: self.to_spectrum.make_scratch_vec(),
            inverse: self.to_signal.make_scratch_vec(),
            envelope: Vec::new(),
            envelope_frames: 0,
        }
    }

    /// The complex spectrum of `signal`.
    ///
    /// An empty signal counts as silence: one frame of zeros.
    ///
    /// # Shapes
    /// `[len]` -> `[frames(len), bins]`
    pub fn forward(&self, signal: &[T]) -> Array2<Complex<T>> {
        let zero = Complex::new(T::zero(), T::zero());
        let mut spectrum = Array2::from_elem((self.frames(signal.len()), self.bins()), zero);
        self.forward_into(signal, spectrum.view_mut(), &mut self.scratch());
        spectrum
    }

    /// [`forward`](Self::forward) into `spectrum`, which must be `[frames(signal.len()), bins]`.
    ///
    /// # Panics
    /// If `spectrum` has another shape, or `scratch` was made by a transform of another length.
    pub fn forward_into(&self, signal: &[T], mut spectrum: ArrayViewMut2<'_, Complex<T>>, scratch: &mut Scratch<T>) {
        assert_eq!(spectrum.dim(), (self.frames(signal.len()), self.bins()), "spectrum must be [frames, bins]");
        self.for_each_frame(signal, scratch, |t, bins| {
            spectrum.row_mut(t).iter_mut().zip(bins).for_each(|(out, &bin)| *out = bin);
        });
    }

    /// Calls `visit` with the number and the spectrum of each frame of `signal`, in order: for work on one frame at a
    /// time, where the whole `[frames, bins]` would only be thrown away.
    ///
    /// # Panics
    /// If `scratch` was made by a transform of another length.
    pub fn for_each_frame(&self, signal: &[T], scratch: &mut Scratch<T>, mut visit: impl FnMut(usize, &[Complex<T>])) {
        self.for_frames(signal, 0..self.frames(signal.len()), scratch, &mut visit);
    }

    /// [`for_each_frame`](Self::for_each_frame) of some frames.
    ///
    /// # Panics
    /// If `scratch` was made by a transform of another length.
    pub(crate) fn for_frames(
        &self,
        signal: &[T],
        frames: Range<usize>,
        scratch: &mut Scratch<T>,
        mut visit: impl FnMut(usize, &[Complex<T>]),
    ) {
        assert_eq!(scratch.frame.len(), self.n_fft, "scratch belongs to another transform");
        for t in frames {
            self.cut_frame(signal, t, &mut scratch.frame);
            self.to_spectrum
                .process_with_scratch(&mut scratch.frame, &mut scratch.spectrum, &mut scratch.forward)
                .expect("buffers have the planned lengths");
            visit(t, &scratch.spectrum);
        }
    }

    /// The power spectrum |X|² of `signal`.
    ///
    /// # Shapes
    /// `[len]` -> `[frames(len), bins]`
    pub fn power(&self, signal: &[T]) -> Array2<T> {
        let mut power = Array2::from_elem((self.frames(signal.len()), self.bins()), T::zero());
        self.for_each_frame(signal, &mut self.scratch(), |t, bins| {
            power.row_mut(t).iter_mut().zip(bins).for_each(|(out, bin)| *out = bin.norm_sqr());
        });
        power
    }

    /// The signal whose spectrum is nearest to `spectrum` in the least-squares sense (exactly the signal, where
    /// `spectrum` is one). A single frame gives an empty signal.
    ///
    /// # Shapes
    /// `[frames, bins]` -> `[hop * (frames - 1)]`
    ///
    /// # Reference
    /// Griffin and Lim, "Signal estimation from modified short-time Fourier transform", 1984, equation 6.
    ///
    /// # Panics
    /// If `spectrum` does not have `bins` columns.
    pub fn inverse(&self, spectrum: ArrayView2<'_, Complex<T>>) -> Vec<T> {
        let mut signal = vec![T::zero(); self.inverse_len(spectrum.nrows())];
        self.inverse_into(spectrum, &mut signal, &mut self.scratch());
        signal
    }

    /// [`inverse`](Self::inverse) into `signal`, which must be `hop * (frames - 1)` long.
    ///
    /// # Panics
    /// If a shape does not fit, or `scratch` was made by a transform of another length.
    pub fn inverse_into(&self, spectrum: ArrayView2<'_, Complex<T>>, signal: &mut [T], scratch: &mut Scratch<T>) {
        let frames = spectrum.nrows();
        assert_eq!(spectrum.ncols(), self.bins(), "spectrum must be [frames, bins]");
        assert_eq!(signal.len(), self.inverse_len(frames), "signal must be hop * (frames - 1) long");
        assert_eq!(scratch.frame.len(), self.n_fft, "scratch belongs to another transform");
        signal.fill(T::zero());
        for (t, row) in spectrum.rows().into_iter().enumerate() {
            scratch.spectrum.iter_mut().zip(row).for_each(|(bin, &value)| *bin = value);
            // A real signal has real values there; whatever else stands in them cannot be represented.
            scratch.spectrum[0].im = T::zero();
            scratch.spectrum[self.n_fft / 2].im = T::zero();
            self.to_signal
                .process_with_scratch(&mut scratch.spectrum, &mut scratch.frame, &mut scratch.inverse)
                .expect("buffers have the planned lengths and the edge bins are real");
            let (skip, start) = self.place(t);
            let sum = signal.get_mut(start..).unwrap_or_default().iter_mut();
            let frame = scratch.frame[skip..].iter().zip(&self.synthesis[skip..]);
            sum.zip(frame).for_each(|(sum, (&x, &w))| *sum = *sum + x * w);
        }
        if scratch.envelope_frames != frames {
            self.invert_envelope(frames, &mut scratch.envelope);
            scratch.envelope_frames = frames;
        }
        signal.iter_mut().zip(&scratch.envelope).for_each(|(x, &scale)| *x = *x * scale);
    }

    /// What frames are multiplied by.
    pub(super) fn window(&self) -> &[T] {
        &self.window
    }

    /// The window divided by the transform's length, which unscaled inverse transforms are multiplied by.
    pub(super) fn synthesis(&self) -> &[T] {
        &self.synthesis
    }

    /// Where frame `t` meets the signal: how many of its samples lie before the start, and the first sample it covers.
    pub(super) fn place(&self, t: usize) -> (usize, usize) {
        let (centre, half) = (t * self.hop, self.n_fft / 2);
        (half.saturating_sub(centre), centre.saturating_sub(half))
    }

    /// The samples of frame `t`, where all of it is inside `signal`.
    pub(super) fn inside<'a>(&self, signal: &'a [T], t: usize) -> Option<&'a [T]> {
        let start = (t * self.hop).checked_sub(self.n_fft / 2)?;
        signal.get(start..start + self.n_fft)
    }

    /// Frame `t` of `signal` under the window.
    pub(super) fn cut_frame(&self, signal: &[T], t: usize, frame: &mut [T]) {
        let frame = frame.iter_mut().zip(&self.window);
        match self.inside(signal, t) {
            Some(samples) => frame.zip(samples).for_each(|((out, &w), &x)| *out = x * w),
            None => {
                let start = (t * self.hop) as isize - (self.n_fft / 2) as isize;
                for (n, (out, &w)) in frame.enumerate() {
                    *out = padded(signal, start + n as isize, self.pad_mode) * w;
                }
            }
        }
    }

    /// One over the summed squares of the windows that cover each sample of a signal of `frames` frames.
    pub(super) fn invert_envelope(&self, frames: usize, envelope: &mut Vec<T>) {
        let mut squares = vec![0.0f64; self.inverse_len(frames)];
        for t in 0..frames {
            let (skip, start) = self.place(t);
            let sum = squares.get_mut(start..).unwrap_or_default().iter_mut();
            sum.zip(&self.window[skip..]).for_each(|(sum, &w)| *sum += w.into() * w.into());
        }
        envelope.clear();
        // Where no window reaches, the sum is left as it is rather than divided by nothing.
        envelope.extend(squares.into_iter().map(|s| T::of(if s > f32::MIN_POSITIVE as f64 { 1.0 / s } else { 1.0 })));
    }
}

/// `0.5 - 0.5 cos(2 pi n / len)`: periodic, so that windows at a fraction of the length overlap to a constant.
fn periodic_hann(len: usize) -> Vec<f64> {
    (0..len).map(|n| 0.5 - 0.5 * (std::f64::consts::TAU * n as f64 / len as f64).cos()).collect()
}

/// Sample `index` of the signal continued without end on both sides.
fn padded<T: Real>(signal: &[T], index: isize, mode: PadMode) -> T {
    let len = signal.len() as isize;
    if (0..len).contains(&index) {
        return signal[index as usize];
    }
    match mode {
        PadMode::Constant => T::zero(),
        PadMode::Reflect if len == 0 => T::zero(),
        // One sample mirrored in itself is that sample for ever.
        PadMode::Reflect if len == 1 => signal[0],
        PadMode::Reflect => {
            let period = 2 * (len - 1);
            let folded = index.rem_euclid(period);
            signal[folded.min(period - folded) as usize]
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reflection_continues_signals_shorter_than_the_padding() {
        let signal = [1.0, 2.0, 3.0];
        let around: Vec<f64> = (-6..9).map(|i| padded(&signal, i, PadMode::Reflect)).collect();
        // numpy.pad([1, 2, 3], 6, mode="reflect")
        assert_eq!(around, [3., 2., 1., 2., 3., 2., 1., 2., 3., 2., 1., 2., 3., 2., 1.].map(|x: f64| x));
        assert_eq!(padded(&[7.0], -5, PadMode::Reflect), 7.0);
        assert_eq!(padded(&[7.0], 3, PadMode::Constant), 0.0);
        assert_eq!(padded::<f64>(&[], 0, PadMode::Reflect), 0.0);
    }
}
