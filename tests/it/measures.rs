//! What latents mean: measures on codes whose scores are known, and `evaluate latents` and `evaluate udr` as they are used.

use std::f64::consts::{PI, TAU};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use ndarray::{Array1, Array2, Axis, array, concatenate, s};
use rand::Rng;
use rand::seq::SliceRandom;
use rand_distr::StandardNormal;
use serde_json::Value;
use tempfile::TempDir;
use vae_workshop::metrics::latents::density::{divergences, mean_pairwise_information, total_correlation};
use vae_workshop::metrics::latents::encode::bounds;
use vae_workshop::metrics::latents::information::{binned, entropy, gap, mutual_information};
use vae_workshop::metrics::latents::lasso::lasso;
use vae_workshop::metrics::latents::scores::{FactorScores, Factors, score, squared_correlation};
use vae_workshop::metrics::latents::udr::{median, udr};
use vae_workshop::random;

use crate::env::{Said, fail, lasting_folder, run, succeed, text};
use crate::pipeline::runs;

fn normal(rows: usize, columns: usize, seed: u64) -> Array2<f64> {
    let values: Vec<f64> =
        random::stream(seed, "measures", 0).sample_iter(StandardNormal).take(rows * columns).collect();
    Array2::from_shape_vec((rows, columns), values).unwrap()
}

fn uniform(rows: usize, columns: usize, seed: u64) -> Array2<f64> {
    let mut rng = random::stream(seed, "measures", 1);
    Array2::from_shape_simple_fn((rows, columns), || rng.random_range(-1.0..1.0))
}

/// Three factors of four levels each, in 64 rows every combination once, without an order.
fn grid(rows: usize) -> Array2<f64> {
    let mut order: Vec<usize> = (0..rows).collect();
    order.shuffle(&mut random::stream(0, "measures", 2));
    Array2::from_shape_fn((rows, 3), |(row, factor)| (order[row] / 4usize.pow(factor as u32) % 4) as f64)
}

fn scored(codes: &Array2<f64>, factors: &Array2<f64>) -> FactorScores {
    let names = (0..factors.ncols()).map(|factor| format!("factor {factor}")).collect();
    let folds: Vec<usize> = (0..codes.nrows()).map(|row| row % 5).collect();
    score(codes.view(), &folds, &Factors { names, values: factors.clone() }, codes.ncols(), 0)
}

/// Turns the first two columns by 45 degrees.
fn turned(codes: &Array2<f64>) -> Array2<f64> {
    let mut out = codes.clone();
    out.column_mut(0).assign(&((&codes.column(0) + &codes.column(1)) / 2f64.sqrt()));
    out.column_mut(1).assign(&((&codes.column(0) - &codes.column(1)) / 2f64.sqrt()));
    out
}

#[test]
fn information_of_known_tables_is_what_their_closed_forms_say() {
    let (one, other) = ([0, 0, 1, 1], [0, 1, 0, 1]);
    assert!((entropy(&one) - 2f64.ln()).abs() < 1e-15);
    assert_eq!(mutual_information(&one, &other), 0.0);
    assert!((mutual_information(&one, &one) - 2f64.ln()).abs() < 1e-15);
    // A channel that turns one bit in four.
    let (sent, received) = ([0, 0, 0, 0, 1, 1, 1, 1], [0, 0, 0, 1, 1, 1, 1, 0]);
    let lost = -(0.25 * 0.25f64.ln() + 0.75 * 0.75f64.ln());
    assert!((mutual_information(&sent, &received) - (2f64.ln() - lost)).abs() < 1e-15);
    assert_eq!(gap([0.1, 0.7, 0.4]), Some(0.7 - 0.4));
    assert_eq!(gap([0.1]), None);
}

#[test]
fn bins_are_of_equal_width_and_few_levels_are_bins_of_their_own() {
    let values: Array1<f64> = (0..=40).map(|value| f64::from(value) / 40.0).collect();
    let bins = binned(values.view());
    assert_eq!((bins[0], bins[1], bins[2], bins[39], bins[40]), (0, 0, 1, 19, 19));
    assert_eq!(binned(array![5.0, -1.0, 5.0, 100.0].view()), [1, 0, 1, 2]);
    assert_eq!(binned(array![2.0, 2.0].view()), [0, 0]);
}

