//! The synthetic corpus: the same from the same seed, speech by its measures, and true to its own tables.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use vae_workshop::corpus::{CorpusConfig, FACTOR_SECONDS, Speaker, Utterance, generate, speak};
use vae_workshop::dsp::stft::{PadMode, Stft};
use vae_workshop::random;
use walkdir::WalkDir;

const RATE: u32 = 16_000;
const SMALL: CorpusConfig =
    CorpusConfig { speakers: 2, utterances: 3, seconds: 1.0, test_fraction: 0.3, sample_rate: RATE, seed: 7 };

fn voices() -> Vec<Speaker> {
    CorpusConfig::default().voices()
}

fn say(speaker: &Speaker, seconds: f64, seed: u64) -> Utterance {
    speak(speaker, seconds, RATE, &mut random::stream(seed, "test", 0))
}

/// Every file below a folder, by relative name.
fn contents(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let files = WalkDir::new(folder).into_iter().map(Result::unwrap).filter(|entry| entry.file_type().is_file());
    let name = |path: &Path| path.strip_prefix(folder).unwrap().to_string_lossy().into_owned();
    files.map(|entry| (name(entry.path()), fs::read(entry.path()).unwrap())).collect()
}

#[test]
fn a_corpus_has_the_promised_files_and_repeats_itself_to_the_byte() {
    let folder = tempfile::tempdir().unwrap();
    let (first, second) = (folder.path().join("first"), folder.path().join("second"));
    let summary = generate(&SMALL, &first, false).unwrap();
    generate(&SMALL, &second, false).unwrap();
    let files = contents(&first);
    assert_eq!(files, contents(&second));
    assert_eq!((summary.train_files, summary.test_files), (4, 2));
    for name in ["speakers.csv", "corpus.json", "train/s01-man/s01-man-0000.wav", "test/s02-woman/s02-woman-0002.wav"] {
        assert!(files.contains_key(name), "{name} is missing from {:?}", files.keys());
    }
    for name in files.keys().filter(|name| name.ends_with(".wav")) {
        let table = files.get(&name.replace(".wav", ".factors.csv")).expect("each wav has its factors");
        let table = std::str::from_utf8(table).unwrap();
        assert!(table.starts_with("time_s,f0_hz,f1_hz,f2_hz,f3_hz,energy_db,voicing,speaker,phone\n0.00,"));
    }
    let other = folder.path().join("other");
    generate(&CorpusConfig { seed: 8, ..SMALL }, &other, false).unwrap();
    assert_ne!(files["train/s01-man/s01-man-0000.wav"], contents(&other)["train/s01-man/s01-man-0000.wav"]);
}

#[test]
fn an_utterance_does_not_depend_on_how_many_others_there_are() {
    let folder = tempfile::tempdir().unwrap();
    let (few, many) = (folder.path().join("few"), folder.path().join("many"));
    generate(&SMALL, &few, false).unwrap();
    generate(&CorpusConfig { speakers: 3, utterances: 4, ..SMALL }, &many, false).unwrap();
    let name = "train/s02-woman/s02-woman-0001.wav";
    assert_eq!(contents(&few)[name], contents(&many)[name]);
}

#[test]
fn only_a_corpus_is_ever_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    generate(&SMALL, path, false).unwrap();
    let refused = generate(&SMALL, path, false).unwrap_err().to_string();
    assert!(refused.contains("--overwrite") && refused.contains(&*path.to_string_lossy()), "{refused}");
    generate(&CorpusConfig { utterances: 2, ..SMALL }, path, true).unwrap();
    assert!(!path.join("train/s01-man/s01-man-0001.wav").exists(), "the larger corpus is gone");

    let foreign = path.join("train/s01-man/notes.txt");
    fs::write(&foreign, "mine").unwrap();
    let before = contents(path);
    assert!(generate(&SMALL, path, true).unwrap_err().to_string().contains("notes.txt"));
    assert_eq!(contents(path), before, "nothing was deleted");

    fs::remove_file(foreign).unwrap();
    fs::create_dir(path.join("empty")).unwrap();
    assert!(generate(&SMALL, path, true).unwrap_err().to_string().contains("empty"));
    assert!(path.join("empty").is_dir());

    // Files of the same names.
    let others = tempfile::tempdir().unwrap();
    fs::create_dir_all(others.path().join("train/alice")).unwrap();
    for (name, content) in
        [("corpus.json", "{\"my\": 1}"), ("speakers.csv", "mine"), ("train/alice/alice-0001.wav", "mine")]
    {
        fs::write(others.path().join(name), content).unwrap();
        let before = contents(others.path());
        assert!(generate(&SMALL, others.path(), true).is_err());
        assert_eq!(contents(others.path()), before, "nothing was deleted");
    }
}

