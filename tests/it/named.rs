//! Latents with names: how codes move by what was found, and `evaluate latents --name`, `synth edit --pitch`, `synth attribute`.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use ndarray::{Array1, Array2, ArrayView1, Axis, array, concatenate, s};
use rand::Rng;
use rand_distr::StandardNormal;
use serde_json::Value;
use tempfile::TempDir;
use vae_workshop::audio::Waveform;
use vae_workshop::explorer::names_of;
use vae_workshop::features::{FeatureConfig, FeatureExtractor};
use vae_workshop::metrics::latents::ridge::Ridge;
use vae_workshop::random;
use vae_workshop::synth::{Codes, Quality, Slope, steer};

use crate::env::{fail, lasting_folder, succeed, text};
use crate::pipeline::{files, runs};

fn normal(rows: usize, columns: usize, seed: u64) -> Array2<f64> {
    let values: Vec<f64> = random::stream(seed, "named", 0).sample_iter(StandardNormal).take(rows * columns).collect();
    Array2::from_shape_vec((rows, columns), values).unwrap()
}

fn slope(quality: Quality, weights: &[f64], r2: f64) -> Slope {
    Slope { quality, weights: weights.to_vec(), r2 }
}

fn near(found: &Array1<f64>, wanted: &[f64]) {
    assert!(
        found.iter().zip(wanted).all(|(a, b)| (a - b).abs() < 1e-12) && found.len() == wanted.len(),
        "{found} {wanted:?}"
    );
}

#[test]
fn of_latents_alike_the_move_is_the_shortest_one_that_does_what_is_asked_and_holds_the_rest() {
    let alike = Array2::eye(3);
    let steer = |slopes: &[Slope], asked: &[(Quality, f64)]| steer(slopes, alike.view(), asked);
    use Quality::{Loudness, Pitch, Tilt, Voicing};
    let pitch = slope(Pitch, &[2.0, 0.0, 0.0], 0.9);
    near(&steer(std::slice::from_ref(&pitch), &[(Pitch, 3.0)]).unwrap().by, &[1.5, 0.0, 0.0]);
    // What goes along is held by going back in another latent.
    let loudness = slope(Loudness, &[1.0, 1.0, 0.0], 0.9);
    let both = [pitch.clone(), loudness.clone()];
    let held = steer(&both, &[(Pitch, 3.0)]).unwrap();
    near(&held.by, &[1.5, -1.5, 0.0]);
    assert_eq!(held.held, [Loudness]);
    // Both asked: the same place whatever the order.
    near(&steer(&both, &[(Pitch, 2.0), (Loudness, -3.0)]).unwrap().by, &[1.0, -4.0, 0.0]);
    near(&steer(&both, &[(Loudness, -3.0), (Pitch, 2.0)]).unwrap().by, &[1.0, -4.0, 0.0]);
    // What would lead far away, or is not evident, is let go; what is better known is held first.
    let far = [pitch.clone(), slope(Tilt, &[1.0, 0.1, 0.0], 0.9), slope(Voicing, &[0.0, 0.0, 1.0], 0.5)];
    let found = steer(&far, &[(Pitch, 3.0)]).unwrap();
    near(&found.by, &[1.5, 0.0, 0.0]);
    assert_eq!(found.held, [Voicing]);
    assert_eq!(steer(&[pitch.clone(), slope(Loudness, &[1.0, 1.0, 0.0], 0.29)], &[(Pitch, 3.0)]).unwrap().held, []);
    // One direction twice, and none.
    let one = [pitch.clone(), slope(Loudness, &[-4.0, 0.0, 0.0], 0.9)];
    let said = steer(&one, &[(Pitch, 1.0), (Loudness, 1.0)]).unwrap_err().to_string();
    assert!(said.contains("--pitch, --loudness: to this VAE they are one"), "{said}");
    let said = steer(&[slope(Tilt, &[0.0; 3], 0.0)], &[(Tilt, 1.0)]).unwrap_err().to_string();
    assert!(said.contains("--tilt: no latent"), "{said}");
}

