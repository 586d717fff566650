//! A model's tensors in half precision, for a page.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use half::f16;
use serde_json::{Value, json};

use crate::run::NamedTensors;

/// Tensors as JSON: `tensors`, an array of `{name, shape, offset}`, and `weights`, all values one after the other as
/// little-endian IEEE 754 halves in base64. A tensor's values are row-major and begin `offset` values from the start. Names
/// and layouts are those of the checkpoint.
///
/// A value is the half nearest to its weight, ties to even: within 1/2048 of it from 6e-5 on, within 3e-8 below. What is beyond
/// 65504, the largest half, becomes that.
pub fn pack(tensors: &NamedTensors) -> (Value, String) {
    let mut bytes = Vec::new();
    let mut about = Vec::with_capacity(tensors.0.len());
    for (name, (shape, values)) in &tensors.0 {
        about.push(json!({ "name": name, "shape": shape, "offset": bytes.len() / 2 }));
        bytes.extend(values.iter().flat_map(|&value| half(value).to_le_bytes()));
    }
    (about.into(), STANDARD.encode(bytes))
}

/// The tensors that [`pack`] keeps: each value as the half it becomes.
pub fn rounded(tensors: &NamedTensors) -> NamedTensors {
    let round = |(name, (shape, values)): (&String, &(Vec<usize>, Vec<f32>))| {
        (name.clone(), (shape.clone(), values.iter().map(|&value| half(value).to_f32()).collect()))
    };
    NamedTensors(tensors.0.iter().map(round).collect())
}

/// f32 values as base64, little-endian.
pub(super) fn floats(values: impl IntoIterator<Item = f32>) -> String {
    STANDARD.encode(values.into_iter().flat_map(f32::to_le_bytes).collect::<Vec<u8>>())
}

/// Bytes as base64.
pub(super) fn bytes(values: &[u8]) -> String {
    STANDARD.encode(values)
}

fn half(value: f32) -> f16 {
    let most = f16::MAX.to_f32();
    f16::from_f32(value.clamp(-most, most))
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn offsets_count_values_and_bytes_are_little_endian() {
        let tensors = NamedTensors(
            [("a".into(), (vec![1, 2], vec![1.0, -2.0])), ("b".into(), (vec![1], vec![0.5]))].into_iter().collect(),
        );
        let (about, weights) = pack(&tensors);
        assert_eq!(
            about,
            json!([{ "name": "a", "shape": [1, 2], "offset": 0 }, { "name": "b", "shape": [1], "offset": 2 }])
        );
        assert_eq!(STANDARD.decode(weights).unwrap(), [0x00, 0x3c, 0x00, 0xc0, 0x00, 0x38]);
        assert_eq!(rounded(&tensors), tensors);
    }
}
