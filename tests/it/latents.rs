//! `synth` with changed codes: edits, what lies between two sounds, walks through the prior, and inputs at the edge.

use std::fs;
use std::path::{Path, PathBuf};

use burn::tensor::Device;
use ndarray::{Array2, Axis, concatenate, s};
use tempfile::TempDir;
use vae_workshop::audio::Waveform;
use vae_workshop::features::{BandSums, FeatureConfig, FeatureFile, FeatureMeta, Features, VERSION};
use vae_workshop::synth::{Codes, VaeCodec};

use crate::env::{fail, fixture, run, succeed, text};
use crate::pipeline::{files, runs};

/// The toy VAE, its codes to sound the quickest way.
fn flags() -> [&'static str; 6] {
    ["--vae", text(&runs().1), "--device", "cpu", "--phase", "pghi"]
}

fn done(command: &str, arguments: &[&str]) -> String {
    succeed("synth", &[&[command], &flags()[..], arguments].concat())
}

/// What a command that must fail says, in one line.
fn refused(command: &str, arguments: &[&str]) -> String {
    let said = fail("synth", &[&[command], &flags()[..], arguments].concat());
    assert_eq!(said.lines().count(), 1, "{said}");
    said
}

/// Two recordings of the corpus, of different lengths.
fn pair() -> [PathBuf; 2] {
    let mut all: Vec<(usize, PathBuf)> = [&fixture().train, &fixture().test]
        .iter()
        .flat_map(|folder| files(folder, "npz"))
        .map(|path| (FeatureFile::read_meta(&path).unwrap().frames as usize, path))
        .collect();
    all.sort();
    let (longest, shortest) = (all.pop().unwrap(), all.swap_remove(0));
    assert!(shortest.0 < longest.0);
    [shortest.1, longest.1]
}

fn samples(path: &Path) -> Vec<f32> {
    Waveform::read(path).unwrap().samples
}

/// Height of a PNG in pixels, from its header.
fn height(png: &Path) -> u32 {
    u32::from_be_bytes(fs::read(png).unwrap()[20..24].try_into().unwrap())
}

/// A feature file of the toy models' configuration that holds these log-mels.
fn features_of(path: &Path, logmel: Array2<f32>) {
    let config = FeatureConfig::default();
    let (frames, bins) = (logmel.nrows(), config.n_fft / 2 + 1);
    let au = vec![0.0; (frames - 1) * config.hop_size];
    let clean = logmel.mapv(|value| if value.is_finite() { value } else { 0.0 });
    let meta = FeatureMeta {
        source_rate: config.sample_rate,
        source_samples: au.len() as u64,
        trim_start: 0,
        trim_end: au.len() as u64,
        gain: 0.5,
        frames: frames as u64,
        bands: BandSums::of(&clean),
        version: VERSION,
        config,
    };
    FeatureFile::write(path, &Features { au, logspec: Array2::zeros((frames, bins)), logmel, meta }).unwrap();
}

/// Log-mels of silence.
fn silence(frames: usize) -> Array2<f32> {
    Array2::from_elem((frames, 80), 1e-4f32.ln())
}

#[test]
fn an_interpolation_goes_from_the_one_reconstruction_to_the_other() {
    let folder = TempDir::new().unwrap();
    let [a, b] = pair();
    let ends = ["a.wav", "b.wav"].map(|name| folder.path().join(name));
    for (input, end) in [&a, &b].into_iter().zip(&ends) {
        done("reconstruct", &[text(input), text(end)]);
    }
    for method in ["linear", "slerp"] {
        let out = folder.path().join(method);
        let arguments = ["--method", method, "--steps", "4", "--png", text(&a), text(&b), text(&out)];
        let said = done("interpolate", &arguments);
        let sounds = files(&out, "wav");
        let names: Vec<&str> = sounds.iter().map(|path| path.file_name().unwrap().to_str().unwrap()).collect();
        let parts = ["000_0.000", "001_0.333", "002_0.667", "003_1.000"];
        assert_eq!(names, parts.map(|part| format!("interpolation_{part}.wav")));
        assert_eq!(said.lines().count(), 4, "{said}");
        assert_eq!(fs::read(&sounds[0]).unwrap(), fs::read(&ends[0]).unwrap());
        assert_eq!(fs::read(&sounds[3]).unwrap(), fs::read(&ends[1]).unwrap());
        let lengths: Vec<usize> = sounds.iter().map(|path| samples(path).len()).collect();
        assert!(lengths.is_sorted(), "{lengths:?}");
        // Both inputs, what was decoded, what sounds.
        assert!(files(&out, "png").iter().all(|png| height(png) == 4 * 240 + 3 * 6));
        assert!(refused("interpolate", &arguments).contains("--overwrite"));
        done("interpolate", &[&["--overwrite"], &arguments[..]].concat());
    }
    assert_ne!(
        fs::read(folder.path().join("linear/interpolation_001_0.333.wav")).unwrap(),
        fs::read(folder.path().join("slerp/interpolation_001_0.333.wav")).unwrap()
    );
}