#[test]
fn of_any_slopes_and_codes_the_move_is_the_likeliest() {
    let weights = normal(2, 8, 1);
    let (w, v) = (weights.row(0), weights.row(1));
    let slopes = [slope(Quality::Pitch, w.as_slice().unwrap(), 1.0), slope(Quality::Tilt, v.as_slice().unwrap(), 1.0)];
    let codes = normal(20, 8, 5);
    for covariance in [Array2::eye(8), codes.t().dot(&codes) / 20.0] {
        let found = steer(&slopes, covariance.view(), &[(Quality::Pitch, 2.0), (Quality::Tilt, -1.0)]).unwrap();
        // d = C Wᵀ (W C Wᵀ)⁻¹ t, the inverse of two by two written out; of the identity the pseudo-inverse.
        let (cw, cv) = (covariance.dot(&w), covariance.dot(&v));
        let (ww, wv, vv) = (w.dot(&cw), w.dot(&cv), v.dot(&cv));
        let determinant = ww * vv - wv * wv;
        let (a, b) = ((2.0 * vv + wv) / determinant, (-ww - 2.0 * wv) / determinant);
        near(&found.by, (cw * a + cv * b).as_slice().unwrap());
        // dᵀ C⁻¹ d is tᵀ (W C Wᵀ)⁻¹ t.
        assert!((found.far - (2.0 * a - b).sqrt()).abs() < 1e-12, "{}", found.far);
    }
    // A latent that codes never move in has no part in it, whatever its weight; one of a wide latent is likelier than that of a narrow.
    let covariance = Array2::from_diag(&array![4.0, 1.0, 0.0]);
    let pitch = [slope(Quality::Pitch, &[1.0, 1.0, 5.0], 1.0)];
    near(&steer(&pitch, covariance.view(), &[(Quality::Pitch, 5.0)]).unwrap().by, &[4.0, 1.0, 0.0]);
    let unmoved = [slope(Quality::Pitch, &[0.0, 0.0, 5.0], 1.0)];
    assert!(steer(&unmoved, covariance.view(), &[(Quality::Pitch, 1.0)]).is_err());
}

#[test]
fn ridge_shrinks_independent_columns_and_meets_its_normal_equations_for_others() {
    // Columns of a Hadamard matrix: orthogonal, of mean 0 and mean square 1.
    let x = Array2::from_shape_fn((8, 3), |(row, column)| 1.0 - 2.0 * (row >> column & 1) as f64);
    let y = x.dot(&array![0.8, -0.3, 0.05]) + 4.0;
    let found = Ridge::fit((&x + 2.0).view(), y.view(), 0.25);
    near(&found.weights, &[0.64, -0.24, 0.04]);
    assert!((found.at_zero - (4.0 - 2.0 * 0.44)).abs() < 1e-12, "{}", found.at_zero);
    // A fifth of every weight is missing, a twenty-fifth of the variance; a mean alone explains nothing.
    assert!((found.r2((&x + 2.0).view(), y.view()).unwrap() - 0.96).abs() < 1e-12);
    assert_eq!(found.r2(x.view(), Array1::ones(8).view()), None);
    let free = normal(60, 6, 2);
    let x = &free + &(&free.column(0) * 2.0).insert_axis(Axis(1));
    let y = x.dot(&array![1.0, 0.0, -2.0, 0.0, 0.0, 0.5]) + normal(60, 1, 3).column(0);
    let found = Ridge::fit(x.view(), y.view(), 0.1).weights;
    let (x, y) = (&x - &x.mean_axis(Axis(0)).unwrap(), &y - y.mean().unwrap());
    let left = x.t().dot(&(&y - &x.dot(&found))) / 60.0 - &found * 0.1;
    assert!(left.iter().all(|left| left.abs() < 1e-12), "{left}");
    // A latent that hardly moves is no way to move anything, however well it goes along.
    let x = concatenate![Axis(1), x.slice(s![.., ..1]).mapv(|x| x * 1e-3), normal(60, 1, 4)];
    let found = Ridge::fit(x.view(), free.column(0), 0.01).weights;
    assert!(found[0].abs() < 1.0, "{found}");
}

/// Segments as loud as they were made, and two runs on them, the first one with names.
struct Named {
    _folder: TempDir,
    features: PathBuf,
    vae: PathBuf,
    other: PathBuf,
    said: String,
}

impl Named {
    fn found(&self) -> Value {
        serde_json::from_slice(&fs::read(self.vae.join("latents.json")).unwrap()).unwrap()
    }

    fn input(&self) -> PathBuf {
        files(&self.features.join("test"), "npz").remove(0)
    }

    /// The sound of IN as `synth COMMAND MORE` makes it, and what it says.
    fn make(&self, command: &str, more: &[&str], folder: &Path) -> (Vec<u8>, String) {
        self.make_of(&self.input(), command, more, folder)
    }

