//! How a trainer is stopped in good order, whenever the signal comes.

use std::io::Write;
use std::process::ExitCode;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use signal_hook::iterator::Signals;
use signal_hook::low_level;

use crate::{Error, Result};

/// SIGINT (Ctrl-C), SIGTERM and SIGHUP (a closed terminal, unless under `nohup`): before there is something to save they end the
/// process at once; then the first asks to finish the step and save, and further ones are answered that this is under way.
#[derive(Default)]
pub struct Interrupts {
    /// Zero until a signal puts its number there.
    pub signal: AtomicUsize,
    saves: AtomicBool,
}

impl Interrupts {
    /// Catches the signals from now on, once for the process.
    ///
    /// # Errors
    /// [`Error::Config`] if the handlers cannot be installed.
    pub fn catch() -> Result<&'static Self> {
        static CAUGHT: OnceLock<Interrupts> = OnceLock::new();
        if let Some(caught) = CAUGHT.get() {
            return Ok(caught);
        }
        let mut signals = Signals::new(super::signals())
            .map_err(|source| Error::Config(format!("cannot install signal handlers: {source}")))?;
        let caught = CAUGHT.get_or_init(Self::default);
        std::thread::spawn(move || signals.forever().for_each(|number| caught.receive(number)));
        Ok(caught)
    }

    /// From now on there is something to save.
    pub fn begin_to_save(&self) {
        self.saves.store(true, Ordering::SeqCst);
    }

    /// The exit status of a program that a signal stopped: 128 and the signal's number.
    pub fn status(&self) -> ExitCode {
        super::interrupted(&self.signal)
    }

    fn receive(&self, number: i32) {
        let first = self.signal.compare_exchange(0, number as usize, Ordering::SeqCst, Ordering::SeqCst).is_ok();
        if !self.saves.load(Ordering::SeqCst) {
            low_level::exit(128 + number);
        }
        let line = if first { "finishing the step, then saving" } else { "still saving; wait a moment" };
        let _ = writeln!(std::io::stderr(), "interrupted: {line}"); // read or not
    }
}
