//! The counters and histograms behind `/metrics`, named after the events that callers report.
//!
//! Every label comes from a closed set or from the configuration; never from an alert or an answer. Handles are
//! resolved when a [`Metrics`] is made, so counting an event is one atomic addition: no lock, no look-up. (Histograms
//! take their own short lock, and [`Metrics::lag`], called a few times a second, looks its partition up.)

use std::{
    fmt,
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

use jiff::Timestamp;
use prometheus_client::{
    encoding::text,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Registry, Unit},
};

pub use super::kinds::{CallEnd, ClaimEnd, RetryReason};
use super::{
    gauges,
    kinds::{Kind, TokenRefresh},
    labels::{Labels, PartitionLabels, PerKind, family},
    snapshot::Snapshot,
};
use crate::domain::{
    alert::Severity,
    outcome::{Reason, Skip, Status},
    record::{Destination, Partition},
};

/// What every metric of the daemon begins with.
pub(super) const PREFIX: &str = "alert_ips";

/// Upper bounds of a call's duration, in seconds; the total timeout is 30 s by default.
const CALL_SECONDS: [f64; 12] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];

/// Upper bounds of the time from a claim to its ruling, in seconds: a journal nearby takes milliseconds, and a claim expires
/// after 10 s.
const CLAIM_SECONDS: [f64; 10] = [0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 10.0];

/// Upper bounds of the time from alert to output, in seconds: from no wait at all to a day of waiting for permits.
const OUTPUT_SECONDS: [f64; 19] = [
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 1800.0, 3600.0, 14_400.0,
    86_400.0,
];

/// The daemon's counters. Cheap to clone; all clones are one.
#[derive(Clone, Debug)]
pub struct Metrics(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    registry: Registry,
    consumed: Box<[(Arc<str>, Counter)]>,
    settled_before: Counter,
    published_before: Counter,
    set_aside: Gauge,
    removed: Box<[(Arc<str>, Counter)]>,
    begun_anew: Counter,
    lag: Family<PartitionLabels, Gauge>,
    skips: PerKind<Skip, Counter>,
    committed: Counter,
    aborted: Counter,
    decoded: PerKind<Severity, Counter>,
    outcomes: PerKind<Status, Counter>,
    dead_letters: PerKind<Reason, Counter>,
    produced: PerKind<Destination, Counter>,
    acknowledged: PerKind<Destination, Counter>,
    output_seconds: PerKind<Severity, Histogram>,
    accounts: AccountFamilies,
}

