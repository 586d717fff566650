//! FLAC and MP3 through symphonia.

use std::fs::File;
use std::io::{BufReader, Cursor, Read};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use symphonia::core::audio::SampleBuffer;
use symphonia::core::codecs::{CODEC_TYPE_FLAC, CODEC_TYPE_MP3, CodecType, DecoderOptions};
use symphonia::core::errors::Error as DecodingError;
use symphonia::core::formats::{FormatOptions, FormatReader};
use symphonia::core::io::{MediaSource, MediaSourceStream, ReadOnlySource};
use symphonia::core::meta::{Limit as MetadataLimit, MetadataOptions};
use symphonia::core::probe::Hint;
use symphonia::default::{get_codecs, get_probe};

use super::{Limit, MAX_CHANNELS, Waveform, mean};
use crate::{Error, Result};

/// Most bytes of a comment or a cover picture that are kept in memory.
const MAX_METADATA: usize = 1 << 20;

/// A kind of compressed file.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Kind {
    Flac,
    Mp3,
}

impl Kind {
    fn name(self) -> &'static str {
        if self == Kind::Flac { "FLAC" } else { "MP3" }
    }

    fn codec(self) -> CodecType {
        if self == Kind::Flac { CODEC_TYPE_FLAC } else { CODEC_TYPE_MP3 }
    }
}

/// Reads all samples; channels become their mean, and the silence that an MP3 encoder added is left out.
pub(super) fn read(path: &Path, kind: Kind, limit: Limit) -> Result<Waveform> {
    let file = File::open(path).map_err(Error::io(path))?;
    catch_unwind(AssertUnwindSafe(|| decode(path, file, kind, limit)))
        .unwrap_or_else(|_| Err(Error::file(path, format!("the {} decoder gave up: damaged?", kind.name()))))
}

fn decode(path: &Path, file: File, kind: Kind, limit: Limit) -> Result<Waveform> {
    let mut format = open(path, file, kind)?;
    let track = format.default_track().filter(|track| track.codec_params.codec == kind.codec());
    let Some((id, parameters)) = track.map(|track| (track.id, track.codec_params.clone())) else {
        return Err(Error::file(path, format!("holds no {} sound", kind.name())));
    };
    let failed = |error| failed(path, kind, error);
    let mut decoder = get_codecs().make(&parameters, &DecoderOptions::default()).map_err(failed)?;
    let (mut samples, mut bad) = (Vec::new(), 0);
    let mut shape = None;
    loop {
        let packet = match format.next_packet() {
            Ok(packet) if packet.track_id() == id => packet,
            Ok(_) => continue,
            Err(DecodingError::IoError(e)) if e.kind() == std::io::ErrorKind::UnexpectedEof => break,
            Err(error) => return Err(failed(error)),
        };
        let decoded = match decoder.decode(&packet) {
            Ok(decoded) => decoded,
            // Frames of an MP3 stand for themselves; players leave out bad ones.
            Err(DecodingError::DecodeError(_)) if kind == Kind::Mp3 => {
                bad += 1;
                continue;
            }
            Err(error) => return Err(failed(error)),
        };
        let (rate, channels) = (decoded.spec().rate, decoded.spec().channels.count());
        if !(1..=MAX_CHANNELS).contains(&channels) {
            return Err(Error::file(path, format!("has {channels} channels; 1 to {MAX_CHANNELS} are read")));
        }
        if *shape.get_or_insert((rate, channels)) != (rate, channels) {
            return Err(Error::file(path, "changes its sample rate or number of channels half-way"));
        }
        if decoded.frames() == 0 {
            continue; // all of it is silence that the encoder added, and an empty buffer cannot be copied
        }
        let mut interleaved = SampleBuffer::<f32>::new(decoded.frames() as u64, *decoded.spec());
        interleaved.copy_interleaved_ref(decoded);
        match channels {
            1 => samples.extend_from_slice(interleaved.samples()),
            _ => samples.extend(interleaved.samples().chunks_exact(channels).map(|frame| mean(frame.iter().copied()))),
        }
        limit.check(path, rate, samples.len() as u64)?;
    }
    let there = samples.len() as u64;
    if let Some(announced) = parameters.n_frames.filter(|&n| kind == Kind::Flac && n > there) {
        tracing::warn!("{}: truncated: {there} of {announced} samples are there and used", path.display());
    }
    if bad > 0 {
        tracing::warn!("{}: {bad} damaged frames are left out", path.display());
    }
    Ok(Waveform { samples, sample_rate: shape.map_or(*super::SAMPLE_RATES.start(), |(rate, _)| rate) })
}

