//! What an inverter makes of mel spectra, to be seen and heard beside the truth.

use burn::tensor::Device;

use super::markup::{Section, escape, number, paragraph, table};
use super::media::{Media, until_full};
use super::recording::{self, mean_error};
use super::run::Run;
use crate::Result;
use crate::dsp::phase::Phase;
use crate::picture::percentiles;
use crate::synth::{Vocoder, VocoderConfig};

/// Recordings shown, and frames of each: 3 s at a hop of 10 ms.
const RECORDINGS: usize = 3;
const FRAMES: usize = 300;

/// How sounds of the page are made: the default of `synth`.
pub(super) fn vocoding() -> VocoderConfig {
    VocoderConfig { phase: Phase::PghiFast.config(0), emphasis: None, peak: None }
}

/// What the test set gave at the last evaluation.
pub(super) fn results(run: &Run, id: &str) -> Section {
    let said = |name: &str| match name {
        "total" => "what is minimised: mean absolute error of the log spectrum, low frequencies weighing more",
        "l1" => "the same, all frequencies alike",
        _ => "",
    };
    let test = run.about.test.iter();
    let rows: Vec<_> = test.map(|(name, value)| vec![name.clone(), number(*value), said(name).to_string()]).collect();
    let body = if rows.is_empty() {
        paragraph(run.about.conclusion())
    } else {
        let caption = format!("The test set at step {}", number(run.about.tested as f64));
        table(&caption, &["term", "nats of power", "what it is"].map(String::from), &rows)
    };
    Section::new(format!("{id}-results"), "Results", body)
}

/// True and predicted spectra of test recordings, with their sounds.
///
/// # Errors
/// If the model cannot be opened.
pub(super) fn predictions(run: &Run, id: &str, media: &mut Media, device: &Device) -> Result<Section> {
    let of = |body| Section::new(format!("{id}-predictions"), "Predictions", body);
    let recordings = match recording::some(run, RECORDINGS, FRAMES) {
        Ok(recordings) => recordings,
        Err(reason) => return Ok(of(Run::without_recordings(&reason))),
    };
    let vocoder = Vocoder::open(&run.path, vocoding(), device)?;
    let exact = Vocoder::exact(vocoder.features(), vocoding())?;
    let mut body = paragraph(
        "The recording, and the mel bands that are all the inverter is given; its true linear spectrum, sounding with phases found \
         for it; and the spectrum that the inverter predicts. What the second lacks of the first is lost in finding phases, what \
         the third lacks of the second is lost in the mel bands.",
    );
    for recording in &recordings {
        let (name, gain) = (&recording.name, recording.gain);
        body += &format!("<h4 class=\"name\">{}</h4>\n", escape(name));
        let Some(truth) = &recording.logspec else {
            body += &Run::without_recordings(
                "This file has no linear spectrum: features were extracted with --only logmel.",
            );
            continue;
        };
        let predicted = vocoder.linear(recording.logmel.view());
        let range = percentiles(&[truth.view()]);
        let error = number(mean_error(&predicted, truth));
        let clips = until_full(3, media.fix, |clip| match clip {
            0 => {
                let logmel = recording.logmel.view();
                let about = format!("recording {name}");
                media.clip("recording, its log-mels", &about, logmel, percentiles(&[logmel]), recording.sound.as_ref())
            }
            1 => {
                let sound = exact.sound(truth.view(), gain).ok();
                media.clip("true spectrum", &format!("true spectrum of {name}"), truth.view(), range, sound.as_ref())
            }
            _ => {
                let sound = vocoder.sound(recording.logmel.view(), gain).ok();
                let label = format!("prediction, mean error {error} nats");
                media.clip(&label, &format!("predicted spectrum of {name}"), predicted.view(), range, sound.as_ref())
            }
        });
        body += &format!("<div class=\"clips three tall\">{clips}</div>\n");
    }
    Ok(of(body))
}
