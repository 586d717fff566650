//! The triangular root of a covariance, and what it solves.

use ndarray::{Array1, Array2, ArrayView1, ArrayView2};

/// A pivot of less is one of a singular matrix.
const LEAST: f64 = 1e-12;

/// The lower triangular `L` with `L Lᵀ` the matrix; `None` if it is not positive definite.
pub fn root(matrix: ArrayView2<f64>) -> Option<Array2<f64>> {
    let count = matrix.nrows();
    let mut root = Array2::<f64>::zeros(matrix.dim());
    for i in 0..count {
        for j in 0..=i {
            let rest = matrix[[i, j]] - (0..j).map(|k| root[[i, k]] * root[[j, k]]).sum::<f64>();
            if i != j {
                root[[i, j]] = rest / root[[j, j]];
            } else if rest > LEAST {
                root[[i, i]] = rest.sqrt();
            } else {
                return None;
            }
        }
    }
    Some(root)
}

/// The `x` with `L Lᵀ x = y`.
pub fn solve(root: ArrayView2<f64>, y: ArrayView1<f64>) -> Array1<f64> {
    let mut x = y.to_owned();
    for i in 0..x.len() {
        x[i] = (x[i] - (0..i).map(|k| root[[i, k]] * x[k]).sum::<f64>()) / root[[i, i]];
    }
    for i in (0..x.len()).rev() {
        x[i] = (x[i] - (i + 1..x.len()).map(|k| root[[k, i]] * x[k]).sum::<f64>()) / root[[i, i]];
    }
    x
}
