//! DIP-VAE: codes whose covariance is the identity.

use burn::tensor::{Bool, Tensor};
use serde::{Deserialize, Serialize};

use crate::kernels;
use crate::models::Gaussian;

/// `beta KL(q(z|x) || p(z)) + off_diagonal sum_(i != j) C_ij^2 + diagonal sum_i (C_ii - 1)^2`, where `C` is a covariance of the codes.
///
/// # Reference
/// Kumar, Sattigeri & Balakrishnan 2018, "Variational Inference of Disentangled Latent Concepts from Unlabeled Observations", eq. 6
/// (I) and 7 (II); `beta` is 1 there, `diagonal` ten times `off_diagonal` with I and equal to it with II.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dip {
    /// Which covariance.
    pub kind: DipKind,
    /// Weight of the squared covariances.
    pub off_diagonal: f64,
    /// Weight of the squared distances of variances from 1.
    pub diagonal: f64,
}

/// Which covariance of the codes; either way over the batch, divided by its size.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DipKind {
    /// Of the posteriors' means: `Cov[mu(x)]`.
    I,
    /// Of the codes themselves: `E[Sigma(x)] + Cov[mu(x)]`.
    #[default]
    II,
}

impl DipKind {
    /// The sum of squared covariances and the sum of squared distances of variances from 1, `[1]` each.
    ///
    /// # Shapes
    /// posterior `[batch, latents]`
    pub fn penalties(self, posterior: &Gaussian<2>) -> [Tensor<1>; 2] {
        let mean = posterior.mean();
        let [batch, latents] = mean.dims();
        let centred = mean.clone() - mean.mean_dim(0);
        let covariance = kernels::product(centred.clone().transpose(), centred).div_scalar(batch as f64); // [latents, latents]
        let diagonal = Tensor::<2, Bool>::diag_mask([latents, latents], 0, &covariance.device()); // false on it
        let on = covariance.clone().mask_fill(diagonal.clone(), 0.0);
        let off_diagonal = covariance.mask_fill(diagonal.bool_not(), 0.0).square().sum();
        let variance = on.sum_dim(0); // [1, latents]
        let variance = match self {
            Self::I => variance,
            Self::II => variance + posterior.scale().square().mean_dim(0),
        };
        [off_diagonal, variance.sub_scalar(1.0).square().sum()]
    }
}