#[test]
fn a_latent_for_each_factor_has_the_best_scores_and_noise_the_worst() {
    let factors = grid(640);
    let codes = concatenate![Axis(1), &factors * 1.5 - 2.0, Array2::<f64>::zeros((640, 1))];
    let best = scored(&codes, &factors);
    assert!((best.mig.unwrap() - 1.0).abs() < 1e-12, "{best:?}");
    assert!((best.sap.unwrap() - 1.0).abs() < 1e-12, "{best:?}");
    let dci = best.dci.unwrap();
    for value in [dci.disentanglement, dci.completeness, dci.informativeness] {
        assert!((value - 1.0).abs() < 1e-4, "{dci:?}");
    }
    assert_eq!((best.factor_vae, best.beta_vae), (Some(1.0), Some(1.0)));

    let noise = scored(&normal(640, 4, 1), &factors);
    // The plug-in estimate is too high by about 19 * 3 / (2 * 640) nats, and gaps are smaller still.
    assert!(noise.mig.unwrap() < 0.02, "{noise:?}");
    assert!(noise.sap.unwrap() < 0.01, "{noise:?}");
    assert!(noise.dci.as_ref().is_none_or(|dci| dci.informativeness < 0.01), "{noise:?}");
    for score in [noise.factor_vae.unwrap(), noise.beta_vae.unwrap()] {
        assert!((0.23..0.45).contains(&score), "chance is 1 in 3: {score}");
    }
    for factor in &noise.factors {
        // One factor in twenty passes its null; these three do not by far.
        let most = factor.information.iter().copied().fold(0.0, f64::max);
        assert!(most < 1.2 * factor.null_information.unwrap(), "{factor:?}");
    }
    for factor in &best.factors {
        assert!(factor.information.iter().any(|&found| found > 5.0 * factor.null_information.unwrap()), "{factor:?}");
        assert!(factor.null_squared_correlation.unwrap() < 1.0);
    }
}

#[test]
fn continuous_factors_that_are_latents_have_a_gap_of_one_but_for_the_bins() {
    let codes = uniform(4000, 4, 2);
    let aligned = scored(&codes, &codes);
    // 4000 segments in 400 cells: 19² / 8000 nats of ln 20 come from the bins.
    assert!((aligned.mig.unwrap() - 1.0).abs() < 0.03, "{:?}", aligned.mig);
    assert!(aligned.sap.unwrap() > 0.99);
    assert_eq!((aligned.factor_vae, aligned.beta_vae), (None, None), "no grid");
    let mixed = scored(&turned(&codes), &codes);
    assert!(mixed.factors[0].mig.unwrap() < 0.03 && mixed.factors[2].mig.unwrap() > 0.97, "{:?}", mixed.mig);
    assert!(mixed.factors[0].sap.unwrap() < 0.05, "{:?}", mixed.sap);
    let (straight, mixed) = (aligned.dci.unwrap(), mixed.dci.unwrap());
    assert!(mixed.disentanglement < straight.disentanglement - 0.2, "{mixed:?}");
    assert!(mixed.completeness < straight.completeness - 0.2, "{mixed:?}");
    assert!(mixed.informativeness > 0.99, "a turn loses nothing: {mixed:?}");
}

