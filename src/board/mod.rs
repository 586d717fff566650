//! Event files for TensorBoard, and the same scalars as JSON ([`Metrics`]).
//!
//! An event file is a sequence of TFRecords, each an `Event` message in protocol-buffer encoding. Only what this crate logs is
//! encoded: scalars, pictures, histograms, sounds, text, hyperparameters, and where a session starts. No published crate for this
//! is maintained.
//!
//! # Reference
//! `tensorflow/core/util/event.proto`, `summary.proto` and `lib/io/record_writer.h`; `_CheckForRestartAndMaybePurge` in
//! TensorBoard's `event_accumulator.py`; `plugins/hparams/plugin_data.proto` and `google/protobuf/struct.proto`.

mod metrics;

pub use metrics::Metrics;

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::Value;

use crate::beside::create_folder;
use crate::picture::Png;
use crate::{Error, Result};

/// Writes one event file.
pub struct EventWriter {
    path: PathBuf,
    file: BufWriter<File>,
}

impl EventWriter {
    /// A new event file in `folder`, which TensorBoard shows as one run, for a session that goes on from `step` finished
    /// steps: of the files that are there already, TensorBoard forgets what lies beyond that step.
    ///
    /// # Errors
    /// [`Error::Io`] if it cannot be created.
    pub fn create(folder: &Path, step: u64) -> Result<Self> {
        create_folder(folder)?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        // The name must contain "tfevents"; seconds first, so that names sort by time.
        let name =
            format!("events.out.tfevents.{:010}.{:09}.{}", now.as_secs(), now.subsec_nanos(), std::process::id());
        let path = folder.join(name);
        let file = BufWriter::new(File::create_new(&path).map_err(Error::io(&path))?);
        let mut writer = Self { path, file };
        let mut event = Message::event(0);
        event.bytes(3, b"brain.Event:2"); // file_version
        writer.record(&event.0)?;
        // A session's start purges its own step and what follows it; the events of `step` itself are to stay.
        let mut event = Message::event(step + 1);
        event.bytes(7, &[0x08, 1]); // session_log with status START
        writer.record(&event.0)?;
        writer.flush()?;
        Ok(writer)
    }

    /// Adds scalars of one step, where TensorBoard sees them at once. Values that are not finite are left out.
    ///
    /// # Errors
    /// [`Error::Io`] if the file cannot be written.
    pub fn scalars(&mut self, step: u64, scalars: impl IntoIterator<Item = (String, f64)>) -> Result<()> {
        let mut summary = Message::default();
        for (tag, value) in scalars.into_iter().filter(|(_, value)| value.is_finite()) {
            let mut scalar = Message::default();
            scalar.bytes(1, tag.as_bytes());
            scalar.fixed32(2, (value as f32).to_bits()); // simple_value
            summary.bytes(1, &scalar.0);
        }
        let mut event = Message::event(step);
        event.bytes(5, &summary.0);
        self.record(&event.0)?;
        self.flush()
    }

    /// Adds a picture of one step.
    ///
    /// # Errors
    /// [`Error::Io`] if the file cannot be written.
    pub(crate) fn picture(&mut self, step: u64, tag: &str, png: &Png) -> Result<()> {
        let mut image = Message::default();
        for (field, number) in [(1, png.height), (2, png.width), (3, 3)] {
            image.key(field, 0); // height, width, colorspace RGB
            image.varint(u64::from(number));
        }
        image.bytes(4, &png.bytes); // encoded_image_string
        self.value(step, tag, |value| value.bytes(4, &image.0))
    }

    /// Adds the distribution of values at one step. Values that are not finite are left out.
    ///
    /// # Errors
    /// [`Error::Io`] if the file cannot be written.
    pub fn histogram(&mut self, step: u64, tag: &str, values: &[f32]) -> Result<()> {
        let finite: Vec<f64> = values.iter().filter(|value| value.is_finite()).map(|&value| f64::from(value)).collect();
        let Histogram { least, most, limits, counts } = Histogram::of(&finite);
        let mut histogram = Message::default();
        let sums = [finite.len() as f64, finite.iter().sum(), finite.iter().map(|value| value * value).sum()];
        for (field, number) in [least, most].into_iter().chain(sums).enumerate() {
            histogram.fixed64(field as u64 + 1, number.to_bits()); // min, max, num, sum, sum_squares
        }
        for (field, numbers) in [(6, limits), (7, counts)] {
            let packed: Vec<u8> = numbers.into_iter().flat_map(f64::to_le_bytes).collect();
            histogram.bytes(field, &packed); // bucket_limit, bucket
        }
        self.value(step, tag, |value| value.bytes(5, &histogram.0))
    }

