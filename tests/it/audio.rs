//! Decoding against libsndfile, writing, resampling measured as a filter, and files that are not what they claim.

use std::collections::BTreeMap;
use std::f64::consts::TAU;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use ndarray::{Array0, Array1};
use ndarray_npy::NpzReader;
use vae_workshop::audio::Waveform;

use crate::mutants::mutants;

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/decode").join(name)
}

fn sine(rate: u32, hertz: f64, len: usize) -> Waveform {
    let samples = (0..len).map(|n| (0.5 * (TAU * hertz * n as f64 / f64::from(rate)).sin()) as f32).collect();
    Waveform { samples, sample_rate: rate }
}

/// Amplitude at `hertz` of the middle half, by a Hann-weighted inner product.
fn amplitude(wave: &Waveform, hertz: f64) -> f64 {
    let len = wave.samples.len() / 2;
    let (mut re, mut im, mut total) = (0.0, 0.0, 0.0);
    for (n, &x) in wave.samples[len / 2..len / 2 + len].iter().enumerate() {
        let window = 0.5 - 0.5 * (TAU * n as f64 / len as f64).cos();
        let angle = TAU * hertz * n as f64 / f64::from(wave.sample_rate);
        re += window * f64::from(x) * angle.cos();
        im += window * f64::from(x) * angle.sin();
        total += window;
    }
    2.0 * re.hypot(im) / total
}

fn decibel(ratio: f64) -> f64 {
    20.0 * ratio.max(1e-12).log10()
}

#[test]
fn every_encoding_decodes_as_libsndfile_decodes_it() {
    let mut expected = NpzReader::new(fs::File::open(data("expected.npz")).unwrap()).unwrap();
    let names: Vec<String> = expected.names().unwrap().into_iter().filter(|name| !name.ends_with(" rate")).collect();
    assert_eq!(names.len(), 12);
    // PCM is exact; two Vorbis decoders differ by the rounding of their transforms.
    agree(expected, names, |name| if name.ends_with(".ogg") { 1e-5 } else { 0.0 });
}

#[test]
fn flac_and_mp3_decode_as_libsndfile_decodes_them() {
    let mut expected = NpzReader::new(fs::File::open(data("compressed.npz")).unwrap()).unwrap();
    let names: Vec<String> = expected.names().unwrap().into_iter().filter(|name| !name.ends_with(" rate")).collect();
    assert_eq!(names.len(), 6);
    agree(expected, names, |name| if name.ends_with(".mp3") { 1e-4 } else { 0.0 });
}

#[test]
fn an_mp3_whose_first_or_last_frames_are_padding_alone_loses_just_those() {
    const FRAME: usize = 1152; // samples
    let whole = Waveform::read(&data("stereo.mp3")).unwrap().samples;
    let mut content = fs::read(data("stereo.mp3")).unwrap();
    let tag = content.windows(4).position(|bytes| bytes == b"LAME").unwrap();
    content[tag..tag + 4].copy_from_slice(b"Lavc"); // an encoder whose tag has no checksum
    // What the encoder added at the start and at the end, in 12 bits each.
    let (delay, padding) = (tag + 21, tag + 22);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.mp3");
    let mut read_with = |at: usize, shift: u32| {
        let before = u16::from_be_bytes([content[at], content[at + 1]]);
        content[at..at + 2].copy_from_slice(&(before + ((FRAME as u16) << shift)).to_be_bytes());
        fs::write(&path, &content).unwrap();
        content[at..at + 2].copy_from_slice(&before.to_be_bytes());
        Waveform::read(&path).unwrap().samples
    };
    assert_eq!(read_with(padding, 0), whole[..whole.len() - FRAME]);
    assert_eq!(read_with(delay, 4), whole[FRAME..]);
}

/// Every file has the rate, the length and, within a tolerance, the samples expected of it.
fn agree(mut expected: NpzReader<fs::File>, names: Vec<String>, tolerance: impl Fn(&str) -> f32) {
    for name in names {
        let wanted: Array1<f32> = expected.by_name(&name).unwrap();
        let rate: Array0<i64> = expected.by_name(&format!("{name} rate")).unwrap();
        let found = Waveform::read(&data(&name)).unwrap();
        assert_eq!(i64::from(found.sample_rate), rate[()], "{name}");
        assert_eq!(found.samples.len(), wanted.len(), "{name}");
        let worst = found.samples.iter().zip(&wanted).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(worst <= tolerance(&name), "{name}: {worst:e}");
    }
}