#[test]
fn what_cannot_be_told_is_undefined_and_never_nan() {
    let mut factors = grid(200);
    factors.column_mut(0).fill(7.0); // constant
    factors.slice_mut(s![10.., 1]).fill(f64::NAN); // ten segments have it
    let found = scored(&normal(200, 3, 3), &factors);
    for factor in &found.factors[..2] {
        assert_eq!((factor.mig, factor.sap, &factor.regression), (None, None, &None), "{factor:?}");
    }
    assert_eq!((found.factors[0].segments, found.factors[1].segments), (200, 10));
    let why: Vec<String> = found.factors.iter().filter_map(|factor| factor.why_undefined()).collect();
    assert_eq!(why, ["constant", "fewer than 20 segments have it"]);
    assert!(found.factors[2].mig.is_some());
    assert!(!serde_json::to_string(&found).unwrap().contains("NaN"));
    // Collapsed, so that nothing is active.
    let names = vec!["a".to_string(), "b".to_string(), "c".to_string()];
    let folds: Vec<usize> = (0..200).map(|row| row % 5).collect();
    let collapsed = score(Array2::zeros((200, 3)).view(), &folds, &Factors { names, values: grid(200) }, 0, 0);
    assert_eq!((collapsed.mig, collapsed.sap, &collapsed.dci), (None, None, &None));
    assert_eq!((collapsed.factor_vae, collapsed.beta_vae), (None, None));
    assert_eq!(collapsed.factors[2].why_undefined().unwrap(), "no latent is active");
    assert!(collapsed.factors.iter().all(|factor| factor.information.iter().all(|&found| found == 0.0)));
    // A single latent has no second best; nineteen segments are fewer than bins.
    assert_eq!(scored(&normal(100, 1, 4), &grid(100)).mig, None);
    assert_eq!(scored(&normal(19, 2, 4), &grid(19)).mig, None);
    // Two segments each of ten recordings are not ten levels of a grid.
    let recordings = uniform(10, 2, 5).select(Axis(0), &(0..20).map(|row| row / 2).collect::<Vec<_>>());
    let few = scored(&normal(20, 2, 4), &recordings);
    assert!(few.mig.is_some() && few.factor_vae.is_none() && few.beta_vae.is_none(), "{few:?}");
    assert_eq!(total_correlation(normal(3, 5, 5).view()), None);
    assert_eq!(total_correlation(Array2::zeros((9, 2)).view()), None);
    assert_eq!(total_correlation(Array2::zeros((9, 0)).view()), None);
    assert!(total_correlation(normal(9, 1, 5).view()).unwrap().abs() < 1e-12);
}

#[test]
fn a_factor_in_another_unit_has_the_same_scores() {
    let codes = normal(400, 3, 5);
    let factors = &codes.slice(s![.., ..2]) + &normal(400, 2, 6);
    let (plain, small) = (scored(&codes, &factors), scored(&codes, &(&factors * 1e-10)));
    assert!((plain.sap.unwrap() - small.sap.unwrap()).abs() < 1e-9 && small.sap.unwrap() > 0.3, "{plain:?} {small:?}");
    // What rounding leaves of a constant is none.
    let codes = codes.column(0);
    assert_eq!(squared_correlation(codes, ndarray::Array1::from_elem(400, 0.1).view()), 0.0);
}

#[test]
fn segments_without_a_factor_do_not_count_for_it() {
    let codes = uniform(1500, 3, 6);
    let (whole, mut factors) = (codes.slice(s![..900, ..]).to_owned(), codes.clone());
    factors.slice_mut(s![900.., ..]).fill(f64::NAN);
    assert_eq!(scored(&codes, &factors).factors[1].information, scored(&whole, &whole).factors[1].information);
    assert_eq!(scored(&codes, &factors).factors[1].regression, scored(&whole, &whole).factors[1].regression);
}

