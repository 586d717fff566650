//! Data that is not in memory: the same runs to the byte, and files that are bad or change meanwhile.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use burn::tensor::{Device, TensorData};
use ndarray::ShapeBuilder;
use ndarray_npy::NpzWriter;
use tempfile::TempDir;
use vae_workshop::Result;
use vae_workshop::data::{
    Dataset, FeatureEntry, FeatureSet, Item, Loader, PairDataset, PairValues, Position, Room, SegmentDataset,
    Standardizer,
};
use vae_workshop::features::{FeatureFile, Features};
use vae_workshop::run::RunDir;
use zip::write::SimpleFileOptions;
use zip::{ZipArchive, ZipWriter};

use crate::env::{binary, fixture, run, succeed, text};
use crate::pipeline::files;

/// Steps of each trainer with `memory` GB for the data.
fn steps(
    program: &str,
    logdir: &Path,
    [train, test]: [&Path; 2],
    steps: &str,
    memory: &str,
    more: &[&str],
) -> Vec<String> {
    let sizes: &[&str] = match program {
        "train-vae" => &["--channels", "4,4,4", "--hidden", "8", "--latents", "3"],
        _ => &["--bank-size", "2", "--channels", "4", "--gru-cells", "4"],
    };
    let common = ["--device", "cpu", "--batch-size", "3", "--eval-every", "5", "--log-every", "1"];
    let own = [text(logdir), text(train), text(test), "--steps", steps, "--data-memory", memory];
    [&own[..], &common, sizes, more].concat().into_iter().map(String::from).collect()
}

fn flags(owned: &[String]) -> Vec<&str> {
    owned.iter().map(String::as_str).collect()
}

#[test]
fn streamed_and_half_streamed_runs_give_the_bytes_of_one_in_memory_on_any_number_of_threads() {
    let data = fixture();
    let folder = TempDir::new().unwrap();
    // Half of the files fit into the last amount of memory.
    let of_each = [
        ("train-vae", "0.0001", vec![]),
        ("train-inverter", "0.0008", vec!["--crop-frames", "32"]),
        ("train-inverter", "0.0008", vec!["--crop-frames", "0", "--recipe", "workshop"]),
    ];
    for (number, (program, half, more)) in of_each.into_iter().enumerate() {
        let (straight, other) = (folder.path().join(format!("{number}")), folder.path().join(format!("{number}s")));
        let train = |logdir: &Path, to: &str, memory: &str, threads: &str| {
            let more = [&more[..], &["--threads", threads]].concat();
            succeed(program, &flags(&steps(program, logdir, [&data.train, &data.test], to, memory, &more)));
        };
        train(&straight, "12", "2", "1");
        train(&other, "3", "0", "1");
        train(&other, "7", half, "9");
        train(&other, "12", "0", "9");
        for name in ["model.safetensors", "optimizer.safetensors", "run.json", "manifest.json"] {
            let [one, other] = [&straight, &other].map(|run| fs::read(run.join("step-00000012").join(name)).unwrap());
            assert!(one == other, "{name} of {program} {more:?}");
        }
    }
}

fn open(folder: &Path) -> (FeatureSet, Standardizer) {
    let set = FeatureSet::open(folder).unwrap();
    let standardizer = Standardizer::of(&set).unwrap();
    (set, standardizer)
}

fn segments(folder: &Path, frames: usize, room: u64) -> Result<SegmentDataset> {
    let (set, standardizer) = open(folder);
    SegmentDataset::load(&set, &standardizer, frames, &mut Room::of(room))
}

fn pairs(folder: &Path, room: u64) -> Result<PairDataset> {
    let (set, standardizer) = open(folder);
    PairDataset::load(&set, Some(&standardizer), &mut Room::of(room))
}

/// Everything in a batch of pairs.
fn values(batch: PairValues) -> [TensorData; 3] {
    let batch = batch.on(&Device::flex());
    [batch.input, batch.target, batch.spectrum].map(|tensor| tensor.into_data())
}