#[test]
fn impossible_configurations_are_refused_by_flag() {
    let folder = tempfile::tempdir().unwrap();
    let cases = [
        ("--speakers 0", CorpusConfig { speakers: 0, ..SMALL }),
        ("--utterances 0", CorpusConfig { utterances: 0, ..SMALL }),
        ("--utterances 1", CorpusConfig { utterances: 1, ..SMALL }),
        ("--seconds NaN", CorpusConfig { seconds: f64::NAN, ..SMALL }),
        ("--test-fraction 1", CorpusConfig { test_fraction: 1.0, ..SMALL }),
        ("--sample-rate 4000", CorpusConfig { sample_rate: 4000, ..SMALL }),
    ];
    for (flag, config) in cases {
        let error = generate(&config, &folder.path().join("corpus"), false).unwrap_err().to_string();
        assert!(error.contains(flag), "{error}");
    }
    assert!(!folder.path().join("corpus").exists());
}

#[test]
fn sound_is_finite_unclipped_centred_and_about_as_long_as_asked() {
    for (index, speaker) in voices().iter().enumerate() {
        for rate in [8000, 16_000, 44_100] {
            let utterance = speak(speaker, 3.0, rate, &mut random::stream(index as u64, "test", 1));
            let samples = &utterance.sound.samples;
            let seconds = samples.len() as f64 / f64::from(rate);
            assert!((2.2..3.9).contains(&seconds), "{seconds} s of {}", speaker.name);
            let peak = samples.iter().fold(0f32, |peak, value| peak.max(value.abs()));
            assert!((0.3..0.75).contains(&peak), "peak {peak} at {rate} Hz");
            let mean = samples.iter().sum::<f32>() / samples.len() as f32;
            assert!(mean.abs() < 1e-3, "mean {mean}");
            assert_eq!(utterance.factors.len(), 1 + (seconds / FACTOR_SECONDS + 1e-9) as usize);
        }
    }
}

#[test]
fn utterances_have_the_dynamics_of_speech() {
    for speaker in voices() {
        let factors = say(&speaker, 4.0, 5).factors;
        let mut levels: Vec<f64> = factors.iter().map(|row| row.energy_db).collect();
        levels.sort_by(f64::total_cmp);
        let at = |part: f64| levels[(part * (levels.len() - 1) as f64) as usize];
        assert!(at(0.95) - at(0.05) > 35.0, "{}: from {} to {} dB", speaker.name, at(0.05), at(0.95));
        let voiced = factors.iter().filter(|row| row.voiced).count() as f64 / factors.len() as f64;
        assert!((0.35..0.9).contains(&voiced), "{}: {voiced} voiced", speaker.name);
        // 90 ms within a pause or a vowel: away from their edges, where the tract still rings.
        for rows in factors.windows(9).filter(|rows| rows.iter().all(|row| row.phone == rows[0].phone)) {
            match rows[4].phone {
                "pause" => assert!(rows[4].energy_db < -55.0, "a pause of {} dB", rows[4].energy_db),
                "a" | "ae" | "i" | "eh" => assert!(rows[4].energy_db > -45.0, "a vowel of {} dB", rows[4].energy_db),
                _ => {}
            }
        }
    }
}

/// The lag of the greatest normalised autocorrelation near a pitch, as a frequency, and that correlation.
fn pitch_near(samples: &[f32], centre: usize, expected_hz: f64) -> (f64, f64) {
    let rate = f64::from(RATE);
    // Three periods, among the lags from 0.7 to 1.4 periods: which octave is not the question here.
    let half = (1.5 * rate / expected_hz) as usize;
    let correlation = |lag: usize| {
        let (from, to) = (centre.saturating_sub(half + lag / 2), (centre + half).min(samples.len() - lag));
        let pair = (from..to).map(|n| (f64::from(samples[n]), f64::from(samples[n + lag])));
        let (mut product, mut left, mut right) = (0.0, 0.0, 0.0);
        pair.for_each(|(a, b)| (product, left, right) = (product + a * b, left + a * a, right + b * b));
        product / (left * right).sqrt().max(1e-12)
    };
    let lags = (0.7 * rate / expected_hz) as usize..=(1.4 * rate / expected_hz) as usize;
    let best = lags.max_by(|&a, &b| correlation(a).total_cmp(&correlation(b))).unwrap();
    (rate / best as f64, correlation(best))
}

