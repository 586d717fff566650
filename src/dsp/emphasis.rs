//! The first-order filter that lifts high frequencies before analysis, and its inverse.

use crate::dsp::Real;

/// `y[n] = x[n] - coefficient x[n - 1]`, with `y[0] = x[0]`.
///
/// The result is not scaled again: from |x| <= 1 it reaches 1 + `coefficient`.
pub fn pre_emphasis<T: Real>(mut signal: Vec<T>, coefficient: f64) -> Vec<T> {
    pre_emphasis_on(&mut signal, coefficient, &mut 0.0);
    signal
}

/// [`pre_emphasis`] of the next part of a signal, in place; `previous` is the sample before it, 0 in the beginning.
pub fn pre_emphasis_on<T: Real>(part: &mut [T], coefficient: f64, previous: &mut f64) {
    for sample in part {
        let x: f64 = (*sample).into();
        *sample = T::of(x - coefficient * *previous);
        *previous = x;
    }
}

/// `y[n] = x[n] + coefficient y[n - 1]`: undoes [`pre_emphasis`].
///
/// The recursion runs in f64 whatever `T` is, so that rounding does not feed on itself.
pub fn de_emphasis<T: Real>(mut signal: Vec<T>, coefficient: f64) -> Vec<T> {
    de_emphasis_on(&mut signal, coefficient, &mut 0.0);
    signal
}

/// [`de_emphasis`] of the next part of a signal, in place; `previous` is what came out last, 0 in the beginning.
pub fn de_emphasis_on<T: Real>(part: &mut [T], coefficient: f64, previous: &mut f64) {
    for sample in part {
        *previous = Into::<f64>::into(*sample) + coefficient * *previous;
        *sample = T::of(*previous);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn emphasis_and_its_inverse_undo_each_other() {
        let signal: Vec<f32> = (0..1000).map(|n| ((n * n) as f32 * 0.013).sin()).collect();
        let filtered = pre_emphasis(signal.clone(), 0.97);
        assert_eq!(filtered[0], signal[0]);
        assert!((filtered[500] - (signal[500] - 0.97 * signal[499])).abs() < 1e-6);
        let back = de_emphasis(filtered, 0.97);
        assert!(signal.iter().zip(&back).all(|(a, b)| (a - b).abs() < 1e-5));
    }
}
