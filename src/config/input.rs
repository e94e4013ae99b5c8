//! What is read of the input, and which alerts of it.

use std::{path::Path, time::Duration};

use jiff::Timestamp;
use toml::Value;

use super::{
    problem::quoted,
    reader::Reader,
    registry::{self, Registry},
    settings::{DAY, HOUR, MINUTE},
    value,
};
use crate::domain::{
    alert::Severity,
    filter::Filter,
    format::{InputFormat, Mapping},
    pointer::Pointer,
};

/// What is read, and how much of it at once.
#[derive(Clone, Debug)]
pub struct Input {
    pub format: InputFormat,
    /// With [`InputFormat::Custom`] always there.
    pub mapping: Option<Mapping>,
    /// Where schemas are asked for, if messages are written with some.
    pub registry: Option<Registry>,
    pub start: Start,
    /// Older alerts are `expired` without a call.
    pub max_age: Duration,
    /// Records read and not yet settled.
    pub max_open_records: usize,
    /// Their bytes.
    pub max_open_bytes: usize,
    /// Bytes of the metadata of one partition's commit.
    pub max_commit_metadata: usize,
}

/// Where reading begins if the group has no offsets yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    Earliest,
    Latest,
    At(Timestamp),
}

pub(super) fn read(reader: &mut Reader, credentials: Option<&Path>) -> Input {
    let formats = InputFormat::ALL.map(|format| (format.as_str(), format));
    let format = reader.read("input.format", value::choice(&formats));
    Input {
        format,
        mapping: read_mapping(reader, format),
        registry: registry::read(reader, credentials),
        start: reader.read("input.start", start),
        max_age: reader.read("input.max_age", value::duration(HOUR..=3650 * DAY)),
        max_open_records: reader.read("input.max_open_records", value::whole(1..=10_000_000)) as usize,
        max_open_bytes: reader.read("input.max_open_bytes", value::size(1 << 20..=64 << 30)),
        max_commit_metadata: reader.read("input.max_commit_metadata", value::whole(256..=1 << 20)) as usize,
    }
}

fn start(value: &Value) -> Result<Start, String> {
    match value::text(value)?.as_str() {
        "earliest" => Ok(Start::Earliest),
        "latest" => Ok(Start::Latest),
        text => value::time(text).map(Start::At),
    }
}

/// `None` where no pointer to an id is written.
fn read_mapping(reader: &mut Reader, format: InputFormat) -> Option<Mapping> {
    const ID: &str = "input.custom.id";
    const RECORDS: &str = "input.custom.records";
    let mut read = |name: &str| reader.read(&format!("input.custom.{name}"), pointer);
    let id = read("id");
    let others = ["severity", "tenant", "updated", "created", "records"].map(&mut read);
    let Some(id) = id else {
        let is_needed = format == InputFormat::Custom || others.iter().any(Option::is_some);
        if is_needed && reader.is_sound(&[ID]) {
            reader.problem(ID, "is empty; say where an alert has its id, such as \"/alert/id\"");
        }
        return None;
    };
    let [severity, tenant, updated, created, records] = others;
    let read_by_format = matches!(format, InputFormat::Auto | InputFormat::Custom);
    if !read_by_format {
        let message = format!("has no effect with input.format = \"{}\"; make that auto or custom", format.as_str());
        reader.warning(ID, message);
        return None;
    }
    let mapping = Mapping { id, severity, tenant, updated, created, records };
    let first = |pointer: &Pointer| pointer.steps().next().map(std::borrow::Cow::into_owned);
    let clash = mapping.records.as_ref().and_then(|records| {
        mapping.of_an_alert().find(|pointer| first(pointer) == first(records)).map(|pointer| (records, pointer))
    });
    if let Some((records, pointer)) = clash {
        let message = format!(
            "{records} and {pointer} begin in the same way, but {records} is looked for in a message and {pointer} in one \
             alert of that list; write where it is within the alert"
        );
        reader.problem(RECORDS, message);
    }
    Some(mapping)
}

/// A JSON pointer; "" is none.
fn pointer(value: &Value) -> Result<Option<Pointer>, String> {
    let text = value::text(value)?;
    if text.is_empty() {
        return Ok(None);
    }
    Pointer::parse(&text).map(Some).map_err(|error| format!("{} is no JSON pointer: {error}", quoted(&text)))
}

pub(super) fn read_filter(reader: &mut Reader) -> Filter {
    let severities = Severity::ALL.map(|severity| (severity.as_str(), severity));
    Filter {
        severities: reader.read("filter.severities", value::list(5, value::choice(&severities))),
        detection_sources: reader.read("filter.detection_sources", value::list(100, value::text)),
        max_age: reader.read("filter.max_age", age),
        tenants: reader
            .read("filter.tenants", value::list(1000, value::text))
            .iter()
            .map(|tenant| tenant.to_lowercase())
            .collect(),
    }
}

/// A duration; "" is none.
fn age(value: &Value) -> Result<Option<Duration>, String> {
    if value.as_str() == Some("") {
        return Ok(None);
    }
    value::duration(MINUTE..=3650 * DAY)(value).map(Some)
}