#[test]
fn a_morph_is_as_long_as_the_longer_sound_whichever_comes_first() {
    let folder = TempDir::new().unwrap();
    let [a, b] = pair();
    let place = |name: &str| folder.path().join(name);
    done("reconstruct", &[text(&b), text(&place("b.wav"))]);
    for (from, to, name) in [(&a, &b, "there.wav"), (&b, &a, "back.wav")] {
        done("morph", &["--png", text(from), text(to), text(&place(name))]);
        assert_eq!(samples(&place(name)).len(), samples(&place("b.wav")).len());
        assert_eq!(height(&place(name).with_extension("png")), 4 * 240 + 3 * 6);
    }
    assert_ne!(samples(&place("there.wav")), samples(&place("back.wav")));
}

#[test]
fn an_edit_is_what_the_same_edit_of_a_codes_file_gives() {
    let folder = TempDir::new().unwrap();
    let place = |name: &str| folder.path().join(name);
    let [_, input] = pair();
    done("edit", &["--set", "5=2", "--add", "7=-1", "--add", "0=.5", text(&input), text(&place("edited.wav"))]);
    let codes = place("codes.npz");
    succeed("synth", &["encode", "--vae", text(&runs().1), "--device", "cpu", text(&input), text(&codes)]);
    let mut by_hand = Codes::read(&codes).unwrap();
    by_hand.mean.column_mut(5).fill(2.0);
    by_hand.mean.column_mut(7).mapv_inplace(|value| value - 1.0);
    by_hand.mean.column_mut(0).mapv_inplace(|value| value + 0.5);
    by_hand.write(&codes).unwrap();
    done("decode", &[text(&codes), text(&place("decoded.wav"))]);
    let bytes = |name: &str| fs::read(place(name)).unwrap();
    assert_eq!(bytes("edited.wav"), bytes("decoded.wav"));
    done("edit", &["--add", "3=0", text(&input), text(&place("untouched.wav"))]);
    done("reconstruct", &[text(&input), text(&place("reconstructed.wav"))]);
    assert_eq!(bytes("untouched.wav"), bytes("reconstructed.wav"));
    assert_ne!(bytes("edited.wav"), bytes("reconstructed.wav"));
    // A folder, as everywhere.
    let corpus = fixture().corpus.join("test");
    let out = place("folder");
    let arguments = ["--set", "1=1", "--png", text(&corpus), text(&out)];
    done("edit", &arguments);
    assert_eq!(files(&out, "wav").len(), files(&corpus, "wav").len());
    assert!(files(&out, "png").iter().all(|png| height(png) == 3 * 240 + 2 * 6));
    assert!(refused("edit", &arguments).contains("--overwrite"));
}

#[test]
fn edits_that_cannot_be_meant_are_refused_by_flag() {
    let out = TempDir::new().unwrap();
    let (never, [input, _]) = (out.path().join("never.wav"), pair());
    let edit = |changes: &[&str]| refused("edit", &[changes, &[text(&input), text(&never)]].concat());
    assert!(edit(&[]).contains("--set K=VALUE"));
    for syntax in ["5", "5=", "=2", "five=2", "5=two", "5=1=2", "-1=2", ""] {
        let said = edit(&[&format!("--add={syntax}")]);
        assert!(said.contains("--add") && said.contains("K=VALUE") && said.contains("5=-1.5"), "{syntax}: {said}");
    }
    for value in ["nan", "inf", "-101", "1e30"] {
        let said = edit(&["--set", &format!("5={value}")]);
        assert!(said.contains("--set 5=") && said.contains("-100 to 100"), "{said}");
    }
    let said = edit(&["--set", "16=1"]);
    assert!(said.contains("--set") && said.contains("no latent 16") && said.contains("0 to 15"), "{said}");
    let said = edit(&["--set", "3=1", "--add", "2=1", "--add", "3=1"]);
    assert!(said.contains("latent 3") && said.contains("--set and --add"), "{said}");
    assert!(!never.exists());
}

