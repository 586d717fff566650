//! Convolution along rows in fewer products than pairs of a row and a tap: Winograd's minimal filtering.
//!
//! `m` rows that each take `r` taps need `m r` products of a row and a tap, but only `m + r - 1` products of sums of rows and sums
//! of taps: the values of two polynomials at as many points. The way back is the same sums the other way round.

use std::collections::BTreeMap;

/// Where the polynomials are evaluated, beside infinity. More points would lose digits.
const POINTS: [f64; 5] = [0.0, 1.0, -1.0, 2.0, -2.0];

/// Indices and what their rows, taps or products are multiplied with before they are added.
pub(super) type Sum = Vec<(usize, f32)>;

/// Neighbouring coarse rows, which take their parts of the same points.
#[derive(Clone, Debug)]
pub(super) struct Tile {
    pub points: Vec<Point>,
}

impl Tile {
    /// The row of a tile that has no more than one, by plain products of a row and a tap.
    pub fn direct(&self) -> Option<usize> {
        match &self.points[..] {
            [point] => Some(point.coarse[0].0),
            _ => None,
        }
    }

    /// The coarse rows, each with its sum of points.
    pub fn coarse(&self) -> BTreeMap<usize, Sum> {
        turned(self.points.iter().map(|point| &point.coarse))
    }

    /// The fine rows, each with its sum of products, which are counted through all points.
    pub fn fine(&self) -> BTreeMap<usize, Sum> {
        turned(self.points.iter().flat_map(|point| &point.terms).map(|term| &term.fine))
    }
}

/// Who takes which of these sums.
fn turned<'a>(sums: impl Iterator<Item = &'a Sum>) -> BTreeMap<usize, Sum> {
    let mut turned = BTreeMap::<_, Sum>::new();
    for (index, sum) in sums.enumerate() {
        sum.iter().for_each(|&(row, factor)| turned.entry(row).or_default().push((index, factor)));
    }
    turned
}

/// Products that are added to one another, and the coarse rows which take part of their sum.
#[derive(Clone, Debug)]
pub(super) struct Point {
    pub coarse: Sum,
    pub terms: Vec<Term>,
}

/// A product of a sum of fine rows with a sum of taps, an index of [`Plan::weights`].
#[derive(Clone, Debug)]
pub(super) struct Term {
    pub fine: Sum,
    pub weight: usize,
}

/// The products of a convolution along rows with a padding of one: `coarse[i]` is the sum over `t` of `fine[i * stride + t - 1] * tap[t]`.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub tiles: Vec<Tile>,
    /// The sums of taps that products take.
    pub weights: Vec<Sum>,
}

impl Plan {
    /// One product for each pair of a row and a tap, padding left out, or with `fast` fewer, of sums, where there are fewer.
    pub fn new(coarse_rows: usize, stride: usize, taps: usize, fast: bool) -> Self {
        let fine_rows = coarse_rows * stride;
        let window = |row: usize| {
            (0..taps).filter_map(move |tap| {
                let fine = (row * stride + tap).checked_sub(1)?;
                (fine < fine_rows).then_some((tap, fine))
            })
        };
        let mut plan = Self { tiles: Vec::new(), weights: Vec::new() };
        let reach = taps / stride; // taps of one phase of the fine rows
        let most = POINTS.len() + 2 - reach;
        let mut first = 0;
        while first < coarse_rows {
            let rows = (coarse_rows - first).min(most);
            let direct: usize = (first..first + rows).map(|row| window(row).count()).sum();
            if fast && rows > 1 && (rows + reach - 1) * stride < direct {
                let tile = plan.tile(first, rows, stride, reach, fine_rows);
                plan.tiles.push(tile);
                first += rows;
            } else {
                let terms = window(first)
                    .map(|(tap, fine)| Term { fine: vec![(fine, 1.0)], weight: plan.weight(vec![(tap, 1.0)]) })
                    .collect();
                plan.tiles.push(Tile { points: vec![Point { coarse: vec![(first, 1.0)], terms }] });
                first += 1;
            }
        }
        plan
    }

