//! Configuration of the librdkafka clients. No other file names a librdkafka property.
//!
//! Three layers, the later wins: the daemon's defaults, the user's `[kafka.properties]`, and what the daemon owns
//! because its delivery promise rests on it.

use std::{fmt, time::Duration};

use rdkafka::{
    config::{ClientConfig, RDKafkaLogLevel},
    error::KafkaError,
};

use super::topic_ids::DEBUG_CONTEXT;

/// How many writes may wait in the producer at once; also the least room the channel for acknowledgements needs.
pub const MAX_UNACKNOWLEDGED: usize = 20_000;

/// How many entries of the journal may wait to be acknowledged at once.
pub(super) const MAX_UNACKNOWLEDGED_ENTRIES: usize = 2_000;

/// librdkafka's own default of the session timeout.
const DEFAULT_SESSION_TIMEOUT: Duration = Duration::from_secs(45);

/// A revoked partition is never held back longer than this, however long the session timeout is.
const MAX_SETTLE_LIMIT: Duration = Duration::from_secs(20);

/// Latency of a commit or write is dominated by the broker; memory by what is fetched ahead. The first four bound
/// the latter to about 4 MiB whatever waits in the topic; the short backoff keeps such a small queue fast.
const CONSUMER_DEFAULTS: &[(&str, &str)] = &[
    ("queued.max.messages.kbytes", "2048"),
    ("queued.min.messages", "2000"),
    ("fetch.max.bytes", "1048576"),
    ("max.partition.fetch.bytes", "262144"),
    ("fetch.queue.backoff.ms", "2"),
    // A resumed partition waits for the fetch that is under way without it.
    ("fetch.wait.max.ms", "100"),
];

/// Left out for `group.protocol=consumer`, where the broker assigns.
const CLASSIC_GROUP_DEFAULTS: &[(&str, &str)] = &[("partition.assignment.strategy", "cooperative-sticky")];

/// Commits are the dispatcher's alone; nothing uncommitted by a transaction is read; a place that is gone is an error, never
/// a silent jump to another. An end that is told shows that reading works where nothing is to be read.
const CONSUMER_OWNED: &[(&str, &str)] = &[
    ("enable.auto.commit", "false"),
    ("enable.auto.offset.store", "false"),
    ("enable.partition.eof", "true"),
    ("auto.offset.reset", "error"),
    ("isolation.level", "read_committed"),
];

const PRODUCER_DEFAULTS: &[(&str, &str)] = &[
    ("linger.ms", "2"),
    // Brokers limit the size of a batch, not of a record, and refuse all of it: small batches keep a topic with a
    // small limit usable. A record larger than this travels alone.
    ("batch.size", "65536"),
    ("queue.buffering.max.kbytes", "16384"),
    // The topic decides what is too large; librdkafka's own bound is below what topics take by default.
    ("message.max.bytes", "8388608"),
    // A topic that is missing is told after this time; one that was just created is known to all brokers before.
    ("topic.metadata.propagation.max.ms", "5000"),
    // As Java clients place a key, so that joins on the alert id work.
    ("partitioner", "murmur2_random"),
];

/// `message.timeout.ms = 0` is "for ever": a broker that is away must not turn into failed writes. A topic that does
/// not exist still fails its writes (after `topic.metadata.propagation.max.ms`), and so does a permanent error.
const PRODUCER_OWNED: &[(&str, &str)] = &[
    ("enable.idempotence", "true"),
    ("acks", "all"),
    ("message.timeout.ms", "0"),
    ("delivery.report.only.error", "false"),
];

/// Before this time librdkafka sends no request of a transaction twice: a fifth, by which it varies, less than
/// `retry.backoff.ms`, and half a second for the offsets, whatever is set (`rdkafka_txnmgr.c`).
pub(super) const RESENT_AFTER: Duration = Duration::from_millis(400);

/// As `PRODUCER_OWNED`, but nothing outlasts its transaction: the brokers end one that is open for so long (and until then
/// hide from `read_committed` readers what comes after it), and a write that is late must fail before.
const TRANSACTIONS_OWNED: &[(&str, &str)] = &[
    ("enable.idempotence", "true"),
    ("acks", "all"),
    ("message.timeout.ms", "20000"),
    ("transaction.timeout.ms", "30000"),
    // See `RESENT_AFTER`.
    ("retry.backoff.ms", "500"),
    ("retry.backoff.max.ms", "1000"),
    ("delivery.report.only.error", "false"),
];