    fn make_of(&self, input: &Path, command: &str, more: &[&str], folder: &Path) -> (Vec<u8>, String) {
        let out = folder.join("out.wav");
        let first = [command, "--device", "cpu", "--iterations", "5", "--vae", text(&self.vae)];
        let said = succeed("synth", &[&first[..], more, &[text(input), text(&out)]].concat());
        (fs::read(&out).unwrap(), said)
    }
}

fn named() -> &'static Named {
    static NAMED: OnceLock<Named> = OnceLock::new();
    NAMED.get_or_init(|| {
        let folder = lasting_folder();
        let [corpus, features, vae, other] =
            ["corpus", "features", "vae", "other"].map(|name| folder.path().join(name));
        let size = ["--factors", "--segments", "300", "--test-fraction", "0.5"];
        succeed("make-corpus", &[&[text(&corpus)], &size[..]].concat());
        succeed("extract-features", &[text(&corpus), text(&features), "--no-normalize"]);
        let (train, test) = (features.join("train"), features.join("test"));
        let sizes = ["--preset", "tiny", "--latents", "6", "--learning-rate", "3e-3", "--beta", "1", "--device", "cpu"];
        for (run, steps) in [(&vae, "500"), (&other, "10")] {
            succeed("train-vae", &[&[text(run), text(&train), text(&test), "--steps", steps], &sizes[..]].concat());
        }
        let codes = folder.path().join("codes.npz");
        let flags =
            ["latents", "--device", "cpu", "--samples", "0", "--name", "--codes", text(&codes), "--vae", text(&vae)];
        let said = succeed("evaluate", &[&flags[..], &[text(&test)]].concat());
        Named { features, vae, other, said, _folder: folder }
    })
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("{value} is no number"))
}

/// The number between `before` and the next space.
fn told(said: &str, before: &str) -> f64 {
    let rest = said.split(before).nth(1).unwrap_or_else(|| panic!("no {before} in {said}"));
    rest.split([' ', '\n']).next().unwrap().parse().unwrap()
}

#[test]
fn names_and_slopes_are_what_the_codes_say() {
    let named = named();
    let found = named.found();
    let mut npz = ndarray_npy::NpzReader::new(fs::File::open(named.vae.with_file_name("codes.npz")).unwrap()).unwrap();
    let (codes, factors): (Array2<f64>, Array2<f64>) = (npz.by_name("mean").unwrap(), npz.by_name("factors").unwrap());
    assert_eq!((found["segments"].as_u64().unwrap() as usize, found["step"].as_u64()), (codes.nrows(), Some(500)));
    let slopes = found["slopes"].as_array().unwrap();
    let qualities: Vec<&str> = slopes.iter().map(|slope| slope["quality"].as_str().unwrap()).collect();
    assert_eq!(qualities, ["pitch", "voicing", "loudness", "tilt"], "in the order of the factors");
    // That tilt, which such a VAE learns first, is predicted is computed anew here, in one part without shrinking.
    let weights: Array1<f64> = slopes[3]["weights"].as_array().unwrap().iter().map(number).collect();
    let centred = |values: Array1<f64>| &values - values.mean().unwrap();
    for (latent, row) in found["covariance"].as_array().unwrap().iter().enumerate() {
        for (other, value) in row.as_array().unwrap().iter().enumerate() {
            let [one, two] = [latent, other].map(|latent| centred(codes.column(latent).to_owned()));
            assert!((number(value) - one.dot(&two) / codes.nrows() as f64).abs() < 1e-9, "{latent}, {other}");
        }
    }
    let (is, predicted) = (centred(factors.column(3).to_owned()), centred(codes.dot(&weights)));
    let missed = &is - &predicted;
    let r2 = 1.0 - missed.dot(&missed) / is.dot(&is);
    assert!(r2 > 0.8 && (r2 - number(&slopes[3]["r2"])).abs() < 0.1, "{r2} {}", slopes[3]);
    // Names: the best of all factors, along one line through the segments that have it.
    let names = found["names"].as_array().unwrap();
    let heard = [
        ("pitch", "st", 12.0 / 2f64.ln()),
        ("voicing", "", 1.0),
        ("loudness", "dB", 10.0 / 10f64.ln()),
        ("tilt", "dB/octave", 1.0),
        ("centroid", "Hz", 1.0),
    ];
    assert!(!names.is_empty());
    for name in names {
        let latent = codes.column(name["latent"].as_u64().unwrap() as usize);
        let along = |column: usize| {
            let rows: Vec<usize> = (0..codes.nrows()).filter(|&row| !factors[[row, column]].is_nan()).collect();
            let of = |values: ArrayView1<f64>| centred(values.select(Axis(0), &rows));
            let (x, y) = (of(latent), of(factors.column(column)));
            let product = x.dot(&y);
            (product / x.dot(&x), product * product / (x.dot(&x) * y.dot(&y)))
        };
        let column = heard.iter().position(|(heard, ..)| name["name"] == *heard).expect("a factor that is heard");
        let (_, unit, scale) = heard[column];
        let (slope, r2) = along(column);
        assert!((number(&name["per_unit"]) / (scale * slope) - 1.0).abs() < 1e-9 && name["unit"] == unit, "{name}");
        assert!((number(&name["r2"]) - r2).abs() < 1e-9 && r2 >= 0.3, "{name} {r2}");
        assert!((0..5).all(|other| along(other).1 <= r2 + 1e-9), "{name}");
    }
    // Shown where they are made, where a run is looked at, and for a page.
    let (first, r2) = (&names[0], number(&names[0]["r2"]));
    let line = format!("z{}: {}, R2 {r2:.2}, about ", first["latent"], first["name"].as_str().unwrap());
    let inspected = succeed("synth", &["inspect", text(&named.vae)]);
    for said in [&named.said, &inspected] {
        assert!(said.contains(&line) && said.contains(" per unit") && said.contains("tell (R2): pitch "), "{said}");
    }
    let sliders = names_of(&named.vae);
    assert_eq!(sliders.len(), names.len());
    for (slider, name) in sliders.iter().zip(names) {
        assert_eq!(
            (slider.name.as_str(), slider.unit.as_str()),
            (name["name"].as_str().unwrap(), name["unit"].as_str().unwrap())
        );
        assert_eq!(
            (slider.latent as u64, slider.per_unit),
            (name["latent"].as_u64().unwrap(), number(&name["per_unit"]))
        );
    }
    assert!(
        names_of(&named.other).is_empty() && !succeed("synth", &["inspect", text(&named.other)]).contains("latents  ")
    );
}

