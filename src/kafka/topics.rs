//! What the cluster says about the daemon's topics, and the creation of those that are missing.
//!
//! For `alert-ips topics` and `alert-ips check --online`: one-off questions, each answered within seconds.

use std::{fmt, time::Duration};

use rdkafka::{
    ClientContext,
    admin::{AdminClient, AdminOptions, NewTopic, ResourceSpecifier, TopicReplication},
    config::{FromClientConfigAndContext, RDKafkaLogLevel},
    consumer::{BaseConsumer, Consumer, ConsumerContext},
    error::{KafkaError, RDKafkaErrorCode as Code},
};
use tokio::sync::mpsc;

use super::{
    client::{InvalidKafkaConfig, KafkaConfig},
    discard::discard,
    journal::settings::{self as journal, Demands},
    notice::{self, Client, News, Notice, Reporter, Trouble},
};

/// How long the brokers have for the answer to all questions of one kind.
pub(super) const LIMIT: Duration = Duration::from_secs(15);

/// How long a topic's settings are waited for; brokers that don't tell them don't answer either.
const SETTINGS_LIMIT: Duration = Duration::from_secs(5);

/// How long one attempt at a question takes before it is looked why there is no answer.
const ATTEMPT: Duration = Duration::from_secs(1);

/// How often it is looked whether a new topic is known.
const VISIBLE_EVERY: Duration = Duration::from_millis(100);

/// Batches are up to this large, so a topic that takes less refuses good records together.
const BATCH_BYTES: u64 = 65_536;

/// The settings that matter here, in the order they are shown.
const SHOWN: [&str; 5] =
    ["cleanup.policy", "retention.ms", "max.message.bytes", "message.timestamp.type", "min.insync.replicas"];

/// And those that matter for the journal only.
const SHOWN_OF_JOURNAL: [&str; 2] = ["retention.bytes", "unclean.leader.election.enable"];

/// What a topic is to the daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TopicRole {
    Input,
    Output,
    DeadLetters,
    /// With what it must be like.
    Journal(Demands),
}

impl fmt::Display for TopicRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Input => "input",
            Self::Output => "output",
            Self::DeadLetters => "dead letters",
            Self::Journal(_) => "journal",
        })
    }
}

/// A topic of the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfiguredTopic {
    pub role: TopicRole,
    pub name: String,
}

/// A topic as the cluster knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicReport {
    pub topic: ConfiguredTopic,
    pub state: TopicState,
}