#[test]
fn lasso_is_soft_thresholding_of_independent_columns_and_meets_its_conditions_for_others() {
    // Columns of a Hadamard matrix: orthogonal, of mean 0 and mean square 1.
    let x = Array2::from_shape_fn((8, 3), |(row, column)| 1.0 - 2.0 * (row >> column & 1) as f64);
    let y = x.dot(&array![0.8, -0.3, 0.05]);
    let found = lasso(x.view(), y.view(), 0.1);
    for (found, wanted) in found.iter().zip([0.7, -0.2, 0.0]) {
        assert!((found - wanted).abs() < 1e-9, "{found} {wanted}");
    }
    // Subgradient: residual correlation is alpha times the sign, or less where the weight is 0.
    let free = normal(60, 6, 7);
    let x = &free + &(&free.column(0) * 2.0).insert_axis(Axis(1)); // strongly correlated
    let x = &x - &x.mean_axis(Axis(0)).unwrap();
    let y = x.dot(&array![1.0, 0.0, -2.0, 0.0, 0.0, 0.5]) + normal(60, 1, 8).column(0);
    let y = &y - y.mean().unwrap();
    let (alpha, mut zeros) = (0.3, 0);
    let weights = lasso(x.view(), y.view(), alpha);
    let pull = x.t().dot(&(&y - &x.dot(&weights))) / 60.0;
    for (weight, pull) in weights.iter().zip(&pull) {
        if *weight == 0.0 {
            zeros += 1;
            assert!(pull.abs() <= alpha + 1e-6, "{pull}");
        } else {
            assert!((pull - alpha * weight.signum()).abs() < 1e-6, "{weight} {pull}");
        }
    }
    assert!((1..6).contains(&zeros), "{weights}");
    assert_eq!(lasso(Array2::zeros((5, 2)).view(), Array1::ones(5).view(), 0.1), array![0.0, 0.0]);
}

#[test]
fn total_correlation_is_the_closed_form_of_correlated_gaussians() {
    // Points on circles: exactly uncorrelated coordinates of equal variance; the third is a mix.
    let rows = 720;
    let angle = |row: usize| TAU * row as f64 / rows as f64;
    for rho in [0.0, 0.6, -0.95] {
        let codes = Array2::from_shape_fn((rows, 2), |(row, column)| match column {
            0 => 3.0 * angle(row).cos() + 1.0,
            _ => 0.01 * (rho * angle(row).cos() + (1.0f64 - rho * rho).sqrt() * angle(row).sin()),
        });
        let wanted = -0.5 * (1.0 - rho * rho).ln();
        assert!((total_correlation(codes.view()).unwrap() - wanted).abs() < 1e-9, "{rho}");
        assert!((squared_correlation(codes.column(0), codes.column(1)) - rho * rho).abs() < 1e-12);
    }
    let two = grid(640);
    assert!(mean_pairwise_information(two.view()).unwrap() < 1e-12);
    let same = concatenate![Axis(1), two.slice(s![.., ..1]), two.slice(s![.., ..1])];
    assert!((mean_pairwise_information(same.view()).unwrap() - 4f64.ln()).abs() < 1e-12);
    let kl = divergences(array![[1.0, 0.0], [-1.0, 0.0]].view(), array![[2.0, 1.0], [2.0, 1.0]].view());
    assert!((kl[0] - (2.0 - 2f64.ln())).abs() < 1e-12 && kl[1] == 0.0, "{kl:?}");
}

#[test]
fn the_importance_weighted_bound_lies_between_the_elbo_and_a_known_likelihood() {
    // z ~ N(0, 1), x | z ~ N(a z, s²): x ~ N(0, a² + s²) and the posterior is known.
    let (a, s) = (1.5f64, 0.5f64);
    let density = |x: f64, mean: f64, scale: f64| -0.5 * ((x - mean) / scale).powi(2) - scale.ln() - 0.5 * TAU.ln();
    let variance = s * s / (a * a + s * s);
    let xs = normal(300, 1, 9).column(0).mapv(|value| value * (a * a + s * s).sqrt());
    let evidence = xs.mapv(|x| density(x, 0.0, (a * a + s * s).sqrt())).mean().unwrap();
    let weights = |samples: usize, spread: f64| {
        let noise = normal(xs.len(), samples, 10);
        Array2::from_shape_fn(noise.dim(), |(row, sample)| {
            let (mean, scale) = (a * xs[row] / (a * a + s * s), variance.sqrt() * spread);
            let z = mean + scale * noise[[row, sample]];
            density(xs[row], a * z, s) + density(z, 0.0, 1.0) - density(z, mean, scale)
        })
    };
    let (bound, elbo) = bounds(weights(5, 1.0).view());
    assert!(
        (bound - evidence).abs() < 1e-9 && (elbo - evidence).abs() < 1e-9,
        "exact posteriors: {bound} {elbo} {evidence}"
    );
    // Twice too wide: the ELBO misses by the divergence, (4 - 1) / 2 - ln 2; with 50 samples next to nothing is missed.
    let (bound, elbo) = bounds(weights(50, 2.0).view());
    assert!((evidence - elbo - (1.5 - 2f64.ln())).abs() < 0.05, "{elbo} {evidence}");
    assert!(bound > elbo + 0.7 && bound < evidence && evidence - bound < 0.02, "{elbo} {bound} {evidence}");
    let (one, same) = bounds(weights(1, 2.0).view());
    assert!((one - same).abs() < 1e-12, "of one sample they are the same");
}

