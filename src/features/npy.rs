//! The arrays inside a `.npz` archive, read so that a hostile file can neither exhaust the memory nor the stack.
//!
//! Only what feature files need: little-endian f32 and bytes, in C or Fortran order, stored or deflated. Sizes are held
//! against the bytes that are there before anything is reserved.

use std::fs::{File, Metadata};
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use ndarray::{Array2, ShapeBuilder};
use zip::read::ZipFile;
use zip::result::ZipError;
use zip::{CompressionMethod, ZipArchive};

use crate::beside::require_regular;
use crate::{Error, Result};

/// Longest header text of an array; numpy's own are below 200 bytes.
const MAX_HEADER: usize = 4096;
/// Deflate packs no more than this many bytes into one.
const MAX_DEFLATE_RATIO: u64 = 1032;

/// Larger deflated arrays must be plausible: spectra and codes shrink to a half, seldom to less than a tenth.
const LARGE: u64 = 1 << 26;
/// Most bytes that one byte of a large deflated array may become.
const MAX_LARGE_RATIO: u64 = 100;

/// What an archive is expected to be, for messages.
pub(crate) struct Kind {
    pub what: &'static str,
    pub fix: &'static str,
}

/// An open archive.
pub(crate) struct Npz {
    path: PathBuf,
    kind: Kind,
    stamp: Stamp,
    archive: ZipArchive<BufReader<File>>,
}

/// By which a file is known to be as it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    pub len: u64,
    modified: Option<SystemTime>,
}

impl Stamp {
    pub fn of(metadata: &Metadata) -> Self {
        Self { len: metadata.len(), modified: metadata.modified().ok() }
    }
}

/// What stands in front of an array's values.
#[derive(Debug, PartialEq)]
struct Header {
    descr: String,
    fortran_order: bool,
    shape: Vec<usize>,
}

/// An array about to be read.
struct Entry<'a> {
    source: ZipFile<'a, BufReader<File>>,
    header: Header,
    /// Bytes of values.
    there: u64,
}

/// An array as it lies in the file.
pub(crate) struct RawArray<T> {
    pub shape: Vec<usize>,
    pub fortran_order: bool,
    pub values: Vec<T>,
}

impl Npz {
    /// Opens the archive and reads its directory.
    pub fn open(path: &Path, kind: Kind) -> Result<Npz> {
        require_regular(path)?;
        let file = File::open(path).map_err(Error::io(path))?;
        let stamp = Stamp::of(&file.metadata().map_err(Error::io(path))?);
        // Small: it serves the directory and headers, here and there in the file. Values are read past it.
        let archive = ZipArchive::new(BufReader::with_capacity(1 << 12, file))
            .map_err(|e| Error::file(path, format!("is not {} (an .npz archive): {e}", kind.what)))?;
        Ok(Npz { path: path.to_path_buf(), kind, stamp, archive })
    }

    /// Of the file when it was opened.
    pub fn stamp(&self) -> Stamp {
        self.stamp
    }

    /// The array `name` of little-endian f32.
    pub fn floats(&mut self, name: &str) -> Result<RawArray<f32>> {
        self.array(name, &["<f4"], |bytes: [u8; 4]| f32::from_le_bytes(bytes))
    }

    /// The array `name` of little-endian f32 or f64, as numpy may have left it, in rows.
    pub fn matrix(&mut self, name: &str) -> Result<Array2<f32>> {
        let RawArray { shape, fortran_order, values } = match self.floats(name) {
            Ok(array) => array,
            Err(error) => match self.array(name, &["<f8"], |bytes: [u8; 8]| f64::from_le_bytes(bytes) as f32) {
                Ok(array) => array,
                Err(_) => return Err(error),
            },
        };
        let [rows, columns] = shape[..] else {
            return Err(Error::file(&self.path, format!("array {name} has the shape {shape:?}, not two dimensions")));
        };
        // The reader checked that the values fill the shape, but an empty one may still be beyond what can be addressed.
        let array = Array2::from_shape_vec((rows, columns).set_f(fortran_order), values)
            .map_err(|e| Error::file(&self.path, format!("array {name} has the shape {shape:?}: {e}")))?;
        Ok(if fortran_order { array.as_standard_layout().into_owned() } else { array })
    }

    /// The array `name` of bytes.
    pub fn bytes(&mut self, name: &str) -> Result<RawArray<u8>> {
        self.array(name, &["|u1", "<u1", "u1"], |[byte]: [u8; 1]| byte)
    }

