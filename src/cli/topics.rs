//! `alert-ips topics`: the daemon's topics as the cluster knows them, and their creation.

use std::{fmt::Write as _, time::Duration};

use clap::Args;

use super::{
    Configured, Exit, block_on,
    print::{Printer, aligned},
};
use crate::{
    config::{JournalKind, Settings},
    daemon::{journal_demands, kafka_config},
    kafka::{
        client::KafkaConfig,
        journal::Demands,
        notice::Trouble,
        topics::{
            ClusterError, ConfiguredTopic, Creation, TopicFacts, TopicReport, TopicRole, TopicState, create_missing,
            describe,
        },
    },
};

#[derive(Args, Debug)]
#[command(
    after_help = "Exits with 0 if all topics are there, with 1 if one is missing or no broker answers, and with 78 if \
                        the configuration or the rights don't allow it."
)]
pub(super) struct TopicsArgs {
    #[command(flatten)]
    configured: Configured,
    /// Create the topics that are missing; those that exist are left as they are
    #[arg(long)]
    create: bool,
}

pub(super) fn run(args: &TopicsArgs, printer: &mut Printer) -> Exit {
    let settings = match args.configured.load_without_secrets(printer) {
        Ok(loaded) => loaded.settings,
        Err(exit) => return exit,
    };
    let (config, topics) = (kafka_config(&settings), configured_topics(&settings));
    block_on(async {
        let outcome = async {
            if args.create { create(&config, &topics, printer).await } else { show(&config, &topics, printer).await }
        };
        outcome.await.unwrap_or_else(|error| {
            printer.complain(&format!("error: {error}"));
            exit_of(&error)
        })
    })
}

/// The topics that the daemon reads and writes; the journal is one of them unless it is in memory.
pub(super) fn configured_topics(settings: &Settings) -> Vec<ConfiguredTopic> {
    let topics = &settings.topics;
    let of = |role, name: &str| ConfiguredTopic { role, name: name.to_owned() };
    let input = topics.input.iter().map(|name| of(TopicRole::Input, name));
    let journal = match settings.journal.kind {
        JournalKind::Kafka => {
            strictest_demands(settings).map(|demands| of(TopicRole::Journal(demands), &topics.journal))
        }
        JournalKind::Memory => None,
    };
    let outputs = topics.outputs.iter().map(|name| of(TopicRole::Output, name));
    input.chain(outputs).chain([of(TopicRole::DeadLetters, &topics.dead_letters)]).chain(journal).collect()
}

/// The accounts share the journal's topic: it must do for the one that looks back furthest.
fn strictest_demands(settings: &Settings) -> Option<Demands> {
    let demands = settings.accounts.iter().map(|account| journal_demands(settings, account));
    demands.max_by_key(|demands| demands.retention)
}

/// A topic in a line: partitions, replicas, and the settings that matter.
pub(super) fn settings_words(facts: &TopicFacts) -> String {
    let mut words = format!("{}, {}", counted(facts.partitions, "partition"), counted(facts.replicas, "replica"));
    if facts.settings.is_empty() {
        words.push_str("; the broker does not tell its settings");
    }
    for (name, value) in &facts.settings {
        // Writing to a string can't fail.
        let _ = write!(words, ", {name} {}", readable(name, value));
    }
    words
}

async fn show(config: &KafkaConfig, topics: &[ConfiguredTopic], printer: &mut Printer) -> Result<Exit, ClusterError> {
    let reports = describe(config, topics).await?;
    printer.say(&table(&reports));
    say_remarks(&reports, printer);
    if reports.iter().any(is_unusable) {
        return Ok(Exit::Config);
    }
    if reports.iter().any(TopicReport::is_missing) {
        printer.say("`alert-ips topics --create` creates what is missing");
        return Ok(Exit::No);
    }
    Ok(Exit::Done)
}

async fn create(config: &KafkaConfig, topics: &[ConfiguredTopic], printer: &mut Printer) -> Result<Exit, ClusterError> {
    let creations = create_missing(config, topics).await?;
    if creations.is_empty() {
        printer.say("nothing to create: every topic exists");
    }
    for creation in &creations {
        match &creation.result {
            Ok(()) => printer.say(&created(creation)),
            Err(words) => printer.complain(&format!("error: {words}")),
        }
    }
    // What existed before may not be what the daemon can work with.
    let reports = describe(config, topics).await?;
    say_remarks(&reports, printer);
    let all = creations.iter().all(|creation| creation.result.is_ok());
    Ok(if all && !reports.iter().any(is_unusable) { Exit::Done } else { Exit::Config })
}

