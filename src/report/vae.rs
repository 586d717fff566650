//! What a VAE has learned, to be seen and heard: its latents, reconstructions, traversals and samples.

use burn::tensor::Device;
use ndarray::Array2;

use super::markup::{Section, escape, number, paragraph, table};
use super::media::{Media, until_full};
use super::plot;
use super::recording::{self, Recording, mean_error};
use super::run::Run;
use super::through::Through;
use crate::Result;
use crate::objectives::Regularizer;
use crate::picture::percentiles;
use crate::run::{BetaVae, Objective};
use crate::synth::{Codes, PriorConfig, VaeCodec};

/// Recordings that are reconstructed, and frames of each: 4 s at a hop of 10 ms.
const RECORDINGS: usize = 3;
const FRAMES: usize = 400;
/// Latents that are moved, and what they are set to: the prior's standard deviation is 1.
const MOVED: usize = 6;
const VALUES: [f32; 5] = [-3.0, -1.5, 0.0, 1.5, 3.0];
/// Frames of a traversal and of a sample.
const TRAVERSED: usize = 100;
const SAMPLED: usize = 200;
/// Bars drawn at most.
const BARS: usize = 64;
/// Level of sounds that no recording says a level for.
const GAIN: f64 = 0.5;

/// What makes the model sound.
pub(super) struct Studio<'a> {
    codec: VaeCodec,
    through: &'a Through,
    media: &'a mut Media,
    /// Values drawn darkest and brightest.
    range: [f32; 2],
    gain: f64,
}

/// What the loss was at the last evaluation, term by term.
pub(super) fn split(run: &Run, id: &str) -> Section {
    let test = &run.about.test;
    let mut rows = Vec::new();
    let mut add = |name: &str, value: Option<f64>, said: &str| {
        rows.extend(value.map(|value| vec![name.to_string(), number(value), said.to_string()]));
    };
    let (reconstruction, kl) = (test.get("reconstruction").copied(), test.get("kl").copied());
    add("reconstruction", reconstruction, "negative log-likelihood of the log-mels of a segment");
    add("KL", kl, "divergence of the posteriors from the prior");
    for (name, value) in asked(run, kl) {
        add(name, value, "what it counts in the total");
    }
    add("total", test.get("total").copied(), "what is minimised");
    let elbo = reconstruction.and_then(|reconstruction| Some(-reconstruction - kl?));
    add("ELBO", elbo, "lower bound of the log-likelihood: minus reconstruction minus KL, without β; higher is better");
    add("mean error", test.get("l1").copied(), "of the decoded log-mels, nats");
    let body = if rows.is_empty() {
        paragraph(run.about.conclusion())
    } else {
        let step = run.about.tested;
        let headings = ["term", "nats per segment", "what it is"].map(String::from);
        table(&format!("The test set at step {}", number(step as f64)), &headings, &rows)
    };
    Section::new(format!("{id}-split"), "What the loss is made of", body)
}

/// What the objective asks of the latents, by the names of its paper, as it counts in the total.
fn asked(run: &Run, kl: Option<f64>) -> Vec<(&'static str, Option<f64>)> {
    let Objective::BetaVae(BetaVae { beta, regularizer, .. }) = &run.about.config.objective else { return Vec::new() };
    let times = |weight: f64, name: &str| run.about.test.get(name).map(|value| weight * value);
    let divergence = ("β × KL", kl.map(|kl| beta * kl));
    match regularizer {
        Regularizer::Beta => vec![divergence],
        Regularizer::Capacity(_) => {
            // Of each batch, so that the mean KL does not tell it.
            let [total, reconstruction] = ["total", "reconstruction"].map(|name| run.about.test.get(name));
            vec![("β × |KL − C|, mean of batches", total.zip(reconstruction).map(|(total, part)| total - part))]
        }
        Regularizer::Factor(factor) => {
            vec![divergence, ("γ × total correlation", times(factor.gamma, "total_correlation"))]
        }
        Regularizer::BetaTc(parts) => vec![
            ("α × mutual information", times(parts.alpha, "mutual_information")),
            ("β × total correlation", times(*beta, "total_correlation")),
            ("γ × dimension-wise KL", times(parts.gamma, "dimension_kl")),
        ],
        Regularizer::Dip(dip) => vec![
            divergence,
            ("λ × squared covariances", times(dip.off_diagonal, "off_diagonal")),
            ("λ × squared distances of variances from 1", times(dip.diagonal, "diagonal")),
        ],
    }
}

