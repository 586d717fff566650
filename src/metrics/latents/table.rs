//! A table of factors: a `.csv` with a row for each recording, matched to the features by name.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use ndarray::Array2;

use super::scores::Factors;
use crate::audio::EXTENSIONS;
use crate::features::FEATURE_SUFFIX;
use crate::{Error, Result};

/// What the first column is called.
const FILE: &str = "file";
/// Normalised features are blind to it.
const LOUDNESS: &str = "loudness_db";

/// The true factors of recordings.
#[derive(Clone, Debug)]
pub struct FactorTable {
    path: PathBuf,
    names: Vec<String>,
    /// By the recording's name without ending; NaN stands for an empty cell.
    rows: BTreeMap<String, Vec<f64>>,
}

impl FactorTable {
    /// Reads what `make-corpus --factors` writes, or numpy and pandas: a header whose first column is `file`, the recordings'
    /// relative paths without ending, then a number or nothing in each cell. Nothing means that the recording has no such
    /// factor.
    ///
    /// # Errors
    /// [`Error::File`] naming the line and what is wrong with it.
    pub fn read(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path).map_err(|error| match error.kind() {
            std::io::ErrorKind::InvalidData => Error::file(path, "is no text; a .csv table of factors is needed"),
            _ => Error::io(path)(error),
        })?;
        let wrong = |message: String| Error::file(path, message);
        let mut lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
        let header: Vec<&str> = lines.next().map_or(Vec::new(), |(_, line)| cells(line));
        if header.first().map(|name| name.trim_start_matches('\u{feff}')) != Some(FILE) || header.len() < 2 {
            return Err(wrong(format!("a first line `{FILE},NAME,...` is needed, as make-corpus --factors writes it")));
        }
        let names: Vec<String> = header[1..].iter().map(|name| name.to_string()).collect();
        if let Some(twice) = names.iter().enumerate().find(|(at, name)| name.is_empty() || names[..*at].contains(name))
        {
            return Err(wrong(format!("column {} is called `{}`: each needs a name of its own", twice.0 + 2, twice.1)));
        }
        let mut rows = BTreeMap::new();
        for (number, line) in lines {
            let number = number + 1;
            let cells = cells(line);
            if cells.len() != header.len() {
                return Err(wrong(format!("line {number} has {} cells, the header {}", cells.len(), header.len())));
            }
            let value = |(cell, name): (&&str, &String)| match cell.parse::<f64>() {
                _ if cell.is_empty() => Ok(f64::NAN),
                Ok(value) if value.is_finite() => Ok(value),
                Ok(_) => Err(wrong(format!("line {number}, {name}: {cell}; leave cells without a value empty"))),
                Err(_) => Err(wrong(format!(
                    "line {number}, {name}: `{cell}` is no number; of categories give each a column of 0 and 1"
                ))),
            };
            let values = cells[1..].iter().zip(&names).map(value).collect::<Result<Vec<_>>>()?;
            if rows.insert(cells[0].to_string(), values).is_some() {
                return Err(wrong(format!("line {number}: a second row of {}", cells[0])));
            }
        }
        if rows.is_empty() {
            return Err(wrong("holds no rows; each recording needs one, as make-corpus --factors writes them".into()));
        }
        Ok(Self { path: path.to_path_buf(), names, rows })
    }

    /// The factors of segments of these feature files, one of `files` a segment. Of features in a folder `train` or `test`
    /// only such rows are wanted. Rows without features are warned about, and loudness is left out, with a warning, if the
    /// features are `normalised`: they are blind to it.
    ///
    /// # Errors
    /// [`Error::File`] if a feature file has no row, or no factor is left.
    pub fn of(&self, root: &Path, names: &[String], files: &[usize], normalised: bool) -> Result<Factors> {
        let folder = root.canonicalize().unwrap_or_else(|_| root.to_path_buf());
        let within = folder.file_name().map(|name| format!("{}/", name.to_string_lossy())).unwrap_or_default();
        let prefixes = [String::new(), within];
        let key = |prefix: &str, name: &str| {
            stems(name).into_iter().map(|stem| format!("{prefix}{stem}")).find(|key| self.rows.contains_key(key))
        };
        let known = |prefix: &&String| names.iter().any(|name| key(prefix, name).is_some());
        let prefix = prefixes.iter().find(known).unwrap_or(&prefixes[0]);
        let keys: Vec<Option<String>> = names.iter().map(|name| key(prefix, name)).collect();
        let without: Vec<&String> =
            names.iter().zip(&keys).filter(|(_, key)| key.is_none()).map(|(name, _)| name).collect();
        if let Some(first) = without.first() {
            let (count, of, root) = (without.len(), names.len(), root.display());
            let row = self.rows.keys().next().map_or("", String::as_str);
            let message = format!(
                "has no row for {count} of the {of} files of {root}, {first} among them; its own are called like {row}"
            );
            return Err(Error::file(&self.path, message));
        }
        let keys: Vec<String> = keys.into_iter().flatten().collect();
        let used: BTreeSet<&String> = keys.iter().collect();
        let unused: Vec<&String> =
            self.rows.keys().filter(|row| row.starts_with(prefix.as_str()) && !used.contains(row)).collect();
        if let Some(first) = unused.first() {
            let (table, count, root) = (self.path.display(), unused.len(), root.display());
            tracing::warn!("{table}: {count} rows have no segment in {root}, {first} among them");
        }
        let mut wanted: Vec<usize> = (0..self.names.len()).collect();
        if let Some(loudness) = self.names.iter().position(|name| name == LOUDNESS).filter(|_| normalised) {
            tracing::warn!(
                "{LOUDNESS} is left out: the features are normalised; extract with --no-normalize to keep it"
            );
            wanted.retain(|&column| column != loudness);
        }
        if wanted.is_empty() {
            return Err(Error::file(&self.path, "no factor is left"));
        }
        let rows: Vec<&Vec<f64>> = keys.iter().map(|key| &self.rows[key]).collect();
        let values =
            Array2::from_shape_fn((files.len(), wanted.len()), |(row, column)| rows[files[row]][wanted[column]]);
        Ok(Factors { names: wanted.iter().map(|&column| self.names[column].clone()).collect(), values })
    }
}

fn cells(line: &str) -> Vec<&str> {
    line.split(',').map(|cell| cell.trim().trim_matches('"')).collect()
}

/// A feature file's name without ending, and without the recording's as well.
fn stems(name: &str) -> Vec<&str> {
    let stem = &name[..name.len() - FEATURE_SUFFIX.len().min(name.len())];
    let recording =
        stem.rsplit_once('.').filter(|(_, ending)| EXTENSIONS.iter().any(|one| one.eq_ignore_ascii_case(ending)));
    [Some(stem), recording.map(|(stem, _)| stem)].into_iter().flatten().collect()
}