#[test]
fn what_is_written_is_read_back_and_what_is_too_loud_is_cut_at_full_scale() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.wav");
    let levels = [0.0, 0.5, -0.25, 32767.0 / 32768.0, -1.0, 1.0 / 32768.0];
    Waveform { samples: levels.to_vec(), sample_rate: 22_050 }.write(&path).unwrap();
    let back = Waveform::read(&path).unwrap();
    assert_eq!((back.samples.as_slice(), back.sample_rate), (&levels[..], 22_050));

    Waveform { samples: vec![1.0, 7.0, -3.0], sample_rate: 16_000 }.write(&path).unwrap();
    assert_eq!(Waveform::read(&path).unwrap().samples, [32767.0 / 32768.0, 32767.0 / 32768.0, -1.0]);
}

#[test]
fn samples_that_are_not_finite_are_not_written_and_leave_the_old_file_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.wav");
    sine(16_000, 440.0, 100).write(&path).unwrap();
    let before = fs::read(&path).unwrap();
    for bad in [f32::NAN, f32::INFINITY] {
        let error = Waveform { samples: vec![0.0, bad], sample_rate: 16_000 }.write(&path).unwrap_err().to_string();
        assert!(error.contains("a.wav") && error.contains("sample 1"), "{error}");
    }
    assert_eq!(fs::read(&path).unwrap(), before);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn resampling_has_the_exact_length_and_no_delay() {
    for rate in [8_000, 11_025, 22_050, 24_000, 32_000, 44_100, 48_000, 96_000] {
        for len in [1, 2, 100, 4_095, 4_096, 4_097, 30_011] {
            let out = sine(rate, 300.0, len).resample(16_000).unwrap();
            assert_eq!(out.samples.len(), (len * 16_000).div_ceil(rate as usize), "{len} samples at {rate} Hz");
        }
        // A slow sine, compared with itself sampled at the new rate: a delay of one sample would show as 0.02.
        let (len, hertz) = (rate as usize, 200.0);
        let out = sine(rate, hertz, len).resample(16_000).unwrap();
        let wanted = sine(16_000, hertz, 16_000);
        let middle = out.samples.iter().zip(&wanted.samples).skip(2_000).take(12_000);
        let worst = middle.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(worst < 1e-4, "{rate} Hz: {worst:e}");
        // And an impulse stays where it is.
        let mut impulse = Waveform { samples: vec![0.0; len], sample_rate: rate };
        impulse.samples[len / 2] = 1.0;
        let out = impulse.resample(16_000).unwrap();
        let peak = (0..out.samples.len()).max_by(|&a, &b| out.samples[a].total_cmp(&out.samples[b])).unwrap();
        assert!(peak.abs_diff(8_000) <= 1, "{rate} Hz: the impulse moved to {peak}");
    }
}

#[test]
fn the_pass_band_is_flat_and_aliases_are_80_decibels_down() {
    for rate in [8_000u32, 11_025, 22_050, 24_000, 32_000, 44_100, 48_000, 96_000] {
        let edge = 7_600f64.min(0.95 * f64::from(rate) / 2.0);
        let mut worst = 0f64;
        for hertz in (1..=40).map(|i| edge * f64::from(i) / 40.0) {
            let out = sine(rate, hertz, rate as usize).resample(16_000).unwrap();
            worst = worst.max(decibel(amplitude(&out, hertz) / 0.5).abs());
        }
        assert!(worst < 0.1, "{rate} Hz: the pass-band deviates by {worst:.3} dB");

        // From half the new rate on nothing may come through; the
        // loudest sample counts, wherever the alias falls. When the rate rises the images are what must not appear.
        let nyquist = f64::from(rate) / 2.0;
        let mut loudest = 0f64;
        if nyquist > 8_000.0 {
            for hertz in (0..40).map(|i| 8_000.0 + (nyquist - 8_000.0) * f64::from(i) / 40.0) {
                let out = sine(rate, hertz, rate as usize).resample(16_000).unwrap();
                let middle = &out.samples[4_000..12_000];
                loudest = loudest.max(middle.iter().fold(0.0, |m: f64, &x| m.max(f64::from(x).abs())));
            }
        } else {
            for hertz in (1..20).map(|i| edge * f64::from(i) / 20.0) {
                let out = sine(rate, hertz, rate as usize).resample(16_000).unwrap();
                loudest = loudest.max(amplitude(&out, f64::from(rate) - hertz));
            }
        }
        assert!(decibel(loudest / 0.5) < -80.0, "{rate} Hz: aliases at {:.1} dB", decibel(loudest / 0.5));
    }
}

