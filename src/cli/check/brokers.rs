//! Tries Kafka: the brokers, each topic, and the consumer group.

use super::{Finding, Mark};
use crate::{
    cli::topics::{configured_topics, counted, settings_words},
    config::{AccountSettings, JournalKind, Settings, Start},
    daemon::kafka_config,
    domain::journal::{WriterId, probe_message},
    kafka::{
        client::KafkaConfig,
        group::{self, GroupOffsets},
        journal::{LogPlace, try_access},
        topics::{TopicReport, TopicRole, TopicState, describe},
    },
};

pub(super) async fn try_kafka(settings: &Settings) -> Vec<Finding> {
    let config = kafka_config(settings);
    let topics = configured_topics(settings);
    let brokers = |mark, words: String| Finding::new(mark, "brokers", words);
    let reports = match describe(&config, &topics).await {
        Ok(reports) => reports,
        Err(error) => {
            let skipped = |about| Finding::new(Mark::Skipped, about, "needs a broker");
            let mut findings = vec![brokers(Mark::Failed, error.to_string())];
            findings.extend(topics.iter().map(|topic| skipped(format!("{} topic {}", topic.role, topic.name))));
            findings.extend(journals(settings).map(|account| skipped(about_journal(account))));
            findings.push(skipped(format!("group {}", config.group_id)));
            return findings;
        }
    };
    let mut findings = vec![brokers(Mark::Ok, format!("{} answers", config.bootstrap_servers))];
    findings.extend(reports.iter().flat_map(topic));
    for account in journals(settings) {
        findings.push(journal(&config, settings, account, &reports).await);
    }
    findings.push(group(settings, &config, &reports).await);
    findings
}

/// The topic itself, and a warning for each setting that is likely to hurt.
fn topic(report: &TopicReport) -> Vec<Finding> {
    let about = format!("{} topic {}", report.topic.role, report.topic.name);
    match &report.state {
        TopicState::Missing => {
            let words = "there is no such topic; create it with `alert-ips topics --create`, or correct its name in \
                         the section topics";
            vec![Finding::new(Mark::Failed, about, words)]
        }
        TopicState::Refused(words) => vec![Finding::new(Mark::Failed, about, words.as_str())],
        TopicState::Present(facts) => {
            let finding = |mark, words: &str| Finding::new(mark, about.as_str(), words);
            let refusals = facts.refusals.iter().map(|words| finding(Mark::Failed, words));
            let warnings = facts.warnings.iter().map(|words| finding(Mark::Warning, words));
            let works = facts.refusals.is_empty().then(|| finding(Mark::Ok, &settings_words(facts)));
            works.into_iter().chain(refusals).chain(warnings).collect()
        }
    }
}

/// The accounts whose journal is in Kafka.
fn journals(settings: &Settings) -> impl Iterator<Item = &AccountSettings> {
    settings.accounts.iter().filter(|_| settings.journal.kind == JournalKind::Kafka)
}

fn about_journal(account: &AccountSettings) -> String {
    format!("account {}, journal", account.name)
}

/// Whether the account's entries can be read and appended.
async fn journal(
    config: &KafkaConfig,
    settings: &Settings,
    account: &AccountSettings,
    reports: &[TopicReport],
) -> Finding {
    let about = about_journal(account);
    let is_there = |report: &TopicReport| {
        matches!(report.topic.role, TopicRole::Journal(_)) && matches!(report.state, TopicState::Present(_))
    };
    if !reports.iter().any(is_there) {
        return Finding::new(Mark::Skipped, about, "needs the journal topic");
    }
    let place = LogPlace { topic: settings.topics.journal.to_string(), key: account.journal_key() };
    let nothing = probe_message(WriterId(rand::random()), &settings.instance.name);
    match try_access(config, &place, nothing).await {
        Ok(()) => Finding::new(Mark::Ok, about, format!("entries of {} can be read and appended", place.key)),
        Err(error) => Finding::new(Mark::Failed, about, error.to_string()),
    }
}

async fn group(settings: &Settings, config: &KafkaConfig, reports: &[TopicReport]) -> Finding {
    let about = format!("group {}", config.group_id);
    let input = reports.iter().filter_map(|report| match &report.state {
        TopicState::Present(facts) if report.topic.role == TopicRole::Input => {
            Some((report.topic.name.clone(), facts.partitions))
        }
        _ => None,
    });
    let input: Vec<_> = input.collect();
    if input.is_empty() {
        return Finding::new(Mark::Skipped, about, "needs an input topic");
    }
    match group::committed(config, &input).await {
        Ok(offsets) => Finding::new(Mark::Ok, about, group_words(offsets, settings.input.start)),
        Err(error) => Finding::new(Mark::Failed, about, error.to_string()),
    }
}

fn group_words(GroupOffsets { partitions, committed, .. }: GroupOffsets, start: Start) -> String {
    let start = match start {
        Start::Earliest => "earliest".to_owned(),
        Start::Latest => "latest".to_owned(),
        Start::At(time) => time.to_string(),
    };
    if committed == partitions {
        format!("goes on at its committed offsets of {}", counted(partitions, "partition"))
    } else {
        format!(
            "has committed offsets of {committed} of {}; the others begin at input.start ({start})",
            counted(partitions, "partition")
        )
    }
}
