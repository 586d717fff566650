//! Event files as TensorBoard reads them, as far as the tests ask.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// A field's value in protocol-buffer encoding.
enum Value<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

/// The steps of each tag in a folder's event files; the start of a session drops its own step and all beyond.
pub fn steps(folder: &Path) -> BTreeMap<String, Vec<u64>> {
    let mut paths: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let mut found: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for path in paths {
        let bytes = fs::read(path).unwrap();
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let length = u64::from_le_bytes(rest[..8].try_into().unwrap()) as usize;
            read_event(&rest[12..12 + length], &mut found);
            rest = &rest[16 + length..];
        }
    }
    found
}

fn read_event(bytes: &[u8], found: &mut BTreeMap<String, Vec<u64>>) {
    let fields = fields(bytes);
    let number = |fields: &[(u64, Value)], wanted: u64| {
        fields.iter().find_map(|(field, value)| match value {
            Value::Number(number) if *field == wanted => Some(*number),
            _ => None,
        })
    };
    let step = number(&fields, 2).unwrap_or(0);
    for (field, value) in &fields {
        match (field, value) {
            (5, Value::Bytes(summary)) => {
                for (_, value) in self::fields(summary) {
                    let Value::Bytes(scalar) = value else { panic!("a summary holds values") };
                    let Value::Bytes(tag) = self::fields(scalar)[0].1 else { panic!("a value begins with its tag") };
                    found.entry(String::from_utf8(tag.to_vec()).unwrap()).or_default().push(step);
                }
            }
            (7, Value::Bytes(session)) => {
                assert_eq!(number(&self::fields(session), 1), Some(1), "only the start of a session is written");
                found.values_mut().for_each(|steps| steps.retain(|&earlier| earlier < step));
            }
            _ => {}
        }
    }
}

fn fields(mut bytes: &[u8]) -> Vec<(u64, Value<'_>)> {
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let key = varint(&mut bytes);
        let length = match key & 7 {
            0 => {
                found.push((key >> 3, Value::Number(varint(&mut bytes))));
                continue;
            }
            1 => 8,
            2 => varint(&mut bytes) as usize,
            5 => 4,
            other => panic!("wire type {other}"),
        };
        let (value, rest) = bytes.split_at(length);
        found.push((key >> 3, Value::Bytes(value)));
        bytes = rest;
    }
    found
}

fn varint(bytes: &mut &[u8]) -> u64 {
    let length = 1 + bytes.iter().take_while(|byte| **byte >= 0x80).count();
    let (number, rest) = bytes.split_at(length);
    *bytes = rest;
    number.iter().rev().fold(0, |value, byte| value << 7 | u64::from(byte & 0x7f))
}
