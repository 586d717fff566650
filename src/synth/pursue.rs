//! Closing the loop: what came of a move says how the next one has to be.
//!
//! A decoder is linear only in the small and gives, as a rule, less than its codes promise.

use ndarray::{Array1, ArrayView2};

use super::named::{Quality, Slope};
use super::steer::{Steering, deviation, likeliest, steer};
use crate::Result;

/// Moves that are tried of a sound.
const ROUNDS: usize = 6;
/// Standard deviations that codes move by at most, if what is asked for does not by itself ask for more: beyond, there are hardly
/// any that the decoder has learned from.
pub const FURTHEST: f64 = 3.0;
/// Part of what is asked for that may be missing.
const NEAR: f64 = 0.05;
/// A quality that follows by less than this is aimed at as if it followed so.
const LEAST_GAIN: f64 = 0.25;
/// Weight of what is to be held against what is asked for, both in deviations from code to code.
const HELD: f64 = 0.25;

/// Changes of what [`Quality::ALL`] has, in its order; `None` of what cannot be told.
pub type Changes = [Option<f64>; 4];

/// The best move that was found.
#[derive(Clone, Debug, PartialEq)]
pub struct Reached {
    /// The move.
    pub steering: Steering,
    /// What came of it.
    pub got: Changes,
    /// Moves that were tried.
    pub rounds: usize,
}

impl Reached {
    /// Whether codes went as far as they may.
    pub fn is_furthest(&self) -> bool {
        self.steering.far >= FURTHEST * (1.0 - 1e-9)
    }
}

/// Moves by what is `asked`, as [`steer`] does, measures what came of it, and aims anew by what is missing, as often as six times.
///
/// Each quality is aimed at by itself: what is missing, over the part of the last aim that was got. Where that is worse, in squares of
/// what is missing over the quality's deviation from code to code, half of the way is tried; where every try is worse than no move,
/// there is none. What is to be held is aimed at as well.
///
/// # Errors
/// As [`steer`] and `measure`.
///
/// # Panics
/// If a quality that is asked for has no slope.
pub fn pursue(
    slopes: &[Slope],
    covariance: ArrayView2<f64>,
    asked: &[(Quality, f64)],
    mut measure: impl FnMut(&Array1<f64>) -> Result<Changes>,
) -> Result<Reached> {
    let steering = steer(slopes, covariance, asked)?;
    let furthest = steering.far.max(FURTHEST);
    let held = steering.held.iter().map(|&quality| (quality, 0.0));
    let wanted: Vec<(Quality, f64)> = asked.iter().copied().chain(held).collect();
    let missing = |got: &Changes| -> f64 {
        let of = |(index, &(quality, by)): (usize, &(Quality, f64))| {
            let weight = if index < asked.len() { 1.0 } else { HELD };
            let missed = (by - got[quality as usize].unwrap_or(0.0)) / deviation(slopes, covariance, quality);
            weight * missed * missed
        };
        wanted.iter().enumerate().map(of).sum()
    };
    let is_near = |got: &Changes| {
        asked.iter().all(|&(quality, by)| got[quality as usize].is_some_and(|got| (by - got).abs() <= NEAR * by.abs()))
    };
    let mut aims = wanted.clone();
    let mut best = Reached { got: measure(&steering.by)?, steering, rounds: 1 };
    let mut step = 1.0;
    let still = best.got.map(|got| got.map(|_| 0.0));
    if missing(&best.got) > missing(&still) {
        // What is worse than no move is not to be improved on: half of it may be.
        (best.steering.by, best.steering.far, best.got) = (Array1::zeros(best.steering.by.len()), 0.0, still);
        aims.iter_mut().for_each(|aim| aim.1 = 0.0);
        step = 0.5;
    }
    while best.rounds < ROUNDS && !is_near(&best.got) {
        let mut next = aims.clone();
        for (aim, &(quality, by)) in next.iter_mut().zip(&wanted) {
            let Some(got) = best.got[quality as usize] else { continue };
            let gain = if by == 0.0 || aim.1 == 0.0 { 1.0 } else { (got / aim.1).clamp(LEAST_GAIN, 1.0 / LEAST_GAIN) };
            aim.1 += step * (by - got) / gain;
        }
        let Some((mut by, mut far)) = likeliest(slopes, covariance, &next) else { break };
        if far > furthest {
            by *= furthest / far;
            next.iter_mut().for_each(|aim| aim.1 *= furthest / far);
            far = furthest;
        }
        let got = measure(&by)?;
        best.rounds += 1;
        if missing(&got) < missing(&best.got) {
            (best.steering.by, best.steering.far, best.got) = (by, far, got);
            (aims, step) = (next, 1.0);
        } else {
            step *= 0.5;
        }
    }
    Ok(best)
}

