//! Ogg Vorbis through lewton, with the checks that lewton leaves to its caller.

use std::io::Cursor;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use lewton::inside_ogg::OggStreamReader;

use super::vorbis_headers::check_headers;
use super::{Limit, MAX_CHANNELS, Waveform, mean, too_long};
use crate::{Error, Result};

/// Largest `.ogg` file read, in bytes: more than the longest sound allowed takes at the highest quality.
const MAX_BYTES: u64 = 1 << 31;

/// Reads all samples; channels become their mean.
pub(super) fn read(path: &Path, limit: Limit) -> Result<Waveform> {
    if std::fs::metadata(path).map_err(Error::io(path))?.len() > MAX_BYTES {
        return Err(too_long(path));
    }
    let bytes = std::fs::read(path).map_err(Error::io(path))?;
    let streams = check_headers(&bytes).map_err(|what| Error::file(path, what))?;
    if bytes.get(28..).is_some_and(|first| first.starts_with(b"OpusHead")) {
        return Err(Error::file(
            path,
            "is Ogg Opus, and only Ogg Vorbis is read: ffmpeg -i FILE.ogg FILE.wav converts it",
        ));
    }
    // lewton panics on some streams that its header checks let through.
    catch_unwind(AssertUnwindSafe(|| decode(path, &bytes, streams, limit)))
        .unwrap_or_else(|_| Err(Error::file(path, "the Vorbis decoder gave up: damaged?")))
}

fn decode(path: &Path, bytes: &[u8], streams: usize, limit: Limit) -> Result<Waveform> {
    let failed = |error| Error::file(path, format!("not a readable Ogg Vorbis file: {error}"));
    let mut reader = OggStreamReader::new(Cursor::new(bytes)).map_err(failed)?;
    let (sample_rate, channels) = (reader.ident_hdr.audio_sample_rate, reader.ident_hdr.audio_channels);
    if usize::from(channels) > MAX_CHANNELS {
        return Err(Error::file(path, format!("has {channels} channels; 1 to {MAX_CHANNELS} are read")));
    }
    let mut samples = Vec::new();
    while let Some(packet) = reader.read_dec_packet_generic::<Vec<Vec<f32>>>().map_err(failed)? {
        if (reader.ident_hdr.audio_sample_rate, reader.ident_hdr.audio_channels) != (sample_rate, channels) {
            return Err(Error::file(path, "changes its sample rate or number of channels half-way"));
        }
        let len = packet.iter().map(Vec::len).min().unwrap_or(0);
        samples.extend((0..len).map(|n| mean(packet.iter().map(|channel| channel[n]))));
        limit.check(path, sample_rate, samples.len() as u64)?;
    }
    // The last page says where the sound ends; lewton does not look if that page is also the first with sound.
    if let (1, Some(end)) = (streams, reader.get_last_absgp()) {
        samples.truncate(usize::try_from(end).unwrap_or(usize::MAX));
    }
    Ok(Waveform { samples, sample_rate })
}
