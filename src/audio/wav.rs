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
use crate::beside::write_beside;
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
    let (sample_rate, sample_format) = (waveform.sample_rate, SampleFormat::Int);
    let mut writer = WavWriter::new(file, WavSpec { channels: 1, sample_rate, bits_per_sample: 16, sample_format })?;
    for &x in &waveform.samples {
        writer.write_sample((x * 32768.0).round().clamp(-32768.0, 32767.0) as i16)?;
    }
    writer.finalize()
}

/// Writes 16-bit PCM.
pub(super) fn write(waveform: &Waveform, path: &Path) -> Result<()> {
    if let Some(at) = waveform.samples.iter().position(|x| !x.is_finite()) {
        return Err(Error::file(path, format!("not written: sample {at} is {}", waveform.samples[at])));
    }
    let clipped = waveform.samples.iter().filter(|x| x.abs() > 1.0).count();
    if clipped > 0 {
        let peak = waveform.samples.iter().fold(0.0f32, |peak, x| peak.max(x.abs()));
        tracing::warn!("{}: {clipped} samples beyond full scale are cut off (the peak is {peak:.3})", path.display());
    }
    let failed = |error| match error {
        hound::Error::IoError(source) => Error::io(path)(source),
        other => Error::file(path, format!("not written: {other}")),
    };
    write_beside(path, |file| encode(waveform, file).map_err(failed))
}
