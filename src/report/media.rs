//! Pictures and sounds inside the page, as long as there is room for them.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ndarray::ArrayView2;

use super::markup::escape;
use crate::audio::Waveform;
use crate::picture::{PictureConfig, comparison_png};

/// Highest sample rate that a page's sounds keep: speech has little above half of it, and the bytes are twice as many above.
const RATE: u32 = 16_000;

/// What is still free of a page's size.
pub(super) struct Media {
    left: usize,
    /// A sentence on what makes room, for [`until_full`].
    pub fix: &'static str,
}

impl Media {
    /// Room for so many bytes of HTML; `fix` says what makes more of it.
    pub(super) fn within(bytes: usize, fix: &'static str) -> Self {
        Self { left: bytes, fix }
    }

    /// A spectrogram with a button that plays its sound, `None` when the page is full. `label` is shown, `about` says what is
    /// seen and heard to who does not see; `range` are the values drawn darkest and brightest.
    ///
    /// # Shapes
    /// `[frames, bins]`, in nats
    pub(super) fn clip(
        &mut self,
        label: &str,
        about: &str,
        spectrogram: ArrayView2<f32>,
        range: [f32; 2],
        sound: Option<&Waveform>,
    ) -> Option<String> {
        let config = PictureConfig { range: Some(range), min_panel_height: 1, min_width: 1, max_width: 800, gap: 0 };
        let png = STANDARD.encode(comparison_png(&[spectrogram], &config).bytes);
        let (about, label) = (escape(about), escape(label));
        let picture = format!(
            "<div class=\"screen\"><img alt=\"Spectrogram: {about}\" src=\"data:image/png;base64,{png}\"></div>"
        );
        let player = sound.filter(|sound| sound.samples.iter().all(|sample| sample.is_finite())).map_or_else(
            || "<span class=\"mute\">no sound</span>".to_string(),
            |sound| {
                format!(
                    "<button type=\"button\" class=\"play\" aria-pressed=\"false\" aria-label=\"Play: {about}\">{ICON}</button>\
                     <audio preload=\"none\" src=\"data:audio/wav;base64,{}\"></audio>",
                    STANDARD.encode(at_most(sound, RATE).to_wav())
                )
            },
        );
        let html =
            format!("<figure class=\"clip\">{picture}<figcaption>{player}<span>{label}</span></figcaption></figure>\n");
        self.left = self.left.checked_sub(html.len())?;
        Some(html)
    }
}

/// A triangle to start, a square to stop; the style shows one of them.
const ICON: &str = "<svg viewBox=\"0 0 10 10\" aria-hidden=\"true\"><path class=\"go\" d=\"M2.5 1 9 5l-6.5 4z\"/>\
                    <path class=\"halt\" d=\"M2 2h6v6H2z\"/></svg>";

fn at_most(sound: &Waveform, rate: u32) -> Waveform {
    let lower = if sound.sample_rate > rate { sound.resample(rate).ok() } else { None };
    lower.unwrap_or_else(|| sound.clone())
}

/// The clips `0..count` as long as there is room: then a sentence and the `fix`, and the rest is not even made.
pub(super) fn until_full(count: usize, fix: &str, mut clip: impl FnMut(usize) -> Option<String>) -> String {
    let mut html = String::new();
    for index in 0..count {
        match clip(index) {
            Some(one) => html.push_str(&one),
            None => {
                return html + &format!("<p class=\"note\">The rest is left out to keep the page small. {fix}</p>\n");
            }
        }
    }
    html
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_no_room_is_not_made_and_a_sentence_says_what_makes_room() {
        let mut asked = Vec::new();
        let html = until_full(5, "Fewer runs leave room for it.", |clip| {
            asked.push(clip);
            (clip < 2).then(|| format!("<figure>{clip}</figure>"))
        });
        let note = "<p class=\"note\">The rest is left out to keep the page small. Fewer runs leave room for it.</p>\n";
        assert_eq!(html, format!("<figure>0</figure><figure>1</figure>{note}"));
        assert_eq!(asked, [0, 1, 2]);
    }
}