#[test]
fn equal_rates_pass_through_and_impossible_ones_are_refused() {
    let wave = sine(16_000, 440.0, 777);
    assert_eq!(wave.resample(16_000).unwrap(), wave);
    assert!(wave.resample(0).unwrap_err().to_string().contains("0 Hz"));
    let odd = Waveform { samples: vec![0.1; 50_000], sample_rate: 44_099 };
    assert_eq!(odd.resample(16_000).unwrap().samples.len(), (50_000usize * 16_000).div_ceil(44_099));
}

/// What `Waveform::read` says about a file with this content.
fn complaint(name: &str, content: &[u8]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    fs::write(&path, content).unwrap();
    let error = Waveform::read(&path).unwrap_err().to_string();
    assert!(error.contains(name), "{error}");
    error
}

/// A wav file of chunks.
fn wav(chunks: &[(&[u8; 4], u32, &[u8])]) -> Vec<u8> {
    let mut file = b"RIFF\xff\xff\xff\x7fWAVE".to_vec();
    for (name, claimed, bytes) in chunks {
        file.extend(*name);
        file.extend(claimed.to_le_bytes());
        file.extend(*bytes);
    }
    file
}

/// The `fmt ` chunk of a PCM or float file.
fn format(tag: u16, channels: u16, rate: u32, bits: u16) -> Vec<u8> {
    let align = channels.wrapping_mul(bits / 8);
    let mut bytes = [tag.to_le_bytes(), channels.to_le_bytes()].concat();
    bytes.extend(rate.to_le_bytes());
    bytes.extend(rate.wrapping_mul(u32::from(align)).to_le_bytes());
    bytes.extend([align.to_le_bytes(), bits.to_le_bytes()].concat());
    bytes
}

#[test]
fn damaged_and_hostile_wav_files_are_errors_that_name_the_file() {
    let pcm = format(1, 1, 16_000, 16);
    let cases: BTreeMap<&str, (Vec<u8>, &str)> = BTreeMap::from([
        ("empty.wav", (vec![], "ends too early")),
        ("text.wav", (b"hello, this is no sound at all".to_vec(), "RIFF")),
        ("no-data.wav", (wav(&[(b"fmt ", 16, &pcm)]), "ends too early")),
        ("data-first.wav", (wav(&[(b"data", 4, &[0; 4])]), "fmt")),
        ("endless-chunk.wav", (wav(&[(b"fmt ", 16, &pcm), (b"LIST", 0x7fff_ffff, &[0; 100])]), "ends too early")),
        ("no-samples.wav", (wav(&[(b"fmt ", 16, &pcm), (b"data", 0, &[])]), "no samples")),
        ("no-channels.wav", (wav(&[(b"fmt ", 16, &format(1, 0, 16_000, 16)), (b"data", 4, &[0; 4])]), "channels")),
        ("channels.wav", (wav(&[(b"fmt ", 16, &format(1, 33, 16_000, 16)), (b"data", 4, &[0; 4])]), "33 channels")),
        ("half-a-sample.wav", (wav(&[(b"fmt ", 16, &pcm), (b"data", 1, &[0; 1])]), "no samples")),
        ("big-endian.wav", (b"RIFX\0\0\0\x10WAVEfmt ".to_vec(), "big-endian")),
        ("webp.wav", (b"RIFF\0\0\0\x10WEBPVP8 ".to_vec(), "another kind")),
        ("infinite.wav", {
            let samples = [0f64.to_le_bytes(), f64::INFINITY.to_le_bytes()].concat();
            (wav(&[(b"fmt ", 16, &format(3, 1, 16_000, 64)), (b"data", 16, &samples)]), "inf")
        }),
        ("rate-0.wav", (wav(&[(b"fmt ", 16, &format(1, 1, 0, 16)), (b"data", 4, &[0; 4])]), "0 Hz")),
        ("rate-max.wav", (wav(&[(b"fmt ", 16, &format(1, 1, 0x7fff_ffff, 16)), (b"data", 4, &[0; 4])]), "Hz")),
        ("mu-law.wav", (wav(&[(b"fmt ", 16, &format(7, 1, 8_000, 8)), (b"data", 4, &[0; 4])]), "encoding")),
        ("nan.wav", {
            let samples = [0f32.to_le_bytes(), f32::NAN.to_le_bytes()].concat();
            (wav(&[(b"fmt ", 16, &format(3, 1, 16_000, 32)), (b"data", 8, &samples)]), "NaN")
        }),
    ]);
    for (name, (content, expected)) in cases {
        let said = complaint(name, &content);
        assert!(said.contains(expected), "{said}");
    }
    assert!(complaint("sound.aiff", b"FORM").contains("neither"));
    assert!(Waveform::read(Path::new("/nowhere/a.wav")).unwrap_err().to_string().contains("/nowhere/a.wav"));
    assert!(Waveform::read(Path::new("/")).is_err());
}

