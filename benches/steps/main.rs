//! How long a training step, an inference and each stage of signal processing take.
//!
//! Without arguments it prints a table of all cases. With `--case` it times one and prints JSON; with `--serve` as well it does so
//! on request, so that another program can take turns with it (`scripts/bench_peers.py` does):
//!
//! ```text
//! cargo bench --bench steps -- --case conv-vae --repeat 5          # one line of JSON
//! cargo bench --bench steps -- --case conv-vae --serve             # a line for each line read, which says how many steps
//! ```
//!
//! No harness such as criterion: its dependencies change the features of Burn's own, which would then all be built twice.

mod cases;
mod sound;

use std::io::BufRead;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use serde::Serialize;
use serde_json::json;
use vae_workshop::cli::{self, say, train::DeviceFlags};
use vae_workshop::device::{self, OpenDevice};
use vae_workshop::{Error, Result};

use cases::{Case, NAMES, TRAINING};

/// Time all cases and print a table, or one and print JSON.
#[derive(Parser)]
struct Args {
    /// Time this one only.
    #[arg(long, value_parser = clap::builder::PossibleValuesParser::new(NAMES))]
    case: Option<String>,
    /// Rounds, each timed on its own.
    #[arg(long, default_value_t = 7, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    repeat: u32,
    /// Steps of a round; the device is waited for at its end only [default: what fills 0.3 s]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    steps: Option<u32>,
    /// Steps before the clock first starts; on a GPU the seventh is recorded and those after it replay it.
    #[arg(long, default_value_t = 8, value_name = "N")]
    warm_up: u32,
    /// Read a number of steps per line from standard input and answer each with its time, until the input ends.
    #[arg(long, requires = "case")]
    serve: bool,
    /// Seed of parameters, order and noise.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    #[command(flatten)]
    compute: DeviceFlags,
    /// Given by cargo.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> ExitCode {
    let args = Args::parse();
    cli::run(|| {
        if args.case.as_deref().is_none_or(|name| NAMES[..TRAINING].contains(&name)) {
            cli::keep_freed_buffers(); // as the trainers do
        }
        device::limit_threads(args.compute.threads)?;
        let open = device::open(args.compute.device, args.compute.precision)?;
        match &args.case {
            Some(name) => answer(name, &args, &open)?,
            None => table(&args, &open)?,
        }
        Ok(ExitCode::SUCCESS)
    })
}

/// All cases, for people.
fn table(args: &Args, open: &OpenDevice) -> Result<()> {
    say(format_args!("{}; ms a step: median, least and most of {} rounds", open.name, args.repeat));
    for name in NAMES {
        let mut times = rounds(&mut Case::open(name, args.seed, &open.device)?, args);
        times.sort_by(|one, other| one.seconds.total_cmp(&other.seconds));
        let [least, median, most] = [0, times.len() / 2, times.len() - 1].map(|index| 1e3 * times[index].seconds);
        say(format_args!("{name:16} {median:10.2} {least:10.2} {most:10.2}"));
    }
    Ok(())
}

/// One case, as JSON.
fn answer(name: &str, args: &Args, open: &OpenDevice) -> Result<()> {
    let mut case = Case::open(name, args.seed, &open.device)?;
    let mut facts = json!({
        "case": name, "device": open.name, "threads": rayon::current_num_threads(), "parameters": case.parameters,
        "configuration": case.configuration,
    });
    if !args.serve {
        facts["rounds"] = json!(rounds(&mut case, args));
        say(facts);
        return Ok(());
    }
    time(&mut case, args.warm_up);
    say(facts);
    for line in std::io::stdin().lock().lines() {
        let line = line.map_err(Error::io(Path::new("standard input")))?;
        let steps = line.trim().parse().map_err(|_| Error::Config(format!("`{line}` is not a number of steps")))?;
        say(json!(Round::of(&mut case, steps)));
    }
    Ok(())
}

/// Warm-up, then the rounds that `args` ask for.
fn rounds(case: &mut Case, args: &Args) -> Vec<Round> {
    time(case, args.warm_up);
    let steps = args.steps.unwrap_or_else(|| (0.3 / time(case, 1).as_secs_f64()).ceil().max(1.0) as u32);
    (0..args.repeat).map(|_| Round::of(case, steps)).collect()
}

/// Some steps, timed together.
#[derive(Serialize)]
struct Round {
    /// Of one step.
    seconds: f64,
    steps: u32,
    /// What the last step computed.
    value: Option<f64>,
    /// Whether the last step was one launch of what was recorded on a GPU.
    replayed: bool,
    /// The most memory this process ever had resident, where the system says.
    peak_rss_bytes: Option<u64>,
    device_bytes: Option<u64>,
}

impl Round {
    fn of(case: &mut Case, steps: u32) -> Self {
        let seconds = time(case, steps).as_secs_f64() / f64::from(steps.max(1));
        let (value, replayed) = (case.value(), case.replays());
        Self { seconds, steps, value, replayed, peak_rss_bytes: peak_rss(), device_bytes: case.device_bytes() }
    }
}

fn time(case: &mut Case, steps: u32) -> Duration {
    let start = Instant::now();
    case.run(steps);
    start.elapsed()
}

fn peak_rss() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
}
