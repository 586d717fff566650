//! Whether runs from different seeds found the same latents.
//!
//! # Reference
//! Duan et al., "Unsupervised model selection for variational disentangled representation learning", 2020, section 4, with
//! Spearman's correlation as similarity: UDR_S, latents of a divergence above 0.01 nats.

use ndarray::{Array1, Array2, ArrayView1, ArrayView2};

use super::information::BINS;

/// The score of two runs' codes of the same segments, from 0 to 1; `None` if either has no active latent, and of fewer than 20
/// segments, as the other scores.
///
/// # Shapes
/// `one` and `other` `[n, latents]`, of the active latents alone
///
/// # Panics
/// If there are more rows of one than of the other.
pub fn udr(one: ArrayView2<f64>, other: ArrayView2<f64>) -> Option<f64> {
    let ranked = |codes: ArrayView2<f64>| codes.columns().into_iter().map(|column| ranks(column)).collect::<Vec<_>>();
    let (a, b) = (ranked(one), ranked(other));
    if a.is_empty() || b.is_empty() || one.nrows() < BINS {
        return None;
    }
    let similarity = Array2::from_shape_fn((a.len(), b.len()), |(i, j)| correlation(&a[i], &b[j]).abs());
    let of = |line: ArrayView1<f64>| {
        let (most, sum) = (line.iter().copied().fold(0.0, f64::max), line.sum());
        if sum > 0.0 { most * most / sum } else { 0.0 }
    };
    let total: f64 = similarity.columns().into_iter().chain(similarity.rows()).map(of).sum();
    Some(total / (a.len() + b.len()) as f64)
}

/// The middle one; of two the mean. `None` of nothing.
pub fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let last = values.len().checked_sub(1)?;
    Some((values[last / 2] + values[last.div_ceil(2)]) / 2.0)
}

/// The place of each value among all; equal ones share the mean of theirs.
fn ranks(values: ArrayView1<f64>) -> Array1<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&i, &j| values[i].total_cmp(&values[j]));
    let mut ranks = Array1::zeros(values.len());
    for same in order.chunk_by(|&i, &j| values[i] == values[j]) {
        let first = order.partition_point(|&row| values[row].total_cmp(&values[same[0]]).is_lt());
        same.iter().for_each(|&row| ranks[row] = first as f64 + (same.len() - 1) as f64 / 2.0);
    }
    ranks
}

/// Pearson's; 0 if either is constant.
fn correlation(one: &Array1<f64>, other: &Array1<f64>) -> f64 {
    let centred = |values: &Array1<f64>| values - values.mean().unwrap_or(0.0);
    let (one, other) = (centred(one), centred(other));
    let scale = (one.dot(&one) * other.dot(&other)).sqrt();
    if scale > 0.0 { one.dot(&other) / scale } else { 0.0 }
}