fn say_remarks(reports: &[TopicReport], printer: &mut Printer) {
    for report in reports {
        for remark in remarks(report) {
            printer.say(&format!("{}: {remark}", report.topic.name));
        }
    }
}

fn is_unusable(report: &TopicReport) -> bool {
    match &report.state {
        TopicState::Missing => false,
        TopicState::Refused(_) => true,
        TopicState::Present(facts) => !facts.refusals.is_empty(),
    }
}

fn created(creation: &Creation) -> String {
    let Creation { topic, partitions, replicas, settings, .. } = creation;
    let settings = settings.iter().map(|(name, value)| format!(", {name} {}", readable(name, value)));
    let advice = match topic.role {
        TopicRole::Journal(_) => "; never change its number of partitions, else what was spent is not found again",
        TopicRole::Input | TopicRole::Output | TopicRole::DeadLetters => "",
    };
    format!(
        "created the {} topic {}: {}, {}{}{advice}",
        topic.role,
        topic.name,
        counted(usize::try_from(*partitions).unwrap_or_default(), "partition"),
        counted(usize::try_from(*replicas).unwrap_or_default(), "replica"),
        settings.collect::<String>()
    )
}

/// Whether someone must change something, or the brokers just are away.
pub(super) fn exit_of(error: &ClusterError) -> Exit {
    match error {
        ClusterError::Config(_) | ClusterError::Trouble(Trouble::Denied(_)) => Exit::Config,
        ClusterError::Trouble(_) | ClusterError::BrokenOff => Exit::No,
    }
}

fn remarks(report: &TopicReport) -> Vec<&str> {
    match &report.state {
        TopicState::Missing => Vec::new(),
        TopicState::Refused(words) => vec![words],
        TopicState::Present(facts) => facts.refusals.iter().chain(&facts.warnings).map(String::as_str).collect(),
    }
}

/// The columns after those that every topic has: a setting each.
const COLUMNS: [(&str, &str); 5] = [
    ("MIN IN SYNC", "min.insync.replicas"),
    ("CLEANUP", "cleanup.policy"),
    ("RETENTION", "retention.ms"),
    ("LARGEST BATCH", "max.message.bytes"),
    ("TIMESTAMPS", "message.timestamp.type"),
];

fn table(reports: &[TopicReport]) -> String {
    let head = ["TOPIC", "ROLE", "STATE", "PARTITIONS", "REPLICAS"].map(str::to_owned);
    let head = head.into_iter().chain(COLUMNS.map(|(title, _)| title.to_owned())).collect();
    let rows: Vec<Vec<String>> = std::iter::once(head).chain(reports.iter().map(row)).collect();
    aligned(&rows)
}

fn row(report: &TopicReport) -> Vec<String> {
    let unknown = || "-".to_owned();
    let (state, facts) = match &report.state {
        TopicState::Missing => ("missing", None),
        TopicState::Refused(_) => ("unknown", None),
        TopicState::Present(facts) => ("present", Some(facts)),
    };
    let count = |of: fn(&TopicFacts) -> usize| facts.map_or_else(unknown, |facts| of(facts).to_string());
    let setting = |name: &str| {
        let known = facts.and_then(|facts| facts.settings.iter().find(|(known, _)| known == name));
        known.map_or_else(unknown, |(name, value)| readable(name, value))
    };
    let mut row = vec![report.topic.name.clone(), report.topic.role.to_string(), state.to_owned()];
    row.extend([count(|facts| facts.partitions), count(|facts| facts.replicas)]);
    row.extend(COLUMNS.map(|(_, name)| setting(name)));
    row
}

/// A setting's value with a unit for people.
fn readable(name: &str, value: &str) -> String {
    match (name, value.parse::<i64>()) {
        ("retention.ms" | "retention.bytes", Ok(-1)) => "unlimited".to_owned(),
        ("retention.ms", Ok(millis)) => {
            humantime::format_duration(Duration::from_millis(millis.unsigned_abs())).to_string()
        }
        ("max.message.bytes" | "retention.bytes", Ok(bytes)) => bytesize::ByteSize(bytes.unsigned_abs()).to_string(),
        _ => value.escape_default().to_string(),
    }
}

