//! Curves and bars as SVG that takes its colours and its type from the page, in light and in dark.
//!
//! plotters writes fixed colours. Here they are codes for classes ([`Ink`]), and what it wrote is given the classes in their place.

use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::curves::Point;
use super::markup::{escape, number};

/// Pixels of plotters, whose coordinates are whole numbers, for one of ours.
const FINE: u32 = 4;
/// Our pixels: as wide as a phone shows without shrinking the type much.
const WIDTH: u32 = 440;
const HEIGHT: u32 = 250;
/// Height of type, in our pixels.
const TYPE: u32 = 14;
/// Colours by which curves are told apart, and as many again dashed in two ways.
const SERIES: usize = 21;

/// What is drawn; the style knows each as a class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ink {
    Text,
    Grid,
    Axis,
    /// A curve of training means.
    Train,
    /// A curve of evaluations.
    Test,
    /// One evaluation.
    Point,
    Bar,
}

const INKS: [(Ink, &str); 7] = [
    (Ink::Text, "text"),
    (Ink::Grid, "grid"),
    (Ink::Axis, "axis"),
    (Ink::Train, "train"),
    (Ink::Test, "test"),
    (Ink::Point, "point"),
    (Ink::Bar, "bar"),
];

impl Ink {
    /// The colour that stands for it and the number of its curve.
    fn code(self, series: usize) -> RGBColor {
        RGBColor(0xA0, self as u8, (series % SERIES) as u8)
    }
}

/// One curve.
pub(super) struct Curve {
    /// [`Ink::Train`] or [`Ink::Test`].
    pub ink: Ink,
    /// Chooses its colour.
    pub series: usize,
    /// By ascending steps.
    pub points: Vec<Point>,
}

/// Curves over steps, `None` if none has a point. `title` is what it is called where it is not seen.
pub(super) fn curves(title: &str, curves: &[Curve]) -> Option<String> {
    let (steps, values) =
        (ends(curves.iter().flat_map(|curve| curve.points.iter().map(|point| point.0)))?, span(curves)?);
    let steps = if steps.1 > steps.0 { 0.0..steps.1 * 1.02 } else { 0.0..steps.1 + 1.0 };
    Some(draw(title, HEIGHT, |root| {
        let fine = |pixels: u32| pixels * FINE;
        let label = text(Ink::Text, TYPE);
        let mut chart = ChartBuilder::on(root)
            .margin(fine(6))
            .margin_right(fine(14))
            .x_label_area_size(fine(42))
            .y_label_area_size(fine(66))
            .build_cartesian_2d(steps, values.0..values.1)?;
        chart
            .configure_mesh()
            .disable_x_mesh()
            .light_line_style(TRANSPARENT)
            .bold_line_style(Ink::Grid.code(0).stroke_width(FINE))
            .axis_style(Ink::Axis.code(0).stroke_width(FINE))
            .set_all_tick_mark_size(fine(4))
            .x_labels(5)
            .y_labels(5)
            .x_label_formatter(&|step| number(*step))
            .y_label_formatter(&|value| number(*value))
            .label_style(label.clone())
            .axis_desc_style(label)
            .x_desc("step")
            .draw()?;
        for curve in curves {
            let inside = |&(step, value): &Point| (step, value.clamp(values.0, values.1));
            let points: Vec<Point> = curve.points.iter().map(inside).collect();
            let style = curve.ink.code(curve.series).stroke_width(FINE);
            chart.draw_series([PathElement::new(points.clone(), style)])?;
            if curve.ink == Ink::Test || points.len() == 1 {
                let dot = Ink::Point.code(curve.series).filled();
                let last = points.last().filter(|_| points.len() > 40);
                let dots = if last.is_some() { &points[points.len() - 1..] } else { &points[..] };
                chart.draw_series(dots.iter().map(|&point| Circle::new(point, fine(3), dot)))?;
            }
        }
        Ok(())
    }))
}

/// Horizontal bars with their values, the longest as long as there is room.
pub(super) fn bars(title: &str, bars: &[(String, f64)]) -> String {
    const ROW: u32 = 20;
    let most = bars.iter().fold(f64::MIN_POSITIVE, |most, bar| most.max(bar.1));
    draw(title, ROW * bars.len() as u32 + 4, |root| {
        let fine = |pixels: u32| (pixels * FINE) as i32;
        let (left, right) = (92, WIDTH - 70);
        for (row, (name, value)) in bars.iter().enumerate() {
            let top = 2 + ROW * row as u32;
            let end = left + ((right - left) as f64 * value.max(0.0) / most).round().max(1.0) as u32;
            let style = |h| text(Ink::Text, TYPE - 1).pos(Pos::new(h, VPos::Center));
            root.draw(&Text::new(name.clone(), (fine(left - 8), fine(top + ROW / 2)), style(HPos::Right)))?;
            let corners = [(fine(left), fine(top + 3)), (fine(end), fine(top + ROW - 3))];
            root.draw(&Rectangle::new(corners, Ink::Bar.code(0).filled()))?;
            root.draw(&Text::new(number(*value), (fine(end + 6), fine(top + ROW / 2)), style(HPos::Left)))?;
        }
        Ok(())
    })
}

