//! The configuration as it was written: defaults < TOML file < environment < flags, each value with its source.
//!
//! figment merges the layers and remembers where each value came from; nothing outside this file knows it.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use figment::{
    Figment, Metadata, Profile, Provider,
    value::{Dict, Map, Value},
};
use toml::de::{DeTable, DeValue};

use super::{
    keys::{self, Fallback, KAFKA_PROPERTIES, KEYS, Kind},
    problem::{Problem, Source},
};

/// Variables that begin so and hold a `__` are configuration. Others that begin so are not ours to judge: Kubernetes
/// sets `ALERT_IPS_PORT` and the like for a service named `alert-ips`.
const PREFIX: &str = "ALERT_IPS_";

/// All values, by the path of their key.
#[derive(Debug, Default)]
pub(super) struct Written {
    pub(super) entries: BTreeMap<String, Entry>,
    /// Every table that is written, by its path.
    pub(super) sections: BTreeMap<String, Source>,
    /// The file, for what is missing in it.
    pub(super) file: PathBuf,
    /// Whether the file could be read: only then a key that is not there is missing.
    pub(super) file_was_read: bool,
}

#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) value: toml::Value,
    pub(super) source: Source,
}

impl Written {
    /// Reads and merges all layers. What can't be read is told in `problems`; the rest is still merged.
    pub(super) fn read(
        file: &Path,
        environment: &[(String, String)],
        overrides: &[(String, String)],
        host_name: &str,
        problems: &mut Vec<Problem>,
    ) -> Self {
        let mut figment = Figment::new();
        let document = Document::read(file).map_err(|found| problems.extend(found)).ok();
        if let Some(document) = &document {
            figment = figment.merge(Layer::of(Metadata::from("file", file), &document.values));
        }
        for (variable, text) in environment {
            if let Some(path) = path_of_variable(variable) {
                let leaves = [(path, toml::Value::from(text.as_str()))];
                figment = figment.merge(Layer::of(Metadata::from("environment", variable.as_str()), &leaves));
            }
        }
        for (key, text) in overrides {
            let mut leaves = Vec::new();
            collect(key, value_of_flag(text), &mut leaves);
            figment = figment.merge(Layer::of(Metadata::named("flag"), &leaves));
        }
        let defaults = defaults(|group| names_in(&figment, group), host_name);
        figment = figment.join(Layer::of(Metadata::named("default"), &defaults));

        let lines = document.as_ref().map(|document| &document.lines);
        let mut written = Self { file: file.to_owned(), file_was_read: document.is_some(), ..Self::default() };
        if let Some(Value::Dict(_, root)) = figment.find_value("").ok().as_ref() {
            written.flatten("", root, &|value, path| source_of(&figment, value, path, lines));
        }
        written
    }

    fn flatten(&mut self, within: &str, table: &Dict, source: &impl Fn(&Value, &str) -> Source) {
        for (name, value) in table {
            let path = joined(within, name);
            let source_of_value = source(value, &path);
            match value {
                Value::Dict(_, below) => {
                    self.flatten(&path, below, source);
                    self.sections.insert(path, source_of_value);
                }
                _ => {
                    if let Ok(value) = toml::Value::try_from(value) {
                        let value = as_its_kind(&path, value, &source_of_value);
                        self.entries.insert(path, Entry { value, source: source_of_value });
                    }
                }
            }
        }
    }
}

/// One layer: every value of it has the same metadata.
struct Layer {
    metadata: Metadata,
    values: Dict,
}

impl Layer {
    fn of(metadata: Metadata, leaves: &[(String, toml::Value)]) -> Self {
        let mut values = Dict::new();
        for (path, value) in leaves {
            if let Ok(value) = Value::serialize(value) {
                insert(&mut values, &segments(path), value);
            }
        }
        Self { metadata, values }
    }
}

impl Provider for Layer {
    fn metadata(&self) -> Metadata {
        self.metadata.clone()
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        Ok(Map::from([(Profile::Default, self.values.clone())]))
    }
}

/// The parsed file.
struct Document {
    values: Vec<(String, toml::Value)>,
    /// The line of each key and section.
    lines: BTreeMap<String, usize>,
}

