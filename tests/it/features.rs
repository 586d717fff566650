//! Features against librosa's, transforms against their definitions, feature files against numpy and against damage, and
//! the plan of a folder. The goldens are made by `tests/data/make_goldens.py`.

use std::f64::consts::TAU;
use std::fs;
use std::path::{Path, PathBuf};

use ndarray::{Array0, Array1, Array2, ArrayView1, ArrayView2, ShapeBuilder};
use ndarray_npy::{NpzReader, NpzWriter};
use realfft::num_complex::Complex;
use vae_workshop::audio::Waveform;
use vae_workshop::dsp::mel::MelFilterbank;
use vae_workshop::dsp::stft::{PadMode, Stft};
use vae_workshop::features::corpus::{PlanOptions, SplitBy, plan};
use vae_workshop::features::{BandSums, FeatureConfig, FeatureExtractor, FeatureFile, Features};

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/goldens").join(name)
}

fn open(name: &str) -> NpzReader<fs::File> {
    NpzReader::new(fs::File::open(golden(name)).unwrap()).unwrap()
}

/// A reproducible noise, for tests that need no particular sound.
fn noise(len: usize, seed: u64) -> Vec<f64> {
    let mut state = seed;
    let step = || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 33) as f64 / (1u64 << 31) as f64 - 0.5
    };
    std::iter::repeat_with(step).take(len).collect()
}

fn wave(samples: Vec<f64>) -> Waveform {
    Waveform { samples: samples.into_iter().map(|x| x as f32).collect(), sample_rate: 16_000 }
}

