//! Means of the reported terms between two reports.

use std::collections::BTreeMap;
use std::time::Instant;

use burn::tensor::Tensor;

use super::task::Term;

/// Reported beside the task's own terms.
pub(super) const GRADIENT_NORM: &str = "gradient_norm";

/// Sums of the reported terms since the last report, on the device: nothing is read back in between.
pub(super) struct Means {
    names: Vec<&'static str>,
    sums: Vec<Tensor<1>>,
    count: u32,
    since: Instant,
    timed: u32,
}

impl Means {
    pub(super) fn new() -> Self {
        Self { names: Vec::new(), sums: Vec::new(), count: 0, since: Instant::now(), timed: 0 }
    }

    pub(super) fn add(&mut self, terms: Vec<Term>, norm: Tensor<1>) {
        let terms = terms.into_iter().chain([(GRADIENT_NORM, norm)]);
        if self.count == 0 {
            (self.names, self.sums) = terms.unzip();
        } else {
            let sums = std::mem::take(&mut self.sums).into_iter().zip(terms);
            self.sums = sums.map(|(sum, (_, term))| sum + term).collect();
        }
        self.count += 1;
        self.timed += 1;
    }

    /// The means and the steps per second since the last call, or the name and value of a mean that is not finite. Without a
    /// step to count there are no means.
    pub(super) fn take(&mut self) -> Result<(BTreeMap<String, f64>, f64), String> {
        let count = f64::from(self.count);
        let mut means = BTreeMap::new();
        for (name, sum) in self.names.drain(..).zip(self.sums.drain(..)) {
            let mean = f64::from(sum.into_scalar::<f32>()) / count;
            if !mean.is_finite() {
                return Err(format!("{name} is {mean}"));
            }
            means.insert(name.to_string(), mean);
        }
        let rate = f64::from(self.timed) / self.since.elapsed().as_secs_f64();
        self.count = 0;
        self.restart_clock();
        Ok((means, rate))
    }

    /// Time spent evaluating and saving is not the steps' time.
    pub(super) fn restart_clock(&mut self) {
        (self.since, self.timed) = (Instant::now(), 0);
    }
}
