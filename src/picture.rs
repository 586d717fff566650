//! Spectrograms as PNG files.
//!
//! Time runs to the right, low frequencies are at the bottom, and several spectrograms can be stacked to be compared
//! under one colour scale. There are no axes and no text: the numbers belong to whoever shows the picture.

use std::io::Write;
use std::path::Path;

use ndarray::ArrayView2;

use crate::beside::write_beside;
use crate::{Error, Result};

/// How spectrograms become pixels.
#[derive(Debug, Clone, PartialEq)]
pub struct PictureConfig {
    /// Values drawn darkest and brightest, in the data's unit. `None`: from the 1st to the 99.9th percentile of all
    /// spectrograms together, so that a few outliers do not take the contrast from the rest.
    pub range: Option<[f32; 2]>,
    /// A panel with fewer bins than this many pixels is enlarged by a whole number.
    pub min_panel_height: usize,
    /// A picture with fewer frames than this many pixels is enlarged by a whole number.
    pub min_width: usize,
    /// Longer ones have neighbouring frames averaged, by a whole number.
    pub max_width: usize,
    /// Height of the band between two panels, in pixels.
    pub gap: usize,
}

impl Default for PictureConfig {
    /// Sizes that can be looked at on a screen without zooming, for 80 bands or 513 bins and clips of a few seconds.
    fn default() -> Self {
        Self { range: None, min_panel_height: 200, min_width: 600, max_width: 4000, gap: 6 }
    }
}

impl PictureConfig {
    /// How many neighbouring frames of a picture of so many become one column.
    pub(crate) fn shrink(&self, frames: usize) -> usize {
        frames.div_ceil(self.max_width.max(1)).max(1)
    }
}

/// A PNG file in memory.
pub(crate) struct Png {
    pub width: u32,
    pub height: u32,
    pub bytes: Vec<u8>,
}

/// An RGB image, rows from the top, three bytes a pixel.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Picture {
    width: u32,
    height: u32,
    rgb: Vec<u8>,
}

/// Between panels, after the end of a shorter one, and where a value is NaN or infinite: no colour of the map is grey.
const GREY: [u8; 3] = [128, 128, 128];

/// Draws `spectrograms` below each other, all under one colour scale (inferno: perceptually uniform, readable in grey).
///
/// # Shapes
/// Each `[frames, bins]`, in a logarithmic unit (nats or dB); they may differ in both numbers.
///
/// # Panics
/// If there is no spectrogram, or one has no frame or no bin.
fn draw(spectrograms: &[ArrayView2<f32>], config: &PictureConfig) -> Picture {
    assert!(!spectrograms.is_empty(), "a picture of no spectrogram");
    for spectrogram in spectrograms {
        assert!(!spectrogram.is_empty(), "a picture of a spectrogram of shape {:?}", spectrogram.dim());
    }
    let [low, high] = config.range.unwrap_or_else(|| percentiles(spectrograms));
    let frames = spectrograms.iter().map(|panel| panel.nrows()).max().expect("there is a spectrogram");
    let shrink = config.shrink(frames);
    let columns = frames.div_ceil(shrink);
    let stretch = config.min_width.div_ceil(columns).max(1);
    let width = columns * stretch;
    let colours: Vec<[u8; 3]> = (0..256).map(|step| colorous::INFERNO.eval_rational(step, 256).into_array()).collect();
    let mut rgb = Vec::new();
    for (index, panel) in spectrograms.iter().enumerate() {
        if index > 0 {
            rgb.extend(std::iter::repeat_n(GREY, width * config.gap).flatten());
        }
        let enlarge = config.min_panel_height.div_ceil(panel.ncols()).max(1);
        for bin in (0..panel.ncols()).rev() {
            let mut row = Vec::with_capacity(3 * width);
            for column in 0..columns {
                let within = column * shrink..((column + 1) * shrink).min(panel.nrows());
                let count = within.len() as f32;
                let value = within.map(|frame| panel[[frame, bin]]).sum::<f32>() / count;
                // The end of a shorter panel is the mean of nothing: 0 / 0, and so grey too.
                let colour = if value.is_finite() { colours[shade(value, low, high)] } else { GREY };
                row.extend(std::iter::repeat_n(colour, stretch).flatten());
            }
            (0..enlarge).for_each(|_| rgb.extend_from_slice(&row));
        }
    }
    let height = rgb.len() / 3 / width;
    let pixels = |count: usize| u32::try_from(count).expect("pictures are far smaller than 2^32 pixels on a side");
    Picture { width: pixels(width), height: pixels(height), rgb }
}

/// Draws spectrograms below each other into a PNG file, such as an original above its reconstruction.
///
/// # Shapes
/// Each `[frames, bins]`, in a logarithmic unit (nats or dB); they may differ in both numbers.
///
/// # Errors
/// [`Error::File`] if one has no frame or no bin, [`Error::Io`] if the file cannot be written.
pub fn write_comparison_png(path: &Path, spectrograms: &[ArrayView2<f32>], config: &PictureConfig) -> Result<()> {
    if let Some(empty) = spectrograms.iter().find(|spectrogram| spectrogram.is_empty()) {
        return Err(Error::file(path, format!("no picture of a spectrogram of shape {:?}", empty.dim())));
    }
    draw(spectrograms, config).write_png(path)
}

