//! `metrics.jsonl`: what TensorBoard is shown, as lines of JSON for everything else.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Map, Value};

use crate::beside::write_beside;
use crate::{Error, Result};

/// Appends to a run's `metrics.jsonl`: one object a line with `step`, `phase` (`train` or `test`), `wall_time` (seconds since
/// 1970) and the scalars by their TensorBoard tags.
pub struct Metrics {
    path: PathBuf,
    file: File,
}

impl Metrics {
    /// Opens the file for a session that goes on from `step` finished steps: lines beyond it, and what a killed session did not
    /// write to its end, are dropped.
    ///
    /// # Errors
    /// [`Error::Io`] if it cannot be read or written.
    pub fn open(path: &Path, step: u64) -> Result<Self> {
        let before = match fs::read(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => Vec::new(),
            read => read.map_err(Error::io(path))?,
        };
        let kept: Vec<u8> =
            before.split_inclusive(|&byte| byte == b'\n').filter(|line| stays(line, step)).flatten().copied().collect();
        if kept != before {
            write_beside(path, |file| file.write_all(&kept).map_err(Error::io(path)))?;
        }
        let file = File::options().create(true).append(true).open(path).map_err(Error::io(path))?;
        Ok(Self { path: path.to_path_buf(), file })
    }

    /// Adds the line of one step. Values that are not finite are left out.
    ///
    /// # Errors
    /// [`Error::Io`] if the file cannot be written.
    pub fn add(&mut self, step: u64, phase: &str, scalars: &[(String, f64)]) -> Result<()> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let mut line = Map::new();
        line.insert("step".into(), step.into());
        line.insert("phase".into(), phase.into());
        line.insert("wall_time".into(), now.as_secs_f64().into());
        let finite = scalars.iter().filter(|(_, value)| value.is_finite());
        line.extend(finite.map(|(tag, value)| (tag.clone(), Value::from(*value))));
        // One write, so that a reader never sees half a line.
        let text = format!("{}\n", Value::Object(line));
        self.file.write_all(text.as_bytes()).map_err(Error::io(&self.path))
    }
}

/// Whether a line is whole and not beyond `step`.
fn stays(line: &[u8], step: u64) -> bool {
    let found: Option<Value> = line.strip_suffix(b"\n").and_then(|line| serde_json::from_slice(line).ok());
    found.and_then(|line| line.get("step")?.as_u64()).is_some_and(|of_line| of_line <= step)
}