#[test]
fn pairs_that_cannot_meet_are_refused_before_anything_is_written() {
    let folder = TempDir::new().unwrap();
    let place = |name: &str| folder.path().join(name);
    let (out, wav, [a, b]) = (place("out"), place("out.wav"), pair());
    let both = |one: &Path, other: &Path| {
        let said = refused("interpolate", &[text(one), text(other), text(&out)]);
        assert_eq!(refused("morph", &[text(one), text(other), text(&wav)]), said);
        said
    };
    let corpus = &fixture().corpus;
    assert!(both(&a, corpus).contains("is a folder"));
    assert!(both(&place("nowhere.wav"), &b).contains("nowhere.wav"));
    let other = place("other-features");
    succeed("extract-features", &[text(corpus), text(&other), "--n-fft", "512"]);
    let foreign = files(&other, "npz").remove(0);
    for (one, other) in [(&a, &foreign), (&foreign, &b)] {
        let said = both(one, other);
        assert!(said.contains("n_fft") && said.contains("512") && said.contains(text(&foreign)), "{said}");
    }
    features_of(&place("instant.feat.npz"), silence(1));
    assert!(both(&a, &place("instant.feat.npz")).contains("fewer than two frames"));
    for steps in ["0", "1", "1001"] {
        assert!(refused("interpolate", &["--steps", steps, text(&a), text(&b), text(&out)]).contains("2 to 1000"));
    }
    let inverter = text(&runs().2);
    for command in ["interpolate", "morph"] {
        let said = fail("synth", &[command, "--vae", inverter, text(&a), text(&b), text(&out.with_extension("wav"))]);
        assert!(said.contains("run of the inverter"), "{said}");
    }
    assert!(!out.exists() && !wav.exists());
    // Neither input is replaced, nor the sound taken for a folder.
    fs::copy(files(corpus, "wav").remove(0), &wav).unwrap();
    assert!(refused("morph", &[text(&a), text(&wav), text(&wav)]).contains("is an input"));
    assert!(refused("interpolate", &[text(&a), text(&b), text(&wav)]).contains("folder"));
    assert!(refused("morph", &[text(&a), text(&b), text(&place("out.ogg"))]).contains(".wav"));
}

#[test]
fn a_walk_through_the_prior_follows_the_seed_and_its_flags() {
    let folder = TempDir::new().unwrap();
    let out = folder.path().join("sample.wav");
    let sample = |more: &[&str]| {
        done("sample", &[more, &["--seconds", "1", text(&out)]].concat());
        let found = samples(&out);
        assert_eq!(found.len(), 16_000);
        assert!(found.iter().all(|x| x.abs() <= 0.9001));
        found
    };
    let plain = sample(&[]);
    assert_eq!(plain, sample(&["--smoothness", "0", "--temperature", "1"]));
    let smooth = sample(&["--smoothness", "0.4"]);
    assert_eq!(smooth, sample(&["--smoothness", "0.4"]));
    assert_ne!(smooth, plain);
    assert_ne!(smooth, sample(&["--smoothness", "0.4", "--seed", "1"]));
    assert_ne!(smooth, sample(&["--smoothness", "0.4", "--temperature", "0.5"]));
    // Without temperature there is one sound, whatever the seed.
    assert_eq!(sample(&["--temperature", "0"]), sample(&["--temperature", "0", "--smoothness", "3"]));
    for (flag, value) in [("--smoothness", "-1"), ("--smoothness", "nan"), ("--temperature", "11")] {
        let said = refused("sample", &[&format!("{flag}={value}"), text(&out)]);
        assert!(said.contains(flag) && said.contains("must be 0 to"), "{said}");
    }
}

