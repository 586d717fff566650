//! A folder of recordings: finding them, choosing speakers, splitting off test material, and where each output goes.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fmt::{self, Display, Formatter};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use sha2::{Digest, Sha256};

use super::FEATURE_SUFFIX;
use crate::audio::EXTENSIONS;
use crate::walk::{Found, files_below, lies_inside};
use crate::{Error, Result};

/// What a flat folder is split by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SplitBy {
    /// Single files: train and test share speakers.
    #[default]
    File,
    /// Whole sub-folders of the audio folder: no test speaker is heard in training.
    Speaker,
}

impl FromStr for SplitBy {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        match name {
            "file" => Ok(SplitBy::File),
            "speaker" => Ok(SplitBy::Speaker),
            _ => Err(Error::Config(format!("{name:?} is neither file nor speaker"))),
        }
    }
}

/// Which recordings to take and how to split them.
#[derive(Clone, Debug, PartialEq)]
pub struct PlanOptions {
    /// Keep only files whose relative path contains one of these; all of them if empty.
    pub filter_speakers: Vec<String>,
    /// Share of a flat folder that becomes test material, at least 0 and below 1.
    pub split: f64,
    /// What that share is counted in.
    pub split_by: SplitBy,
    /// Whether `a.wav` becomes `a.wav.feat.npz` in place of `a.feat.npz`.
    pub keep_extension: bool,
}

impl Default for PlanOptions {
    fn default() -> Self {
        PlanOptions { filter_speakers: Vec::new(), split: 0.05, split_by: SplitBy::File, keep_extension: false }
    }
}

/// One recording and the feature file it becomes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Item {
    /// Path of the recording.
    pub input: PathBuf,
    /// Path of its feature file.
    pub output: PathBuf,
    /// Where the feature file would lie, had the recording fallen on the other side of the split.
    pub elsewhere: Option<PathBuf>,
}

/// What is to be done, and what could not even be looked at.
#[derive(Debug)]
pub struct Plan {
    /// Sorted by input.
    pub items: Vec<Item>,
    /// How many become `train/` and `test/`, by whom.
    pub sides: Sides,
    /// What a user would want to know before the work: how a folder is laid out that was perhaps not meant so.
    pub notes: Vec<String>,
    /// Folders and links that could not be read.
    pub unreadable: Vec<Error>,
}

/// How many recordings there are to train on and to test on.
#[derive(Clone, Debug, PartialEq)]
pub struct Sides {
    /// Those below `train/`.
    pub train: usize,
    /// Those below `test/`.
    pub test: usize,
    /// The share and what it was counted in, unless the recordings lay in `train/` and `test/` already.
    pub split: Option<(f64, SplitBy)>,
}

impl Display for Sides {
    fn fmt(&self, formatter: &mut Formatter) -> fmt::Result {
        let Self { train, test, split } = self;
        write!(formatter, "{train} of {} to train on, {test} to test on, ", train + test)?;
        match split {
            None => formatter.write_str("as its folders say"),
            Some((share, SplitBy::File)) => write!(formatter, "split by file, --split {share}"),
            Some((share, SplitBy::Speaker)) => write!(formatter, "split by speaker, --split {share}"),
        }
    }
}

/// Plans the feature files of all recordings under `audio_dir`.
///
/// A folder that holds `train` or `test` keeps its structure. Any other is split: its files go to `target_dir/train` and
/// `target_dir/test`, chosen by a hash of the relative path, so that the choice is the same on every machine and hardly
/// changes when files are added. If there are two to choose from, neither side is empty (unless the share is 0).
///
/// # Errors
/// [`Error::Config`] if `audio_dir` is missing, holds no recordings, or none that pass the filter; if `target_dir` lies
/// inside it; if the share is out of range or there are no speaker folders to split by; or if two recordings would become
/// the same file.
pub fn plan(audio_dir: &Path, target_dir: &Path, options: &PlanOptions) -> Result<Plan> {
    if !audio_dir.is_dir() {
        let what = if audio_dir.exists() { "is not a folder" } else { "does not exist" };
        return Err(Error::Config(format!("the audio folder {} {what}", audio_dir.display())));
    }
    if !(0.0..1.0).contains(&options.split) {
        return Err(Error::Config(format!("--split {} must be at least 0 and below 1", options.split)));
    }
    refuse_target_inside(audio_dir, target_dir)?;
    let Found { files, unreadable } = files_below(audio_dir, is_audio).require_some(|| {
        Error::Config(format!("the audio folder {} holds no .wav, .ogg, .flac or .mp3 files", audio_dir.display()))
    })?;
    let kept = filter(audio_dir, &files, &options.filter_speakers)?;
    let is_split = ["train", "test"].iter().any(|side| audio_dir.join(side).is_dir());
    let test = if is_split { BTreeSet::new() } else { choose_test(&kept, options)? };

    let mut inputs = BTreeMap::new();
    let mut items = Vec::with_capacity(kept.len());
    for relative in kept {
        let (side, other) = match (is_split, test.contains(relative)) {
            (true, _) => ("", None),
            (false, true) => ("test", Some("train")),
            (false, false) => ("train", Some("test")),
        };
        let name = feature_name(relative, options.keep_extension);
        let output = target_dir.join(side).join(&name);
        // Some file systems take names for the same that differ only in letter case.
        if let Some(other) = inputs.insert(key(&output).to_lowercase(), relative) {
            let fix = if options.keep_extension { "" } else { ", or keep their extensions with --keep-extension" };
            return Err(Error::Config(format!(
                "{} and {} would both become {}: rename one of them{fix}",
                audio_dir.join(other).display(),
                audio_dir.join(relative).display(),
                output.display()
            )));
        }
        let elsewhere = other.map(|other| target_dir.join(other).join(&name));
        items.push(Item { input: audio_dir.join(relative), output, elsewhere });
    }
    let below = |side: &str| items.iter().filter(|item| item.output.starts_with(target_dir.join(side))).count();
    let split = (!is_split).then_some((options.split, options.split_by));
    let sides = Sides { train: below("train"), test: below("test"), split };
    let notes = notes(audio_dir, &files, &sides, options);
    Ok(Plan { items, sides, notes, unreadable })
}

