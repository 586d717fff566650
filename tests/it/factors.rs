//! The corpus of segments: the same from the same seed, factors independent unless asked otherwise, and true to its table.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use tempfile::TempDir;
use vae_workshop::audio::Waveform;
use vae_workshop::corpus::{FACTORS, FactorConfig, generate_factors};
use vae_workshop::dsp::stft::{PadMode, Stft};
use vae_workshop::features::FeatureFile;
use vae_workshop::metrics::pitch::PitchTracker;

use crate::env::{fail, run, succeed, text};
use crate::pipeline::files;

/// A row of the table by column; what is empty is not there.
type Row = BTreeMap<String, f64>;

fn table(corpus: &Path) -> Vec<(String, Row)> {
    let text = fs::read_to_string(corpus.join("factors.csv")).unwrap();
    let mut lines = text.lines();
    let header: Vec<&str> = lines.next().unwrap().split(',').collect();
    assert_eq!(header[0], "file");
    assert_eq!(header[1..], FACTORS.map(|factor| factor.name));
    let row = |line: &str| {
        let cells: Vec<&str> = line.split(',').collect();
        assert_eq!(cells.len(), header.len());
        let told = header.iter().zip(&cells).skip(1).filter(|(_, cell)| !cell.is_empty());
        (cells[0].to_string(), told.map(|(name, cell)| (name.to_string(), cell.parse().unwrap())).collect())
    };
    lines.map(row).collect()
}

fn made(config: &FactorConfig) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    generate_factors(config, folder.path(), false).unwrap();
    folder
}

fn sound(corpus: &Path, name: &str) -> Vec<f64> {
    let sound = Waveform::read(&corpus.join(name).with_extension("wav")).unwrap();
    assert_eq!(sound.sample_rate, 16_000);
    sound.samples.into_iter().map(f64::from).collect()
}

/// Pearson's correlation of ranks, over the rows that have both.
fn rank_correlation(rows: &[(String, Row)], one: &str, other: &str) -> f64 {
    let pairs: Vec<[f64; 2]> = rows.iter().filter_map(|(_, row)| Some([*row.get(one)?, *row.get(other)?])).collect();
    let rank = |which: usize, value: f64| {
        let (below, same) = (|pair: &&[f64; 2]| pair[which] < value, |pair: &&[f64; 2]| pair[which] == value);
        pairs.iter().filter(below).count() as f64 + pairs.iter().filter(same).count() as f64 / 2.0
    };
    let ranks: Vec<[f64; 2]> = pairs.iter().map(|pair| [rank(0, pair[0]), rank(1, pair[1])]).collect();
    let mean = |which: usize| ranks.iter().map(|pair| pair[which]).sum::<f64>() / ranks.len() as f64;
    let (x, y) = (mean(0), mean(1));
    let product = |of: fn(f64, f64) -> f64| ranks.iter().map(|pair| of(pair[0] - x, pair[1] - y)).sum::<f64>();
    product(|x, y| x * y) / (product(|x, _| x * x) * product(|_, y| y * y)).sqrt()
}

#[test]
fn segments_and_their_table_repeat_themselves_to_the_byte() {
    let config = FactorConfig { segments: 12, test_fraction: 0.25, ..FactorConfig::default() };
    let (first, second) = (made(&config), made(&config));
    let contents = |folder: &Path| {
        let all = [files(folder, "wav"), files(folder, "csv"), files(folder, "json")].concat();
        let name = |path: &Path| path.strip_prefix(folder).unwrap().to_path_buf();
        all.iter().map(|path| (name(path), fs::read(path).unwrap())).collect::<BTreeMap<_, _>>()
    };
    assert_eq!(contents(first.path()), contents(second.path()));
    let names: Vec<String> = table(first.path()).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names[8], "train/seg-000008");
    assert_eq!(names[9], "test/seg-000009");
    let wavs = files(first.path(), "wav");
    assert_eq!(wavs.len(), 12);
    for name in &names {
        assert!(wavs.contains(&first.path().join(format!("{name}.wav"))), "{name}");
    }
    let other = made(&FactorConfig { seed: 2, ..config.clone() });
    assert_ne!(sound(first.path(), &names[0]), sound(other.path(), &names[0]));
    let more = made(&FactorConfig { segments: 30, ..config });
    assert_eq!(sound(first.path(), &names[0]), sound(more.path(), &names[0]));
}