/// What each command makes of an input: one line of error, or sounds that are finite and within full scale.
#[track_caller]
fn every_command(input: &Path, accepted: bool, wanted: &str) {
    let folder = TempDir::new().unwrap();
    let place = |name: &str| folder.path().join(name).to_str().unwrap().to_string();
    let (sound, many, [other, _]) = (place("out.wav"), place("out"), pair());
    let (input, other) = (text(input), text(&other));
    let commands: [&[&str]; 8] = [
        &["vocode", input, &sound],
        &["reconstruct", input, &sound],
        &["edit", "--set", "2=3", input, &sound],
        &["traverse", "--latent", "2", "--steps", "2", input, &many],
        &["interpolate", "--steps", "3", input, other, &many],
        &["interpolate", "--steps", "3", "--method", "slerp", "--overwrite", other, input, &many],
        &["morph", input, other, &sound],
        &["morph", "--method", "slerp", other, input, &sound],
    ];
    for command in commands {
        let models = if command[0] == "vocode" { 2.. } else { 0.. };
        let arguments = [command, &flags()[models]].concat();
        let said = run("synth", &arguments);
        assert_eq!(said.code, Some(if accepted { 0 } else { 1 }), "{command:?}\n{}{}", said.out, said.err);
        if !accepted {
            assert!(said.err.lines().count() == 1 && said.err.contains(input), "{command:?}\n{}", said.err);
            assert!(said.err.contains(wanted), "{command:?}\n{}", said.err);
        }
    }
    let sounds = files(folder.path(), "wav");
    assert_eq!(sounds.is_empty(), !accepted);
    for path in sounds {
        assert!(samples(&path).iter().all(|x| x.is_finite() && x.abs() <= 1.0), "{}", path.display());
    }
}

#[test]
fn short_silent_and_nearly_empty_inputs_become_sounds_or_one_line() {
    let folder = TempDir::new().unwrap();
    let place = |name: &str| folder.path().join(name);
    features_of(&place("instant.feat.npz"), silence(1));
    every_command(&place("instant.feat.npz"), false, "fewer than two frames");
    features_of(&place("short.feat.npz"), silence(2));
    every_command(&place("short.feat.npz"), true, "");
    features_of(&place("silence.feat.npz"), silence(95));
    every_command(&place("silence.feat.npz"), true, "");
    let mut one_bin = silence(64);
    one_bin[[31, 40]] = 8.0;
    features_of(&place("bin.feat.npz"), one_bin.clone());
    every_command(&place("bin.feat.npz"), true, "");
    one_bin[[3, 7]] = f32::NAN;
    features_of(&place("nan.feat.npz"), one_bin);
    every_command(&place("nan.feat.npz"), false, "NaN");
    let nothing = Waveform { samples: vec![0.0; 8000], sample_rate: 16_000 };
    nothing.write(&place("zeros.wav")).unwrap();
    every_command(&place("zeros.wav"), true, "");
}

#[test]
fn codes_of_nan_are_refused_and_silent_codes_sound() {
    let folder = TempDir::new().unwrap();
    let [codes, out] = ["codes.npz", "out.wav"].map(|name| folder.path().join(name));
    let silent = folder.path().join("silence.feat.npz");
    features_of(&silent, silence(50));
    succeed("synth", &["encode", "--vae", text(&runs().1), "--device", "cpu", text(&silent), text(&codes)]);
    done("decode", &[text(&codes), text(&out)]);
    assert!(samples(&out).iter().all(|x| x.is_finite() && x.abs() <= 1.0));
    fs::remove_file(&out).unwrap();
    let mut edited = Codes::read(&codes).unwrap();
    edited.mean[[1, 1]] = f32::NAN;
    edited.write(&codes).unwrap();
    let said = refused("decode", &[text(&codes), text(&out)]);
    assert!(said.contains("codes.npz") && said.contains("mean") && said.contains("NaN") && !out.exists(), "{said}");
}

#[test]
fn a_pair_may_be_of_any_lengths() {
    let folder = TempDir::new().unwrap();
    let [_, recording] = pair();
    let spectrum = FeatureFile::read_logmel(&recording).unwrap().0;
    let many: Vec<_> = (0..20).map(|_| spectrum.view()).collect();
    let (long, short) = (folder.path().join("long.feat.npz"), folder.path().join("short.feat.npz"));
    let frames = spectrum.nrows() * 20;
    features_of(&long, concatenate(Axis(0), &many).unwrap());
    features_of(&short, spectrum.slice(s![20..23, ..]).to_owned());
    let out = folder.path().join("out");
    done("interpolate", &["--steps", "3", text(&short), text(&long), text(&out)]);
    let lengths: Vec<usize> = files(&out, "wav").iter().map(|path| samples(path).len()).collect();
    let halfway = (frames + 3).div_ceil(2);
    assert_eq!(lengths, [2 * 160, (halfway - 1) * 160, (frames - 1) * 160]);
    let morphed = folder.path().join("morph.wav");
    done("morph", &[text(&short), text(&long), text(&morphed)]);
    assert_eq!(samples(&morphed).len(), (frames - 1) * 160);
}