impl Document {
    fn read(path: &Path) -> Result<Self, Vec<Problem>> {
        let text = fs::read_to_string(path).map_err(|error| vec![unreadable(path, &error)])?;
        let (table, errors) = DeTable::parse_recoverable(&text);
        if !errors.is_empty() {
            return Err(errors.iter().map(|error| syntax_error(path, &text, error)).collect());
        }
        let mut lines = BTreeMap::new();
        collect_lines("", table.get_ref(), &text, &mut lines);
        let mut values = Vec::new();
        let table: toml::Table = text.parse().map_err(|error| vec![syntax_error(path, &text, &error)])?;
        for (name, value) in table {
            collect(&name, value, &mut values);
        }
        Ok(Self { values, lines })
    }
}

fn unreadable(path: &Path, error: &io::Error) -> Problem {
    let message = match error.kind() {
        io::ErrorKind::NotFound => "there is no such file; `alert-ips config --sample` prints one to begin with, \
                                    --config FILE names another place"
            .to_owned(),
        io::ErrorKind::PermissionDenied => "is not readable; let the daemon's user read it".to_owned(),
        io::ErrorKind::InvalidData => "is not UTF-8 text".to_owned(),
        _ => format!("can't be read: {error}"),
    };
    Problem { source: Source::File { path: path.to_owned(), line: None }, key: None, message }
}

/// Tells the place and what was expected there, not the line itself: it may hold a secret.
fn syntax_error(path: &Path, text: &str, error: &toml::de::Error) -> Problem {
    let before = text.get(..error.span().map_or(0, |span| span.start)).unwrap_or(text);
    let column = before.chars().rev().take_while(|&c| c != '\n').count() + 1;
    Problem {
        source: Source::File { path: path.to_owned(), line: Some(line_after(before)) },
        key: None,
        message: format!("column {column}: not valid TOML: {}", error.message().replace('\n', ", ")),
    }
}

fn line_after(before: &str) -> usize {
    before.matches('\n').count() + 1
}

fn collect_lines(within: &str, table: &DeTable<'_>, text: &str, lines: &mut BTreeMap<String, usize>) {
    for (key, value) in table {
        let path = joined(within, key.get_ref());
        lines.insert(path.clone(), line_after(text.get(..key.span().start).unwrap_or(text)));
        if let DeValue::Table(below) = value.get_ref() {
            collect_lines(&path, below, text, lines);
        }
    }
}

/// All values below `value` that are not tables, and the tables that are empty, with their paths.
fn collect(path: &str, value: toml::Value, leaves: &mut Vec<(String, toml::Value)>) {
    match value {
        toml::Value::Table(table) if !table.is_empty() => {
            for (name, value) in table {
                collect(&joined(path, &name), value, leaves);
            }
        }
        // An unquoted time is as good as a quoted one.
        toml::Value::Datetime(time) => leaves.push((path.to_owned(), toml::Value::String(time.to_string()))),
        value => leaves.push((path.to_owned(), value)),
    }
}