fn worst(found: ArrayView2<f32>, wanted: ArrayView2<f32>) -> f32 {
    assert_eq!(found.dim(), wanted.dim());
    found.iter().zip(wanted).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

/// Extracts the golden's samples and compares everything; all frames count, the padded first and last ones too.
fn agrees(name: &str, config: FeatureConfig) {
    let mut file = open(name);
    let samples: Array1<f32> = file.by_name("samples").unwrap();
    let sound = Waveform { samples: samples.to_vec(), sample_rate: config.sample_rate };
    let found = FeatureExtractor::new(config).unwrap().extract(&sound).unwrap();

    let trim: Array1<i64> = file.by_name("trim").unwrap();
    assert_eq!([found.meta.trim_start, found.meta.trim_end], [trim[0] as u64, trim[1] as u64], "{name}");
    let gain: Array0<f64> = file.by_name("gain").unwrap();
    assert_eq!(found.meta.gain, gain[()], "{name}");
    let au: Array1<f64> = file.by_name("au").unwrap();
    assert_eq!(found.au, au.mapv(|x| x as f32).to_vec(), "{name}");
    let logspec: Array2<f32> = file.by_name("logspec").unwrap();
    let logmel: Array2<f32> = file.by_name("logmel").unwrap();
    let (spec, mel) = (worst(found.logspec.view(), logspec.view()), worst(found.logmel.view(), logmel.view()));
    assert!(spec < 1e-3 && mel < 1e-4, "{name}: log spectrum off by {spec:e}, log-mel by {mel:e}");
    assert_eq!(found.meta.frames as usize, logmel.nrows());
}

#[test]
fn features_agree_with_librosa_in_both_pad_modes() {
    for name in ["speech", "silence", "one_sample", "hundred_samples", "clipped"] {
        for pad_mode in [PadMode::Reflect, PadMode::Constant] {
            agrees(&format!("{name}_{pad_mode}.npz"), FeatureConfig { pad_mode, ..Default::default() });
        }
    }
}

#[test]
fn features_agree_with_librosa_under_other_settings() {
    let config = FeatureConfig {
        hop_size: 200,
        n_fft: 512,
        n_filterbank: 40,
        preemphasis: 0.0,
        clip_before_log: 1e-6,
        trim_silence_db: None,
        normalize: false,
        f_min: 0.0,
        f_max: 8000.0,
        ..Default::default()
    };
    agrees("speech_other_settings.npz", config);
}

#[test]
fn mel_weights_agree_with_librosa() {
    let cases = [(16_000, 1024, 80, 125.0, 7600.0), (22_050, 2048, 128, 0.0, 11_025.0), (8_000, 512, 40, 20.0, 4000.0)];
    for (rate, n_fft, n_mels, f_min, f_max) in cases {
        let wanted: Array2<f64> = open(&format!("mel_{rate}_{n_fft}_{n_mels}.npz")).by_name("weights").unwrap();
        let bank = MelFilterbank::new(rate, n_fft, n_mels, f_min, f_max).unwrap();
        let mut found = Array2::zeros(wanted.dim());
        for (band, mut row) in bank.bands().iter().zip(found.rows_mut()) {
            band.weights.iter().enumerate().for_each(|(i, &w)| row[band.first + i] = w);
        }
        let worst = (&found - &wanted).iter().fold(0.0f64, |m, d| m.max(d.abs()));
        assert!(worst < 1e-7, "{rate} Hz: {worst:e}");
        // The bands' sums are the dense matrix product.
        let power = Array2::from_shape_vec((7, n_fft / 2 + 1), noise(7 * (n_fft / 2 + 1), 5)).unwrap();
        let worst = (bank.apply(power.view()) - power.dot(&found.t())).iter().fold(0.0f64, |m, d| m.max(d.abs()));
        assert!(worst < 1e-12, "{worst:e}");
    }
    assert_eq!(
        MelFilterbank::new(16_000, 1024, 80, 125.0, 7600.0)
            .unwrap()
            .bands()
            .iter()
            .map(|b| b.weights.len())
            .sum::<usize>(),
        937
    );
}

#[test]
fn filterbanks_that_cannot_work_name_the_flag_to_change() {
    let complaint = |rate, n_fft, n_mels, f_min, f_max| {
        MelFilterbank::new(rate, n_fft, n_mels, f_min, f_max).unwrap_err().to_string()
    };
    assert!(complaint(8_000, 1024, 80, 125.0, 7600.0).contains("lower --f-max"));
    assert!(complaint(16_000, 256, 200, 0.0, 8000.0).contains("--n-filterbank"));
    assert!(complaint(16_000, 1024, 0, 0.0, 8000.0).contains("--n-filterbank"));
    assert!(complaint(16_000, 1024, 80, 500.0, 500.0).contains("--f-min"));
    assert!(complaint(16_000, 1024, 80, f64::NAN, 8000.0).contains("--f-min"));
}

#[test]
fn the_spectrum_is_the_sum_its_definition_says() {
    for (n_fft, hop, len) in [(16, 4, 37), (12, 5, 3), (8, 8, 1)] {
        let signal = noise(len, 1);
        let found = Stft::new(n_fft, hop, PadMode::Constant).forward(&signal);
        assert_eq!(found.dim(), (1 + len / hop, n_fft / 2 + 1));
        for ((t, k), value) in found.indexed_iter() {
            let mut sum = Complex::new(0.0, 0.0);
            for n in 0..n_fft {
                let at = (t * hop + n) as isize - (n_fft / 2) as isize;
                let x = usize::try_from(at).ok().and_then(|at| signal.get(at)).copied().unwrap_or(0.0);
                let window = 0.5 - 0.5 * (TAU * n as f64 / n_fft as f64).cos();
                sum += Complex::from_polar(x * window, -TAU * (k * n) as f64 / n_fft as f64);
            }
            assert!((sum - value).norm() < 1e-12);
        }
    }
}

#[test]
fn inverse_transforms_return_the_signal() {
    for mode in [PadMode::Reflect, PadMode::Constant] {
        for (n_fft, hop, len) in [(1024, 160, 16_000), (1024, 256, 1024), (64, 16, 100), (16, 5, 333), (1024, 160, 200)]
        {
            let signal = noise(len, 2);
            let stft = Stft::new(n_fft, hop, mode);
            let spectrum = stft.forward(&signal);
            let back = stft.inverse(spectrum.view());
            assert_eq!(back.len(), hop * (len / hop));
            // Where the last window's tail is near zero, so is what remains to divide by: allow for it at the very end.
            let worst = back.iter().zip(&signal).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
            assert!(worst < 1e-10, "{n_fft}/{hop}: {worst:e}");
            // The same in f32, through buffers used before.
            let single = Stft::<f32>::new(n_fft, hop, mode);
            let samples: Vec<f32> = signal.iter().map(|&x| x as f32).collect();
            let (mut scratch, mut bins, mut out) = (single.scratch(), single.forward(&samples), vec![9.0; back.len()]);
            for _ in 0..2 {
                single.forward_into(&samples, bins.view_mut(), &mut scratch);
                single.inverse_into(bins.view(), &mut out, &mut scratch);
            }
            let worst = out.iter().zip(&samples).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(worst < 1e-5, "{n_fft}/{hop}: {worst:e}");
        }
    }
    let stft = Stft::<f32>::new(1024, 160, PadMode::Reflect);
    assert!(stft.inverse(stft.forward(&[0.5; 100]).view()).is_empty());
    assert_eq!(stft.forward(&[]).dim(), (1, 513));
}

#[test]
fn power_is_the_squared_magnitude() {
    let signal = noise(3000, 3);
    let stft = Stft::new(512, 128, PadMode::Reflect);
    let worst =
        (stft.power(&signal) - stft.forward(&signal).mapv(|x| x.norm_sqr())).iter().fold(0.0f64, |m, d| m.max(d.abs()));
    assert_eq!(worst, 0.0);
}

#[test]
fn sounds_that_have_no_features_are_errors() {
    let extractor = FeatureExtractor::new(FeatureConfig::default()).unwrap();
    assert!(extractor.extract(&wave(vec![])).unwrap_err().to_string().contains("no samples"));
    assert!(extractor.extract(&wave(vec![0.0, f64::NAN])).unwrap_err().to_string().contains("sample 1"));
    let loud = FeatureConfig { normalize: false, ..Default::default() };
    assert!(FeatureExtractor::new(loud).unwrap().extract(&wave(vec![1e38; 4000])).is_err());
    // The quietest sound there is can still be normalised.
    let quiet = extractor.extract(&wave(vec![1e-45, 0.0, -1e-45])).unwrap();
    assert_eq!(quiet.au, [1.0, -0.97, -1.0]);
}

#[test]
fn settings_are_checked_and_their_differences_named() {
    let base = FeatureConfig::default();
    let bad = [
        (FeatureConfig { hop_size: 0, ..base.clone() }, "--hop-size 0"),
        (FeatureConfig { hop_size: 1025, ..base.clone() }, "--hop-size 1025"),
        (FeatureConfig { n_fft: 1023, ..base.clone() }, "--n-fft 1023"),
        (FeatureConfig { n_filterbank: 9999, ..base.clone() }, "--n-filterbank 9999"),
        (FeatureConfig { preemphasis: 1.0, ..base.clone() }, "--preemphasis 1"),
        (FeatureConfig { clip_before_log: 0.0, ..base.clone() }, "--clip-before-log 0"),
        (FeatureConfig { trim_silence_db: Some(f64::NAN), ..base.clone() }, "--trim-silence-db NaN"),
        (FeatureConfig { sample_rate: 10, ..base.clone() }, "--sample-rate 10"),
    ];
    for (config, flag) in bad {
        let said = config.validate().unwrap_err().to_string();
        assert!(said.starts_with(flag), "{said}");
    }
    assert!(base.validate().is_ok() && base.differences(&base).is_empty());
    let other = FeatureConfig { n_fft: 512, trim_silence_db: None, ..base.clone() };
    assert_eq!(base.differences(&other), ["n_fft: 1024 and 512", "trim_silence_db: 20 and none"]);
    let json = serde_json::to_string(&other).unwrap();
    assert_eq!(serde_json::from_str::<FeatureConfig>(&json).unwrap(), other);
}

fn some_features() -> Features {
    FeatureExtractor::new(FeatureConfig::default()).unwrap().extract(&wave(noise(5000, 4))).unwrap()
}

#[test]
fn feature_files_return_what_was_written() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.feat.npz");
    let features = some_features();
    FeatureFile::write(&path, &features).unwrap();
    // To the last bit, the description's sums included.
    assert_eq!(FeatureFile::read_meta(&path).unwrap(), features.meta);
    assert!(FeatureFile::read(&path).unwrap() == features);
    assert!(FeatureFile::read_logmel(&path).unwrap() == (features.logmel.clone(), features.meta.clone()));
    assert!(FeatureFile::read_spectra(&path).unwrap() == (features.logmel.clone(), features.logspec.clone()));
    assert_eq!(features.meta.bands, BandSums::of(&features.logmel));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left beside the file");
    // Any other reader of numpy's format finds the four arrays.
    let mut npz = NpzReader::new(fs::File::open(&path).unwrap()).unwrap();
    assert_eq!(npz.names().unwrap(), ["au", "logspec", "logmel", "meta"]);
    assert_eq!(npz.by_name::<_, ndarray::Ix2>("logspec").map(|x: Array2<f32>| x).unwrap(), features.logspec);
}