    /// Adds a sound of one step: `wav` is the content of a file of one channel.
    ///
    /// # Errors
    /// [`Error::Io`] if the file cannot be written.
    pub fn sound(&mut self, step: u64, tag: &str, sample_rate: u32, samples: usize, wav: &[u8]) -> Result<()> {
        let mut audio = Message::default();
        audio.fixed32(1, (sample_rate as f32).to_bits());
        for (field, number) in [(2, 1), (3, samples as u64)] {
            audio.key(field, 0); // num_channels, length_frames
            audio.varint(number);
        }
        audio.bytes(4, wav); // encoded_audio_string
        audio.bytes(5, b"audio/wav"); // content_type
        self.value(step, tag, |value| value.bytes(6, &audio.0))
    }

    /// Adds a text in Markdown, for TensorBoard's text tab.
    ///
    /// # Errors
    /// [`Error::Io`] if the file cannot be written.
    pub fn text(&mut self, step: u64, tag: &str, text: &str) -> Result<()> {
        let mut tensor = Message::default();
        tensor.key(1, 0);
        tensor.varint(7); // dtype DT_STRING
        tensor.bytes(2, &[0x12, 2, 0x08, 1]); // tensor_shape [1]
        tensor.bytes(8, text.as_bytes()); // string_val
        let mut plugin = Message::default();
        plugin.bytes(1, b"text"); // plugin_name
        let mut metadata = Message::default();
        metadata.bytes(1, &plugin.0); // plugin_data
        self.value(step, tag, |value| {
            value.bytes(8, &tensor.0);
            value.bytes(9, &metadata.0);
        })
    }

    /// Adds what a run was told, by name, for TensorBoard's tab of hyperparameters: numbers, texts and truth values as they are, null
    /// left out, all else as JSON. Its metrics are the scalars of this folder.
    ///
    /// # Errors
    /// [`Error::Io`] if the file cannot be written.
    pub fn hyperparameters<'a>(&mut self, values: impl IntoIterator<Item = (String, &'a Value)>) -> Result<()> {
        let mut session = Message::default();
        for (name, value) in values {
            let mut told = Message::default();
            match value {
                Value::Null => continue,
                Value::Number(number) => told.fixed64(2, number.as_f64().unwrap_or(f64::NAN).to_bits()),
                Value::Bool(is) => {
                    told.key(4, 0);
                    told.varint(u64::from(*is));
                }
                Value::String(text) => told.bytes(3, text.as_bytes()),
                other => told.bytes(3, other.to_string().as_bytes()),
            }
            let mut entry = Message::default();
            entry.bytes(1, name.as_bytes());
            entry.bytes(2, &told.0);
            session.bytes(1, &entry.0); // hparams
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        session.fixed64(5, now.as_secs_f64().to_bits()); // start_time_secs
        let mut content = Message::default();
        content.bytes(3, &session.0); // session_start_info, of version 0
        let mut plugin = Message::default();
        plugin.bytes(1, b"hparams"); // plugin_name
        plugin.bytes(2, &content.0);
        let mut metadata = Message::default();
        metadata.bytes(1, &plugin.0); // plugin_data
        let mut tensor = Message::default();
        tensor.key(1, 0);
        tensor.varint(1); // dtype DT_FLOAT
        tensor.bytes(2, &[]); // tensor_shape of a scalar
        tensor.bytes(5, &[0; 4]); // float_val 0, which nobody reads
        self.value(0, "_hparams_/session_start_info", |value| {
            value.bytes(8, &tensor.0);
            value.bytes(9, &metadata.0);
        })
    }

    /// Adds one value of a summary, which `fill` completes.
    fn value(&mut self, step: u64, tag: &str, fill: impl FnOnce(&mut Message)) -> Result<()> {
        let (mut value, mut summary, mut event) = (Message::default(), Message::default(), Message::event(step));
        value.bytes(1, tag.as_bytes());
        fill(&mut value);
        summary.bytes(1, &value.0);
        event.bytes(5, &summary.0);
        self.record(&event.0)?;
        self.flush()
    }

    /// Hands everything written so far to the system, where TensorBoard sees it.
    fn flush(&mut self) -> Result<()> {
        self.file.flush().map_err(Error::io(&self.path))
    }

    /// A TFRecord: length, its checksum, data, its checksum.
    fn record(&mut self, data: &[u8]) -> Result<()> {
        let length = (data.len() as u64).to_le_bytes();
        let parts: [&[u8]; 4] = [&length, &masked_crc(&length), data, &masked_crc(data)];
        parts.iter().try_for_each(|part| self.file.write_all(part)).map_err(Error::io(&self.path))
    }
}