#[test]
fn a_segment_sounds_as_its_row_says() {
    let config = FactorConfig { segments: 60, seconds: 0.8, test_fraction: 0.0, seed: 5, ..FactorConfig::default() };
    let corpus = made(&config);
    let tracker = PitchTracker::new(16_000, 160);
    let mut whispers = 0;
    let rows = table(corpus.path());
    for (name, row) in &rows {
        let samples = sound(corpus.path(), name);
        assert_eq!(samples.len(), 12_800);
        let steady = &samples[80..samples.len() - 80];
        let power = steady.iter().map(|sample| sample * sample).sum::<f64>() / steady.len() as f64;
        // 16-bit files: half a step is 1e-3 of the softest segment.
        assert!((10.0 * power.log10() - row["loudness_db"]).abs() < 0.01, "{name}: {}", 10.0 * power.log10());
        let pitch = tracker.track(&samples);
        let inner: Vec<Option<f64>> = pitch[10..pitch.len() - 10].to_vec();
        let voiced = inner.iter().flatten().count() as f64 / inner.len() as f64;
        if row["voicing"] == 0.0 {
            whispers += 1;
            assert!(!row.contains_key("f0_hz") && !row.contains_key("breathiness_db"), "{name}: {row:?}");
            assert!(voiced < 0.5, "{name} whispers, and {voiced} of its frames have a voice");
            continue;
        }
        let mut hz: Vec<f64> = inner.iter().flatten().copied().collect();
        hz.sort_by(f64::total_cmp);
        if row["breathiness_db"] < -12.0 {
            assert!(voiced > 0.9, "{name}: {voiced} of its frames have a voice");
            let cents = 1200.0 * (hz[hz.len() / 2] / row["f0_hz"]).log2();
            assert!(cents.abs() < 20.0, "{name}: {cents} cents from {}", row["f0_hz"]);
        }
    }
    assert!((6..26).contains(&whispers), "{whispers} of 60 whisper");
    let voiced = rows.iter().filter(|(_, row)| row["voicing"] == 1.0);
    assert!(voiced.clone().all(|(_, row)| row.contains_key("f0_hz")));
}

#[test]
fn formants_stand_where_the_table_says() {
    // A whisper's spectrum is the tract's, but for the tilt.
    let config = FactorConfig { segments: 80, seconds: 4.0, test_fraction: 0.0, seed: 9, ..FactorConfig::default() };
    let corpus = made(&config);
    let stft = Stft::<f64>::new(1024, 512, PadMode::Reflect);
    let hz = |bin: usize| bin as f64 * 16_000.0 / 1024.0;
    let apart = |row: &Row| row["voicing"] == 0.0 && row["f1_hz"] < 600.0 && row["f2_hz"] > 1200.0;
    let whispers: Vec<_> = table(corpus.path()).into_iter().filter(|(_, row)| apart(row)).collect();
    assert!(whispers.len() >= 4, "{}", whispers.len());
    for (name, row) in whispers {
        let mut power = vec![0.0; 513];
        stft.for_each_frame(&sound(corpus.path(), &name), &mut stft.scratch(), |_, spectrum| {
            power.iter_mut().zip(spectrum).for_each(|(sum, bin)| *sum += bin.norm_sqr());
        });
        let smooth = |bin: usize| power[bin - 1..=bin + 1].iter().sum::<f64>();
        for (formant, reach) in [("f1_hz", 0.25), ("f2_hz", 0.12)] {
            let near = (1..512).filter(|&bin| (hz(bin) / row[formant] - 1.0).abs() < reach);
            let peak = near.max_by(|&one, &other| smooth(one).total_cmp(&smooth(other))).unwrap();
            // The tilt and the other formants move a wide peak, by less than a quarter of its width of 250 Hz.
            assert!((hz(peak) - row[formant]).abs() < 62.5, "{name}: {formant} {} found at {}", row[formant], hz(peak));
        }
    }
}

#[test]
fn factors_are_independent_unless_asked_otherwise() {
    let size = FactorConfig { segments: 900, seconds: 0.25, test_fraction: 0.0, ..FactorConfig::default() };
    let free = made(&size);
    let folder = tempfile::tempdir().unwrap();
    let tied = folder.path().join("tied");
    let flags = ["--factors", "--segments", "900", "--seconds", "0.25", "--test-fraction", "0"];
    let correlations = ["--correlate", "f0,f1=0.6", "--correlate", "tilt_db,speaker=-0.5"];
    succeed("make-corpus", &[&[text(&tied)], &flags[..], &correlations].concat());
    let (free, tied) = (table(free.path()), table(&tied));
    for (i, one) in FACTORS.iter().enumerate() {
        for other in &FACTORS[..i] {
            // Five standard errors of 675 segments, those that have all. Whispers have no pitch to correlate with.
            let found = rank_correlation(&free, one.name, other.name);
            assert!(found.is_nan() || found.abs() < 0.19, "{} and {}: {found}", one.name, other.name);
            let wanted = match (other.name, one.name) {
                ("f0_hz", "f1_hz") => 0.6,
                ("tilt_db", "speaker_scale") => -0.5,
                _ => 0.0,
            };
            let found = rank_correlation(&tied, one.name, other.name);
            assert!(
                found.is_nan() || (found - wanted).abs() < 0.19,
                "{} and {}: {found}, not {wanted}",
                one.name,
                other.name
            );
        }
    }
    let scales: BTreeSet<u64> = free.iter().map(|(_, row)| (row["speaker_scale"] * 1e4) as u64).collect();
    assert_eq!(scales.len(), 4);
}

