//! Overlapping segments to one spectrogram without seams.

use std::f32::consts::PI;

use ndarray::{Array1, Array2, ArrayView2, Axis};

use super::render::{SOME_FRAMES, for_some_frames};
use crate::Result;
use crate::features::Frames;

/// Cross-fades segments that begin every `hop` frames, one at a time.
///
/// Each frame is the mean of the segments that cover it, weighted by a raised cosine over the segment, so that a segment fades
/// in while the one before fades out, and its edges, where a decoder knows least, count least. (By a triangle the weights of
/// first and last frames are still a tenth, and the steps there stand out.)
pub(super) struct CrossFade {
    /// Of the weighted frames, `[frames, mels]`.
    sum: Array2<f32>,
    weights: Vec<f32>,
    hop: usize,
    /// Where the next segment begins.
    start: usize,
}

impl CrossFade {
    /// For `frames` frames of `mels` bands.
    pub fn new(frames: usize, mels: usize, hop: usize) -> Self {
        Self { sum: Array2::zeros((frames, mels)), weights: vec![0.0; frames], hop, start: 0 }
    }

    /// The next segment, `[segment_frames, mels]`; what lies beyond the last frame is left out.
    pub fn add(&mut self, segment: ArrayView2<f32>) {
        let length = segment.nrows();
        for (t, frame) in segment.axis_iter(Axis(0)).enumerate().take(self.weights.len().saturating_sub(self.start)) {
            let weight = (PI * (t as f32 + 0.5) / length as f32).sin().powi(2);
            self.sum.row_mut(self.start + t).scaled_add(weight, &frame);
            self.weights[self.start + t] += weight;
        }
        self.start += self.hop;
    }

    /// # Shapes
    /// `[frames, mels]`
    ///
    /// # Panics
    /// If the segments do not cover every frame.
    pub fn finish(mut self) -> Array2<f32> {
        for (t, (mut frame, weight)) in self.sum.rows_mut().into_iter().zip(self.weights).enumerate() {
            assert!(weight > 0.0, "no segment covers frame {t}");
            frame /= weight;
        }
        self.sum
    }
}

/// Pearson correlation of two spectrograms with each band's mean removed: 1 for equal shapes, near 0 for unrelated ones.
///
/// # Shapes
/// `[frames, bands]` each; the frames that one has more are left out.
///
/// # Errors
/// If one cannot be read.
pub fn band_correlation(one: &dyn Frames, other: &dyn Frames) -> Result<f64> {
    let frames = one.frames().min(other.frames()) as f64;
    let both = [one, other];
    let mut sums = [Array1::zeros(0), Array1::zeros(0)];
    for_some_frames(&both, SOME_FRAMES, |parts| {
        for (sum, part) in sums.iter_mut().zip(parts) {
            let found = part.mapv(f64::from).sum_axis(Axis(0));
            *sum = if sum.is_empty() { found } else { &*sum + &found };
        }
    })?;
    let means = sums.map(|sum| sum / frames);
    let (mut product, mut squares) = (0.0, [0.0; 2]);
    for_some_frames(&both, SOME_FRAMES, |parts| {
        let [a, b] = [0, 1].map(|which| parts[which].mapv(f64::from) - &means[which]);
        product += (&a * &b).sum();
        squares[0] += (&a * &a).sum();
        squares[1] += (&b * &b).sum();
    })?;
    Ok(if product == 0.0 { 0.0 } else { product / (squares[0] * squares[1]).sqrt() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::cut_segments;

    fn cross_fade(segments: impl Iterator<Item = Array2<f32>>, frames: usize) -> Array2<f32> {
        let mut fade: Option<CrossFade> = None;
        for segment in segments {
            fade.get_or_insert_with(|| CrossFade::new(frames, segment.ncols(), 10)).add(segment.view());
        }
        fade.expect("at least one segment").finish()
    }

    #[test]
    fn cutting_and_cross_fading_gives_the_spectrogram_back() {
        for frames in [1, 19, 20, 33, 200] {
            let spectrum = Array2::from_shape_fn((frames, 4), |(t, band)| ((t * 7 + band * 3) % 11) as f32);
            let back = cross_fade(cut_segments(spectrum.view(), 20, 10), frames);
            assert_eq!(back.dim(), spectrum.dim());
            assert!(back.iter().zip(&spectrum).all(|(a, b)| (a - b).abs() < 1e-5), "{frames} frames");
        }
    }

    #[test]
    fn a_step_between_segments_becomes_a_ramp() {
        let faded = cross_fade([0.0, 1.0, 0.0].into_iter().map(|value| Array2::from_elem((20, 1), value)), 40);
        let largest = (1..40).map(|t| (faded[[t, 0]] - faded[[t - 1, 0]]).abs()).fold(0.0, f32::max);
        assert!(largest < 0.16, "the largest jump is {largest}"); // sin(pi / 20), the steepest step of the cosine
        for edge in [10, 20, 30] {
            let jump = (faded[[edge, 0]] - faded[[edge - 1, 0]]).abs();
            assert!(jump < 0.01, "a jump of {jump} where a segment begins");
        }
    }

    #[test]
    fn correlation_is_one_for_equal_shapes_and_ignores_band_means() {
        let one = Array2::from_shape_fn((50, 3), |(t, band)| (t as f32 * 0.3 + band as f32).sin());
        let shifted = &one * 2.0 + &Array2::from_shape_fn((50, 3), |(_, band)| band as f32 * 10.0);
        assert!((band_correlation(&one, &shifted).unwrap() - 1.0).abs() < 1e-6);
        assert!((band_correlation(&one, &(&one * -1.0)).unwrap() + 1.0).abs() < 1e-6);
        assert_eq!(band_correlation(&one, &Array2::zeros((50, 3))).unwrap(), 0.0);
    }
}