    /// The shape of the f32 array `name`, without its values; as many bytes of them as it needs are there.
    pub fn shape(&mut self, name: &str) -> Result<Vec<usize>> {
        self.entry::<4>(name, &["<f4"]).map(|entry| entry.header.shape)
    }

    /// Where the first value of the f32 array `name` lies in the file if the others follow it there row by row: `None` of a
    /// deflated array and one in columns.
    pub fn start(&mut self, name: &str) -> Result<Option<u64>> {
        let Entry { source, header, there } = self.entry::<4>(name, &["<f4"])?;
        let plain = source.compression() == CompressionMethod::Stored && !header.fortran_order;
        Ok(plain.then(|| source.data_start() + source.size() - there))
    }

    /// Hands the values of the f32 array `name` to `give` in parts, in the order in which they lie in the file; once all have been
    /// there, the archive's checksum is known to be right.
    pub fn each_float(&mut self, name: &str, mut give: impl FnMut(&[f32]) -> Result<()>) -> Result<()> {
        let mut values = Vec::new();
        self.visit::<4>(name, &["<f4"], |bytes, _| {
            values.clear();
            values.extend(bytes.iter().map(|&bytes| f32::from_le_bytes(bytes)));
            give(&values)
        })
        .map(drop)
    }

    fn array<T, const N: usize>(
        &mut self,
        name: &str,
        types: &[&str],
        decode: impl Fn([u8; N]) -> T,
    ) -> Result<RawArray<T>> {
        let mut values = Vec::new();
        let file_len = self.stamp.len;
        let header = self.visit::<N>(name, types, |bytes, there| {
            // A deflated array may yet prove shorter than its directory entry says: it grows as the bytes arrive.
            if values.is_empty() {
                values.reserve_exact(there.min(file_len) as usize / N);
            }
            values.extend(bytes.iter().map(|&bytes| decode(bytes)));
            Ok(())
        })?;
        Ok(RawArray { shape: header.shape, fortran_order: header.fortran_order, values })
    }

    /// Hands the values of the array `name`, of `N` bytes each, to `give` in parts, with the bytes that they should be altogether.
    fn visit<const N: usize>(
        &mut self,
        name: &str,
        types: &[&str],
        mut give: impl FnMut(&[[u8; N]], u64) -> Result<()>,
    ) -> Result<Header> {
        let path = self.path.clone();
        let damaged = |what: &dyn std::fmt::Display| Error::file(&path, format!("array {name}: {what}"));
        let Entry { mut source, header, there } = self.entry::<N>(name, types)?;
        let mut buffer = vec![0; 1 << 16];
        let mut read = 0;
        loop {
            // Reading on to the end makes the archive's checksum be verified.
            let filled = fill(&mut source, &mut buffer).map_err(|e| damaged(&e))?;
            let values = buffer[..filled].as_chunks::<N>().0;
            read += values.len() * N;
            if read > there as usize {
                return Err(damaged(&"is longer than its shape"));
            }
            give(values, there)?;
            if filled < buffer.len() {
                break;
            }
        }
        if read != there as usize {
            return Err(damaged(&"is truncated"));
        }
        Ok(header)
    }

    /// Opens the array `name` of values of `N` bytes and one of `types`, up to the first of its values.
    fn entry<const N: usize>(&mut self, name: &str, types: &[&str]) -> Result<Entry<'_>> {
        let damaged = |what: &dyn std::fmt::Display| Error::file(&self.path, format!("array {name}: {what}"));
        let mut entry = match self.archive.by_name(&format!("{name}.npy")) {
            Ok(entry) => entry,
            Err(ZipError::FileNotFound) => return Err(damaged(&format!("is missing; {}", self.kind.fix))),
            Err(e) => return Err(damaged(&e)),
        };
        let ratio = if entry.compression() == CompressionMethod::Stored { 1 } else { MAX_DEFLATE_RATIO };
        let packed = entry.compressed_size();
        if packed > self.stamp.len || entry.size() > packed.saturating_mul(ratio) {
            return Err(damaged(&"claims to be larger than the file"));
        }
        if entry.size() > LARGE && entry.size() / MAX_LARGE_RATIO > packed {
            let claim = format!("claims {} bytes from {packed}, which no spectra do", entry.size());
            return Err(damaged(&claim));
        }
        let (header, header_len) = read_header(&mut entry).map_err(|e| damaged(&e))?;
        if !types.contains(&header.descr.as_str()) {
            return Err(damaged(&format!("holds values of type {}, not {}", header.descr, types[0])));
        }
        let len = header.shape.iter().try_fold(1usize, |product, &n| product.checked_mul(n));
        let bytes = len.and_then(|len| len.checked_mul(N)).map(|n| n as u64);
        let there = entry.size().saturating_sub(header_len);
        if bytes != Some(there) {
            return Err(damaged(&format!("has the shape {:?}, but {there} bytes of values", header.shape)));
        }
        Ok(Entry { source: entry, header, there })
    }
}

