//! What librdkafka reports on its own, said so that a person can act on it.
//!
//! librdkafka repeats itself and speaks of single connections; a reporter turns that into few [`Notice`]s: one
//! when trouble begins or changes, one when it has passed.

#[cfg(test)]
mod tests;

use std::{
    fmt, mem,
    sync::{Mutex, MutexGuard, PoisonError},
};

use rdkafka::{
    config::RDKafkaLogLevel,
    error::{KafkaError, RDKafkaErrorCode as Code},
    statistics::Statistics,
};
use tokio::sync::mpsc::{self, error::TrySendError};

/// Longest text of librdkafka that is passed on, in characters.
const MAX_REASON: usize = 400;

/// Which of the daemon's connections to the brokers a notice is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Client {
    Source,
    Sink,
    /// Both connections of the journal.
    Journal,
    /// A one-off trial of the journal, for the command line.
    JournalTrial,
    /// Other one-off questions, for the command line.
    Admin,
}

impl fmt::Display for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Source => "source",
            Self::Sink => "sink",
            Self::Journal => "journal",
            Self::JournalTrial => "journal trial",
            Self::Admin => "admin",
        })
    }
}

impl Client {
    /// How the words about a trouble go on: whether it is tried again by itself, which a one-off question is not.
    const fn goes_on(self) -> &'static str {
        match self {
            Self::Source | Self::Sink | Self::Journal => "; it is tried again by itself",
            Self::JournalTrial | Self::Admin => "",
        }
    }
}

/// One piece of news about one connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    pub from: Client,
    pub news: News,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// Something does not work. It holds until [`News::Working`]; a later trouble replaces an earlier one.
    Trouble(Trouble),
    /// The last trouble has passed.
    Working,
    /// It is a member of its group, though it may have nothing to read.
    Joined,
    /// Which input topics are missing, apart from any trouble; `None`: none is any more.
    Missing(Option<Missing>),
    /// Where the partitions stand, every few seconds.
    Offsets(Vec<PartitionOffsets>),
}

/// Input topics that are missing, in words like those of a [`Trouble`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    pub words: String,
    /// Whether all of them are, so that nothing can be read.
    pub all: bool,
}

/// What does not work; the text says what happened, what the daemon does about it, and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// No broker can be reached, or none that can be talked to.
    Unreachable(String),
    /// The brokers refuse the sign-in or a right.
    Denied(String),
    TopicMissing(String),
    /// The client is of no more use; it is made anew.
    Fatal(String),
    /// Anything else; librdkafka tries again by itself.
    Other(String),
}

impl Trouble {
    pub fn words(&self) -> &str {
        match self {
            Self::Unreachable(words)
            | Self::Denied(words)
            | Self::TopicMissing(words)
            | Self::Fatal(words)
            | Self::Other(words) => words,
        }
    }
}

/// What the brokers said last about one partition. Unknown values are `None`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionOffsets {
    pub topic: String,
    pub number: i32,
    /// One past the last record a `read_committed` reader can see now.
    pub end: Option<i64>,
    /// The group's committed offset.
    pub committed: Option<i64>,
}

/// Turns what one librdkafka client says into notices. Its methods run on librdkafka's polling thread.
pub(super) struct Reporter {
    from: Client,
    servers: String,
    notices: mpsc::Sender<Notice>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The last thing that went wrong with a single connection: why all brokers are down.
    cause: Option<String>,
    /// Whether since then a broker was reached that could not be talked to, or let nobody in.
    is_kept_out: bool,
    trouble: Option<Trouble>,
}

impl Reporter {
    pub(super) fn new(from: Client, servers: &str, notices: mpsc::Sender<Notice>) -> Self {
        Self { from, servers: servers.to_owned(), notices, state: Mutex::default() }
    }

    /// One of librdkafka's global errors.
    pub(super) fn error(&self, error: &KafkaError, reason: &str) {
        let code = code(error);
        let reason = clean(reason);
        match code {
            // One connection of possibly many; librdkafka says so when it was the last.
            Code::BrokerTransportFailure | Code::OperationTimedOut | Code::Resolve => {
                self.state().cause = Some(reason);
            }
            // Said in better words already.
            Code::AllBrokersDown if mem::take(&mut self.state().is_kept_out) => {}
            Code::AllBrokersDown => {
                let cause = self.state().cause.clone().unwrap_or(reason);
                self.trouble(unreachable(self.from, &self.servers, &cause));
            }
            Code::PartitionEOF => {}
            Code::SSL | Code::Authentication | Code::SaslAuthenticationFailed => {
                self.state().is_kept_out = true;
                self.trouble(explain(self.from, code, &self.servers, &reason));
            }
            _ => self.trouble(explain(self.from, code, &self.servers, &reason)),
        }
    }

