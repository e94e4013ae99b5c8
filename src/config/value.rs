//! Single values: from TOML to the type that can hold nothing else. Errors are the rest of a sentence that begins with
//! the key.

use std::{net::SocketAddr, ops::RangeInclusive, time::Duration};

use bytesize::ByteSize;
use jiff::Timestamp;
use toml::Value;
use url::{Host, Url};

use super::problem::quoted;
use crate::domain::limit::Limit;

type Read<T> = Result<T, String>;

/// Text, which may be empty, without control characters.
pub(super) fn text(value: &Value) -> Read<String> {
    let Value::String(text) = value else {
        return Err(format!("is {} here, but must be text in quotes", kind(value)));
    };
    if text.contains(char::is_control) {
        return Err("holds a control character, such as a line break".to_owned());
    }
    Ok(text.clone())
}

/// Text of `1..=longest` bytes, which must be among `accepted`; `described` says which those are.
pub(super) fn name(longest: usize, accepted: fn(u8) -> bool, described: &str) -> impl Fn(&Value) -> Read<String> {
    move |value| {
        let text = text(value)?;
        if text.is_empty() {
            return Err("is empty; fill it in".to_owned());
        }
        if text.len() > longest {
            return Err(format!("has {} characters; at most {longest} are accepted", text.len()));
        }
        if text.bytes().all(accepted) {
            Ok(text)
        } else {
            Err(format!("{} holds a character that is none of {described}", quoted(&text)))
        }
    }
}

/// A topic's name by Kafka's rule.
pub(super) fn topic(value: &Value) -> Read<String> {
    let accepted = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    match name(249, accepted, "a-z A-Z 0-9 . _ -")(value)? {
        dots if dots == "." || dots == ".." => Err(format!("{} is no name for a topic", quoted(&dots))),
        topic => Ok(topic),
    }
}

/// A duration with its unit, within `range`.
pub(super) fn duration(range: RangeInclusive<Duration>) -> impl Fn(&Value) -> Read<Duration> {
    move |value| {
        let Value::String(text) = value else {
            return Err(format!("is {} here, but must be a duration in quotes, such as \"30s\"", kind(value)));
        };
        let duration = humantime::parse_duration(text).map_err(|_| {
            format!("{} is not a duration; write a number with its unit, such as \"30s\"", quoted(text))
        })?;
        if range.contains(&duration) {
            return Ok(duration);
        }
        let [least, most] = [range.start(), range.end()].map(|end| short(*end));
        Err(format!("{} is out of range; from {least} to {most}", quoted(text)))
    }
}

/// A duration as one writes it here: in the largest unit that is whole.
pub(super) fn short(duration: Duration) -> String {
    let milliseconds = duration.as_millis();
    let units = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000)];
    match units.iter().find(|(_, unit)| milliseconds >= *unit && milliseconds.is_multiple_of(*unit)) {
        Some((name, unit)) => format!("{}{name}", milliseconds / unit),
        None => format!("{milliseconds}ms"),
    }
}

/// A size with its unit, within `range` bytes.
pub(super) fn size(range: RangeInclusive<u64>) -> impl Fn(&Value) -> Read<usize> {
    move |value| {
        let Value::String(text) = value else {
            return Err(format!("is {} here, but must be a size in quotes, such as \"4MiB\"", kind(value)));
        };
        let size: ByteSize = text
            .parse()
            .map_err(|_| format!("{} is not a size; write a number with its unit, such as \"4MiB\"", quoted(text)))?;
        match usize::try_from(size.0) {
            Ok(bytes) if range.contains(&size.0) => Ok(bytes),
            _ => {
                let [least, most] = [*range.start(), *range.end()].map(ByteSize);
                Err(format!("{} is out of range; from {least} to {most}", quoted(text)))
            }
        }
    }
}

/// A whole number within `range`.
pub(super) fn whole(range: RangeInclusive<u32>) -> impl Fn(&Value) -> Read<u32> {
    move |value| {
        let described = format!("a whole number from {} to {}", range.start(), range.end());
        match value {
            Value::Integer(number) => u32::try_from(*number)
                .ok()
                .filter(|number| range.contains(number))
                .ok_or_else(|| format!("{number} is out of range; it must be {described}")),
            other => Err(format!("is {} here, but must be {described}, without quotes", kind(other))),
        }
    }
}

/// A fraction from 0 (or above it) to `most`.
pub(super) fn fraction(least: Least, most: f64) -> impl Fn(&Value) -> Read<f64> {
    move |value| {
        let described = match least {
            Least::Zero => format!("a number from 0 to {most}"),
            Least::AboveZero => format!("a number above 0 and up to {most}"),
        };
        let number = match value {
            Value::Float(number) => *number,
            Value::Integer(number) if (0..=1).contains(number) => f64::from(u8::from(*number == 1)),
            Value::Integer(number) => return Err(format!("{number} is out of range; it must be {described}")),
            other => return Err(format!("is {} here, but must be {described}, without quotes", kind(other))),
        };
        let big_enough = match least {
            Least::Zero => number >= 0.0,
            Least::AboveZero => number > 0.0,
        };
        if big_enough && number <= most {
            Ok(number)
        } else {
            Err(format!("{number} is out of range; it must be {described}"))
        }
    }
}

