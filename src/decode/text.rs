//! JSON values and bare ids, taken off a text one by one.
//!
//! A message is mostly one JSON value; it may be several, each on lines of its own (NDJSON), and a line may be nothing but
//! an alert id. Some pipelines put the JSON they read into a text called `message`: what Filebeat sends to Kafka before
//! any pipeline of Elasticsearch has seen it, and what Logstash keeps of an event it has not parsed.

use serde::de::{DeserializeSeed as _, Error, IgnoredAny};

use super::{fields::Fields, list::Item, syntax, walk::Walk};
use crate::domain::outcome::Rejection;

/// The member whose text may be JSON.
pub(super) const MESSAGE: &str = "/message";

/// Reads all of `text` into `walk`. An error ends the walk; it is in words about `text`.
pub(super) fn read(walk: &mut Walk<'_>, text: &str, nested: usize) -> Result<(), Rejection> {
    let mut at = 0;
    loop {
        let rest = &text[at..];
        let after = match bare_id_line(walk, rest) {
            Some(length) => length?,
            None => value(walk, rest, nested)
                .map_err(|error| walk.take_stopped().unwrap_or_else(|| syntax::parser_error(text, at, &error)))?,
        };
        at += after;
        let rest = text[at..].trim_ascii_start();
        if rest.is_empty() {
            return Ok(());
        }
        if !text[at..text.len() - rest.len()].contains('\n') {
            return Err(syntax::trailing_characters(text.len() - rest.len()));
        }
    }
}

/// Reads the JSON value that `text` begins with; tells where it ends.
fn value(walk: &mut Walk<'_>, text: &str, nested: usize) -> Result<usize, serde_json::Error> {
    let mut parser = serde_json::Deserializer::from_str(text);
    Item { walk, nested }.deserialize(&mut parser)?;
    Ok(parser.into_iter::<IgnoredAny>().byte_offset())
}

/// Reads the first line of `text` if that is an alert id and nothing else; tells where it ends.
fn bare_id_line(walk: &mut Walk<'_>, text: &str) -> Option<Result<usize, Rejection>> {
    let begin = text.len() - text.trim_ascii_start().len();
    let line = &text[begin..];
    // No JSON value but a number begins like an id.
    if !line.starts_with(|c: char| c.is_ascii_alphanumeric()) {
        return None;
    }
    let line = line.split('\n').next().unwrap_or_default().trim_ascii_end();
    let reading = walk.bare_id(line)?;
    let taken = walk.take::<serde_json::Error>(reading).map(|()| begin + line.len());
    Some(taken.map_err(|error| walk.take_stopped().unwrap_or_else(|| syntax::parser_error(text, 0, &error))))
}

/// Reads the JSON in the `message` of an object that no shape knows; `None`: there is none.
pub(super) fn read_message<E: Error>(
    walk: &mut Walk<'_>,
    object: &Fields<'_, '_>,
    nested: usize,
) -> Option<Result<(), E>> {
    let text = object.text(MESSAGE).ok().flatten()?;
    if !text.trim_ascii_start().starts_with(['{', '[']) {
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