    /// Says that something does not work, once.
    pub(super) fn trouble(&self, trouble: Trouble) {
        let news = {
            let mut state = self.state();
            if state.trouble.as_ref() == Some(&trouble) {
                return;
            }
            state.trouble = Some(trouble.clone());
            News::Trouble(trouble)
        };
        self.send(news);
    }

    /// Whether the last thing that was heard is that no broker can be reached.
    pub(super) fn is_unreachable(&self) -> bool {
        matches!(self.state().trouble, Some(Trouble::Unreachable(_)))
    }

    /// Whether the last thing that was heard is that a right is missing.
    pub(super) fn is_denied(&self) -> bool {
        matches!(self.state().trouble, Some(Trouble::Denied(_)))
    }

    /// A record, an acknowledgement, an assignment or the answer to a commit came: whatever was wrong is over.
    pub(super) fn working(&self) {
        if self.state().trouble.take().is_some() {
            self.send(News::Working);
        }
    }

    pub(super) fn joined(&self) {
        self.send(News::Joined);
    }

    /// These of `inputs` topics are missing.
    pub(super) fn missing(&self, topics: &[String], inputs: usize) {
        let told = (!topics.is_empty()).then(|| {
            let about = format!("input {}", topics.join(", "));
            let trouble = explain(self.from, Code::UnknownTopicOrPartition, &self.servers, &about);
            Missing { words: trouble.words().to_owned(), all: topics.len() == inputs }
        });
        self.send(News::Missing(told));
    }

    /// librdkafka's regular statistics.
    pub(super) fn statistics(&self, statistics: &Statistics) {
        let connected = statistics.brokers.values().any(|broker| broker.state == "UP");
        if connected && matches!(self.state().trouble, Some(Trouble::Unreachable(_))) {
            self.working();
        }
        if self.from == Client::Source {
            self.send(News::Offsets(offsets(statistics)));
        }
    }

