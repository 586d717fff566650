//! `evaluate latents` and `evaluate udr`: their flags and tables.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use super::evaluate::{WIDTH, cell, check_json, deliver};
use super::synth::VaeFlag;
use super::train::DeviceFlags;
use super::{require_within, say};
use crate::data::FeatureSet;
use crate::metrics::latents::naming::meanings;
use crate::metrics::latents::scores::FactorScores;
use crate::metrics::latents::table::FactorTable;
use crate::metrics::latents::{Agreement, LatentReport, agreement, measure};
use crate::run::{Checkpoint, RunConfig};
use crate::synth::{VaeCodec, require_ending};
use crate::{Error, Result};

/// Latents that a factor's line names.
const NAMED: usize = 3;

/// The flags of `evaluate latents`.
#[derive(Args, Clone, Debug)]
pub struct LatentsFlags {
    /// Which VAE.
    #[command(flatten)]
    pub vae: VaeFlag,
    /// A folder of feature files, such as the one the VAE was tested on.
    #[arg(value_name = "FEATURES")]
    pub features: PathBuf,
    /// A .csv table of factors: a column `file` (paths without ending) and one of numbers for each factor. make-corpus --factors
    /// writes one; an empty cell stands for a factor that a recording has not.
    #[arg(long, value_name = "TABLE")]
    pub factors: Option<PathBuf>,
    /// Samples of each code for the importance-weighted bound; 0 leaves it out.
    #[arg(long, default_value_t = 50, value_name = "K")]
    pub samples: usize,
    /// Seed of these samples, of the null and of what the FactorVAE and beta-VAE scores draw.
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Also write the codes and factors that were measured, for numpy.
    #[arg(long, value_name = "FILE.npz")]
    pub codes: Option<PathBuf>,
    /// Also write what was found into the run as latents.json: names of latents, what `synth edit --pitch` and the like
    /// move by, and for pages the scores. Of the checkpoint that is measured, in place of what was there.
    #[arg(long)]
    pub name: bool,
    /// Also write JSON; `-` prints it in place of the table.
    #[arg(long, value_name = "FILE|-")]
    pub json: Option<PathBuf>,
    /// Where to compute.
    #[command(flatten)]
    pub compute: DeviceFlags,
}

/// The flags of `evaluate udr`.
#[derive(Args, Clone, Debug)]
pub struct UdrFlags {
    /// A folder of runs of train-vae, alike but for the seed.
    #[arg(value_name = "RUNS_DIR")]
    pub runs: PathBuf,
    /// A folder of feature files that all are given.
    #[arg(value_name = "FEATURES")]
    pub features: PathBuf,
    /// Also write JSON; `-` prints it in place of the table.
    #[arg(long, value_name = "FILE|-")]
    pub json: Option<PathBuf>,
    /// Where to compute.
    #[command(flatten)]
    pub compute: DeviceFlags,
}

/// `evaluate latents`.
///
/// # Errors
/// As [`measure`], and if an output cannot be written.
pub fn latents(flags: &LatentsFlags) -> Result<ExitCode> {
    flags.json.as_deref().map_or(Ok(()), check_json)?;
    flags.codes.as_deref().map_or(Ok(()), |path| require_ending(path, "npz"))?;
    require_within("--samples", flags.samples as f64, 0.0..=10_000.0)?;
    let table = flags.factors.as_deref().map(|path| FactorTable::read(path).map(|table| (path, table))).transpose()?;
    let codec = VaeCodec::open(&flags.vae.vae, &flags.compute.open()?)?;
    let set = FeatureSet::open(&flags.features)?;
    let table = table.as_ref().map(|(path, table)| (*path, table));
    let measured = measure(&codec, &set, table, flags.samples, flags.seed)?;
    flags.codes.as_deref().map_or(Ok(()), |path| measured.write_codes(path))?;
    let named = if flags.name {
        let found = meanings(&codec, &set, &measured)?;
        if found.names.is_empty() && found.slopes.is_empty() {
            tracing::warn!(
                "--name: these segments tell of nothing; what was found before, if anything, is left as it is"
            );
            None
        } else {
            Some((found.write(codec.checkpoint())?, found))
        }
    } else {
        None
    };
    deliver(&measured.report, flags.json.as_deref(), || {
        print(&measured.report);
        if let Some((path, found)) = &named {
            say(format_args!("\n{}:\n{}", path.display(), found.lines().join("\n")));
        }
    })?;
    Ok(ExitCode::SUCCESS)
}

/// `evaluate udr`.
///
/// # Errors
/// As [`agreement`], and if the folder holds no runs or JSON cannot be written.
pub fn udr(flags: &UdrFlags) -> Result<ExitCode> {
    flags.json.as_deref().map_or(Ok(()), check_json)?;
    let runs = runs_in(&flags.runs)?;
    let device = flags.compute.open()?; // limits the threads, before anything runs in parallel
    let set = FeatureSet::open(&flags.features)?;
    let codecs = runs.iter().map(|run| VaeCodec::open(run, &device)).collect::<Result<Vec<_>>>()?;
    let found = agreement(&codecs, &set)?;
    deliver(&json!({ "runs": found }), flags.json.as_deref(), || print_agreement(&found))?;
    Ok(ExitCode::SUCCESS)
}

