//! A part of a page.

use serde_json::Value;

/// One part of a self-contained page: what is shown, and the style, script and data that belong to it.
///
/// The page brings no policy exceptions for it: markup has neither `style` nor `on…` attributes, and refers to nothing outside.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Fragment {
    /// Markup of one `<section>`; text in it is escaped.
    pub html: String,
    /// CSS, put into the page's head.
    pub style: &'static str,
    /// JavaScript, a classic script that runs when the page has been parsed.
    pub script: &'static str,
    /// What the script reads: the id of a `<script type="application/json">` element, and its content.
    pub data: Vec<(&'static str, Value)>,
}
