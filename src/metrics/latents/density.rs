//! What codes are by themselves: which latents are in use, and how they depend on each other.
//!
//! # Reference
//! Gaussian total correlation and mean pairwise information as in Locatello et al., "Challenging common assumptions in the
//! unsupervised learning of disentangled representations", 2019, of posterior means.

use ndarray::{Array2, ArrayView2, Axis};

use super::cholesky::root;
use super::information::{binned, mutual_information};

/// A latent is active if its mean divergence from the prior is above this, in nats: the trainer's threshold.
pub const ACTIVE: f64 = 0.01;

/// Mean divergence of each latent's posterior from the standard normal, in nats.
///
/// # Shapes
/// `mean` and `scale` `[n, latents]` -> `[latents]`
pub fn divergences(mean: ArrayView2<f64>, scale: ArrayView2<f64>) -> Vec<f64> {
    let of = |(mean, scale): (&f64, &f64)| 0.5 * (mean * mean + scale * scale - 1.0) - scale.ln();
    let latent = |latent: usize| mean.column(latent).iter().zip(scale.column(latent)).map(of).sum::<f64>();
    (0..mean.ncols()).map(|index| latent(index) / mean.nrows() as f64).collect()
}

/// The latents that are active, by their divergences.
pub fn active(kl: &[f64]) -> Vec<usize> {
    (0..kl.len()).filter(|&latent| kl[latent] > ACTIVE).collect()
}

/// The means with those of latents that are not active at 0. Theirs are not quite constant: faint functions of what the
/// active ones know, which samples drown in noise and bins bring up again, so that each factor would seem to have a second home.
///
/// # Shapes
/// `[n, latents]` -> `[n, latents]`
pub fn in_use(mean: ArrayView2<f64>, active: &[usize]) -> Array2<f64> {
    let mut codes = Array2::zeros(mean.dim());
    active.iter().for_each(|&latent| codes.column_mut(latent).assign(&mean.column(latent)));
    codes
}

/// Divergence of a Gaussian of these codes' covariance from the product of its marginals, in nats; `None` of no latents, and if
/// the covariance is singular, as that of more latents than segments.
///
/// # Shapes
/// `[n, latents]`
pub fn total_correlation(codes: ArrayView2<f64>) -> Option<f64> {
    if codes.ncols() == 0 {
        return None;
    }
    let centred = &codes - &codes.mean_axis(Axis(0))?;
    let covariance = centred.t().dot(&centred);
    let scale = covariance.diag().mapv(f64::sqrt);
    let correlation = Array2::from_shape_fn(covariance.dim(), |(i, j)| covariance[[i, j]] / (scale[i] * scale[j]));
    Some(0.0 - root(correlation.view())?.diag().mapv(f64::ln).sum())
}

/// Mean mutual information of two latents, in nats, over all pairs; `None` of fewer than two latents.
///
/// # Shapes
/// `[n, latents]`
pub fn mean_pairwise_information(codes: ArrayView2<f64>) -> Option<f64> {
    let latents: Vec<Vec<usize>> = codes.columns().into_iter().map(binned).collect();
    let pairs = (0..latents.len()).flat_map(|one| (0..one).map(move |other| (one, other)));
    crate::metrics::mean(pairs.map(|(one, other)| mutual_information(&latents[one], &latents[other])))
}
