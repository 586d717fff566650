//! Two frames as the real and the imaginary part of one complex transform: into it, out of it, and back.
//!
//! Each step is a type, so that it is compiled for the machine's vector instructions.

use realfft::num_complex::Complex;

use crate::kernels::math::Work;

/// Two stretches of a signal under the window, as the parts of complex samples.
pub(super) struct Cut<'a> {
    pub frames: [&'a [f32]; 2],
    pub window: &'a [f32],
    pub both: &'a mut [Complex<f32>],
}

impl Work for Cut<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let samples = self.frames[0].iter().zip(self.frames[1]).zip(self.window);
        for (both, ((&a, &b), &window)) in self.both.iter_mut().zip(samples) {
            *both = Complex { re: a * window, im: b * window };
        }
    }
}

/// The spectra of two real signals from that of the one plus i times the other: what is even and what is odd about it.
pub(super) struct Split<'a> {
    pub both: &'a [Complex<f32>],
    pub spectra: &'a mut [Vec<Complex<f32>>; 2],
}

impl Work for Split<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let (both, [a, b]) = (self.both, self.spectra);
        let half = both.len() / 2;
        for edge in [0, half] {
            (a[edge], b[edge]) = (both[edge].re.into(), both[edge].im.into());
        }
        let pairs = both[1..half].iter().zip(both[half + 1..].iter().rev());
        for ((a, b), (up, down)) in a[1..half].iter_mut().zip(&mut b[1..half]).zip(pairs) {
            *a = Complex { re: 0.5 * (up.re + down.re), im: 0.5 * (up.im - down.im) };
            *b = Complex { re: 0.5 * (up.im + down.im), im: 0.5 * (down.re - up.re) };
        }
    }
}

/// Undoes [`Split`]. A real signal's first and last bins are real; whatever else stands in them cannot be represented.
pub(super) struct Join<'a> {
    pub spectra: &'a [Vec<Complex<f32>>; 2],
    pub both: &'a mut [Complex<f32>],
}

impl Work for Join<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let ([a, b], both) = (self.spectra, self.both);
        let half = both.len() / 2;
        for edge in [0, half] {
            both[edge] = Complex { re: a[edge].re, im: b[edge].re };
        }
        let (up, down) = both.split_at_mut(half);
        let pairs = up[1..].iter_mut().zip(down[1..].iter_mut().rev());
        for ((up, down), (a, b)) in pairs.zip(a[1..half].iter().zip(&b[1..half])) {
            *up = Complex { re: a.re - b.im, im: a.im + b.re };
            *down = Complex { re: a.re + b.im, im: b.re - a.im };
        }
    }
}

/// Adds one part of `both` under the window to `sum`, as far as it reaches.
pub(super) struct Overlap<'a, const IS_SECOND: bool> {
    pub sum: &'a mut [f32],
    pub both: &'a [Complex<f32>],
    pub window: &'a [f32],
}

impl<const IS_SECOND: bool> Work for Overlap<'_, IS_SECOND> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        for ((sum, both), window) in self.sum.iter_mut().zip(self.both).zip(self.window) {
            *sum += if IS_SECOND { both.im } else { both.re } * window;
        }
    }
}
