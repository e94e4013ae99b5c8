//! Reads keys one by one, so that every problem is found, not only the first.

use std::{
    collections::BTreeSet,
    fmt,
    path::{Path, PathBuf},
};

use super::{
    Effective,
    file::{Entry, Written, parsed},
    keys::{self, Fallback, KAFKA_PROPERTIES, KEYS},
    problem::{Problem, Source},
    unknown,
};

/// Hands out typed values and collects what is wrong with them.
///
/// A key that can't be read counts as a problem and stands for its default (or, where it has none, its example) from
/// there on, so that reading goes on; what is built so is never handed out.
#[derive(Debug)]
pub(super) struct Reader {
    written: Written,
    problems: Vec<Problem>,
    warnings: Vec<Problem>,
    unusable_secrets: Vec<Problem>,
    troubled: BTreeSet<String>,
}

/// Everything that was found.
#[derive(Debug)]
pub(super) struct Findings {
    pub(super) problems: Vec<Problem>,
    pub(super) warnings: Vec<Problem>,
    pub(super) unusable_secrets: Vec<Problem>,
}

impl Reader {
    pub(super) fn new(written: Written, mut problems: Vec<Problem>) -> Self {
        problems.extend(unknown::find(&written));
        let (warnings, unusable_secrets) = (Vec::new(), Vec::new());
        Self { written, problems, warnings, unusable_secrets, troubled: BTreeSet::new() }
    }

    /// The value of a key that has a default or must be written.
    pub(super) fn read<T>(&mut self, path: &str, parse: impl Fn(&toml::Value) -> Result<T, String>) -> T {
        match self.written.entries.get(path).map(|entry| parse(&entry.value)) {
            Some(Ok(value)) => return value,
            Some(Err(message)) => self.problem(path, message),
            // That it is a section has been told.
            None if self.written.sections.contains_key(path) => {}
            None if self.written.file_was_read => self.problem(path, format!("is missing; {}", example(path))),
            None => {}
        }
        stand_in(path, parse)
    }

    /// What is written, as text, for a key without a default.
    pub(super) fn text_if_written(&self, path: &str) -> Option<&str> {
        self.written.entries.get(path)?.value.as_str()
    }

    /// The names of the sections directly below this one.
    pub(super) fn names_in(&self, group: &str) -> Vec<String> {
        let below = |path: &String| path.strip_prefix(group)?.strip_prefix('.').map(str::to_owned);
        self.written.sections.keys().filter_map(below).filter(|name| !name.contains('.')).collect()
    }

    /// The properties of librdkafka that are written, with their values.
    pub(super) fn kafka_properties(&self) -> Vec<(String, toml::Value)> {
        let entry = |(path, entry): (&String, &Entry)| Some((property(path)?.to_owned(), entry.value.clone()));
        self.written.entries.iter().filter_map(entry).collect()
    }

    /// Where the value of `path` comes from; for a key that is not written, the file.
    pub(super) fn source(&self, path: &str) -> Source {
        let written = self.written.entries.get(path).map(|entry| &entry.source);
        written.or_else(|| self.written.sections.get(path)).cloned().unwrap_or_else(|| self.file())
    }

    fn file(&self) -> Source {
        Source::File { path: self.written.file.clone(), line: None }
    }

    /// The folder at which a relative path that is written at `path` begins: that of the file it is written in, or,
    /// for the environment and flags, the working directory.
    pub(super) fn folder(&self, path: &str) -> PathBuf {
        match self.source(path) {
            Source::File { path, .. } => path.parent().map(Path::to_owned).unwrap_or_default(),
            Source::Default | Source::Environment { .. } | Source::Flag => PathBuf::new(),
        }
    }

    pub(super) fn problem(&mut self, path: &str, message: impl fmt::Display) {
        self.troubled.insert(path.to_owned());
        self.problems.push(self.note(path, message));
    }

    /// As `problem`, unless the file could not be read: then nothing is said about what it may hold.
    pub(super) fn missing(&mut self, path: &str, message: impl fmt::Display) {
        if self.written.file_was_read {
            self.problem(path, message);
        }
    }

    pub(super) fn warning(&mut self, path: &str, message: impl fmt::Display) {
        self.warnings.push(self.note(path, message));
    }

    /// A problem for those alone who need the secret named at `path`.
    pub(super) fn unusable_secret(&mut self, path: &str, message: impl fmt::Display) {
        self.unusable_secrets.push(self.note(path, message));
    }

    fn note(&self, path: &str, message: impl fmt::Display) -> Problem {
        Problem { source: self.source(path), key: Some(path.to_owned()), message: message.to_string() }
    }

    /// Whether every one of `paths` was read without a problem: only then it makes sense to compare them.
    pub(super) fn is_sound(&self, paths: &[&str]) -> bool {
        paths.iter().all(|path| !self.troubled.contains(*path))
    }

    /// Every value that holds, in the order of the sample file.
    pub(super) fn effective(&self) -> Vec<Effective> {
        let mut paths: Vec<String> = Vec::new();
        for section in keys::SECTIONS {
            let keys = || KEYS.iter().filter(|key| key.section() == section.path);
            match section.path {
                KAFKA_PROPERTIES => {
                    paths.extend(self.written.entries.keys().filter(|path| property(path).is_some()).cloned());
                }
                path if path.ends_with(".*") => {
                    let names = self.names_in(path.trim_end_matches(".*"));
                    paths.extend(names.iter().flat_map(|name| keys().map(|key| key.path_for(name))));
                }
                _ => paths.extend(keys().map(|key| key.path.to_owned())),
            }
        }
        paths.into_iter().filter_map(|path| self.effective_value(path)).collect()
    }

    fn effective_value(&self, path: String) -> Option<Effective> {
        let entry = self.written.entries.get(&path)?;
        let secret = match property(&path) {
            Some(name) => super::kafka::is_secret(name),
            None => keys::find(&path).is_some_and(|key| key.fallback == Fallback::Environment),
        };
        let value = if secret { "(secret)".to_owned() } else { entry.value.to_string() };
        Some(Effective { key: path, value, source: entry.source.clone() })
    }

    pub(super) fn into_findings(self) -> Findings {
        let Self { problems, warnings, unusable_secrets, .. } = self;
        Findings { problems, warnings, unusable_secrets }
    }
}

/// The name of the librdkafka property that is written at `path`.
fn property(path: &str) -> Option<&str> {
    path.strip_prefix(KAFKA_PROPERTIES)?.strip_prefix('.')
}

/// "for example" and the example of a key that must be written.
pub(super) fn example(path: &str) -> String {
    match keys::find(path).map(|key| key.fallback) {
        Some(Fallback::Required(example) | Fallback::Value(example)) => format!("for example {example}"),
        Some(Fallback::HostName | Fallback::Environment) | None => "write it".to_owned(),
    }
}

#[expect(clippy::expect_used, reason = "the texts are constants, and a test reads every one of them")]
fn stand_in<T>(path: &str, parse: impl Fn(&toml::Value) -> Result<T, String>) -> T {
    let value = match keys::find(path).map(|key| key.fallback) {
        Some(Fallback::Value(text) | Fallback::Required(text)) => parsed(text),
        Some(Fallback::HostName | Fallback::Environment) | None => toml::Value::from("host-1"),
    };
    parse(&value).expect("defaults and examples are valid")
}