#[test]
fn a_grid_has_as_many_levels_as_asked_for() {
    let size = FactorConfig { segments: 400, seconds: 0.25, grid: Some(3), speakers: 6, ..FactorConfig::default() };
    let corpus = made(&size);
    let rows = table(corpus.path());
    for factor in FACTORS {
        let levels: BTreeSet<i64> =
            rows.iter().filter_map(|(_, row)| row.get(factor.name)).map(|value| (value * 1e4).round() as i64).collect();
        let wanted = match factor.name {
            "voicing" => 2,
            "speaker_scale" => 6,
            _ => 3,
        };
        assert_eq!(levels.len(), wanted, "{}: {levels:?}", factor.name);
    }
}

#[test]
fn features_with_default_settings_keep_two_blocks_of_most_segments_and_one_of_all() {
    let folder = tempfile::tempdir().unwrap();
    let (corpus, features) = (folder.path().join("corpus"), folder.path().join("features"));
    succeed("make-corpus", &[text(&corpus), "--factors", "--segments", "120", "--test-fraction", "0"]);
    succeed("extract-features", &[text(&corpus), text(&features)]);
    let frames: Vec<u64> =
        files(&features, "npz").iter().map(|path| FeatureFile::read_meta(path).unwrap().frames).collect();
    assert_eq!(frames.len(), 120);
    assert!(frames.iter().all(|&frames| frames >= 20), "{frames:?}");
    assert!(frames.iter().filter(|&&frames| frames >= 40).count() > 100, "{frames:?}");
}

#[test]
fn flags_that_cannot_work_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    for (flags, wanted) in [
        (&["--grid", "1"][..], "--grid 1: needs 2 to 20"),
        (&["--speakers", "1"], "--speakers 1 with --factors: needs 2 to 8"),
        (&["--seconds", "0.1"], "--seconds 0.1 with --factors"),
        (&["--segments", "0"], "--segments 0"),
        (&["--segments", "1"], "leaves none to train"),
        (&["--correlate", "f0,f1=0.9", "--correlate", "f0,f2=0.9", "--correlate", "f1,f2=-0.9"], "--correlate"),
    ] {
        let said = fail("make-corpus", &[&[text(&out), "--factors"], flags].concat());
        assert!(said.contains(wanted) && said.lines().count() == 1, "{said}");
        assert!(!out.exists());
    }
    for (flags, wanted) in [
        (&["--segments", "5"][..], "--factors"),
        (&["--factors", "--utterances", "5"], "--utterances"),
        (&["--factors", "--correlate", "f0,f9=0.5"], "`f9` is no factor"),
        (&["--factors", "--correlate", "f0,f1=1.5"], "must be greater than -1 and less than 1"),
        (&["--factors", "--correlate", "f0,f1=1"], "must be greater than -1 and less than 1"),
        (&["--factors", "--correlate", "f0,f1=NaN"], "must be greater than -1 and less than 1"),
        (&["--factors", "--correlate", "f0,f0_hz=0.5"], "twice"),
        (&["--factors", "--correlate", "f0"], "as in f0,f1=0.6"),
    ] {
        let said = run("make-corpus", &[&[text(&out)], flags].concat());
        assert_eq!(said.code, Some(2), "{}", said.err);
        assert!(said.err.contains(wanted), "{}", said.err);
    }
}

#[test]
fn a_corpus_of_segments_is_replaced_by_one_of_speech_and_nothing_else_is() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let small = ["--factors", "--segments", "3", "--seconds", "0.3"];
    succeed("make-corpus", &[&[text(&out)], &small[..]].concat());
    assert!(fail("make-corpus", &[&[text(&out)], &small[..]].concat()).contains("--overwrite"));
    let speech = ["--speakers", "1", "--utterances", "2", "--seconds", "0.5", "--overwrite"];
    succeed("make-corpus", &[&[text(&out)], &speech[..]].concat());
    assert!(!out.join("factors.csv").exists() && !out.join("train/seg-000000.wav").exists());
    succeed("make-corpus", &[&[text(&out)], &small[..], &["--overwrite"]].concat());
    fs::write(out.join("train/seg-1.wav"), "mine").unwrap();
    assert!(fail("make-corpus", &[&[text(&out)], &small[..], &["--overwrite"]].concat()).contains("seg-1.wav"));
    assert_eq!(fs::read(out.join("train/seg-1.wav")).unwrap(), b"mine");
}
