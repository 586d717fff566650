//! The curves in a run's `metrics.jsonl`.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;

/// Step and value.
pub(super) type Point = (f64, f64);

/// A run's scalars by tag.
#[derive(Default)]
pub(super) struct Curves {
    /// Means of training batches.
    pub train: BTreeMap<String, Vec<Point>>,
    /// Of the whole test set.
    pub test: BTreeMap<String, Vec<Point>>,
}

/// Beyond this no plot has a scale, and no loss means anything.
const LARGEST: f64 = 1e30;

impl Curves {
    /// What is in the file; a line that is cut or is something else is passed over, and a file that is not there has none.
    pub(super) fn read(path: &Path) -> Self {
        std::fs::read(path).map(|bytes| Self::parse(&bytes)).unwrap_or_default()
    }

    fn parse(bytes: &[u8]) -> Self {
        let mut curves = Self::default();
        for line in bytes.split(|&byte| byte == b'\n') {
            let Ok(Value::Object(line)) = serde_json::from_slice(line) else { continue };
            let Some(step) = line.get("step").and_then(Value::as_u64) else { continue };
            let phase = match line.get("phase").and_then(Value::as_str) {
                Some("train") => &mut curves.train,
                Some("test") => &mut curves.test,
                _ => continue,
            };
            for (tag, value) in line.iter().filter(|(tag, _)| tag.contains('/')) {
                if let Some(value) = value.as_f64().filter(|value| value.abs() < LARGEST) {
                    phase.entry(tag.clone()).or_default().push((step as f64, value));
                }
            }
        }
        curves
    }

    /// The names of the loss terms, `total` first.
    pub(super) fn losses(&self) -> Vec<String> {
        let tags = self.train.keys().chain(self.test.keys()).filter_map(|tag| tag.strip_prefix("loss/"));
        let mut names: Vec<String> = tags.map(str::to_string).collect();
        let order = ["total", "reconstruction", "kl"];
        let rank = |name: &String| order.iter().position(|known| known == name).unwrap_or(order.len());
        names.sort_by(|one, other| (rank(one), one).cmp(&(rank(other), other)));
        names.dedup();
        names
    }

    /// The value of a test curve at a step.
    pub(super) fn at(&self, tag: &str, step: u64) -> Option<f64> {
        self.test.get(tag)?.iter().rev().find(|point| point.0 == step as f64).map(|&(_, value)| value)
    }

    /// The divergence of each latent at the evaluation of a step, in nats, the greatest first.
    pub(super) fn divergences(&self, step: u64) -> Vec<(usize, f64)> {
        let latent = |tag: &String| Some((tag.strip_prefix("kl/latent-")?.parse().ok()?, self.at(tag, step)?));
        let mut found: Vec<(usize, f64)> = self.test.keys().filter_map(latent).collect();
        found.sort_by(|one, other| other.1.total_cmp(&one.1));
        found
    }

    /// Seconds that the steps took, without what came between sessions.
    pub(super) fn seconds(&self) -> f64 {
        let mut before = 0.0;
        let rates = self.train.get("optimizer/steps_per_second").into_iter().flatten();
        let seconds = rates.filter(|(_, rate)| *rate > 0.0).map(|&(step, rate)| {
            let taken = step - before;
            before = step;
            taken.max(0.0) / rate
        });
        seconds.sum()
    }
}

/// At most `count` points: means of neighbours, so that a curve keeps its course and not its noise.
pub(super) fn thinned(points: &[Point], count: usize) -> Vec<Point> {
    let mean = |chunk: &[Point]| {
        let sum = chunk.iter().fold((0.0, 0.0), |sum, point| (sum.0 + point.0, sum.1 + point.1));
        (sum.0 / chunk.len() as f64, sum.1 / chunk.len() as f64)
    };
    points.chunks(points.len().div_ceil(count).max(1)).map(mean).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_that_are_cut_or_foreign_are_passed_over() {
        let text = "{\"step\":5,\"phase\":\"train\",\"wall_time\":1.0,\"loss/total\":2.5,\"optimizer/steps_per_second\":2.0}\n\
                    nonsense\n[1]\n{\"phase\":\"train\",\"loss/total\":1}\n{\"step\":-1,\"phase\":\"train\",\"loss/total\":1}\n\
                    {\"step\":7,\"phase\":\"other\",\"loss/total\":1}\n{\"step\":9,\"phase\":\"test\",\"loss/total\":\"x\",\"loss/l1\":1e300}\n\
                    {\"step\":10,\"phase\":\"test\",\"loss/total\":3,\"loss/kl\":4}\n{\"step\":11,\"phase\":\"test\",\"loss/to";
        let curves = Curves::parse(text.as_bytes());
        assert_eq!(curves.train["loss/total"], [(5.0, 2.5)]);
        assert_eq!(curves.test["loss/total"], [(10.0, 3.0)]);
        assert_eq!(curves.losses(), ["total", "kl"]);
        assert_eq!((curves.at("loss/kl", 10), curves.at("loss/kl", 11)), (Some(4.0), None));
        assert_eq!(curves.seconds(), 2.5);
        assert!(!curves.test.contains_key("loss/l1"));
    }

    #[test]
    fn latents_come_in_the_order_of_their_divergence_at_a_step() {
        let text = "{\"step\":1,\"phase\":\"test\",\"kl/latent-00\":0.5,\"kl/latent-01\":2.0,\"kl/latent-10\":1.0}\n\
                    {\"step\":2,\"phase\":\"test\",\"kl/latent-00\":3.5,\"kl/latent-01\":2.5,\"kl/latent-10\":1.5}";
        let curves = Curves::parse(text.as_bytes());
        assert_eq!(curves.divergences(1), [(1, 2.0), (10, 1.0), (0, 0.5)]);
        assert_eq!(curves.divergences(2), [(0, 3.5), (1, 2.5), (10, 1.5)]);
        assert!(curves.divergences(3).is_empty());
    }

    #[test]
    fn a_thinned_curve_keeps_its_mean() {
        let points: Vec<Point> = (0..1000).map(|step| (step as f64, (step % 2) as f64)).collect();
        let thin = thinned(&points, 100);
        assert_eq!(thin.len(), 100);
        assert!(thin.iter().all(|&(_, value)| value == 0.5));
        assert_eq!(thinned(&points[..7], 100), points[..7]);
        assert!(thinned(&[], 100).is_empty());
    }
}
