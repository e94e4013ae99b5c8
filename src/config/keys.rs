//! Every key there is, once: its default, how it is written, what it means.
//!
//! Defaults, the search for unknown keys, the sample file and the listing of effective values all come from here.

/// One key.
#[derive(Debug)]
pub(super) struct Key {
    /// Section and name, joined by dots; `*` stands for the name of an account or an output.
    pub(super) path: &'static str,
    pub(super) kind: Kind,
    pub(super) fallback: Fallback,
    /// For the person who fills it in; its lines become comments of the sample file.
    pub(super) doc: &'static str,
}

/// How the text of an environment variable or a flag is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// As it is.
    Text,
    /// As a TOML number.
    Number,
    /// As true or false.
    Flag,
    /// As a TOML array, or as items separated by commas.
    List,
}

/// What counts where a key is not written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fallback {
    /// This TOML value.
    Value(&'static str),
    /// The host's name.
    HostName,
    /// Nothing: it must be written. The text is an example.
    Required(&'static str),
    /// Nothing; and it is accepted from the environment alone.
    Environment,
}

/// The section whose keys are librdkafka's own, which are not listed here.
pub(super) const KAFKA_PROPERTIES: &str = "kafka.properties";

/// The section that has a section for each account.
pub(super) const ACCOUNTS: &str = "accounts";

/// The section that has a section for each further output.
pub(super) const OUTPUTS: &str = "outputs";

/// The sections in which the operator names those below.
pub(super) const NAMED: [&str; 2] = [ACCOUNTS, OUTPUTS];

impl Key {
    /// The section it stands in: everything before the name, but for keys that group names below one (`patience.high`).
    pub(super) fn section(&self) -> &'static str {
        let depth = if self.group().is_some() { 2 } else { 1 };
        let end = self.path.match_indices('.').nth(depth - 1).map_or(self.path.len(), |(at, _)| at);
        &self.path[..end]
    }

    /// Its name within its section.
    pub(super) fn name(&self) -> &'static str {
        &self.path[self.section().len() + 1..]
    }

    /// Its path for one account or output; the same as `path` for a key that belongs to none.
    pub(super) fn path_for(&self, name: &str) -> String {
        self.path.replacen('*', name, 1)
    }

    /// Which of the [`NAMED`] it is a key of, if it is.
    pub(super) fn group(&self) -> Option<&'static str> {
        let (group, rest) = self.path.split_once('.')?;
        rest.starts_with("*.").then_some(group)
    }
}

/// The key that is written at `path`, if there is one.
pub(super) fn find(path: &str) -> Option<&'static Key> {
    let general = generalised(path);
    KEYS.iter().find(|key| key.path == general)
}

/// Whether keys can stand below `path`.
pub(super) fn is_section(path: &str) -> bool {
    let general = generalised(path);
    general == KAFKA_PROPERTIES
        || KEYS.iter().any(|key| key.path.strip_prefix(general.as_str()).is_some_and(|rest| rest.starts_with('.')))
}

/// `path` with an account's or an output's name replaced by `*`.
fn generalised(path: &str) -> String {
    match path.split_once('.') {
        Some((group, rest)) if NAMED.contains(&group) => match rest.split_once('.') {
            Some((_, name)) => format!("{group}.*.{name}"),
            None => format!("{group}.*"),
        },
        _ => path.to_owned(),
    }
}

/// A section of the sample file.
#[derive(Debug)]
pub(super) struct Section {
    /// As in the path of its keys.
    pub(super) path: &'static str,
    pub(super) doc: &'static str,
    /// Lines of the section that are shown as comments.
    pub(super) examples: &'static str,
}

const fn section(path: &'static str, doc: &'static str) -> Section {
    Section { path, doc, examples: "" }
}

