//! Where the samples of a wav file lie and what they are.

use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::path::Path;

use crate::Error;
use crate::audio::MAX_CHANNELS;

/// A result with the [`Fault`] that prevented it.
type Result<T> = std::result::Result<T, Fault>;

/// How one sample is stored, little-endian.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Encoding {
    U8,
    I16,
    I24,
    I32,
    F32,
    F64,
}

impl Encoding {
    /// Bytes per sample.
    pub fn bytes(self) -> usize {
        match self {
            Encoding::U8 => 1,
            Encoding::I16 => 2,
            Encoding::I24 => 3,
            Encoding::I32 | Encoding::F32 => 4,
            Encoding::F64 => 8,
        }
    }
}

/// What the `fmt ` chunk says.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Format {
    pub encoding: Encoding,
    pub channels: usize,
    pub sample_rate: u32,
}

/// Where the samples are.
#[derive(Debug, PartialEq)]
pub(super) struct Layout {
    pub format: Format,
    /// First byte of the samples.
    pub start: u64,
    /// Bytes of them that are there.
    pub len: u64,
    /// Bytes that were announced, if they are more.
    pub cut: Option<u64>,
}

/// Why there is no layout.
pub(super) enum Fault {
    Io(std::io::Error),
    Content(String),
}

impl Fault {
    pub fn about(self, path: &Path) -> Error {
        match self {
            Fault::Io(source) => Error::io(path)(source),
            Fault::Content(what) => Error::file(path, what),
        }
    }
}

impl From<std::io::Error> for Fault {
    fn from(error: std::io::Error) -> Fault {
        match error.kind() {
            ErrorKind::UnexpectedEof => Fault::Content("ends too early: truncated, or not a wav file".into()),
            _ => Fault::Io(error),
        }
    }
}

fn content<T>(what: impl Into<String>) -> Result<T> {
    Err(Fault::Content(what.into()))
}

/// Walks the chunks of a file until both the format and the samples are found.
pub(super) fn find(file: &mut (impl Read + Seek)) -> Result<Layout> {
    let end = file.seek(SeekFrom::End(0))?;
    file.rewind()?;
    let [a, b, c, d, size @ .., w, x, y, z] = bytes::<12>(file)?;
    let size = u64::from(u32::from_le_bytes(size));
    match (&[a, b, c, d], &[w, x, y, z]) {
        (b"RIFF" | b"RF64" | b"BW64", b"WAVE") => {}
        (b"RIFX", _) => return content("is a big-endian wav file (RIFX), which is not read: convert it"),
        (b"riff", _) => return content("is a Wave64 file, which is not read: convert it"),
        (b"RIFF" | b"RF64" | b"BW64", _) => return content("is a RIFF file of another kind than WAVE"),
        _ => return content("not a readable wav file: it does not start with RIFF"),
    }
    let (mut format, mut data, mut long_data) = (None, None, None);
    let mut at = 12;
    while format.is_none() || data.is_none() {
        let Some((name, len)) = chunk(file, at, end)? else { break };
        let start = at + 8;
        match &name {
            b"fmt " => format = Some(read_format(file, len)?),
            b"ds64" if len >= 16 => {
                let _riff_size: [u8; 8] = bytes(file)?;
                long_data = Some(u64::from_le_bytes(bytes(file)?));
            }
            b"data" if data.is_none() => {
                // A length that was never filled in: 2^32 - 1, or 0 in a file that is said to end here.
                let unfilled = len == u32::MAX || len == 0 && (8 + size <= start || size == u64::from(u32::MAX));
                let announced = match long_data.filter(|_| len == u32::MAX) {
                    Some(long) => long,
                    None if unfilled => end - start,
                    None => u64::from(len),
                };
                data = Some((start, announced));
            }
            _ => {}
        }
        let len = data.filter(|&(first, _)| first == start).map_or(u64::from(len), |(_, announced)| announced);
        at = after(file, start.saturating_add(len), len, end)?;
    }
    match (format, data) {
        (Some(format), Some((start, announced))) => {
            let len = announced.min(end - start);
            Ok(Layout { format, start, len, cut: (announced > len).then_some(announced) })
        }
        (None, Some(_)) => content("has no fmt chunk, without which its samples mean nothing"),
        _ => content("ends too early: it has no data chunk; truncated, or not a wav file"),
    }
}

