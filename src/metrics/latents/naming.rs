//! From measures to names: what each latent stands for, and what all together say of qualities that can be heard.

use std::f64::consts::{LN_2, LN_10};

use ndarray::{ArrayView1, Axis};

use super::Measured;
use super::dci::FOLDS;
use super::density::{active, in_use};
use super::heard::heard;
use super::ridge::{PENALTY, Ridge};
use super::scores::{FactorScore, Factors};
use crate::Result;
use crate::data::FeatureSet;
use crate::synth::{EVIDENT, Meanings, Name, Quality, Slope, VaeCodec};

/// With fewer rows to learn from or to test on nothing is said.
const FEWEST: usize = 10;

/// What was measured as names, and slopes of what is heard.
///
/// A latent in use has the name of the factor that it explains best, if that is 0.3 of the variance at least, and more than
/// chance does.
///
/// # Errors
/// If a feature file cannot be read.
pub fn meanings(codec: &VaeCodec, set: &FeatureSet, measured: &Measured) -> Result<Meanings> {
    let Measured { report, encoded, factors } = measured;
    let of_sound = if report.factors_from == "audio" { factors.clone() } else { heard(set, encoded)? };
    Ok(Meanings {
        vae: codec.fingerprint().to_string(),
        step: report.step,
        features: report.features.clone(),
        segments: report.segments,
        factors_from: report.factors_from.clone(),
        scores: report.headline().into_iter().map(|(name, value)| (name.to_string(), value)).collect(),
        names: active(&report.kl)
            .into_iter()
            .filter_map(|latent| name(latent, encoded.mean.column(latent), factors, &report.scores.factors))
            .collect(),
        slopes: slopes(measured, &of_sound),
        covariance: covariance(measured),
    })
}

/// Of the latents in use, over all segments.
fn covariance(measured: &Measured) -> Vec<Vec<f64>> {
    let Measured { report, encoded, .. } = measured;
    let codes = in_use(encoded.mean.view(), &active(&report.kl));
    let centred = &codes - &codes.mean_axis(Axis(0)).expect("there are segments");
    let covariance = centred.t().dot(&centred) / codes.nrows() as f64;
    covariance.rows().into_iter().map(|row| row.to_vec()).collect()
}

fn name(latent: usize, codes: ArrayView1<f64>, factors: &Factors, scores: &[FactorScore]) -> Option<Name> {
    let r2 = |score: &FactorScore| score.squared_correlation[latent];
    let (column, score) = scores.iter().enumerate().max_by(|(_, one), (_, other)| r2(one).total_cmp(&r2(other)))?;
    if r2(score) < EVIDENT || score.null_squared_correlation.is_none_or(|null| r2(score) <= null) {
        return None;
    }
    let (name, unit, scale) = readable(&score.name);
    let values = factors.values.column(column);
    let rows: Vec<usize> = (0..values.len()).filter(|&row| !values[row].is_nan()).collect();
    let centred = |values: ArrayView1<f64>| {
        let values = values.select(Axis(0), &rows);
        let mean = values.mean().unwrap_or(0.0);
        values - mean
    };
    let (x, y) = (centred(codes), centred(values));
    Some(Name { latent, name, unit, per_unit: scale * x.dot(&y) / x.dot(&x), r2: r2(score) })
}

/// A column's name and unit for people, and what its values are multiplied by for that.
fn readable(column: &str) -> (String, String, f64) {
    if let Some((quality, scale)) = quality(column) {
        return (quality.name().into(), quality.unit().into(), scale);
    }
    let unit = [("_hz", "Hz"), ("_db", "dB")]
        .into_iter()
        .find_map(|(suffix, unit)| Some((column.strip_suffix(suffix)?, unit)));
    match unit {
        // A table's `tilt_db` may well count the other way than the quality of that name.
        Some((name, unit)) if Quality::ALL.iter().all(|quality| quality.name() != name) => {
            (name.into(), unit.into(), 1.0)
        }
        Some((_, unit)) => (column.into(), unit.into(), 1.0),
        None => (column.into(), String::new(), 1.0),
    }
}

/// Which quality a factor that is heard stands for, and what it is multiplied by for its unit.
fn quality(column: &str) -> Option<(Quality, f64)> {
    match column {
        "ln_f0" => Some((Quality::Pitch, 12.0 / LN_2)),
        "ln_energy" => Some((Quality::Loudness, 10.0 / LN_10)),
        "tilt_db_per_octave" => Some((Quality::Tilt, 1.0)),
        "voicing" => Some((Quality::Voicing, 1.0)),
        _ => None,
    }
}

fn slopes(measured: &Measured, of_sound: &Factors) -> Vec<Slope> {
    let Measured { report, encoded, .. } = measured;
    let active = active(&report.kl);
    let (codes, folds) = (encoded.mean.select(Axis(1), &active), encoded.folds());
    let columns = of_sound.names.iter().zip(of_sound.values.columns());
    columns
        .filter_map(|(column, values)| {
            let (quality, scale) = quality(column)?;
            let rows = |wanted: &dyn Fn(usize) -> bool| -> Vec<usize> {
                (0..folds.len()).filter(|&row| !values[row].is_nan() && wanted(folds[row])).collect()
            };
            let of = |rows: &[usize]| (codes.select(Axis(0), rows), values.select(Axis(0), rows) * scale);
            let (learn, test) = (rows(&|fold| fold < FOLDS - 1), rows(&|fold| fold == FOLDS - 1));
            if active.is_empty() || learn.len() < FEWEST || test.len() < FEWEST {
                return None;
            }
            let ((x, y), (unseen_x, unseen_y)) = (of(&learn), of(&test));
            let r2 = Ridge::fit(x.view(), y.view(), PENALTY).r2(unseen_x.view(), unseen_y.view())?.max(0.0);
            let (x, y) = of(&rows(&|_| true));
            let fitted = Ridge::fit(x.view(), y.view(), PENALTY);
            let mut weights = vec![0.0; report.kl.len()];
            active.iter().zip(&fitted.weights).for_each(|(&latent, &weight)| weights[latent] = weight);
            Some(Slope { quality, weights, r2 })
        })
        .collect()
}
