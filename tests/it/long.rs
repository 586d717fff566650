//! Sounds that are longer than memory would like: made part by part, equal to what is made at once, and nothing left behind.

use std::fs;
use std::io::Cursor;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use ndarray::{Array2, ArrayView1, concatenate, s};
use ndarray_npy::NpzWriter;
use tempfile::TempDir;
use vae_workshop::audio::Waveform;
use vae_workshop::dsp::phase::{Phase, PhaseConfig};
use vae_workshop::dsp::stft::{PadMode, Stft};
use vae_workshop::features::{
    BandSums, Contents, FeatureConfig, FeatureExtractor, FeatureFile, FeatureMeta, Features, Frames, VERSION,
};
use vae_workshop::synth::{Vocoder, VocoderConfig, render};
use vae_workshop::{Error, Result, random};

use crate::env::{binary, fail, fixture, succeed, text};
use crate::pipeline::{files, runs};

/// A transform so small that a long sound is made in a moment: 33 bins, 8 bands, a frame every 2 ms.
fn small() -> FeatureConfig {
    FeatureConfig {
        sample_rate: 8000,
        n_fft: 64,
        hop_size: 16,
        n_filterbank: 8,
        f_max: 3800.0,
        ..FeatureConfig::default()
    }
}

/// Tones that come and go, louder and louder.
fn tones(samples: usize) -> Waveform {
    let sample = |n: usize| {
        let t = n as f32 / 8000.0;
        let pitch = 300.0 + 1200.0 * (0.7 * t).sin().abs();
        (pitch * t).sin() * (3.0 * t).sin() * (0.1 + 0.9 * n as f32 / samples as f32)
    };
    Waveform { samples: (0..samples).map(sample).collect(), sample_rate: 8000 }
}

/// A feature file of so many frames.
fn features(path: &Path, frames: usize, contents: Contents) -> Features {
    let config = FeatureConfig { trim_silence_db: None, ..small() };
    let features = FeatureExtractor::new(config).unwrap().extract(&tones(16 * (frames - 1))).unwrap();
    assert_eq!(features.logmel.nrows(), frames);
    FeatureFile::write_contents(path, &features, contents).unwrap();
    features
}

/// A feature file of so many frames, the path of a sound to be made of it in an empty folder, and both folders.
fn input_and_output(frames: usize) -> (PathBuf, PathBuf, [TempDir; 2]) {
    let folders = [(); 2].map(|()| TempDir::new().unwrap());
    let (input, path) = (folders[0].path().join("in.feat.npz"), folders[1].path().join("out.wav"));
    features(&input, frames, Contents::LOGMEL);
    (input, path, folders)
}

fn quick() -> VocoderConfig {
    VocoderConfig { phase: PhaseConfig { iterations: 3, ..Phase::PghiFast.config(0) }, emphasis: None, peak: None }
}

const QUICK: [&str; 5] = ["vocode", "--iterations", "3", "--device", "cpu"];

#[test]
fn frames_of_a_sound_that_is_analysed_part_by_part_are_those_of_the_whole() {
    // Parts have 65 536 samples: less than one, one exactly, a little more, several.
    for samples in [1, 20, 65_536, 65_537, 65_567, 140_001] {
        for (n_fft, hop_size) in [(64, 16), (64, 64), (512, 7)] {
            for pad_mode in [PadMode::Reflect, PadMode::Constant] {
                let config = FeatureConfig { n_fft, hop_size, pad_mode, trim_silence_db: None, ..small() };
                let sound = tones(samples);
                let found = FeatureExtractor::new(config.clone()).unwrap().extract(&sound).unwrap();
                let peak = sound.samples.iter().fold(0.0f32, |peak, x| peak.max(x.abs()));
                let level = if peak > 0.0 { f64::from(peak) } else { 1.0 };
                let whole: Vec<f64> = sound.samples.iter().map(|&x| f64::from(x) / level).collect();
                let emphasised: Vec<f64> =
                    (0..samples).map(|n| whole[n] - 0.97 * if n > 0 { whole[n - 1] } else { 0.0 }).collect();
                let power = Stft::<f64>::new(n_fft, hop_size, pad_mode).power(&emphasised);
                assert_eq!(found.logspec.dim(), power.dim());
                let far =
                    found.logspec.iter().zip(&power).map(|(&log, &power)| {
                        (f64::from(log) - (power.max(config.clip_before_log) + 1e-10).ln()).abs()
                    });
                let far = far.fold(0.0, f64::max);
                assert!(far < 1e-5, "{samples} samples, {n_fft} every {hop_size}: {far}");
                let same = found.au.iter().zip(&emphasised).all(|(&one, &other)| one == other as f32);
                assert!(same && found.au.len() == samples);
            }
        }
    }
}

