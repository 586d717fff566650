//! Tables of what `evaluate` measured: aligned text and JSON.

use std::io::Write;
use std::path::Path;

use serde::Serialize;
use serde_json::{Value, json};

use super::say;
use crate::beside::{create_parent, write_beside};
use crate::metrics::SoundMeasures;
use crate::synth::require_ending;
use crate::{Error, Result};

/// Headings and decimals of the columns, in the order of [`SoundMeasures::values`].
const COLUMNS: [(&str, usize); 8] = [
    ("LSD dB", 2),
    ("MCD dB", 2),
    ("SC dB", 2),
    ("f0 cents", 1),
    ("f0 Hz", 2),
    ("voicing", 3),
    ("peak dB", 2),
    ("level dB", 2),
];
/// As wide as the widest cell, `undefined`.
pub(super) const WIDTH: usize = 9;

/// Checks where JSON is to go: `-`, standard output, or a `.json` file, whose folder is made if it is not there.
///
/// # Errors
/// [`Error::File`] for another ending, [`Error::Io`] if the folder cannot be made.
pub fn check_json(target: &Path) -> Result<()> {
    if is_standard_output(target) {
        Ok(())
    } else {
        require_ending(target, "json").and_then(|()| create_parent(target))
    }
}

/// Prints the table and writes `value` as JSON; JSON on standard output comes in place of the table.
///
/// # Errors
/// [`Error::Io`] if the JSON file cannot be written.
pub fn deliver(value: &impl Serialize, to_json: Option<&Path>, table: impl FnOnce()) -> Result<()> {
    let text = || serde_json::to_string_pretty(value).expect("numbers and names are plain data");
    if to_json.is_some_and(is_standard_output) {
        say(text());
        return Ok(());
    }
    table();
    to_json
        .map_or(Ok(()), |target| write_beside(target, |file| writeln!(file, "{}", text()).map_err(Error::io(target))))
}

/// Reports all files and their mean, which comes back.
///
/// # Errors
/// As [`deliver`].
pub fn report(files: &[(String, SoundMeasures)], to_json: Option<&Path>) -> Result<SoundMeasures> {
    let mean = SoundMeasures::mean(&files.iter().map(|(_, measures)| measures.clone()).collect::<Vec<_>>());
    deliver(&as_json(files, &mean), to_json, || table(files, &mean))?;
    Ok(mean)
}

fn table(files: &[(String, SoundMeasures)], mean: &SoundMeasures) {
    let longest = files.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0).max("mean".len());
    let headings: Vec<String> = COLUMNS.iter().map(|(heading, _)| format!("{heading:>WIDTH$}")).collect();
    say(format_args!("{:longest$}  {}", "file", headings.join("  ")));
    for (name, measures) in files {
        say(format_args!("{name:longest$}  {}", cells(measures)));
    }
    if files.len() > 1 {
        say(format_args!("{:longest$}  {}", "mean", cells(mean)));
    }
}

fn cells(measures: &SoundMeasures) -> String {
    COLUMNS
        .iter()
        .zip(measures.values())
        .map(|(&(_, decimals), value)| cell(value, decimals))
        .collect::<Vec<_>>()
        .join("  ")
}

/// A number of a table, or `undefined`.
pub(super) fn cell(value: Option<f64>, decimals: usize) -> String {
    match value {
        Some(value) => format!("{value:>WIDTH$.decimals$}"),
        None => format!("{:>WIDTH$}", "undefined"),
    }
}

fn as_json(files: &[(String, SoundMeasures)], mean: &SoundMeasures) -> Value {
    let file = |(name, measures): &(String, SoundMeasures)| {
        let mut row = json!(measures);
        row["file"] = Value::from(name.as_str());
        row
    };
    json!({ "files": files.iter().map(file).collect::<Vec<_>>(), "mean": mean })
}

fn is_standard_output(target: &Path) -> bool {
    target.as_os_str() == "-"
}