/// Reads until `buffer` is full or the source ends.
fn fill(source: &mut impl Read, buffer: &mut [u8]) -> std::io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match source.read(&mut buffer[filled..])? {
            0 => break,
            n => filled += n,
        }
    }
    Ok(filled)
}

/// The header and its length in bytes, magic string included.
fn read_header(source: &mut impl Read) -> std::result::Result<(Header, u64), String> {
    let failed = |e: std::io::Error| format!("ends inside its header ({e})");
    let mut start = [0; 8];
    source.read_exact(&mut start).map_err(failed)?;
    let [magic @ .., major, _minor] = start;
    if &magic != b"\x93NUMPY" {
        return Err("is not in numpy's format".into());
    }
    let mut length = [0; 4];
    let width = if major == 1 { 2 } else { 4 };
    source.read_exact(&mut length[..width]).map_err(failed)?;
    let length = u32::from_le_bytes(length) as usize;
    if length > MAX_HEADER {
        return Err(format!("has a header of {length} bytes"));
    }
    let mut text = vec![0; length];
    source.read_exact(&mut text).map_err(failed)?;
    let text = std::str::from_utf8(&text).map_err(|_| "has a header that is not text")?;
    let header = parse_header(text).ok_or_else(|| format!("has the header {:?}", text.trim_end()))?;
    Ok((header, (start.len() + width + length) as u64))
}

/// Parses `{'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }`, the keys in any order.
fn parse_header(text: &str) -> Option<Header> {
    let mut rest = text.trim().strip_prefix('{')?.strip_suffix('}')?.trim_start();
    let (mut descr, mut fortran_order, mut shape) = (None, None, None);
    while !rest.is_empty() {
        let (key, value) = rest.strip_prefix('\'')?.split_once('\'')?;
        let value = value.trim_start().strip_prefix(':')?.trim_start();
        // Each value ends at its own closing mark; a list of fields, which starts with a bracket, is none of ours.
        let end = match key {
            "descr" => value.get(1..)?.find('\'')? + 2,
            "shape" => value.find(')')? + 1,
            _ => value.find([',', '}']).unwrap_or(value.len()),
        };
        let (value, tail) = value.split_at(end);
        match key {
            "descr" => descr = Some(value.strip_prefix('\'')?.strip_suffix('\'')?.to_string()),
            "fortran_order" => fortran_order = Some(["False", "True"].iter().position(|&v| v == value.trim())? == 1),
            "shape" => {
                let numbers = value.strip_prefix('(')?.strip_suffix(')')?.split(',').map(str::trim);
                shape = numbers.filter(|n| !n.is_empty()).map(|n| n.parse().ok()).collect::<Option<Vec<usize>>>();
                shape.as_ref()?;
            }
            _ => return None,
        }
        let tail = tail.trim_start();
        rest = tail.strip_prefix(',').unwrap_or(tail).trim_start();
    }
    Some(Header { descr: descr?, fortran_order: fortran_order?, shape: shape? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_of_numpy_are_understood_and_others_refused() {
        let header = |descr: &str, fortran_order, shape: &[usize]| {
            Some(Header { descr: descr.into(), fortran_order, shape: shape.to_vec() })
        };
        let parse = parse_header;
        assert_eq!(
            parse("{'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }   \n"),
            header("<f4", false, &[3, 4])
        );
        assert_eq!(parse("{'shape': (7,), 'fortran_order': True, 'descr': '|u1'}"), header("|u1", true, &[7]));
        assert_eq!(parse("{'descr': '<f4', 'fortran_order': False, 'shape': ()}"), header("<f4", false, &[]));
        for bad in ["", "{", "{}", "{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1,)}"] {
            assert_eq!(parse(bad), None, "{bad}");
        }
        assert_eq!(parse(&"(".repeat(4000)), None);
        assert_eq!(parse("{'descr': '<f4', 'fortran_order': False, 'shape': (-1,)}"), None);
        assert_eq!(parse("{'descr': 'ü', 'fortran_order': False, 'shape': (99999999999999999999999,)}"), None);
        assert_eq!(parse("{'descr': ü', 'fortran_order': False, 'shape': (1,)}"), None);
    }
}