/// Batches and where the next one begins, from `from` on.
fn batches<D: Dataset>(mut loader: Loader<D>, from: Position, count: usize) -> Vec<(Vec<Item>, D::Batch, Position)> {
    loader.seek(from);
    let next = |_| loader.next_batch().map(|(items, batch)| (items, batch, loader.position())).unwrap();
    (0..count).map(next).collect()
}

#[test]
fn batches_are_a_function_of_seed_and_position_whatever_is_in_memory_and_however_many_threads_load() {
    let data = fixture();
    let begin = Position::default();
    let loader = |room, threads| {
        let data = segments(&data.train, 20, room).unwrap();
        let sampler = data.sampler(5);
        Loader::new(data, sampler, 7, threads).unwrap()
    };
    let wanted = batches(loader(u64::MAX, 1), begin, 12);
    assert!(wanted.last().unwrap().2.epoch > 0);
    for (room, threads) in [(0, 1), (0, 2), (100_000, 5), (u64::MAX, 3)] {
        assert!(batches(loader(room, threads), begin, 12) == wanted, "{room} bytes, {threads} threads");
        // Batches made ahead are forgotten.
        let mut sought = loader(room, threads);
        (0..3).for_each(|_| drop(sought.next_batch().unwrap()));
        assert!(batches(sought, wanted[4].2, 7) == wanted[5..], "{room} bytes, {threads} threads");
    }
    let loader = |room, threads| {
        let data = pairs(&data.train, room).unwrap();
        let sampler = data.sampler(5, 32);
        Loader::new(data, sampler, 3, threads).unwrap()
    };
    let of = |loader, from, count| -> Vec<_> {
        let made = batches(loader, from, count).into_iter();
        made.map(|(items, batch, position)| (items, values(batch), position)).collect()
    };
    let wanted = of(loader(u64::MAX, 1), begin, 9);
    for (room, threads) in [(0, 1), (0, 4), (800_000, 2)] {
        assert!(of(loader(room, threads), begin, 9) == wanted, "{room} bytes, {threads} threads");
        assert!(of(loader(room, threads), wanted[2].2, 6) == wanted[3..], "{room} bytes, {threads} threads");
    }
}

/// A folder with copies of the fixture's training files, and their paths.
fn copies() -> (TempDir, Vec<PathBuf>) {
    let folder = TempDir::new().unwrap();
    let names = files(&fixture().train, "npz").into_iter().enumerate();
    let copy = |(number, from): (usize, PathBuf)| {
        let to = folder.path().join(format!("{number}.feat.npz"));
        fs::copy(from, &to).unwrap();
        to
    };
    let copies = names.map(copy).collect();
    (folder, copies)
}

/// The error of loading, or else of reading every frame of every file.
fn said<D: Dataset>(loaded: Result<D>, items: impl Fn(&D) -> Vec<Item>) -> String {
    let read = loaded
        .and_then(|data| items(&data).chunks(4).try_for_each(|items| data.batch(items, Position::default()).map(drop)));
    read.err().map(|error| error.to_string()).unwrap_or_default()
}

