//! Sound as one channel of samples: reading `.wav`, `.ogg`, `.flac` and `.mp3`, changing the sample rate, writing `.wav`.

mod compressed;
mod ogg;
mod resample;
mod vorbis_headers;
mod wav;

use std::path::Path;
use std::time::Duration;

use self::compressed::Kind;
pub use self::wav::WavParts;
pub(crate) use self::wav::require_room;
use crate::beside::require_regular;
use crate::{Error, Result};

/// Sample rates that files and flags may have, in hertz.
pub const SAMPLE_RATES: std::ops::RangeInclusive<u32> = 1_000..=768_000;
/// Extensions of the files that can be read, in lower case.
pub const EXTENSIONS: [&str; 4] = ["wav", "ogg", "flac", "mp3"];
/// Most channels a file may have.
const MAX_CHANNELS: usize = 32;
/// Most samples a file may hold per channel (6 hours at 48 kHz): whole files are kept in memory.
const MAX_SAMPLES: u64 = 1 << 30;
/// Longest sound read unless told otherwise: 6 hours.
pub const LONGEST: Duration = Duration::from_secs(6 * 3600);

/// One channel of sound. Full scale is 1.0; samples beyond it are allowed and kept.
#[derive(Clone, Debug, PartialEq)]
pub struct Waveform {
    /// The samples.
    pub samples: Vec<f32>,
    /// Samples per second.
    pub sample_rate: u32,
}

impl Waveform {
    /// The sound in a `.wav` file (PCM of 8, 16, 24 or 32 bits, or float of 32 or 64; plain, extensible or RF64) an Ogg
    /// Vorbis `.ogg` file, a `.flac` or an `.mp3` file, told apart by their extension in any letter case. Several channels are averaged into one. Of a
    /// truncated file what is there is read, with a warning.
    ///
    /// # Errors
    /// [`Error::Io`] if the file cannot be opened; [`Error::File`] if it is damaged, of another kind, empty, holds NaN or
    /// infinite samples, or passes the limits ([`LONGEST`], 2^30 samples per channel, 32 channels, 1 to 768 kHz).
    pub fn read(path: &Path) -> Result<Waveform> {
        Waveform::read_within(path, LONGEST)
    }

    /// As [`read`](Self::read), for sounds of up to `longest`.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn read_within(path: &Path, longest: Duration) -> Result<Waveform> {
        let extension = path.extension().and_then(|e| e.to_str()).map(str::to_ascii_lowercase);
        require_regular(path)?;
        let limit = Limit(longest);
        let waveform = match extension.as_deref() {
            Some("wav") => wav::read(path, limit)?,
            Some("ogg") => ogg::read(path, limit)?,
            Some("flac") => compressed::read(path, Kind::Flac, limit)?,
            Some("mp3") => compressed::read(path, Kind::Mp3, limit)?,
            _ => return Err(Error::file(path, format!("is neither a .{} file", EXTENSIONS.join(" nor a .")))),
        };
        if waveform.samples.is_empty() {
            return Err(Error::file(path, "holds no samples"));
        }
        if let Some(at) = waveform.samples.iter().position(|x| !x.is_finite()) {
            return Err(Error::file(path, format!("sample {at} is {}: damaged?", waveform.samples[at])));
        }
        Ok(waveform)
    }

    /// Writes a 16-bit PCM `.wav` file, beside `path` first and then renamed, so that no half file is ever seen.
    ///
    /// Samples are multiplied by 32768, as reading divides by it, and rounded. Those beyond full scale are cut off, with
    /// a warning that says how many and how loud the loudest is.
    ///
    /// # Errors
    /// [`Error::Io`] if the file cannot be written; [`Error::File`] if a sample is NaN or infinite.
    pub fn write(&self, path: &Path) -> Result<()> {
        Waveform::write_parts(path, self.sample_rate, |file| file.append(&self.samples))
    }

    /// As [`write`](Self::write), of samples that `fill` appends part by part.
    ///
    /// # Errors
    /// As [`write`](Self::write), and those of `fill`.
    pub fn write_parts(path: &Path, rate: u32, fill: impl FnOnce(&mut WavParts) -> Result<()>) -> Result<()> {
        wav::write(path, rate, fill)
    }

    /// The content of the file that [`write`](Self::write) writes.
    pub(crate) fn to_wav(&self) -> Vec<u8> {
        wav::to_bytes(self)
    }

    /// The sound at another sample rate, `ceil(len * rate / sample_rate)` samples long and aligned with the original.
    /// An equal rate gives the samples unchanged.
    ///
    /// Flat within 0.1 dB to 95 % of half the lower rate; what would alias is more than 80 dB down.
    ///
    /// # Errors
    /// [`Error::Config`] if one of the rates is outside [`SAMPLE_RATES`].
    pub fn resample(&self, rate: u32) -> Result<Waveform> {
        resample::resample(self, rate)
    }

    /// How long the sound lasts.
    pub fn duration(&self) -> Duration {
        Duration::from_secs_f64(self.samples.len() as f64 / f64::from(self.sample_rate.max(1)))
    }
}

/// The mean over the channels of one moment, summed in f64.
fn mean(channels: impl ExactSizeIterator<Item = f32>) -> f32 {
    let count = channels.len() as f64;
    (channels.map(f64::from).sum::<f64>() / count) as f32
}

/// How long a sound may be.
#[derive(Clone, Copy)]
struct Limit(Duration);

impl Limit {
    /// Refuses a file with a rate outside [`SAMPLE_RATES`] or of more than this many samples per channel.
    fn check(self, path: &Path, sample_rate: u32, samples: u64) -> Result<()> {
        if !SAMPLE_RATES.contains(&sample_rate) {
            let (low, high) = (SAMPLE_RATES.start(), SAMPLE_RATES.end());
            return Err(Error::file(
                path,
                format!("has a sample rate of {sample_rate} Hz; {low} to {high} Hz can be read"),
            ));
        }
        if samples > MAX_SAMPLES {
            return Err(too_long(path));
        }
        if samples as f64 / f64::from(sample_rate) > self.0.as_secs_f64() {
            return Err(Error::file(path, format!("lasts longer than {:?}: cut it into shorter files", self.0)));
        }
        Ok(())
    }
}

/// The error for a file of more than [`MAX_SAMPLES`].
fn too_long(path: &Path) -> Error {
    Error::file(path, format!("holds more than {MAX_SAMPLES} samples per channel: cut it into shorter files"))
}
