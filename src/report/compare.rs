//! Several runs on one page: their curves together, where they ended, and what differs between them.

use std::collections::BTreeSet;

use super::losses;
use super::markup::{Section, contents, duration, escape, number, paragraph, table};
use super::measures;
use super::run::Run;

/// The section that compares them.
pub(super) fn section_of(runs: &[Run]) -> String {
    let mut body = String::new();
    for (is_vae, kind) in [(true, "VAE"), (false, "inverter")] {
        let coloured: Vec<_> = runs.iter().enumerate().filter(|(_, run)| run.is_vae() == is_vae).collect();
        if coloured.len() < 2 {
            continue;
        }
        let curves: Vec<_> = coloured.iter().map(|&(index, run)| (run.name.as_str(), &run.curves, index)).collect();
        let of_kind: Vec<&Run> = coloured.iter().map(|&(_, run)| run).collect();
        let sections = [
            Section::new(format!("curves-{kind}"), format!("Curves of {kind}s"), losses::figures(&curves, is_vae)),
            Section::new(format!("results-{kind}"), "Where they ended", results(&of_kind)),
            Section::new(format!("differences-{kind}"), "What differs", differences(&of_kind)),
        ];
        body.extend(sections.iter().map(Section::html));
    }
    if body.is_empty() {
        body = paragraph("These runs are of different models; nothing of theirs can be compared.");
    }
    let ids: Vec<String> = (1..=runs.len()).map(|number| format!("run-{number}")).collect();
    let links = contents("Runs", ids.iter().zip(runs).map(|(id, run)| (id.as_str(), run.name.as_str())));
    let title = escape(format!("{} runs", runs.len()));
    format!("<section class=\"run\" id=\"compare\">\n<h2>{title}</h2>\n{links}{body}</section>\n")
}

fn headings(runs: &[&Run]) -> Vec<String> {
    [String::new()].into_iter().chain(runs.iter().map(|run| run.name.clone())).collect()
}

fn results(runs: &[&Run]) -> String {
    let names: BTreeSet<&String> = runs.iter().flat_map(|run| run.about.test.keys()).collect();
    let value = |value: Option<f64>| value.map_or_else(|| "none yet".to_string(), number);
    let row = |name: &str, of: &dyn Fn(&Run) -> String| {
        [name.to_string()].into_iter().chain(runs.iter().map(|run| of(run))).collect::<Vec<_>>()
    };
    let mut rows = vec![
        row("steps", &|run| number(run.about.step as f64)),
        row("training time", &|run| duration(run.curves.seconds())),
        row("on", &Run::machine),
        row("best test loss", &|run| value(run.about.best.map(|best| best.total))),
        row("at step", &|run| value(run.about.best.map(|best| best.step as f64))),
    ];
    for name in names {
        rows.push(row(&format!("last test {name}"), &|run| value(run.about.test.get(name).copied())));
    }
    if runs.iter().any(|run| run.active().is_some()) {
        rows.push(row("latents in use", &|run| value(run.active())));
    }
    let measured: Vec<_> = runs.iter().map(|run| measures::of(run)).collect();
    let mut names: Vec<&String> = Vec::new();
    for (name, _) in measured.iter().flatten() {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    for name in names {
        let found =
            |of: &Vec<(String, String)>| of.iter().find(|(other, _)| other == name).map(|(_, value)| value.clone());
        let values = measured.iter().map(|of| found(of).unwrap_or_else(|| "none yet".into()));
        rows.push([name.clone()].into_iter().chain(values).collect());
    }
    rows.push(row("values in the model", &|run| number(run.parameters as f64)));
    let note = if runs.windows(2).any(|pair| pair[0].about.config.test_data != pair[1].about.config.test_data) {
        paragraph("They were not tested on the same recordings: their losses are not comparable.")
    } else {
        String::new()
    };
    note + &table("Results", &headings(runs), &rows)
}

fn differences(runs: &[&Run]) -> String {
    let settings: Vec<_> = runs.iter().map(|run| run.settings()).collect();
    let names: BTreeSet<&String> = settings.iter().flat_map(|settings| settings.keys()).collect();
    let row = |name: &String| {
        let values: Vec<String> =
            settings.iter().map(|settings| settings.get(name).cloned().unwrap_or_else(|| "none".into())).collect();
        let differ = values.iter().any(|value| *value != values[0]);
        differ.then(|| [name.clone()].into_iter().chain(values).collect::<Vec<_>>())
    };
    let rows: Vec<_> = names.into_iter().filter_map(row).collect();
    if rows.is_empty() {
        return paragraph("Their configurations are the same.");
    }
    table("Settings that are not the same in all", &headings(runs), &rows)
}
