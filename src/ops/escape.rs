//! Makes text from outside harmless on a terminal, in a log line and in a systemd status.

use std::fmt::{self, Write};

/// Whether a character is shown as itself. Controls could end a line or drive a terminal; the line and paragraph
/// separators end a line for some readers; the invisible and bidirectional ones make a text look like another.
const fn is_plain(c: char) -> bool {
    !matches!(
        c,
        '\0'..='\u{1f}'
            | '\u{7f}'..='\u{9f}'
            | '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{2069}'
            | '\u{feff}'
    )
}

/// Writes through to `W`, and what is not plain as Rust writes it in a literal: `\n`, `\u{1b}`.
pub(super) struct Escaping<W>(pub(super) W);

impl<W: Write> Write for Escaping<W> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        each_run(text, |plain, special| {
            self.0.write_str(plain)?;
            special.map_or(Ok(()), |c| write!(self.0, "{}", c.escape_default()))
        })
    }
}

/// A text with everything that is not plain escaped as Rust writes it in a literal.
pub(crate) fn line(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    let escaped = Escaping(&mut line).write_str(text);
    debug_assert!(escaped.is_ok(), "a String takes everything");
    line
}

/// A JSON document with everything that is not plain as `\uXXXX`. Such characters stand only inside of JSON strings
/// (a serializer has escaped those below U+0020 already), so the document's meaning stays.
pub(crate) fn json(document: &str) -> String {
    let mut line = String::with_capacity(document.len());
    let escaped = each_run(document, |plain, special| {
        line.write_str(plain)?;
        special.map_or(Ok(()), |c| write!(line, "\\u{:04x}", u32::from(c)))
    });
    debug_assert!(escaped.is_ok(), "a String takes everything");
    line
}

/// Calls `write` for each run of plain characters and the special one that ends it.
fn each_run(text: &str, mut write: impl FnMut(&str, Option<char>) -> fmt::Result) -> fmt::Result {
    let mut rest = text;
    while let Some(at) = rest.find(|c| !is_plain(c)) {
        let (plain, special) = rest.split_at(at);
        let mut chars = special.chars();
        write(plain, chars.next())?;
        rest = chars.as_str();
    }
    write(rest, None)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::escape("a\u{1b}[31mb", r"a\u{1b}[31mb")]
    #[case::line_feed("a\nb", r"a\nb")]
    #[case::carriage_return("a\rb", r"a\rb")]
    #[case::nul("a\0b", r"a\u{0}b")]
    #[case::delete("a\u{7f}b", r"a\u{7f}b")]
    #[case::c1_csi("a\u{9b}31mb", r"a\u{9b}31mb")]
    #[case::line_separator("a\u{2028}b", r"a\u{2028}b")]
    #[case::bidi_override("a\u{202e}b", r"a\u{202e}b")]
    #[case::lossy_surrogate(&String::from_utf8_lossy(b"a\xed\xa0\x80b"), "a\u{fffd}\u{fffd}\u{fffd}b")]
    #[case::plain("grün 東京 🦀 \\d \"q\"", "grün 東京 🦀 \\d \"q\"")]
    fn hostile_text_is_shown_not_obeyed(#[case] text: &str, #[case] shown: &str) {
        assert_eq!(line(text), shown);
    }

    proptest! {
        #[test]
        fn escaped_json_means_the_same_and_holds_nothing_special(text in any::<String>()) {
            let escaped = json(&serde_json::to_string(&text).unwrap());
            prop_assert!(escaped.chars().all(is_plain));
            prop_assert_eq!(serde_json::from_str::<String>(&escaped).unwrap(), text);
        }

        #[test]
        fn an_escaped_line_holds_nothing_special(text in any::<String>()) {
            prop_assert!(line(&text).chars().all(is_plain));
        }
    }
}