fn joined(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

/// The tables a path leads through. What follows `kafka.properties` is one name, dots and all.
fn segments(path: &str) -> Vec<&str> {
    match path.strip_prefix(KAFKA_PROPERTIES).and_then(|rest| rest.strip_prefix('.')) {
        Some(property) => KAFKA_PROPERTIES.split('.').chain([property]).collect(),
        None => path.split('.').collect(),
    }
}

fn insert(table: &mut Dict, segments: &[&str], value: Value) {
    match segments {
        [] => {}
        [name] => drop(table.insert((*name).to_owned(), value)),
        [name, rest @ ..] => {
            let below = table.entry((*name).to_owned()).or_insert_with(|| Value::from(Dict::new()));
            if below.as_dict().is_none() {
                *below = Value::from(Dict::new());
            }
            if let Value::Dict(_, below) = below {
                insert(below, rest, value);
            }
        }
    }
}

/// `ALERT_IPS_ACCOUNTS__CONTOSO__CLIENT_ID` is `accounts.contoso.client_id`. Among librdkafka's properties, none of
/// which has a `_` in its name, `_` stands for the dots.
fn path_of_variable(variable: &str) -> Option<String> {
    let path = variable.strip_prefix(PREFIX).filter(|rest| rest.contains("__"))?.to_lowercase().replace("__", ".");
    Some(match path.strip_prefix(KAFKA_PROPERTIES) {
        Some(property) => format!("{KAFKA_PROPERTIES}{}", property.replace('_', ".")),
        None => path,
    })
}

/// A flag's text is a TOML text, array or table; anything else is taken as it stands.
fn value_of_flag(text: &str) -> toml::Value {
    match text.parse() {
        Ok(value @ (toml::Value::String(_) | toml::Value::Array(_) | toml::Value::Table(_))) => value,
        _ => toml::Value::from(text),
    }
}

/// Text of the environment or of a flag, read as the kind of its key demands. What can't be read so stays text, and is
/// told by who reads the key.
fn as_its_kind(path: &str, value: toml::Value, source: &Source) -> toml::Value {
    let (toml::Value::String(text), Source::Environment { .. } | Source::Flag) = (&value, source) else {
        return value;
    };
    match keys::find(path).map(|key| key.kind) {
        Some(Kind::Number | Kind::Flag) => text.trim().parse().unwrap_or(value),
        Some(Kind::List) if text.trim_start().starts_with('[') => text.trim().parse().unwrap_or(value),
        Some(Kind::List) => toml::Value::Array(
            text.split(',').map(str::trim).filter(|item| !item.is_empty()).map(toml::Value::from).collect(),
        ),
        Some(Kind::Text) | None => value,
    }
}

/// The names of the sections directly below this one.
fn names_in(figment: &Figment, group: &str) -> Vec<String> {
    let below = figment.find_value(group).ok().and_then(Value::into_dict).unwrap_or_default();
    below.into_iter().filter(|(_, value)| value.as_dict().is_some()).map(|(name, _)| name).collect()
}

/// `names`: of the accounts or the outputs that there are.
fn defaults(names: impl Fn(&str) -> Vec<String>, host_name: &str) -> Vec<(String, toml::Value)> {
    let mut leaves = Vec::new();
    for key in KEYS {
        let value = match key.fallback {
            Fallback::Value(text) => parsed(text),
            Fallback::HostName => toml::Value::from(host_name),
            Fallback::Required(_) | Fallback::Environment => continue,
        };
        match key.group() {
            Some(group) => leaves.extend(names(group).iter().map(|name| (key.path_for(name), value.clone()))),
            None => leaves.push((key.path.to_owned(), value)),
        }
    }
    leaves
}

/// A value of the table of keys.
#[expect(clippy::expect_used, reason = "the texts are constants, and a test reads every one of them")]
pub(super) fn parsed(text: &'static str) -> toml::Value {
    text.parse().expect("defaults and examples are TOML values")
}

fn source_of(figment: &Figment, value: &Value, path: &str, lines: Option<&BTreeMap<String, usize>>) -> Source {
    let Some(metadata) = figment.get_metadata(value.tag()) else { return Source::Default };
    match (metadata.name.as_ref(), metadata.source.as_ref()) {
        ("file", Some(figment::Source::File(file))) => {
            Source::File { path: file.clone(), line: lines.and_then(|lines| lines.get(path)).copied() }
        }
        ("environment", Some(figment::Source::Custom(variable))) => Source::Environment { variable: variable.clone() },
        ("flag", _) => Source::Flag,
        _ => Source::Default,
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("ALERT_IPS_KAFKA__BOOTSTRAP_SERVERS", Some("kafka.bootstrap_servers"))]
    #[case("ALERT_IPS_ACCOUNTS__CONTOSO__CLIENT_ID", Some("accounts.contoso.client_id"))]
    #[case("ALERT_IPS_KAFKA__PROPERTIES__SASL_PASSWORD", Some("kafka.properties.sasl.password"))]
    #[case("ALERT_IPS_SERVICE_HOST", None)]
    #[case("KAFKA__BOOTSTRAP_SERVERS", None)]
    fn variables_name_keys(#[case] variable: &str, #[case] path: Option<&str>) {
        assert_eq!(path_of_variable(variable).as_deref(), path);
    }

    #[rstest]
    #[case("30s", "30s")]
    #[case("\"30s\"", "30s")]
    #[case("12", "12")]
    #[case("a = b", "a = b")]
    fn flags_may_leave_out_the_quotes(#[case] text: &str, #[case] value: &str) {
        assert_eq!(value_of_flag(text), toml::Value::from(value));
    }
}