#[test]
fn a_feature_file_written_part_by_part_has_the_bytes_of_whole_arrays() {
    let folder = TempDir::new().unwrap();
    let [audio, target] = ["audio", "target"].map(|name| folder.path().join(name));
    let recording = audio.join("train/a.wav");
    fs::create_dir_all(recording.parent().unwrap()).unwrap();
    // At another rate, with silence at both ends.
    let mut sound = tones(200_000);
    sound.samples[..9000].fill(0.0);
    sound.sample_rate = 11_025;
    sound.write(&recording).unwrap();
    let config =
        ["--sample-rate", "8000", "--n-fft", "64", "--hop-size", "16", "--n-filterbank", "8", "--f-max", "3800"];
    let features = FeatureExtractor::new(small()).unwrap().extract(&Waveform::read(&recording).unwrap()).unwrap();
    for (flags, contents) in [
        (&[][..], Contents::ALL),
        (&["--no-au"], Contents { au: false, ..Contents::ALL }),
        (&["--only", "logmel"], Contents::LOGMEL),
    ] {
        let _ = fs::remove_dir_all(&target);
        succeed("extract-features", &[&config[..], flags, &[text(&audio), text(&target)]].concat());
        let found = fs::read(target.join("train/a.feat.npz")).unwrap();
        let mut npz = NpzWriter::new(Cursor::new(Vec::new()));
        if contents.au {
            npz.add_array("au", &ArrayView1::from(&features.au)).unwrap();
        }
        if contents.logspec {
            npz.add_array("logspec", &features.logspec).unwrap();
        }
        npz.add_array("logmel", &features.logmel).unwrap();
        npz.add_array("meta", &ArrayView1::from(&serde_json::to_vec(&features.meta).unwrap())).unwrap();
        assert!(found == npz.finish().unwrap().into_inner(), "{flags:?}");
        let again = folder.path().join("again.feat.npz");
        FeatureFile::write_contents(&again, &features, contents).unwrap();
        assert!(found == fs::read(&again).unwrap(), "{flags:?}");
    }
}

/// A file that is written without parts.
fn bytes_of(sound: &Waveform) -> Vec<u8> {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("whole.wav");
    sound.write(&path).unwrap();
    fs::read(path).unwrap()
}

#[test]
fn a_file_made_part_by_part_has_the_bytes_of_a_sound_made_in_memory() {
    let folder = TempDir::new().unwrap();
    let (input, out) = (folder.path().join("in.feat.npz"), folder.path().join("out.wav"));
    // 20 s in four blocks and some parts of a block.
    let features = features(&input, 10_001, Contents { au: false, ..Contents::ALL });
    let (gain, config) = (features.meta.gain, &features.meta.config);
    let vocode = |flags: &[&str]| {
        succeed("synth", &[&QUICK[..], flags, &[text(&input), text(&out)]].concat());
        fs::read(&out).unwrap()
    };
    let plain = Vocoder::without_network(config, quick()).unwrap();
    let wanted = plain.sound(features.logmel.view(), gain).unwrap();
    assert_eq!(wanted.samples.len(), 160_000);
    let wanted = bytes_of(&wanted);
    assert!(vocode(&[]) == wanted);
    let louder = Vocoder::without_network(config, VocoderConfig { peak: Some(0.25), ..quick() }).unwrap();
    assert!(vocode(&["--peak", "0.25"]) == bytes_of(&louder.sound(features.logmel.view(), gain).unwrap()));
    let exact = Vocoder::exact(config, quick()).unwrap();
    assert!(vocode(&["--inverter", "exact"]) == bytes_of(&exact.sound(features.logspec.view(), gain).unwrap()));
    // What another program packed is read otherwise.
    crate::streaming::deflate(&input);
    assert!(vocode(&[]) == wanted);
    vocode(&["--png"]);
    assert!(out.with_extension("png").exists());
}