/// What is unusual about how recordings are split.
fn notes(audio_dir: &Path, files: &[PathBuf], sides: &Sides, options: &PlanOptions) -> Vec<String> {
    let (mut notes, usual) = (Vec::new(), PlanOptions::default());
    let audio = audio_dir.display();
    if sides.split.is_none() && (options.split, options.split_by) != (usual.split, usual.split_by) {
        notes.push(format!(
            "{audio} has train/ or test/, which stay as they are: --split and --split-by change nothing"
        ));
    }
    let is_side = |name: &OsStr| ["train", "test"].iter().any(|side| name.eq_ignore_ascii_case(side));
    let inner = || {
        files.iter().find_map(|file| file.ancestors().skip(1).find(|&folder| folder.file_name().is_some_and(is_side)))
    };
    if let (Some(_), Some(folder)) = (sides.split, inner()) {
        let fix = match folder.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            Some(parent) => format!("give {} as the audio folder", audio_dir.join(parent).display()),
            None => "let the folder's name be in small letters".into(),
        };
        notes.push(format!(
            "{} is split like any other folder; to keep its split, {fix}",
            audio_dir.join(folder).display()
        ));
    }
    let fix = if sides.split.is_none() { "put some into" } else { "give more recordings or another --split, for" };
    for (count, side) in [(sides.train, "train"), (sides.test, "test")] {
        if count == 0 {
            notes
                .push(format!("no recording is there for {side}, without which nothing can be trained: {fix} {side}/"));
        }
    }
    notes
}

/// The path of the feature file of `recording`, both relative.
fn feature_name(recording: &Path, keep_extension: bool) -> PathBuf {
    if !keep_extension {
        return recording.with_extension("feat.npz");
    }
    let mut name = recording.as_os_str().to_os_string();
    name.push(FEATURE_SUFFIX);
    name.into()
}

/// A path as text that no other path has: bytes that are not UTF-8 become `\\xNN`, a backslash two.
pub fn key(path: &Path) -> String {
    let mut key = String::new();
    for chunk in path.as_os_str().as_encoded_bytes().utf8_chunks() {
        key.push_str(&chunk.valid().replace('\\', r"\\"));
        chunk.invalid().iter().for_each(|byte| key.push_str(&format!(r"\x{byte:02x}")));
    }
    key
}

/// Whether the extension is one that [`Waveform::read`](crate::audio::Waveform::read) knows, in any letter case.
pub fn is_audio(path: &Path) -> bool {
    let extension = path.extension().unwrap_or_default();
    EXTENSIONS.iter().any(|known| extension.eq_ignore_ascii_case(known))
}

/// The files whose relative path contains one of `speakers`.
fn filter<'a>(audio_dir: &Path, found: &'a [PathBuf], speakers: &[String]) -> Result<Vec<&'a PathBuf>> {
    let passes = |path: &&PathBuf| speakers.is_empty() || speakers.iter().any(|s| path.to_string_lossy().contains(s));
    let kept: Vec<_> = found.iter().filter(passes).collect();
    if kept.is_empty() {
        return Err(Error::Config(format!(
            "--filter-speakers {} matches none of the {} recordings in {}",
            speakers.join(","),
            found.len(),
            audio_dir.display()
        )));
    }
    Ok(kept)
}

/// The share of `files` that becomes test material.
fn choose_test<'a>(files: &[&'a PathBuf], options: &PlanOptions) -> Result<BTreeSet<&'a PathBuf>> {
    let mut groups: BTreeMap<Vec<String>, Vec<&PathBuf>> = BTreeMap::new();
    for &file in files {
        let parts = names(file);
        let key = match options.split_by {
            SplitBy::File => parts,
            SplitBy::Speaker if parts.len() > 1 => parts[..1].to_vec(),
            SplitBy::Speaker => {
                return Err(Error::Config(format!(
                    "--split-by speaker needs every recording in a folder of its speaker, but {} is in none",
                    file.display()
                )));
            }
        };
        groups.entry(key).or_default().push(file);
    }
    if options.split_by == SplitBy::Speaker && groups.len() < 2 {
        return Err(Error::Config("--split-by speaker needs at least two folders of speakers".into()));
    }
    let most = groups.len() - 1;
    let wanted = if options.split == 0.0 { 0 } else { (options.split * groups.len() as f64).round().max(1.0) as usize };
    let mut groups: Vec<_> = groups.into_iter().collect();
    groups.sort_by_cached_key(|(key, _)| Sha256::digest(key.join("/")));
    Ok(groups.into_iter().take(wanted.min(most)).flat_map(|(_, files)| files).collect())
}

/// The names along a relative path.
fn names(path: &Path) -> Vec<String> {
    path.components().map(|part| part.as_os_str().to_string_lossy().into_owned()).collect()
}

/// Feature files among the recordings would be a mess to clean up.
fn refuse_target_inside(audio_dir: &Path, target_dir: &Path) -> Result<()> {
    if lies_inside(target_dir, audio_dir)? {
        return Err(Error::Config(format!(
            "the target folder {} lies inside the audio folder {}: choose one outside",
            target_dir.display(),
            audio_dir.display()
        )));
    }
    Ok(())
}
