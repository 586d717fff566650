//! Text and tables as HTML. Whatever comes from a file or a file's name passes [`escape`].

use std::fmt::{Display, Write};

/// Text that HTML takes for nothing but text, in elements and in quoted attributes. Control characters other than white space,
/// which no page may hold, become U+FFFD.
pub(super) fn escape(text: impl Display) -> String {
    let mut escaped = String::new();
    for character in text.to_string().chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            '\n' | '\t' | '\r' => escaped.push(' '),
            other if other.is_control() => escaped.push('\u{fffd}'),
            other => escaped.push(other),
        }
    }
    escaped
}

/// A paragraph of text.
pub(super) fn paragraph(text: impl Display) -> String {
    format!("<p>{}</p>\n", escape(text))
}

/// A part of a run's section, under a heading of its own.
pub(super) struct Section {
    /// What the page's addresses call it.
    pub id: String,
    pub heading: String,
    /// Markup.
    pub body: String,
}

impl Section {
    pub(super) fn new(id: impl Into<String>, heading: impl Into<String>, body: String) -> Self {
        Self { id: id.into(), heading: heading.into(), body }
    }

    pub(super) fn html(&self) -> String {
        let Self { id, heading, body } = self;
        format!("<section id=\"{id}\">\n<h3>{}</h3>\n{body}</section>\n", escape(heading))
    }
}

/// Links to parts of the page: ids and what they are called.
pub(super) fn contents<'a>(name: &str, parts: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    let links: String = parts.map(|(id, text)| format!("<li><a href=\"#{id}\">{}</a></li>", escape(text))).collect();
    format!("<nav aria-label=\"{}\"><ul>{links}</ul></nav>\n", escape(name))
}

/// A table of text: a heading for each column, the first of which names the rows. It scrolls by itself where it is wider than
/// the screen.
pub(super) fn table(caption: &str, headings: &[String], rows: &[Vec<String>]) -> String {
    let caption = escape(caption);
    let mut html = format!(
        "<div class=\"wide\" role=\"region\" aria-label=\"{caption}\" tabindex=\"0\"><table><caption>{caption}</caption>\n<thead><tr>"
    );
    let mut add = |part: String| html.push_str(&part);
    headings.iter().for_each(|heading| add(format!("<th scope=\"col\">{}</th>", escape(heading))));
    add("</tr></thead>\n<tbody>\n".into());
    for row in rows {
        for (column, cell) in row.iter().enumerate() {
            let cell = escape(cell);
            add(if column == 0 { format!("<tr><th scope=\"row\">{cell}</th>") } else { format!("<td>{cell}</td>") });
        }
        add("</tr>\n".into());
    }
    add("</tbody></table></div>\n".into());
    html
}

/// What a page says first, as a list of names and values.
pub(super) fn tiles(pairs: &[(&str, String)]) -> String {
    let mut html = "<dl class=\"tiles\">".to_string();
    for (name, value) in pairs {
        write!(html, "<div><dt>{}</dt><dd>{}</dd></div>", escape(name), escape(value))
            .expect("a string takes every write");
    }
    html + "</dl>\n"
}

/// A number for people: about four digits, thousands apart.
pub(super) fn number(value: f64) -> String {
    let size = value.abs();
    let decimals = match size {
        _ if !size.is_finite() => return "undefined".into(),
        _ if size >= 1e15 || (size > 0.0 && size < 1e-4) => return format!("{value:.2e}"),
        1e5.. => 0,
        100.0.. => 1,
        10.0.. => 2,
        1.0.. => 3,
        0.0 => 0,
        _ => (3.0 - size.log10().floor()) as usize,
    };
    let text = format!("{:.decimals$}", size);
    let (whole, fraction) = text.split_once('.').map_or((text.as_str(), ""), |(whole, fraction)| (whole, fraction));
    let fraction = fraction.trim_end_matches('0');
    let groups: Vec<&str> =
        whole.as_bytes().rchunks(3).rev().map(|group| std::str::from_utf8(group).expect("digits")).collect();
    let sign = if value < 0.0 && text.bytes().any(|digit| (b'1'..=b'9').contains(&digit)) { "\u{2212}" } else { "" };
    let point = if fraction.is_empty() { "" } else { "." };
    format!("{sign}{}{point}{fraction}", groups.join("\u{202f}"))
}

/// A time for people.
pub(super) fn duration(seconds: f64) -> String {
    match seconds {
        ..100.0 => format!("{} s", number(seconds.round())),
        ..6000.0 => format!("{} min", number((seconds / 60.0).round())),
        _ => format!("{} h", number((seconds / 360.0).round() / 10.0)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_html_reads_survives_escaping() {
        assert_eq!(escape("<a href=\"x\" id='y'>&"), "&lt;a href=&quot;x&quot; id=&#39;y&#39;&gt;&amp;");
        assert_eq!(escape("a\nb\tc\0d\u{1b}\u{85}e"), "a b c\u{fffd}d\u{fffd}\u{fffd}e");
    }

    #[test]
    fn numbers_have_about_four_digits_and_their_thousands_apart() {
        let numbers = [0.0, 1000.0, 2211.94, 1234567.0, -0.25, 12.3456, 0.09795, 1e-6, f64::NAN, -0.00001e-10];
        let texts = [
            "0",
            "1\u{202f}000",
            "2\u{202f}211.9",
            "1\u{202f}234\u{202f}567",
            "\u{2212}0.25",
            "12.35",
            "0.09795",
            "1.00e-6",
        ];
        assert_eq!(numbers.map(number)[..8], texts);
        assert_eq!(number(f64::NAN), "undefined");
    }

    #[test]
    fn a_table_names_its_rows_and_columns() {
        let html = table("a & b", &["".into(), "<x>".into()], &[vec!["row".into(), "1".into()]]);
        assert!(html.contains("<caption>a &amp; b</caption>") && html.contains("<th scope=\"col\">&lt;x&gt;</th>"));
        assert!(html.contains("<tr><th scope=\"row\">row</th><td>1</td></tr>"));
    }
}