/// The samples that `Waveform::read` finds in a wav file with this content.
fn samples(content: &[u8]) -> Vec<f32> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.wav");
    fs::write(&path, content).unwrap();
    Waveform::read(&path).unwrap().samples
}

/// The little-endian 16-bit samples 1, 2, 3...
fn ramp(len: i16) -> Vec<u8> {
    (1..=len).flat_map(i16::to_le_bytes).collect()
}

#[test]
fn wav_files_as_programs_in_the_field_write_them_hold_the_samples_they_hold() {
    let pcm = format(1, 1, 16_000, 16);
    let fmt: (&[u8; 4], u32, &[u8]) = (b"fmt ", 16, &pcm);
    let sound = ramp(50);
    let wanted: Vec<f32> = (1..=50).map(|n| n as f32 / 32_768.0).collect();
    let with_size = |size: u32, mut file: Vec<u8>| {
        file[4..8].copy_from_slice(&size.to_le_bytes());
        file
    };
    // Cut short, at any length announced; a recorder that died before it filled in its header; a pipe.
    assert_eq!(samples(&wav(&[fmt, (b"data", 2000, &sound)])), wanted);
    assert_eq!(samples(&wav(&[fmt, (b"data", 0xffff_fffe, &sound)])), wanted);
    assert_eq!(samples(&wav(&[fmt, (b"data", 101, &[&sound[..], &[7]].concat())])), wanted);
    assert_eq!(samples(&with_size(36, wav(&[fmt, (b"data", 0, &sound)]))), wanted);
    assert_eq!(samples(&with_size(0, wav(&[fmt, (b"data", 0, &sound)]))), wanted);
    assert_eq!(samples(&with_size(u32::MAX, wav(&[fmt, (b"data", u32::MAX, &sound)]))), wanted);
    // Chunks in another order and of odd lengths, with and without the byte that should follow.
    assert_eq!(samples(&wav(&[(b"data", 100, &sound), fmt])), wanted);
    assert_eq!(samples(&wav(&[(b"LIST", 3, b"abc\0"), fmt, (b"data", 100, &sound), (b"id3 ", 900, b"")])), wanted);
    assert_eq!(samples(&wav(&[(b"LIST", 3, b"abc"), fmt, (b"data", 100, &sound)])), wanted);
    // Lengths of 64 bits.
    let lengths = [0u64.to_le_bytes(), 100u64.to_le_bytes(), 50u64.to_le_bytes()].concat();
    let mut long = wav(&[(b"ds64", 24, &lengths), fmt, (b"data", u32::MAX, &sound), (b"LIST", 4, b"abcd")]);
    long[..4].copy_from_slice(b"RF64");
    assert_eq!(samples(&long), wanted);
}

#[test]
fn every_wav_encoding_has_its_full_scale_and_channels_are_averaged() {
    let read = |tag, channels, bits, bytes: &[u8]| {
        let fmt = format(tag, channels, 16_000, bits);
        samples(&wav(&[(b"fmt ", 16, &fmt), (b"data", bytes.len() as u32, bytes)]))
    };
    assert_eq!(read(1, 1, 8, &[0, 128, 192]), [-1.0, 0.0, 0.5]);
    assert_eq!(read(1, 1, 24, &[0, 0, 0x80, 0, 0, 0x40, 1, 0, 0]), [-1.0, 0.5, 1.0 / 8_388_608.0]);
    assert_eq!(read(1, 1, 32, &[0, 0, 0, 0x80, 0, 0, 0, 0x40]), [-1.0, 0.5]);
    assert_eq!(read(3, 1, 64, &[0.25f64.to_le_bytes(), (-3.0f64).to_le_bytes()].concat()), [0.25, -3.0]);
    assert_eq!(read(3, 3, 32, &[0.5f32, 1.0, 0.0, 3.0, 0.0, 0.0].map(f32::to_le_bytes).concat()), [0.5, 1.0]);
    let frame: Vec<u8> = (0..32).flat_map(|n: i16| (n * 256).to_le_bytes()).collect();
    assert_eq!(read(1, 32, 16, &frame), [15.5 / 128.0]);
    // Extensible: 20 bits at the top of 24, and a sub-format.
    let mut fmt = format(0xfffe, 1, 16_000, 24);
    fmt.extend([22, 0, 20, 0, 4, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0x10, 0, 0x80, 0, 0, 0xaa, 0, 0x38, 0x9b, 0x71]);
    assert_eq!(samples(&wav(&[(b"fmt ", 40, &fmt), (b"data", 3, &[0, 0, 0x40])])), [0.5]);
    fmt[30] = 9;
    assert!(complaint("own.wav", &wav(&[(b"fmt ", 40, &fmt), (b"data", 3, &[0, 0, 0x40])])).contains("sub-format"));
}