/// Whether a fraction may be nothing.
#[derive(Clone, Copy)]
pub(super) enum Least {
    Zero,
    AboveZero,
}

/// True or false.
pub(super) fn flag(value: &Value) -> Read<bool> {
    match value {
        Value::Boolean(flag) => Ok(*flag),
        other => Err(format!("is {} here, but must be true or false, without quotes", kind(other))),
    }
}

/// One of the `available` words.
pub(super) fn choice<T: Copy>(available: &[(&str, T)]) -> impl Fn(&Value) -> Read<T> {
    move |value| {
        let text = text(value)?;
        if let Some((_, choice)) = available.iter().find(|(word, _)| *word == text) {
            return Ok(*choice);
        }
        let words: Vec<&str> = available.iter().map(|(word, _)| *word).collect();
        Err(format!("{} is unknown; available: {}", quoted(&text), words.join(", ")))
    }
}

/// A list of up to `longest` items. Its problem names every item that is wrong, counted from 1.
pub(super) fn list<T>(longest: usize, item: impl Fn(&Value) -> Read<T>) -> impl Fn(&Value) -> Read<Vec<T>> {
    move |value| {
        let Value::Array(items) = value else {
            return Err(format!("is {} here, but must be a list in brackets", kind(value)));
        };
        if items.len() > longest {
            return Err(format!("has {} items; at most {longest} are accepted", items.len()));
        }
        let numbered = items.iter().enumerate();
        let (mut read, mut wrong) = (Vec::new(), Vec::new());
        for (i, value) in numbered {
            match item(value) {
                Ok(value) => read.push(value),
                Err(why) => wrong.push(format!("item {}: {why}", i + 1)),
            }
        }
        if wrong.is_empty() { Ok(read) } else { Err(wrong.join("; ")) }
    }
}

/// A limit: `{ calls = 100, per = "1m" }` or "100 per 1m".
pub(super) fn limit(value: &Value) -> Read<Limit> {
    match value {
        Value::String(text) => text.parse().map_err(|error| format!("{} is no limit: {error}", quoted(text))),
        Value::Table(table) => {
            if let Some(unknown) = table.keys().find(|key| *key != "calls" && *key != "per") {
                return Err(format!("unknown key {}; a limit is {{ calls = 100, per = \"1m\" }}", quoted(unknown)));
            }
            let part = |name: &str| {
                table.get(name).ok_or_else(|| format!("has no {name}; a limit is {{ calls = 100, per = \"1m\" }}"))
            };
            let calls = whole(1..=u32::MAX)(part("calls")?).map_err(|why| format!("calls: {why}"))?;
            let per = duration(Limit::PER)(part("per")?).map_err(|why| format!("per: {why}"))?;
            let calls = calls.try_into().map_err(|_| "calls: 0 is out of range".to_owned())?;
            Ok(Limit { calls, per })
        }
        other => Err(format!("is {} here; a limit is {{ calls = 100, per = \"1m\" }}", kind(other))),
    }
}

/// The address of a server: https, or http on loopback; no user, query or fragment. Never repeats the text, which may
/// hold a password.
pub(super) fn service_url(value: &Value) -> Read<Url> {
    let url = url(value)?;
    match url.scheme() {
        "https" => Ok(url),
        "http" if is_loopback(&url) => Ok(url),
        "http" => {
            Err("must begin with https:// (http:// is accepted on loopback alone, for a simulated service): the \
                       token and the secret would cross the network readable"
                .to_owned())
        }
        _ => Err("must begin with https://".to_owned()),
    }
}

/// The address of a proxy; `None` for an empty text.
pub(super) fn proxy(value: &Value) -> Read<Option<Url>> {
    if text(value)?.is_empty() {
        return Ok(None);
    }
    let url = url(value)?;
    match url.scheme() {
        "http" | "https" => Ok(Some(url)),
        _ => Err("must begin with http:// or https://".to_owned()),
    }
}

fn url(value: &Value) -> Read<Url> {
    let url = Url::parse(&text(value)?).map_err(|error| format!("is no URL: {error}"))?;
    if !url.has_host() || url.cannot_be_a_base() {
        return Err("is no URL of a server".to_owned());
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("holds a user name or a password; leave them out".to_owned());
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err("holds a query (?) or a fragment (#); leave it out".to_owned());
    }
    Ok(url)
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.is_loopback(),
        Some(Host::Domain(name)) => name == "localhost",
        None => false,
    }
}

/// An address with a port; `None` for an empty text.
pub(super) fn listen(value: &Value) -> Read<Option<SocketAddr>> {
    match text(value)?.as_str() {
        "" => Ok(None),
        text => text.parse().map(Some).map_err(|_| {
            format!("{} is no address with a port; write \"127.0.0.1:9466\" or \"[::1]:9466\"", quoted(text))
        }),
    }
}

/// A time as RFC 3339 writes it.
pub(super) fn time(text: &str) -> Read<Timestamp> {
    text.parse().map_err(|_| {
        format!("{} is neither earliest nor latest nor a time such as \"2026-11-01T00:00:00Z\"", quoted(text))
    })
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::String(_) => "text",
        Value::Integer(_) | Value::Float(_) => "a number",
        Value::Boolean(_) => "true or false",
        Value::Datetime(_) => "a time",
        Value::Array(_) => "a list",
        Value::Table(_) => "a table",
    }
}