#[test]
fn a_file_made_part_by_part_with_a_network_has_them_too() {
    let (_, _, inverter) = runs();
    let short = FeatureFile::read(&files(&fixture().test, "npz")[0]).unwrap();
    let times = 4600_usize.div_ceil(short.logmel.nrows());
    let logmel = concatenate(ndarray::Axis(0), &vec![short.logmel.view(); times]).unwrap();
    let folder = TempDir::new().unwrap();
    let (input, out) = (folder.path().join("in.feat.npz"), folder.path().join("out.wav"));
    let samples = (logmel.nrows() - 1) as u64 * 160;
    let meta = FeatureMeta {
        source_samples: samples,
        trim_start: 0,
        trim_end: samples,
        frames: logmel.nrows() as u64,
        bands: BandSums::of(&logmel),
        ..short.meta
    };
    let long = Features { logmel, meta, ..short };
    FeatureFile::write_contents(&input, &long, Contents::LOGMEL).unwrap();
    let flags = ["vocode", "--phase", "pghi", "--device", "cpu", "--inverter", text(inverter)];
    succeed("synth", &[&flags[..], &[text(&input), text(&out)]].concat());
    let config = VocoderConfig { phase: Phase::Pghi.config(0), emphasis: None, peak: None };
    let vocoder = Vocoder::open(inverter, config, &burn::tensor::Device::flex()).unwrap();
    assert!(fs::read(&out).unwrap() == bytes_of(&vocoder.sound(long.logmel.view(), long.meta.gain).unwrap()));
}

#[test]
fn what_is_heard_of_a_sound_made_part_by_part_is_its_spectrogram() {
    let folder = TempDir::new().unwrap();
    let features = features(&folder.path().join("in.feat.npz"), 5000, Contents::LOGMEL);
    for normalize in [true, false] {
        let config = FeatureConfig { normalize, ..features.meta.config.clone() };
        let vocoder = Vocoder::without_network(&config, quick()).unwrap();
        let out = folder.path().join("out.wav");
        let heard = render(&vocoder, &features.logmel, features.meta.gain, Path::new("in"), &out).unwrap();
        let sound = vocoder.sound(features.logmel.view(), features.meta.gain).unwrap();
        let wanted = FeatureExtractor::new(config).unwrap().extract(&sound).unwrap().logmel;
        assert_eq!(heard.frames(), wanted.nrows());
        assert_eq!(heard.read(0..5000).unwrap(), wanted);
        assert_eq!(heard.read(4000..4003).unwrap(), wanted.slice(s![4000..4003, ..]));
    }
}

/// A spectrogram whose file goes bad at a frame.
struct Failing {
    whole: Array2<f32>,
    from: usize,
}

impl Frames for Failing {
    fn frames(&self) -> usize {
        self.whole.nrows()
    }

    fn read(&self, range: Range<usize>) -> Result<Array2<f32>> {
        if range.end > self.from {
            return Err(Error::file("cut.feat.npz", "was changed while it was in use"));
        }
        self.whole.read(range)
    }
}

fn is_empty(folder: &Path) -> bool {
    fs::read_dir(folder).unwrap().next().is_none()
}

#[test]
fn an_input_that_goes_bad_on_the_way_leaves_nothing_and_an_older_file_as_it_was() {
    let folder = TempDir::new().unwrap();
    let whole = features(&folder.path().join("in.feat.npz"), 9000, Contents::LOGMEL).logmel;
    let vocoder = Vocoder::without_network(&small(), quick()).unwrap();
    let failing = Failing { whole, from: 7000 };
    let out = TempDir::new().unwrap();
    let path = out.path().join("out.wav");
    let render = || render(&vocoder, &failing, 1.0, Path::new("cut.feat.npz"), &path).err().unwrap().to_string();
    assert_eq!(render(), "cut.feat.npz: was changed while it was in use");
    assert!(is_empty(out.path()));
    fs::write(&path, "older").unwrap();
    render();
    assert_eq!(fs::read(&path).unwrap(), b"older");
    assert_eq!(fs::read_dir(out.path()).unwrap().count(), 1);
}

#[test]
fn a_damaged_feature_file_is_refused_before_any_work_is_done() {
    let folder = TempDir::new().unwrap();
    let input = folder.path().join("in.feat.npz");
    let mut features = features(&input, 9000, Contents::LOGMEL);
    let good = fs::read(&input).unwrap();
    let out = TempDir::new().unwrap();
    let said = |bytes: &[u8]| {
        fs::write(&input, bytes).unwrap();
        let path = out.path().join("out.wav");
        // It would take minutes.
        let said = fail("synth", &["vocode", "--iterations", "10000", "--device", "cpu", text(&input), text(&path)]);
        assert!(said.contains("in.feat.npz") && said.lines().count() == 1 && is_empty(out.path()), "{said}");
        said
    };
    // Near the end of the spectrum: still a number, so that only the archive's checksum tells.
    let mut flipped = good.clone();
    flipped[8 * 4 * 8900] ^= 1;
    assert!(said(&flipped).contains("logmel"));
    said(&good[..good.len() / 2]);
    features.logmel[[8900, 3]] = f32::NAN;
    FeatureFile::write_contents(&input, &features, Contents::LOGMEL).unwrap();
    assert!(said(&fs::read(&input).unwrap()).contains("NaN"));
}