#[test]
fn udr_is_one_of_the_same_latents_in_other_places_and_less_of_mixed_ones() {
    let codes = normal(20_000, 5, 11);
    let order: Vec<usize> = vec![3, 0, 4, 2, 1];
    let elsewhere = codes.select(Axis(1), &order).mapv(|value| -3.0 * value + 1.0);
    let same = udr(codes.view(), elsewhere.view()).unwrap();
    // Five latents of which none depends on another, but for chance: |rho| is 0.006 on average, 1 / 1.024 wanted.
    assert!(same > 0.96, "{same}");
    let mixed = udr(codes.view(), turned(&codes).view()).unwrap();
    let noise = udr(codes.view(), normal(20_000, 5, 12).view()).unwrap();
    assert!(noise < 0.03 && noise < mixed - 0.3 && mixed < same - 0.1, "{noise} {mixed} {same}");
    assert!(
        (udr(codes.view(), elsewhere.view()).unwrap() - udr(elsewhere.view(), codes.view()).unwrap()).abs() < 1e-12
    );
    assert_eq!(udr(codes.view(), Array2::zeros((20_000, 0)).view()), None);
    let few = |rows: usize| udr(codes.slice(s![..rows, ..]), codes.slice(s![..rows, ..]));
    assert!(few(19).is_none() && few(20).is_some(), "as the other scores");
    // Two orthogonal waves with ties: r = 1 for itself and 0 for the other, hence exactly 1.
    let waves =
        Array2::from_shape_fn((24, 2), |(row, column)| ((row as f64 + 0.5) * PI / [4.0, 2.0][column]).cos().signum());
    assert!((udr(waves.view(), waves.view()).unwrap() - 1.0).abs() < 1e-12);
    assert_eq!((median(vec![3.0, 1.0, 2.0]), median(vec![1.0, 2.0]), median(vec![])), (Some(2.0), Some(1.5), None));
}

/// A corpus of segments, its features as they come by default, and two runs on them.
struct Trained {
    _folder: TempDir,
    table: PathBuf,
    features: PathBuf,
    runs: PathBuf,
}

impl Trained {
    fn vae(&self) -> PathBuf {
        self.runs.join("a")
    }

    fn test(&self) -> PathBuf {
        self.features.join("test")
    }

    fn evaluate(&self, more: &[&str]) -> Value {
        let (vae, test) = (self.vae(), self.test());
        let flags = ["latents", "--device", "cpu", "--json", "-", "--vae", text(&vae), text(&test)];
        serde_json::from_str(&succeed("evaluate", &[&flags[..], more].concat())).unwrap()
    }
}

fn trained() -> &'static Trained {
    static TRAINED: OnceLock<Trained> = OnceLock::new();
    TRAINED.get_or_init(|| {
        let folder = lasting_folder();
        let [corpus, features, runs] = ["corpus", "features", "runs"].map(|name| folder.path().join(name));
        let size = ["--factors", "--segments", "240", "--test-fraction", "0.5", "--grid", "3"];
        succeed("make-corpus", &[&[text(&corpus)], &size[..]].concat());
        succeed("extract-features", &[text(&corpus), text(&features)]);
        let (train, test) = (features.join("train"), features.join("test"));
        for (name, seed) in [("a", "1"), ("b", "2")] {
            let sizes =
                ["--preset", "tiny", "--latents", "6", "--steps", "40", "--learning-rate", "3e-3", "--beta", "1"];
            let run = runs.join(name);
            let folders = [text(&run), text(&train), text(&test), "--seed", seed, "--device", "cpu"];
            succeed("train-vae", &[&folders[..], &sizes].concat());
        }
        Trained { table: corpus.join("factors.csv"), features, runs, _folder: folder }
    })
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("{value} is no number"))
}