#[test]
fn fifteen_ways_to_hide_a_value_that_is_not_finite_are_refused_by_name_in_memory_and_streamed() {
    let (folder, paths) = copies();
    let good = FeatureFile::read(&paths[1]).unwrap();
    let last = good.logmel.nrows() - 1;
    let mut ways: Vec<(String, Features)> = Vec::new();
    for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        for frame in [0, last] {
            let [mut in_mel, mut in_spectrum] = [good.clone(), good.clone()];
            in_mel.logmel[[frame, if frame == 0 { 0 } else { 79 }]] = value;
            in_spectrum.logspec[[frame, if frame == 0 { 0 } else { 512 }]] = value;
            ways.push((format!("logmel {frame} {value}"), in_mel));
            ways.push((format!("logspec {frame} {value}"), in_spectrum));
        }
    }
    let [mut sum, mut square, mut told] = [good.clone(), good.clone(), good.clone()];
    sum.meta.bands.sum[79] = f64::NAN;
    square.meta.bands.sum_sq[0] = f64::INFINITY;
    told.meta.bands.finite = false;
    ways.extend([("meta sum".into(), sum), ("meta sum_sq".into(), square), ("meta finite".into(), told)]);
    assert_eq!(ways.len(), 15);
    let everything = |room| {
        let set = FeatureSet::open(folder.path()).and_then(|set| Ok((Standardizer::of(&set)?, set)));
        let (standardizer, set) = match set {
            Ok(set) => set,
            Err(error) => return [error.to_string(), error.to_string()],
        };
        // Segments of one frame leave none out.
        let mels = SegmentDataset::load(&set, &standardizer, 1, &mut Room::of(room));
        let both = PairDataset::load(&set, Some(&standardizer), &mut Room::of(room));
        [said(mels, |data| data.items()), said(both, |data| data.items(1000))]
    };
    assert_eq!(everything(0), ["", ""]);
    for (way, features) in ways {
        FeatureFile::write(&paths[1], &features).unwrap();
        for room in [0, u64::MAX] {
            let [mels, both] = everything(room);
            let array = way.split(' ').next().unwrap();
            let is_named =
                |said: &str| said.contains("1.feat.npz") && said.contains(array) && said.lines().count() == 1;
            assert!(is_named(&both), "{way}, {room} bytes: {both:?}");
            // The VAE never looks at the linear spectra.
            assert!(
                if array == "logspec" { mels.is_empty() } else { is_named(&mels) },
                "{way}, {room} bytes: {mels:?}"
            );
        }
    }
}

#[test]
fn a_damaged_file_that_is_read_while_others_are_trained_on_is_named() {
    let (folder, paths) = copies();
    let (set, standardizer) = open(folder.path());
    let bytes = |entry: &FeatureEntry| entry.meta.frames * 80 * 4;
    let all_but_one = set.entries.iter().map(bytes).sum::<u64>() - 1;
    // Still a number, so that only the archive's checksum tells, and in the last value, which no segment holds.
    let damaged = &paths[0];
    let mut file = fs::read(damaged).unwrap();
    let logmel = FeatureFile::read_logmel(damaged).unwrap().0;
    let values: Vec<u8> = logmel.iter().flat_map(|value| value.to_le_bytes()).collect();
    let last = &values[values.len() - 16..];
    let at = file.windows(last.len()).rposition(|window| window == last).unwrap() + last.len() - 4;
    file[at] ^= 1;
    fs::write(damaged, file).unwrap();
    let data = SegmentDataset::load(&set, &standardizer, 20, &mut Room::of(all_but_one)).unwrap();
    let items = data.items();
    let until = Instant::now() + Duration::from_secs(60);
    let said = loop {
        assert!(Instant::now() < until, "nobody noticed");
        if let Err(error) = data.batch(&items[..1], Position::default()) {
            break error.to_string();
        }
    };
    assert!(said.contains("0.feat.npz") && said.lines().count() == 1, "{said}");
}

/// Writes a feature file's arrays deflated.
pub fn deflate(path: &Path) {
    let mut archive = ZipArchive::new(File::open(path).unwrap()).unwrap();
    let mut packed = ZipWriter::new(File::create(path.with_extension("packed")).unwrap());
    for index in 0..archive.len() {
        let mut entry = archive.by_index(index).unwrap();
        let deflated = SimpleFileOptions::default().compression_method(zip::CompressionMethod::Deflated);
        packed.start_file(entry.name().to_string(), deflated).unwrap();
        std::io::copy(&mut entry, &mut packed).unwrap();
    }
    packed.finish().unwrap().flush().unwrap();
    fs::rename(path.with_extension("packed"), path).unwrap();
}

/// Writes the log spectrum of a feature file column after column.
fn by_columns(path: &Path) {
    let features = FeatureFile::read(path).unwrap();
    let mut logspec = ndarray::Array2::zeros(features.logspec.dim().f());
    logspec.assign(&features.logspec);
    let mut npz = NpzWriter::new(File::create(path).unwrap());
    npz.add_array("logspec", &logspec).unwrap();
    npz.add_array("logmel", &features.logmel).unwrap();
    npz.add_array("meta", &ndarray::Array1::from(serde_json::to_vec(&features.meta).unwrap())).unwrap();
    npz.finish().unwrap();
}