/// How much each latent says.
pub(super) fn latents(run: &Run, id: &str) -> Section {
    let found = run.divergences();
    if found.is_empty() {
        return Section::new(
            format!("{id}-latents"),
            "Latents",
            paragraph("No evaluation has measured the latents yet."),
        );
    }
    let shown: Vec<_> = found.iter().take(BARS).map(|&(latent, value)| (format!("latent {latent}"), value)).collect();
    let mut text = "Mean divergence of each latent from the prior on the test set, in nats, the most active first. A latent at 0 is \
                    not used: the decoder does without it."
        .to_string();
    if let Some(active) = run.active() {
        text += &format!(" {} of {} are in use (more than 0.01 nats).", number(active), found.len());
    }
    if found.len() > BARS {
        text += &format!(" The first {BARS} are drawn.");
    }
    let svg = plot::bars(
        &format!("KL divergence of each latent; {} has the most, {:.3} nats", shown[0].0, shown[0].1),
        &shown,
    );
    let body = format!("{}<figure class=\"card bars\">{svg}</figure>\n{}", paragraph(text), meanings(run));
    Section::new(format!("{id}-latents"), "Latents", body)
}

/// What the latents were found to mean, if anybody looked.
fn meanings(run: &Run) -> String {
    match VaeCodec::open(&run.path, &Device::flex()).and_then(|codec| codec.meanings()) {
        Ok(Some(found)) => {
            let lines: String = found.lines().iter().map(|line| format!("<li>{}</li>\n", escape(line))).collect();
            format!(
                "<h4 class=\"name\">What they mean, as <code>evaluate latents --name</code> found it</h4>\n<ul>\n{lines}</ul>\n"
            )
        }
        Ok(None) => String::new(),
        Err(error) => format!("<p class=\"note\">{}</p>\n", escape(error)),
    }
}

impl<'a> Studio<'a> {
    /// With the run's model, and what it sounds `through`.
    ///
    /// # Errors
    /// If the model cannot be opened.
    pub(super) fn open(run: &Run, through: &'a Through, media: &'a mut Media, device: &Device) -> Result<Self> {
        let codec = VaeCodec::open(&run.path, device)?;
        Ok(Self { codec, through, media, range: [0.0, 0.0], gain: GAIN })
    }

    /// The sections that are heard; the ids of sections begin with `id`.
    ///
    /// # Errors
    /// If codes do not decode.
    pub(super) fn sections(mut self, run: &Run, id: &str) -> Result<Vec<Section>> {
        let recordings = recording::some(run, RECORDINGS, FRAMES);
        let found = recordings.as_deref().unwrap_or_default();
        let base = match found.first() {
            Some(first) => {
                self.range = percentiles(&found.iter().map(|one| one.logmel.view()).collect::<Vec<_>>());
                self.gain = first.gain;
                self.codec.encode(first.loudest(TRAVERSED), first.gain)
            }
            None => {
                let middle = self.codec.sample(TRAVERSED, &PriorConfig { smoothness: 0.0, temperature: 0.0 }, 0);
                let drawn = self.codec.decode(&self.codec.sample(SAMPLED, &PriorConfig::default(), 0))?;
                self.range = percentiles(&[drawn.view()]);
                middle
            }
        };
        let reconstructions = match &recordings {
            Ok(recordings) => self.reconstructions(recordings)?,
            Err(reason) => Run::without_recordings(reason),
        };
        let reconstructions =
            paragraph(format!("Here and below, sounds are made {}.", self.through.said)) + &reconstructions;
        let traversals = self.traversals(run, &base, found.first())?;
        let samples = self.samples()?;
        Ok(vec![
            Section::new(format!("{id}-reconstructions"), "Reconstructions", reconstructions),
            Section::new(format!("{id}-traversals"), "Traversals", traversals),
            Section::new(format!("{id}-samples"), "Samples of the prior", samples),
        ])
    }

    /// One spectrogram and its sound.
    fn clip(&mut self, label: &str, about: &str, logmel: &Array2<f32>, gain: f64) -> Option<String> {
        let sound = self.through.vocoder.sound(logmel.view(), gain).ok();
        self.media.clip(label, about, logmel.view(), self.range, sound.as_ref())
    }

