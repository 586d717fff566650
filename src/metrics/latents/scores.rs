//! All scores of codes against factors: what each latent knows of each factor, and whether one knows it alone.
//!
//! # Reference
//! SAP: Kumar, Sattigeri and Balakrishnan, "Variational inference of disentangled latent concepts from unlabeled
//! observations", 2018, with the squared correlation as score, for continuous factors and, the mean being linear in them,
//! for those of two levels.

use ndarray::{Array2, ArrayView1, ArrayView2, Axis};
use rand::Rng;
use rayon::prelude::*;
use serde::Serialize;

use super::dci::{Dci, Regression, dci, regress};
use super::fixed::{Levels, beta_vae_score, factor_vae_score};
use super::information::{BINS, binned, entropy, gap, levels, mutual_information};
use crate::metrics::mean;
use crate::random;

/// Turns of a factor against the codes, for the null.
const TURNS: u64 = 20;
/// Variance of a latent's means below which they count as constant.
const CONSTANT: f64 = 1e-12;
/// The same of a factor's values, whatever their unit: relative to their squares, of which rounding leaves less.
const CONSTANT_FACTOR: f64 = 1e-24;

/// Values of named factors, a column each: NaN where a segment has it not.
#[derive(Clone, Debug)]
pub struct Factors {
    /// Names of the columns.
    pub names: Vec<String>,
    /// `[segments, factors]`
    pub values: Array2<f64>,
}

/// What is measured against factors. `None` is undefined: the factor is constant, too few segments have it, or no latent is
/// active.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FactorScores {
    /// Mutual information gap, mean over the factors.
    pub mig: Option<f64>,
    /// Gap in squared correlation, mean over the factors.
    pub sap: Option<f64>,
    /// Of the factors' regressions together.
    pub dci: Option<Dci>,
    /// Only where all factors have few levels, as on a grid.
    pub factor_vae: Option<f64>,
    /// As `factor_vae`.
    pub beta_vae: Option<f64>,
    /// One for each factor.
    pub factors: Vec<FactorScore>,
    /// Mutual information between the factors in nats; on the diagonal their entropy. `None` where no segment has both.
    pub between: Vec<Vec<Option<f64>>>,
}

impl FactorScores {
    /// What sums all factors up, by name.
    pub fn headline(&self) -> [(&'static str, Option<f64>); 7] {
        let dci = |of: fn(&Dci) -> f64| self.dci.as_ref().map(of);
        [
            ("MIG", self.mig),
            ("SAP", self.sap),
            ("DCI disentanglement", dci(|dci| dci.disentanglement)),
            ("DCI completeness", dci(|dci| dci.completeness)),
            ("DCI informativeness", dci(|dci| dci.informativeness)),
            ("FactorVAE score", self.factor_vae),
            ("beta-VAE score", self.beta_vae),
        ]
    }
}

/// One factor against all latents.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FactorScore {
    /// The column's name.
    pub name: String,
    /// Segments that have it.
    pub segments: usize,
    /// Entropy of its bins in nats.
    pub entropy: f64,
    /// Gap between the two most informative latents, as a share of the entropy.
    pub mig: Option<f64>,
    /// Gap between the two greatest squared correlations.
    pub sap: Option<f64>,
    /// The factor predicted from all latents.
    pub regression: Option<Regression>,
    /// With each latent, in nats.
    pub information: Vec<f64>,
    /// With each latent: the share of its variance that the latent explains along a line.
    pub squared_correlation: Vec<f64>,
    /// What the best latent reaches in 19 of 20 cases if the factor has nothing to do with the codes: it is turned against them
    /// by a random number of segments, which leaves its own course as it is.
    pub null_information: Option<f64>,
    /// The same of the squared correlation.
    pub null_squared_correlation: Option<f64>,
}

impl FactorScore {
    /// Why its gaps are undefined, if they are.
    pub fn why_undefined(&self) -> Option<String> {
        match self.mig {
            Some(_) => None,
            None if self.segments < BINS => Some(format!("fewer than {BINS} segments have it")),
            None if self.entropy <= 0.0 => Some("constant".into()),
            None if self.information.len() < 2 => Some("one latent alone has no gap".into()),
            None => Some("no latent is active".into()),
        }
    }
}

