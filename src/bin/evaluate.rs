//! `evaluate COMMAND`: audio, latents, udr, report.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use rayon::prelude::*;
use vae_workshop::Result;
use vae_workshop::cli::meaning::{self, LatentsFlags, UdrFlags};
use vae_workshop::cli::train::DeviceFlags;
use vae_workshop::cli::{self, evaluate};
use vae_workshop::metrics::{Pair, SoundMeasures, SoundOfRun, compare, pairs, read_output, read_reference};
use vae_workshop::report::{self, Inverter, ReportConfig};
use vae_workshop::run::Checkpoint;
use vae_workshop::synth::require_ending;

/// Measure what the toolkit made.
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// How near sounds are to their references.
    ///
    /// For each file and on average: log-spectral distance (LSD, floor -80 dB), mel-cepstral distortion (MCD, c1 to c24, frame by
    /// frame) and spectral convergence (SC) in dB, the root mean square error of the pitch where both are voiced, the share
    /// of frames whose voicing differs, and how far the output's peak and level are from the reference's.
    ///
    /// Sounds are compared at 16 kHz from their first samples over the length of the shorter, levels aligned by root mean
    /// square. A delay is not compensated. What silence or too short a sound leaves open is `undefined`, in JSON null.
    Audio {
        /// A .wav, .ogg, .flac, .mp3 or .feat.npz file, or a folder of them. Of a .feat.npz the reference is what was analysed.
        #[arg(value_name = "REF")]
        reference: PathBuf,
        /// For a file, a sound file; for a folder, a folder whose sounds have the same relative names but for the ending.
        #[arg(value_name = "OUT")]
        output: PathBuf,
        /// Trim silence from sound files of REF as features are trimmed by default: for outputs made from features.
        #[arg(long)]
        trim: bool,
        /// Also write JSON; `-` prints it in place of the table.
        #[arg(long, value_name = "FILE|-")]
        json: Option<PathBuf>,
        /// Also keep the mean in this training run, which made the sounds, as audio.json: its page shows it.
        #[arg(long, value_name = "RUN")]
        run: Option<PathBuf>,
    },
    /// What a VAE's latents mean.
    ///
    /// With --factors, how well latents stand for known factors: MIG (mutual information gap, 20 bins), SAP (gap in squared
    /// correlation), DCI (disentanglement, completeness, informativeness by L1 regressions), and where each factor has at most
    /// 20 levels the scores of FactorVAE and beta-VAE. Without, the same against what is heard in each segment: pitch and voicing
    /// (pYIN), energy, tilt, centroid. Codes are posterior means, of the segments that the trainer would test on.
    ///
    /// Also each latent's divergence, the Gaussian total correlation and mean pairwise information of the means, the evidence
    /// lower bound and an importance-weighted one, in nats a segment. What cannot be told is `undefined`, in JSON null.
    Latents(LatentsFlags),
    /// Whether runs from several seeds found the same latents (UDR, Spearman).
    Udr(UdrFlags),
    /// One or several training runs as a page for the browser.
    ///
    /// One self-contained HTML file: curves, tables, spectrograms and sounds. Several runs are also compared. Of a VAE it has
    /// reconstructions of test recordings, traversals of the most active latents and samples of the prior, of an inverter true
    /// and predicted spectra.
    Report {
        /// Folders of training runs or of single checkpoints.
        #[arg(value_name = "RUN", required = true)]
        runs: Vec<PathBuf>,
        /// The page; a file that is there is replaced.
        #[arg(short, long, value_name = "OUT.html")]
        output: PathBuf,
        /// The inverter that makes VAEs sound; `none` inverts the mel bands without a network [default: the run of an inverter that
        /// lies in the same folder as a VAE's and fits it; of several the one called `inverter`]
        #[arg(long, value_name = "RUN|none")]
        inverter: Option<PathBuf>,
        /// Features of the recordings to show, or a folder with `test/` among them [default: those of each run's test]
        #[arg(long, value_name = "DIR")]
        features: Option<PathBuf>,
        #[command(flatten)]
        compute: DeviceFlags,
    },
}

fn main() -> ExitCode {
    let args = Cli::parse();
    cli::run(|| match args.command {
        Command::Audio { reference, output, trim, json, run } => {
            audio(&reference, &output, trim, json.as_deref(), run.as_deref())
        }
        Command::Latents(flags) => meaning::latents(&flags),
        Command::Udr(flags) => meaning::udr(&flags),
        Command::Report { runs, output, inverter, features, compute } => {
            require_ending(&output, "html")?;
            let inverter = match inverter {
                None => Inverter::Beside,
                Some(none) if none.as_os_str() == "none" => Inverter::None,
                Some(run) => Inverter::Run(run),
            };
            report::write(&runs, &ReportConfig { inverter, features, live: false }, &output, &compute.open()?)?;
            cli::say(output.display());
            Ok(ExitCode::SUCCESS)
        }
    })
}

fn audio(reference: &Path, output: &Path, trim: bool, json: Option<&Path>, run: Option<&Path>) -> Result<ExitCode> {
    json.map_or(Ok(()), evaluate::check_json)?;
    let checkpoint = run.map(Checkpoint::with_model).transpose()?;
    let pairs = pairs(reference, output)?;
    let mut measured = pairs.par_iter().map(|pair| measure(pair, trim)).collect::<Vec<_>>();
    let done = match measured.len() {
        1 => vec![measured.remove(0)?],
        _ => measured.into_iter().filter_map(|one| one.inspect_err(cli::complain).ok()).collect(),
    };
    if !done.is_empty() {
        let mean = evaluate::report(&done, json)?;
        if let Some((checkpoint, tensors)) = checkpoint {
            let [reference, output] = [reference, output].map(|path| path.display().to_string());
            let (model, step, files) = (tensors.fingerprint(), checkpoint.about.step, done.len());
            SoundOfRun { model, step, reference, output, files, mean }.write(&checkpoint.path)?;
        }
    }
    Ok(cli::status(done.len(), pairs.len() - done.len()))
}

fn measure(pair: &Pair, trim: bool) -> Result<(String, SoundMeasures)> {
    let (reference, output) = (read_reference(&pair.reference, trim)?, read_output(&pair.output)?);
    Ok((pair.name.clone(), compare(&pair.output.display().to_string(), &reference, &output)))
}