pub(super) fn counted(count: usize, what: &str) -> String {
    if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::days("retention.ms", "604800000", "7days")]
    #[case::for_ever("retention.ms", "-1", "unlimited")]
    #[case::of_any_size("retention.bytes", "-1", "unlimited")]
    #[case::bytes("max.message.bytes", "1048588", "1.0 MiB")]
    #[case::text("cleanup.policy", "compact,delete", "compact,delete")]
    #[case::hostile("cleanup.policy", "\u{1b}[31m", "\\u{1b}[31m")]
    fn settings_are_shown_with_units(#[case] name: &str, #[case] value: &str, #[case] expected: &str) {
        assert_eq!(readable(name, value), expected);
    }

    #[rstest]
    #[case::down(ClusterError::Trouble(Trouble::Unreachable("no broker".into())), Exit::No)]
    #[case::denied(ClusterError::Trouble(Trouble::Denied("no right".into())), Exit::Config)]
    #[case::broken_off(ClusterError::BrokenOff, Exit::No)]
    fn only_what_someone_must_mend_is_a_configuration_error(#[case] error: ClusterError, #[case] exit: Exit) {
        assert_eq!(exit_of(&error), exit);
    }

    fn settings(changed: &[(&str, &str)]) -> Settings {
        let identity = |name: &str, tenant: u32| {
            [("tenant_id", format!("{tenant:08}-2222-3333-4444-555555555555")), ("client_id", "client".to_owned())]
                .map(|(key, value)| (format!("accounts.{name}.{key}"), value))
        };
        let mut flags = vec![("kafka.bootstrap_servers".to_owned(), "kafka-1:9092".to_owned())];
        flags.extend(identity("contoso", 1));
        flags.extend(identity("fabrikam", 2));
        flags.extend(changed.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())));
        let secret = |name: &str| (format!("ALERT_IPS_ACCOUNTS__{name}__CLIENT_SECRET"), "secret".to_owned());
        let secrets = [secret("CONTOSO"), secret("FABRIKAM")];
        Settings::load(Some("/dev/null".as_ref()), &flags, secrets, |_, _| None).unwrap().settings
    }

    #[rstest]
    // An hour, its clock margin, 45 s until a claim without an answer lapses, and 10 min.
    #[case::defaults(&[], 71, false)]
    #[case::the_longer_window_of_two_accounts(&[("accounts.fabrikam.limits", "1000 per 1d")], 1453, false)]
    #[case::answers_are_reused_for_longer(&[("reuse.reuse_for", "2d")], 2890, false)]
    #[case::untold_settings(&[("journal.assume_settings", "true")], 71, true)]
    fn the_journal_must_do_for_every_account(
        #[case] changed: &[(&str, &str)],
        #[case] minutes: u64,
        #[case] assume_settings: bool,
    ) {
        let topics = configured_topics(&settings(changed));
        let demands = Demands { retention: Duration::from_mins(minutes), assume_settings };
        let journal =
            ConfiguredTopic { role: TopicRole::Journal(demands), name: "defender.alert-ips.journal".to_owned() };
        assert_eq!(topics.last(), Some(&journal));
    }

    #[test]
    fn a_journal_in_memory_needs_no_topic() {
        let topics = configured_topics(&settings(&[("journal.kind", "memory")]));
        let roles: Vec<_> = topics.iter().map(|topic| topic.role).collect();
        assert_eq!(roles, [TopicRole::Input, TopicRole::Output, TopicRole::DeadLetters]);
    }

    #[test]
    fn a_missing_topic_has_a_row_without_values() {
        let topic = |role, name: &str| ConfiguredTopic { role, name: name.into() };
        let settings = vec![("cleanup.policy".to_owned(), "delete".to_owned())];
        let facts = TopicFacts { partitions: 6, replicas: 3, settings, ..TopicFacts::default() };
        let reports = [
            TopicReport { topic: topic(TopicRole::Input, "in"), state: TopicState::Present(facts) },
            TopicReport { topic: topic(TopicRole::DeadLetters, "dead"), state: TopicState::Missing },
        ];
        let expected = [
            "TOPIC  ROLE          STATE    PARTITIONS  REPLICAS  MIN IN SYNC  CLEANUP  RETENTION  LARGEST BATCH  TIMESTAMPS",
            "in     input         present  6           3         -            delete   -          -              -",
            "dead   dead letters  missing  -           -         -            -        -          -              -",
        ];
        assert_eq!(table(&reports).lines().collect::<Vec<_>>(), expected);
    }
}