#[test]
fn a_table_gives_names_and_what_is_heard_still_the_slopes() {
    let named = named();
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    copy(&named.vae, &run);
    let (table, test) = (named.features.with_file_name("corpus").join("factors.csv"), named.features.join("test"));
    let step = run.join("step-00000500");
    let flags = ["latents", "--device", "cpu", "--samples", "0", "--json", "-", "--name", "--factors", text(&table)];
    let json = succeed("evaluate", &[&flags[..], &["--vae", text(&step), text(&test)]].concat());
    serde_json::from_str::<Value>(&json).expect("nothing but JSON");
    let found: Value = serde_json::from_slice(&fs::read(run.join("latents.json")).unwrap()).unwrap();
    assert_eq!((&found["slopes"], &found["vae"]), (&named.found()["slopes"], &named.found()["vae"]));
    let header = fs::read_to_string(&table).unwrap().lines().next().unwrap().to_string();
    let names = found["names"].as_array().unwrap();
    assert!(!names.is_empty());
    for name in names {
        let (name, unit) = (name["name"].as_str().unwrap(), name["unit"].as_str().unwrap());
        let column = if unit.is_empty() { name.to_string() } else { format!("{name}_{}", unit.to_lowercase()) };
        assert!(header.split(',').any(|cell| cell == column), "{column} of {header}");
    }
    assert!(!step.join("latents.json").exists(), "a checkpoint is as it was saved");
}

