//! A control: on data of which the answer is known, trainer and measures together must find it.

use std::fs;
use std::path::Path;

use ndarray::{Array1, Array2, Axis, array, concatenate};
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use rand_distr::StandardNormal;
use serde_json::Value;
use vae_workshop::features::{BandSums, Contents, FeatureConfig, FeatureFile, FeatureMeta, Features, VERSION};
use vae_workshop::metrics::latents::density::{active, divergences, in_use};
use vae_workshop::metrics::latents::scores::{Factors, score};
use vae_workshop::random;

use crate::env::{succeed, text};

const FRAMES: usize = 8;
const BANDS: usize = 16;

/// A feature file of two blocks: the factors are what the lower half of the bands and the upper half are raised by, in noise of
/// one nat.
fn write(path: &Path, factors: [f64; 2], rng: &mut ChaCha8Rng) {
    let config = FeatureConfig { n_filterbank: BANDS, ..FeatureConfig::default() };
    let logmel = Array2::from_shape_simple_fn((FRAMES, BANDS), || rng.sample::<f32, _>(StandardNormal) - 5.0)
        + &Array1::from_shape_fn(BANDS, |band| factors[2 * band / BANDS] as f32);
    let samples = (FRAMES * config.hop_size) as u64;
    let meta = FeatureMeta {
        source_rate: config.sample_rate,
        source_samples: samples,
        trim_start: 0,
        trim_end: samples,
        gain: 1.0,
        frames: FRAMES as u64,
        bands: BandSums::of(&logmel),
        version: VERSION,
        config,
    };
    let features = Features { au: Vec::new(), logspec: Array2::zeros((0, 0)), logmel, meta };
    FeatureFile::write_contents(path, &features, Contents::LOGMEL).unwrap();
}

#[test]
fn of_factors_that_move_the_data_at_right_angles_and_unlike_far_each_has_a_latent_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let place = |name: &str| folder.path().join(name);
    let mut rng = random::stream(1, "control", 0);
    let mut rows = String::from("file,low,high\n");
    for (part, files) in [("train", 600), ("test", 1000)] {
        fs::create_dir(place(part)).unwrap();
        for number in 0..files {
            let factors = [4.0, 2.0].map(|most| rng.random_range(-most..most));
            write(&place(part).join(format!("{number}.feat.npz")), factors, &mut rng);
            rows += &format!("{part}/{number},{},{}\n", factors[0], factors[1]);
        }
    }
    let (run, table) = (place("run"), place("factors.csv"));
    fs::write(&table, rows).unwrap();
    let (train, test) = (place("train"), place("test"));
    let network = "--segment-frames 4 --channels 8,8,8 --hidden 32 --latents 4 --beta 4";
    let recipe = "--batch-size 32 --learning-rate 3e-3 --steps 2500 --seed 2 --device cpu";
    let flags: Vec<&str> = [network, recipe].iter().flat_map(|flags| flags.split(' ')).collect();
    succeed("train-vae", &[&[text(&run), text(&train), text(&test)], &flags[..]].concat());
    let flags = ["--factors", text(&table), "--samples", "0", "--device", "cpu", "--json", "-"];
    let said = succeed("evaluate", &[&["latents", "--vae", text(&run), text(&test)], &flags[..]].concat());
    let report: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(report["active"], 2, "of four latents");
    let explained: Vec<Vec<f64>> = (0..2)
        .map(|factor| {
            serde_json::from_value(report["scores"]["factors"][factor]["squared_correlation"].clone()).unwrap()
        })
        .collect();
    let homes: Vec<usize> =
        explained.iter().map(|each| (0..4).max_by(|&i, &j| each[i].total_cmp(&each[j])).unwrap()).collect();
    assert_ne!(homes[0], homes[1], "{explained:?}");
    for (factor, each) in explained.iter().enumerate() {
        assert!(each[homes[factor]] > 0.85 && each[homes[1 - factor]] < 0.05, "{explained:?}");
    }
    // What a nat of noise leaves of the weaker factor, in 20 bins, is a half.
    assert!(report["scores"]["mig"].as_f64().unwrap() > 0.4, "{}", report["scores"]);
    assert!(report["total_correlation"].as_f64().unwrap() < 0.05, "{}", report["total_correlation"]);
}

#[test]
fn a_latent_that_samples_drown_is_no_second_home_of_a_factor() {
    let mut rng = random::stream(2, "control", 0);
    let factors = Array2::from_shape_simple_fn((2000, 2), || rng.random_range(-1.0..1.0));
    // The third latent's mean is a copy of the first factor, a hundredth of what its samples scatter by.
    let mean = concatenate![Axis(1), factors, factors.slice(ndarray::s![.., ..1]).mapv(|value| 0.01 * value)];
    let scale = Array2::ones((2000, 1)) * &array![0.05, 0.05, 1.0];
    let in_order = active(&divergences(mean.view(), scale.view()));
    assert_eq!(in_order, [0, 1]);
    let codes = in_use(mean.view(), &in_order);
    assert!(codes.column(2).iter().all(|&value| value == 0.0) && codes.column(1) == mean.column(1));
    let folds: Vec<usize> = (0..2000).map(|row| row % 5).collect();
    let names = ["low", "high"].map(String::from).to_vec();
    let factors = Factors { names, values: factors };
    let scored = |codes: &Array2<f64>| score(codes.view(), &folds, &factors, 2, 0);
    let (alone, all) = (scored(&codes), scored(&mean));
    // 2000 segments in 400 cells: 19² / 4000 nats of ln 20 come from the bins.
    assert!(alone.factors.iter().all(|factor| factor.mig.unwrap() > 0.95 && factor.sap.unwrap() > 0.95), "{alone:?}");
    assert!(all.factors[0].mig.unwrap() < 0.01, "so it would be: {all:?}");
}