#[test]
fn files_that_numpy_wrote_in_fortran_order_are_read() {
    for name in ["fortran.feat.npz", "fortran_compressed.feat.npz"] {
        let features = FeatureFile::read(&golden(name)).unwrap();
        let grid = |columns| Array2::from_shape_fn((3, columns), |(row, column)| (100 * row + column) as f32);
        assert_eq!((features.logspec, &features.logmel), (grid(9), &grid(4)));
        assert_eq!(features.au, (0..16).map(|x| x as f32).collect::<Vec<_>>());
        assert_eq!(features.meta.bands, BandSums::of(&features.logmel));
        assert!(FeatureFile::read_logmel(&golden(name)).unwrap().0.is_standard_layout());
    }
}

#[test]
fn files_that_are_no_feature_files_are_errors_that_say_what_is_wrong() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.feat.npz");
    let good = some_features();
    let said = || FeatureFile::read(&path).unwrap_err().to_string();
    let write = |features: &Features| FeatureFile::write(&path, features).unwrap();

    assert!(said().contains("a.feat.npz"));
    fs::write(&path, b"this is no archive").unwrap();
    assert!(said().contains("not a feature file"));

    let mut npz = NpzWriter::new(fs::File::create(&path).unwrap());
    npz.add_array("logmel", &good.logmel).unwrap();
    npz.finish().unwrap();
    assert!(said().contains("meta") && said().contains("extract the features again"), "{}", said());

    let mut npz = NpzWriter::new(fs::File::create(&path).unwrap());
    npz.add_array("meta", &ArrayView1::from(&serde_json::to_vec(&good.meta).unwrap())).unwrap();
    npz.add_array("logmel", &good.logmel).unwrap();
    npz.add_array("au", &Array1::<f64>::zeros(good.au.len())).unwrap();
    npz.finish().unwrap();
    assert!(said().contains("au") && said().contains("<f8"), "{}", said());

    let mut bad = good.clone();
    bad.logmel = Array2::zeros((3, 80).f());
    write(&bad);
    assert!(said().contains("logmel") && said().contains("[3, 80]"), "{}", said());
    let mut bad = good.clone();
    bad.logspec[[1, 7]] = f32::NAN;
    write(&bad);
    assert!(said().contains("logspec") && said().contains("NaN"), "{}", said());
    let mut bad = good.clone();
    bad.meta.version = 99;
    write(&bad);
    assert!(said().contains("layout 99"), "{}", said());
}

