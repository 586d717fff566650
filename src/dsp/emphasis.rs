//! The first-order filter that lifts high frequencies before analysis, and its inverse.

use crate::dsp::Real;

/// `y[n] = x[n] - coefficient x[n - 1]`, with `y[0] = x[0]`.
///
/// The result is not scaled again: from |x| <= 1 it reaches 1 + `coefficient`.
pub fn pre_emphasis<T: Real>(signal: &[T], coefficient: f64) -> Vec<T> {
    let mut previous = 0.0;
    let step = |&x: &T| {
        let x: f64 = x.into();
        let y = x - coefficient * previous;
        previous = x;
        T::of(y)
    };
    signal.iter().map(step).collect()
}

/// `y[n] = x[n] + coefficient y[n - 1]`: undoes [`pre_emphasis`].
///
/// The recursion runs in f64 whatever `T` is, so that rounding does not feed on itself.
pub fn de_emphasis<T: Real>(signal: &[T], coefficient: f64) -> Vec<T> {
    let mut previous = 0.0;
    let step = |&x: &T| {
        let x: f64 = x.into();
        previous = x + coefficient * previous;
        T::of(previous)
    };
    signal.iter().map(step).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn emphasis_and_its_inverse_undo_each_other() {
        let signal: Vec<f32> = (0..1000).map(|n| ((n * n) as f32 * 0.013).sin()).collect();
        let back = de_emphasis(&pre_emphasis(&signal, 0.97), 0.97);
        assert_eq!(pre_emphasis(&signal, 0.97)[0], signal[0]);
        assert!(signal.iter().zip(&back).all(|(a, b)| (a - b).abs() < 1e-5));
        assert!(pre_emphasis::<f32>(&[], 0.97).is_empty());
    }
}
