//! What programs say on standard error: text for people, or a line of JSON for each event.

use std::fmt::{self, Debug, Write as _};
use std::io::{IsTerminal, Write as _};
use std::sync::OnceLock;

use serde_json::{Value, json};
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

/// For people or for programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// Lines of text.
    Text,
    /// Lines of JSON, each with an `event`.
    Json,
}

/// The library and the programs, each a crate of its own.
const OURS: [&str; 7] =
    ["vae_workshop", "evaluate", "extract_features", "make_corpus", "synth", "train_inverter", "train_vae"];

static FORMAT: OnceLock<LogFormat> = OnceLock::new();

/// Begins to log on standard error, once for the process: this crate's messages from `level` on.
pub fn start(level: &str, format: LogFormat) {
    // Others' warnings are not for our users: CubeCL's fill pages where a GPU's memory is too small. Symphonia logs what it then
    // returns as an error, without the file's name.
    let usual = || {
        let ours: String = OURS.iter().map(|name| format!(",{name}={level}")).collect();
        EnvFilter::new(format!("error,symphonia=off{ours}"))
    };
    let filter = EnvFilter::try_from_env("VAE_WORKSHOP_LOG").unwrap_or_else(|_| usual());
    let logger = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match FORMAT.get_or_init(|| format) {
        LogFormat::Text => {
            logger.with_ansi(std::io::stderr().is_terminal()).with_target(false).without_time().init();
        }
        LogFormat::Json => logger.event_format(AsJson).init(),
    }
}

/// Whether events are to be told.
pub fn is_json() -> bool {
    FORMAT.get() == Some(&LogFormat::Json)
}

/// Tells an event, an object that names it as `event`, on a line of its own.
pub fn tell(event: &Value) {
    let line = format!("{event}\n"); // written at once, so that those of two threads do not mix
    let _ = std::io::stderr().write_all(line.as_bytes()); // read or not
}

/// Messages of the library as events.
struct AsJson;

impl<S: Subscriber + for<'a> LookupSpan<'a>, N: for<'a> FormatFields<'a> + 'static> FormatEvent<S, N> for AsJson {
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut message = Message(String::new());
        event.record(&mut message);
        let level = event.metadata().level().as_str().to_lowercase();
        writeln!(writer, "{}", json!({ "event": "log", "level": level, "message": message.0 }))
    }
}

struct Message(String);

impl Visit for Message {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        if field.name() == "message" {
            let _ = write!(self.0, "{value:?}"); // a string takes every write
        }
    }
}
