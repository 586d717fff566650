//! FactorVAE: the total correlation as a discriminator tells it.

use burn::module::Module;
use burn::tensor::{Int, Tensor};
use rand::Rng;
use rand::seq::SliceRandom;
use serde::{Deserialize, Serialize};

use crate::models::{Discriminator, DiscriminatorConfig, softplus};

/// `beta KL(q(z|x) || p(z)) + gamma TC(z)`, where `TC(z) = KL(q(z) || prod_j q(z_j))` is told by a discriminator `D` of codes and of
/// codes whose latents were drawn apart: `TC(z) = E_q(z)[ln D(z) / (1 - D(z))]`, the mean difference of its two logits.
///
/// `D` learns beside the VAE, at a rate of its own, to minimise `-1/2 (E_q(z)[ln D(z)] + E_prod q(z_j)[ln(1 - D(z))])`. The
/// gradient of the total correlation goes through `D`'s layers to the encoder and leaves `D` as it is; that of `D`'s own
/// loss ends at the codes.
///
/// The two are of separate halves of the batch, which is as independent as the paper's second batch, costs no second pass
/// through the encoder, and asks half as much of `D`. The total correlation that the VAE is asked for is of the whole batch.
///
/// # Reference
/// Kim & Mnih 2018, "Disentangling by Factorising", eq. 2 and 3, algorithms 1 and 2; `beta` is 1 there, `gamma` about 35.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Factor {
    /// Weight of the total correlation.
    pub gamma: f64,
    /// Sizes of `D`.
    pub discriminator: DiscriminatorConfig,
    /// Of `D`'s Adam, whose decays are 0.5 and 0.9; the paper's is 1e-4.
    pub learning_rate: f64,
}

impl Factor {
    /// The total correlation of the distribution that the codes `z` are of, as the discriminator tells it, in nats, `[1]`. Gradients
    /// reach `z` and not the discriminator.
    ///
    /// # Shapes
    /// `z` `[batch, latents]`
    pub fn total_correlation(discriminator: &Discriminator, z: Tensor<2>) -> Tensor<1> {
        log_ratio(&discriminator.clone().no_grad(), z).mean()
    }

    /// For each latent the order in which the second half of a batch of `batch` codes has its values: permutations,
    /// `[batch / 2, latents]`, last dimension fastest.
    pub fn orders(batch: usize, latents: usize, rng: &mut impl Rng) -> Vec<f32> {
        let rows = batch / 2;
        let mut orders = vec![0.0; rows * latents];
        let mut order: Vec<usize> = (0..rows).collect();
        for latent in 0..latents {
            order.shuffle(rng);
            orders.iter_mut().skip(latent).step_by(latents).zip(&order).for_each(|(to, row)| *to = *row as f32);
        }
        orders
    }

    /// The discriminator's cross-entropy between the first half of the codes and the second, the latents of which are
    /// drawn apart by [`orders`](Self::orders) (algorithm 1), `[1]`. Gradients reach the discriminator and not `z`.
    ///
    /// # Shapes
    /// `z` `[batch, latents]`, `orders` `[batch / 2, latents]`
    ///
    /// # Panics
    /// If the batch is smaller than 2.
    pub fn discriminator_loss(discriminator: &Discriminator, z: Tensor<2>, orders: Tensor<2, Int>) -> Tensor<1> {
        let [batch, latents] = z.dims();
        let half = batch / 2;
        let z = z.detach();
        let apart = z.clone().slice([batch - half..batch, 0..latents]).gather(0, orders);
        let z = Tensor::cat(vec![z.slice([0..half, 0..latents]), apart], 0); // [2 half, latents]
        let ratio = log_ratio(discriminator, z); // [2 half]
        let (together, apart) = (ratio.clone().narrow(0, 0, half), ratio.narrow(0, half, half));
        Tensor::cat(vec![softplus(together.neg()), softplus(apart)], 0).mean()
    }
}

/// `ln D(z) / (1 - D(z))` of each code, `[batch]`.
fn log_ratio(discriminator: &Discriminator, z: Tensor<2>) -> Tensor<1> {
    let logits = discriminator.forward(z); // [batch, 2]
    (logits.clone().narrow(1, 0, 1) - logits.narrow(1, 1, 1)).squeeze_dim(1)
}
