//! A model's tensors in half precision, for a page.

use std::io::Write;

use flate2::Compression;
use flate2::write::ZlibEncoder;
use half::f16;
use serde_json::{Value, json};

use crate::run::NamedTensors;

/// Tensors as JSON: `tensors`, an array of `{name, shape, offset}`, and `weights`, all values one after the other as
/// IEEE 754 halves, first the low bytes of all and then the high ones, deflated (zlib, RFC 1950), as letters of base 85. A tensor's values
/// are row-major and begin `offset` values from the start. Names and layouts are those of the checkpoint.
///
/// Low bytes are noise; sign, exponent and the first bits of the fraction are not: together they take 6/7 of their size.
///
/// A value is the half nearest to its weight, ties to even: within 1/2048 of it from 6e-5 on, within 3e-8 below. What is beyond
/// 65504, the largest half, becomes that.
pub fn pack(tensors: &NamedTensors) -> (Value, String) {
    let mut halves = Vec::new();
    let mut about = Vec::with_capacity(tensors.0.len());
    for (name, (shape, values)) in &tensors.0 {
        about.push(json!({ "name": name, "shape": shape, "offset": halves.len() }));
        halves.extend(values.iter().map(|&value| half(value).to_le_bytes()));
    }
    let planes = [0, 1].map(|plane| halves.iter().map(|half| half[plane]).collect::<Vec<u8>>());
    let mut deflated = ZlibEncoder::new(Vec::new(), Compression::best());
    let written = planes.iter().try_for_each(|plane| deflated.write_all(plane)).and_then(|()| deflated.finish());
    (about.into(), text(&written.expect("memory takes all that is written to it")))
}

/// The tensors that [`pack`] keeps: each value as the half it becomes.
pub fn rounded(tensors: &NamedTensors) -> NamedTensors {
    let round = |(name, (shape, values)): (&String, &(Vec<usize>, Vec<f32>))| {
        (name.clone(), (shape.clone(), values.iter().map(|&value| half(value).to_f32()).collect()))
    };
    NamedTensors(tensors.0.iter().map(round).collect())
}

/// f32 values, little-endian, as [`text`].
pub(super) fn floats(values: impl IntoIterator<Item = f32>) -> String {
    text(&values.into_iter().flat_map(f32::to_le_bytes).collect::<Vec<u8>>())
}

/// Letters that are themselves in JSON, in HTML and in a string of JavaScript.
const LETTERS: &[u8; 85] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz!#$%()*+,-./:;=?@[]^_{}";

/// Bytes in base 85: five letters for four of them, a letter more than what is left at the end. Base64 takes 1/15 more.
///
/// # Reference
/// As Ascii85 (Adobe, "PostScript Language Reference", 1999), with other letters.
pub(super) fn text(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() / 4 * 5 + 5);
    for part in bytes.chunks(4) {
        let mut word = [0; 4];
        word[..part.len()].copy_from_slice(part);
        let word = u32::from_be_bytes(word);
        let letter = |place: u32| char::from(LETTERS[(word / 85u32.pow(4 - place) % 85) as usize]);
        text.extend((0..=part.len() as u32).map(letter));
    }
    text
}

fn half(value: f32) -> f16 {
    let most = f16::MAX.to_f32();
    f16::from_f32(value.clamp(-most, most))
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use flate2::read::ZlibDecoder;

    use super::*;

    /// What a text stands for, digit by digit.
    fn bytes_of(text: &str) -> Vec<u8> {
        let digit = |letter: u8| LETTERS.iter().position(|&known| known == letter).unwrap() as u64;
        let word = |part: &[u8]| {
            let digits = part.iter().map(|&letter| digit(letter)).chain([84; 4]).take(5);
            let word = digits.fold(0, |word, digit| 85 * word + digit);
            u32::try_from(word).unwrap().to_be_bytes()[..part.len() - 1].to_vec()
        };
        text.as_bytes().chunks(5).flat_map(word).collect()
    }

    #[test]
    fn texts_stand_for_bytes_of_any_number_in_letters_that_need_no_escape() {
        assert_eq!((text(&[0, 0, 0, 1]).as_str(), text(&[0, 0, 1, 85]).as_str()), ("00001", "00041"));
        for length in 0..9 {
            for bytes in [vec![0; length], vec![255; length], (0..length).map(|i| (37 * i + 11) as u8).collect()] {
                assert_eq!(bytes_of(&text(&bytes)), bytes);
            }
        }
        let mut letters = LETTERS.to_vec();
        letters.sort();
        letters.dedup();
        assert!(
            letters.len() == 85
                && letters.iter().all(|letter| letter.is_ascii_graphic() && !b"\"&<>\\".contains(letter))
        );
    }

    #[test]
    fn values_are_the_nearest_halves_ties_to_even_and_none_is_infinite() {
        let of = |value: f32| half(value).to_f32();
        for value in [0.0, -0.0, 1.0, -1.5, 65504.0, 6.103_515_6e-5, 5.960_464_5e-8] {
            assert_eq!(of(value).to_bits(), value.to_bits(), "{value} is a half");
        }
        let step = 2f32.powi(-10); // between halves from 1 to 2
        assert_eq!((of(1.0 + 0.5 * step), of(1.0 + 1.5 * step)), (1.0, 1.0 + 2.0 * step));
        assert_eq!((of(1e9), of(-1e9), of(2e-8)), (65504.0, -65504.0, 0.0));
    }

    #[test]
    fn offsets_count_values_and_low_bytes_come_before_high_ones() {
        let tensors = NamedTensors(
            [("a".into(), (vec![1, 2], vec![0.333_251_95, -2.0])), ("b".into(), (vec![1], vec![0.5]))]
                .into_iter()
                .collect(),
        );
        let (about, weights) = pack(&tensors);
        assert_eq!(
            about,
            json!([{ "name": "a", "shape": [1, 2], "offset": 0 }, { "name": "b", "shape": [1], "offset": 2 }])
        );
        let deflated = bytes_of(&weights);
        let mut bytes = Vec::new();
        ZlibDecoder::new(&deflated[..]).read_to_end(&mut bytes).unwrap();
        assert_eq!(bytes, [0x55, 0x00, 0x00, 0x35, 0xc0, 0x38]);
        assert_eq!(rounded(&tensors), tensors);
    }
}