#[test]
fn a_small_file_that_unpacks_to_a_large_array_is_refused_before_it_is_unpacked() {
    use std::io::Write;
    use zip::write::SimpleFileOptions;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.feat.npz");
    let write = |frames: usize| {
        let mut zip = zip::ZipWriter::new(fs::File::create(&path).unwrap());
        let options = SimpleFileOptions::default().compression_method(zip::CompressionMethod::Deflated);
        zip.start_file("meta.npy", options).unwrap();
        let meta = serde_json::to_vec(&some_features().meta).unwrap();
        write_npy(&mut zip, &format!("'descr': '|u1', 'fortran_order': False, 'shape': ({},)", meta.len()), &meta);
        zip.start_file("logmel.npy", options).unwrap();
        let header = format!("'descr': '<f4', 'fortran_order': False, 'shape': ({frames}, 80)");
        write_npy(&mut zip, &header, &vec![0; frames * 80 * 4]);
        zip.finish().unwrap();
    };
    fn write_npy(zip: &mut impl Write, header: &str, values: &[u8]) {
        zip.write_all(b"\x93NUMPY\x01\x00").unwrap();
        zip.write_all(&(header.len() as u16 + 2).to_le_bytes()).unwrap();
        zip.write_all(format!("{{{header}}}").as_bytes()).unwrap();
        zip.write_all(values).unwrap();
    }
    let said = || FeatureFile::read_logmel(&path).unwrap_err().to_string();
    write(250_000);
    assert!(fs::metadata(&path).unwrap().len() < 200_000);
    assert!(said().contains("logmel") && said().contains("which no spectra do"), "{}", said());
    write(1_000);
    assert!(said().contains("[1000, 80]") && said().contains("description"), "{}", said());
}