#[test]
fn a_full_disk_names_the_sound_and_gets_its_room_back() {
    let (input, path, [_folder, out]) = input_and_output(9000);
    // A 16-bit file of 144 000 samples has 562 half kilobytes; before its level is known there are 1125.
    for blocks in [100, 1000, 1124] {
        let command = [&[binary("synth")], &QUICK[..], &[text(&input), text(&path)]].concat();
        let said = crate::disk::confined(blocks, &command);
        let message = String::from_utf8_lossy(&said.stderr);
        let is_named = message.contains("out.wav: ") && message.contains("too large") && message.lines().count() == 1;
        assert!(said.status.code() == Some(1) && is_named, "{blocks}: {message}");
        assert!(is_empty(out.path()), "{blocks}");
    }
}

#[cfg(target_os = "linux")] // it looks into /proc
#[test]
fn a_command_that_is_killed_on_the_way_leaves_nothing() {
    let (input, path, [_folder, out]) = input_and_output(30_000);
    let flags = ["vocode", "--iterations", "10000", "--device", "cpu", text(&input), text(&path)];
    let mut child = Command::new(binary("synth")).args(flags).stderr(Stdio::null()).spawn().unwrap();
    let opened = |child: u32| {
        let links = fs::read_dir(format!("/proc/{child}/fd")).into_iter().flatten().flatten();
        let targets: Vec<PathBuf> = links.filter_map(|link| fs::read_link(link.path()).ok()).collect();
        targets.iter().any(|target| target.starts_with(out.path()) && target.to_string_lossy().ends_with("(deleted)"))
    };
    let until = Instant::now() + Duration::from_secs(60);
    while !opened(child.id()) {
        assert!(Instant::now() < until && child.try_wait().unwrap().is_none(), "it does not keep anything on the disk");
        std::thread::sleep(Duration::from_millis(5));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(is_empty(out.path()));
}

/// Runs a command that may have so many kilobytes of memory of its own: heap, stacks, what is not of a file.
#[cfg(target_os = "linux")]
fn within_memory(kilobytes: u32, command: &[&str]) -> std::process::Output {
    let script = "ulimit -d \"$0\" && exec \"$@\"";
    let mut shell = Command::new("sh");
    shell.args(["-c", script, &kilobytes.to_string()]).args(command).env("RAYON_NUM_THREADS", "2");
    shell.output().unwrap()
}

#[cfg(target_os = "linux")]
#[test]
fn a_sound_is_made_in_memory_that_holds_neither_it_nor_its_features() {
    let folder = TempDir::new().unwrap();
    let (input, out) = (folder.path().join("in.feat.npz"), folder.path().join("out.wav"));
    // 20 minutes: 19 MB of log-mels and 38 MB of samples, each more than once.
    let frames = 600_000;
    let mut rng = random::stream(0, "test", 0);
    let logmel = Array2::from_shape_simple_fn((frames, 8), || rand::Rng::random_range(&mut rng, -9.0..3.0_f32));
    let samples = (frames as u64 - 1) * 16;
    let meta = FeatureMeta {
        config: FeatureConfig { trim_silence_db: None, ..small() },
        source_rate: 8000,
        source_samples: samples,
        trim_start: 0,
        trim_end: samples,
        gain: 0.5,
        frames: frames as u64,
        bands: BandSums::of(&logmel),
        version: VERSION,
    };
    let features = Features { au: Vec::new(), logspec: Array2::zeros((0, 33)), logmel, meta };
    FeatureFile::write_contents(&input, &features, Contents::LOGMEL).unwrap();
    let flags = ["vocode", "--phase", "pghi", "--device", "cpu", text(&input), text(&out)];
    let said = within_memory(40_000, &[&[binary("synth")], &flags[..]].concat());
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
    assert_eq!(Waveform::read(&out).unwrap().samples.len() as u64, samples);
}
