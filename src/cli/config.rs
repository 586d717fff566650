//! `--config FILE.toml`: flags from a file. Its keys are those that clap knows of the command; nothing is listed here.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use clap::error::{ContextKind, ContextValue};
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Command, Parser};
use toml::de::{DeTable, DeValue};

use crate::{Error, Result};

/// The flag's name.
const CONFIG: &str = "config";

/// The command line's arguments, where `--config` names a file after those of the file; and both together as such a file.
///
/// In the file a flag or a folder is `name = value`, hyphens and underscores or none alike; a list has commas on the command
/// line. Paths are from where the command is given. The command must let the last of two equal flags count
/// (`args_override_self`).
///
/// # Errors
/// [`Error::Io`] if the file cannot be read, [`Error::Config`] naming file, line and key of what no flag is or has for a value.
/// What is wrong with the command line itself ends the process, as [`Parser::parse`] does.
pub fn parse<T: Parser>() -> Result<(T, String)> {
    let command = T::command();
    let given: Vec<OsString> = std::env::args_os().collect();
    let lenient = command.clone().mut_args(|arg| arg.required(false));
    let file = match lenient.clone().try_get_matches_from(&given) {
        Ok(found) => found.get_one::<PathBuf>(CONFIG).cloned().map(|path| (path, found)),
        Err(_) => None, // the strict parse below says what is wrong, or shows the help
    };
    let arguments = match file {
        Some((path, found)) => merged(&lenient, &Entries::read(&path, &lenient)?, &given, &found),
        None => given,
    };
    let matches = command.clone().get_matches_from(arguments);
    let parsed = T::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    Ok((parsed, written(&command, &matches)))
}

/// What a file says, as arguments.
#[derive(Default)]
struct Entries {
    flags: Vec<String>,
    /// Arguments without a name on the command line, by their names in its help.
    positional: Vec<(String, String)>,
}

impl Entries {
    fn read(path: &Path, command: &Command) -> Result<Self> {
        let text = fs::read_to_string(path).map_err(Error::io(path))?;
        let fail = |at: usize, message: &str| {
            let line = 1 + text[..at.min(text.len())].matches('\n').count();
            Error::Config(format!("{}:{line}: {message}", path.display()))
        };
        let table = DeTable::parse(&text)
            .map_err(|error| fail(error.span().map_or(0, |span| span.start), &error.message().replace('\n', " ")))?;
        let (mut entries, mut seen) = (Self::default(), BTreeSet::new());
        let mut pairs: Vec<_> = table.get_ref().iter().collect();
        pairs.sort_by_key(|(key, _)| key.span().start);
        for (key, value) in pairs {
            let (at, key, value) = (key.span().start, key.get_ref().as_ref(), value.get_ref());
            let fail = |message: &str| fail(at, &format!("{key}: {message}"));
            let arg = command.get_arguments().find(|arg| plain(name(arg)) == plain(key));
            let arg = arg.ok_or_else(|| fail(&unknown(command, key)))?;
            let name = name(arg);
            if name == CONFIG || !seen.insert(name) {
                return Err(fail(if name == CONFIG { "a file cannot name another" } else { "given twice" }));
            }
            if matches!(arg.get_action(), ArgAction::SetTrue) {
                let wanted = value.as_bool().ok_or_else(|| fail("is true or false"))?;
                entries.flags.extend(wanted.then(|| format!("--{name}")));
                continue;
            }
            let value = argument(value).ok_or_else(|| {
                fail(&format!("is a {}, where a number, a text or a list of them is needed", value.type_str()))
            })?;
            if arg.is_positional() {
                entries.positional.push((name.to_string(), value));
                continue;
            }
            let flag = format!("--{name}={value}");
            let tried = command.clone().try_get_matches_from([command.get_name(), &flag]);
            tried.map_err(|error| fail(&first_words(&error)))?;
            entries.flags.push(flag);
        }
        Ok(entries)
    }
}

