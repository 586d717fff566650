//! A part of a page in which a VAE can be played: sliders for its latents, sound and spectrogram at each move.
//!
//! Encoder, decoder, inverter, mel inverse and phases run in the page itself, in plain JavaScript without libraries, and compute
//! what `synth` computes by default, from weights rounded to half precision. The page's files, in the order in which a sound
//! passes through them: `signal.js` (recordings to log-mels), `layers.js` and `network.js` (log-mels to codes and back),
//! `inverter.js`, `phases.js` and `sound.js` (log-mels to sound), `engine.js` (what may be asked of them, in a worker),
//! `files.js` (what is saved), `player.js` (what is played), `explorer.js` (what is seen). `scripts/check_explorer.py` holds the
//! numbers of a page in a browser against the command line's.

mod names;
mod weights;

use std::path::{Path, PathBuf};

use burn::tensor::Device;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

pub use names::names_of;
pub use weights::{pack, rounded};

use crate::data::require_same;
use crate::features::FeatureConfig;
use crate::report::Fragment;
use crate::run::{Checkpoint, ModelConfig, Objective, load_parameters};
use crate::synth::{Codes, VaeCodec, read_features};
use crate::{Error, Result};

/// Sounds to start from.
const EXAMPLES: usize = 6;
/// Of each at most: short enough for its sound to follow a slider.
const SECONDS: f64 = 2.0;

/// What a latent was found to mean.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LatentName {
    /// Which latent, from 0.
    pub latent: usize,
    /// What it changes, as "pitch".
    pub name: String,
    /// The unit of that, as "Hz".
    pub unit: String,
    /// By how many units it changes for a step of 1 in the latent.
    pub per_unit: f64,
}

/// What is known of a run's latents.
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// What some of them mean.
    pub names: Vec<LatentName>,
    /// Mean divergence of each from the prior over the test set, in nats. Unless it has all of them, they are measured on the sounds.
    pub divergences: Vec<(usize, f64)>,
}

/// The inverter that sounds are made with.
#[derive(Clone, Debug)]
pub struct Through {
    /// Its run, named in the command lines that the page gives.
    pub inverter: PathBuf,
    /// Bytes that the weights of both models may take in the page. Where they are more, the inverter's are left out and the page
    /// says so.
    pub most: usize,
}

/// The explorer of the VAE in `run`, which is named in the command lines that it gives. Its latents come in the order of their
/// divergences, those with a name before the others; it starts from the first of `sounds`, recordings or feature files. What is
/// heard at rest comes `through` an inverter if one is given.
///
/// A page has room for one. About 4 MB with the default model, 10 MB with the default inverter.
///
/// # Errors
/// If the run is no VAE's or cannot be read, if there are no sounds, or one cannot be read or has other features; if the inverter is
/// none, cannot be read or understands other features.
pub fn fragment(run: &Path, through: Option<&Through>, sounds: &[PathBuf], known: &Known) -> Result<Fragment> {
    if sounds.is_empty() {
        return Err(Error::Config("an explorer needs a recording or a feature file to start from".into()));
    }
    let codec = VaeCodec::open(run, &Device::flex())?;
    let (checkpoint, tensors) = Checkpoint::with_model(run)?;
    let tested = known.divergences.len() == codec.latents();
    let mut measured = Divergences { sums: vec![0.0; codec.latents()], segments: 0 };
    let mut examples = Vec::new();
    for path in sounds.iter().take(if tested { EXAMPLES } else { usize::MAX }) {
        let source = read_features(path, codec.features(), run)?;
        let codes = codec.encode(source.logmel.view(), source.meta.gain);
        measured.add(&codes);
        if examples.len() < EXAMPLES {
            examples.push(example(path, &codes));
        }
    }
    let divergences = if tested { known.divergences.clone() } else { measured.means() };
    let (tensors, weights) = pack(&tensors);
    let inverter = through.map(|through| inverter(&through.inverter, codec.features(), run)).transpose()?;
    let (inverter, left_out) = match (inverter, through) {
        (Some((_, size)), Some(through)) if weights.len() + size > through.most => {
            let (name, size) = (through.inverter.display(), (weights.len() + size) as f64 / 1e6);
            tracing::warn!("{name}: left out of the explorer, whose weights would take {size:.1} MB with it");
            (None, Some(name.to_string()))
        }
        (inverter, _) => (inverter.map(|(data, _)| data), None),
    };
    let data = json!({
        "run": run.to_string_lossy(),
        "model": checkpoint.about.config.model,
        "standardizer": checkpoint.about.standardizer,
        "features": codec.features(),
        "vae": codec.fingerprint(),
        "tensors": tensors,
        "weights": weights,
        "inverter": inverter,
        "left_out": left_out,
        "latents": ranked(divergences, &known.names),
        "measured": if tested { "the test set" } else { "these recordings" },
        "names": known.names,
        "examples": examples,
        "colours": colours(),
    });
    Ok(Fragment {
        html: include_str!("explorer.html").into(),
        style: include_str!("explorer.css"),
        script: concat!(
            include_str!("signal.js"),
            include_str!("layers.js"),
            include_str!("network.js"),
            include_str!("inverter.js"),
            include_str!("phases.js"),
            include_str!("sound.js"),
            include_str!("engine.js"),
            include_str!("files.js"),
            include_str!("player.js"),
            include_str!("explorer.js"),
        ),
        data: vec![("explorer-data", data)],
    })
}

