//! Means of the reported terms between two reports.

use std::collections::BTreeMap;
use std::time::Instant;

use burn::tensor::Tensor;

use super::task::Term;
use crate::kernels;
use crate::run::values;

/// Reported beside the task's own terms.
pub(super) const GRADIENT_NORM: &str = "gradient_norm";

/// What a step gives to be shown: values and their names, on the device.
#[derive(Clone)]
pub struct Shown {
    names: Vec<&'static str>,
    /// `[names]`
    values: Tensor<1>,
}

impl Shown {
    /// The task's terms, and the norm of all gradients before clipping.
    pub(super) fn of(terms: Vec<Term>, norm: Tensor<1>) -> Self {
        let (names, values): (Vec<_>, Vec<Tensor<1>>) = terms.into_iter().chain([(GRADIENT_NORM, norm)]).unzip();
        let values = match kernels::on_gpu(&values[0].device()) {
            true => kernels::beside(values.into_iter().map(|value| value.reshape([1, 1])).collect()).reshape([-1]),
            false => Tensor::cat(values, 0),
        };
        Self { names, values }
    }

    /// The values by name, read back from the device.
    pub fn read(&self) -> Vec<(&'static str, f64)> {
        let values = values(self.values.clone()).into_iter().map(f64::from);
        self.names.iter().copied().zip(values).collect()
    }
}

/// Sums of what is shown since the last report, on the device: nothing is read back in between.
pub(super) struct Means {
    sums: Option<Shown>,
    count: u32,
    since: Instant,
    timed: u32,
}

impl Means {
    pub(super) fn new() -> Self {
        Self { sums: None, count: 0, since: Instant::now(), timed: 0 }
    }

    pub(super) fn add(&mut self, shown: Shown) {
        self.sums = Some(match self.sums.take() {
            Some(Shown { names, values }) => Shown { names, values: values + shown.values },
            // A sum of its own: a captured step will write its next values where these are.
            None => Shown { values: shown.values.clone() + shown.values.zeros_like(), ..shown },
        });
        self.count += 1;
        self.timed += 1;
    }

    /// The means and the steps per second since the last call, or the name and value of a mean that is not finite. Without a
    /// step to count there are no means.
    pub(super) fn take(&mut self) -> Result<(BTreeMap<String, f64>, f64), String> {
        let count = f64::from(self.count);
        let mut means = BTreeMap::new();
        for (name, sum) in self.sums.take().iter().flat_map(Shown::read) {
            let mean = sum / count;
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