#[test]
fn a_page_has_the_scores_of_its_run_and_names_those_of_another_model() {
    let named = named();
    let folder = tempfile::tempdir().unwrap();
    let page = |runs: &[&Path]| {
        let out = folder.path().join("page.html");
        let runs: Vec<&str> = runs.iter().map(|run| text(run)).collect();
        succeed("evaluate", &[&["report", "--device", "cpu", "-o", text(&out)], &runs[..]].concat());
        fs::read_to_string(&out).unwrap()
    };
    let cell = |html: &str, name: &str| -> f64 {
        let row = format!("<th scope=\"row\">{name}</th><td>");
        let rest = html.split(&row).nth(1).unwrap_or_else(|| panic!("no {name}"));
        rest.split("</td>").next().unwrap().replace('\u{2212}', "-").replace('\u{202f}', "").parse().unwrap()
    };
    let found = named.found();
    let scores = found["scores"].as_array().unwrap();
    let mig = named.said.lines().find_map(|line| line.strip_prefix("MIG")).unwrap().trim().parse::<f64>().unwrap();
    assert_eq!(scores[0][0], "MIG");
    assert!((scores[0][1].as_f64().unwrap() - mig).abs() <= 0.0005, "the table's, {mig}");
    let html = page(&[&named.vae]);
    let known: Vec<_> =
        scores.iter().filter_map(|score| Some((score[0].as_str().unwrap(), score[1].as_f64()?))).collect();
    assert!(known.len() >= 8, "{known:?}");
    for (name, value) in known {
        let shown = cell(&html, name);
        assert!((shown - value).abs() <= 1e-3 * value.abs(), "{name}: {shown} {value}");
    }
    assert_eq!(html.matches("<h3>Measures</h3>").count(), 1);
    for name in found["names"].as_array().unwrap() {
        assert!(html.contains(&format!("<li>z{}: {}, R2 ", name["latent"], name["name"].as_str().unwrap())), "{name}");
    }
    let (other, bare) = (folder.path().join("other"), folder.path().join("bare"));
    copy(&named.other, &other);
    copy(&named.other, &bare);
    fs::copy(named.vae.join("latents.json"), other.join("latents.json")).unwrap();
    let html = page(&[&named.vae, &other, &bare]);
    let row = html.split("<th scope=\"row\">latents against</th>").nth(1).unwrap().split("</tr>").next().unwrap();
    let cells: Vec<&str> = row.split("<td>").skip(1).collect();
    assert!(cells[0].starts_with("audio, in ") && cells[1].contains("is of another model"), "{row}");
    assert_eq!(cells[2], "none yet</td>", "nobody measured that one");
    assert_eq!(html.matches("<h3>Measures</h3>").count(), 2);
}

/// Loudness in decibels, written out.
fn loudness(sound: &[u8]) -> f64 {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sound.wav");
    fs::write(&path, sound).unwrap();
    let config = FeatureConfig { trim_silence_db: None, normalize: false, ..FeatureConfig::default() };
    let logmel = FeatureExtractor::new(config).unwrap().extract(&Waveform::read(&path).unwrap()).unwrap().logmel;
    10.0 * (logmel.mapv(|value| f64::from(value).exp()).sum() / logmel.nrows() as f64).log10()
}

#[test]
fn loudness_goes_where_it_is_asked_to_and_what_came_of_it_is_told() {
    let named = named();
    let folder = tempfile::tempdir().unwrap();
    for asked in ["-6dB", "+6dB"] {
        let sign = if asked.starts_with('-') { -1.0 } else { 1.0 };
        let mut most = 0.0f64;
        for input in &files(&named.features.join("test"), "npz")[..4] {
            let (plain, _) = named.make_of(input, "reconstruct", &[], folder.path());
            let (sound, said) = named.make_of(input, "edit", &["--loudness", asked], folder.path());
            let by = told(&said, &format!("loudness: asked {}6.00 dB, got ", &asked[..1]));
            assert!((by - (loudness(&sound) - loudness(&plain))).abs() < 0.02, "{said}");
            // A VAE that has hardly learned anything does not follow for each sound, but never goes the other way.
            assert!(by * sign >= 0.0, "{said}");
            most = most.max(by * sign);
            assert_eq!(by == 0.0, said.contains("  codes not moved: none of "), "{said}");
            assert!(by == 0.0 || said.contains("  codes moved by ") && said.contains(" of their deviations"), "{said}");
            for other in ["pitch", "tilt", "voicing"] {
                assert!(
                    said.contains(&format!("  {other}: to be held")) || said.contains(&format!("  {other}: left free")),
                    "{said}"
                );
            }
        }
        assert!(most > 4.0, "{asked}: {most}");
    }
    let (_, said) = named.make("edit", &["--loudness", "-6dB", "--tilt=+2dB", "--add", "0=0.1"], folder.path());
    assert!(
        said.contains("loudness: asked -6.00 dB, got ") && said.contains("tilt: asked +2.00 dB/octave, got "),
        "{said}"
    );
}