impl TopicReport {
    pub fn is_missing(&self) -> bool {
        self.state == TopicState::Missing
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TopicState {
    Missing,
    /// The cluster does not say; why and what to do.
    Refused(String),
    Present(TopicFacts),
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TopicFacts {
    pub partitions: usize,
    /// Of the partition with the fewest.
    pub replicas: usize,
    /// How many there are in the cluster.
    pub brokers: usize,
    /// Name and value; empty where the broker does not tell.
    pub settings: Vec<(String, String)>,
    /// What the daemon can't work with, each with what to do.
    pub refusals: Vec<String>,
    /// What is likely to hurt, each with what to do.
    pub warnings: Vec<String>,
}

impl TopicFacts {
    pub(super) fn setting(&self, name: &str) -> Option<&str> {
        self.settings.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// The cluster could not be asked at all.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClusterError {
    #[error(transparent)]
    Config(#[from] InvalidKafkaConfig),
    #[error("{}", .0.words())]
    Trouble(Trouble),
    #[error("the question to kafka was broken off")]
    BrokenOff,
}

/// A topic that was to be created.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Creation {
    pub topic: ConfiguredTopic,
    pub partitions: i32,
    pub replicas: i32,
    pub settings: Vec<(&'static str, String)>,
    /// Err: why not, and what to do.
    pub result: Result<(), String>,
}

/// Asks about each of `topics`, in their order.
pub async fn describe(config: &KafkaConfig, topics: &[ConfiguredTopic]) -> Result<Vec<TopicReport>, ClusterError> {
    let mut reports = look(config, topics).await?.reports;
    let present = reports.iter_mut().filter_map(|report| match &mut report.state {
        TopicState::Present(facts) => Some((&report.topic, facts)),
        _ => None,
    });
    let mut present: Vec<_> = present.collect();
    if present.is_empty() {
        return Ok(reports);
    }
    let admin = admin(config)?;
    let asked: Vec<_> = present.iter().map(|(topic, _)| ResourceSpecifier::Topic(&topic.name)).collect();
    // Not every broker tells (Event Hubs does not): then there are no settings to show.
    let answers = admin.describe_configs(&asked, &options(SETTINGS_LIMIT)).await.unwrap_or_default();
    for ((topic, facts), answer) in present.iter_mut().zip(answers) {
        let Ok(resource) = answer else { continue };
        let of_journal: &[&str] = if matches!(topic.role, TopicRole::Journal(_)) { &SHOWN_OF_JOURNAL } else { &[] };
        let shown = SHOWN
            .iter()
            .chain(of_journal)
            .filter_map(|name| Some(((*name).to_owned(), resource.get(name)?.value.clone()?)));
        facts.settings = shown.collect();
        facts.warnings = warnings(topic.role, facts);
    }
    discard(admin);
    for (topic, facts) in present {
        if let TopicRole::Journal(demands) = topic.role {
            let judgement = journal::judge(facts, demands);
            facts.refusals = judgement.refusals;
            facts.warnings.extend(judgement.warnings);
        }
    }
    Ok(reports)
}

/// Creates those of `topics` that are missing; the others are left as they are.
pub async fn create_missing(config: &KafkaConfig, topics: &[ConfiguredTopic]) -> Result<Vec<Creation>, ClusterError> {
    let Looked { reports, brokers } = look(config, topics).await?;
    let missing = reports.into_iter().filter(TopicReport::is_missing).map(|report| report.topic);
    let mut creations: Vec<_> = missing.map(|topic| fitting(topic, brokers)).collect();
    if creations.is_empty() {
        return Ok(creations);
    }
    let admin = admin(config)?;
    let mut exist_already = Vec::new();
    for creation in &mut creations {
        let replication = TopicReplication::Fixed(creation.replicas);
        let mut new = NewTopic::new(&creation.topic.name, creation.partitions, replication);
        for (name, value) in &creation.settings {
            new = new.set(name, value);
        }
        creation.result = match admin.create_topics([&new], &options(LIMIT)).await {
            Ok(results) => match results.into_iter().next() {
                Some(Err((name, Code::TopicAlreadyExists))) => {
                    exist_already.push(name);
                    Ok(())
                }
                Some(Err((name, code))) => Err(creation_words(&name, code)),
                _ => Ok(()),
            },
            Err(error) => {
                Err(format!("topic {} was not created: {}", creation.topic.name, notice::error_words(&error)))
            }
        };
    }
    discard(admin);
    let created = creations.iter().filter(|creation| creation.result.is_ok());
    await_visible(config, &created.map(|creation| creation.topic.clone()).collect::<Vec<_>>()).await;
    creations.retain(|creation| !exist_already.contains(&creation.topic.name));
    Ok(creations)
}

/// Brokers know a new topic a moment after they have said that it is created.
async fn await_visible(config: &KafkaConfig, topics: &[ConfiguredTopic]) {
    let visible = async {
        while look(config, topics).await.is_ok_and(|looked| looked.reports.iter().any(TopicReport::is_missing)) {
            tokio::time::sleep(VISIBLE_EVERY).await;
        }
    };
    let _ = tokio::time::timeout(LIMIT, visible).await;
}

fn creation_words(name: &str, code: Code) -> String {
    let remedy = match code {
        Code::TopicAuthorizationFailed | Code::ClusterAuthorizationFailed => {
            "; grant create on the topic, or have an administrator create it"
        }
        Code::PolicyViolation => "; the cluster's policy forbids these settings: have an administrator create it",
        Code::InvalidConfig => "; the cluster does not take one of its settings: have an administrator create it",
        Code::InvalidReplicationFactor => "; the cluster has too few brokers in service",
        _ => "",
    };
    format!("topic {name} was not created: {}{remedy}", notice::code_words(code))
}

/// Settings with which the daemon's promises hold on a cluster of this size.
fn fitting(topic: ConfiguredTopic, brokers: usize) -> Creation {
    const DAY_MS: u128 = 86_400_000;
    let replicas: i32 = match brokers {
        0 | 1 => 1,
        2 => 2,
        _ => 3,
    };
    let (partitions, days) = match topic.role {
        // A backlog of many days must outlast the wait for permits.
        TopicRole::Input => (6, 14),
        TopicRole::Output => (6, 7),
        // People work these off.
        TopicRole::DeadLetters => (3, 30),
        // An account's entries lie in one partition, and some a second are much. The number must never change, for with
        // it the account would move to another partition; one is the number that nobody is tempted to tune.
        TopicRole::Journal(_) => (1, 1),
    };
    let demanded = if let TopicRole::Journal(demands) = topic.role { demands.retention.as_millis() } else { 0 };
    let retention = demanded.max(days * DAY_MS);
    let mut settings = vec![
        ("cleanup.policy", "delete".to_owned()),
        ("retention.ms", retention.to_string()),
        ("min.insync.replicas", if replicas == 3 { "2" } else { "1" }.to_owned()),
    ];
    if topic.role == TopicRole::DeadLetters {
        // Room for the largest record of an input topic with its defaults, and for the headers that say why.
        settings.push(("max.message.bytes", (2 * 1_048_588).to_string()));
    }
    if let TopicRole::Journal(_) = topic.role {
        // The broker's clock decides about slots; and what was acknowledged must outlive a broker.
        settings.push(("message.timestamp.type", "LogAppendTime".to_owned()));
        settings.push(("unclean.leader.election.enable", "false".to_owned()));
    }
    Creation { topic, partitions, replicas, settings, result: Ok(()) }
}

fn warnings(role: TopicRole, facts: &TopicFacts) -> Vec<String> {
    let number = |name: &str| facts.setting(name).and_then(|value| value.parse::<u64>().ok());
    let mut warnings = Vec::new();
    let is_read_once = matches!(role, TopicRole::Input | TopicRole::DeadLetters);
    if is_read_once && facts.setting("cleanup.policy").is_some_and(|policy| policy.contains("compact")) {
        let words = "cleanup.policy is compact: kafka may remove records before they are read; set it to delete";
        warnings.push(words.to_owned());
    }
    if let Some(least) =
        number("min.insync.replicas").filter(|least| usize::try_from(*least).is_ok_and(|least| least > facts.replicas))
    {
        warnings.push(format!(
            "min.insync.replicas is {least} with {} replicas: every write is refused; lower it or add replicas",
            facts.replicas
        ));
    }
    if let Some(most) = number("max.message.bytes").filter(|most| role != TopicRole::Input && *most < BATCH_BYTES) {
        warnings.push(format!(
            "max.message.bytes is {most}: records that are sent together may be refused together; raise it to at least \
             {BATCH_BYTES}"
        ));
    }
    warnings
}

fn options(limit: Duration) -> AdminOptions {
    AdminOptions::new().request_timeout(Some(limit)).operation_timeout(Some(limit))
}

fn admin(config: &KafkaConfig) -> Result<AdminClient<Listener>, InvalidKafkaConfig> {
    Ok(AdminClient::from_config_and_context(&config.admin(), Listener::new(config).0)?)
}

struct Looked {
    reports: Vec<TopicReport>,
    brokers: usize,
}

async fn look(config: &KafkaConfig, topics: &[ConfiguredTopic]) -> Result<Looked, ClusterError> {
    let (config, topics) = (config.clone(), topics.to_vec());
    let looked = tokio::task::spawn_blocking(move || {
        let mut probe = Probe::new(&config)?;
        let mut looked = Looked { reports: Vec::with_capacity(topics.len()), brokers: 0 };
        for topic in topics {
            let (state, brokers) = probe.topic(&config, &topic)?;
            looked.brokers = looked.brokers.max(brokers);
            looked.reports.push(TopicReport { topic, state });
        }
        Ok(looked)
    });
    looked.await.unwrap_or(Err(ClusterError::BrokenOff))
}

/// Asks for metadata, and knows why there is no answer: librdkafka says that only beside the question.
struct Probe {
    kafka: BaseConsumer<Listener>,
    notices: mpsc::Receiver<Notice>,
}

impl Probe {
    fn new(config: &KafkaConfig) -> Result<Self, InvalidKafkaConfig> {
        let (listener, notices) = Listener::new(config);
        Ok(Self { kafka: BaseConsumer::from_config_and_context(&config.admin(), listener)?, notices })
    }

    /// The topic's state, and how many brokers there are.
    fn topic(&mut self, config: &KafkaConfig, asked: &ConfiguredTopic) -> Result<(TopicState, usize), ClusterError> {
        let mut last = notice::unreachable(Client::Admin, &config.bootstrap_servers, "no answer came in time");
        let mut left = LIMIT;
        while !left.is_zero() {
            left = left.saturating_sub(ATTEMPT);
            match self.kafka.fetch_metadata(Some(&asked.name), ATTEMPT) {
                Ok(metadata) => {
                    let brokers = metadata.brokers().len();
                    let topic = metadata.topics().iter().find(|topic| topic.name() == asked.name);
                    let state = topic.map_or(TopicState::Missing, |topic| state(config, asked.role, topic, brokers));
                    return Ok((state, brokers));
                }
                Err(error) => {
                    let code = notice::code(&error);
                    if !matches!(code, Code::OperationTimedOut | Code::BrokerTransportFailure | Code::AllBrokersDown) {
                        last =
                            notice::explain(Client::Admin, code, &config.bootstrap_servers, &notice::code_words(code));
                    }
                }
            }
            // Lets librdkafka report what went wrong meanwhile.
            self.kafka.poll(Duration::from_millis(10));
            while let Ok(notice) = self.notices.try_recv() {
                if let News::Trouble(trouble) = notice.news {
                    if let Trouble::Unreachable(_) | Trouble::Denied(_) = trouble {
                        return Err(ClusterError::Trouble(trouble));
                    }
                    last = trouble;
                }
            }
        }
        Err(ClusterError::Trouble(last))
    }
}

fn state(
    config: &KafkaConfig,
    role: TopicRole,
    topic: &rdkafka::metadata::MetadataTopic,
    brokers: usize,
) -> TopicState {
    match topic.error().map(Code::from) {
        None => TopicState::Present(TopicFacts {
            partitions: topic.partitions().len(),
            replicas: topic.partitions().iter().map(|partition| partition.replicas().len()).min().unwrap_or_default(),
            brokers,
            ..TopicFacts::default()
        }),
        Some(Code::UnknownTopicOrPartition) => TopicState::Missing,
        Some(code) => {
            // The rights that are needed differ.
            let client = if let TopicRole::Journal(_) = role { Client::JournalTrial } else { Client::Admin };
            let about = format!("{}: {}", topic.name(), notice::code_words(code));
            TopicState::Refused(notice::explain(client, code, &config.bootstrap_servers, &about).words().to_owned())
        }
    }
}

pub(super) struct Listener(Reporter);

impl Listener {
    pub(super) fn new(config: &KafkaConfig) -> (Self, mpsc::Receiver<Notice>) {
        let (notices, receiver) = mpsc::channel(16);
        (Self(Reporter::new(Client::Admin, &config.bootstrap_servers, notices)), receiver)
    }
}

impl ClientContext for Listener {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        notice::log(Client::Admin, level, facility, line);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.0.error(&error, reason);
    }
}

impl ConsumerContext for Listener {}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::compacted_input(TopicRole::Input, "cleanup.policy", "compact", Some("set it to delete"))]
    #[case::compacted_output(TopicRole::Output, "cleanup.policy", "compact", None)]
    #[case::unwritable(TopicRole::Output, "min.insync.replicas", "4", Some("every write is refused"))]
    #[case::small_batches(TopicRole::DeadLetters, "max.message.bytes", "1000", Some("raise it"))]
    #[case::usual(TopicRole::Output, "max.message.bytes", "1048588", None)]
    fn settings_that_hurt_are_told_with_the_remedy(
        #[case] role: TopicRole,
        #[case] name: &str,
        #[case] value: &str,
        #[case] expected: Option<&str>,
    ) {
        let settings = vec![(name.to_owned(), value.to_owned())];
        let told = warnings(role, &TopicFacts { partitions: 6, replicas: 3, settings, ..TopicFacts::default() });
        match expected {
            Some(remedy) => assert!(told.len() == 1 && told[0].contains(remedy), "{told:?}"),
            None => assert_eq!(told, Vec::<String>::new()),
        }
    }

    #[rstest]
    #[case::single_broker(1, 1, "1")]
    #[case::two(2, 2, "1")]
    #[case::cluster(5, 3, "2")]
    fn new_topics_are_as_safe_as_the_cluster_allows(
        #[case] brokers: usize,
        #[case] replicas: i32,
        #[case] in_sync: &str,
    ) {
        let topic = ConfiguredTopic { role: TopicRole::Output, name: "out".to_owned() };
        let creation = fitting(topic, brokers);
        assert_eq!(creation.replicas, replicas);
        assert!(creation.settings.contains(&("min.insync.replicas", in_sync.to_owned())));
    }

    #[rstest]
    #[case::day(3_900, "86400000")]
    #[case::longer_windows(200_000, "200000000")]
    fn a_new_journal_is_one_that_the_daemon_accepts(#[case] seconds: u64, #[case] retention: &str) {
        let demands = Demands { retention: Duration::from_secs(seconds), assume_settings: false };
        let creation = fitting(ConfiguredTopic { role: TopicRole::Journal(demands), name: "journal".to_owned() }, 3);
        assert!(creation.settings.contains(&("retention.ms", retention.to_owned())), "{creation:?}");
        let facts = TopicFacts {
            partitions: 1,
            replicas: 3,
            brokers: 3,
            settings: creation.settings.into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
            ..TopicFacts::default()
        };
        assert_eq!(journal::judge(&facts, demands), journal::Judgement::default());
        assert_eq!(warnings(TopicRole::Journal(demands), &facts), Vec::<String>::new());
    }
}