impl Metrics {
    /// `started`: when the process began; `input_topics`: as configured.
    pub fn new<'a>(started: Timestamp, input_topics: impl IntoIterator<Item = &'a str>) -> Self {
        let mut registry = Registry::default();
        let start = Gauge::<f64, AtomicU64>::default();
        start.set(started.as_duration().as_secs_f64());
        registry.register_with_unit("process_start_time", "When the process began, Unix time", Unit::Seconds, start);

        let ours = registry.sub_registry_with_prefix(PREFIX);
        let build = family::<Labels, Gauge>(ours, "build_info", "The version that runs");
        build.get_or_create(&Labels::one("version", env!("CARGO_PKG_VERSION"))).set(1);
        let topics: Vec<&str> = input_topics.into_iter().collect();
        let consumed = per_topic(ours, &topics, "records_consumed", "Records read from the input topics");
        let help = "Offsets of the input topics that Kafka removed before they were read: records that are lost";
        let removed = per_topic(ours, &topics, "records_removed_unread", help);
        let begun_anew = Counter::default();
        let help = "Partitions read from their beginning, as their topic was created anew or had lost its end";
        ours.register("partitions_begun_anew", help, begun_anew.clone());

        let settled_before = Counter::default();
        let help = "Records read again that were settled before a restart or a rebalance; nothing was done for them";
        ours.register("records_settled_before", help, settled_before.clone());

        let published_before = Counter::default();
        let help = "Alerts of records read again that were published before a restart or a rebalance, while others of their record were not; nothing was done for them";
        ours.register("alerts_published_before", help, published_before.clone());

        let set_aside = Gauge::default();
        let help =
            "Records whose account has taken its share of the read window; they are read again when there is room";
        ours.register("records_set_aside", help, set_aside.clone());

        let transactions = family(ours, "transactions", "Transactions of exactly-once delivery, by how they ended");
        let ended = |how| transactions.get_or_create_owned(&Labels::one("ended", how));

        Self(Arc::new(Inner {
            committed: ended("committed"),
            aborted: ended("aborted"),
            consumed,
            settled_before,
            published_before,
            set_aside,
            removed,
            begun_anew,
            lag: family(ours, "consumer_lag_records", "Records of a partition that are not settled yet"),
            skips: per_kind(ours, "skips", "Records and rows that need neither call nor output"),
            decoded: per_kind(ours, "alerts_decoded", "Alerts found in the records"),
            outcomes: per_kind(ours, "outcomes", "What became of the alerts"),
            dead_letters: per_kind(ours, "dead_letters", "Records and alerts given up"),
            produced: per_kind(ours, "records_produced", "Records handed to the producer"),
            acknowledged: per_kind(ours, "records_acknowledged", "Records that the brokers acknowledged"),
            output_seconds: PerKind::resolve(&output_seconds(ours), None),
            accounts: AccountFamilies::register(ours),
            registry,
        }))
    }

    /// The counters of one account, to be held by its owner.
    pub fn account(&self, name: &str) -> AccountMetrics {
        AccountMetrics(Arc::new(self.0.accounts.resolve(&name.into())))
    }

    /// A record was read from this topic; a topic that is not configured is not counted.
    pub fn record_consumed(&self, topic: &str) {
        if let Some((_, counter)) = self.0.consumed.iter().find(|(name, _)| **name == *topic) {
            counter.inc();
        }
    }

    /// A record was read that whoever read the partition before had settled.
    pub fn record_settled_before(&self) {
        self.0.settled_before.inc();
    }

    /// An alert was found that is published, unlike others of its record.
    pub fn alert_published_before(&self) {
        self.0.published_before.inc();
    }

    /// So many records wait as an offset only.
    pub fn records_set_aside(&self, records: usize) {
        self.0.set_aside.set(i64::try_from(records).unwrap_or(i64::MAX));
    }

    /// Kafka removed so many offsets of this topic before they were read.
    pub fn records_removed_unread(&self, topic: &str, offsets: u64) {
        if let Some((_, counter)) = self.0.removed.iter().find(|(name, _)| **name == *topic) {
            counter.inc_by(offsets);
        }
    }

    /// So many partitions have another log now.
    pub fn partitions_begun_anew(&self, partitions: usize) {
        self.0.begun_anew.inc_by(partitions as u64);
    }

    /// A transaction has ended.
    pub fn transaction_ended(&self, committed: bool) {
        if committed { &self.0.committed } else { &self.0.aborted }.inc();
    }

    /// How many records of the partition are not settled.
    pub fn lag(&self, partition: &Partition, records: i64) {
        self.0.lag.get_or_create(&PartitionLabels::of(partition)).set(records);
    }

    /// The partition belongs to another instance now; its lag is no longer ours to tell.
    pub fn partition_given_up(&self, partition: &Partition) {
        self.0.lag.remove(&PartitionLabels::of(partition));
    }

    pub fn skipped(&self, why: Skip) {
        self.0.skips.of(why).inc();
    }

    pub fn alert_decoded(&self, severity: Severity) {
        self.0.decoded.of(severity).inc();
    }

    pub fn outcome_reached(&self, status: Status) {
        self.0.outcomes.of(status).inc();
    }

    pub fn dead_lettered(&self, reason: Reason) {
        self.0.dead_letters.of(reason).inc();
    }

    pub fn record_produced(&self, to: Destination) {
        self.0.produced.of(to).inc();
    }

    pub fn record_acknowledged(&self, to: Destination) {
        self.0.acknowledged.of(to).inc();
    }

    /// An alert's output was acknowledged this long after its record's Kafka timestamp.
    pub fn output_after(&self, severity: Severity, took: Duration) {
        self.0.output_seconds.of(severity).observe(took.as_secs_f64());
    }

    /// Everything in the `OpenMetrics` text format, with the gauges of the present `snapshot`.
    pub fn encode(&self, snapshot: &Snapshot) -> Result<String, fmt::Error> {
        let mut text = String::with_capacity(16 * 1024);
        text::encode_registry(&mut text, &self.0.registry)?;
        text::encode_registry(&mut text, &gauges::registry(snapshot))?;
        text::encode_eof(&mut text)?;
        Ok(text)
    }
}

/// One account's counters. Cheap to clone; all clones are one.
#[derive(Clone, Debug)]
pub struct AccountMetrics(Arc<AccountInner>);

#[derive(Debug)]
struct AccountInner {
    claims: PerKind<ClaimEnd, Counter>,
    claim_seconds: Histogram,
    calls: PerKind<CallEnd, Counter>,
    call_seconds: Histogram,
    retries: PerKind<RetryReason, Counter>,
    reused: Counter,
    joined: Counter,
    freezes: Counter,
    tokens: PerKind<TokenRefresh, Counter>,
}

impl AccountMetrics {
    /// A claim was ruled on, or given up; `took` is from handing it to the journal.
    pub fn claim_ended(&self, end: ClaimEnd, took: Duration) {
        self.0.claims.of(end).inc();
        self.0.claim_seconds.observe(took.as_secs_f64());
    }