/// The VAEs in `folder`, by name. Runs of another kind are named and passed over, as are names that begin with a dot.
fn runs_in(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder).map_err(Error::io(folder))?;
    let mut paths = entries
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<std::io::Result<Vec<_>>>()
        .map_err(Error::io(folder))?;
    let is_step = |entry: fs::DirEntry| entry.file_name().to_string_lossy().starts_with("step-");
    let is_hidden = |path: &Path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
    let is_run = |path: &Path| fs::read_dir(path).is_ok_and(|entries| entries.flatten().any(is_step));
    paths.retain(|path| !is_hidden(path) && is_run(path));
    paths.sort();
    let (mut runs, mut first): (Vec<PathBuf>, Option<RunConfig>) = (Vec::new(), None);
    for path in paths {
        let (checkpoint, _) = Checkpoint::with_model(&path)?;
        let config = checkpoint.about.config.clone();
        match checkpoint.require("VAE") {
            Ok(_) => {
                let first = first.get_or_insert_with(|| config.clone());
                let differences = first.differences(&RunConfig { seed: first.seed, ..config });
                if let Some(before) = runs.first().filter(|_| !differences.is_empty()) {
                    let (path, before, differences) = (path.display(), before.display(), differences.join(", "));
                    tracing::warn!("{path} is not {before} with another seed: {differences}");
                }
                runs.push(path);
            }
            Err(error) => tracing::warn!("{error}: passed over"),
        }
    }
    if runs.len() < 2 {
        let count = if runs.is_empty() { "no run" } else { "one run" };
        let hint = if is_run(folder) { ": it is a run itself, name the folder that holds them" } else { "" };
        return Err(Error::file(folder, format!("holds {count} of train-vae; UDR compares two at least{hint}")));
    }
    Ok(runs)
}

fn print(report: &LatentReport) {
    let LatentReport { files, segments, too_short, active, .. } = report;
    let short = if *too_short > 0 { format!(" ({too_short} files are too short)") } else { String::new() };
    say(format_args!("segments: {segments} of {files} files{short}"));
    say(format_args!("active latents: {active} of {}", report.kl.len()));
    let mut order: Vec<usize> = (0..report.kl.len()).collect();
    order.sort_by(|&one, &other| report.kl[other].total_cmp(&report.kl[one]));
    let shown: Vec<String> =
        order.iter().take(*active).map(|&latent| format!("{latent}: {:.3}", report.kl[latent])).collect();
    if !shown.is_empty() {
        say(format_args!("KL nats by latent: {}", shown.join("  ")));
    }
    let line = |name: &str, value: Option<f64>| {
        let value = value.map_or("undefined".to_string(), |value| format!("{value:.3}"));
        say(format_args!("{name}: {value}"));
    };
    line("KL nats", Some(report.kl.iter().sum()));
    line("ELBO nats", Some(report.elbo));
    if let Some(bound) = &report.importance {
        let name = format!(
            "importance-weighted bound nats ({} samples, {} segments; their ELBO {:.3})",
            bound.samples, bound.segments, bound.elbo
        );
        line(&name, Some(bound.bound));
    }
    line("Gaussian total correlation nats", report.total_correlation);
    line("mean pairwise information nats", report.mean_pairwise_information);
    say("");
    print_scores(&report.factors_from, &report.scores);
}

fn print_scores(from: &str, scores: &FactorScores) {
    let factors = &scores.factors;
    say(format_args!("against {from}:"));
    for (name, value) in scores.headline() {
        say(format_args!("{name:20}{}", cell(value, 3)));
    }
    say("");
    let longest = factors.iter().map(|factor| factor.name.chars().count()).max().unwrap_or(0).max("factor".len());
    let headings: Vec<String> =
        ["segments", "MIG", "SAP", "R2", "null MI"].iter().map(|heading| format!("{heading:>WIDTH$}")).collect();
    say(format_args!("{:longest$}  {}  latent: MI nats, R2", "factor", headings.join("  ")));
    for factor in factors {
        let mut order: Vec<usize> = (0..factor.information.len()).collect();
        order.sort_by(|&one, &other| factor.information[other].total_cmp(&factor.information[one]));
        let told = |&&k: &&usize| factor.information[k] > 0.0;
        let shown = |&k: &usize| format!("{k}: {:.3}, {:.3}", factor.information[k], factor.squared_correlation[k]);
        let best: Vec<String> = order.iter().take(NAMED).filter(told).map(shown).collect();
        let best = factor.why_undefined().unwrap_or(best.join("  "));
        let cells = [
            format!("{:>WIDTH$}", factor.segments),
            cell(factor.mig, 3),
            cell(factor.sap, 3),
            cell(factor.regression.as_ref().map(|regression| regression.r2), 3),
            cell(factor.null_information, 3),
        ];
        say(format_args!("{:longest$}  {}  {}", factor.name, cells.join("  "), best));
    }
}

fn print_agreement(runs: &[Agreement]) {
    let longest = runs.iter().map(|run| run.vae.chars().count()).max().unwrap_or(0).max("run".len());
    say(format_args!("{:longest$}  {:>WIDTH$}  {:>WIDTH$}", "run", "active", "UDR"));
    for run in runs {
        say(format_args!("{:longest$}  {:>WIDTH$}  {}", run.vae, run.active, cell(run.udr, 3)));
    }
}
