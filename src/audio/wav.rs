//! RIFF WAVE: a reader that forgives what writers in the field do, and a writer through hound.
//!
//! Programs that stream do not know the length when they write the header and leave 0 or 2^32 - 1 there; RF64 puts it
//! elsewhere; chunks come in any order, padded or not; recordings are cut short. In all these the samples are there.

mod chunks;

use std::fs::File;
use std::io::{BufReader, Cursor, Read, Seek, SeekFrom, Write};
use std::path::Path;

use hound::{SampleFormat, WavSpec, WavWriter};

use self::chunks::{Encoding, Layout};
use super::{Limit, Waveform, mean};
use crate::beside::{Beside, write_beside};
use crate::{Error, Result};

/// Bytes of samples read at once, about.
const BLOCK: usize = 1 << 16;

/// Reads all samples; channels become their mean.
pub(super) fn read(path: &Path, limit: Limit) -> Result<Waveform> {
    let file = File::open(path).map_err(Error::io(path))?;
    let mut file = BufReader::with_capacity(BLOCK, file);
    let Layout { format, start, len, cut } = chunks::find(&mut file).map_err(|fault| fault.about(path))?;
    let frame = format.channels * format.encoding.bytes();
    let frames = len / frame as u64;
    limit.check(path, format.sample_rate, frames)?;
    if let Some(announced) = cut {
        tracing::warn!("{}: truncated: {len} of {announced} bytes of samples are there and used", path.display());
    } else if !len.is_multiple_of(frame as u64) {
        tracing::warn!("{}: ends within a sample, which is left out", path.display());
    }
    file.seek(SeekFrom::Start(start)).map_err(Error::io(path))?;
    let mut samples = Vec::with_capacity(frames as usize);
    let mut block = vec![0; (BLOCK / frame).max(1) * frame];
    let mut left = frames as usize * frame;
    while left > 0 {
        let part = &mut block[..left.min(BLOCK / frame * frame)];
        file.read_exact(part).map_err(Error::io(path))?;
        left -= part.len();
        append(&mut samples, part, format.encoding, format.channels);
    }
    Ok(Waveform { samples, sample_rate: format.sample_rate })
}

/// Decodes whole frames of interleaved samples onto the end of `samples`.
fn append(samples: &mut Vec<f32>, bytes: &[u8], encoding: Encoding, channels: usize) {
    // Integers lie at the top of their bytes, so that full scale is that of the container.
    match encoding {
        Encoding::U8 => decode(samples, bytes, channels, |[x]| (f32::from(x) - 128.0) / 128.0),
        Encoding::I16 => decode(samples, bytes, channels, |x| f32::from(i16::from_le_bytes(x)) / 32_768.0),
        Encoding::I24 => {
            decode(samples, bytes, channels, |[a, b, c]| (i32::from_le_bytes([0, a, b, c]) >> 8) as f32 / 8_388_608.0)
        }
        Encoding::I32 => decode(samples, bytes, channels, |x| i32::from_le_bytes(x) as f32 / 2_147_483_648.0),
        Encoding::F32 => decode(samples, bytes, channels, f32::from_le_bytes),
        Encoding::F64 => decode(samples, bytes, channels, |x| f64::from_le_bytes(x) as f32),
    }
}

fn decode<const N: usize>(samples: &mut Vec<f32>, bytes: &[u8], channels: usize, sample: impl Fn([u8; N]) -> f32) {
    let values = bytes.as_chunks::<N>().0;
    match channels {
        1 => samples.extend(values.iter().map(|&x| sample(x))),
        _ => samples.extend(values.chunks_exact(channels).map(|frame| mean(frame.iter().map(|&x| sample(x))))),
    }
}

/// What a file of 16-bit PCM holds.
///
/// # Panics
/// If a wave is longer than a file can be.
pub(super) fn to_bytes(waveform: &Waveform) -> Vec<u8> {
    let mut file = Cursor::new(Vec::new());
    encode(waveform, &mut file).expect("memory takes what is shorter than 4 GB");
    file.into_inner()
}

fn encode(waveform: &Waveform, file: impl Write + Seek) -> hound::Result<()> {
    let mut writer = WavWriter::new(file, spec(waveform.sample_rate))?;
    for &x in &waveform.samples {
        writer.write_sample(to_i16(x))?;
    }
    writer.finalize()
}

fn spec(sample_rate: u32) -> WavSpec {
    WavSpec { channels: 1, sample_rate, bits_per_sample: 16, sample_format: SampleFormat::Int }
}

fn to_i16(x: f32) -> i16 {
    (x * 32768.0).round().clamp(-32768.0, 32767.0) as i16
}

/// A file of 16-bit PCM that is being written.
pub struct WavParts<'a> {
    path: &'a Path,
    writer: WavWriter<&'a mut Beside>,
    samples: u64,
    clipped: u64,
    peak: f32,
}

impl WavParts<'_> {
    /// Writes what comes next.
    ///
    /// # Errors
    /// As [`Waveform::write`].
    pub fn append(&mut self, samples: &[f32]) -> Result<()> {
        require_room(self.path, self.samples + samples.len() as u64)?;
        for &x in samples {
            if !x.is_finite() {
                return Err(Error::file(self.path, format!("not written: sample {} is {x}", self.samples)));
            }
            self.clipped += u64::from(x.abs() > 1.0);
            self.peak = self.peak.max(x.abs());
            self.writer.write_sample(to_i16(x)).map_err(failed(self.path))?;
            self.samples += 1;
        }
        Ok(())
    }
}

fn failed(path: &Path) -> impl Fn(hound::Error) -> Error {
    move |error| match error {
        hound::Error::IoError(source) => Error::io(path)(source),
        other => Error::file(path, format!("not written: {other}")),
    }
}

/// Fails if a file cannot hold so many samples: it counts its bytes in 32 bits.
///
/// # Errors
/// [`Error::File`] with the most that it can.
pub(crate) fn require_room(path: &Path, samples: u64) -> Result<()> {
    const MOST: u64 = (u32::MAX as u64 - 64) / 2;
    match samples <= MOST {
        true => Ok(()),
        false => Err(Error::file(path, format!("not written: a .wav file holds up to {MOST} samples, not {samples}"))),
    }
}

/// Writes 16-bit PCM, what `fill` appends.
pub(super) fn write(path: &Path, sample_rate: u32, fill: impl FnOnce(&mut WavParts) -> Result<()>) -> Result<()> {
    write_beside(path, |file| {
        let writer = WavWriter::new(file, spec(sample_rate)).map_err(failed(path))?;
        let mut parts = WavParts { path, writer, samples: 0, clipped: 0, peak: 0.0 };
        fill(&mut parts)?;
        let WavParts { writer, clipped, peak, .. } = parts;
        if clipped > 0 {
            let path = path.display();
            tracing::warn!("{path}: {clipped} samples beyond full scale are cut off (the peak is {peak:.3})");
        }
        writer.finalize().map_err(failed(path))
    })
}