#[test]
fn damaged_feature_files_are_errors_however_they_are_damaged() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.feat.npz");
    let good = fs::read(golden("fortran.feat.npz")).unwrap();
    for len in (0..good.len()).step_by(5) {
        fs::write(&path, &good[..len]).unwrap();
        assert!(FeatureFile::read(&path).is_err(), "cut to {len} bytes");
    }
    // The archive's checksums find most changes; one in fields that say nothing about the arrays does no harm.
    let wanted = FeatureFile::read(&golden("fortran.feat.npz")).unwrap();
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= if at % 2 == 0 { 0x01 } else { 0xff };
        fs::write(&path, &bad).unwrap();
        assert!(FeatureFile::read(&path).map_or(true, |found| found == wanted), "byte {at} changed");
    }
}

/// A folder of empty files.
fn tree(files: &[&str]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for file in files {
        let path = folder.path().join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, b"").unwrap();
    }
    folder
}

/// The outputs of a plan, relative to the target.
fn outputs(folder: &Path, options: &PlanOptions) -> Vec<String> {
    let target = Path::new("/target");
    let items = plan(folder, target, options).unwrap().items;
    items.iter().map(|item| item.output.strip_prefix(target).unwrap().to_string_lossy().into_owned()).collect()
}

fn refusal(folder: &Path, options: &PlanOptions) -> String {
    plan(folder, Path::new("/target"), options).unwrap_err().to_string()
}

#[test]
fn a_folder_with_train_and_test_keeps_its_structure() {
    let folder =
        tree(&["train/b/2.WAV", "train/a/1.ogg", "test/a/3.Wav", "notes.txt", "train/.hidden.wav", "train/x.y.wav"]);
    let wanted = ["test/a/3.feat.npz", "train/a/1.feat.npz", "train/b/2.feat.npz", "train/x.y.feat.npz"];
    assert_eq!(outputs(folder.path(), &PlanOptions::default()), wanted);
    let filtered = PlanOptions { filter_speakers: vec!["/b/".into(), "test".into()], ..Default::default() };
    assert_eq!(outputs(folder.path(), &filtered), ["test/a/3.feat.npz", "train/b/2.feat.npz"]);
    let nobody = PlanOptions { filter_speakers: vec!["nobody".into()], ..Default::default() };
    assert!(refusal(folder.path(), &nobody).contains("nobody"));
}

