//! From what is asked of a sound to a move of its codes.

use ndarray::{Array1, ArrayView1};

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
    /// What the move leaves as it is, as far as it is linear.
    pub held: Vec<Quality>,
}

/// The shortest move that changes each quality by what is `asked` and, where possible, no other one that latents tell of.
///
/// It is the `d` of least norm with `w · d` as asked for the weights `w` of each slope, 0 for those held.
///
/// # Errors
/// [`Error::Config`] if no latent tells of a quality, or two that are asked for are one to the VAE.
///
/// # Panics
/// If a quality that is asked for has no slope.
pub fn steer(slopes: &[Slope], asked: &[(Quality, f64)]) -> Result<Steering> {
    let weights = |slope: &Slope| Array1::from(slope.weights.clone());
    let of = |quality| slopes.iter().find(|slope| slope.quality == quality).expect("there is a slope of what is asked");
    let mut rows: Vec<(Array1<f64>, f64)> = asked.iter().map(|&(quality, by)| (weights(of(quality)), by)).collect();
    if let Some(((_, _), (quality, _))) = rows.iter().zip(asked).find(|((row, _), _)| row.dot(row) == 0.0) {
        return Err(Error::Config(format!("--{}: no latent of this VAE tells of it", quality.name())));
    }
    let mut by = shortest(&rows).ok_or_else(|| {
        let flags: Vec<String> = asked.iter().map(|(quality, _)| format!("--{}", quality.name())).collect();
        Error::Config(format!("{}: to this VAE they are one; ask for one of them", flags.join(", ")))
    })?;
    let furthest = LONGER * norm(by.view());
    let mut others: Vec<&Slope> = slopes
        .iter()
        .filter(|slope| slope.r2 >= EVIDENT && asked.iter().all(|(quality, _)| *quality != slope.quality))
        .collect();
    others.sort_by(|one, other| other.r2.total_cmp(&one.r2));
    let mut held = Vec::new();
    for slope in others {
        rows.push((weights(slope), 0.0));
        match shortest(&rows).filter(|longer| norm(longer.view()) <= furthest) {
            Some(longer) => {
                by = longer;
                held.push(slope.quality);
            }
            None => drop(rows.pop()),
        }
    }
    Ok(Steering { by, held })
}

/// The `d` of least norm with `row · d` as wanted for each row, by Gram and Schmidt's method; `None` if a row is a combination
/// of others.
fn shortest(rows: &[(Array1<f64>, f64)]) -> Option<Array1<f64>> {
    let mut basis: Vec<Array1<f64>> = Vec::new();
    let mut by = Array1::zeros(rows.first()?.0.len());
    for (row, wanted) in rows {
        let mut own = row.clone();
        for _ in 0..2 {
            // Twice: what rounding leaves of the first time is gone.
            basis.iter().for_each(|one| own = &own - &(one * one.dot(&own)));
        }
        let length = norm(own.view());
        if length <= OWN * norm(row.view()) {
            return None;
        }
        own /= length;
        by = &by + &(&own * ((wanted - row.dot(&by)) / length));
        basis.push(own);
    }
    Some(by)
}

fn norm(vector: ArrayView1<f64>) -> f64 {
    vector.dot(&vector).sqrt()
}
