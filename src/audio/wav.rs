//! RIFF WAVE through hound, with the checks that hound leaves to its caller.

use std::fs::File;
use std::io::{BufReader, ErrorKind, Read};
use std::path::Path;

use hound::{SampleFormat, WavReader, WavSpec, WavWriter};

use super::{MAX_SAMPLES, Waveform, mean, too_long};
use crate::beside::write_beside;
use crate::{Error, Result};

/// Reads all samples; channels become their mean.
pub(super) fn read(path: &Path) -> Result<Waveform> {
    let file = File::open(path).map_err(Error::io(path))?;
    let file_len = file.metadata().map_err(Error::io(path))?.len();
    let failed = |error| failed(path, error);
    let mut reader = WavReader::new(EndIsError(BufReader::with_capacity(1 << 16, file))).map_err(failed)?;
    let WavSpec { channels, sample_rate, bits_per_sample, sample_format } = reader.spec();

    // hound takes the header's word for the length; the samples must fit into the file.
    let claimed = u64::from(reader.len()) * u64::from(bits_per_sample / 8);
    if claimed > file_len {
        return Err(Error::file(
            path,
            format!("is truncated: {claimed} bytes of samples announced, {file_len} bytes in all"),
        ));
    }
    if reader.duration() as usize > MAX_SAMPLES {
        return Err(too_long(path));
    }
    let channels = usize::from(channels);
    let frames = reader.duration() as usize;
    let samples = match sample_format {
        SampleFormat::Float => average(reader.samples::<f32>(), channels, frames),
        SampleFormat::Int => {
            // hound returns 8-bit samples already shifted to be signed. A wrong depth is an error at the first sample.
            let scale = 2f64.powi(1 - i32::from(bits_per_sample));
            let to_float = |x: i32| (f64::from(x) * scale) as f32;
            average(reader.samples::<i32>().map(|x| x.map(to_float)), channels, frames)
        }
    };
    Ok(Waveform { samples: samples.map_err(failed)?, sample_rate })
}

/// The mean of each group of `channels` samples.
fn average(
    mut samples: impl Iterator<Item = hound::Result<f32>>,
    channels: usize,
    frames: usize,
) -> hound::Result<Vec<f32>> {
    let mut averaged = Vec::with_capacity(frames);
    if channels == 1 {
        for sample in samples {
            averaged.push(sample?);
        }
        return Ok(averaged);
    }
    let mut frame = Vec::with_capacity(channels);
    for _ in 0..frames {
        frame.clear();
        for sample in samples.by_ref().take(channels) {
            frame.push(sample?);
        }
        averaged.push(mean(frame.iter().copied()));
    }
    Ok(averaged)
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
    let spec = WavSpec {
        channels: 1,
        sample_rate: waveform.sample_rate,
        bits_per_sample: 16,
        sample_format: SampleFormat::Int,
    };
    let failed = |error| failed(path, error);
    write_beside(path, |file| {
        let mut writer = WavWriter::new(file, spec).map_err(failed)?;
        for &x in &waveform.samples {
            let level = (x * 32768.0).round().clamp(-32768.0, 32767.0);
            writer.write_sample(level as i16).map_err(failed)?;
        }
        writer.finalize().map_err(failed)
    })
}

/// A hound error as one of ours.
fn failed(path: &Path, error: hound::Error) -> Error {
    match error {
        hound::Error::IoError(e) if matches!(e.kind(), ErrorKind::UnexpectedEof) => {
            Error::file(path, "ends too early: truncated, or not a wav file")
        }
        hound::Error::IoError(source) => Error::io(path)(source),
        hound::Error::FormatError(what) => Error::file(path, format!("not a readable wav file: {what}")),
        hound::Error::Unsupported | hound::Error::InvalidSampleFormat => {
            Error::file(path, "has an encoding that is not read; 8, 16, 24 and 32-bit PCM and 32-bit float are")
        }
        other => Error::file(path, format!("not a readable wav file: {other}")),
    }
}

/// A reader to which the end of the file is an error: hound skips unknown chunks for ever when they claim to be longer
/// than the file.
struct EndIsError<R>(R);

impl<R: Read> Read for EndIsError<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        match self.0.read(buffer)? {
            0 if !buffer.is_empty() => Err(ErrorKind::UnexpectedEof.into()),
            n => Ok(n),
        }
    }
}