/// CRC-32C, rotated and offset, so that the checksum of data with checksums in it is not degenerate.
fn masked_crc(data: &[u8]) -> [u8; 4] {
    crc32c::crc32c(data).rotate_right(15).wrapping_add(0xa282_ead8).to_le_bytes()
}

/// Counts of values in buckets of one width.
#[derive(Debug, PartialEq)]
struct Histogram {
    least: f64,
    most: f64,
    /// Upper ends of the buckets.
    limits: Vec<f64>,
    counts: Vec<f64>,
}

/// As many as TensorBoard draws.
const BUCKETS: usize = 30;

impl Histogram {
    /// Of finite values. Where all are the same there is one bucket.
    fn of(values: &[f64]) -> Self {
        let least = values.iter().copied().reduce(f64::min).unwrap_or(0.0);
        let most = values.iter().copied().reduce(f64::max).unwrap_or(0.0);
        let buckets = if most > least { BUCKETS } else { 1 };
        let width = (most - least) / buckets as f64;
        let mut counts = vec![0.0; buckets];
        for value in values {
            let bucket = if width > 0.0 { ((value - least) / width) as usize } else { 0 };
            counts[bucket.min(buckets - 1)] += 1.0; // the greatest value belongs to the last
        }
        let mut limits: Vec<f64> = (1..=buckets).map(|bucket| least + width * bucket as f64).collect();
        limits[buckets - 1] = most;
        Self { least, most, limits, counts }
    }
}

/// A protocol-buffer message under construction.
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    /// An event of now with its step.
    fn event(step: u64) -> Self {
        let mut event = Self::default();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        event.key(1, 1);
        event.0.extend(now.as_secs_f64().to_le_bytes()); // wall_time
        event.key(2, 0);
        event.varint(step);
        event
    }

    fn bytes(&mut self, field: u64, bytes: &[u8]) {
        self.key(field, 2);
        self.varint(bytes.len() as u64);
        self.0.extend(bytes);
    }

    fn fixed32(&mut self, field: u64, bits: u32) {
        self.key(field, 5);
        self.0.extend(bits.to_le_bytes());
    }

    fn fixed64(&mut self, field: u64, bits: u64) {
        self.key(field, 1);
        self.0.extend(bits.to_le_bytes());
    }

    fn key(&mut self, field: u64, wire_type: u64) {
        self.varint(field << 3 | wire_type);
    }

    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_is_in_one_bucket_and_the_ends_are_in_the_first_and_the_last() {
        let values: Vec<f64> = (0..=300).map(|value| f64::from(value) - 100.0).collect();
        let Histogram { least, most, limits, counts } = Histogram::of(&values);
        assert_eq!((least, most, limits.len(), counts.len()), (-100.0, 200.0, 30, 30));
        assert_eq!((limits[0], limits[29], counts[0], counts[29]), (-90.0, 200.0, 10.0, 11.0));
        assert_eq!(counts.iter().sum::<f64>(), 301.0);
        let same = Histogram::of(&[2.5; 7]);
        assert_eq!(same, Histogram { least: 2.5, most: 2.5, limits: vec![2.5], counts: vec![7.0] });
        assert_eq!(Histogram::of(&[]).counts, [0.0]);
    }

    #[test]
    fn a_record_has_the_bytes_that_tensorflow_writes() {
        // The masked checksum of eight zero bytes and of "123456789" (whose plain CRC-32C is the published 0xe3069283).
        assert_eq!(crc32c::crc32c(b"123456789"), 0xe306_9283);
        let unmasked = u32::from_le_bytes(masked_crc(b"123456789")).wrapping_sub(0xa282_ead8).rotate_left(15);
        assert_eq!(unmasked, 0xe306_9283);
        let mut message = Message::default();
        message.key(2, 0);
        message.varint(300);
        assert_eq!(message.0, [0x10, 0xac, 0x02]); // the example of the encoding's documentation
    }
}