/// Finds out what the file is and reads its headers.
fn open(path: &Path, file: File, kind: Kind) -> Result<Box<dyn FormatReader>> {
    let source: Box<dyn MediaSource> = if kind == Kind::Flac { sound_of_flac(path, file)? } else { Box::new(file) };
    let source = MediaSourceStream::new(source, Default::default());
    let format_options = FormatOptions { enable_gapless: true, ..Default::default() };
    let limit = MetadataLimit::Maximum(MAX_METADATA);
    let metadata_options = MetadataOptions { limit_metadata_bytes: limit, limit_visual_bytes: limit };
    let mut hint = Hint::new();
    hint.with_extension(&kind.name().to_lowercase());
    let probed = get_probe().format(&hint, source, &format_options, &metadata_options);
    probed.map(|probed| probed.format).map_err(|error| failed(path, kind, error))
}

/// A FLAC file with the first of its headers alone, which says all that decoding needs. Comments, pictures and tables are passed
/// over: symphonia reserves memory for as much as they announce, up to 4 GB.
fn sound_of_flac(path: &Path, file: File) -> Result<Box<dyn MediaSource>> {
    const STREAM_INFO: u32 = 34; // bytes
    let failed = |error| failed(path, Kind::Flac, DecodingError::IoError(error));
    let damaged = |what: &str| Error::file(path, format!("not a readable FLAC file: {what}"));
    let mut file = BufReader::new(file);
    let (mut mark, mut tag) = ([0; 4], [0; 6]);
    file.read_exact(&mut mark).map_err(failed)?;
    if mark.starts_with(b"ID3") {
        // A tag that belongs before an MP3: ten bytes, what four of them say (seven bits each), and ten more by a flag.
        file.read_exact(&mut tag).map_err(failed)?;
        let len = tag[2..].iter().fold(0, |len, &byte| (len << 7) | i64::from(byte & 0x7f));
        file.seek_relative(len + if tag[1] & 0x10 == 0 { 0 } else { 10 }).map_err(failed)?;
        file.read_exact(&mut mark).map_err(failed)?;
    }
    if &mark != b"fLaC" {
        return Err(damaged("it does not start with fLaC"));
    }
    let mut head = mark.to_vec();
    loop {
        let mut block = [0; 4];
        file.read_exact(&mut block).map_err(failed)?;
        let [kind, len @ ..] = block;
        let len = len.iter().fold(0, |len, &byte| (len << 8) | u32::from(byte));
        match (kind & 0x7f, head.len()) {
            (0, 4) if len == STREAM_INFO => {
                head.extend([0x80, 0, 0, STREAM_INFO as u8]); // the last header
                let mut info = [0; STREAM_INFO as usize];
                file.read_exact(&mut info).map_err(failed)?;
                head.extend(info);
            }
            (0, _) | (_, 4) => return Err(damaged("its first header is not that of a stream")),
            _ => file.seek_relative(len.into()).map_err(failed)?,
        }
        if kind & 0x80 != 0 {
            return Ok(Box::new(ReadOnlySource::new(Cursor::new(head).chain(file))));
        }
    }
}

/// An error of symphonia as one of ours; its own words are for who wrote the decoder.
fn failed(path: &Path, kind: Kind, error: DecodingError) -> Error {
    tracing::debug!("{}: {error}", path.display());
    let what = match error {
        DecodingError::IoError(source) if source.kind() != std::io::ErrorKind::UnexpectedEof => {
            return Error::io(path)(source);
        }
        DecodingError::IoError(_) => "it ends too early",
        DecodingError::DecodeError(_) => "it is damaged, or of another kind",
        DecodingError::Unsupported(_) => "it is of another kind, or uses what is not read here",
        DecodingError::LimitError(_) => "its headers announce more than a recording has",
        _ => "it is damaged",
    };
    Error::file(path, format!("not a readable {} file: {what}", kind.name()))
}
