//! From what is asked of a sound to a move of its codes.
//!
//! Weights of a regression say how a quality is read from codes; the way along which codes differ where it differs is another one,
//! their covariance with it. A move along the weights leads off from all codes there are, where the decoder makes of it what it will.
//!
//! # Reference
//! Haufe et al., "On the interpretation of weight vectors of linear models in multivariate neuroimaging", 2014: patterns,
//! the covariance times the weights.

use ndarray::{Array1, ArrayView1, ArrayView2};

use super::named::{EVIDENT, Quality, Slope};
use crate::{Error, Result};

/// What is not asked for is held as long as the move becomes at most this many times as long: where two qualities are nearly
/// one to the VAE, keeping them apart would lead far away from all that it knows.
const LONGER: f64 = 2.0;
/// Part of a direction that must be left beside others for it to be one of its own.
const OWN: f64 = 1e-6;

/// A move in latent space.
#[derive(Clone, Debug, PartialEq)]
pub struct Steering {
    /// What is added to every code, `[latents]`.
    pub by: Array1<f64>,
    /// How long that is, in standard deviations of codes along it (Mahalanobis).
    pub far: f64,
    /// What the move leaves as it is, as far as it is linear.
    pub held: Vec<Quality>,
}

/// The likeliest move that changes each quality by what is `asked` and, where possible, no other one that latents tell of.
///
/// It is the `d` with the least `dᵀ C⁻¹ d` for the codes' covariance `C` among those with `w · d` as asked for the weights `w` of
/// each slope, 0 for those held: of one quality `C w / (wᵀ C w)`.
///
/// # Shapes
/// `covariance` `[latents, latents]`
///
/// # Errors
/// [`Error::Config`] if no latent tells of a quality, or two that are asked for are one to the VAE.
///
/// # Panics
/// If a quality that is asked for has no slope.
pub fn steer(slopes: &[Slope], covariance: ArrayView2<f64>, asked: &[(Quality, f64)]) -> Result<Steering> {
    if let Some((quality, _)) = asked.iter().find(|(quality, _)| deviation(slopes, covariance, *quality) == 0.0) {
        return Err(Error::Config(format!("--{}: no latent of this VAE tells of it", quality.name())));
    }
    let (mut by, mut far) = likeliest(slopes, covariance, asked).ok_or_else(|| {
        let flags: Vec<String> = asked.iter().map(|(quality, _)| format!("--{}", quality.name())).collect();
        Error::Config(format!("{}: to this VAE they are one; ask for one of them", flags.join(", ")))
    })?;
    let furthest = LONGER * far;
    let mut others: Vec<&Slope> = slopes
        .iter()
        .filter(|slope| slope.r2 >= EVIDENT && asked.iter().all(|(quality, _)| *quality != slope.quality))
        .collect();
    others.sort_by(|one, other| other.r2.total_cmp(&one.r2));
    let (mut wanted, mut held) = (asked.to_vec(), Vec::new());
    for slope in others {
        wanted.push((slope.quality, 0.0));
        match likeliest(slopes, covariance, &wanted).filter(|(_, longer)| *longer <= furthest) {
            Some(longer) => {
                (by, far) = longer;
                held.push(slope.quality);
            }
            None => drop(wanted.pop()),
        }
    }
    Ok(Steering { by, far, held })
}

/// How far a quality is apart from code to code, as the weights of its slope have it, in its unit.
///
/// # Panics
/// If it has no slope.
pub fn deviation(slopes: &[Slope], covariance: ArrayView2<f64>, quality: Quality) -> f64 {
    let weights = weights(slopes, quality);
    weights.dot(&covariance.dot(&weights)).max(0.0).sqrt()
}

/// The likeliest move that changes each quality by so much, and its length in standard deviations, by Gram and Schmidt's method; `None`
/// if to these slopes one is a combination of others.
///
/// # Panics
/// If a quality has no slope.
pub fn likeliest(
    slopes: &[Slope],
    covariance: ArrayView2<f64>,
    wanted: &[(Quality, f64)],
) -> Option<(Array1<f64>, f64)> {
    let inner = |one: &Array1<f64>, other: &Array1<f64>| one.dot(&covariance.dot(other));
    let length = |row: &Array1<f64>| inner(row, row).max(0.0).sqrt();
    let mut basis: Vec<Array1<f64>> = Vec::new();
    let mut along = Array1::zeros(covariance.nrows()); // the move is the covariance times this
    for &(quality, by) in wanted {
        let row = weights(slopes, quality).to_owned();
        let mut own = row.clone();
        for _ in 0..2 {
            // Twice: what rounding leaves of the first time is gone.
            basis.iter().for_each(|one| own = &own - &(one * inner(one, &own)));
        }
        let own_length = length(&own);
        if own_length <= OWN * length(&row) {
            return None;
        }
        own /= own_length;
        along = &along + &(&own * ((by - inner(&row, &along)) / own_length));
        basis.push(own);
    }
    Some((covariance.dot(&along), length(&along)))
}

fn weights(slopes: &[Slope], quality: Quality) -> ArrayView1<'_, f64> {
    let slope = slopes.iter().find(|slope| slope.quality == quality).expect("there is a slope of what is asked");
    ArrayView1::from(&slope.weights)
}