    /// `rows` coarse rows from `first` by one product a point and phase.
    ///
    /// # Reference
    /// Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", 2016; the matrices by interpolation (Toom and Cook).
    fn tile(&mut self, first: usize, rows: usize, stride: usize, reach: usize, fine_rows: usize) -> Tile {
        let count = rows + reach - 1;
        let finite = &POINTS[..count - 1];
        let points = (0..count).map(|k| {
            let point = finite.get(k).copied(); // none: infinity
            let others = || finite.iter().enumerate().filter(|&(j, _)| j != k).map(|(_, other)| *other);
            let scale = point.map_or(1.0, |point| others().map(|other| point - other).product());
            let power = |exponent: usize, last: usize| match point {
                Some(point) => point.powi(exponent as i32),
                None => f64::from(exponent == last),
            };
            // The product of `x - other` over all other points, lowest power first.
            let polynomial = others().fold(vec![1.0], |product: Vec<f64>, other| {
                let shifted = std::iter::once(0.0).chain(product.iter().copied());
                let scaled = product.iter().map(|value| -other * value).chain([0.0]);
                shifted.zip(scaled).map(|(shifted, scaled)| shifted + scaled).collect()
            });
            let terms = (0..stride).map(|phase| {
                let row = |j: usize| ((first + j) * stride + phase).checked_sub(1).filter(|row| *row < fine_rows);
                let fine = polynomial.iter().enumerate().filter_map(|(j, value)| Some((row(j)?, *value as f32)));
                let taps = (0..reach).map(|t| (t * stride + phase, (power(t, reach - 1) / scale) as f32));
                Term { fine: nonzero(fine), weight: self.weight(nonzero(taps)) }
            });
            let terms: Vec<Term> = terms.filter(|term| !term.fine.is_empty()).collect();
            let coarse = nonzero((0..rows).map(|i| (first + i, power(i, rows - 1) as f32)));
            Point { coarse, terms }
        });
        Tile { points: points.collect() }
    }

    fn weight(&mut self, taps: Sum) -> usize {
        self.weights.iter().position(|known| *known == taps).unwrap_or_else(|| {
            self.weights.push(taps);
            self.weights.len() - 1
        })
    }
}

fn nonzero(sum: impl Iterator<Item = (usize, f32)>) -> Sum {
    sum.filter(|(_, factor)| *factor != 0.0).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn points(plan: &Plan) -> impl Iterator<Item = &Point> {
        plan.tiles.iter().flat_map(|tile| &tile.points)
    }

    fn products(plan: &Plan) -> usize {
        points(plan).map(|point| point.terms.len()).sum()
    }

    fn of(sum: &Sum, values: &[f64]) -> f64 {
        sum.iter().map(|&(index, factor)| f64::from(factor) * values[index]).sum()
    }

    #[test]
    fn fewer_products_give_the_same_convolution() {
        for (stride, taps) in [(1, 3), (2, 4)] {
            for rows in 1..=13 {
                let fine: Vec<f64> = (0..rows * stride).map(|i| ((7 * i + 3) % 11) as f64 - 4.5).collect();
                let tap: Vec<f64> = (0..taps).map(|t| 1.0 + (t as f64).sin()).collect();
                let direct = |row: usize| {
                    let window = (0..taps).filter_map(|t| Some(fine.get((row * stride + t).checked_sub(1)?)? * tap[t]));
                    window.sum::<f64>()
                };
                for fast in [false, true] {
                    let plan = Plan::new(rows, stride, taps, fast);
                    let mut found = vec![0.0; rows];
                    for point in points(&plan) {
                        let product: f64 =
                            point.terms.iter().map(|t| of(&t.fine, &fine) * of(&plan.weights[t.weight], &tap)).sum();
                        point.coarse.iter().for_each(|&(row, factor)| found[row] += f64::from(factor) * product);
                    }
                    for (row, found) in found.iter().enumerate() {
                        let wanted = direct(row);
                        assert!((found - wanted).abs() < 1e-5, "{rows} rows, {taps} taps, {row}: {found} {wanted}");
                    }
                }
            }
        }
        // The default VAE's grids, whose padding the plain way leaves out.
        assert_eq!([false, true].map(|fast| products(&Plan::new(5, 2, 4, fast))), [18, 12]);
        assert_eq!([false, true].map(|fast| products(&Plan::new(5, 1, 3, fast))), [13, 8]);
    }
}
