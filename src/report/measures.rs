//! What `evaluate` has measured of a run and left in its folder: `latents.json` and `audio.json`.

use super::markup::{Section, escape, number, table};
use super::run::Run;

/// Names and decimal units of [`SoundMeasures`](crate::metrics::SoundMeasures), in the order of its values.
const SOUND: [&str; 8] = ["LSD dB", "MCD dB", "SC dB", "f0 cents", "f0 Hz", "voicing error", "peak dB", "level dB"];

/// Names and values, in the order in which they are shown; none if nothing was measured.
pub(super) fn of(run: &Run) -> Vec<(String, String)> {
    let value = |value: Option<f64>| value.map_or_else(|| "undefined".to_string(), number);
    let mut all = Vec::new();
    match &run.meanings {
        Ok(Some(found)) if !found.scores.is_empty() => {
            let segments = number(found.segments as f64);
            let against = format!("{}, in {segments} segments of {}", found.factors_from, found.features);
            all.push(("latents against".to_string(), against));
            all.extend(found.scores.iter().map(|(name, score)| (name.clone(), value(*score))));
        }
        Ok(_) => {}
        Err(reason) => all.push(("latents against".into(), reason.clone())),
    }
    match &run.sound {
        Ok(Some(sound)) => {
            let (files, step) = (number(sound.files as f64), number(sound.step as f64));
            let of = format!("{} with {}, {files} files, at step {step}", sound.output, sound.reference);
            all.push(("sounds compared".into(), of));
            let measured = SOUND.iter().zip(sound.mean.values());
            all.extend(measured.map(|(name, measure)| (name.to_string(), value(measure))));
        }
        Ok(None) => {}
        Err(reason) => all.push(("sounds compared".into(), reason.clone())),
    }
    all
}

/// The section of a run of which something was measured.
pub(super) fn section_of(run: &Run, id: &str) -> Option<Section> {
    let mut body = String::new();
    let measured = of(run);
    if !measured.is_empty() {
        let row = |(name, value): (String, String)| {
            let said = explained(&name).to_string();
            vec![name, value, said]
        };
        let rows: Vec<_> = measured.into_iter().map(row).collect();
        body += &table("Measured by evaluate", &["measure", "value", "what it is"].map(String::from), &rows);
    }
    if let Ok(Some(found)) = &run.meanings {
        let lines: String = found.lines().iter().map(|line| format!("<li>{}</li>", escape(line))).collect();
        body += &format!("<p>What latents stand for:</p>\n<ul>{lines}</ul>\n");
    }
    (!body.is_empty()).then(|| Section::new(format!("{id}-measures"), "Measures", body))
}

fn explained(name: &str) -> &'static str {
    match name {
        "MIG" => {
            "how much more the best latent knows of a factor than the second best; 0 to 1, as all down to the beta-VAE score"
        }
        "SAP" => "the same by squared correlation",
        "DCI disentanglement" => "whether a latent serves one factor",
        "DCI completeness" => "whether one latent serves a factor",
        "DCI informativeness" => "how well all latents together predict the factors",
        "FactorVAE score" | "beta-VAE score" => "whether the factor that segments share can be told from their latents",
        "Gaussian total correlation" => "nats; near 0 the latents are independent",
        "mean pairwise information" => "nats; what two latents know of each other",
        "ELBO at beta 1" => "nats per segment; higher is better",
        "importance-weighted bound" => "nats per segment; the same, tighter",
        "LSD dB" => "log-spectral distance; lower is better, as in the next five",
        "MCD dB" => "mel-cepstral distortion",
        "SC dB" => "spectral convergence",
        "f0 cents" | "f0 Hz" => "error of the pitch where both are voiced",
        "voicing error" => "share of frames whose voicing differs",
        "peak dB" | "level dB" => "the output's over the reference's",
        _ => "",
    }
}