#[test]
fn sounds_longer_than_allowed_are_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("long.wav");
    sine(1_000, 100.0, 3_001).write(&path).unwrap();
    let limit = |seconds| Waveform::read_within(&path, std::time::Duration::from_secs(seconds));
    let said = limit(3).unwrap_err().to_string();
    assert!(said.contains("long.wav") && said.contains("longer than"), "{said}");
    assert_eq!(limit(4).unwrap().samples.len(), 3_001);
}

#[test]
fn damaged_and_hostile_ogg_files_are_errors_and_never_panics() {
    assert!(complaint("empty.ogg", b"").contains("OggS"));
    assert!(complaint("riff.ogg", &fs::read(data("mono_16.wav")).unwrap()).contains("OggS"));
    let good = fs::read(data("mono.ogg")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.ogg");
    // Cut anywhere: less sound or an error, no more than that.
    let whole = Waveform::read(&data("mono.ogg")).unwrap().samples.len();
    for len in (0..good.len()).step_by(97) {
        fs::write(&path, &good[..len]).unwrap();
        assert!(Waveform::read(&path).map_or(0, |wave| wave.samples.len()) <= whole);
    }
    // A flipped byte breaks a page's checksum.
    for at in (0..good.len()).step_by(61) {
        let mut bad = good.clone();
        bad[at] ^= 0x55;
        fs::write(&path, &bad).unwrap();
        assert!(Waveform::read(&path).map_or(0, |wave| wave.samples.len()) <= whole + 4096, "byte {at}");
    }
}

#[test]
fn what_stands_before_the_sound_of_a_flac_file_is_passed_over() {
    let good = fs::read(data("mono_16.flac")).unwrap();
    let wanted = Waveform::read(&data("mono_16.flac")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.flac");
    let read = |content: &[u8]| {
        fs::write(&path, content).unwrap();
        Waveform::read(&path)
    };
    // Comments that claim 4 GB, right after the header of the stream (4 + 4 + 34 bytes); a tag as MP3 files have it.
    let comments = [&[4, 0, 0, 8][..], &[0xff; 4], b"abcd"].concat();
    assert_eq!(read(&[&good[..42], &comments, &good[42..]].concat()).unwrap(), wanted);
    assert_eq!(read(&[b"ID3\x04\0\0\0\0\x01\0", &[7; 128][..], &good].concat()).unwrap(), wanted);
    for (content, expected) in [(&good[..3], "ends too early"), (&good[..30], "ends too early"), (&b"RIFF"[..], "fLaC")]
    {
        let said = read(content).unwrap_err().to_string();
        assert!(said.contains("a.flac: not a readable FLAC file") && said.contains(expected), "{said}");
    }
}

/// Reads so many damaged files and gives how long the slowest took.
fn read_mutants(count: usize, seed: u64) -> Duration {
    let folder = tempfile::tempdir().unwrap();
    let mut slowest = Duration::ZERO;
    for (index, (name, file)) in mutants(count, seed).enumerate() {
        let path = folder.path().join(name);
        fs::write(&path, &file).unwrap();
        let started = Instant::now();
        // What comes back is bounded by what is there: nothing here decodes to more than 1 000 samples a byte.
        if let Ok(sound) = Waveform::read(&path) {
            assert!(sound.samples.len() <= 1000 * file.len(), "{name}, {index}: {}", sound.samples.len());
        }
        slowest = slowest.max(started.elapsed());
    }
    slowest
}

#[test]
fn mutated_files_of_every_kind_are_read_or_refused_and_never_panic() {
    read_mutants(400, 7);
}

/// In `make torture`.
#[test]
#[ignore = "a minute"]
fn torture_decoders() {
    let slowest = read_mutants(20_000, 8);
    println!("20000 damaged files: the slowest took {slowest:?}");
    assert!(slowest < Duration::from_secs(5), "{slowest:?}");
}

#[test]
fn ogg_that_holds_opus_is_told_from_damaged_vorbis() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("speech.ogg");
    let page = [b"OggS\0\x02".as_slice(), &[0; 20], &[1, 19], b"OpusHead", &[1; 11]].concat();
    std::fs::write(&path, page).unwrap();
    let said = Waveform::read(&path).unwrap_err().to_string();
    assert!(said.contains("speech.ogg") && said.contains("is Ogg Opus") && said.contains("ffmpeg"), "{said}");
}