    /// One call to the API ended; `took` is from the request to the end of the answer, or to giving it up.
    pub fn call_ended(&self, end: CallEnd, took: Duration) {
        self.0.calls.of(end).inc();
        self.0.call_seconds.observe(took.as_secs_f64());
    }

    /// A question will be asked again.
    pub fn retried(&self, why: RetryReason) {
        self.0.retries.of(why).inc();
    }

    /// A fresh answer was used again, without a call.
    pub fn answer_reused(&self) {
        self.0.reused.inc();
    }

    /// A repeated alert joined a lookup that waits or runs already.
    pub fn lookup_joined(&self) {
        self.0.joined.inc();
    }

    /// A 429 froze the account.
    pub fn frozen(&self) {
        self.0.freezes.inc();
    }

    pub fn token_refreshed(&self) {
        self.0.tokens.of(TokenRefresh::Ok).inc();
    }

    pub fn token_refresh_failed(&self) {
        self.0.tokens.of(TokenRefresh::Failed).inc();
    }
}

#[derive(Debug)]
struct AccountFamilies {
    claims: Family<Labels, Counter>,
    claim_seconds: Family<Labels, Histogram>,
    calls: Family<Labels, Counter>,
    call_seconds: Family<Labels, Histogram>,
    retries: Family<Labels, Counter>,
    reused: Family<Labels, Counter>,
    joined: Family<Labels, Counter>,
    freezes: Family<Labels, Counter>,
    tokens: Family<Labels, Counter>,
}

impl AccountFamilies {
    fn register(registry: &mut Registry) -> Self {
        let call_seconds = Family::new_with_constructor((|| Histogram::new(CALL_SECONDS)) as fn() -> Histogram);
        registry.register_with_unit("api_call_duration", "How long calls took", Unit::Seconds, call_seconds.clone());
        let claim_seconds = Family::new_with_constructor((|| Histogram::new(CLAIM_SECONDS)) as fn() -> Histogram);
        let help = "How long the journal took to rule on claims";
        registry.register_with_unit("claim_duration", help, Unit::Seconds, claim_seconds.clone());
        Self {
            claims: family(registry, "claims", "Claims handed to the journal, by what became of them"),
            claim_seconds,
            calls: family(registry, "api_calls", "Calls to the API by HTTP status or failure"),
            call_seconds,
            retries: family(registry, "api_retries", "Questions asked again"),
            reused: family(registry, "answers_reused", "Fresh answers used again without a call"),
            joined: family(registry, "lookups_joined", "Repeated alerts that joined a waiting or running lookup"),
            freezes: family(registry, "api_freezes", "How often a 429 froze the account"),
            tokens: family(registry, "token_refreshes", "Sign-ins for a new token"),
        }
    }

    fn resolve(&self, name: &Arc<str>) -> AccountInner {
        let account = Labels::one("account", name.clone());
        AccountInner {
            claims: PerKind::resolve(&self.claims, Some(name)),
            claim_seconds: self.claim_seconds.get_or_create_owned(&account),
            calls: PerKind::resolve(&self.calls, Some(name)),
            call_seconds: self.call_seconds.get_or_create_owned(&account),
            retries: PerKind::resolve(&self.retries, Some(name)),
            reused: self.reused.get_or_create_owned(&account),
            joined: self.joined.get_or_create_owned(&account),
            freezes: self.freezes.get_or_create_owned(&account),
            tokens: PerKind::resolve(&self.tokens, Some(name)),
        }
    }
}

fn per_topic(registry: &mut Registry, topics: &[&str], name: &str, help: &str) -> Box<[(Arc<str>, Counter)]> {
    let counters = family(registry, name, help);
    topics.iter().map(|topic| ((*topic).into(), counters.get_or_create_owned(&Labels::one("topic", *topic)))).collect()
}

fn per_kind<K: Kind>(registry: &mut Registry, name: &str, help: &str) -> PerKind<K, Counter> {
    PerKind::resolve(&family(registry, name, help), None)
}

