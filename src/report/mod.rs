//! Runs as one page that needs nothing installed and no network: how training went, what the models do, and what they are.
//!
//! [`write()`] makes it. A page is a list of [`Fragment`]s; each run is one, and what else is to be on the page is one more, such as
//! the [`explorer`] of a VAE.

mod compare;
mod curves;
mod fragment;
mod inverter;
mod losses;
mod markup;
mod measures;
mod media;
mod page;
mod plot;
mod recording;
mod run;
mod through;
mod vae;

use std::io::Write;
use std::path::{Path, PathBuf};

use burn::tensor::Device;

pub use self::fragment::Fragment;
use self::markup::{Section, contents, escape, number, tiles};
use self::media::Media;
use self::run::Run;
pub use self::through::Inverter;
use self::through::Through;
use self::vae::Studio;
use crate::beside::{create_parent, write_beside};
use crate::explorer;
use crate::{Error, Result};

/// Bytes of a page at most, and what curves, tables and text of a run take of it at most. The rest is for weights, pictures and
/// sounds.
const PAGE: usize = 15_000_000;
const TEXT: usize = 250_000;

/// Bytes of the explorer's weights, if an inverter's are among them: the default models have 9.7 MB.
const WEIGHTS: usize = 10_500_000;

/// Recordings that the explorer starts from.
const EXPLORED: usize = 6;

/// What a page shows, besides the runs.
#[derive(Clone, Debug, Default)]
pub struct ReportConfig {
    /// What VAEs sound through.
    pub inverter: Inverter,
    /// Recordings to show. `None`: those of each run's test, if they are still where they were.
    pub features: Option<PathBuf>,
    /// Whether the page is to be written again: then it loads itself anew.
    pub live: bool,
}

/// Loads the page anew, where it is scrolled to.
const LIVE: &str = include_str!("live.js");

/// Writes the page of these runs, each a run's folder or one of its checkpoints.
///
/// # Errors
/// If one of them holds no checkpoint that can be read, an inverter that was named cannot be opened or understands other features
/// than a VAE's, or the page cannot be written.
pub fn write(runs: &[PathBuf], config: &ReportConfig, out: &Path, device: &Device) -> Result<()> {
    let opened = runs.iter().map(|path| Run::open(path, config.features.as_deref())).collect::<Result<Vec<_>>>()?;
    if matches!(config.inverter, Inverter::Run(_)) && !opened.iter().any(Run::is_vae) {
        tracing::warn!("--inverter changes nothing, as none of the runs is a VAE's");
    }
    let mut fragments = Vec::new();
    if opened.len() > 1 {
        fragments.push(Fragment { html: compare::section_of(&opened), ..Fragment::default() });
    }
    for (index, run) in opened.iter().enumerate() {
        let through = run.is_vae().then(|| config.inverter.of(run, config.live, device)).transpose()?;
        let explorer = match &through {
            Some(through) if opened.len() == 1 && !config.live => explorer_of(run, through.inverter.as_deref())?,
            _ => None,
        };
        let weights: usize = explorer.iter().flat_map(|part| &part.data).map(|(_, data)| data.to_string().len()).sum();
        let fix = match &through {
            _ if opened.len() > 1 => "Fewer runs leave room for it.",
            Some(Through { inverter: Some(_), .. }) if weights > 0 => "--inverter none leaves room for it.",
            _ => "",
        };
        let mut media = Media::within((PAGE / opened.len()).saturating_sub(TEXT + weights), fix);
        let html = of_run(run, index, through.as_ref(), explorer.is_some(), &mut media, device)?;
        fragments.push(Fragment { html, ..Fragment::default() });
        fragments.extend(explorer);
    }
    if config.live {
        fragments.push(Fragment { script: LIVE, ..Fragment::default() });
    }
    let title = match &opened[..] {
        [only] => format!("{} \u{2013} report", only.name),
        runs => format!("{} runs \u{2013} report", runs.len()),
    };
    let html = page::page(&title, &fragments);
    create_parent(out)?;
    write_beside(out, |file| file.write_all(html.as_bytes()).map_err(Error::io(out)))
}

/// What plays with a VAE in the page, through the inverter if there is one, if there is a recording to start from.
fn explorer_of(run: &Run, inverter: Option<&Path>) -> Result<Option<Fragment>> {
    let sounds = recording::paths(run, EXPLORED);
    if !run.is_vae() || sounds.is_empty() {
        return Ok(None);
    }
    let known = explorer::Known { names: explorer::names_of(&run.path), divergences: run.divergences() };
    let through = inverter.map(|inverter| explorer::Through { inverter: inverter.to_path_buf(), most: WEIGHTS });
    explorer::fragment(&run.path, through.as_ref(), &sounds, &known).map(Some)
}

/// The section of one run: of a VAE, which sounds `through` something, or of an inverter.
fn of_run(
    run: &Run,
    index: usize,
    through: Option<&Through>,
    explored: bool,
    media: &mut Media,
    device: &Device,
) -> Result<String> {
    let id = format!("run-{}", index + 1);
    let verdict = format!("<p class=\"verdict\">{}</p>\n", escape(run.about.conclusion()));
    let curves = losses::figures(&[(&run.name, &run.curves, 0)], run.is_vae());
    let learning = verdict + &curves + &losses::optimizer((&run.name, &run.curves, 0));
    let mut sections = vec![Section::new(format!("{id}-learning"), "How it learned", learning)];
    if let Some(through) = through {
        sections.push(vae::split(run, &id));
        sections.push(vae::latents(run, &id));
        sections.extend(Studio::open(run, through, media, device)?.sections(run, &id)?);
    } else {
        sections.push(inverter::results(run, &id));
        sections.push(inverter::predictions(run, &id, media, device)?);
    }
    sections.extend(measures::section_of(run, &id));
    sections.push(run.particulars(&id));
    let explorer = explored.then_some(("explorer-heading", "Explorer"));
    let own = sections.iter().map(|section| (section.id.as_str(), section.heading.as_str()));
    let links = contents(&run.name, own.chain(explorer));
    let body: String = sections.iter().map(Section::html).collect();
    let (name, first) = (escape(&run.name), first_things(run));
    Ok(format!("<section class=\"run\" id=\"{id}\">\n<h2>{name}</h2>\n{first}{links}{body}</section>\n"))
}

/// What one wants to know before all else.
fn first_things(run: &Run) -> String {
    let about = &run.about;
    let none = || "none yet".to_string();
    let test = about.test_loss().map_or_else(none, number);
    let best =
        about.best.map_or_else(none, |best| format!("{} at step {}", number(best.total), number(best.step as f64)));
    let mut facts = vec![
        ("model", about.config.model.kind().to_string()),
        ("steps", number(about.step as f64)),
        ("test loss", test),
        ("best", best),
    ];
    facts.extend(run.active().map(|active| ("latents in use", number(active))));
    tiles(&facts)
}