#[test]
fn latents_that_are_set_keep_their_value_beside_what_is_asked() {
    let named = named();
    let folder = tempfile::tempdir().unwrap();
    let values: Vec<String> = (0..6).map(|latent| format!("{latent}=0.5")).collect();
    let set: Vec<&str> = values.iter().flat_map(|value| ["--set", value]).collect();
    let (alone, _) = named.make("edit", &set, folder.path());
    let (with, said) = named.make("edit", &[&set[..], &["--loudness", "+3dB"]].concat(), folder.path());
    assert!(alone == with && said.contains("loudness: asked +3.00 dB, got +0.00 dB"), "{said}");
}

#[test]
fn what_cannot_be_asked_for_is_refused_in_one_line() {
    let named = named();
    let folder = tempfile::tempdir().unwrap();
    let (input, out) = (named.input(), folder.path().join("out.wav"));
    let refused = |vae: &Path, flags: &[&str], wanted: &str| {
        let first = ["edit", "--device", "cpu", "--vae", text(vae)];
        let said = fail("synth", &[&first[..], flags, &[text(&input), text(&out)]].concat());
        assert!(said.contains(wanted) && said.lines().count() == 1 && !out.exists(), "{wanted}: {said}");
    };
    refused(&named.vae, &[], "nothing to change");
    refused(
        &named.vae,
        &["--pitch", "+20Hz"],
        "--pitch +20Hz: give semitones as +2st; so many Hz are another interval",
    );
    refused(&named.vae, &["--pitch", "+2"], "--pitch +2: give semitones as +2st");
    refused(&named.vae, &["--pitch", "highst"], "--pitch highst: give semitones");
    refused(&named.vae, &["--pitch", "infst"], "--pitch infst: give semitones");
    refused(&named.vae, &["--pitch", "--loudness"], "--pitch --loudness: give semitones");
    refused(&named.vae, &["--pitch", "+99st"], "--pitch +99st: the value");
    refused(&named.vae, &["--loudness", "-3db"], "--loudness -3db: give decibels as -3dB");
    refused(&named.vae, &["--tilt", "2"], "give decibels an octave as +2dB");
    refused(&named.vae, &["--voicing", "20%"], "--voicing 20%: give a share of the frames as +0.2");
    refused(&named.vae, &["--voicing", ""], "give a share of the frames");
    refused(&named.vae, &["--loudness", "-3dB", "--peak", "0.5"], "--peak sets the level that --loudness moves");
    let (_, bare, _) = runs();
    let command = format!("`evaluate latents --vae {} FEATURES --name`", named.other.display());
    refused(&named.other, &["--pitch", "+2st"], &command);
    assert!(!bare.join("latents.json").exists());
    // Of another model, damaged, and of features without sound.
    let run = folder.path().join("run");
    copy(&named.other, &run);
    let file = run.join("latents.json");
    fs::copy(named.vae.join("latents.json"), &file).unwrap();
    refused(&run, &["--pitch", "+2st"], "latents.json: is of another model (step 500 of its run) than that of ");
    assert!(succeed("synth", &["inspect", text(&run)]).contains("is of another model"));
    assert!(names_of(&run).is_empty());
    copy(&named.vae, &run.with_file_name("again"));
    let run = run.with_file_name("again");
    let file = run.join("latents.json");
    let whole = fs::read_to_string(&file).unwrap();
    fs::write(&file, &whole[..whole.len() / 2]).unwrap();
    refused(&run, &["--pitch", "+2st"], "latents.json: does not say what latents mean: ");
    let mut found = named.found();
    found["slopes"][0]["weights"].as_array_mut().unwrap().pop();
    fs::write(&file, found.to_string()).unwrap();
    refused(&run, &["--tilt", "+2dB"], "pitch has 5 weights, the VAE 6 latents");
    found["slopes"].as_array_mut().unwrap().remove(0);
    found["covariance"].as_array_mut().unwrap().pop();
    fs::write(&file, found.to_string()).unwrap();
    refused(&run, &["--tilt", "+2dB"], "has a covariance of 5 rows, the VAE 6 latents");
    found["covariance"] = named.found()["covariance"].clone();
    fs::write(&file, found.to_string()).unwrap();
    refused(&run, &["--pitch", "+2st"], "tell no pitch");
}

