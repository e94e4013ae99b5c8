//! The settings, valid by construction: what is here can be used without a further look.

use std::{
    net::SocketAddr,
    num::NonZeroU32,
    path::{Path, PathBuf},
    time::Duration,
};

use url::Url;

use super::{
    Loaded,
    account::{self, AccountSettings},
    file::Written,
    input::{self, Input},
    kafka::{self, KafkaSettings, Topics},
    output,
    problem::Problems,
    reader::{Findings, Reader},
    value::{self, Least},
};
use crate::domain::{alert::Severity, filter::Filter, output::Output};

/// Where the configuration is looked for if no other place is named.
pub const DEFAULT_PATH: &str = "/etc/alert-ips/alert-ips.toml";

/// The whole configuration, by component.
#[derive(Clone, Debug)]
pub struct Settings {
    pub kafka: KafkaSettings,
    pub topics: Topics,
    pub instance: Instance,
    pub input: Input,
    pub filter: Filter,
    pub output: Publishing,
    pub journal: Journal,
    /// By name; at least one, each with a tenant of its own.
    pub accounts: Vec<AccountSettings>,
    pub priority: Priority,
    pub reuse: Reuse,
    pub not_found: NotFound,
    pub http: Http,
    pub retry: Retry,
    pub admin: Admin,
    pub log: Log,
}

/// This process among its siblings.
#[derive(Clone, Debug)]
pub struct Instance {
    pub name: String,
    /// Whether its group knows it by its name, also after a restart.
    pub static_member: bool,
}

/// How outcomes are published.
#[derive(Clone, Debug)]
pub struct Publishing {
    pub delivery: Delivery,
    pub compression: Compression,
    /// In the order of their topics.
    pub outputs: Vec<Output>,
}

/// How batches are compressed on their way to the brokers, and there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    None,
    Gzip,
    Snappy,
    Lz4,
    Zstd,
}

impl Compression {
    const ALL: [Self; 5] = [Self::None, Self::Gzip, Self::Snappy, Self::Lz4, Self::Zstd];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Snappy => "snappy",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        }
    }
}

/// What a crash may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// Nothing lost, some repeated.
    AtLeastOnce,
    /// Nothing lost, and nothing repeated for readers of what is committed.
    ExactlyOnce,
}

impl Delivery {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::AtLeastOnce => "at-least-once",
            Self::ExactlyOnce => "exactly-once",
        }
    }
}

/// Where calls are written down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Journal {
    pub kind: JournalKind,
    /// Go on where the broker does not tell the topic's settings.
    pub assume_settings: bool,
}

/// Who knows what was spent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JournalKind {
    /// All instances, also after a restart.
    Kafka,
    /// This process, while it lives.
    Memory,
}

/// Which lookup gets the next permit.
#[derive(Clone, Debug)]
pub struct Priority {
    pub patience: Patience,
    /// The part of each limit that only High may use, from 0 to 0.5.
    pub reserve: f64,
}

/// How long a lookup may wait before it goes ahead of more severe ones that arrived later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience([Duration; Severity::ALL.len()]);

impl Patience {
    pub const fn of(&self, severity: Severity) -> Duration {
        self.0[severity as usize]
    }
}

/// Which answers are good for a further lookup.
#[derive(Clone, Debug)]
pub struct Reuse {
    /// Zero: none, where the alert's last update is not known.
    pub reuse_for: Duration,
    /// Answers kept for an account.
    pub max_answers: usize,
}

/// What a 404 leads to.
#[derive(Clone, Debug)]
pub struct NotFound {
    /// The waits between the questions; then the outcome is `not_found`.
    pub reask_after: Vec<Duration>,
    /// Only younger alerts, and those of unknown age, are asked about again.
    pub young_for: Duration,
}

/// Calls to the service and its sign-in.
#[derive(Clone, Debug)]
pub struct Http {
    pub connect_timeout: Duration,
    /// Until the head of the answer is there.
    pub head_timeout: Duration,
    /// Until the whole answer is there; not less than `head_timeout`.
    pub total_timeout: Duration,
    /// http or https.
    pub proxy: Option<Url>,
    /// A readable PEM file.
    pub ca_file: Option<PathBuf>,
}

/// What failed and is tried again.
#[derive(Clone, Debug)]
pub struct Retry {
    pub first: Duration,
    /// Not less than `first`.
    pub longest: Duration,
    /// A lookup that failed for so long while others were answered is a dead letter.
    pub poison_after: Duration,
    /// So many malformed answers to one lookup make it a dead letter.
    pub bad_response_attempts: NonZeroU32,
}

/// Health, metrics and status over HTTP.
#[derive(Clone, Debug)]
pub struct Admin {
    /// `None`: switched off.
    pub listen: Option<SocketAddr>,
}