#[test]
fn codes_far_from_what_the_vae_knows_are_attenuated_with_their_peak_or_refused() {
    let folder = TempDir::new().unwrap();
    let out = folder.path().join("out.wav");
    let [input, _] = pair();
    let (mut attenuated, mut beyond) = (0, 0);
    for latent in 0..16 {
        for value in ["-100", "100"] {
            let edit = format!("{latent}={value}");
            let said = run("synth", &[&["edit"], &flags()[..], &["--set", &edit, text(&input), text(&out)]].concat());
            if said.code == Some(0) {
                assert!(samples(&out).iter().all(|x| x.is_finite() && x.abs() <= 1.0), "{edit}");
                let loud = said.err.contains("peak is");
                assert!(loud == said.err.contains("attenuated") && !said.err.contains("cut off"), "{}", said.err);
                attenuated += usize::from(loud);
                fs::remove_file(&out).unwrap();
            } else {
                assert_eq!(said.code, Some(1));
                assert!(said.err.contains(text(&input)) && said.err.contains("beyond any sound"), "{}", said.err);
                assert!(!out.exists());
                beyond += 1;
            }
        }
    }
    assert!(attenuated > 0, "nothing was loud: {beyond} beyond any sound");
}

#[test]
fn a_feature_file_without_linear_spectra_is_enough() {
    let folder = TempDir::new().unwrap();
    let place = |name: &str| folder.path().join(name);
    let corpus = fixture().corpus.join("test");
    succeed("extract-features", &[text(&corpus), text(&place("small")), "--split", "0", "--only", "logmel"]);
    let small = files(&place("small"), "npz").remove(0);
    let whole = files(&fixture().test, "npz").into_iter().find(|path| path.file_name() == small.file_name()).unwrap();
    done("reconstruct", &[text(&small), text(&place("small.wav"))]);
    done("reconstruct", &[text(&whole), text(&place("whole.wav"))]);
    assert_eq!(fs::read(place("small.wav")).unwrap(), fs::read(place("whole.wav")).unwrap());
}

/// How much larger steps from frame to frame are where a segment begins, every 20 frames, than elsewhere.
fn seam(spectra: &[Array2<f32>]) -> f64 {
    let (mut at, mut elsewhere) = ((0.0, 0), (0.0, 0));
    for spectrum in spectra {
        for t in 1..spectrum.nrows() {
            let step = (&spectrum.row(t) - &spectrum.row(t - 1)).iter().map(|x| f64::from(x.abs())).sum::<f64>();
            let sum = if t % 20 == 0 { &mut at } else { &mut elsewhere };
            *sum = (sum.0 + step, sum.1 + 1);
        }
    }
    (at.0 / f64::from(at.1)) / (elsewhere.0 / f64::from(elsewhere.1))
}

#[test]
fn a_decoded_spectrogram_has_no_seams_where_its_segments_begin() {
    let codec = VaeCodec::open(&runs().1, &Device::flex()).unwrap();
    let inputs: Vec<Array2<f32>> = [&fixture().train, &fixture().test]
        .iter()
        .flat_map(|folder| files(folder, "npz"))
        .map(|path| FeatureFile::read_logmel(&path).unwrap().0)
        .collect();
    let all_codes: Vec<Codes> = inputs.iter().map(|input| codec.encode(input.view(), 1.0)).collect();
    let decoded: Vec<_> = all_codes.iter().map(|codes| codec.decode(codes).unwrap()).collect();
    // Every other segment, one after the other.
    let joined: Vec<_> = all_codes
        .iter()
        .map(|codes| {
            let segments = codes.mean.axis_chunks_iter(Axis(0), 2).map(|code| {
                let mut one = codes.clone();
                one.mean = code.slice(s![..1, ..]).to_owned();
                one.meta.frames = 20;
                codec.decode(&one).unwrap()
            });
            let segments: Vec<_> = segments.collect();
            concatenate(Axis(0), &segments.iter().map(|segment| segment.view()).collect::<Vec<_>>()).unwrap()
        })
        .collect();
    let (of_input, of_decoded, of_joined) = (seam(&inputs), seam(&decoded), seam(&joined));
    assert!(of_decoded <= of_input, "seams of {of_decoded}, but the input's steps there are {of_input}");
    assert!(of_joined > 1.5 * of_input, "the measure sees no seams where there are some: {of_joined}, {of_input}");
}
