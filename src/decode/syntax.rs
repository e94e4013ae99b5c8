//! Whether a payload is JSON that can be read, and if not, where it stops being so.
//!
//! The words name positions and never repeat the payload.

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
    match too_deep_at(payload) {
        Some(at) => Err(not_json(format!("not readable at byte {at}: nested more than {MAX_DEPTH} deep"))),
        None => Ok(text),
    }
}

/// The rejection for an error of the parser in `part`, which is a piece of `whole`. The position is right to a byte: the
/// parser names sometimes the last byte it took, sometimes the one it wanted.
pub(super) fn parser_error(whole: &str, part: &str, error: &serde_json::Error) -> Rejection {
    let part_start = part.as_ptr().addr().saturating_sub(whole.as_ptr().addr());
    let at = part_start + if error.is_eof() { part.len() } else { position(part, error.line(), error.column()) };
    let message = error.to_string();
    let what = match error.classify() {
        // These are fixed words of the parser, with a position that is relative to the part.
        serde_json::error::Category::Syntax | serde_json::error::Category::Eof => {
            message.rsplit_once(" at line ").map_or(message.as_str(), |(what, _)| what)
        }
        // These could repeat text of the payload.
        serde_json::error::Category::Data | serde_json::error::Category::Io => "unexpected value",
    };
    not_json(format!("not JSON at byte {at}: {what}"))
}

/// The byte at a line and a column, both from 1; columns count bytes.
fn position(text: &str, line: usize, column: usize) -> usize {
    let before: usize = text.split_inclusive('\n').take(line.saturating_sub(1)).map(str::len).sum();
    before + column.saturating_sub(1)
}

fn not_json(detail: String) -> Rejection {
    Rejection { reason: Reason::NotJson, detail }
}

/// Where brackets nest deeper than [`MAX_DEPTH`].
///
/// The parser counts the depth only of what it stores, and most of an alert is skipped. Counting all brackets first is
/// cheap and spares most messages the look at each byte.
fn too_deep_at(json: &[u8]) -> Option<usize> {
    let opening = json.iter().filter(|byte| matches!(byte, b'[' | b'{')).count();
    if opening <= MAX_DEPTH {
        return None;
    }
    let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
    for (at, byte) in json.iter().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = in_string,
            b'"' => in_string = !in_string,
            b'[' | b'{' if !in_string => {
                depth += 1;
                if depth > MAX_DEPTH {
                    return Some(at);
                }
            }
            b']' | b'}' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn nested(depth: usize) -> String {
        format!("{}{}", "[".repeat(depth), "]".repeat(depth))
    }

    #[rstest]
    #[case::as_deep_as_allowed(nested(128), None)]
    #[case::one_deeper(nested(129), Some(128))]
    #[case::wide(format!("[{}]", "[],".repeat(1_000)), None)]
    #[case::brackets_in_text(format!(r#"["{}"]"#, "[".repeat(1_000)), None)]
    #[case::escaped_quote_in_text(format!(r#"["\"{}"]"#, "[".repeat(1_000)), None)]
    #[case::escaped_backslash_ends_the_text(format!(r#"["\\"{}"#, nested(1_000)), Some(132))]
    fn depth_is_counted_outside_of_texts(#[case] json: String, #[case] expected: Option<usize>) {
        assert_eq!(too_deep_at(json.as_bytes()), expected);
    }

    #[rstest]
    #[case::first_line("{\"a\":x}", 5)]
    #[case::third_line("{\n \"a\":\n  x}", 10)]
    #[case::at_the_end("{\"a\":", 5)]
    fn positions_are_bytes_from_the_start(#[case] json: &str, #[case] at: usize) {
        let error = serde_json::from_str::<serde_json::Value>(json).unwrap_err();
        let detail = parser_error(json, json, &error).detail;
        assert!(detail.starts_with(&format!("not JSON at byte {at}: ")), "{detail}");
    }

    #[test]
    fn positions_in_a_part_count_from_the_start_of_the_whole() {
        let whole = r#"{"records":["\ud800"]}"#;
        let part = &whole[11..21];
        let error = serde_json::from_str::<Vec<String>>(part).unwrap_err();
        let detail = parser_error(whole, part, &error).detail;
        assert!(detail.starts_with("not JSON at byte 19: "), "{detail}");
    }
}
