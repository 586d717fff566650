//! Linear regression with an L2 penalty.
//!
//! # Reference
//! Hoerl and Kennard, "Ridge regression: biased estimation for nonorthogonal problems", 1970.

use ndarray::{Array1, Array2, ArrayView1, ArrayView2, Axis};

use super::cholesky::{root, solve};

/// Of codes as they are, not standardised: a latent whose means hardly move, which the decoder has no use for, must not get
/// a great weight for that. A hundredth of the prior's variance.
pub const PENALTY: f64 = 0.01;

/// A value as a linear function of codes.
#[derive(Clone, Debug)]
pub struct Ridge {
    /// By how much it changes with each latent, `[latents]`.
    pub weights: Array1<f64>,
    /// Its value where all latents are 0.
    pub at_zero: f64,
}

impl Ridge {
    /// Makes `|y - X w - b|² / 2n + penalty |w|² / 2` least.
    ///
    /// # Shapes
    /// `x` `[n, latents]`, `y` `[n]`
    ///
    /// # Panics
    /// If there is no row, or the penalty is not positive.
    pub fn fit(x: ArrayView2<f64>, y: ArrayView1<f64>, penalty: f64) -> Self {
        assert!(penalty > 0.0 && x.nrows() > 0, "{} rows, penalty {penalty}", x.nrows());
        let (mean, centre) = (x.mean_axis(Axis(0)).expect("there are rows"), y.mean().expect("there are rows"));
        let (x, y) = (&x - &mean, &y - centre);
        let n = x.nrows() as f64;
        let covariance = x.t().dot(&x) / n + Array2::<f64>::eye(x.ncols()) * penalty;
        let root = root(covariance.view()).expect("a positive diagonal is added to a covariance");
        let weights = solve(root.view(), (x.t().dot(&y) / n).view());
        Self { at_zero: centre - mean.dot(&weights), weights }
    }

    /// Share of the variance on these rows that it explains, below 0 where their mean does better; `None` if there is none.
    pub fn r2(&self, x: ArrayView2<f64>, y: ArrayView1<f64>) -> Option<f64> {
        let missed = &y - &(x.dot(&self.weights) + self.at_zero);
        let around = &y - y.mean()?;
        let spread = around.dot(&around);
        (spread > 1e-12 * y.len() as f64).then(|| 1.0 - missed.dot(&missed) / spread)
    }
}
