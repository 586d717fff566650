//! From the codes of one sound to those of another: halfway sounds, and a sound that turns into another.
//!
//! Sounds of different lengths meet by resampling their codes in time: code `i` of `n` stands at `i / (n - 1)`, and between
//! two codes lies their linear interpolation. Each code still decodes to a segment of natural speed, so that a stretched
//! sound is slower in its syllables, not in the movements within a segment.

use std::fmt;
use std::str::FromStr;

use ndarray::{Array1, Array2, ArrayView1, ArrayView2, Axis};

use super::{Codes, CodesMeta};

/// Below this sine of the angle between two codes a great circle through them is not defined well enough; there the straight
/// line differs from it by some 1e-7 of their length, or, for opposite codes, is one of many ways.
const PARALLEL: f64 = 1e-3;

/// The way from one code to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// The straight line. It comes nearer to the origin than its ends, as the mean of two sounds has less character.
    Linear,
    /// The great circle for the direction, the straight line for the length (spherical linear interpolation). The straight
    /// line where the codes are (anti)parallel or one is zero.
    ///
    /// # Reference
    /// Shoemake, "Animating rotation with quaternion curves", 1985; for latents White, "Sampling generative networks", 2016.
    Slerp,
}

impl Method {
    /// The code a part `at` of the way from `one` to `other`: exactly these for 0 and 1.
    ///
    /// # Shapes
    /// `[latents]`
    pub fn between(self, one: ArrayView1<f32>, other: ArrayView1<f32>, at: f64) -> Array1<f32> {
        if at == 0.0 {
            return one.to_owned();
        }
        if at == 1.0 {
            return other.to_owned();
        }
        let (of_one, of_other) = match self {
            Self::Linear => (1.0 - at, at),
            Self::Slerp => great_circle(one, other, at).unwrap_or((1.0 - at, at)),
        };
        let mixed = one.iter().zip(other).map(|(&a, &b)| (of_one * f64::from(a) + of_other * f64::from(b)) as f32);
        mixed.collect()
    }
}

impl FromStr for Method {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        match name {
            "linear" => Ok(Self::Linear),
            "slerp" => Ok(Self::Slerp),
            _ => Err("there are linear and slerp".into()),
        }
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(match self {
            Self::Linear => "linear",
            Self::Slerp => "slerp",
        })
    }
}

/// What each code is multiplied by; `None` where the straight line is to be taken.
fn great_circle(one: ArrayView1<f32>, other: ArrayView1<f32>, at: f64) -> Option<(f64, f64)> {
    let dot = |a: ArrayView1<f32>, b: ArrayView1<f32>| {
        a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum::<f64>()
    };
    let (length_one, length_other) = (dot(one, one).sqrt(), dot(other, other).sqrt());
    if length_one == 0.0 || length_other == 0.0 {
        return None;
    }
    let angle = (dot(one, other) / (length_one * length_other)).clamp(-1.0, 1.0).acos();
    let sine = angle.sin();
    // Of unit vectors, then given a length: the formula for the codes themselves grows without bound for opposite ones.
    let length = (1.0 - at) * length_one + at * length_other;
    let part = |angle: f64, of: f64| angle.sin() / sine * length / of;
    (sine > PARALLEL).then(|| (part((1.0 - at) * angle, length_one), part(at * angle, length_other)))
}

/// The codes of a sound that is a part `at` of the way from one to the other, throughout: for 0 and 1 those themselves. Its
/// length and loudness lie between theirs.
///
/// # Panics
/// If the codes are of different models, or `at` is not within 0 and 1.
pub fn interpolate(one: &Codes, other: &Codes, at: f64, method: Method) -> Codes {
    assert!((0.0..=1.0).contains(&at), "{at} is no part of a way");
    let [from, to] = [one, other].map(|codes| codes.meta.frames as f64);
    mix(one, other, (from + at * (to - from)).round() as usize, at, method, |_| at)
}

/// The codes of a sound that begins as the one and ends as the other, as long as the longer and with the geometric mean of
/// their loudness.
///
/// # Panics
/// If the codes are of different models.
pub fn morph(one: &Codes, other: &Codes, method: Method) -> Codes {
    mix(one, other, one.meta.frames.max(other.meta.frames), 0.5, method, |time| time)
}

/// `frames` of a mixture with the part `share(t)` of the other at the time `t`, from 0 to 1; `loudness` is its part of the
/// gain.
fn mix(one: &Codes, other: &Codes, frames: usize, loudness: f64, method: Method, share: impl Fn(f64) -> f64) -> Codes {
    let gain = one.meta.gain.powf(1.0 - loudness) * other.meta.gain.powf(loudness);
    let meta = CodesMeta { frames, gain, ..one.meta.clone() };
    let same = CodesMeta { frames: one.meta.frames, gain: one.meta.gain, ..other.meta.clone() };
    assert!(same == one.meta, "the codes are of different models");
    let segments = meta.segments();
    let (one, other) = (resample(one.mean.view(), segments), resample(other.mean.view(), segments));
    let mut mean = Array2::zeros(one.dim());
    for (segment, mut code) in mean.rows_mut().into_iter().enumerate() {
        let time = segment as f64 / (segments - 1).max(1) as f64;
        code.assign(&method.between(one.row(segment), other.row(segment), share(time)));
    }
    Codes { scale: Array2::zeros(mean.dim()), mean, meta }
}

