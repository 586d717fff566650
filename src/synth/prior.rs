//! Codes drawn from the prior: each segment on its own, or a walk from each to the next.

use ndarray::{Array2, s};
use rand::Rng;
use rand_distr::StandardNormal;

use crate::{Error, Result};

/// How codes are drawn.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PriorConfig {
    /// Seconds after which the correlation of a latent with itself has fallen to 1/e. 0: segments are independent.
    pub smoothness: f64,
    /// Standard deviation of each latent; 1 is the prior's.
    pub temperature: f64,
}

impl Default for PriorConfig {
    /// The prior itself: independent standard normals.
    fn default() -> Self {
        Self { smoothness: 0.0, temperature: 1.0 }
    }
}

impl PriorConfig {
    /// Checks the numbers.
    ///
    /// # Errors
    /// [`Error::Config`] naming the flag and its range.
    pub fn validate(&self) -> Result<()> {
        for (flag, value, most) in
            [("--smoothness", self.smoothness, 3600.0), ("--temperature", self.temperature, 10.0)]
        {
            if !(0.0..=most).contains(&value) {
                return Err(Error::Config(format!("{flag} {value}: must be 0 to {most}")));
            }
        }
        Ok(())
    }

    /// A stationary walk of each latent: an Ornstein-Uhlenbeck process of variance `temperature`^2, looked at every `step`
    /// seconds.
    ///
    /// # Shapes
    /// `[segments, latents]`
    ///
    /// # Reference
    /// Gillespie, "Exact numerical simulation of the Ornstein-Uhlenbeck process and its integral", 1996, eq. 1.9a: exact
    /// for any step, not a discretisation.
    pub(super) fn draw(&self, segments: usize, latents: usize, step: f64, rng: impl Rng) -> Array2<f32> {
        let kept = if self.smoothness > 0.0 { (-step / self.smoothness).exp() } else { 0.0 };
        let fresh = (1.0 - kept * kept).sqrt();
        let noise = rng.sample_iter(StandardNormal).take(segments * latents).collect();
        let mut walk = Array2::<f32>::from_shape_vec((segments, latents), noise).expect("one value a latent");
        for segment in 1..segments {
            let (before, mut now) = walk.multi_slice_mut((s![segment - 1, ..], s![segment, ..]));
            now.zip_mut_with(&before, |now, &before| {
                *now = (kept * f64::from(before) + fresh * f64::from(*now)) as f32;
            });
        }
        walk * self.temperature as f32
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random;

    fn draw(config: PriorConfig, segments: usize, latents: usize) -> Array2<f32> {
        config.draw(segments, latents, 0.1, random::stream(7, "prior", 0))
    }

    /// Mean over latents and segments of the product of a latent with itself `lag` segments later.
    fn covariance(walk: &Array2<f32>, lag: usize) -> f64 {
        let (now, later) = (walk.slice(s![..walk.nrows() - lag, ..]), walk.slice(s![lag.., ..]));
        now.iter().zip(later).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum::<f64>() / now.len() as f64
    }

    #[test]
    fn a_walk_keeps_the_priors_variance_and_its_correlation_falls_by_e_in_the_time_asked_for() {
        // 512 000 values, correlated over 5 segments, are worth about 100 000 independent ones: 0.03 is seven deviations.
        let walk = draw(PriorConfig { smoothness: 0.5, temperature: 1.0 }, 16_000, 32);
        for lag in [0, 1, 5, 10] {
            let (found, wanted) = (covariance(&walk, lag), (-0.1 * lag as f64 / 0.5).exp());
            assert!((found - wanted).abs() < 0.03, "lag {lag}: {found}, not {wanted}");
        }
    }

    #[test]
    fn a_walk_is_stationary_from_its_first_segment_on() {
        let walk = draw(PriorConfig { smoothness: 2.0, temperature: 1.0 }, 20, 40_000);
        for row in walk.rows() {
            let variance = row.iter().map(|&x| f64::from(x) * f64::from(x)).sum::<f64>() / 40_000.0;
            assert!((variance - 1.0).abs() < 0.04, "a variance of {variance}"); // its deviation is 0.007
        }
    }

    #[test]
    fn without_smoothness_segments_are_independent_and_temperature_scales_them() {
        let prior = draw(PriorConfig::default(), 16_000, 32);
        assert!((covariance(&prior, 0) - 1.0).abs() < 0.02 && covariance(&prior, 1).abs() < 0.02);
        let warm = draw(PriorConfig { temperature: 1.5, ..PriorConfig::default() }, 16_000, 32);
        assert_eq!(warm, prior * 1.5);
        let cold = draw(PriorConfig { smoothness: 1.0, temperature: 0.0 }, 10, 3);
        assert!(cold.iter().all(|&value| value == 0.0));
    }

    #[test]
    fn a_seed_gives_the_same_walk_whatever_its_length() {
        let config = PriorConfig { smoothness: 0.3, temperature: 0.8 };
        assert_eq!(draw(config, 10, 4), draw(config, 50, 4).slice(s![..10, ..]));
    }
}
