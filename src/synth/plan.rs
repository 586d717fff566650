//! Which input becomes which output, and what may be replaced: a file named by the user, never one met on the way.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use crate::features::corpus::is_audio;
use crate::features::{FEATURE_SUFFIX, is_features};
use crate::walk::{files_below, lies_inside};
use crate::{Error, Result};

/// What a command writes for one input.
pub struct Outputs {
    /// A file or a folder.
    pub shape: Shape,
    /// Whether a `.png` goes beside each file.
    pub pictures: bool,
    /// Whether files in a folder may be replaced.
    pub overwrite: bool,
}

/// One file or several.
pub enum Shape {
    /// A file with this ending; OUT itself if IN is a file.
    File(&'static str),
    /// A folder with files of these names; OUT itself if IN is a file.
    Folder(Vec<String>),
}

/// One input and the file or folder that it becomes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// What is read.
    pub input: PathBuf,
    /// What is written.
    pub output: PathBuf,
}

/// What is to be done, and what could not even be looked at.
#[derive(Debug)]
pub struct Plan {
    /// Sorted by output.
    pub items: Vec<Item>,
    /// Folders and links that could not be read.
    pub unreadable: Vec<Error>,
}

/// Plans the outputs of `input`, a file or a folder of sounds and feature files.
///
/// A file becomes `out`, which is replaced if it is there, and its picture with it. Files below a folder keep their relative paths below `out`,
/// and what is there already is left alone.
///
/// # Errors
/// If there is no input; two would have the same output; an input would be overwritten; `out` lies inside the folder
/// `input`, is a file where a folder is needed, or the other way round; or files in a folder, or a picture without its
/// sound, exist and [`Outputs::overwrite`] is not set.
pub fn plan(input: &Path, out: &Path, outputs: &Outputs) -> Result<Plan> {
    if !fs::metadata(input).map_err(Error::io(input))?.is_dir() {
        plan_together(&[input], out, outputs)?;
        let item = Item { input: input.to_path_buf(), output: out.to_path_buf() };
        return Ok(Plan { items: vec![item], unreadable: Vec::new() });
    }
    require_folder(out)?;
    let plan = plan_folder(input, out, outputs)?;
    let files: Vec<PathBuf> = plan.items.iter().flat_map(|item| outputs.files(&item.output)).collect();
    refuse_inputs(plan.items.iter().map(|item| item.input.as_path()), &files)?;
    if !outputs.overwrite {
        refuse_existing(&files)?;
    }
    Ok(plan)
}

/// Checks that files may together become `out`, by the rules of [`plan()`].
///
/// # Errors
/// If an input is a folder or not there, or as [`plan()`].
pub fn plan_together(inputs: &[&Path], out: &Path, outputs: &Outputs) -> Result<()> {
    for input in inputs {
        if fs::metadata(input).map_err(Error::io(input))?.is_dir() {
            return Err(Error::file(input, "is a folder, where a file is needed"));
        }
    }
    let files = outputs.files(out);
    match outputs.shape {
        Shape::File(ending) => require_ending(out, ending)?,
        Shape::Folder(_) => require_folder(out)?,
    }
    refuse_inputs(inputs.iter().copied(), &files)?;
    match outputs.shape {
        _ if outputs.overwrite => Ok(()),
        Shape::Folder(_) => refuse_existing(&files),
        // The picture of a sound that is there is replaced with it.
        Shape::File(_) if out.exists() => Ok(()),
        Shape::File(_) => refuse_existing(&files[1..]),
    }
}

/// Refuses a path for an output file that does not end as such files do: it is most likely another argument's.
///
/// # Errors
/// [`Error::File`] with the ending.
pub fn require_ending(out: &Path, ending: &str) -> Result<()> {
    let extension = ending.rsplit('.').next().unwrap_or(ending);
    let ends = out.extension().is_some_and(|found| found.eq_ignore_ascii_case(extension));
    if ends && !is_features(out) && !out.is_dir() {
        return Ok(());
    }
    let but = if is_features(out) { format!(", but not in {FEATURE_SUFFIX},") } else { String::new() };
    Err(Error::file(out, format!("an output file whose name ends in .{extension}{but} is needed here")))
}

impl Outputs {
    /// The files of one item.
    fn files(&self, output: &Path) -> Vec<PathBuf> {
        let files = match &self.shape {
            Shape::File(_) => vec![output.to_path_buf()],
            Shape::Folder(names) => names.iter().map(|name| output.join(name)).collect(),
        };
        let pictures: Vec<PathBuf> = files.iter().map(|file| file.with_extension("png")).collect();
        if self.pictures { [files, pictures].concat() } else { files }
    }
}

fn plan_folder(input: &Path, out: &Path, outputs: &Outputs) -> Result<Plan> {
    if lies_inside(out, input)? {
        let message =
            format!("lies inside {}: what is written would be taken for input; choose one outside", input.display());
        return Err(Error::file(out, message));
    }
    let found = files_below(input, |path| is_audio(path) || is_features(path))
        .require_some(|| Error::file(input, format!("holds no .wav, .ogg, .flac, .mp3 or {FEATURE_SUFFIX} files")))?;
    let mut inputs = BTreeMap::new();
    for relative in found.files {
        let path = input.join(&relative);
        if let Some(other) = inputs.insert(output_below(out, &relative, &outputs.shape), path.clone()) {
            let message = format!("and {} would be written to the same place; move one away", other.display());
            return Err(Error::file(path, message));
        }
    }
    let items = inputs.into_iter().map(|(output, input)| Item { input, output }).collect();
    Ok(Plan { items, unreadable: found.unreadable })
}

/// Where the file with this path below IN goes: the same path below `out`, with another ending or none.
fn output_below(out: &Path, relative: &Path, shape: &Shape) -> PathBuf {
    let stem = relative.with_extension("");
    let stem = if is_features(relative) { stem.with_extension("") } else { stem };
    let mut name = out.join(stem).into_os_string();
    if let Shape::File(ending) = shape {
        name.push(".");
        name.push(ending);
    }
    name.into()
}

fn require_folder(out: &Path) -> Result<()> {
    if out.exists() && !out.is_dir() {
        return Err(Error::file(out, "is a file, where a folder for several files is needed"));
    }
    Ok(())
}

fn refuse_inputs<'a>(inputs: impl Iterator<Item = &'a Path>, files: &[PathBuf]) -> Result<()> {
    let inputs: BTreeSet<PathBuf> = inputs.filter_map(|input| input.canonicalize().ok()).collect();
    match files.iter().find(|file| file.canonicalize().is_ok_and(|file| inputs.contains(&file))) {
        Some(file) => Err(Error::file(file, "is an input and would be overwritten; give another OUT")),
        None => Ok(()),
    }
}

fn refuse_existing(files: &[PathBuf]) -> Result<()> {
    let existing: Vec<&PathBuf> = files.iter().filter(|file| file.exists()).collect();
    let Some(first) = existing.first() else { return Ok(()) };
    let count = format!("{} of the {} files to be written exist", existing.len(), files.len());
    Err(Error::file(first, format!("exists ({count}): --overwrite replaces them, or give another OUT")))
}