/// Measures codes against factors. `folds` are the parts that regressions are learned from and tested on ([`regress`]);
/// `active` is how many latents say anything.
///
/// # Shapes
/// `codes` `[n, latents]`, `folds` `[n]`
///
/// # Panics
/// If there are not as many rows of each.
pub fn score(codes: ArrayView2<f64>, folds: &[usize], factors: &Factors, active: usize, seed: u64) -> FactorScores {
    let columns = factors.values.axis_iter(Axis(1)).enumerate().collect::<Vec<_>>();
    let each: Vec<FactorScore> = columns
        .par_iter()
        .map(|&(index, values)| one(codes, folds, &factors.names[index], values, active, seed))
        .collect();
    let regressions: Vec<&Regression> = each.iter().filter_map(|factor| factor.regression.as_ref()).collect();
    let varying: Vec<usize> = (0..each.len()).filter(|&factor| each[factor].entropy > 0.0).collect();
    let grid = factors.values.select(Axis(1), &varying);
    let levels = Levels::of(grid.t(), BINS).filter(|_| active > 0);
    let between = columns.iter().map(|(_, a)| columns.iter().map(|(_, b)| information_between(*a, *b)).collect());
    FactorScores {
        mig: mean(each.iter().filter_map(|factor| factor.mig)),
        sap: mean(each.iter().filter_map(|factor| factor.sap)),
        dci: dci(&regressions),
        factor_vae: levels
            .as_ref()
            .and_then(|levels| factor_vae_score(codes, levels, &mut random::stream(seed, "FactorVAE score", 0))),
        beta_vae: levels
            .as_ref()
            .map(|levels| beta_vae_score(codes, levels, &mut random::stream(seed, "beta-VAE score", 0))),
        between: between.collect(),
        factors: each,
    }
}

fn one(
    codes: ArrayView2<f64>,
    folds: &[usize],
    name: &str,
    values: ArrayView1<f64>,
    active: usize,
    seed: u64,
) -> FactorScore {
    let rows: Vec<usize> = (0..values.len()).filter(|&row| !values[row].is_nan()).collect();
    let (codes, values) = (codes.select(Axis(0), &rows), values.select(Axis(0), &rows));
    let folds: Vec<usize> = rows.iter().map(|&row| folds[row]).collect();
    let latents: Vec<Vec<usize>> = codes.columns().into_iter().map(binned).collect();
    let bins = binned(values.view());
    let told = |bins: &[usize]| latents.iter().map(|latent| mutual_information(latent, bins)).collect::<Vec<_>>();
    let along = |values: ArrayView1<f64>| {
        codes.columns().into_iter().map(|latent| squared_correlation(latent, values)).collect::<Vec<_>>()
    };
    let (information, squared) = (told(&bins), along(values.view()));
    let entropy = entropy(&bins);
    let defined = active > 0 && values.len() >= BINS && levels(values.view()).len() > 1;
    let mut null: Vec<(f64, f64)> = Vec::new();
    for turn in if defined { 0..TURNS } else { 0..0 } {
        let by = random::stream(seed, &format!("null of {name}"), turn).random_range(1..values.len());
        let turned: Vec<usize> = (0..bins.len()).map(|row| (row + by) % bins.len()).collect();
        let moved: Vec<usize> = turned.iter().map(|&row| bins[row]).collect();
        let most = |values: Vec<f64>| values.into_iter().fold(0.0, f64::max);
        null.push((most(told(&moved)), most(along(values.select(Axis(0), &turned).view()))));
    }
    let reached = |mut of: Vec<f64>| {
        of.sort_by(f64::total_cmp);
        of.len().checked_sub(2).map(|place| of[place])
    };
    let (null_information, null_squared) = null.into_iter().unzip();
    FactorScore {
        name: name.to_string(),
        segments: rows.len(),
        entropy,
        mig: gap(information.iter().copied()).filter(|_| defined).map(|gap| gap / entropy),
        sap: gap(squared.iter().copied()).filter(|_| defined),
        regression: if defined { regress(codes.view(), values.view(), &folds) } else { None },
        information,
        squared_correlation: squared,
        null_information: reached(null_information),
        null_squared_correlation: reached(null_squared),
    }
}

/// Squared Pearson correlation of a latent and a factor; 0 if either is constant.
pub fn squared_correlation(latent: ArrayView1<f64>, factor: ArrayView1<f64>) -> f64 {
    let constant = factor.dot(&factor) * CONSTANT_FACTOR;
    let centred = |values: ArrayView1<f64>| &values - values.mean().unwrap_or(0.0);
    let (latent, factor) = (centred(latent), centred(factor));
    let (own, others) = (latent.dot(&latent), factor.dot(&factor));
    if own <= CONSTANT * latent.len() as f64 || others <= constant {
        return 0.0;
    }
    (latent.dot(&factor).powi(2) / (own * others)).min(1.0)
}

/// Over the segments that have both.
fn information_between(one: ArrayView1<f64>, other: ArrayView1<f64>) -> Option<f64> {
    let rows: Vec<usize> = (0..one.len()).filter(|&row| !(one[row] + other[row]).is_nan()).collect();
    let bins = |values: ArrayView1<f64>| binned(values.select(Axis(0), &rows).view());
    (!rows.is_empty()).then(|| mutual_information(&bins(one), &bins(other)))
}
