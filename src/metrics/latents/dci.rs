//! Disentanglement, completeness and informativeness from the weights of sparse regressions.
//!
//! # Reference
//! Eastwood and Williams, "A framework for the quantitative evaluation of disentangled representations", 2018; averages
//! weighted by importance as in disentanglement_lib.

use ndarray::{Array1, Array2, ArrayView1, ArrayView2, Axis};
use serde::Serialize;

use super::lasso::{lasso, moments};

/// Penalties that are tried, relative to standardised values: the one that predicts unseen segments best is taken.
pub const ALPHAS: [f64; 5] = [0.001, 0.003, 0.01, 0.03, 0.1];
/// Parts of the segments: the last is for the test, the one before it chooses the penalty.
pub const FOLDS: usize = 5;
/// With fewer rows on a side there is nothing to learn from.
const FEWEST: usize = 10;

/// A factor predicted from all latents.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Regression {
    /// The penalty.
    pub alpha: f64,
    /// Coefficient of each latent, both sides standardised.
    pub weights: Vec<f64>,
    /// Share of the factor's variance on the test segments that the prediction explains, 0 if it is worse than their mean:
    /// informativeness.
    pub r2: f64,
}

/// The scores, all from 0 to 1.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Dci {
    /// Whether a latent serves one factor alone, latents weighted by how much they serve.
    pub disentanglement: f64,
    /// Whether one latent alone serves a factor, factors weighted likewise.
    pub completeness: f64,
    /// Mean over the factors of [`Regression::r2`].
    pub informativeness: f64,
}

/// The regression of one factor, `None` if too few rows have it, or it does not vary among those learned from and those
/// tested on.
///
/// # Shapes
/// `codes` `[n, latents]`, `factor` `[n]`, `folds` `[n]`: the part of each segment, below [`FOLDS`]
pub fn regress(codes: ArrayView2<f64>, factor: ArrayView1<f64>, folds: &[usize]) -> Option<Regression> {
    let rows =
        |wanted: &dyn Fn(usize) -> bool| -> Vec<usize> { (0..folds.len()).filter(|&row| wanted(folds[row])).collect() };
    let (learn, choose) = (rows(&|fold| fold < FOLDS - 2), rows(&|fold| fold == FOLDS - 2));
    let (all, test) = (rows(&|fold| fold < FOLDS - 1), rows(&|fold| fold == FOLDS - 1));
    if [&learn, &choose, &test].iter().any(|side| side.len() < FEWEST) {
        return None;
    }
    let score = |alpha: f64| Some((alpha, fit(codes, factor, &learn, alpha)?.r2(codes, factor, &choose)?));
    let tried = ALPHAS.iter().map(|&alpha| score(alpha)).collect::<Option<Vec<_>>>()?;
    let (alpha, _) = tried.into_iter().reduce(|best, this| if this.1 > best.1 { this } else { best })?;
    let fitted = fit(codes, factor, &all, alpha)?;
    let r2 = fitted.r2(codes, factor, &test)?.max(0.0);
    Some(Regression { alpha, weights: fitted.weights.to_vec(), r2 })
}

/// The scores of all factors together, `None` if nothing predicts anything.
///
/// # Panics
/// If the regressions are of different numbers of latents.
pub fn dci(regressions: &[&Regression]) -> Option<Dci> {
    let latents = regressions.first()?.weights.len();
    let importance = Array2::from_shape_fn((latents, regressions.len()), |(i, j)| regressions[j].weights[i].abs());
    if importance.sum() <= 0.0 {
        return None;
    }
    let informativeness = regressions.iter().map(|regression| regression.r2).sum::<f64>() / regressions.len() as f64;
    let (of_latents, of_factors) = (concentration(&importance, 0), concentration(&importance, 1));
    Some(Dci { disentanglement: of_latents, completeness: of_factors, informativeness })
}

/// One minus the entropy of each row (axis 0) or column (1) as a share of the greatest, averaged by the sums. Of one entry
/// alone it is 1.
fn concentration(importance: &Array2<f64>, axis: usize) -> f64 {
    let total = importance.sum();
    let each = importance.axis_iter(Axis(axis)).map(|line| {
        let sum = line.sum();
        let term = |&value: &f64| if value > 0.0 { -value / sum * (value / sum).ln() } else { 0.0 };
        let entropy: f64 = line.iter().map(term).sum();
        let share = if line.len() > 1 { entropy / (line.len() as f64).ln() } else { 0.0 };
        sum / total * (1.0 - share)
    });
    each.sum()
}

struct Fit {
    mean: Array1<f64>,
    deviation: Array1<f64>,
    centre: f64,
    scale: f64,
    weights: Array1<f64>,
}

fn fit(codes: ArrayView2<f64>, factor: ArrayView1<f64>, rows: &[usize], alpha: f64) -> Option<Fit> {
    let (x, y) = (codes.select(Axis(0), rows), factor.select(Axis(0), rows));
    let (mean, deviation) = moments(x.view());
    let (centre, scale) = (y.mean()?, y.std(0.0));
    if scale <= 1e-12 {
        return None;
    }
    let weights = lasso(((x - &mean) / &deviation).view(), ((y - centre) / scale).view(), alpha);
    Some(Fit { mean, deviation, centre, scale, weights })
}

impl Fit {
    /// Share of the variance on these rows that is explained; below 0 where the rows' mean does better.
    fn r2(&self, codes: ArrayView2<f64>, factor: ArrayView1<f64>, rows: &[usize]) -> Option<f64> {
        let y = factor.select(Axis(0), rows);
        let x = (codes.select(Axis(0), rows) - &self.mean) / &self.deviation;
        let missed = &y - &(x.dot(&self.weights) * self.scale + self.centre);
        let around = &y - y.mean()?;
        let spread = around.dot(&around);
        (spread > 1e-24).then(|| 1.0 - missed.dot(&missed) / spread)
    }
}
