//! Whether a payload is JSON that can be read, and if not, where it stops being so.
//!
//! The words name positions and never repeat the payload.

use serde_json::{error::Category, value::RawValue};

use crate::domain::outcome::{Reason, Rejection};

/// Deepest nesting of arrays and objects that is accepted, as in most JSON parsers.
const MAX_DEPTH: usize = 128;

/// The payload as text, if it is UTF-8 and not nested too deeply.
pub(super) fn checked_text(payload: &[u8]) -> Result<&str, Rejection> {
    let text =
        std::str::from_utf8(payload).map_err(|error| not_json(format!("not UTF-8 at byte {}", error.valid_up_to())))?;
    if text.starts_with('\u{feff}') {
        return Err(not_json("not JSON at byte 0: a byte order mark stands before it".into()));
    }
    Ok(text)
}

/// The rejection of an item whose skipped parts are nested too deeply.
pub(super) fn too_deep() -> Rejection {
    not_json(format!("arrays and objects nested more than {MAX_DEPTH} deep"))
}

/// Whether the brackets of a valid JSON value nest deeper than [`MAX_DEPTH`].
///
/// The parser counts the depth only of what it stores, not of what is skipped. Counting all brackets first is cheap and
/// spares nearly every value the look at each byte.
pub(super) fn is_too_deep(value: &RawValue) -> bool {
    let json = value.get().as_bytes();
    matches!(json.first(), Some(b'[' | b'{')) && count_opening(json) > MAX_DEPTH && depth(json) > MAX_DEPTH
}

/// The rejection for an error of the parser, which began to read at byte `from` of `text`. The position is right to a
/// byte: the parser names sometimes the last byte it took, sometimes the one it wanted.
pub(super) fn parser_error(text: &str, from: usize, error: &serde_json::Error) -> Rejection {
    let lines = text[from..].split_inclusive('\n');
    let lines_before: usize = lines.take(error.line().saturating_sub(1)).map(str::len).sum();
    let at = if error.is_eof() { text.len() } else { from + lines_before + error.column().saturating_sub(1) };
    let message = error.to_string();
    let what = match error.classify() {
        // These are fixed words of the parser, with a position in lines and columns.
        Category::Syntax | Category::Eof => message.rsplit_once(" at line ").map_or(message.as_str(), |(what, _)| what),
        // These could repeat text of the payload.
        Category::Data | Category::Io => "unexpected value",
    };
    not_json(format!("not JSON at byte {at}: {what}"))
}

/// The rejection of what follows a JSON value on the same line.
pub(super) fn trailing_characters(at: usize) -> Rejection {
    not_json(format!("not JSON at byte {at}: trailing characters"))
}

fn not_json(detail: String) -> Rejection {
    Rejection { reason: Reason::NotJson, detail }
}

/// How deep brackets nest, texts left out.
fn depth(json: &[u8]) -> usize {
    let (mut depth, mut deepest, mut in_text) = (0_usize, 0, false);
    let mut bytes = json.iter();
    while let Some(byte) = bytes.next() {
        match byte {
            b'"' => in_text = !in_text,
            b'\\' if in_text => drop(bytes.next()),
            b'[' | b'{' if !in_text => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b']' | b'}' if !in_text => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

/// How many `[` and `{` there are, texts included.
fn count_opening(json: &[u8]) -> usize {
    // Chunks whose count fits a byte, and one comparison for both (they differ in one bit), make this a vector loop.
    let opening = |chunk: &[u8]| chunk.iter().map(|byte| u8::from(byte | 0x20 == b'{')).sum::<u8>();
    json.chunks(255).map(|chunk| usize::from(opening(chunk))).sum()
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn nested(depth: usize) -> String {
        format!("{}{}", "[".repeat(depth), "]".repeat(depth))
    }

    #[rstest]
    #[case::as_deep_as_allowed(nested(128), false)]
    #[case::one_deeper(nested(129), true)]
    #[case::objects(format!("{}1{}", r#"{"a":"#.repeat(129), "}".repeat(129)), true)]
    #[case::wide(format!("[{}[]]", "[],".repeat(1_000)), false)]
    #[case::brackets_in_text(format!(r#"["{}"]"#, "[".repeat(1_000)), false)]
    #[case::escaped_quote_in_text(format!(r#"["\"{}"]"#, "[".repeat(1_000)), false)]
    #[case::escaped_backslash_ends_the_text(format!(r#"["\\",{}]"#, nested(128)), true)]
    fn depth_is_counted_outside_of_texts(#[case] json: String, #[case] too_deep: bool) {
        assert_eq!(is_too_deep(&RawValue::from_string(json).unwrap()), too_deep);
    }

    #[rstest]
    #[case::first_line("{\"a\":x}", 5)]
    #[case::third_line("{\n \"a\":\n  x}", 10)]
    #[case::at_the_end("{\"a\":", 5)]
    fn positions_are_bytes_from_the_start(#[case] json: &str, #[case] at: usize) {
        let error = serde_json::from_str::<serde_json::Value>(json).unwrap_err();
        let detail = parser_error(json, 0, &error).detail;
        assert!(detail.starts_with(&format!("not JSON at byte {at}: ")), "{detail}");
    }
}
