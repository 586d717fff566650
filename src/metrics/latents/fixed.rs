//! Scores from groups of segments that share one factor: FactorVAE's and beta-VAE's.
//!
//! Both were defined on data of which any combination of factors can be asked for; here groups are drawn from the segments
//! that are there, all with the factor at one level, the others as they come.
//!
//! # References
//! Kim and Mnih, "Disentangling by factorising", 2018, section 4. Higgins et al., "beta-VAE: learning basic visual concepts
//! with a constrained variational framework", 2017, section 3.

use ndarray::{Array1, Array2, ArrayView2, Axis};
use rand::Rng;
use rand_chacha::ChaCha8Rng;

use super::information::levels;
use super::lasso::moments;

/// Segments in a group.
const GROUP: usize = 64;
/// Groups that the classifiers learn from, and that they are tested on.
const GROUPS: [usize; 2] = [2000, 1000];
/// Segments at each level, on average, below which the levels are no grid but single recordings.
const EACH: usize = 10;
/// A latent whose means vary less, as a variance, says nothing (disentanglement_lib's threshold).
const VARIES: f64 = 0.05;
/// Steps of gradient descent, with momentum; the classes part long before.
const STEPS: usize = 400;

/// For each factor the rows at each of its levels that has at least two.
pub struct Levels(Vec<Vec<Vec<usize>>>);

impl Levels {
    /// `factors` has a row a factor, NaN where a segment has it not. `None` if a factor has more than `most` levels, or hardly
    /// a segment at each: no grid.
    ///
    /// # Shapes
    /// `[factors, n]`
    pub fn of(factors: ArrayView2<f64>, most: usize) -> Option<Self> {
        let of_each = |values: ndarray::ArrayView1<f64>| {
            let there: Array1<f64> = values.iter().copied().filter(|value| !value.is_nan()).collect();
            let levels = levels(there.view());
            if levels.len() > most || there.len() < EACH * levels.len() {
                return None;
            }
            let rows = |level: &f64| (0..values.len()).filter(|&row| values[row] == *level).collect::<Vec<_>>();
            let groups: Vec<_> = levels.iter().map(rows).filter(|rows| rows.len() > 1).collect();
            (groups.len() > 1).then_some(groups)
        };
        let factors: Option<Vec<_>> = factors.outer_iter().map(of_each).collect();
        factors.filter(|factors| factors.len() > 1).map(Self)
    }

    /// A factor and the rows of one of its levels.
    fn draw(&self, rng: &mut ChaCha8Rng) -> (usize, &[usize]) {
        let factor = rng.random_range(0..self.0.len());
        (factor, &self.0[factor][rng.random_range(0..self.0[factor].len())])
    }
}

/// How often the latent that varies least in a group tells which factor it shares, latents in units of their own deviation:
/// the accuracy of the majority vote on new groups. `None` if no latent varies.
pub fn factor_vae_score(codes: ArrayView2<f64>, levels: &Levels, rng: &mut ChaCha8Rng) -> Option<f64> {
    let variances = codes.var_axis(Axis(0), 0.0);
    let varying: Vec<usize> = (0..codes.ncols()).filter(|&latent| variances[latent] >= VARIES).collect();
    if varying.is_empty() {
        return None;
    }
    let mut vote = || {
        let (factor, rows) = levels.draw(rng);
        let group: Vec<usize> = (0..GROUP).map(|_| rows[rng.random_range(0..rows.len())]).collect();
        let spread = |latent: usize| codes.column(latent).select(Axis(0), &group).var(0.0) / variances[latent];
        let best = varying.iter().map(|&latent| (latent, spread(latent)));
        let (latent, _) = best.reduce(|best, this| if this.1 < best.1 { this } else { best }).expect("some vary");
        (latent, factor)
    };
    let mut votes = Array2::<usize>::zeros((codes.ncols(), levels.0.len()));
    (0..GROUPS[0]).for_each(|_| votes[vote()] += 1);
    let majority =
        |latent: usize| votes.row(latent).iter().enumerate().max_by_key(|&(_, &count)| count).map(|(f, _)| f);
    let right = (0..GROUPS[1]).map(|_| vote()).filter(|&(latent, factor)| majority(latent) == Some(factor)).count();
    Some(right as f64 / GROUPS[1] as f64)
}

