//! `synth` with changed codes: edits, what lies between two sounds, walks through the prior, and inputs at the edge.

use std::fs;

use burn::tensor::Device;
use ndarray::{Array2, Axis, concatenate, s};
use tempfile::TempDir;
use vae_workshop::features::FeatureFile;
use vae_workshop::synth::{Codes, VaeCodec};

use crate::env::{fixture, succeed, text};
use crate::pipeline::{files, runs};

/// The toy VAE, its codes to sound the quickest way.
fn flags() -> [&'static str; 6] {
    ["--vae", text(&runs().1), "--device", "cpu", "--phase", "pghi"]
}

fn done(command: &str, arguments: &[&str]) -> String {
    succeed("synth", &[&[command], &flags()[..], arguments].concat())
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
