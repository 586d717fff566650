//! Overlapping segments to one spectrogram without seams.

use ndarray::{Array2, ArrayView2, Axis};

/// Cross-fades segments that begin every `hop` frames.
///
/// Each frame is the mean of the segments that cover it, weighted by a triangle over the segment, so that a segment fades in
/// while the one before fades out.
///
/// # Shapes
/// Segments of `[segment_frames, mels]` to `[frames, mels]`.
///
/// # Panics
/// If there is no segment, or they do not cover `frames`.
pub(super) fn cross_fade(segments: &[Array2<f32>], hop: usize, frames: usize) -> Array2<f32> {
    let (length, mels) = segments.first().expect("at least one segment").dim();
    let covered = (segments.len() - 1) * hop + length;
    assert!(hop <= length && frames <= covered, "{frames} frames, but the segments cover {covered}");
    let mut sum = Array2::<f32>::zeros((covered, mels));
    let mut weights = vec![0.0f32; covered];
    for (index, segment) in segments.iter().enumerate() {
        for (t, frame) in segment.axis_iter(Axis(0)).enumerate() {
            let weight = (t.min(length - 1 - t) + 1) as f32;
            sum.row_mut(index * hop + t).scaled_add(weight, &frame);
            weights[index * hop + t] += weight;
        }
    }
    for (mut frame, weight) in sum.rows_mut().into_iter().zip(weights) {
        frame /= weight;
    }
    sum.slice_axis_inplace(Axis(0), (0..frames).into());
    sum
}

/// Pearson correlation of two spectrograms with each band's mean removed: 1 for equal shapes, near 0 for unrelated ones.
///
/// # Shapes
/// `[frames, bands]` each; the frames that one has more are left out.
pub fn band_correlation(one: ArrayView2<f32>, other: ArrayView2<f32>) -> f64 {
    let frames = one.nrows().min(other.nrows());
    let (mut product, mut square_one, mut square_other) = (0.0, 0.0, 0.0);
    for (a, b) in one.columns().into_iter().zip(other.columns()) {
        let mean =
            |x: ndarray::ArrayView1<f32>| x.iter().take(frames).map(|&v| f64::from(v)).sum::<f64>() / frames as f64;
        let (mean_a, mean_b) = (mean(a), mean(b));
        for (&a, &b) in a.iter().zip(b).take(frames) {
            let (a, b) = (f64::from(a) - mean_a, f64::from(b) - mean_b);
            product += a * b;
            square_one += a * a;
            square_other += b * b;
        }
    }
    if product == 0.0 { 0.0 } else { product / (square_one * square_other).sqrt() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::cut_segments;

    #[test]
    fn cutting_and_cross_fading_gives_the_spectrogram_back() {
        for frames in [1, 19, 20, 33, 200] {
            let spectrum = Array2::from_shape_fn((frames, 4), |(t, band)| ((t * 7 + band * 3) % 11) as f32);
            let segments = cut_segments(spectrum.view(), 20, 10);
            let back = cross_fade(&segments, 10, frames);
            assert_eq!(back.dim(), spectrum.dim());
            assert!(back.iter().zip(&spectrum).all(|(a, b)| (a - b).abs() < 1e-5), "{frames} frames");
        }
    }

    #[test]
    fn a_step_between_segments_becomes_a_ramp() {
        let segments: Vec<_> = [0.0, 1.0, 0.0].map(|value| Array2::from_elem((20, 1), value)).to_vec();
        let faded = cross_fade(&segments, 10, 40);
        let largest = (1..40).map(|t| (faded[[t, 0]] - faded[[t - 1, 0]]).abs()).fold(0.0, f32::max);
        assert!(largest < 0.11, "the largest jump is {largest}");
    }

    #[test]
    fn correlation_is_one_for_equal_shapes_and_ignores_band_means() {
        let one = Array2::from_shape_fn((50, 3), |(t, band)| (t as f32 * 0.3 + band as f32).sin());
        let shifted = &one * 2.0 + &Array2::from_shape_fn((50, 3), |(_, band)| band as f32 * 10.0);
        assert!((band_correlation(one.view(), shifted.view()) - 1.0).abs() < 1e-6);
        assert!((band_correlation(one.view(), (&one * -1.0).view()) + 1.0).abs() < 1e-6);
        assert_eq!(band_correlation(one.view(), Array2::zeros((50, 3)).view()), 0.0);
    }
}
