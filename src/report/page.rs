//! A page from its fragments: one file that a browser shows without asking for anything else.
//!
//! The page's content security policy lets nothing run and nothing load but what the fragments brought: styles and scripts by
//! their hashes, pictures and sounds from `data:` and `blob:` addresses.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::Fragment;
use super::markup::escape;

/// The look that fragments share: type, colours, tables, plots and clips.
const STYLE: &str = include_str!("style.css");
/// Plays the sounds of `.clip` elements.
const SCRIPT: &str = include_str!("script.js");

/// A whole HTML document.
pub(super) fn page(title: &str, fragments: &[Fragment]) -> String {
    let of = |own: &'static str, part: fn(&Fragment) -> &'static str| -> Vec<&str> {
        [own].into_iter().chain(fragments.iter().map(part)).filter(|text| !text.is_empty()).collect()
    };
    let (styles, scripts) = (of(STYLE, |fragment| fragment.style), of(SCRIPT, |fragment| fragment.script));
    let policy = format!(
        "default-src 'none'; img-src data:; media-src data: blob:; worker-src blob:; style-src {}; script-src {}; base-uri 'none'; form-action 'none'",
        hashes(&styles),
        hashes(&scripts)
    );
    let mut html = format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"{policy}\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n<meta name=\"referrer\" content=\"no-referrer\">\n\
         <link rel=\"icon\" href=\"data:,\">\n<title>{0}</title>\n",
        escape(title)
    );
    styles.iter().for_each(|style| html.push_str(&format!("<style>{style}</style>\n")));
    html.push_str("</head>\n<body>\n<header class=\"top\"><h1>vae-workshop report</h1></header>\n<main>\n");
    fragments.iter().for_each(|fragment| html.push_str(&fragment.html));
    html.push_str("</main>\n");
    for (id, value) in fragments.iter().flat_map(|fragment| &fragment.data) {
        html.push_str(&format!("<script type=\"application/json\" id=\"{id}\">{}</script>\n", json(value)));
    }
    scripts.iter().for_each(|script| html.push_str(&format!("<script>{script}</script>\n")));
    html + "</body>\n</html>\n"
}

/// The sources that a policy allows: these texts and no others.
fn hashes(texts: &[&str]) -> String {
    let hash = |text: &&str| format!("'sha256-{}'", STANDARD.encode(Sha256::digest(text.as_bytes())));
    texts.iter().map(hash).collect::<Vec<_>>().join(" ")
}

/// JSON that can stand in a `<script>` element: in JSON these characters are only ever within strings.
fn json(value: &Value) -> String {
    let mut text = value.to_string();
    for character in ['<', '>', '&', '\u{2028}', '\u{2029}'] {
        text = text.replace(character, &format!("\\u{:04x}", u32::from(character)));
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_style_and_script_is_allowed_by_its_own_hash_and_nothing_else_is() {
        let fragment = Fragment { html: "<section></section>".into(), style: "p{}", script: "1;", data: Vec::new() };
        let html = page("t", &[fragment]);
        // printf 'p{}' | openssl sha256 -binary | base64, and of '1;'
        for hash in [
            "sha256-gG2yISYereRMiG2lMXrbiUgi0Ubw9p7QCeWcroOvy9Y=",
            "sha256-CImjRDTlhukYQ2AnxOi0wzgPhGQ3Mb3rVwJK24dFz1M=",
        ] {
            assert!(html.contains(hash), "{hash} is not in {}", &html[..1200]);
        }
        assert!(!html.contains("unsafe") && html.contains("default-src 'none'"));
        assert_eq!(html.matches("'sha256-").count(), 4);
    }

    #[test]
    fn data_cannot_end_its_element_and_reads_back_as_it_was() {
        let value = json!({ "name": "</script><!--&\u{2028}\u{2029}\"" });
        let fragment = Fragment { data: vec![("d", value.clone())], ..Fragment::default() };
        let html = page("t", &[fragment]);
        let (_, rest) = html.split_once("id=\"d\">").unwrap();
        let (text, _) = rest.split_once("</script>").unwrap();
        assert!(!text.contains(['<', '>', '&', '\u{2028}', '\u{2029}']));
        assert_eq!(serde_json::from_str::<Value>(text).unwrap(), value);
    }

    #[test]
    fn a_title_is_text() {
        let html = page("<script>alert(1)</script>", &[]);
        assert!(!html.contains("<script>alert"));
        assert_eq!(html.matches("&lt;script&gt;alert(1)&lt;/script&gt;").count(), 1);
    }
}