/// One partition with small entries; memory is bounded to about 2 MiB. A failed fetch is tried again soon.
const JOURNAL_READER_DEFAULTS: &[(&str, &str)] = &[
    ("queued.max.messages.kbytes", "1024"),
    ("queued.min.messages", "2000"),
    ("fetch.max.bytes", "1048576"),
    ("max.partition.fetch.bytes", "262144"),
    ("fetch.queue.backoff.ms", "2"),
    ("fetch.error.backoff.ms", "100"),
    // A broker answers as soon as there is an entry. It waits this long where there is none, and then a change of place
    // waits too.
    ("fetch.wait.max.ms", "50"),
];

/// A position that is gone is an error, never a silent jump to another. Nothing transactional is written to the journal,
/// and a transaction that hangs must not hide it.
const JOURNAL_READER_OWNED: &[(&str, &str)] = &[
    ("enable.auto.commit", "false"),
    ("enable.auto.offset.store", "false"),
    ("enable.partition.eof", "true"),
    ("auto.offset.reset", "error"),
    ("isolation.level", "read_uncommitted"),
    // The user's tuning is for alerts.
    ("fetch.min.bytes", "1"),
    // By default a topic that is gone is not told while its client is younger than 30 s, and read on if it comes back.
    ("topic.metadata.propagation.max.ms", "1"),
];

const DEAD_LETTER_READER_OWNED: &[(&str, &str)] = &[
    ("enable.auto.commit", "false"),
    ("enable.auto.offset.store", "false"),
    ("enable.partition.eof", "true"),
    ("auto.offset.reset", "error"),
    ("isolation.level", "read_committed"),
    ("fetch.wait.max.ms", "50"),
];

const JOURNAL_WRITER_DEFAULTS: &[(&str, &str)] = &[
    ("batch.size", "65536"),
    ("queue.buffering.max.kbytes", "16384"),
    // The topic decides what is too large.
    ("message.max.bytes", "8388608"),
];

/// `message.timeout.ms` is set beside these: an entry that comes late is worth nothing.
const JOURNAL_WRITER_OWNED: &[(&str, &str)] =
    &[("enable.idempotence", "true"), ("acks", "all"), ("linger.ms", "0"), ("delivery.report.only.error", "false")];

/// A write that asks for two acknowledgements, which Kafka does not know: see [`KafkaConfig::journal_trial`]. An idempotent
/// producer can't ask so.
const JOURNAL_TRIAL_OWNED: &[(&str, &str)] =
    &[("enable.idempotence", "false"), ("acks", "2"), ("linger.ms", "0"), ("delivery.report.only.error", "false")];

const COMMON_DEFAULTS: &[(&str, &str)] = &[
    ("statistics.interval.ms", "5000"),
    // A missing topic that was created meanwhile, or a partition added, is noticed within this time.
    ("topic.metadata.refresh.interval.ms", "10000"),
    ("reconnect.backoff.max.ms", "5000"),
    ("socket.keepalive.enable", "true"),
    ("allow.auto.create.topics", "false"),
    ("log.connection.close", "false"),
];

/// Keys a user can't set as properties, and where the setting is instead.
const OWNED_ELSEWHERE: &[(&str, &str)] = &[
    ("bootstrap.servers", "set kafka.bootstrap_servers instead"),
    ("metadata.broker.list", "set kafka.bootstrap_servers instead"),
    ("group.id", "set kafka.group_id instead"),
    ("client.id", "it follows from the instance's name"),
    ("group.instance.id", "set instance.static_member instead; the id is the instance's name"),
    ("transactional.id", "it follows from the group and the instance's name"),
    ("transaction.timeout.ms", "it is 30 s, which is less than a session lasts"),
];

/// Other names of settings that the daemon owns. Set by both, librdkafka takes whichever comes last.
const OTHER_NAMES: &[(&str, &str)] =
    &[("delivery.timeout.ms", "message.timeout.ms"), ("request.required.acks", "acks")];

