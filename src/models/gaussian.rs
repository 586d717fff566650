//! Diagonal Gaussians.

use burn::tensor::{Tensor, activation};

use crate::kernels;

/// Least standard deviation of a latent.
pub(super) const LATENT_FLOOR: f64 = 1e-4;
/// Least standard deviation of a bin: a learned scale makes the likelihood unbounded otherwise.
pub(super) const BIN_FLOOR: f64 = 0.1;
/// The layers that end in a Gaussian start small, so that the first predictions are near the training mean.
pub(super) const HEAD_GAIN: f64 = 0.1;
/// Bound on the logarithm of a scale. In f32 the squares of `e^20` and `e^-20`, and what is divided by them, are finite.
const MOST_LOG: f64 = 20.0;

/// A normal distribution of independent values.
#[derive(Clone, Debug)]
pub struct Gaussian<const D: usize> {
    outputs: Outputs<D>,
    link: Link,
}

/// What says mean and standard deviation of each value.
#[derive(Clone, Debug)]
#[allow(clippy::large_enum_variant)] // a few in a step
enum Outputs<const D: usize> {
    /// Each in a tensor of its own.
    Apart { mean: Tensor<D>, spread: Tensor<D> },
    /// Beside each other, `[values, 2]`, of values in this shape.
    Pairs(Tensor<2>, [usize; D]),
}

/// How `spread` stands for the standard deviation.
#[derive(Clone, Copy, Debug)]
enum Link {
    /// It is it.
    Identity,
    /// `floor + softplus(spread)`
    Softplus { floor: f64 },
    /// `exp(spread)`
    Exp,
}

impl<const D: usize> Gaussian<D> {
    /// Of this mean and standard deviation, of the same shape.
    pub fn new(mean: Tensor<D>, scale: Tensor<D>) -> Self {
        Self { outputs: Outputs::Apart { mean, spread: scale }, link: Link::Identity }
    }

    /// From a network's two outputs: the standard deviation is `floor + softplus(raw)`, never below `floor`.
    pub fn from_raw(mean: Tensor<D>, raw: Tensor<D>, floor: f64) -> Self {
        Self { outputs: Outputs::Apart { mean, spread: raw }, link: Link::Softplus { floor } }
    }

    /// As [`from_raw`](Self::from_raw), of both outputs beside each other, `[values, 2]`, for values of this shape.
    pub fn from_raw_pairs(pairs: Tensor<2>, shape: [usize; D], floor: f64) -> Self {
        Self { outputs: Outputs::Pairs(pairs, shape), link: Link::Softplus { floor } }
    }

    /// From a network's two outputs: the standard deviation is `exp(raw)`, with `raw` held between -20 and 20, far beyond
    /// what training reaches, so that one wild step cannot make the loss infinite. Nothing else bounds it below.
    pub fn from_log(mean: Tensor<D>, raw: Tensor<D>) -> Self {
        Self { outputs: Outputs::Apart { mean, spread: raw }, link: Link::Exp }
    }

    /// The mean of each value.
    pub fn mean(&self) -> Tensor<D> {
        match &self.outputs {
            Outputs::Apart { mean, .. } => mean.clone(),
            Outputs::Pairs(pairs, shape) => pairs.clone().narrow(1, 0, 1).reshape(*shape),
        }
    }

    fn spread(&self) -> Tensor<D> {
        match &self.outputs {
            Outputs::Apart { spread, .. } => spread.clone(),
            Outputs::Pairs(pairs, shape) => pairs.clone().narrow(1, 1, 1).reshape(*shape),
        }
    }

    /// The standard deviation of each value.
    pub fn scale(&self) -> Tensor<D> {
        match self.link {
            Link::Identity => self.spread(),
            Link::Softplus { floor } => softplus(self.spread()).add_scalar(floor),
            Link::Exp => self.spread().clamp(-MOST_LOG, MOST_LOG).exp(),
        }
    }

    /// `mean + scale * noise`, differentiable in mean and scale (Kingma & Welling 2014, section 2.4). `noise` is standard normal.
    pub fn sample(&self, noise: Tensor<D>) -> Tensor<D> {
        match (self.link, &self.outputs) {
            (Link::Softplus { floor }, Outputs::Apart { mean, spread }) if kernels::on_gpu(&mean.device()) => {
                kernels::sample(mean.clone(), spread.clone(), noise, floor)
            }
            _ => self.mean() + self.scale() * noise,
        }
    }

    /// Negative log-density of all of `x` together, in nats, including the constant `ln(2 pi) / 2` of each value; `[1]`. On a GPU it is
    /// differentiable in mean and scale only.
    ///
    /// # Shapes
    /// `x` like the mean.
    pub fn negative_log_likelihood(&self, x: Tensor<D>) -> Tensor<1> {
        if let Link::Softplus { floor } = self.link
            && kernels::serve(&x.device())
        {
            return kernels::gaussian_nll(x, self.mean(), self.spread(), floor);
        }
        let half_ln_two_pi = 0.5 * (2.0 * std::f64::consts::PI).ln();
        if let Link::Softplus { floor } = self.link
            && kernels::on_gpu(&x.device())
        {
            let count = x.shape().num_elements() as f64;
            let outputs = match self.outputs.clone() {
                Outputs::Apart { mean, spread } => vec![mean.into_dispatch(), spread.into_dispatch()],
                Outputs::Pairs(pairs, _) => vec![pairs.into_dispatch()],
            };
            return kernels::nll(x, outputs, floor).add_scalar(count * half_ln_two_pi);
        }
        let scale = self.scale();
        let z = (x - self.mean()) / scale.clone();
        (z.square().mul_scalar(0.5) + scale.log().add_scalar(half_ln_two_pi)).sum()
    }