    fn reconstructions(&mut self, recordings: &[Recording]) -> Result<String> {
        let text = "Each recording as it is; its log-mels made to sound, which is what is lost without any VAE; and what the VAE \
                    makes of them, decoded from the means of its latents.";
        let mut body = paragraph(text);
        for recording in recordings {
            let Recording { name, logmel, sound, gain, .. } = recording;
            let decoded = self.codec.decode(&self.codec.encode(logmel.view(), *gain))?;
            let error = number(mean_error(&decoded, logmel));
            let clips = until_full(3, self.media.fix, |clip| match clip {
                0 => self.media.clip(
                    "recording",
                    &format!("recording {name}"),
                    logmel.view(),
                    self.range,
                    sound.as_ref(),
                ),
                1 => self.clip("its log-mels", &format!("log-mels of {name}, vocoded"), logmel, *gain),
                _ => self.clip(
                    &format!("reconstruction, mean error {error} nats"),
                    &format!("reconstruction of {name}"),
                    &decoded,
                    *gain,
                ),
            });
            body += &format!("<h4 class=\"name\">{}</h4>\n<div class=\"clips three\">{clips}</div>\n", escape(name));
        }
        Ok(body)
    }

    fn traversals(&mut self, run: &Run, base: &Codes, of: Option<&Recording>) -> Result<String> {
        let mut order = run.divergences();
        order.retain(|&(latent, _)| latent < self.codec.latents());
        if order.is_empty() {
            order = divergences(base);
        }
        let what = of.map_or_else(
            || "The mean of the prior with one latent moved".to_string(),
            |of| format!("A second of {} with one latent set to the same value throughout", of.name),
        );
        let text = format!(
            "{what}, the most active latents first, each in units of the prior's standard deviation. A latent that stands for one \
             thing changes that thing alone."
        );
        let mut body = paragraph(text);
        for (latent, divergence) in order.into_iter().take(MOVED) {
            let mut decoded = Vec::new();
            for value in VALUES {
                let mut codes = base.clone();
                codes.mean.column_mut(latent).fill(value);
                decoded.push(self.codec.decode(&codes)?);
            }
            let clips = until_full(VALUES.len(), self.media.fix, |index| {
                let value = number(f64::from(VALUES[index]));
                self.clip(&value, &format!("latent {latent} at {value}"), &decoded[index], self.gain)
            });
            body += &format!(
                "<h4 class=\"name\">Latent {latent} <small>{} nats</small></h4>\n<div class=\"clips five\">{clips}</div>\n",
                escape(number(divergence))
            );
        }
        Ok(body)
    }

    fn samples(&mut self) -> Result<String> {
        let text = "Codes drawn from the prior, two seconds each: every segment on its own, and as a walk whose latents change over \
                    half a second. Where these do not sound like speech and the reconstructions do, the latents the encoder uses \
                    are not distributed as the prior is.";
        let kinds = [("independent", 0.0), ("walk", 0.5)];
        let mut drawn = Vec::new();
        for seed in [0, 1] {
            for (kind, smoothness) in kinds {
                let codes = self.codec.sample(SAMPLED, &PriorConfig { smoothness, temperature: 1.0 }, seed);
                drawn.push((format!("{kind}, seed {seed}"), self.codec.decode(&codes)?));
            }
        }
        let clips = until_full(drawn.len(), self.media.fix, |index| {
            let (label, logmel) = &drawn[index];
            self.clip(label, &format!("sample of the prior, {label}"), logmel, self.gain)
        });
        Ok(paragraph(text) + &format!("<div class=\"clips four\">{clips}</div>\n"))
    }
}

/// The mean divergence of each latent from the prior over these codes, in nats, the greatest first.
fn divergences(codes: &Codes) -> Vec<(usize, f64)> {
    let of = |latent: usize| {
        let pairs = codes.mean.column(latent).into_iter().zip(codes.scale.column(latent));
        let each = pairs.map(|(&mean, &scale)| {
            let (mean, variance) = (f64::from(mean), f64::from(scale).powi(2).max(1e-12));
            0.5 * (mean * mean + variance - 1.0 - variance.ln())
        });
        (latent, each.sum::<f64>() / codes.mean.nrows().max(1) as f64)
    };
    let mut found: Vec<_> = (0..codes.mean.ncols()).map(of).collect();
    found.sort_by(|one, other| other.1.total_cmp(&one.1));
    found
}