#[test]
fn the_pitch_in_the_table_is_the_pitch_in_the_sound() {
    for speaker in voices() {
        let utterance = say(&speaker, 3.0, 2);
        let mut ratios = Vec::new();
        for (row, rows) in utterance.factors.windows(9).enumerate() {
            if rows.iter().all(|row| row.voiced && row.energy_db > -40.0) {
                let truth = rows[4].f0_hz;
                let centre = ((row + 4) as f64 * FACTOR_SECONDS * f64::from(RATE)) as usize;
                let (found, strength) = pitch_near(&utterance.sound.samples, centre, truth);
                if strength > 0.7 {
                    ratios.push((found / truth).ln().abs());
                }
            }
            for row in rows {
                assert_eq!(row.f0_hz > 0.0, row.voiced);
            }
        }
        ratios.sort_by(f64::total_cmp);
        assert!(ratios.len() > 40, "{}: {} frames to judge by", speaker.name, ratios.len());
        // One sample of lag is 0.7 % of a man's period and 1.8 % of a child's; jitter and pitch slopes add to it.
        let (middle, high) = (ratios[ratios.len() / 2], ratios[ratios.len() * 9 / 10]);
        assert!(middle < 0.02 && high < 0.06, "{}: off by {middle:.3}, 90 % within {high:.3}", speaker.name);
    }
}

#[test]
fn the_spectrum_peaks_at_the_formants_in_the_table() {
    // A man's harmonics are dense enough to show his formants.
    let utterance = say(&voices()[0], 6.0, 4);
    let stft = Stft::<f32>::new(256, 160, PadMode::Reflect);
    let power = stft.power(&utterance.sound.samples);
    let level = |frame: usize, hz: f64| {
        let bin = (hz * 256.0 / f64::from(RATE)).round() as usize;
        10.0 * f64::from(power[[frame, bin]].max(1e-12)).log10()
    };
    let mut contrasts = Vec::new();
    for (frame, row) in utterance.factors.iter().enumerate() {
        let [f1, f2, f3] = row.formants_hz;
        if row.voiced && row.energy_db > -30.0 && f2 - f1 > 700.0 && f3 - f2 > 600.0 {
            let between = (level(frame, (f1 + f2) / 2.0) + level(frame, (f2 + f3) / 2.0)) / 2.0;
            contrasts.push((level(frame, f1) + level(frame, f2)) / 2.0 - between);
        }
    }
    let mean = contrasts.iter().sum::<f64>() / contrasts.len() as f64;
    assert!(contrasts.len() > 50 && mean > 10.0, "{} frames, {mean:.1} dB", contrasts.len());
}

#[test]
fn the_energy_in_the_table_is_that_of_the_sound() {
    let utterance = say(&voices()[2], 1.5, 6);
    let samples = &utterance.sound.samples;
    for (row, factors) in utterance.factors.iter().enumerate().skip(1).take(100) {
        let window = &samples[row * 160 - 160..row * 160 + 160];
        let power = window.iter().map(|&value| f64::from(value).powi(2)).sum::<f64>() / 320.0;
        assert!((10.0 * power.log10() - factors.energy_db).abs() < 1e-6);
    }
}

#[test]
fn speakers_differ_as_people_do() {
    let voices = voices();
    let [man, woman, child] = [0, 1, 2].map(|index| &voices[index]);
    assert!(man.f0_hz < woman.f0_hz && woman.f0_hz < child.f0_hz);
    assert!(man.tract_scale < woman.tract_scale && woman.tract_scale < child.tract_scale);
    let more = CorpusConfig { speakers: 8, ..CorpusConfig::default() }.voices();
    assert_eq!(more[..4], voices[..], "a speaker does not change when more are asked for");
    assert_ne!(more[4].f0_hz, more[0].f0_hz);
}