#[test]
fn a_flat_folder_is_split_the_same_way_every_time() {
    let names: Vec<String> = (0..100).map(|i| format!("{i:03}.wav")).collect();
    let folder = tree(&names.iter().map(String::as_str).collect::<Vec<_>>());
    let options = PlanOptions::default();
    let first = outputs(folder.path(), &options);
    assert_eq!(first, outputs(folder.path(), &options));
    assert_eq!(first.iter().filter(|path| path.starts_with("test/")).count(), 5);
    assert_eq!(first.iter().filter(|path| path.starts_with("train/")).count(), 95);
    let test = |share| {
        let paths = outputs(tree(&["a.wav", "b.wav"]).path(), &PlanOptions { split: share, ..Default::default() });
        paths.iter().filter(|path| path.starts_with("test/")).count()
    };
    assert_eq!([test(0.0), test(0.001), test(0.999)], [0, 1, 1]);
    assert_eq!(outputs(tree(&["only.wav"]).path(), &options), ["train/only.feat.npz"]);
    assert!(refusal(folder.path(), &PlanOptions { split: 1.0, ..Default::default() }).contains("--split 1"));
}

#[test]
fn speakers_are_split_as_wholes() {
    let names: Vec<String> = (0..40).map(|i| format!("speaker{}/{i}.wav", i % 4)).collect();
    let folder = tree(&names.iter().map(String::as_str).collect::<Vec<_>>());
    let options = PlanOptions { split_by: SplitBy::Speaker, ..Default::default() };
    let paths = outputs(folder.path(), &options);
    let test: Vec<_> = paths.iter().filter(|path| path.starts_with("test/")).collect();
    assert_eq!(test.len(), 10);
    assert!(test.iter().all(|path| path[..13] == test[0][..13]));
    assert!(refusal(tree(&["a/1.wav", "2.wav"]).path(), &options).contains("2.wav"));
    assert!(refusal(tree(&["a/1.wav", "a/2.wav"]).path(), &options).contains("two folders"));
}

#[test]
fn folders_that_cannot_be_planned_are_refused_before_any_work() {
    let options = PlanOptions::default();
    assert!(refusal(Path::new("/nowhere"), &options).contains("does not exist"));
    assert!(refusal(tree(&["a.txt"]).path(), &options).contains("no .wav, .ogg, .flac or .mp3"));
    let both = refusal(tree(&["train/a.wav", "train/a.ogg"]).path(), &options);
    assert!(both.contains("a.wav") && both.contains("a.ogg"), "{both}");
    let folder = tree(&["a.wav"]);
    for inside in ["", "features", "new/../features/deep"] {
        let said = plan(folder.path(), &folder.path().join(inside), &options).unwrap_err().to_string();
        assert!(said.contains("inside"), "{said}");
    }
    let beside = folder.path().join("../beside");
    assert!(plan(folder.path(), &beside, &options).is_ok());
}

#[cfg(unix)]
#[test]
fn links_to_folders_are_followed_and_loops_are_not() {
    let elsewhere = tree(&["x.wav"]);
    let folder = tree(&["train/a.wav"]);
    std::os::unix::fs::symlink(elsewhere.path(), folder.path().join("train/linked")).unwrap();
    std::os::unix::fs::symlink(folder.path(), folder.path().join("train/loop")).unwrap();
    std::os::unix::fs::symlink("nowhere.wav", folder.path().join("train/broken.wav")).unwrap();
    let found = plan(folder.path(), Path::new("/target"), &PlanOptions::default()).unwrap();
    assert_eq!(found.items.len(), 2);
    assert_eq!(found.unreadable.len(), 1);
    let said = found.unreadable[0].to_string();
    assert!(said.matches("broken.wav").count() == 1 && said.contains("No such file"), "{said}");
}