fn output_seconds(registry: &mut Registry) -> Family<Labels, Histogram> {
    let seconds = Family::new_with_constructor((|| Histogram::new(OUTPUT_SECONDS)) as fn() -> Histogram);
    let help = "Time from an alert's record timestamp to its acknowledged output";
    registry.register_with_unit("alert_to_output", help, Unit::Seconds, seconds.clone());
    seconds
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metrics() -> Metrics {
        Metrics::new(Timestamp::constant(1_795_000_000, 0), ["defender.alerts"])
    }

    fn encoded(metrics: &Metrics) -> String {
        metrics.encode(&Snapshot::default()).unwrap()
    }

    #[track_caller]
    fn assert_line(text: &str, line: &str) {
        assert!(text.lines().any(|found| found == line), "no line {line:?} in:\n{text}");
    }

    #[test]
    fn every_event_has_its_counter() {
        let metrics = metrics();
        metrics.record_consumed("defender.alerts");
        metrics.record_settled_before();
        metrics.alert_published_before();
        metrics.transaction_ended(true);
        metrics.skipped(Skip::Tombstone);
        metrics.alert_decoded(Severity::Low);
        metrics.outcome_reached(Status::NotFound);
        metrics.dead_lettered(Reason::Poison);
        metrics.record_produced(Destination::Output(0));
        metrics.record_acknowledged(Destination::DeadLetters);
        metrics.output_after(Severity::High, Duration::from_millis(7));

        let text = encoded(&metrics);
        for line in [
            "process_start_time_seconds 1795000000.0",
            "alert_ips_records_consumed_total{topic=\"defender.alerts\"} 1",
            "alert_ips_records_settled_before_total 1",
            "alert_ips_alerts_published_before_total 1",
            "alert_ips_transactions_total{ended=\"committed\"} 1",
            "alert_ips_transactions_total{ended=\"aborted\"} 0",
            "alert_ips_skips_total{reason=\"tombstone\"} 1",
            "alert_ips_alerts_decoded_total{severity=\"low\"} 1",
            "alert_ips_outcomes_total{status=\"not_found\"} 1",
            "alert_ips_dead_letters_total{reason=\"poison\"} 1",
            "alert_ips_records_produced_total{destination=\"output\"} 1",
            "alert_ips_records_acknowledged_total{destination=\"dead_letters\"} 1",
            "alert_ips_alert_to_output_seconds_bucket{le=\"0.005\",severity=\"high\"} 0",
            "alert_ips_alert_to_output_seconds_bucket{le=\"0.01\",severity=\"high\"} 1",
        ] {
            assert_line(&text, line);
        }
        assert_line(&text, &format!("alert_ips_build_info{{version=\"{}\"}} 1", env!("CARGO_PKG_VERSION")));
        assert!(text.ends_with("# EOF\n"));
    }

    #[test]
    fn each_account_counts_for_itself() {
        let metrics = metrics();
        let (contoso, fabrikam) = (metrics.account("contoso"), metrics.account("fabrikam"));
        contoso.call_ended(CallEnd::Status(200), Duration::from_millis(300));
        contoso.retried(RetryReason::ServerError);
        contoso.claim_ended(ClaimEnd::Refused, Duration::from_millis(4));
        contoso.answer_reused();
        contoso.lookup_joined();
        contoso.frozen();
        contoso.token_refreshed();
        fabrikam.token_refresh_failed();

        let text = encoded(&metrics);
        for line in [
            "alert_ips_api_calls_total{account=\"contoso\",code=\"200\"} 1",
            "alert_ips_api_calls_total{account=\"fabrikam\",code=\"200\"} 0",
            "alert_ips_api_call_duration_seconds_count{account=\"contoso\"} 1",
            "alert_ips_claims_total{account=\"contoso\",end=\"refused\"} 1",
            "alert_ips_claim_duration_seconds_count{account=\"contoso\"} 1",
            "alert_ips_api_retries_total{account=\"contoso\",reason=\"server_error\"} 1",
            "alert_ips_answers_reused_total{account=\"contoso\"} 1",
            "alert_ips_lookups_joined_total{account=\"contoso\"} 1",
            "alert_ips_api_freezes_total{account=\"contoso\"} 1",
            "alert_ips_token_refreshes_total{account=\"contoso\",result=\"ok\"} 1",
            "alert_ips_token_refreshes_total{account=\"fabrikam\",result=\"failed\"} 1",
        ] {
            assert_line(&text, line);
        }
    }

    #[test]
    fn a_topic_that_is_not_configured_adds_no_label() {
        let metrics = metrics();
        metrics.record_consumed("other");
        assert!(!encoded(&metrics).contains("other\"} 1"));
        assert_line(&encoded(&metrics), "alert_ips_records_consumed_total{topic=\"defender.alerts\"} 0");
    }

    #[test]
    fn lag_is_told_while_the_partition_is_ours() {
        let metrics = metrics();
        let partition = Partition { topic: "defender.alerts".into(), number: 3 };
        metrics.lag(&partition, 12);
        let line = "alert_ips_consumer_lag_records{topic=\"defender.alerts\",partition=\"3\"} 12";
        assert_line(&encoded(&metrics), line);
        metrics.partition_given_up(&partition);
        assert!(!encoded(&metrics).contains("consumer_lag_records{"));
    }
}
