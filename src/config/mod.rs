//! The configuration: TOML file, environment and flags, read into [`Settings`] that are valid by construction.
//!
//! Every problem is found at once, each with its place, so that one look at `alert-ips check` is enough. What keys there
//! are is written down once, in `keys`.

mod account;
mod file;
mod input;
mod kafka;
mod keys;
mod output;
mod problem;
mod reader;
mod registry;
mod sample;
mod secret;
mod settings;
#[cfg(test)]
mod tests;
mod unknown;
mod value;

use std::fmt::Write as _;

pub use self::{
    account::AccountSettings,
    input::{Input, Start},
    kafka::{KafkaProperties, KafkaSettings, Topics},
    problem::{Problem, Problems, Source},
    registry::Registry as SchemaRegistry,
    sample::sample,
    secret::{Secret, SecretError},
    settings::{
        Admin, Compression, DEFAULT_PATH, Delivery, Http, Instance, Journal, JournalKind, Log, LogFormat, LogLevel,
        NotFound, Patience, Priority, Publishing, Retry, Reuse, Settings,
    },
};

/// A configuration without problems, but perhaps without secrets.
#[derive(Clone, Debug)]
pub struct Loaded {
    pub settings: Settings,
    /// What is accepted, but may surprise.
    pub warnings: Vec<Problem>,
    /// Secrets that can't be read. Only what signs in needs them.
    pub unusable_secrets: Option<Problems>,
    /// Every value that holds, in the order of the sample file.
    pub effective: Vec<Effective>,
}

/// One value that holds, and where it comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Effective {
    pub key: String,
    /// As TOML; `(secret)` for a secret.
    pub value: String,
    pub source: Source,
}

/// `key = value   # source`, one line for each value, the sources below each other.
pub fn render_effective(loaded: &Loaded) -> String {
    /// A longer value does not push the other sources away.
    const WIDEST: usize = 72;
    let lines: Vec<String> =
        loaded.effective.iter().map(|Effective { key, value, .. }| format!("{key} = {value}")).collect();
    let width = lines.iter().map(|line| line.chars().count()).filter(|width| *width <= WIDEST).max().unwrap_or(0);
    let mut text = String::new();
    for (line, Effective { source, .. }) in lines.iter().zip(&loaded.effective) {
        // Writing to a string can't fail.
        let _ = writeln!(text, "{line:width$}  # {source}");
    }
    text
}