/// The sections, in the order of the sample file.
pub(super) const SECTIONS: &[Section] = &[
    section("kafka", "The brokers."),
    Section {
        path: KAFKA_PROPERTIES,
        doc: "Any property of librdkafka, for security above all.
A password is better kept out of this file: ALERT_IPS_KAFKA__PROPERTIES__SASL_PASSWORD sets \"sasl.password\"
(in the environment `_` stands for the dots).",
        examples: "\"security.protocol\" = \"SASL_SSL\"
\"sasl.mechanism\" = \"SCRAM-SHA-512\"
\"sasl.username\" = \"alert-ips\"
\"ssl.ca.location\" = \"/etc/ssl/certs/ca-certificates.crt\"",
    },
    section("topics", "`alert-ips topics --create` creates them with fitting settings."),
    section("instance", "This process among its siblings."),
    section("input", "What is read."),
    section(
        "filter",
        "Which alerts get a call and an output. The others are counted by reason (alert_ips_skips_total) and left out.
[]: any. An alert that does not tell its tenant, its age or what detected it is never left out for that.",
    ),
    section("output", "What is published, to topics.output."),
    Section {
        path: "outputs.*",
        doc: "Further outputs, one section for each: the same alerts to another topic, in another form, or only some of them.",
        examples: "",
    },
    section("journal", "Where calls are written down, so that the limits hold."),
    section(
        "accounts.*",
        "One section for each app registration in one tenant. The name (here contoso: lower-case letters, digits, `_`
and `-`) is the label in metrics and logs. One account: every alert goes to it. Several, of different tenants: an alert
goes to the account of its tenant id; without one it becomes a dead letter. In the journal an account is called
tenant_id/client_id.",
    ),
    section("priority", "Which lookup gets the next call."),
    section("reuse", "Which answers are good for a further alert with the same id, without a call."),
    section("not_found", "Alerts that the service does not know (404): they may not be visible yet."),
    section("http", "Calls to the service and to its sign-in."),
    section("retry", "What failed and is tried again."),
    section("admin", "Health, metrics and status over HTTP."),
    section("log", "The log, on standard error."),
];

const fn key(path: &'static str, kind: Kind, fallback: Fallback, doc: &'static str) -> Key {
    Key { path, kind, fallback, doc }
}

use Fallback::{Environment, HostName, Required, Value};
use Kind::{Flag, List, Number, Text};

