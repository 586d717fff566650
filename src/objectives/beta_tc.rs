//! beta-TCVAE: the divergence in three parts, estimated within a batch.

use std::f64::consts::{FRAC_1_SQRT_2, PI};

use burn::tensor::{Bool, Device, Int, Tensor};
use serde::{Deserialize, Serialize};

use crate::models::Gaussian;

/// `alpha I(z; x) + beta KL(q(z) || prod_j q(z_j)) + gamma sum_j KL(q(z_j) || p(z_j))`: mutual information, total correlation and
/// dimension-wise divergence, whose plain sum is `KL(q(z|x) || p(z))`.
///
/// # Reference
/// Chen, Li, Grosse & Duvenaud 2018, "Isolating Sources of Disentanglement in Variational Autoencoders", eq. 2 and 4; `alpha` and
/// `gamma` are 1 there, `beta` about 6.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BetaTc {
    /// Weight of the mutual information.
    pub alpha: f64,
    /// Weight of the dimension-wise divergence.
    pub gamma: f64,
    /// How the density of the codes of all the data is estimated.
    pub sampling: Sampling,
}

/// How `q(z)`, the mean over the data of `q(z|x)`, is estimated from the batch that `z` is of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Sampling {
    /// `1 / (N M) sum_m q(z|x_m)` over the `M` of the batch, `N` in the data (eq. 5): too low, by a factor between `M` and `N`. The
    /// mutual information is shown too high by its logarithm and, of `d` latents, the total correlation by `d - 1` times it, at
    /// the dimension-wise divergence's cost. What is constant in that moves no gradient and no comparison within a run, if test and training name the same `N`.
    #[default]
    Weighted,
    /// Its own `x` weighs `1 / N`, another one `(N - M) / (N M)`, the rest `1 / M`, `M` being one less than the batch: right in the
    /// mean before the logarithm (appendix C.2). The batch's next one takes the part of the other.
    Stratified,
}

impl Sampling {
    /// Mutual information, total correlation and dimension-wise divergence, means over the batch in nats, `[1]` each, where the
    /// data has `data` segments (or as many as the batch, if that is more). Their sum is the mean over `z` of
    /// `ln q(z|x) - ln p(z)`, whatever the estimate.
    ///
    /// # Shapes
    /// posterior and `z` `[batch, latents]`
    ///
    /// # Panics
    /// If a stratified batch is smaller than 2.
    pub fn decompose(self, posterior: &Gaussian<2>, z: Tensor<2>, data: usize) -> [Tensor<1>; 3] {
        let [batch, _] = z.dims();
        let data = data.max(batch) as f64;
        let half_ln_two_pi = 0.5 * (2.0 * PI).ln();
        let scale = posterior.scale();
        let narrow: Tensor<3> = scale.clone().recip().mul_scalar(FRAC_1_SQRT_2).unsqueeze_dim(0); // [1, batch, latents]
        let height: Tensor<3> = scale.log().add_scalar(half_ln_two_pi).neg().unsqueeze_dim(0);
        let away = z.clone().unsqueeze_dim(1) - posterior.mean().unsqueeze_dim(0); // [z, x, latents]
        let each = height - (away * narrow).square(); // ln q(z_j | x) of each z under each x
        let together: Tensor<3> = each.clone().sum_dim(2); // [z, x, 1]
        let own = own(together.clone()).mean();
        let (together, apart) = match self {
            Self::Weighted => {
                let less = (data * batch as f64).ln();
                (log_sum(together).sub_scalar(less), log_sum(each).sub_scalar(less))
            }
            Self::Stratified => {
                let weights = stratified(batch, data, &z.device());
                (log_sum(together + weights.clone()), log_sum(each + weights))
            }
        }; // [z, 1, 1] and [z, 1, latents]
        let together = together.mean();
        let apart = apart.sum().div_scalar(batch as f64);
        let prior = z.square().mul_scalar(0.5).add_scalar(half_ln_two_pi).sum().div_scalar(batch as f64).neg();
        [own - together.clone(), together - apart.clone(), apart - prior]
    }
}

/// The logarithms of the stratified weights, `[z, x, 1]`, made on the device.
fn stratified(batch: usize, data: f64, device: &Device) -> Tensor<3> {
    assert!(batch > 1, "of a batch of 1 there is no other");
    let rest = (batch - 1) as f64;
    let (own, other, rest) = (1.0 / data, (data - rest) / (data * rest), 1.0 / rest);
    let rows = Tensor::<1, Int>::arange(0..batch as i64, device);
    let next = rows.clone().add_scalar(1).remainder_scalar(batch as i64); // who takes the part of the other
    let is = |columns: Tensor<1, Int>| rows.clone().unsqueeze_dim::<2>(0).equal(columns.unsqueeze_dim(1)); // [z, x]
    let weights = Tensor::zeros([batch, batch], device).add_scalar(rest.ln()); // `full` would come from the host
    weights.mask_fill(is(next), other.ln()).mask_fill(is(rows.clone()), own.ln()).unsqueeze_dim(2)
}

/// The diagonal: of each `z` what its own `x` gives, `[batch, 1]`.
fn own(each: Tensor<3>) -> Tensor<2> {
    let [batch, ..] = each.dims();
    let others = Tensor::<2, Bool>::diag_mask([batch, batch], 0, &each.device()); // false on it
    each.squeeze_dim::<2>(2).mask_fill(others, 0.0).sum_dim(1)
}

/// `ln sum exp` over the second dimension.
fn log_sum(each: Tensor<3>) -> Tensor<3> {
    let most = each.clone().detach().max_dim(1);
    (each - most.clone()).exp().sum_dim(1).log() + most
}