/// The log.
#[derive(Clone, Debug)]
pub struct Log {
    pub level: LogLevel,
    pub format: LogFormat,
}

/// The least important events that are logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogLevel {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

impl LogLevel {
    /// As written in the configuration.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

/// The form of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// Text on a terminal, JSON elsewhere.
    Auto,
    Text,
    Json,
}

impl Settings {
    /// Reads the file at `path` (or [`DEFAULT_PATH`]), `environment` and `overrides`, the later before the earlier.
    ///
    /// `overrides` are keys and values as from `--set KEY=VALUE`. Of `environment`, variables that begin with
    /// `ALERT_IPS_` and hold a `__` count, and `CREDENTIALS_DIRECTORY`. Files with secrets are read once, to see that
    /// they can be. `property_problem` says what is wrong with the name and value of a librdkafka property: only
    /// librdkafka knows.
    ///
    /// # Errors
    /// Everything that is wrong, not only the first.
    pub fn load(
        path: Option<&Path>,
        overrides: &[(String, String)],
        environment: impl IntoIterator<Item = (String, String)>,
        property_problem: impl Fn(&str, &str) -> Option<String>,
    ) -> Result<Loaded, Problems> {
        let path = path.unwrap_or(Path::new(DEFAULT_PATH));
        let mut environment: Vec<_> = environment.into_iter().collect();
        environment.sort();
        let credentials = environment.iter().find(|(name, _)| name == "CREDENTIALS_DIRECTORY").map(|(_, value)| value);
        let uname = rustix::system::uname();
        let host_name = uname.nodename().to_string_lossy();

        let mut problems = Vec::new();
        let written = Written::read(path, &environment, overrides, &host_name, &mut problems);
        let mut reader = Reader::new(written, problems);
        let settings = Self::read(&mut reader, credentials.map(Path::new), property_problem);
        let effective = reader.effective();
        let Findings { mut problems, warnings, unusable_secrets } = reader.into_findings();
        if !problems.is_empty() {
            problems.extend(unusable_secrets);
            return Err(Problems::of(problems));
        }
        let unusable_secrets = (!unusable_secrets.is_empty()).then(|| Problems::of(unusable_secrets));
        Ok(Loaded { settings, warnings, unusable_secrets, effective })
    }

    fn read(
        reader: &mut Reader,
        credentials: Option<&Path>,
        property_problem: impl Fn(&str, &str) -> Option<String>,
    ) -> Self {
        let priority = read_priority(reader);
        let settings = Self {
            kafka: kafka::read(reader, property_problem),
            topics: kafka::read_topics(reader),
            instance: read_instance(reader),
            input: input::read(reader, credentials),
            filter: input::read_filter(reader),
            output: read_output(reader),
            journal: read_journal(reader),
            accounts: account::read_all(reader, priority.reserve, credentials),
            priority,
            reuse: read_reuse(reader),
            not_found: read_not_found(reader),
            http: read_http(reader),
            retry: read_retry(reader),
            admin: read_admin(reader),
            log: read_log(reader),
        };
        settings.warn_of_event_hubs(reader);
        settings
    }

    /// What Azure Event Hubs takes only in some of its tiers, if at all.
    fn warn_of_event_hubs(&self, reader: &mut Reader) {
        if !self.kafka.bootstrap_servers.contains(".servicebus.") {
            return;
        }
        let Publishing { compression, delivery, .. } = &self.output;
        if !matches!(compression, Compression::None | Compression::Gzip) {
            let message = format!(
                "{} is not taken by Event Hubs; write none, or gzip on Premium and Dedicated",
                compression.as_str()
            );
            reader.problem("output.compression", message);
        }
        if *delivery == Delivery::ExactlyOnce {
            let message = "needs transactions, which Event Hubs has as a preview on Premium and Dedicated alone";
            reader.warning("output.delivery", message);
        }
        if self.input.max_commit_metadata > 1024 {
            reader.warning(
                "input.max_commit_metadata",
                "is more than the 1024 bytes that Event Hubs takes with a commit",
            );
        }
    }
}

const MILLISECOND: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
pub(super) const MINUTE: Duration = Duration::from_mins(1);
pub(super) const HOUR: Duration = Duration::from_hours(1);
pub(super) const DAY: Duration = Duration::from_hours(24);

fn read_instance(reader: &mut Reader) -> Instance {
    let accepted = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    Instance {
        name: reader.read("instance.name", value::name(200, accepted, "a-z A-Z 0-9 . _ -")),
        static_member: reader.read("instance.static_member", value::flag),
    }
}