/// The keys, in the order of the sample file.
#[rustfmt::skip]
pub(super) const KEYS: &[Key] = &[
    key("kafka.bootstrap_servers", Text, Required("\"kafka-1:9092,kafka-2:9092\""),
        "Brokers to begin with: host:port, separated by commas."),
    key("kafka.group_id", Text, Value("\"alert-ips\""),
        "Consumer group. Its committed offsets say what is settled."),

    key("topics.input", List, Value("[\"defender.alerts\"]"),
        "Topics that carry alerts."),
    key("topics.output", Text, Value("\"defender.alert-ips\""),
        "One record for each alert: its id and its related addresses."),
    key("topics.dead_letters", Text, Value("\"defender.alert-ips.dead-letters\""),
        "What can't be answered for good, in its original form, with the reason."),
    key("topics.journal", Text, Value("\"defender.alert-ips.journal\""),
        "Every call, claimed before it is made and answered after it. Never change its number of partitions."),

    key("instance.name", Text, HostName,
        "Its name in the journal and at the brokers. Default: the host's name. No two instances of one group may share it."),
    key("instance.static_member", Flag, Value("false"),
        "true: the group knows it by its name. A restart within session.timeout.ms (45 s unless set) moves no partitions; but
those of an instance that is stopped for good wait so long until others have them."),

    key("input.format", Text, Value("\"auto\""),
        "auto: each message is recognised by its shape.
One shape alone: streaming, alert-resource, graph, graph-legacy, siem-detection, ecs, bare-id. custom: what custom.id and the
keys below it say, and nothing else."),
    key("input.start", Text, Value("\"earliest\""),
        "earliest, latest or a time such as \"2026-11-01T00:00:00Z\": only where the group has no offsets yet."),
    key("input.max_age", Text, Value("\"30d\""),
        "Older alerts are published as `expired`, without a call. By last update, else creation, else the id.
The service's page says 30 days; where the tenant's retention is longer (up to 180 days), raise it."),
    key("input.max_open_records", Number, Value("10000"),
        "Records read and not yet settled: so far does priority reach. The default is what six hours of calls answer."),
    key("input.max_open_bytes", Text, Value("\"32MiB\""),
        "The same by size."),
    key("input.max_commit_metadata", Number, Value("4096"),
        "Bytes of a commit in which it says what is settled beyond the oldest open record of a partition; before it is full,
reading that partition waits. Not more than the brokers' offset.metadata.max.bytes; 1024 on Azure Event Hubs."),

    key("input.custom.id", Text, Value("\"\""),
        "For messages of no known shape: where an alert has its id, as a JSON pointer such as \"/alert/id\". With format = \"auto\"
this is looked at first."),
    key("input.custom.severity", Text, Value("\"\""),
        "Where it has its severity (high, medium, low or informational, in any case), its tenant id, its last update and its
creation (RFC 3339, or seconds, milliseconds or microseconds since 1970)."),
    key("input.custom.tenant", Text, Value("\"\""), ""),
    key("input.custom.updated", Text, Value("\"\""), ""),
    key("input.custom.created", Text, Value("\"\""), ""),
    key("input.custom.records", Text, Value("\"\""),
        "Where a message has its list of alerts, if it has one; the others are looked for in each of its items then, and what an item
has not, but for the id, in the message around the list. `alert-ips check --message FILE` shows what is read."),

    key("input.schema_registry.url", Text, Value("\"\""),
        "Where messages are written with a schema (Avro; JSON Schema too): the Confluent-compatible registry that knows it, such as
\"https://registry:8081\". Without it, what is Avro is a dead letter; JSON with a schema's number before it is read all the same."),
    key("input.schema_registry.username", Text, Value("\"\""),
        "Who asks, where it wants to know; the password is in a file, as accounts.NAME.client_secret_file, or in the environment
(ALERT_IPS_INPUT__SCHEMA_REGISTRY__PASSWORD)."),
    key("input.schema_registry.password_file", Text, Value("\"\""), ""),
    key("input.schema_registry.password", Text, Environment, "The password itself."),
    key("input.schema_registry.ca_file", Text, Value("\"\""),
        "Certificate authorities for it (PEM), instead of the platform's."),

    key("filter.severities", List, Value("[]"),
        "Only alerts of these severities, such as [\"high\", \"medium\"]; unspecified is one too."),
    key("filter.detection_sources", List, Value("[]"),
        "Only alerts found by these, as the messages name them, such as \"EDR\" or \"WindowsDefenderAtp\"."),
    key("filter.max_age", Text, Value("\"\""),
        "Only alerts that are not older, such as \"7d\"; by the same times as input.max_age, which publishes them as `expired`."),
    key("filter.tenants", List, Value("[]"),
        "Only alerts of these tenant ids."),

    key("output.format", Text, Value("\"json\""),
        "json, splunk-hec, sentinel, ocsf, ecs or cloudevents; config/schemas has a JSON Schema of each."),
    key("output.shape", Text, Value("\"per-alert\""),
        "per-alert: one record for each alert. per-ip: one for each of its addresses, and one for an alert without any."),
    key("output.include_alert", Flag, Value("false"),
        "true: with the alert as it was read."),
    key("output.statuses", List, Value("[]"),
        "Only alerts of which this became: found, empty, not_found, expired. []: all."),
    key("output.scopes", List, Value("[]"),
        "Only addresses that reach so far: public, private, shared, loopback, link_local, documentation, multicast, unspecified,
reserved. []: all. An alert that has addresses and none of these is not published."),
    key("output.splunk.index", Text, Value("\"\""),
        "Where Splunk files it (format = \"splunk-hec\"). \"\": the token's default."),
    key("output.splunk.source", Text, Value("\"alert-ips\""), ""),
    key("output.splunk.sourcetype", Text, Value("\"ms:defender:alert:ips\""), ""),
    key("output.splunk.host", Text, Value("\"\""), ""),
    key("output.splunk.headers", Flag, Value("false"),
        "true: that is told in the headers index, source, sourcetype and host too, whatever the format, for connectors that take it
from there."),
    key("output.delivery", Text, Value("\"at-least-once\""),
        "at-least-once: nothing is lost; a crash may repeat what was open.
exactly-once: nothing is repeated either, for readers with isolation.level=read_committed. Outputs and what they settle are
written in one transaction of Kafka's, as GROUP_ID-INSTANCE_NAME: no two running instances may have the same."),

    key("output.compression", Text, Value("\"none\""),
        "none, gzip, snappy, lz4 or zstd: of all that is written but the journal. Every broker takes none; Azure Event Hubs takes
gzip beside it, and only on Premium and Dedicated."),

    key("outputs.*.topic", Text, Required("\"defender.alert-ips.splunk\""),
        "Required."),
    key("outputs.*.format", Text, Value("\"json\""), "These as in [output]."),
    key("outputs.*.shape", Text, Value("\"per-alert\""), ""),
    key("outputs.*.include_alert", Flag, Value("false"), ""),
    key("outputs.*.statuses", List, Value("[]"), ""),
    key("outputs.*.scopes", List, Value("[]"), ""),
    key("outputs.*.splunk.index", Text, Value("\"\""), ""),
    key("outputs.*.splunk.source", Text, Value("\"alert-ips\""), ""),
    key("outputs.*.splunk.sourcetype", Text, Value("\"ms:defender:alert:ips\""), ""),
    key("outputs.*.splunk.host", Text, Value("\"\""), ""),
    key("outputs.*.splunk.headers", Flag, Value("false"), ""),

    key("journal.kind", Text, Value("\"kafka\""),
        "kafka: in topics.journal. All instances that share the app registration keep one budget, also through restarts, and ask
nothing twice.
memory: it knows the calls of this process alone. So run one instance; within an hour of a restart there may be more
calls than the limits allow."),
    key("journal.assume_settings", Flag, Value("false"),
        "true: go on where the broker does not tell the journal's settings, as Azure Event Hubs doesn't. `alert-ips check --online`
names those that it must have then."),

    key("accounts.*.tenant_id", Text, Required("\"11111111-2222-3333-4444-555555555555\""),
        "Required. Directory (tenant) id."),
    key("accounts.*.client_id", Text, Required("\"66666666-7777-8888-9999-000000000000\""),
        "Required. Application (client) id of the app registration, which needs the permission Ip.Read.All."),
    key("accounts.*.client_secret_file", Text, Value("\"\""),
        "Required, unless the environment gives the secret (ALERT_IPS_ACCOUNTS__CONTOSO__CLIENT_SECRET).
File that holds the client secret; it is read again whenever it is needed. A bare name is a systemd credential, looked
for in $CREDENTIALS_DIRECTORY; another relative path begins at the folder of this file."),
    key("accounts.*.client_secret", Text, Environment,
        "The client secret itself."),
    key("accounts.*.api_url", Text, Value("\"https://api.security.microsoft.com\""),
        "The service. https; http only on loopback, for a simulated one."),
    key("accounts.*.authority_url", Text, Value("\"https://login.microsoftonline.com\""),
        "Its sign-in; the same rule."),
    key("accounts.*.scope", Text, Value("\"https://api.securitycenter.microsoft.com/.default\""),
        "What the token is asked for."),
    key("accounts.*.limits", List, Value("[{ calls = 100, per = \"1m\" }, { calls = 1500, per = \"1h\" }]"),
        "The service's limits. In no window of any of these lengths are there more calls.
(In the environment: \"100 per 1m, 1500 per 1h\".)"),
    key("accounts.*.share", Number, Value("1.0"),
        "The part of the limits that is ours, above 0 and up to 1, where other tools use the same app registration."),
    key("accounts.*.max_in_flight", Number, Value("8"),
        "Calls on the wire at once. At most a quarter of the smallest limit is used."),

    key("priority.patience.high", Text, Value("\"0s\""),
        "How long a lookup may wait before it goes ahead of more severe ones that arrived later, by severity."),
    key("priority.patience.medium", Text, Value("\"5m\""), ""),
    key("priority.patience.low", Text, Value("\"30m\""), ""),
    key("priority.patience.informational", Text, Value("\"1h\""), ""),
    key("priority.patience.unspecified", Text, Value("\"5m\""), ""),
    key("priority.reserve", Number, Value("0.01"),
        "The part of every limit, 0 to 0.5, that only alerts of high severity may use."),

    key("reuse.reuse_for", Text, Value("\"15m\""),
        "How long an answer is good where the alert's last update is not known. \"0s\": never."),
    key("reuse.max_answers", Number, Value("18000"),
        "Answers kept in memory for an account. The default is what half a day of calls brings."),

    key("not_found.reask_after", List, Value("[\"1m\", \"5m\", \"15m\"]"),
        "Waits between the questions about a young alert; then it is published as `not_found`. []: ask once."),
    key("not_found.young_for", Text, Value("\"1d\""),
        "An alert of this age or more is asked about once. One of unknown age counts as young."),

    key("http.connect_timeout", Text, Value("\"5s\""),
        "Until the connection stands, TLS included."),
    key("http.head_timeout", Text, Value("\"10s\""),
        "Until the answer's head is there."),
    key("http.total_timeout", Text, Value("\"30s\""),
        "Until the whole answer is there."),
    key("http.proxy", Text, Value("\"\""),
        "Proxy for both, such as \"http://proxy.example:3128\". The environment's proxy settings are ignored."),
    key("http.ca_file", Text, Value("\"\""),
        "PEM file with the certificate authorities to trust for both, instead of the platform's."),

    key("retry.first", Text, Value("\"1s\""),
        "The first wait after a failed call; it doubles each time, at random up to its length."),
    key("retry.longest", Text, Value("\"5m\""),
        "The longest wait."),
    key("retry.poison_after", Text, Value("\"24h\""),
        "An alert that has failed for so long while others were answered becomes a dead letter."),
    key("retry.bad_response_attempts", Number, Value("5"),
        "An alert whose answer is malformed at least so many times, while others are answered, becomes a dead letter."),

    key("admin.listen", Text, Value("\"127.0.0.1:9466\""),
        "Address and port. It has no access control: keep it on loopback. \"\" switches it off."),

    key("log.level", Text, Value("\"info\""),
        "error, warn, info, debug or trace"),
    key("log.format", Text, Value("\"auto\""),
        "auto (text on a terminal, JSON elsewhere), text or json"),
];

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_key_is_listed_once_and_in_a_described_section() {
        let mut paths = HashSet::new();
        for key in KEYS {
            assert!(paths.insert(key.path), "{} is listed twice", key.path);
            assert!(SECTIONS.iter().any(|section| section.path == key.section()), "{} has no section", key.path);
        }
    }

    #[test]
    fn keys_are_found_by_the_path_they_are_written_at() {
        assert_eq!(find("accounts.contoso.tenant_id").unwrap().name(), "tenant_id");
        assert_eq!(find("priority.patience.high").unwrap().section(), "priority");
        assert!(find("priority.patience").is_none());
        assert!(find("accounts.contoso").is_none());
        assert!(is_section("priority.patience") && is_section("accounts.contoso") && is_section("kafka.properties"));
        assert!(!is_section("kafka.group_id") && !is_section("kafk"));
    }
}