#[test]
fn an_attribute_is_the_difference_of_two_means_as_often_as_is_asked() {
    let named = named();
    let folder = tempfile::tempdir().unwrap();
    let [a, b, codes] = ["a", "b", "codes"].map(|name| folder.path().join(name));
    for (index, file) in files(&named.features.join("test"), "npz").into_iter().take(7).enumerate() {
        let into = if index < 3 { &a } else { &b };
        fs::create_dir_all(into).unwrap();
        fs::copy(&file, into.join(file.file_name().unwrap())).unwrap();
    }
    let (plain, _) = named.make("reconstruct", &[], folder.path());
    let (same, said) = named.make("attribute", &["--from", text(&a), "--to", text(&a)], folder.path());
    assert!(plain == same && said.contains("0.00 apart"), "{said}");
    let ends = ["--from", text(&a), "--to", text(&b)];
    let (none, _) = named.make("attribute", &[&ends[..], &["--amount", "0"]].concat(), folder.path());
    assert!(plain == none);
    // The same by hand, with codes files.
    let encode = |input: &Path, name: &str| {
        let out = codes.join(name);
        succeed("synth", &["encode", "--device", "cpu", "--vae", text(&named.vae), text(input), text(&out)]);
        out
    };
    let mean = |sounds: &Path, name: &str| {
        let all: Vec<Codes> =
            files(&encode(sounds, name), "npz").iter().map(|file| Codes::read(file).unwrap()).collect();
        let rows: Vec<_> = all.iter().map(|codes| codes.mean.mapv(f64::from)).collect();
        let views: Vec<_> = rows.iter().map(|rows| rows.view()).collect();
        concatenate(Axis(0), &views).unwrap().mean_axis(Axis(0)).unwrap()
    };
    let way = mean(&b, "b") - mean(&a, "a");
    let mut sounds = vec![plain];
    for amount in ["-1.5", "2"] {
        let by = way.mapv(|by| (by * amount.parse::<f64>().unwrap()) as f32);
        let file = encode(&named.input(), "input.npz");
        let mut moved = Codes::read(&file).unwrap();
        moved.mean += &by;
        moved.write(&file).unwrap();
        let wanted = folder.path().join("wanted.wav");
        let flags = ["decode", "--device", "cpu", "--iterations", "5", "--vae", text(&named.vae)];
        succeed("synth", &[&flags[..], &[text(&file), text(&wanted)]].concat());
        let (made, said) = named.make("attribute", &[&ends[..], &["--amount", amount]].concat(), folder.path());
        let apart = way.dot(&way).sqrt();
        assert!(said.contains(&format!("the mean codes are {apart:.2} apart")), "{said}");
        assert!(fs::read(&wanted).unwrap() == made && !sounds.contains(&made), "{amount}");
        sounds.push(made);
    }
    let (input, out) = (named.input(), folder.path().join("none.wav"));
    let refused = |more: &[&str], wanted: &str| {
        let first = ["attribute", "--device", "cpu", "--vae", text(&named.vae)];
        let said = fail("synth", &[&first[..], more, &[text(&input), text(&out)]].concat());
        assert!(said.contains(wanted) && said.lines().count() == 1 && !out.exists(), "{wanted}: {said}");
    };
    let empty = folder.path().join("empty");
    fs::create_dir(&empty).unwrap();
    refused(&["--from", text(&empty), "--to", text(&b)], "empty: holds no .wav");
    refused(&["--from", text(&a), "--to", text(&folder.path().join("gone"))], "gone: No such file");
    refused(&[&ends[..], &["--amount", "1000"]].concat(), "--amount 1000");
    // What is read is not written to.
    let kept = files(&b, "npz");
    let first = ["attribute", "--device", "cpu", "--vae", text(&named.vae), "--overwrite"];
    let out = b.join("new.wav");
    let said = fail("synth", &[&first[..], &ends[..], &[text(&input), text(&out)]].concat());
    assert!(said.contains("give another OUT") && said.lines().count() == 1, "{said}");
    let said = fail("synth", &[&first[..], &ends[..], &[text(&a), text(&b)]].concat());
    assert!(said.contains("--to") && files(&b, "npz") == kept && files(&b, "wav").is_empty(), "{said}");
}

/// A folder with what is in it.
fn copy(from: &Path, to: &Path) {
    for entry in walkdir::WalkDir::new(from) {
        let entry = entry.unwrap();
        let target = to.join(entry.path().strip_prefix(from).unwrap());
        if entry.file_type().is_dir() {
            fs::create_dir_all(&target).unwrap();
        } else {
            fs::copy(entry.path(), &target).unwrap();
        }
    }
}
