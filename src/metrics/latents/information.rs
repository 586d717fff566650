//! Entropy and mutual information of binned values, and the gap between the two most informative latents.
//!
//! # References
//! Chen, Li, Grosse and Duvenaud, "Isolating sources of disentanglement in variational autoencoders", 2018 (MIG, equation
//! 6); with the bins of Locatello et al., "Challenging common assumptions in the unsupervised learning of disentangled
//! representations", 2019 (disentanglement_lib).

use ndarray::{Array2, ArrayView1};

/// Bins between the least and the greatest value, of equal width.
pub const BINS: usize = 20;

/// The bin of each value. Values of which there are [`BINS`] different ones at most are their own bins, in order.
///
/// Plug-in estimates of information are too high by about `BINS² / 2n` nats for `n` values.
pub fn binned(values: ArrayView1<f64>) -> Vec<usize> {
    let levels = levels(values);
    if levels.len() <= BINS {
        return values.iter().map(|value| levels.partition_point(|level| level < value)).collect();
    }
    let (low, high) = (levels[0], levels[levels.len() - 1]);
    // Held against the edges themselves, as numpy.digitize does.
    let edges: Vec<f64> = (1..BINS).map(|edge| low + (high - low) * edge as f64 / BINS as f64).collect();
    values.iter().map(|value| edges.partition_point(|edge| edge <= value)).collect()
}

/// The different values, ascending.
pub fn levels(values: ArrayView1<f64>) -> Vec<f64> {
    let mut levels = values.to_vec();
    levels.sort_by(f64::total_cmp);
    levels.dedup();
    levels
}

/// Entropy of binned values, in nats.
pub fn entropy(bins: &[usize]) -> f64 {
    mutual_information(bins, bins)
}

/// Mutual information of two binned variables, in nats.
///
/// # Panics
/// If there are more values of one than of the other.
pub fn mutual_information(one: &[usize], other: &[usize]) -> f64 {
    assert_eq!(one.len(), other.len(), "values in pairs");
    let size = |bins: &[usize]| bins.iter().max().map_or(0, |most| most + 1);
    let mut joint = Array2::<f64>::zeros((size(one), size(other)));
    one.iter().zip(other).for_each(|(&i, &j)| joint[[i, j]] += 1.0);
    let (rows, columns) = (joint.sum_axis(ndarray::Axis(1)), joint.sum_axis(ndarray::Axis(0)));
    let count = one.len() as f64;
    let term = |((i, j), &both): ((usize, usize), &f64)| match both {
        0.0 => 0.0,
        both => both / count * (both * count / (rows[i] * columns[j])).ln(),
    };
    // Rounding may leave a little less than nothing.
    joint.indexed_iter().map(term).sum::<f64>().max(0.0)
}

/// How much more the best of `scores` is than the second best; `None` of fewer than two.
pub fn gap(scores: impl IntoIterator<Item = f64>) -> Option<f64> {
    let mut scores: Vec<f64> = scores.into_iter().collect();
    scores.sort_by(|one, other| other.total_cmp(one));
    Some(scores.first()? - scores.get(1)?)
}