#[cfg(test)]
mod tests {
    use ndarray::{Array2, array};

    use super::*;

    fn slopes() -> [Slope; 2] {
        let slope = |quality, weights: [f64; 2]| Slope { quality, weights: weights.to_vec(), r2: 0.9 };
        [slope(Quality::Pitch, [2.0, 0.0]), slope(Quality::Loudness, [0.0, 1.0])]
    }

    #[test]
    fn a_decoder_that_gives_half_and_drags_the_rest_along_is_brought_to_what_is_asked() {
        let decoder = |by: &Array1<f64>| Ok([Some(by[0]), Some(0.3 * by[0] + 0.8 * by[1]), None, None]);
        let covariance = Array2::eye(2);
        let found = pursue(&slopes(), covariance.view(), &[(Quality::Pitch, 1.0)], decoder).unwrap();
        // At first half of it and 0.15 of the other; then twice the aim, and 0.15 less of the other than 0.3.
        let [pitch, loudness, ..] = found.got.map(|got| got.unwrap_or(f64::NAN));
        assert!((pitch - 1.0).abs() < 1e-9 && (loudness - (0.3 - 0.8 * 0.15)).abs() < 1e-9, "{found:?}");
        assert!(found.rounds == 2 && !found.is_furthest());
    }

    #[test]
    fn what_cannot_be_reached_ends_at_the_bound_and_what_does_not_follow_stays_with_the_first_move() {
        let tenth = |by: &Array1<f64>| Ok([Some(0.1 * by[0]), Some(by[1]), None, None]);
        let covariance = Array2::eye(2);
        let asked = [(Quality::Pitch, 2.0)];
        let found = pursue(&slopes(), covariance.view(), &asked, tenth).unwrap();
        assert!(found.is_furthest() && (found.got[0].unwrap() - 0.3).abs() < 1e-9, "{found:?}");
        for still in [Some(0.0), None] {
            let found = pursue(&slopes(), covariance.view(), &asked, |_| Ok([still, Some(0.0), None, None])).unwrap();
            assert_eq!((found.steering.by, found.got[0]), (array![1.0, 0.0], still));
        }
        // What asks for more than the bound by itself is given that, and no more.
        let found = pursue(&slopes(), covariance.view(), &[(Quality::Pitch, 10.0)], tenth).unwrap();
        assert!((found.steering.far - 5.0).abs() < 1e-9, "{found:?}");
    }

    #[test]
    fn a_move_that_makes_it_worse_is_not_made() {
        let covariance = Array2::eye(2);
        let asked = [(Quality::Pitch, 2.0)];
        let away = |by: &Array1<f64>| Ok([Some(-2.0 * by[0]), Some(0.0), None, None]);
        let found = pursue(&slopes(), covariance.view(), &asked, away).unwrap();
        assert_eq!((found.steering.by, found.steering.far, found.rounds), (array![0.0, 0.0], 0.0, ROUNDS));
        assert_eq!(found.got, [Some(0.0), Some(0.0), None, None]);
        // Only a large one does: the half and what then is aimed at anew is good.
        let large = |by: &Array1<f64>| Ok([Some(if by[0] > 0.8 { -4.0 } else { 2.0 * by[0] }), Some(0.0), None, None]);
        let found = pursue(&slopes(), covariance.view(), &asked, large).unwrap();
        assert!(found.got[0].unwrap() > 1.0 && found.steering.by[0] <= 0.8, "{found:?}");
    }

    #[test]
    fn a_step_beyond_the_mark_is_halved() {
        // Hardly anything up to 1, then more than twice as much as was promised.
        let steep = |by: &Array1<f64>| Ok([Some(5.0 * (by[0] - 1.0).max(0.0) + 0.2 * by[0]), Some(0.0), None, None]);
        let found = pursue(&slopes(), Array2::eye(2).view(), &[(Quality::Pitch, 2.0)], steep).unwrap();
        assert!((found.got[0].unwrap() - 2.0).abs() < 0.6 && found.rounds == ROUNDS, "{found:?}");
    }
}
