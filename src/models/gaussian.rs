//! Diagonal Gaussians.

use burn::tensor::{Tensor, activation};

/// A normal distribution of independent values, described by mean and standard deviation of the same shape.
#[derive(Clone, Debug)]
pub struct Gaussian<const D: usize> {
    pub mean: Tensor<D>,
    pub scale: Tensor<D>,
}

impl<const D: usize> Gaussian<D> {
    /// From a network's two outputs: `scale = floor + softplus(raw)`, never below `floor`.
    pub fn from_raw(mean: Tensor<D>, raw: Tensor<D>, floor: f64) -> Self {
        Self { mean, scale: softplus(raw).add_scalar(floor) }
    }

    /// `mean + scale * noise`, differentiable in both (Kingma & Welling 2014, section 2.4). `noise` is standard normal.
    pub fn sample(&self, noise: Tensor<D>) -> Tensor<D> {
        self.mean.clone() + self.scale.clone() * noise
    }

    /// Negative log-density of each value of `x`, in nats, including the constant `ln(2 pi) / 2`. Same shape as `x`.
    pub fn negative_log_density(&self, x: Tensor<D>) -> Tensor<D> {
        let z = (x - self.mean.clone()) / self.scale.clone();
        let half_ln_two_pi = 0.5 * (2.0 * std::f64::consts::PI).ln();
        z.square().mul_scalar(0.5) + self.scale.clone().log().add_scalar(half_ln_two_pi)
    }

    /// Kullback-Leibler divergence from the standard normal for each value, in nats (Kingma & Welling 2014, appendix B).
    pub fn kl_from_standard(&self) -> Tensor<D> {
        let variance = self.scale.clone().square();
        (self.mean.clone().square() + variance.clone() - variance.log()).sub_scalar(1.0).mul_scalar(0.5)
    }
}

/// `ln(1 + e^x)` without overflow for large `x`.
fn softplus<const D: usize>(x: Tensor<D>) -> Tensor<D> {
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
        let gaussian = Gaussian { mean: row([1.0, 0.0]), scale: row([2.0, 1.0]) };
        let nll = gaussian.negative_log_density(row([3.0, 0.0])).try_into_vec_as::<f32>().unwrap();
        let constant = 0.918_938_5; // ln(2 pi) / 2
        assert!((nll[0] - (0.5 + 2f32.ln() + constant)).abs() < 1e-6 && (nll[1] - constant).abs() < 1e-6, "{nll:?}");
        let kl = gaussian.kl_from_standard().try_into_vec_as::<f32>().unwrap();
        assert!((kl[0] - 0.5 * (1.0 + 4.0 - 4f32.ln() - 1.0)).abs() < 1e-6 && kl[1].abs() < 1e-6, "{kl:?}");
    }

    #[test]
    fn a_scale_stays_finite_and_above_its_floor_for_extreme_raw_values() {
        let gaussian = Gaussian::from_raw(row([0.0, 0.0]), row([-200.0, 200.0]), 0.1);
        let scale = gaussian.scale.try_into_vec_as::<f32>().unwrap();
        assert!((scale[0] - 0.1).abs() < 1e-6 && (scale[1] - 200.1).abs() < 1e-3, "{scale:?}");
        let unit = Gaussian::from_raw(row([0.0; 2]), row([raw_for_unit_scale(0.1) as f32; 2]), 0.1).scale;
        assert!((unit.try_into_vec_as::<f32>().unwrap()[0] - 1.0).abs() < 1e-6);
    }
}