/// The file's flags, then what was given, then the file's folders in the places of those that were not.
fn merged(command: &Command, file: &Entries, given: &[OsString], found: &ArgMatches) -> Vec<OsString> {
    let (program, rest) = given.split_at(given.len().min(1));
    let flags = file.flags.iter().map(OsString::from);
    let mut arguments: Vec<OsString> = program.iter().cloned().chain(flags).chain(rest.iter().cloned()).collect();
    let missing = command.get_positionals().filter(|arg| found.value_source(arg.get_id().as_str()).is_none());
    let here = |arg: &Arg| file.positional.iter().find(|(key, _)| key == name(arg)).map(|(_, value)| value.into());
    let folders: Vec<OsString> = missing.map_while(here).collect();
    if !folders.is_empty() && !given.iter().any(|argument| argument == "--") {
        arguments.push("--".into());
    }
    arguments.extend(folders);
    arguments
}

/// Every argument that has a value, as a file that gives the same.
fn written(command: &Command, matches: &ArgMatches) -> String {
    let mut text = format!("# The flags of the last session; {} --config takes them again.\n", command.get_name());
    for arg in command.get_arguments().filter(|arg| arg.get_id() != CONFIG) {
        let id = arg.get_id().as_str();
        let value = matches.get_raw(id).and_then(|mut values| values.next()).and_then(|value| value.to_str());
        let (Some(value), Some(source)) = (value, matches.value_source(id)) else { continue };
        let same = |found: Option<String>| found.is_some_and(|found| found == value);
        let bare = same(value.parse::<i64>().ok().map(|number| number.to_string()))
            || same(value.parse::<bool>().ok().map(|word| word.to_string()))
            || value.contains('.') && same(value.parse::<f64>().ok().map(|number| number.to_string()));
        let quoted = serde_json::to_string(value).expect("text").replace('\u{7f}', "\\u007f"); // JSON's escapes are TOML's
        let value = if bare { value } else { &quoted };
        let note = if source == ValueSource::DefaultValue { " # default" } else { "" };
        writeln!(text, "{} = {value}{note}", name(arg)).expect("writing to a string cannot fail");
    }
    text
}

/// A flag without its hyphens; of a folder what the help calls it, in small letters.
fn name(arg: &Arg) -> &str {
    arg.get_long().unwrap_or(arg.get_id().as_str())
}

/// A key without what people spell differently.
fn plain(key: &str) -> String {
    key.replace(['-', '_'], "").to_ascii_lowercase()
}

/// A value as the command line has it; `None` if it has nothing like it.
fn argument(value: &DeValue) -> Option<String> {
    match value {
        DeValue::String(text) => Some(text.to_string()),
        DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix()).ok().map(|n| n.to_string()),
        DeValue::Float(number) => Some(number.as_str().to_string()),
        DeValue::Boolean(word) => Some(word.to_string()),
        DeValue::Array(values) => {
            let values: Option<Vec<String>> = values.iter().map(|value| argument(value.get_ref())).collect();
            values.map(|values| values.join(","))
        }
        DeValue::Datetime(_) | DeValue::Table(_) => None,
    }
}

/// That no flag has this name, and which one has a similar one.
fn unknown(command: &Command, key: &str) -> String {
    let flag = format!("--{}", key.replace('_', "-"));
    let error = command.clone().try_get_matches_from([command.get_name(), &flag]).err();
    match error.as_ref().and_then(|error| error.get(ContextKind::SuggestedArg)) {
        Some(ContextValue::String(near)) => {
            format!("{} has no such flag; {} is similar", command.get_name(), near.trim_start_matches('-'))
        }
        _ => format!("{0} has no such flag; {0} --help names all", command.get_name()),
    }
}

/// What clap has to say, in one line.
fn first_words(error: &clap::Error) -> String {
    let text = error.render().to_string();
    let said: Vec<&str> = text.lines().map(str::trim).take_while(|line| !line.is_empty()).collect();
    said.join(" ").trim_start_matches("error: ").to_string()
}