/// How often a linear classifier tells from the mean distance of pairs in each latent which factor the pairs share.
pub fn beta_vae_score(codes: ArrayView2<f64>, levels: &Levels, rng: &mut ChaCha8Rng) -> f64 {
    let mut point = || {
        let (factor, rows) = levels.draw(rng);
        let mut distance = Array1::<f64>::zeros(codes.ncols());
        for _ in 0..GROUP {
            let [one, other] = [0, 1].map(|_| rows[rng.random_range(0..rows.len())]);
            distance += &(&codes.row(one) - &codes.row(other)).abs();
        }
        (distance / GROUP as f64, factor)
    };
    let mut points = |count: usize| -> (Array2<f64>, Vec<usize>) {
        let (rows, classes): (Vec<Array1<f64>>, Vec<usize>) = (0..count).map(|_| point()).unzip();
        (Array2::from_shape_fn((count, codes.ncols()), |(i, j)| rows[i][j]), classes)
    };
    let ((x, classes), (unseen, wanted)) = (points(GROUPS[0]), points(GROUPS[1]));
    let (mean, deviation) = moments(x.view());
    let weights = softmax_regression(&((x - &mean) / &deviation), &classes, levels.0.len());
    let scores = with_one(&((unseen - &mean) / &deviation)).dot(&weights);
    let guess = |row: ndarray::ArrayView1<f64>| {
        row.iter().enumerate().max_by(|(_, one), (_, other)| one.total_cmp(other)).map(|(class, _)| class)
    };
    let right = scores.outer_iter().zip(&wanted).filter(|(row, class)| guess(*row) == Some(**class)).count();
    right as f64 / wanted.len() as f64
}

/// Multinomial logistic regression with the penalty `|w|² / 2` (scikit-learn's `C = 1`): `[columns + 1, classes]`, the last
/// row the offsets, which are not penalised.
fn softmax_regression(x: &Array2<f64>, classes: &[usize], count: usize) -> Array2<f64> {
    let x = with_one(x);
    let columns = x.ncols();
    // The curvature is at most half that of the squares along their longest direction (Böhning 1992), and the penalty's.
    let step = 1.0 / (0.55 * longest(&x.t().dot(&x)) + 1.0);
    let (mut weights, mut ahead) = (Array2::<f64>::zeros((columns, count)), Array2::<f64>::zeros((columns, count)));
    for iteration in 0..STEPS {
        let mut error = x.dot(&ahead); // [n, classes]
        for (mut row, &class) in error.outer_iter_mut().zip(classes) {
            let most = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            row.mapv_inplace(|score| (score - most).exp());
            let sum = row.sum();
            row /= sum;
            row[class] -= 1.0;
        }
        let mut gradient = x.t().dot(&error);
        let mut penalised = gradient.slice_mut(ndarray::s![..columns - 1, ..]);
        penalised += &ahead.slice(ndarray::s![..columns - 1, ..]);
        let next = &ahead - &(gradient * step);
        let momentum = iteration as f64 / (iteration as f64 + 3.0);
        ahead = &next + &((&next - &weights) * momentum);
        weights = next;
    }
    weights
}

/// The greatest eigenvalue of a symmetric matrix without negative ones, from below, by power iteration.
fn longest(matrix: &Array2<f64>) -> f64 {
    let mut direction = Array1::<f64>::ones(matrix.nrows());
    let mut length = 0.0;
    for _ in 0..50 {
        let next = matrix.dot(&direction);
        length = next.dot(&next).sqrt();
        direction = next / length.max(f64::MIN_POSITIVE);
    }
    length
}

fn with_one(x: &Array2<f64>) -> Array2<f64> {
    let ones = Array2::<f64>::ones((x.nrows(), 1));
    ndarray::concatenate(Axis(1), &[x.view(), ones.view()]).expect("as many rows")
}