#[test]
fn files_that_others_packed_or_wrote_by_columns_stream_to_the_same_values_and_are_named() {
    let (folder, paths) = copies();
    let every = |room| {
        let pairs = pairs(folder.path(), room).unwrap();
        pairs
            .items(50)
            .chunks(3)
            .map(|items| values(pairs.batch(items, Position::default()).unwrap()))
            .collect::<Vec<_>>()
    };
    let wanted = every(u64::MAX);
    deflate(&paths[0]);
    by_columns(&paths[2]);
    assert!(every(0) == wanted && every(800_000) == wanted && every(u64::MAX) == wanted);
    // They are the first to be kept: where there is room for them there is nothing to warn of.
    let warned = |memory| {
        let logdir = TempDir::new().unwrap();
        let folders = [folder.path(), &fixture().test];
        run("train-inverter", &flags(&steps("train-inverter", logdir.path(), folders, "1", memory, &[]))).err
    };
    let said = warned("0");
    assert!(said.contains("2 file(s)") && said.contains("0.feat.npz") && said.contains("--data-memory"), "{said}");
    assert_eq!(warned("0.0009"), "");
}

#[test]
fn a_file_that_is_cut_replaced_or_removed_meanwhile_is_named() {
    let (folder, paths) = copies();
    let bytes = fs::read(&paths[1]).unwrap();
    let mels = segments(folder.path(), 20, 0).unwrap();
    let both = pairs(folder.path(), 0).unwrap();
    let every = || {
        [mels.batch(&mels.items(), Position::default()).err(), both.batch(&both.items(1000), Position::default()).err()]
    };
    let are_named = |what: &str| {
        for said in every().map(|error| error.expect("the file is not as it was").to_string()) {
            assert!(said.contains("1.feat.npz") && said.contains(what) && said.lines().count() == 1, "{said}");
        }
    };
    assert!(every().iter().all(Option::is_none));
    File::options().write(true).open(&paths[1]).unwrap().set_len(bytes.len() as u64 / 2).unwrap();
    are_named("was changed");
    fs::write(&paths[1], &bytes).unwrap();
    are_named("was changed"); // another file of the same size, for all that is known
    fs::remove_file(&paths[1]).unwrap();
    are_named("No such file");
}

#[test]
fn a_run_whose_file_is_cut_saves_ends_with_status_1_and_goes_on_when_it_is_back() {
    for (program, more) in [("train-vae", vec![]), ("train-inverter", vec!["--crop-frames", "16"])] {
        let (folder, paths) = copies();
        let bytes = fs::read(&paths[2]).unwrap();
        let logdir = TempDir::new().unwrap();
        let folders = [folder.path(), &fixture().test];
        let many = steps(program, logdir.path(), folders, "39999", "0", &more);
        let mut child =
            Command::new(binary(program)).args(&many).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(|line| line.unwrap());
        assert!(lines.any(|line| line.starts_with("step 3 ")));
        fs::write(&paths[2], &bytes[..bytes.len() / 2]).unwrap();
        lines.for_each(drop);
        let ended = child.wait_with_output().unwrap();
        let said = String::from_utf8(ended.stderr).unwrap();
        assert_eq!(ended.status.code(), Some(1), "{said}");
        assert!(said.contains("2.feat.npz") && said.contains("was changed") && said.lines().count() == 1, "{said}");
        let saved = RunDir::at(logdir.path()).latest().unwrap().unwrap().about.step;
        assert!(saved >= 3, "{saved}");
        fs::write(&paths[2], &bytes).unwrap();
        let (to, from) = (format!("{}", saved + 2), format!("from step {saved}"));
        let said = succeed(program, &flags(&steps(program, logdir.path(), folders, &to, "0", &more)));
        assert!(said.contains(&from), "{said}");
    }
}
