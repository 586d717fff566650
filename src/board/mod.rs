//! Event files for TensorBoard, and the same scalars as JSON ([`Metrics`]).
//!
//! An event file is a sequence of TFRecords, each an `Event` message in protocol-buffer encoding. Only what this crate logs is
//! encoded: scalars, pictures, text, and where a session starts. No published crate for this is maintained.
//!
//! # Reference
//! `tensorflow/core/util/event.proto`, `summary.proto` and `lib/io/record_writer.h`; `_CheckForRestartAndMaybePurge` in
//! TensorBoard's `event_accumulator.py`.

mod metrics;

pub use metrics::Metrics;

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

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
        fs::create_dir_all(folder).map_err(Error::io(folder))?;
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