fn first_name(key: &str) -> &str {
    OTHER_NAMES.iter().find(|(other, _)| *other == key).map_or(key, |(_, first)| first)
}

/// How to reach the brokers, and as whom.
#[derive(Clone, PartialEq, Eq)]
pub struct KafkaConfig {
    /// `host:port`, comma-separated.
    pub bootstrap_servers: String,
    pub group_id: String,
    /// The user's librdkafka properties. Values may be secrets.
    pub properties: Vec<(String, String)>,
    /// Shown in broker logs and quotas.
    pub client_id: String,
    /// The name under which the group knows this instance, also after a restart.
    pub static_member: Option<String>,
}

impl fmt::Debug for KafkaConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let redacted: Vec<_> = self.properties.iter().map(|(key, _)| (key, "(redacted)")).collect();
        f.debug_struct("KafkaConfig")
            .field("bootstrap_servers", &self.bootstrap_servers)
            .field("group_id", &self.group_id)
            .field("properties", &redacted)
            .field("client_id", &self.client_id)
            .field("static_member", &self.static_member)
            .finish()
    }
}

/// A client could not be made of the configuration. It is permanent: no broker was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("kafka configuration is refused: {0}")]
pub struct InvalidKafkaConfig(String);

impl From<KafkaError> for InvalidKafkaConfig {
    fn from(error: KafkaError) -> Self {
        Self(match error {
            KafkaError::ClientConfig(_, problem, key, _) => format!("{key}: {}", without_secret(&key, problem)),
            KafkaError::ClientCreation(problem) => problem,
            other => other.to_string(),
        })
    }
}

impl KafkaConfig {
    /// With what is written compressed so: none, gzip, snappy, lz4 or zstd.
    #[must_use]
    pub fn compressing(mut self, compression: &str) -> Self {
        self.properties.push(("compression.type".to_owned(), compression.to_owned()));
        self
    }

    /// Half the session timeout, at most 20 s: so long a revoked partition waits for its last commit.
    pub(super) fn settle_limit(&self) -> Duration {
        let set = self.property("session.timeout.ms").and_then(|text| text.parse().ok()).map(Duration::from_millis);
        (set.unwrap_or(DEFAULT_SESSION_TIMEOUT) / 2).min(MAX_SETTLE_LIMIT)
    }

    /// Whether the group is of KIP-848's protocol.
    pub(super) fn broker_assigns(&self) -> bool {
        self.property("group.protocol").is_some_and(|value| value.eq_ignore_ascii_case("consumer"))
    }

    pub(super) fn consumer(&self) -> ClientConfig {
        let defaults = [CONSUMER_DEFAULTS, if self.broker_assigns() { &[] } else { CLASSIC_GROUP_DEFAULTS }].concat();
        let mut config = self.layered(&defaults, CONSUMER_OWNED);
        config.set("group.id", &self.group_id);
        config
    }

    /// A consumer that joins the group, and tells which topics its names stand for.
    pub(super) fn source(&self) -> ClientConfig {
        let mut config = self.consumer();
        if let Some(name) = &self.static_member {
            config.set("group.instance.id", name);
        }
        let wanted = self.property("debug").map_or_else(String::new, |contexts| format!("{contexts},"));
        config.set("debug", format!("{wanted}{DEBUG_CONTEXT}")).set_log_level(RDKafkaLogLevel::Debug);
        config
    }

    /// Whether the user wants librdkafka's debug log.
    pub(super) fn is_verbose(&self) -> bool {
        self.property("debug").is_some()
    }

    pub(super) fn producer(&self) -> ClientConfig {
        let mut config = self.layered(PRODUCER_DEFAULTS, PRODUCER_OWNED);
        config.set("queue.buffering.max.messages", MAX_UNACKNOWLEDGED.to_string());
        config
    }

    /// `name`: its `transactional.id`.
    pub(super) fn transactional_producer(&self, name: &str) -> ClientConfig {
        let mut config = self.layered(PRODUCER_DEFAULTS, TRANSACTIONS_OWNED);
        config.set("queue.buffering.max.messages", MAX_UNACKNOWLEDGED.to_string());
        config.set("transactional.id", name);
        config
    }