    fn send(&self, news: News) {
        let refused = self.notices.try_send(Notice { from: self.from, news });
        if let Err(TrySendError::Full(Notice { news: News::Trouble(trouble), .. })) = refused {
            tracing::warn!(client = %self.from, "{}", trouble.words());
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Passes a log line of librdkafka on.
pub(super) fn log(client: Client, level: RDKafkaLogLevel, facility: &str, line: &str) {
    // Every client is given all of the user's properties; each complains about those meant for the other.
    let level = if facility == "CONFWARN" { RDKafkaLogLevel::Debug } else { level };
    match level {
        RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical | RDKafkaLogLevel::Error => {
            tracing::error!(target: "librdkafka", %client, facility, "{line}");
        }
        RDKafkaLogLevel::Warning => tracing::warn!(target: "librdkafka", %client, facility, "{line}"),
        RDKafkaLogLevel::Notice | RDKafkaLogLevel::Info => {
            tracing::info!(target: "librdkafka", %client, facility, "{line}");
        }
        RDKafkaLogLevel::Debug => tracing::debug!(target: "librdkafka", %client, facility, "{line}"),
    }
}

pub(super) fn unreachable(client: Client, servers: &str, cause: &str) -> Trouble {
    let goes_on = client.goes_on();
    Trouble::Unreachable(format!(
        "no kafka broker can be reached: {cause}{goes_on}; check that the brokers run, and kafka.bootstrap_servers \
         ({servers})"
    ))
}

/// Why brokers that can be reached acknowledge nothing: they try to, and don't say what is in the way.
pub(super) fn unacknowledged(about: &str) -> String {
    format!(
        "kafka acknowledges no write: {about}; it is tried again by itself; either there are too few replicas in sync \
         (min.insync.replicas), or a broker does not answer: look for a broker that is down or stands still"
    )
}

/// Says an error with what to do about it. `about` is librdkafka's own text, or the topic's name.
pub(super) fn explain(client: Client, code: Code, servers: &str, about: &str) -> Trouble {
    let goes_on = client.goes_on();
    match code {
        Code::AllBrokersDown
        | Code::BrokerTransportFailure
        | Code::OperationTimedOut
        | Code::Resolve
        | Code::BrokerNotAvailable => unreachable(client, servers, about),
        Code::SSL => Trouble::Unreachable(format!(
            "no encrypted connection to kafka: {about}{goes_on}; check security.protocol and \
             ssl.ca.location in kafka.properties, and that kafka.bootstrap_servers ({servers}) is a TLS listener"
        )),
        Code::Authentication | Code::SaslAuthenticationFailed => Trouble::Denied(format!(
            "kafka refuses the sign-in: {about}{goes_on}; check security.protocol, sasl.mechanism \
             and the credentials in kafka.properties"
        )),
        Code::UnknownTopicOrPartition | Code::UnknownTopic | Code::UnknownPartition => Trouble::TopicMissing(format!(
            "a topic is missing: {about}{goes_on}; create it with `alert-ips topics --create` \
             or correct its name in the section topics"
        )),
        Code::TopicAuthorizationFailed if matches!(client, Client::Journal | Client::JournalTrial) => {
            Trouble::Denied(format!(
                "kafka denies access to the journal: {about}{goes_on}; grant read, write, describe and describe_configs on its \
             topic"
            ))
        }
        Code::TopicAuthorizationFailed => Trouble::Denied(format!(
            "kafka denies access to a topic: {about}{goes_on}; grant read and describe on the \
             input topics, write and describe on the output and dead-letter topics"
        )),
        Code::TransactionalIdAuthorizationFailed => Trouble::Denied(format!(
            "kafka denies the transactional id: {about}{goes_on}; grant write and describe on the transactional id \
             GROUP_ID-INSTANCE_NAME"
        )),
        Code::GroupAuthorizationFailed => Trouble::Denied(format!(
            "kafka denies access to the consumer group: {about}{goes_on}; grant read on the group \
             named by kafka.group_id"
        )),
        Code::MessageTimedOut => Trouble::Other(unacknowledged(about)),
        Code::ClusterAuthorizationFailed => Trouble::Denied(format!(
            "kafka denies a right on the cluster: {about}; brokers before 3.0 need IdempotentWrite for the producer"
        )),
        Code::Fatal | Code::Fenced | Code::FencedInstanceId => Trouble::Fatal(format!(
            "the kafka client can't go on: {about}; it is made anew by itself; if it stays, look for a second process \
             with the same instance.name in this group"
        )),
        Code::CoordinatorLoadInProgress | Code::CoordinatorNotAvailable | Code::NotCoordinator => {
            Trouble::Other(format!(
                "kafka's coordinator of the consumer group is not ready: {about}{goes_on}; a young or just restarted cluster \
             takes some seconds"
            ))
        }
        Code::PollExceeded => Trouble::Other(format!(
            "the consumer was not polled in time and left the group: {about}; it joins again by itself"
        )),
        Code::OffsetNotAvailable => Trouble::Other(format!(
            "a new leader does not tell yet where its log ends: {about}{goes_on}; if it stays, there are too few replicas in \
             sync: look for a broker that is down"
        )),
        other if about.contains(&code_words(other)) => Trouble::Other(format!("kafka reports: {about}{goes_on}")),
        other => Trouble::Other(format!("kafka reports: {about} ({}){goes_on}", code_words(other))),
    }
}

/// librdkafka's sentence for a code, without the code's name in source.
pub(super) fn code_words(code: Code) -> String {
    let text = code.to_string();
    match text.split_once(" (") {
        Some((_, words)) => words.trim_end_matches(')').to_owned(),
        None => text,
    }
}

/// An error's code; `Fail` where it has none.
pub(super) fn code(error: &KafkaError) -> Code {
    error.rdkafka_error_code().unwrap_or(Code::Fail)
}

/// An error's sentence for a person.
pub(super) fn error_words(error: &KafkaError) -> String {
    match error.rdkafka_error_code() {
        Some(code) => code_words(code),
        None => clean(&error.to_string()),
    }
}

/// Cuts what only a programmer wants, and escapes what a broker could have put in.
pub(super) fn clean(reason: &str) -> String {
    let told = reason.split(" (after ").next().unwrap_or(reason).trim();
    let told = without_place_in_source(told);
    told.chars()
        .take(MAX_REASON)
        .flat_map(|c| if c.is_control() { c.escape_default().collect::<Vec<_>>() } else { vec![c] })
        .collect()
}

/// OpenSSL says of its first errors where in its source they arose.
fn without_place_in_source(reason: &str) -> String {
    let Some((before, error)) = reason.split_once(" error:") else { return reason.to_owned() };
    match before.rsplit_once(' ') {
        Some((told, place)) if place.contains(".c:") => format!("{told} error:{error}"),
        _ => reason.to_owned(),
    }
}

fn offsets(statistics: &Statistics) -> Vec<PartitionOffsets> {
    let known = |offset: i64| (offset >= 0).then_some(offset);
    let mut all: Vec<_> = statistics
        .topics
        .iter()
        .flat_map(|(topic, partitions)| partitions.partitions.values().map(move |partition| (topic, partition)))
        // -1 is librdkafka's own; what is not desired is not assigned to us.
        .filter(|(_, partition)| partition.partition >= 0 && partition.desired)
        .map(|(topic, partition)| PartitionOffsets {
            topic: topic.clone(),
            number: partition.partition,
            end: known(partition.ls_offset).or(known(partition.hi_offset)),
            committed: known(partition.committed_offset),
        })
        .collect();
    all.sort_by(|a, b| (&a.topic, a.number).cmp(&(&b.topic, b.number)));
    all
}