#[test]
fn the_elbo_is_what_the_trainer_said_of_its_test_set() {
    let trained = trained();
    let report = trained.evaluate(&["--samples", "10"]);
    let run: Value = serde_json::from_slice(&fs::read(trained.vae().join("step-00000040/run.json")).unwrap()).unwrap();
    let told = |name: &str| number(&run["test"][name]);
    // The trainer adds in f32.
    let near = |found: f64, wanted: f64| assert!((found - wanted).abs() < 1e-5 * wanted.abs(), "{found} {wanted}");
    near(number(&report["reconstruction"]), told("reconstruction"));
    near(report["kl"].as_array().unwrap().iter().map(number).sum(), told("kl"));
    near(-number(&report["elbo"]), told("total")); // beta is 1
    let importance = &report["importance"];
    assert!(number(&importance["bound"]) > number(&importance["elbo"]) + 0.1, "{importance}");
    assert_eq!((&importance["samples"], &importance["segments"]), (&10.into(), &report["segments"]));
    assert_eq!(report, trained.evaluate(&["--samples", "10"]), "the same seed");
    assert_eq!(trained.evaluate(&["--samples", "0"])["importance"], Value::Null);
}

#[test]
fn a_table_of_factors_is_matched_by_name_to_features_that_were_trimmed_and_normalised() {
    let trained = trained();
    let report = trained.evaluate(&["--samples", "0", "--factors", text(&trained.table)]);
    let factors = report["scores"]["factors"].as_array().unwrap();
    let names: Vec<&str> = factors.iter().map(|factor| factor["name"].as_str().unwrap()).collect();
    // Normalised features know nothing of loudness.
    let wanted = ["f0_hz", "f1_hz", "f2_hz", "f3_hz", "tilt_db", "breathiness_db", "voicing", "speaker_scale"];
    assert_eq!(names, wanted);
    let truth = fs::read_to_string(&trained.table).unwrap();
    let whispers = truth.lines().filter(|line| line.starts_with("test/") && line.contains(",,")).count();
    let segments = number(&report["segments"]);
    let (f0, voicing) = (&factors[0], &factors[6]);
    assert!(number(&f0["segments"]) < segments && whispers > 0);
    assert_eq!(number(&voicing["segments"]), segments);
    // Voicing is what even a toy learns first; a table that is out of step tells nothing of it.
    let best = |factor: &Value, name: &str| factor[name].as_array().unwrap().iter().map(number).fold(0.0, f64::max);
    assert!(best(voicing, "squared_correlation") > 3.0 * number(&voicing["null_squared_correlation"]), "{voicing}");
    for score in ["mig", "sap", "factor_vae", "beta_vae"] {
        let value = number(&report["scores"][score]);
        assert!((0.0..=1.0).contains(&value), "{score} {value}");
    }
    // The same rows in another order, with the features of both parts.
    let mut lines: Vec<&str> = truth.lines().collect();
    lines[1..].reverse();
    let folder = tempfile::tempdir().unwrap();
    let table = folder.path().join("other.csv");
    fs::write(&table, lines.join("\r\n")).unwrap();
    let other = trained.evaluate(&["--samples", "0", "--factors", text(&table)]);
    assert_eq!(other["scores"], report["scores"]);
    let vae = trained.vae();
    let all = ["latents", "--vae", text(&vae), text(&trained.features), "--factors", text(&table), "--samples", "0"];
    let said = run("evaluate", &all);
    assert_eq!(said.code, Some(0), "{}", said.err);
    assert!(said.out.contains("of 240 files") && said.out.contains("DCI completeness"), "{}", said.out);
    assert!(said.err.contains("loudness_db is left out") && !said.err.contains("no segment"), "{}", said.err);
    assert!(!said.out.contains("NaN"), "{}", said.out);
}