/// What a page must know of an inverter for log-mels of `features`, which are those of `vae`; and the size of its weights.
fn inverter(run: &Path, features: &FeatureConfig, vae: &Path) -> Result<(Value, usize)> {
    let (checkpoint, tensors) = Checkpoint::with_model(run)?;
    let (ModelConfig::Cbhg(model), Objective::SpectrumL1 { recipe, .. }) =
        (checkpoint.require("inverter")?, &checkpoint.about.config.objective)
    else {
        return Err(Error::file(&checkpoint.path, "its model and its objective contradict each other"));
    };
    model.validate()?;
    require_same(&checkpoint.about.config.features, features, run, vae)?;
    load_parameters(model.init(0, &Device::flex()), &tensors, &checkpoint.model_path())?; // what `synth` refuses is no page's either
    let (tensors, weights) = pack(&tensors);
    let size = weights.len();
    let data = json!({
        "run": run.to_string_lossy(),
        "model": model,
        "recipe": recipe,
        "standardizer": checkpoint.about.standardizer,
        "tensors": tensors,
        "weights": weights,
    });
    Ok((data, size))
}

/// The 256 colours of spectrograms, three bytes each.
fn colours() -> String {
    let bytes = (0..256).flat_map(|step| colorous::INFERNO.eval_rational(step, 256).into_array());
    weights::text(&bytes.collect::<Vec<u8>>())
}

/// Mean divergence of each latent's posterior from the prior, in nats.
struct Divergences {
    sums: Vec<f64>,
    segments: usize,
}

impl Divergences {
    fn add(&mut self, codes: &Codes) {
        self.segments += codes.mean.nrows();
        for (mean, scale) in codes.mean.rows().into_iter().zip(codes.scale.rows()) {
            for ((sum, &mean), &scale) in self.sums.iter_mut().zip(mean).zip(scale) {
                let (mean, variance) = (f64::from(mean), f64::from(scale).powi(2));
                *sum += 0.5 * (mean * mean + variance - variance.ln() - 1.0);
            }
        }
    }

    fn means(&self) -> Vec<(usize, f64)> {
        self.sums.iter().map(|sum| sum / self.segments as f64).enumerate().collect()
    }
}

/// `{latent, kl}`: those with a name first, and of these and of the others the one that says most.
fn ranked(mut divergences: Vec<(usize, f64)>, names: &[LatentName]) -> Vec<Value> {
    let is_named = |latent: usize| names.iter().any(|name| name.latent == latent);
    divergences.sort_by(|one, other| is_named(other.0).cmp(&is_named(one.0)).then(other.1.total_cmp(&one.1)));
    divergences.into_iter().map(|(latent, kl)| json!({ "latent": latent, "kl": kl })).collect()
}

/// The first codes of a sound: as many whole segments as [`SECONDS`] hold, one at least.
fn example(path: &Path, codes: &Codes) -> Value {
    let (meta, features) = (&codes.meta, &codes.meta.features);
    let most = (SECONDS * f64::from(features.sample_rate) / features.hop_size as f64) as usize;
    let whole = codes.mean.nrows();
    let segments = (most.saturating_sub(meta.segment_frames) / meta.hop + 1).min(whole);
    let frames = meta.frames.min(meta.segment_frames + (segments - 1) * meta.hop);
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    json!({
        "name": name.strip_suffix(crate::features::FEATURE_SUFFIX).unwrap_or(&name),
        "path": path.to_string_lossy(),
        "whole": segments == whole,
        "frames": frames,
        "gain": meta.gain,
        "codes": weights::floats(codes.mean.rows().into_iter().take(segments).flatten().copied()),
    })
}