    /// Reads one partition of the journal by itself: it joins no group and commits nothing. librdkafka wants a group's
    /// name all the same; the daemon's own needs no further right.
    pub(super) fn journal_reader(&self) -> ClientConfig {
        let mut config = self.layered(JOURNAL_READER_DEFAULTS, JOURNAL_READER_OWNED);
        config.set("group.id", &self.group_id);
        config
    }

    /// `give_up_after`: so long an entry is tried to be appended.
    pub(super) fn journal_writer(&self, give_up_after: Duration) -> ClientConfig {
        let mut config = self.layered(JOURNAL_WRITER_DEFAULTS, JOURNAL_WRITER_OWNED);
        config.set("message.timeout.ms", give_up_after.as_millis().max(1).to_string());
        config.set("queue.buffering.max.messages", MAX_UNACKNOWLEDGED_ENTRIES.to_string());
        config
    }

    /// Writes what a broker refuses, but only after it has looked whether the writer has the right: so the right is
    /// shown and the topic stays as it is.
    pub(super) fn journal_trial(&self, give_up_after: Duration) -> ClientConfig {
        let mut config = self.layered(&[], JOURNAL_TRIAL_OWNED);
        config.set("message.timeout.ms", give_up_after.as_millis().max(1).to_string());
        config
    }

    /// Reads the dead letters from end to end: it joins no group, and commits only what it is told to.
    pub(super) fn dead_letter_reader(&self) -> ClientConfig {
        let mut config = self.layered(&[], DEAD_LETTER_READER_OWNED);
        config.set("group.id", &self.group_id);
        config
    }

    /// Somebody waits for what it sends.
    pub(super) fn replay_producer(&self) -> ClientConfig {
        let mut config = self.layered(PRODUCER_DEFAULTS, PRODUCER_OWNED);
        config.set("message.timeout.ms", "60000");
        config
    }

    /// For questions about the cluster; joins no group.
    pub(super) fn admin(&self) -> ClientConfig {
        let mut config = self.layered(&[], &[]);
        config.set("statistics.interval.ms", "0");
        config
    }

    fn layered(&self, defaults: &[(&str, &str)], owned: &[(&str, &str)]) -> ClientConfig {
        let mut config = ClientConfig::new();
        for (key, value) in COMMON_DEFAULTS.iter().chain(defaults) {
            config.set(*key, *value);
        }
        if self.wants_system_certificates() {
            // The OpenSSL that is linked in does not know where this distribution keeps its certificates.
            config.set("ssl.ca.location", "probe");
        }
        for (key, value) in &self.properties {
            config.set(first_name(key), value);
        }
        for (key, value) in owned {
            config.set(*key, *value);
        }
        config.set("bootstrap.servers", &self.bootstrap_servers).set("client.id", &self.client_id);
        config.set_log_level(if self.is_verbose() { RDKafkaLogLevel::Debug } else { RDKafkaLogLevel::Info });
        config
    }

    fn wants_system_certificates(&self) -> bool {
        let tls = ["ssl", "sasl_ssl"];
        let encrypted = self
            .property("security.protocol")
            .is_some_and(|protocol| tls.iter().any(|name| name.eq_ignore_ascii_case(protocol)));
        encrypted && ["ssl.ca.location", "ssl.ca.pem"].iter().all(|key| self.property(key).is_none())
    }

    fn property(&self, key: &str) -> Option<&str> {
        self.properties.iter().rev().find(|(name, _)| name == key).map(|(_, value)| value.as_str())
    }
}

/// What is wrong with one of the user's properties, found without asking a broker. Never repeats a secret's value.
pub fn property_problem(key: &str, value: &str) -> Option<String> {
    if let Some((_, instead)) = OWNED_ELSEWHERE.iter().find(|(name, _)| *name == key) {
        return Some(format!("it can't be set here; {instead}"));
    }
    if let Some((_, fixed)) = CONSUMER_OWNED.iter().chain(PRODUCER_OWNED).find(|(name, _)| *name == first_name(key)) {
        let problem = || format!("it must stay {fixed}, else alerts could get lost or doubled; remove the line");
        return (value != *fixed).then(problem);
    }
    match ClientConfig::new().set(key, value).create_native_config() {
        Ok(_) => None,
        Err(KafkaError::ClientConfig(_, text, ..)) => Some(without_secret(key, text)),
        Err(other) => Some(without_secret(key, other.to_string())),
    }
}