/// A line as a legend shows it.
pub(super) fn key(ink: Ink, series: usize) -> String {
    let class = class(ink, series % SERIES);
    format!(
        "<svg class=\"key\" viewBox=\"0 0 96 32\" aria-hidden=\"true\"><line {class} x1=\"4\" x2=\"92\" y1=\"16\" y2=\"16\"/></svg>"
    )
}

fn class(ink: Ink, series: usize) -> String {
    let name = INKS.iter().find(|(known, _)| *known == ink).map_or("", |(_, name)| name);
    format!("class=\"{name} s{series}\"")
}

fn text(ink: Ink, height: u32) -> TextStyle<'static> {
    let font = ("sans-serif", height * FINE).into_font();
    TextStyle { color: ink.code(0).to_backend_color(), ..TextStyle::from(font) }
}

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

fn draw(
    title: &str,
    height: u32,
    fill: impl FnOnce(&Area) -> std::result::Result<(), Box<dyn std::error::Error + Send + Sync>>,
) -> String {
    let mut svg = String::new();
    {
        let root = SVGBackend::with_string(&mut svg, (WIDTH * FINE, height * FINE)).into_drawing_area();
        fill(&root).and_then(|()| root.present().map_err(Into::into)).expect("a string takes every write");
    }
    for (ink, _) in INKS {
        for series in 0..SERIES {
            let RGBColor(r, g, b) = ink.code(series);
            for attribute in ["stroke", "fill"] {
                svg = svg.replace(&format!("{attribute}=\"#{r:02X}{g:02X}{b:02X}\""), &class(ink, series));
            }
        }
    }
    let (_, content) = svg.split_once('>').expect("it begins with <svg ...>");
    let (width, height) = (WIDTH * FINE, height * FINE);
    format!(
        "<svg class=\"plot\" role=\"img\" viewBox=\"0 0 {width} {height}\"><title>{}</title>{content}",
        escape(title)
    )
}

/// The least and the greatest.
fn ends(values: impl Iterator<Item = f64>) -> Option<(f64, f64)> {
    values.fold(None, |ends, value| {
        let (low, high) = ends.unwrap_or((value, value));
        Some((low.min(value), high.max(value)))
    })
}

/// The values to show, with a margin: all of them but those of the first twentieth of a long curve, which fall so far that
/// nothing else would be seen.
fn span(curves: &[Curve]) -> Option<(f64, f64)> {
    let settled = |curve: &Curve| if curve.points.len() >= 20 { curve.points.len() / 20 } else { 0 };
    let values = curves.iter().flat_map(|curve| curve.points[settled(curve)..].iter().map(|point| point.1));
    let (low, high) = ends(values)?;
    let margin = match high - low {
        0.0 if high == 0.0 => 0.1,
        0.0 => 0.1 * high.abs(),
        spread => 0.06 * spread,
    };
    Some((low - margin, high + margin))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn curve(points: &[Point]) -> Curve {
        Curve { ink: Ink::Test, series: 3, points: points.to_vec() }
    }

    #[test]
    fn a_plot_has_classes_in_place_of_colours_and_its_title_is_text() {
        let svg = curves("<b>", &[curve(&[(0.0, 1.0), (10.0, 2.0)])]).unwrap();
        assert!(!svg.contains("#A0") && !svg.contains("style="), "{svg}");
        assert!(svg.contains("<title>&lt;b&gt;</title>"));
        assert!(
            svg.contains("class=\"test s3\"")
                && svg.contains("class=\"point s3\"")
                && svg.contains("class=\"text s0\"")
        );
        assert!(svg.trim_end().ends_with("</svg>"));
    }

    #[test]
    fn curves_of_one_point_of_equal_values_and_of_none_are_drawn_or_left_out() {
        assert!(curves("", &[]).is_none() && curves("", &[curve(&[])]).is_none());
        for points in [&[(0.0, 0.0)][..], &[(5.0, -3.0)], &[(1.0, 2.0), (2.0, 2.0)], &[(1.0, -1e29), (1e9, 1e29)]] {
            assert!(curves("", &[curve(points)]).is_some());
        }
    }

    #[test]
    fn the_first_steps_do_not_decide_the_scale_of_a_long_curve() {
        let points: Vec<Point> =
            (0..100).map(|step| (step as f64, if step < 3 { 1e6 } else { (step % 7) as f64 })).collect();
        let (low, high) = span(&[curve(&points)]).unwrap();
        assert!(low < 0.0 && low > -1.0 && high > 6.0 && high < 7.0);
    }

    #[test]
    fn bars_are_as_long_as_their_values() {
        let svg = bars("", &[("a".into(), 2.0), ("b".into(), 1.0), ("c".into(), 0.0)]);
        let widths: Vec<u32> = svg
            .split("<rect ")
            .skip(1)
            .map(|rect| rect.split_once("width=\"").unwrap().1.split_once('"').unwrap().0.parse().unwrap())
            .collect();
        assert_eq!(widths, [1112, 556, 4]);
    }
}
