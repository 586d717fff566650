//! Recordings damaged at random: what a decoder may meet, thousands of them from one seed.

use std::fs;
use std::path::{Path, PathBuf};

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Small recordings of every kind in `tests/data/decode`.
pub const GOOD: [&str; 8] = [
    "mono_16.wav",
    "stereo_24_extensible.wav",
    "mono_float.wav",
    "short.ogg",
    "stereo.ogg",
    "mono_16.flac",
    "stereo_24.flac",
    "mono.mp3",
];

pub fn good(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/decode").join(name)
}

/// So many damaged recordings with the names of the good ones they were; the same for the same seed.
pub fn mutants(count: usize, seed: u64) -> impl Iterator<Item = (&'static str, Vec<u8>)> {
    let originals = GOOD.map(|name| (name, fs::read(good(name)).unwrap()));
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    (0..count).map(move |index| {
        let (name, original) = &originals[index % originals.len()];
        let mut file = original.clone();
        let round = index / originals.len();
        // Headers matter most; every other file is hit there.
        let reach = if round % 2 == 0 { file.len().min(300) } else { file.len() };
        for _ in 0..random.random_range(1..6) {
            let at = random.random_range(0..reach);
            match random.random_range(0..6) {
                0 => file[at] = random.random(),
                1 => file[at] = [0, 0x7f, 0x80, 0xff][random.random_range(0..4)],
                2 => file[at] ^= 1 << random.random_range(0..8),
                3 => file.splice(at..at, [0xff; 4]).for_each(drop),
                // A part left out, and a part that comes twice.
                4 => drop(file.drain(at..(at + random.random_range(1..64)).min(file.len()))),
                _ => {
                    let part = file[at..(at + random.random_range(1..64)).min(file.len())].to_vec();
                    file.splice(at..at, part).for_each(drop);
                }
            }
            file.resize(file.len().max(reach), 0);
        }
        if round % 5 == 0 {
            file.truncate(random.random_range(0..file.len()));
        }
        // With right checksums damage gets further into the decoder.
        if name.ends_with(".ogg") && round % 4 < 2 {
            repair_pages(&mut file);
        }
        (*name, file)
    })
}

/// Gives every page of an Ogg file the checksum of what is in it now.
fn repair_pages(file: &mut [u8]) {
    let mut at = 0;
    while let Some(found) = file[at..].windows(4).position(|window| window == b"OggS") {
        let start = at + found;
        at = start + 4;
        let Some(&laces) = file.get(start + 26) else { return };
        let body = start + 27 + usize::from(laces);
        let Some(table) = file.get(start + 27..body) else { return };
        let end = body + table.iter().map(|&lace| usize::from(lace)).sum::<usize>();
        let Some(page) = file.get_mut(start..end) else { continue };
        page[22..26].fill(0);
        let sum =
            page.iter().fold(0u32, |sum, &byte| {
                (0..8).fold(sum ^ (u32::from(byte) << 24), |sum, _| {
                    if sum >> 31 == 1 { (sum << 1) ^ 0x04c1_1db7 } else { sum << 1 }
                })
            });
        page[22..26].copy_from_slice(&sum.to_le_bytes());
    }
}

#[test]
fn repaired_pages_are_those_an_encoder_writes() {
    let original = fs::read(good("stereo.ogg")).unwrap();
    let mut file = original.clone();
    file[22..26].fill(0x55);
    repair_pages(&mut file);
    assert!(file == original);
}
