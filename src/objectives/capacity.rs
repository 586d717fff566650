//! Controlled capacity.

use serde::{Deserialize, Serialize};

/// `beta |KL(q(z|x) || p(z)) - C|`, where `C` grows along a line from 0 to `most` nats per segment in `steps` steps: the codes are
/// given room little by little, and what helps the reconstruction most comes first.
///
/// The divergence is the batch's mean. `beta` is the paper's `gamma`, 1000 there.
///
/// # Reference
/// Burgess et al. 2018, "Understanding disentangling in beta-VAE", eq. 8: `E[log p(x|z)] - gamma |KL(q(z|x) || p(z)) - C|`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Capacity {
    /// The last value of `C`, in nats; the paper's is 25.
    pub most: f64,
    /// Steps until then; the paper's are 100 000.
    pub steps: u64,
}

impl Capacity {
    /// `C` at step `step`, counted from 0.
    pub fn at(&self, step: u64) -> f64 {
        if step < self.steps { self.most * step as f64 / self.steps as f64 } else { self.most }
    }
}