#[test]
fn without_a_table_latents_are_held_against_what_is_heard() {
    let trained = trained();
    let folder = tempfile::tempdir().unwrap();
    let codes = folder.path().join("codes.npz");
    let report = trained.evaluate(&["--samples", "0", "--codes", text(&codes)]);
    assert_eq!(report["factors_from"], "audio");
    let factors = report["scores"]["factors"].as_array().unwrap();
    let names: Vec<&str> = factors.iter().map(|factor| factor["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["ln_f0", "voicing", "ln_energy", "tilt_db_per_octave", "centroid_hz"]);
    let mut npz = ndarray_npy::NpzReader::new(fs::File::open(&codes).unwrap()).unwrap();
    let heard: Array2<f64> = npz.by_name("factors").unwrap();
    let files: Array1<u32> = npz.by_name("file").unwrap();
    let mean: Array2<f64> = npz.by_name("mean").unwrap();
    assert_eq!((heard.nrows(), mean.dim()), (files.len(), (report["segments"].as_u64().unwrap() as usize, 6)));
    // What is heard is what was spoken: pitch within a few percent where breath lets it through.
    let truth = fs::read_to_string(&trained.table).unwrap();
    let rows: Vec<Vec<&str>> =
        truth.lines().filter(|line| line.starts_with("test/")).map(|line| line.split(',').collect()).collect();
    assert_eq!(rows.len(), 120);
    let (mut compared, mut near) = (0, 0);
    for (heard, &file) in heard.outer_iter().zip(&files) {
        let row = &rows[file as usize];
        if let (Ok(f0), Ok(breath)) = (row[1].parse::<f64>(), row[7].parse::<f64>())
            && breath < -10.0
        {
            compared += 1;
            near += usize::from((heard[0].exp() / f0 - 1.0).abs() < 0.03 && heard[1] > 0.8);
        }
    }
    // A formant on a harmonic of a high voice is taken for its pitch now and then.
    assert!(compared > 50 && near as f64 > 0.9 * f64::from(compared), "{near} of {compared}");
}

#[test]
fn two_runs_are_compared_and_one_is_refused() {
    let trained = trained();
    let test = trained.test();
    let flags = ["udr", "--device", "cpu", "--json", "-", text(&trained.runs), text(&test)];
    let report: Value = serde_json::from_str(&succeed("evaluate", &flags)).unwrap();
    let all = report["runs"].as_array().unwrap();
    assert_eq!(all.len(), 2);
    let udr = number(&all[0]["udr"]);
    assert!((0.0..=1.0).contains(&udr) && all[0]["udr"] == all[1]["udr"] && all[0]["with"][0].is_null(), "{report}");
    let one = fail("evaluate", &["udr", text(&trained.vae()), text(&test)]);
    assert!(one.contains("holds no run of train-vae") && one.contains("it is a run itself"), "{one}");
    assert_eq!(one.lines().count(), 1, "{one}");
}

#[test]
fn what_is_no_vae_among_the_runs_is_named_and_passed_over() {
    let trained = trained();
    let (_, other, inverter) = crate::pipeline::runs();
    let folder = tempfile::tempdir().unwrap();
    let link = |from: &Path, name: &str| std::os::unix::fs::symlink(from, folder.path().join(name)).unwrap();
    link(&trained.runs.join("a"), "a");
    link(inverter, "cbhg");
    link(other, ".hidden");
    fs::create_dir(folder.path().join("notes")).unwrap();
    let test = trained.test();
    let flags = ["udr", "--device", "cpu", "--json", "-", text(folder.path()), text(&test)];
    let one = fail("evaluate", &flags);
    assert!(one.contains("holds one run of train-vae; UDR compares two at least"), "{one}");
    link(&trained.runs.join("b"), "b");
    let Said { out, err, .. } = run("evaluate", &flags);
    let report: Value = serde_json::from_str(&out).unwrap();
    let names: Vec<_> = report["runs"].as_array().unwrap().iter().map(|run| run["vae"].as_str().unwrap()).collect();
    assert_eq!(names, ["a", "b"].map(|name| folder.path().join(name).display().to_string()));
    assert!(err.contains("cbhg/step-00000020 is a run of the inverter") && err.lines().count() == 1, "{err}");
}

#[test]
fn what_does_not_belong_together_is_refused_in_one_line() {
    let trained = trained();
    let (vae, test) = (trained.vae(), trained.test());
    let folder = tempfile::tempdir().unwrap();
    let refused = |vae: &Path, features: &Path, more: &[&str], wanted: &str| {
        let said = fail("evaluate", &[&["latents", "--vae", text(vae), text(features)], more].concat());
        assert!(said.contains(wanted) && said.lines().count() == 1, "{wanted}: {said}");
    };
    refused(&runs().2, &test, &[], "is a run of the inverter, where one of the VAE is needed");
    refused(&test, &test, &[], "holds no checkpoint");
    refused(&vae, folder.path(), &[], "feat.npz");
    refused(&vae, &test, &["--json", "report.txt"], ".json");
    refused(&vae, &test, &["--codes", "codes.json"], ".npz");
    refused(&vae, &test, &["--samples", "100000"], "--samples 100000");
    let truth = fs::read_to_string(&trained.table).unwrap();
    let (header, first) =
        (truth.lines().next().unwrap(), truth.lines().find(|line| line.starts_with("test/")).unwrap());
    let table = folder.path().join("table.csv");
    let name = first.split(',').next().unwrap();
    for (text_of, wanted) in [
        (String::new(), "a first line `file,NAME,...`"),
        ("name,f0\na,1\n".into(), "a first line `file,NAME,...`"),
        ("file,f0,f0\na,1,2\n".into(), "column 3 is called `f0`"),
        ("file,f0\n".into(), "holds no rows"),
        ("file,f0\na,1\nb\n".into(), "line 3 has 1 cells, the header 2"),
        ("file,f0\na,nan\n".into(), "line 2, f0: nan"),
        ("file,f0\na,inf\n".into(), "line 2, f0: inf"),
        ("file,f0\na,man\n".into(), "line 2, f0: `man` is no number"),
        ("file,f0\na,1\na,2\n".into(), "line 3: a second row of a"),
        (format!("{header}\n{first}\n"), "has no row for 119 of the 120 files"),
        ("file,f0\nelsewhere,1\n".into(), "its own are called like elsewhere"),
        (truth.replace(name, "test/renamed"), &format!("{}.feat.npz among them", name.trim_start_matches("test/"))),
    ] {
        fs::write(&table, text_of).unwrap();
        refused(&vae, &test, &["--factors", text(&table)], wanted);
    }
    fs::write(&table, [0xff, 0xfe, 0x00]).unwrap();
    refused(&vae, &test, &["--factors", text(&table)], "is no text");
    refused(&vae, &test, &["--factors", text(&folder.path().join("none.csv"))], "none.csv");
}

#[test]
fn a_constant_factor_is_undefined_and_rows_without_features_are_warned_about() {
    let trained = trained();
    let (vae, test) = (trained.vae(), trained.test());
    let folder = tempfile::tempdir().unwrap();
    let table = folder.path().join("table.csv");
    let truth = fs::read_to_string(&trained.table).unwrap();
    let names = truth.lines().skip(1).map(|line| line.split(',').next().unwrap());
    let rows: String = names.map(|name| format!("{name},3\n")).collect();
    fs::write(&table, format!("file,same\n{rows}test/more,3\n")).unwrap();
    let said =
        run("evaluate", &["latents", "--vae", text(&vae), text(&test), "--factors", text(&table), "--samples", "0"]);
    assert_eq!(said.code, Some(0), "{}", said.err);
    assert!(said.err.contains("1 rows have no segment") && said.err.contains("test/more"), "{}", said.err);
    let line = |start: &str| said.out.lines().find(|line| line.starts_with(start)).unwrap();
    assert!(line("same").ends_with("constant"), "{}", said.out);
    assert!(line("MIG").contains("undefined") && !said.out.contains("NaN"), "{}", said.out);
}
