//! What is published.

use toml::Value;

use super::{keys::OUTPUTS, reader::Reader, value};
use crate::domain::{
    outcome::Status,
    output::{Granularity, Output, OutputFormat, Splunk},
    scope::Scope,
};

/// The names of the further outputs, in their order.
pub(super) fn names(reader: &Reader) -> Vec<String> {
    reader.names_in(OUTPUTS)
}

/// The outputs: that of `[output]`, and then the further ones, in the order of their topics.
pub(super) fn read_all(reader: &mut Reader) -> Vec<Output> {
    let names = names(reader);
    if names.len() >= usize::from(u8::MAX) {
        reader.problem(OUTPUTS, "has more sections than there may be outputs (255)");
    }
    let accepted = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-".contains(&byte);
    for name in names.iter().filter(|name| !name.bytes().all(accepted)) {
        reader
            .problem(&format!("{OUTPUTS}.{name}"), "an output's name has only lower-case letters, digits, `_` and `-`");
    }
    let sections = names.iter().map(|name| format!("{OUTPUTS}.{name}"));
    std::iter::once("output".to_owned()).chain(sections).map(|section| read(reader, &section)).collect()
}

fn read(reader: &mut Reader, section: &str) -> Output {
    let path = |name: &str| format!("{section}.{name}");
    let formats = OutputFormat::ALL.map(|format| (format.as_str(), format));
    let shapes = [("per-alert", Granularity::PerAlert), ("per-ip", Granularity::PerIp)];
    let statuses = Status::ALL.map(|status| (status.as_str(), status));
    let scopes = Scope::ALL.map(|scope| (scope.as_str(), scope));
    Output {
        format: reader.read(&path("format"), value::choice(&formats)),
        granularity: reader.read(&path("shape"), value::choice(&shapes)),
        include_alert: reader.read(&path("include_alert"), value::flag),
        statuses: reader.read(&path("statuses"), value::list(statuses.len(), value::choice(&statuses))),
        scopes: reader.read(&path("scopes"), value::list(scopes.len(), value::choice(&scopes))),
        splunk: Splunk {
            index: reader.read(&path("splunk.index"), told),
            source: reader.read(&path("splunk.source"), told),
            sourcetype: reader.read(&path("splunk.sourcetype"), told),
            host: reader.read(&path("splunk.host"), told),
            headers: reader.read(&path("splunk.headers"), value::flag),
        },
    }
}

/// A text; "" is none.
fn told(value: &Value) -> Result<Option<String>, String> {
    let text = value::text(value)?;
    if text.chars().any(char::is_control) {
        return Err("holds a control character".to_owned());
    }
    Ok((!text.is_empty()).then_some(text))
}