fn read_output(reader: &mut Reader) -> Publishing {
    let deliveries = [Delivery::AtLeastOnce, Delivery::ExactlyOnce].map(|delivery| (delivery.as_str(), delivery));
    let compressions = Compression::ALL.map(|compression| (compression.as_str(), compression));
    Publishing {
        compression: reader.read("output.compression", value::choice(&compressions)),
        delivery: reader.read("output.delivery", value::choice(&deliveries)),
        outputs: output::read_all(reader),
    }
}

fn read_journal(reader: &mut Reader) -> Journal {
    let kinds = [("kafka", JournalKind::Kafka), ("memory", JournalKind::Memory)];
    Journal {
        kind: reader.read("journal.kind", value::choice(&kinds)),
        assume_settings: reader.read("journal.assume_settings", value::flag),
    }
}

fn read_priority(reader: &mut Reader) -> Priority {
    Priority {
        patience: Patience(Severity::ALL.map(|severity| {
            reader.read(&format!("priority.patience.{severity}"), value::duration(Duration::ZERO..=30 * DAY))
        })),
        reserve: reader.read("priority.reserve", value::fraction(Least::Zero, 0.5)),
    }
}

fn read_reuse(reader: &mut Reader) -> Reuse {
    Reuse {
        reuse_for: reader.read("reuse.reuse_for", value::duration(Duration::ZERO..=30 * DAY)),
        max_answers: reader.read("reuse.max_answers", value::whole(0..=10_000_000)) as usize,
    }
}

fn read_not_found(reader: &mut Reader) -> NotFound {
    NotFound {
        reask_after: reader.read("not_found.reask_after", value::list(10, value::duration(SECOND..=DAY))),
        young_for: reader.read("not_found.young_for", value::duration(Duration::ZERO..=3650 * DAY)),
    }
}

fn read_http(reader: &mut Reader) -> Http {
    let timeout = || value::duration(100 * MILLISECOND..=10 * MINUTE);
    let http = Http {
        connect_timeout: reader.read("http.connect_timeout", timeout()),
        head_timeout: reader.read("http.head_timeout", timeout()),
        total_timeout: reader.read("http.total_timeout", timeout()),
        proxy: reader.read("http.proxy", value::proxy),
        ca_file: read_ca_file(reader, "http.ca_file"),
    };
    refuse_less(reader, ("http.total_timeout", http.total_timeout), ("http.head_timeout", http.head_timeout));
    http
}

pub(super) fn read_ca_file(reader: &mut Reader, key: &str) -> Option<PathBuf> {
    let text = reader.read(key, value::text);
    if text.is_empty() {
        return None;
    }
    let path = reader.folder(key).join(text);
    if let Err(error) = std::fs::File::open(&path) {
        reader.problem(key, format!("file {} can't be read: {error}", path.display()));
    }
    Some(path)
}

fn read_retry(reader: &mut Reader) -> Retry {
    let attempts = reader.read("retry.bad_response_attempts", value::whole(1..=1000));
    let retry = Retry {
        first: reader.read("retry.first", value::duration(10 * MILLISECOND..=HOUR)),
        longest: reader.read("retry.longest", value::duration(10 * MILLISECOND..=DAY)),
        poison_after: reader.read("retry.poison_after", value::duration(MINUTE..=365 * DAY)),
        bad_response_attempts: NonZeroU32::new(attempts).unwrap_or(NonZeroU32::MIN),
    };
    refuse_less(reader, ("retry.longest", retry.longest), ("retry.first", retry.first));
    retry
}

/// A problem at `path` where its duration is less than that of `least`.
fn refuse_less(reader: &mut Reader, path: (&str, Duration), least: (&str, Duration)) {
    if path.1 < least.1 && reader.is_sound(&[path.0, least.0]) {
        let [duration, minimum] = [path.1, least.1].map(value::short);
        reader.problem(path.0, format!("{duration} is less than {} ({minimum}); make it at least as long", least.0));
    }
}

fn read_admin(reader: &mut Reader) -> Admin {
    const PATH: &str = "admin.listen";
    let listen = reader.read(PATH, value::listen);
    if let Some(address) = listen.filter(|address| !address.ip().to_canonical().is_loopback()) {
        let message = format!("{address} is reachable from other hosts, and there is no access control");
        reader.warning(PATH, message);
    }
    Admin { listen }
}

fn read_log(reader: &mut Reader) -> Log {
    let levels = [
        ("error", LogLevel::Error),
        ("warn", LogLevel::Warn),
        ("info", LogLevel::Info),
        ("debug", LogLevel::Debug),
        ("trace", LogLevel::Trace),
    ];
    let formats = [("auto", LogFormat::Auto), ("text", LogFormat::Text), ("json", LogFormat::Json)];
    Log {
        level: reader.read("log.level", value::choice(&levels)),
        format: reader.read("log.format", value::choice(&formats)),
    }
}