    /// Kullback-Leibler divergence from the standard normal for each value, in nats (Kingma & Welling 2014, appendix B).
    pub fn kl_from_standard(&self) -> Tensor<D> {
        let variance = self.scale().square();
        (self.mean().square() + variance.clone() - variance.log()).sub_scalar(1.0).mul_scalar(0.5)
    }

    /// The sum of [`kl_from_standard`](Self::kl_from_standard) over all values, `[1]`.
    pub fn total_kl_from_standard(&self) -> Tensor<1> {
        match (self.link, &self.outputs) {
            (Link::Softplus { floor }, Outputs::Apart { mean, spread }) if kernels::on_gpu(&mean.device()) => {
                kernels::divergence(mean.clone(), spread.clone(), floor)
            }
            _ => self.kl_from_standard().sum(),
        }
    }

    /// Log-density of each value of `z` minus its log-density under the standard normal, in nats. Same shape as `z`.
    ///
    /// For samples of this distribution its mean is [`kl_from_standard`](Self::kl_from_standard): the estimate of the
    /// divergence from single samples (Kingma & Welling 2014, section 2.3, estimator A).
    pub fn log_ratio_to_standard(&self, z: Tensor<D>) -> Tensor<D> {
        let scale = self.scale();
        let own = (z.clone() - self.mean()) / scale.clone();
        (z.square() - own.square()).mul_scalar(0.5) - scale.log()
    }
}

/// `ln(1 + e^x)` without overflow for large `x`.
pub(crate) fn softplus<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    activation::relu(x.clone()) + x.abs().neg().exp().log1p()
}

/// The `raw` at which [`Gaussian::from_raw`] with this floor gives scale 1.
pub(crate) fn raw_for_unit_scale(floor: f64) -> f64 {
    (1.0 - floor).exp_m1().ln()
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Device;

    fn row(values: [f32; 2]) -> Tensor<1> {
        Tensor::from_floats(values, &Device::flex())
    }

    #[test]
    fn density_and_divergence_match_their_closed_forms() {
        let gaussian = Gaussian::new(row([1.0, 0.0]), row([2.0, 1.0]));
        let nll = gaussian.negative_log_likelihood(row([3.0, 0.0])).into_scalar::<f32>();
        let constant = 0.918_938_5; // ln(2 pi) / 2
        assert!((nll - (0.5 + 2f32.ln() + 2.0 * constant)).abs() < 1e-6, "{nll:?}");
        let kl = gaussian.kl_from_standard().try_into_vec_as::<f32>().unwrap();
        assert!((kl[0] - 0.5 * (1.0 + 4.0 - 4f32.ln() - 1.0)).abs() < 1e-6 && kl[1].abs() < 1e-6, "{kl:?}");
    }

    #[test]
    fn an_exponential_scale_keeps_every_term_finite_for_extreme_raw_values() {
        let gaussian = Gaussian::from_log(row([1.0, -1.0]), row([-1e30, 1e30]));
        let x = row([-3.0, 3.0]);
        let terms = [
            gaussian.scale(),
            gaussian.negative_log_likelihood(x.clone()),
            gaussian.kl_from_standard(),
            gaussian.log_ratio_to_standard(x),
        ];
        for term in terms {
            let found = term.try_into_vec_as::<f32>().unwrap();
            assert!(found.iter().all(|value| value.is_finite()), "{found:?}");
        }
        let scale = Gaussian::from_log(row([0.0; 2]), row([0.0, -4.0])).scale().try_into_vec_as::<f32>().unwrap();
        assert!((scale[0] - 1.0).abs() < 1e-6 && (scale[1] - (-4f32).exp()).abs() < 1e-6, "{scale:?}");
    }

    #[test]
    fn the_log_ratio_is_the_difference_of_two_densities() {
        let gaussian = Gaussian::new(row([1.0, 0.0]), row([2.0, 1.0]));
        let standard = Gaussian::new(row([0.0; 2]), row([1.0; 2]));
        let z = row([0.3, -1.7]);
        let ratio = gaussian.log_ratio_to_standard(z.clone()).try_into_vec_as::<f32>().unwrap();
        let density = |of: &Gaussian<1>| of.negative_log_likelihood(z.clone()).into_scalar::<f32>();
        let wanted = density(&standard) - density(&gaussian);
        assert!((ratio.iter().sum::<f32>() - wanted).abs() < 1e-6, "{ratio:?} {wanted}");
    }

    #[test]
    fn a_scale_stays_finite_and_above_its_floor_for_extreme_raw_values() {
        let gaussian = Gaussian::from_raw(row([0.0, 0.0]), row([-200.0, 200.0]), 0.1);
        let scale = gaussian.scale().try_into_vec_as::<f32>().unwrap();
        assert!((scale[0] - 0.1).abs() < 1e-6 && (scale[1] - 200.1).abs() < 1e-3, "{scale:?}");
        let unit = Gaussian::from_raw(row([0.0; 2]), row([raw_for_unit_scale(0.1) as f32; 2]), 0.1).scale();
        assert!((unit.try_into_vec_as::<f32>().unwrap()[0] - 1.0).abs() < 1e-6);
    }
}
