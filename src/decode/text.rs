//! JSON values and bare ids, taken off a text one by one.
//!
//! A message is mostly one JSON value; it may be several, each on lines of its own (NDJSON), and a line may be nothing but
//! an alert id. Some pipelines put the JSON they read into a text called `message`: what Filebeat sends to Kafka before
//! any pipeline of Elasticsearch has seen it, and what Logstash keeps of an event it has not parsed.

use serde::de::{DeserializeSeed as _, Error, IgnoredAny};

use super::{Decoder, fields::Fields, list::Item, syntax, walk::Walk};
use crate::domain::outcome::Rejection;

/// The member whose text may be JSON.
pub(super) const MESSAGE: &str = "/message";

/// Reads all of `text` into `walk`. An error ends the walk; it is in words about `text`.
pub(super) fn read(walk: &mut Walk<'_>, text: &str, nested: usize) -> Result<(), Rejection> {
    let mut at = 0;
    loop {
        at += text[at..].len() - without_space(&text[at..]).len();
        at += match bare_id_line(walk.decoder(), &text[at..]) {
            Some(line) => {
                let original = walk.decoder().keeps_originals.then(|| format!("\"{line}\""));
                walk.text(line, original.as_deref()).map(|()| line.len())
            }
            None => value(walk, &text[at..], nested),
        }
        .map_err(|error| walk.take_stopped().unwrap_or_else(|| syntax::parser_error(text, at, &error)))?;
        let rest = without_space(&text[at..]);
        if rest.is_empty() {
            return Ok(());
        }
        if !text[at..text.len() - rest.len()].contains('\n') {
            return Err(syntax::trailing_characters(text.len() - rest.len()));
        }
    }
}

/// The text from its first character on that JSON does not take for space (RFC 8259, section 2).
fn without_space(text: &str) -> &str {
    text.trim_start_matches([' ', '\t', '\n', '\r'])
}

/// Reads the JSON value that `text` begins with; tells where it ends.
fn value(walk: &mut Walk<'_>, text: &str, nested: usize) -> Result<usize, serde_json::Error> {
    let mut parser = serde_json::Deserializer::from_str(text);
    Item::new(walk, nested).deserialize(&mut parser)?;
    Ok(parser.into_iter::<IgnoredAny>().byte_offset())
}

/// The first line of `text`, if it is an alert id and nothing else, and such lines are read.
fn bare_id_line<'t>(decoder: &Decoder, text: &'t str) -> Option<&'t str> {
    // No JSON value but a number begins like an id.
    if !text.starts_with(|c: char| c.is_ascii_alphanumeric()) {
        return None;
    }
    let line = text.split('\n').next().unwrap_or_default().trim_ascii_end();
    decoder.bare_id(line).map(|_| line)
}

/// Whether a text that stands in a message may be JSON of more than a word.
fn is_json(text: &str) -> bool {
    without_space(text).starts_with(['{', '['])
}

/// Reads the JSON in the `message` of an object that no shape knows; `None`: there is none.
pub(super) fn read_message<E: Error>(
    walk: &mut Walk<'_>,
    object: &Fields<'_, '_>,
    nested: usize,
) -> Option<Result<(), E>> {
    let text = object.text(MESSAGE).ok().flatten()?;
    if !is_json(text) {
        return None;
    }
    let nested = match Walk::below(nested) {
        Ok(nested) => nested,
        Err(rejection) => return Some(walk.unusable(rejection)),
    };
    Some(read(walk, text, nested).or_else(|Rejection { reason, detail }| {
        walk.stop(Rejection { reason, detail: format!("in `{MESSAGE}`: {detail}") })
    }))
}
