//! What the binaries share: logging, progress, interruption and exit codes. The library below never prints.

pub mod attribute;
pub mod config;
pub mod evaluate;
pub mod interrupts;
pub mod knobs;
pub mod latents;
pub mod log;
pub mod meaning;
mod memory;
pub mod objective;
pub mod optimizer;
pub mod preview;
pub mod synth;
pub mod train;

use std::fmt::Display;
use std::io::{IsTerminal, Write};
use std::ops::RangeInclusive;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::json;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::flag;

use self::log::LogFormat;
use crate::{Error, Result};

/// Exit status of a run in which some files failed and the others were done.
pub const EXIT_SOME_FAILED: u8 = 3;

/// Exit status of training that diverged.
pub const EXIT_DIVERGED: u8 = 4;

/// The exit status of work on many files: 0 if all went well, 3 if some failed, 1 if nothing came out.
pub fn status(done: usize, failed: usize) -> ExitCode {
    match (done, failed) {
        (0, _) => ExitCode::FAILURE,
        (_, 0) => ExitCode::SUCCESS,
        _ => ExitCode::from(EXIT_SOME_FAILED),
    }
}

/// Runs a binary's body with logging to standard error; an error is printed once, with its causes, and gives status 1, or 4
/// if training diverged.
pub fn run(body: impl FnOnce() -> Result<ExitCode>) -> ExitCode {
    run_at("info", body)
}

/// As [`run`], with this crate's messages from `level` on.
pub fn run_at(level: &str, body: impl FnOnce() -> Result<ExitCode>) -> ExitCode {
    run_logging(level, LogFormat::Text, body)
}

/// As [`run_at`], with what is said on standard error as text or as JSON.
pub fn run_logging(level: &str, format: LogFormat, body: impl FnOnce() -> Result<ExitCode>) -> ExitCode {
    log::start(level, format);
    #[cfg(feature = "cuda")]
    end_when_a_launch_is_lost();
    body().unwrap_or_else(|error| {
        complain(&error);
        ExitCode::from(if matches!(error, Error::Diverged(_)) { EXIT_DIVERGED } else { 1 })
    })
}

/// CubeCL puts a compiled kernel beside those that are kept and takes it from there. If another process has removed it meanwhile, CubeCL
/// panics in a thread of its own, drops what was to be launched, and all computes on with whatever that was to write. So the
/// program ends.
#[cfg(feature = "cuda")]
fn end_when_a_launch_is_lost() {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        before(panic);
        if panic.payload_as_str().is_some_and(|text| text.starts_with("Should be cached now")) {
            let what = "another program was compiling the same kernel, and CubeCL lost it; the same command goes on";
            complain(&Error::Device(what.into()));
            signal_hook::low_level::exit(1);
        }
    }));
}

/// Prints a line on standard output. That nobody reads it any more (`| head`) does not end a run of hours.
pub fn say(line: impl Display) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// Prints an error on standard error, read or not.
pub fn complain(error: &Error) {
    if log::is_json() {
        return log::tell(&json!({ "event": "error", "error": error.to_string() }));
    }
    let _ = writeln!(std::io::stderr(), "error: {error}");
}

/// A progress bar on standard error; hidden when standard error is not a terminal.
pub fn progress(total: u64, template: &str) -> ProgressBar {
    let style = ProgressStyle::with_template(template).expect("templates are literals of this crate");
    let target = if std::io::stderr().is_terminal() {
        ProgressDrawTarget::stderr_with_hz(8)
    } else {
        ProgressDrawTarget::hidden()
    };
    let bar = ProgressBar::with_draw_target(Some(total), target);
    bar.set_style(style.progress_chars("=> "));
    bar
}

/// What asks a program to stop: SIGINT (Ctrl-C), SIGTERM and SIGHUP (a closed terminal), but that one not under `nohup`, which has it
/// ignored.
pub(super) fn signals() -> Vec<i32> {
    // SAFETY: without a new action `sigaction` only writes the present one, for which zeros are a place like any other.
    let ignored = unsafe {
        let mut present: libc::sigaction = std::mem::zeroed();
        libc::sigaction(SIGHUP, std::ptr::null(), &raw mut present) == 0 && present.sa_sigaction == libc::SIG_IGN
    };
    [SIGINT, SIGTERM].into_iter().chain((!ignored).then_some(SIGHUP)).collect()
}

/// What stops a program in good order: zero until SIGINT, SIGTERM or SIGHUP, unless that is ignored, puts its number there. A second
/// signal ends the process at once.
///
/// # Errors
/// [`Error::Config`] if the handlers cannot be installed.
pub fn interrupt_flag() -> Result<Arc<AtomicUsize>> {
    let (raised, signal) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    for number in signals() {
        flag::register_conditional_shutdown(number, 128 + number, raised.clone())
            .and_then(|_| flag::register(number, raised.clone()))
            .and_then(|_| flag::register_usize(number, signal.clone(), number as usize))
            .map_err(|source| Error::Config(format!("cannot install the handler of signal {number}: {source}")))?;
    }
    Ok(signal)
}

/// The exit status of a program that a signal stopped: 128 and the signal's number.
pub fn interrupted(signal: &AtomicUsize) -> ExitCode {
    ExitCode::from(128 + signal.load(Ordering::Relaxed) as u8)
}

/// Refuses a number outside a flag's range, NaN included.
///
/// # Errors
/// [`Error::Config`] naming the flag and its range.
pub fn require_within(flag: &str, value: f64, range: RangeInclusive<f64>) -> Result<()> {
    if range.contains(&value) {
        return Ok(());
    }
    let (least, most) = range.into_inner();
    // The least number above 0 has 308 digits.
    let least = if least == f64::MIN_POSITIVE { "above 0, up".into() } else { least.to_string() };
    Err(Error::Config(format!("{flag} {value}: must be {least} to {most}")))
}

/// Lets the allocator keep what one recording or training step frees for the next one, which needs much the same sizes again.
/// Given back to the system, it would be mapped and cleared anew each time: a fifth of a step's time on the CPU, a third of a
/// recording's.
pub fn keep_freed_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: these only set parameters of the allocator; a refused one changes nothing.
    unsafe {
        libc::mallopt(libc::M_MMAP_MAX, 0);
        libc::mallopt(libc::M_TRIM_THRESHOLD, -1);
        libc::mallopt(libc::M_TOP_PAD, 64 << 20);
    }
}

/// [`keep_freed_memory`] for training, before any thread is started: all have one heap, since one of its own that a thread is
/// given holds nothing above 64 MB.
pub fn keep_freed_buffers() {
    keep_freed_memory();
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: as above.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
    }
}
