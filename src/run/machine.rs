//! What a run was trained on: `LOGDIR/machines.json`, beside the checkpoints, whose bytes are the same on every machine.

use std::fmt;
use std::fs;
use std::io::Write;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::beside::write_beside;
use crate::{Error, Result};

/// The file's name.
const FILE: &str = "machines.json";

/// Where training went on from a step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// Steps that were finished before.
    pub step: u64,
    /// What computed, as in "CPU, 8 threads".
    pub device: String,
    /// The processor's model.
    pub processor: String,
    /// Cores that the program could use.
    pub cores: usize,
    /// The operating system and the kind of processor.
    pub system: String,
    /// This program and its version.
    pub program: String,
}

impl Machine {
    /// This one, from `step` on; `device` is what is computed on.
    pub fn here(step: u64, device: &str) -> Self {
        let (os, kind) = (std::env::consts::OS, std::env::consts::ARCH);
        let os = value_in("/etc/os-release", "PRETTY_NAME", '=').unwrap_or_else(|| os.to_string());
        Self {
            step,
            device: device.to_string(),
            processor: value_in("/proc/cpuinfo", "model name", ':').unwrap_or_else(|| kind.to_string()),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            system: format!("{os}, {kind}"),
            program: format!("vae-workshop {}", env!("CARGO_PKG_VERSION")),
        }
    }

    /// Notes it in a run's folder if it differs from the one before. What was noted from its step on is forgotten: that was
    /// never saved.
    ///
    /// # Errors
    /// [`Error::Io`] if the file cannot be written.
    pub fn note(self, run: &Path) -> Result<()> {
        let mut known = Self::all(run).unwrap_or_else(|error| {
            tracing::warn!("{error}; it begins anew");
            Vec::new()
        });
        known.retain(|earlier| earlier.step < self.step);
        if !known.last().is_some_and(|last| Self { step: last.step, ..self.clone() } == *last) {
            known.push(self);
        }
        let path = run.join(FILE);
        let text = serde_json::to_string_pretty(&known).expect("machines are plain data");
        write_beside(&path, |file| writeln!(file, "{text}").map_err(Error::io(&path)))
    }

    /// Those that a run's first `steps` steps were computed on, the first one first; none of a run that was begun before they were
    /// noted.
    ///
    /// # Errors
    /// If the file cannot be read or says something else.
    pub fn until(run: &Path, steps: u64) -> Result<Vec<Self>> {
        let mut known = Self::all(run)?;
        known.retain(|machine| machine.step == 0 || machine.step < steps);
        Ok(known)
    }

    /// What these leave open, if anything: what was trained before machines were noted.
    pub fn not_recorded(known: &[Self]) -> Option<String> {
        match known.first().map(|machine| machine.step) {
            None => Some("not recorded".into()),
            Some(0) => None,
            Some(step) => Some(format!("not recorded before step {step}")),
        }
    }

    fn all(run: &Path) -> Result<Vec<Self>> {
        let path = run.join(FILE);
        let bytes = match fs::read(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other.map_err(Error::io(&path))?,
        };
        let wrong = |error| Error::file(&path, format!("does not say what the run was trained on: {error}"));
        serde_json::from_slice(&bytes).map_err(wrong)
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let Self { step, device, processor, cores, system, program } = self;
        write!(f, "from step {step}: {device}; {processor}, {cores} cores; {system}; {program}")
    }
}

/// The first value of a name in a file of lines `NAME <separator> VALUE`, without quotes.
fn value_in(path: &str, name: &str, separator: char) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    let value = |line: &str| {
        line.split_once(separator)
            .filter(|(found, _)| found.trim() == name)
            .map(|(_, value)| value.trim().trim_matches('"').to_string())
    };
    text.lines().find_map(value).filter(|value| !value.is_empty())
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    #[test]
    fn a_machine_is_noted_where_it_changes_and_what_was_never_saved_is_forgotten() {
        let run = TempDir::new().unwrap();
        let note = |step: u64, device: &str| Machine::here(step, device).note(run.path()).unwrap();
        let noted = || -> Vec<(u64, String)> {
            Machine::all(run.path()).unwrap().into_iter().map(|machine| (machine.step, machine.device)).collect()
        };
        let known =
            |pairs: &[(u64, &str)]| pairs.iter().map(|(step, device)| (*step, device.to_string())).collect::<Vec<_>>();
        assert_eq!(noted(), []);
        note(0, "CPU");
        note(10, "CPU");
        assert_eq!(noted(), known(&[(0, "CPU")]));
        note(20, "GPU");
        note(30, "CPU");
        assert_eq!(noted(), known(&[(0, "CPU"), (20, "GPU"), (30, "CPU")]));
        let until = |steps: u64| Machine::until(run.path(), steps).unwrap().len();
        assert_eq!(
            [0, 1, 20, 21, 30, 31].map(until),
            [1, 1, 1, 2, 2, 3],
            "a session that begins at a step did not compute it"
        );
        note(20, "CPU"); // the sessions from 20 on were killed before they saved
        assert_eq!(noted(), known(&[(0, "CPU")]));
        note(0, "GPU");
        assert_eq!(noted(), known(&[(0, "GPU")]));
        fs::write(run.path().join(FILE), "[{").unwrap();
        assert!(Machine::all(run.path()).unwrap_err().to_string().contains("machines.json"));
        assert_eq!(Machine::not_recorded(&[]).unwrap(), "not recorded");
        assert_eq!(Machine::not_recorded(&[Machine::here(0, "CPU")]), None);
        note(40, "CPU");
        assert_eq!(noted(), known(&[(40, "CPU")]));
        assert_eq!(Machine::not_recorded(&Machine::all(run.path()).unwrap()).unwrap(), "not recorded before step 40");
    }
}
