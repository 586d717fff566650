//! Linear regression with an L1 penalty, by coordinate descent.
//!
//! # Reference
//! Friedman, Hastie and Tibshirani, "Regularization paths for generalized linear models via coordinate descent", 2010,
//! section 2; the objective is that of scikit-learn's `Lasso`.

use ndarray::{Array1, Array2, ArrayView1, ArrayView2, Axis};

/// Sweeps at most; correlated codes need hundreds.
const SWEEPS: usize = 10_000;
/// No coefficient moves by more in the last sweep, in units of standardised values.
const SETTLED: f64 = 1e-9;

/// The coefficients `w` that make `|y - X w|² / 2n + alpha |w|₁` least.
///
/// # Shapes
/// `x` `[n, columns]` and `y` `[n]`, both centred -> `[columns]`. A column of zeros has the coefficient 0.
pub fn lasso(x: ArrayView2<f64>, y: ArrayView1<f64>, alpha: f64) -> Array1<f64> {
    let (n, columns) = x.dim();
    let n = n as f64;
    // All that descent needs are products of columns.
    let gram: Array2<f64> = x.t().dot(&x) / n;
    let target: Array1<f64> = x.t().dot(&y) / n;
    let mut weights = Array1::<f64>::zeros(columns);
    for _ in 0..SWEEPS {
        let mut moved = 0.0f64;
        for column in 0..columns {
            let own = gram[[column, column]];
            if own <= 0.0 {
                continue;
            }
            let others = gram.row(column).dot(&weights) - own * weights[column];
            let pull = target[column] - others;
            let next = pull.signum() * (pull.abs() - alpha).max(0.0) / own;
            moved = moved.max((next - weights[column]).abs());
            weights[column] = next;
        }
        if moved < SETTLED {
            break;
        }
    }
    weights
}

/// What makes each column's mean 0 and its standard deviation 1: both of each column, 1 for a constant one.
pub fn moments(x: ArrayView2<f64>) -> (Array1<f64>, Array1<f64>) {
    let mean = x.mean_axis(Axis(0)).expect("there are rows");
    let deviation = x.std_axis(Axis(0), 0.0).mapv(|std| if std > 1e-12 { std } else { 1.0 });
    (mean, deviation)
}