/// What [`write_comparison_png`] writes.
///
/// # Panics
/// If there is no spectrogram, or one has no frame or no bin.
pub(crate) fn comparison_png(spectrograms: &[ArrayView2<f32>], config: &PictureConfig) -> Png {
    let picture = draw(spectrograms, config);
    Png { width: picture.width, height: picture.height, bytes: picture.png() }
}

impl Picture {
    /// The picture as the bytes of a PNG file.
    fn png(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut encoder = png::Encoder::new(&mut bytes, self.width, self.height);
        encoder.set_color(png::ColorType::Rgb);
        encoder.set_depth(png::BitDepth::Eight);
        let written = encoder.write_header().and_then(|mut writer| {
            writer.write_image_data(&self.rgb)?;
            writer.finish()
        });
        written.expect("a picture has pixels, width x height x 3 of them, and memory takes every write");
        bytes
    }

    /// Writes the picture beside `path` and renames it, so that no half-written picture is ever seen.
    ///
    /// # Errors
    /// [`Error::Io`] if the file cannot be written or renamed.
    fn write_png(&self, path: &Path) -> Result<()> {
        write_beside(path, |file| file.write_all(&self.png()).map_err(Error::io(path)))
    }
}

fn shade(value: f32, low: f32, high: f32) -> usize {
    // Nothing above `low` to tell apart: one colour, the darkest.
    let part = if high > low { (value - low) / (high - low) } else { 0.0 };
    (part.clamp(0.0, 1.0) * 255.0).round() as usize
}

/// The 1st and the 99.9th percentile of all spectrograms together, as [`PictureConfig::range`] has them.
pub(crate) fn percentiles(spectrograms: &[ArrayView2<f32>]) -> [f32; 2] {
    let mut values: Vec<f32> =
        spectrograms.iter().flat_map(|panel| panel.iter().copied()).filter(|value| value.is_finite()).collect();
    if values.is_empty() {
        return [0.0, 0.0];
    }
    let mut at = |part: f64| {
        let index = ((values.len() - 1) as f64 * part) as usize;
        *values.select_nth_unstable_by(index, f32::total_cmp).1
    };
    [at(0.01), at(0.999)]
}

#[cfg(test)]
mod tests {
    use ndarray::{Array2, array};

    use super::*;

    const SMALL: PictureConfig =
        PictureConfig { range: Some([0.0, 1.0]), min_panel_height: 1, min_width: 1, max_width: 100, gap: 1 };

    fn pixel(picture: &Picture, x: usize, y: usize) -> &[u8] {
        &picture.rgb[3 * (y * picture.width as usize + x)..][..3]
    }

    #[test]
    fn low_frequencies_are_at_the_bottom_and_time_runs_to_the_right() {
        let picture = draw(&[array![[1.0, 0.0, 0.0], [0.0, 0.0, 0.0]].view()], &SMALL);
        assert_eq!((picture.width, picture.height), (2, 3));
        let bright = |x, y| pixel(&picture, x, y)[0] > 200;
        let lit: Vec<_> = (0..3).flat_map(|y| (0..2).map(move |x| (x, y))).filter(|&(x, y)| bright(x, y)).collect();
        assert_eq!(lit, [(0, 2)]);
    }

    #[test]
    fn short_inputs_are_enlarged_and_long_ones_shrunk_by_whole_numbers() {
        let config = PictureConfig { min_panel_height: 10, min_width: 7, max_width: 20, ..SMALL };
        let size = |frames, bins| {
            let picture = draw(&[Array2::<f32>::zeros((frames, bins)).view()], &config);
            (picture.width, picture.height)
        };
        assert_eq!(size(3, 4), (9, 12));
        assert_eq!(size(12, 11), (12, 11));
        assert_eq!(size(41, 11), (14, 11));
        assert_eq!(size(1, 1), (7, 10));
    }

    #[test]
    fn panels_share_a_scale_and_what_is_missing_is_grey() {
        let upper = array![[1.0, 1.0], [1.0, f32::NAN]];
        let picture = draw(&[upper.view(), array![[0.5]].view()], &SMALL);
        assert_eq!((picture.width, picture.height), (2, 4));
        assert_eq!(pixel(&picture, 1, 0), GREY);
        assert_eq!(pixel(&picture, 0, 2), GREY);
        assert_eq!(pixel(&picture, 1, 3), GREY);
        assert_ne!(pixel(&picture, 0, 3), pixel(&picture, 0, 0));
    }

    #[test]
    fn constant_and_all_nan_spectrograms_are_drawn_without_complaint() {
        let automatic = PictureConfig { range: None, ..SMALL };
        draw(&[array![[2.0, 2.0]].view()], &automatic);
        draw(&[array![[f32::NAN, f32::NEG_INFINITY]].view()], &automatic);
    }

    #[test]
    fn png_bytes_decode_to_the_same_pixels() {
        let picture = draw(&[array![[0.1, 0.9], [0.4, 0.6]].view()], &SMALL);
        let png = picture.png();
        let mut reader = png::Decoder::new(std::io::Cursor::new(&png)).read_info().unwrap();
        let mut rgb = vec![0; reader.output_buffer_size().unwrap()];
        let info = reader.next_frame(&mut rgb).unwrap();
        assert_eq!((info.width, info.height, rgb), (picture.width, picture.height, picture.rgb));
    }
}