/// Codes with as many rows as asked for, the first and the last where they were; the rows themselves if there are as many.
///
/// # Shapes
/// `[segments, latents]`
fn resample(codes: ArrayView2<f32>, segments: usize) -> Array2<f32> {
    let last = codes.nrows() - 1;
    let mut resampled = Array2::zeros((segments, codes.ncols()));
    for (index, mut code) in resampled.axis_iter_mut(Axis(0)).enumerate() {
        let place = (index * last) as f64 / (segments - 1).max(1) as f64;
        let before = place as usize;
        let between = Method::Linear.between(codes.row(before), codes.row((before + 1).min(last)), place.fract());
        code.assign(&between);
    }
    resampled
}

#[cfg(test)]
mod tests {
    use ndarray::{array, s};

    use super::*;
    use crate::features::FeatureConfig;

    const HALF: f32 = std::f32::consts::FRAC_1_SQRT_2;

    fn codes(mean: Array2<f32>, gain: f64) -> Codes {
        let frames = 20 + 10 * (mean.nrows() - 1);
        let features = FeatureConfig::default();
        let meta = CodesMeta { segment_frames: 20, hop: 10, frames, gain, vae: "of a test".into(), features };
        Codes { scale: Array2::zeros(mean.dim()), mean, meta }
    }

    fn near(found: &Array1<f32>, wanted: &Array1<f32>) -> bool {
        found.iter().zip(wanted).all(|(a, b)| (a - b).abs() < 1e-6)
    }

    #[test]
    fn slerp_follows_the_circle_and_its_length_the_line() {
        let (one, other) = (array![1.0, 0.0], array![0.0, 1.0]);
        assert!(near(&Method::Slerp.between(one.view(), other.view(), 0.5), &array![HALF, HALF]));
        assert!(near(&Method::Linear.between(one.view(), other.view(), 0.5), &array![0.5, 0.5]));
        let longer = &other * 3.0;
        assert!(near(&Method::Slerp.between(one.view(), longer.view(), 0.5), &array![2.0 * HALF, 2.0 * HALF]));
        let third = Method::Slerp.between(one.view(), other.view(), 1.0 / 3.0);
        assert!(near(&third, &array![(std::f32::consts::PI / 6.0).cos(), 0.5]));
    }

    #[test]
    fn slerp_is_the_straight_line_where_there_is_no_circle_and_never_longer_than_its_ends() {
        let one = array![1.0, 2.0, -0.5];
        for other in [&one * 3.0, &one * -2.0, Array1::zeros(3), one.clone()] {
            for (from, to) in [(&one, &other), (&other, &one)] {
                let (slerp, linear) = (Method::Slerp, Method::Linear);
                assert_eq!(slerp.between(from.view(), to.view(), 0.3), linear.between(from.view(), to.view(), 0.3));
            }
        }
        let length = |code: &Array1<f32>| code.dot(code).sqrt();
        for nearly in [1e-2, 2e-3, 1e-4, 1e-8] {
            let other = array![-3.0, -6.0 + nearly, 1.5];
            for at in [0.1, 0.5, 0.9] {
                let between = Method::Slerp.between(one.view(), other.view(), at);
                assert!(length(&between) <= length(&other) * 1.0001, "{between} at {at}");
            }
        }
    }

    #[test]
    fn the_first_and_the_last_interpolation_are_the_sounds_themselves() {
        let (one, other) =
            (codes(array![[0.1, 2.0], [0.3, -1.0]], 0.2), codes(Array2::from_elem((7, 2), 1.0 / 3.0), 0.8));
        for method in [Method::Linear, Method::Slerp] {
            for (at, end) in [(0.0, &one), (1.0, &other)] {
                let found = interpolate(&one, &other, at, method);
                assert_eq!((&found.mean, &found.meta), (&end.mean, &end.meta));
            }
            let half = interpolate(&one, &other, 0.5, method);
            assert_eq!((half.meta.frames, half.mean.nrows()), (55, 5));
            assert!((half.meta.gain - 0.4).abs() < 1e-12);
        }
    }

    #[test]
    fn a_morph_begins_as_the_one_and_ends_as_the_other_however_short_one_is() {
        let (short, long) = (codes(array![[1.0, 0.0]], 1.0), codes(array![[0.0, 1.0], [0.0, 2.0], [0.0, 3.0]], 1.0));
        for method in [Method::Linear, Method::Slerp] {
            let there = morph(&short, &long, method);
            assert_eq!(there.meta.frames, long.meta.frames);
            assert_eq!(there.mean.slice(s![0, ..]), short.mean.row(0));
            assert_eq!(there.mean.slice(s![2, ..]), long.mean.row(2));
            let back = morph(&long, &short, method);
            assert_eq!(back.mean.slice(s![0, ..]), long.mean.row(0));
            assert_eq!(back.mean.slice(s![2, ..]), short.mean.row(0));
        }
        assert_eq!(morph(&short, &long, Method::Linear).mean.row(1), array![0.5, 1.0]);
    }

    #[test]
    fn resampling_keeps_a_straight_course_and_both_ends() {
        let ramp = Array2::from_shape_fn((5, 1), |(i, _)| i as f32);
        assert_eq!(resample(ramp.view(), 5), ramp);
        assert_eq!(resample(ramp.view(), 9), Array2::from_shape_fn((9, 1), |(i, _)| 0.5 * i as f32));
        assert_eq!(resample(ramp.view(), 3), array![[0.0], [2.0], [4.0]]);
        assert_eq!(resample(ramp.view(), 1), array![[0.0]]);
        assert_eq!(resample(ramp.slice(s![..1, ..]), 4), Array2::<f32>::zeros((4, 1)));
    }
}