/// librdkafka repeats a refused value in its words.
fn without_secret(key: &str, problem: String) -> String {
    let secret = ["password", "secret", "pem", "key", "token", "config"].iter().any(|word| key.contains(word));
    if secret { "the value is refused".to_owned() } else { problem }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn config(properties: &[(&str, &str)]) -> KafkaConfig {
        KafkaConfig {
            bootstrap_servers: "localhost:9092".into(),
            group_id: "alert-ips".into(),
            properties: properties.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect(),
            client_id: "host-1".into(),
            static_member: None,
        }
    }

    #[test]
    fn secrets_are_in_no_debug_text() {
        let text = format!("{:?}", config(&[("sasl.password", "hunter2")]));
        assert!(text.contains("sasl.password") && !text.contains("hunter2"), "{text}");
    }

    #[rstest]
    #[case::unknown("no.such.property", "1")]
    #[case::wrong_value("session.timeout.ms", "soon")]
    #[case::elsewhere("group.id", "other")]
    #[case::of_transactions("transaction.timeout.ms", "60000")]
    #[case::owned("enable.auto.commit", "true")]
    #[case::owned_by_the_producer("acks", "1")]
    #[case::owned_by_another_name("delivery.timeout.ms", "1000")]
    fn properties_that_cannot_work_are_refused(#[case] key: &str, #[case] value: &str) {
        assert!(property_problem(key, value).is_some());
    }

    #[rstest]
    #[case::same_as_owned("acks", "all")]
    #[case::same_by_another_name("request.required.acks", "all")]
    #[case::security("security.protocol", "SASL_SSL")]
    #[case::tuning("linger.ms", "50")]
    fn properties_that_work_are_accepted(#[case] key: &str, #[case] value: &str) {
        assert_eq!(property_problem(key, value), None);
    }

    #[test]
    fn owned_settings_win_over_the_users_and_the_users_over_the_defaults() {
        let config = config(&[("acks", "1"), ("linger.ms", "50")]).producer();
        assert_eq!((config.get("acks"), config.get("linger.ms")), (Some("all"), Some("50")));
    }

    #[test]
    fn what_is_tuned_for_alerts_does_not_slow_the_journal_and_its_timeout_is_its_own() {
        let tuned = [("linger.ms", "500"), ("fetch.min.bytes", "100000"), ("delivery.timeout.ms", "600000")];
        let config = config(&tuned);
        let (reader, writer) = (config.journal_reader(), config.journal_writer(Duration::from_secs(10)));
        assert!(config.journal_trial(Duration::from_secs(10)).create_native_config().is_ok());
        assert_eq!((writer.get("linger.ms"), reader.get("fetch.min.bytes")), (Some("0"), Some("1")));
        assert_eq!((writer.get("message.timeout.ms"), writer.get("delivery.timeout.ms")), (Some("10000"), None));
        assert!(reader.create_native_config().is_ok() && writer.create_native_config().is_ok());
    }

    #[rstest]
    #[case::tls(&[("security.protocol", "SASL_SSL")], Some("probe"))]
    #[case::own_certificates(&[("security.protocol", "ssl"), ("ssl.ca.location", "/ca.pem")], Some("/ca.pem"))]
    #[case::plain(&[], None)]
    fn tls_finds_the_systems_certificates(#[case] properties: &[(&str, &str)], #[case] expected: Option<&str>) {
        assert_eq!(config(properties).consumer().get("ssl.ca.location"), expected);
    }

    #[test]
    fn the_broker_assigns_under_the_consumer_protocol() {
        let config = config(&[("group.protocol", "consumer")]).consumer();
        assert_eq!(config.get("partition.assignment.strategy"), None);
        assert!(config.create_native_config().is_ok());
    }

    #[rstest]
    #[case::default(&[], 20)]
    #[case::short(&[("session.timeout.ms", "10000")], 5)]
    #[case::long(&[("session.timeout.ms", "300000")], 20)]
    fn revoked_partitions_wait_at_most_half_a_session(#[case] properties: &[(&str, &str)], #[case] seconds: u64) {
        assert_eq!(config(properties).settle_limit(), Duration::from_secs(seconds));
    }
}
