//! The curves of one run or of several, with a sentence on how to read each.

use super::curves::{Curves, thinned};
use super::markup::escape;
use super::plot::{self, Curve, Ink};

/// Points of a curve of training means: more than there are pixels say nothing.
const POINTS: usize = 300;

/// The run's curves and the number of its colour.
pub(super) type Coloured<'a> = (&'a str, &'a Curves, usize);

/// A figure for each loss term of these runs, which are all a VAE's or all an inverter's.
pub(super) fn figures(runs: &[Coloured], is_vae: bool) -> String {
    let mut names: Vec<String> = Vec::new();
    for (_, curves, _) in runs {
        for name in curves.losses() {
            if !names.contains(&name) {
                names.push(name);
            }
        }
    }
    let figure = |name: &String| figure(runs, &format!("loss/{name}"), explained(name, is_vae));
    let figures: String = names.iter().filter_map(figure).collect();
    if figures.is_empty() {
        return "<p class=\"note\">There are no losses yet: metrics.jsonl is empty or not there.</p>\n".into();
    }
    let several = if runs.len() > 1 { " several" } else { "" };
    legend(runs) + &format!("<div class=\"plots{several}\">{figures}</div>\n")
}

/// How the optimizer fared, folded up.
pub(super) fn optimizer(run: Coloured) -> String {
    let known = [
        ("optimizer/learning_rate", ("Learning rate", "per step", "The size of the optimizer's steps.")),
        (
            "optimizer/gradient_norm",
            ("Gradient norm", "norm", "Before clipping. Rising without end, it announces a run that diverges."),
        ),
        ("optimizer/steps_per_second", ("Speed", "steps/s", "Evaluations and saving left out.")),
    ];
    let figures: String = known.into_iter().filter_map(|(tag, about)| figure(&[run], tag, Some(about))).collect();
    if figures.is_empty() {
        return String::new();
    }
    format!("<details><summary>Optimizer</summary><div class=\"plots\">{figures}</div></details>\n")
}

/// Title, unit, and how to read it.
type Explained = (&'static str, &'static str, &'static str);

fn explained(name: &str, is_vae: bool) -> Option<Explained> {
    Some(match name {
        "total" if is_vae => (
            "Total loss",
            "nats per segment",
            "What is minimised: reconstruction plus what the objective asks of the latents. Both curves should fall. Where the test curve rises while the \
             training curve still falls, the model learns its training recordings by heart.",
        ),
        "reconstruction" => (
            "Reconstruction",
            "nats per segment",
            "Negative log-likelihood of the log-mels under the decoder: how badly a segment is told by its latents. It is a density's, \
             and may fall below 0.",
        ),
        "kl" => (
            "KL divergence",
            "nats per segment",
            "How much the latents say of a segment. It grows as the model finds use for them, and the objective holds it down; near 0 the decoder \
             ignores them.",
        ),
        "l1" if is_vae => ("Mean error", "nats", "Mean absolute error of the decoded log-mels, on the test set."),
        "total" => (
            "Total loss",
            "nats of power",
            "What is minimised: mean absolute error of the log spectrum, low frequencies weighing more. Both curves should fall; a \
             test curve that rises while the training curve falls tells of a model that learns by heart.",
        ),
        "l1" => ("Mean error", "nats of power", "The same error with all frequencies alike, on the test set."),
        "capacity" => (
            "Capacity",
            "nats per segment",
            "The divergence that the objective wants, C: what the latents may say by now.",
        ),
        "mutual_information" => ("Mutual information", "nats", "How much the codes tell of which segment they are of."),
        "total_correlation" => (
            "Total correlation",
            "nats",
            "How much the latents tell of each other. A FactorVAE's is near 0 where they are independent; as a beta-TC estimates it, it \
             is too high by a constant, hundreds of nats at worst, so that only its course tells.",
        ),
        "dimension_kl" => (
            "Dimension-wise KL",
            "nats",
            "How far each latent's codes, of all segments, are from the prior; too low by about what the total correlation is too high, so \
             that it may be below 0.",
        ),
        "discriminator" => (
            "Discriminator",
            "nats",
            "Its cross-entropy. At 0.69 it cannot tell codes from codes whose latents are shuffled: they are independent, or it is lost.",
        ),
        "off_diagonal" => {
            ("Squared covariances", "", "Of the codes' latents with each other: near 0 they are uncorrelated.")
        }
        "diagonal" => (
            "Squared distances of variances from 1",
            "",
            "Of each latent's codes: near 0 they spread as the prior does.",
        ),
        "penalty" => ("Penalty", "nats per segment", "What the size of the weights adds to the total."),
        _ => return None,
    })
}

fn figure(runs: &[Coloured], tag: &str, about: Option<Explained>) -> Option<String> {
    let (title, unit, text) = about.unwrap_or((tag, "", ""));
    let alone = runs.len() == 1;
    let mut curves = Vec::new();
    for &(_, of, series) in runs {
        let points = |phase: &std::collections::BTreeMap<String, Vec<_>>, most| {
            thinned(phase.get(tag).map_or(&[][..], Vec::as_slice), most)
        };
        // One run has a colour for each curve, several have one for each run.
        curves.push(Curve {
            ink: Ink::Train,
            series: if alone { 1 } else { series },
            points: points(&of.train, POINTS),
        });
        curves.push(Curve { ink: Ink::Test, series, points: points(&of.test, 10 * POINTS) });
    }
    curves.retain(|curve| !curve.points.is_empty());
    let last = |curve: &Curve| curve.points.last().map_or(f64::NAN, |point| point.1);
    let ends: Vec<String> = curves
        .iter()
        .map(|curve| format!("{} ends at {:.4}", if curve.ink == Ink::Test { "test" } else { "training" }, last(curve)))
        .collect();
    let said = format!("{title}, {unit}, over training steps: {}", ends.join(", "));
    let svg = plot::curves(&said, &curves)?;
    Some(format!(
        "<figure class=\"card\"><h4>{} <small>{}</small></h4>{svg}<figcaption>{}</figcaption></figure>\n",
        escape(title),
        escape(unit),
        escape(text)
    ))
}

fn legend(runs: &[Coloured]) -> String {
    let mut items = String::new();
    let mut add = |ink, series, name: &str| {
        items.push_str(&format!("<li>{} <span>{}</span></li>", plot::key(ink, series), escape(name)));
    };
    match runs {
        [(_, _, series)] => {
            add(Ink::Train, 1, "training batches, mean between reports");
            add(Ink::Test, *series, "test set");
        }
        runs => {
            runs.iter().for_each(|&(name, _, series)| add(Ink::Test, series, name));
            items.push_str("<li><span>thick: test set, thin: training batches</span></li>");
        }
    }
    format!("<ul class=\"legend\">{items}</ul>\n")
}