/// The name and length of the chunk at `at`; `None` if the file ends first.
fn chunk(file: &mut (impl Read + Seek), at: u64, end: u64) -> std::io::Result<Option<([u8; 4], u32)>> {
    if at.saturating_add(8) > end {
        return Ok(None);
    }
    file.seek(SeekFrom::Start(at))?;
    let (name, len) = (bytes::<4>(file)?, bytes::<4>(file)?);
    Ok(Some((name, u32::from_le_bytes(len))))
}

/// Where the chunk after one of `len` bytes that ends at `at` starts: chunks of odd length are followed by a byte of padding, which
/// some programs forget.
fn after(file: &mut (impl Read + Seek), at: u64, len: u64, end: u64) -> std::io::Result<u64> {
    if len.is_multiple_of(2) || at.saturating_add(9) > end {
        return Ok(at);
    }
    file.seek(SeekFrom::Start(at))?;
    let [_, padded @ ..] = bytes::<5>(file)?;
    let is_name = padded.iter().all(|byte| (b' '..=b'~').contains(byte));
    Ok(at + u64::from(is_name))
}

fn bytes<const N: usize>(file: &mut impl Read) -> std::io::Result<[u8; N]> {
    let mut bytes = [0; N];
    file.read_exact(&mut bytes).map(|()| bytes)
}

/// The tail of the identifier of every sub-format that continues a plain format tag.
const SUBFORMAT: [u8; 14] = [0, 0, 0, 0, 0x10, 0, 0x80, 0, 0, 0xaa, 0, 0x38, 0x9b, 0x71];

/// Reads the body of a `fmt ` chunk of `len` bytes.
fn read_format(file: &mut impl Read, len: u32) -> Result<Format> {
    if len < 16 {
        return content(format!("has a fmt chunk of {len} bytes; 16 are needed"));
    }
    let body: [u8; 16] = bytes(file)?;
    let u16_at = |at: usize| u16::from_le_bytes([body[at], body[at + 1]]);
    let (mut tag, channels, block, bits) = (u16_at(0), usize::from(u16_at(2)), usize::from(u16_at(12)), u16_at(14));
    let sample_rate = u32::from_le_bytes([body[4], body[5], body[6], body[7]]);
    if !(1..=MAX_CHANNELS).contains(&channels) {
        return content(format!("has {channels} channels; 1 to {MAX_CHANNELS} are read"));
    }
    if tag == 0xfffe && len >= 40 {
        let [_, _, _, _, _, _, _, _, low, high, guid @ ..]: [u8; 24] = bytes(file)?;
        if guid != SUBFORMAT {
            return content("has an encoding of its own (an unknown sub-format)");
        }
        tag = u16::from_le_bytes([low, high]);
    }
    // The container counts: 20 bits lie at the top of 24.
    let container = if block > 0 && block.is_multiple_of(channels) { block / channels } else { 0 };
    let container =
        if container * 8 >= usize::from(bits) && container > 0 { container } else { usize::from(bits).div_ceil(8) };
    let encoding = match (tag, container, bits) {
        (1, 1, 1..=8) => Encoding::U8,
        (1, 2, 1..=16) => Encoding::I16,
        (1, 3, 1..=24) => Encoding::I24,
        (1, 4, 1..=32) => Encoding::I32,
        (3, 4, 32) => Encoding::F32,
        (3, 8, 64) => Encoding::F64,
        _ => {
            return content(format!(
                "has an encoding that is not read (format {tag}, {bits} bits); PCM of 8, 16, 24 and 32 bits and float \
                 of 32 and 64 are"
            ));
        }
    };
    Ok(Format { encoding, channels, sample_rate })
}
