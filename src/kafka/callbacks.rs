//! What librdkafka calls back with while the source polls, and the thread that commits.

use std::{
    mem,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc as blocking,
    },
    thread::{self, JoinHandle},
};

use rdkafka::{
    ClientContext, Statistics, TopicPartitionList,
    config::{FromClientConfigAndContext, RDKafkaLogLevel},
    consumer::{BaseConsumer, CommitMode, Consumer as _, ConsumerContext, RebalanceProtocol},
    error::KafkaError,
    statistics::ConsumerGroup,
    types::{RDKafkaErrorCode as Code, RDKafkaRespErr},
};

use super::{
    client::KafkaConfig,
    notice::{self, Client, Reporter},
    source::StartSourceError,
    topic_ids::TopicIds,
};
use crate::{
    crash_point::{self, Point},
    domain::record::Partition,
};

/// Who reaches the group's coordinator for so long, in milliseconds, and was refused nothing, is a member: twice as long as the
/// brokers let pass between two heartbeats (`group.consumer.heartbeat.interval.ms`).
const UNTOLD_AFTER_MS: i64 = 10_000;

/// A consumer that subscribes, with its committing thread. Dropping it leaves the group and may take as long as the
/// brokers are away.
///
/// Why a second thread: rdkafka 0.39 drops the answer to an asynchronous commit, and a synchronous one would keep the
/// records waiting for the group's coordinator.
pub(super) struct Connection {
    kafka: Arc<BaseConsumer<Callbacks>>,
    commits: Option<blocking::SyncSender<TopicPartitionList>>,
    committer: Option<JoinHandle<()>>,
}

impl Connection {
    pub(super) fn open(
        config: &KafkaConfig,
        topics: &[String],
        reporter: Arc<Reporter>,
    ) -> Result<Self, StartSourceError> {
        let callbacks = Callbacks {
            reporter,
            inbox: Mutex::default(),
            closing: AtomicBool::new(false),
            ids: TopicIds::default(),
            misplaced: AtomicBool::new(false),
            denied: AtomicBool::new(false),
            missing: AtomicBool::new(false),
            broker_assigns: config.broker_assigns(),
            verbose: config.is_verbose(),
            topics: topics.join(", "),
            group: config.group_id.clone(),
        };
        let invalid = |error: KafkaError| StartSourceError::Config(error.into());
        let kafka = BaseConsumer::from_config_and_context(&config.source(), callbacks).map_err(invalid)?;
        let topics: Vec<&str> = topics.iter().map(String::as_str).collect();
        kafka.subscribe(&topics).map_err(invalid)?;
        let kafka = Arc::new(kafka);
        let (commits, requests) = blocking::sync_channel::<TopicPartitionList>(1);
        let committing = Arc::clone(&kafka);
        let commit_each = move || {
            for list in requests {
                let answer = commit(&committing, list);
                committing.context().leave(|inbox| inbox.commits.push(answer));
            }
        };
        let thread = thread::Builder::new().name("kafka-commit".into()).spawn(commit_each);
        Ok(Self { kafka, commits: Some(commits), committer: Some(thread.map_err(StartSourceError::Thread)?) })
    }

    /// Starts a commit, whose answer comes to the [`Inbox`]; false where one is still waiting.
    pub(super) fn commit_soon(&self, list: TopicPartitionList) -> bool {
        self.commits.as_ref().is_some_and(|commits| commits.try_send(list).is_ok())
    }

    pub(super) fn kafka(&self) -> &BaseConsumer<Callbacks> {
        &self.kafka
    }

    pub(super) fn callbacks(&self) -> &Callbacks {
        self.kafka.context()
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.callbacks().closing.store(true, Ordering::Relaxed);
        self.kafka.unsubscribe();
        self.commits = None;
        // The last to hold the consumer closes it; that shall be the caller.
        if let Some(committer) = self.committer.take() {
            let _ = committer.join();
        }
    }
}

/// Commits and waits for the answer, as long as librdkafka gives the coordinator.
pub(super) fn commit(kafka: &BaseConsumer<Callbacks>, list: TopicPartitionList) -> CommitAnswer {
    crash_point::pass(Point::CommitBefore);
    let committed = kafka.commit(&list, CommitMode::Sync);
    crash_point::pass(Point::CommitAnswered);
    match committed {
        Ok(()) => Ok(list),
        Err(error) => Err(notice::error_words(&error)),
    }
}

/// What librdkafka called back with, until the thread looks.
#[derive(Default)]
pub(super) struct Inbox {
    pub(super) rebalances: Vec<Rebalanced>,
    pub(super) commits: Vec<CommitAnswer>,
}

/// What was committed, or why nothing was.
pub(super) type CommitAnswer = Result<TopicPartitionList, String>;

pub(super) enum Rebalanced {
    Assign(TopicPartitionList),
    Revoke(TopicPartitionList),
}

pub(super) struct Callbacks {
    /// That of the clients before it too: what they told is over once this one works.
    reporter: Arc<Reporter>,
    inbox: Mutex<Inbox>,
    /// Set before the consumer is dropped: nobody reads the inbox then, and librdkafka waits to be answered.
    closing: AtomicBool,
    pub(super) ids: TopicIds,
    /// Whether the place to read at was gone, in some partition: it is read no further.
    misplaced: AtomicBool,
    /// Whether reading a topic was denied.
    denied: AtomicBool,
    /// Whether a topic was not found.
    missing: AtomicBool,
    /// Whether a member that is to read nothing is not told so (KIP-848, librdkafka 2.12).
    broker_assigns: bool,
    verbose: bool,
    topics: String,
    group: String,
}

impl Callbacks {
    pub(super) fn take_inbox(&self) -> Inbox {
        mem::take(&mut *self.inbox.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The answers to commits alone.
    pub(super) fn take_commits(&self) -> Vec<CommitAnswer> {
        mem::take(&mut self.inbox.lock().unwrap_or_else(PoisonError::into_inner).commits)
    }

    /// Whether a rebalance waits to be answered.
    pub(super) fn is_rebalancing(&self) -> bool {
        !self.inbox.lock().unwrap_or_else(PoisonError::into_inner).rebalances.is_empty()
    }

    /// Whether it is to be looked again where a partition is to be read.
    pub(super) fn is_displaced(&self, partition: &Partition) -> bool {
        self.misplaced.load(Ordering::Relaxed) || self.ids.has_changed(&partition.topic)
    }

    /// Whether some partition's place was gone since it was asked last.
    pub(super) fn take_misplaced(&self) -> bool {
        self.misplaced.swap(false, Ordering::Relaxed)
    }

    /// Whether reading was denied since it was asked last.
    pub(super) fn take_denied(&self) -> bool {
        self.denied.swap(false, Ordering::Relaxed)
    }

    /// Whether a topic was not found since it was asked last.
    pub(super) fn take_missing(&self) -> bool {
        self.missing.swap(false, Ordering::Relaxed)
    }

    /// librdkafka's words, and what it does not say in them: whose right is missing.
    fn about(&self, code: Code, reason: &str) -> String {
        match code {
            // Each partition's words would name its broker, and so look like news.
            Code::TopicAuthorizationFailed => format!("input {}: {}", self.topics, notice::code_words(code)),
            Code::GroupAuthorizationFailed => format!("group {}: {reason}", self.group),
            _ => reason.to_owned(),
        }
    }

    /// Has all partitions looked at again.
    pub(super) fn set_misplaced(&self) {
        self.misplaced.store(true, Ordering::Relaxed);
    }

    fn leave(&self, word: impl FnOnce(&mut Inbox)) {
        word(&mut self.inbox.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

impl ClientContext for Callbacks {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        if matches!(level, RDKafkaLogLevel::Debug) {
            self.ids.hear(line);
            if !self.verbose {
                return;
            }
        }
        notice::log(Client::Source, level, facility, line);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        let code = notice::code(&error);
        match code {
            // Nobody hears that it is over.
            _ if self.closing.load(Ordering::Relaxed) => return,
            Code::AutoOffsetReset | Code::LogTruncation => {
                tracing::warn!("{}; it is looked where reading goes on", notice::clean(reason));
                return self.set_misplaced();
            }
            // Told once the cluster says so too, with the names of all that are.
            Code::UnknownTopicOrPartition | Code::UnknownTopic | Code::UnknownPartition => {
                return self.missing.store(true, Ordering::Relaxed);
            }
            Code::TopicAuthorizationFailed => self.denied.store(true, Ordering::Relaxed),
            _ => {}
        }
        self.reporter.error(&error, &self.about(code, reason));
    }

    fn stats(&self, statistics: Statistics) {
        let is_member = |group: &ConsumerGroup| group.state == "up" && group.stateage >= UNTOLD_AFTER_MS;
        if self.broker_assigns && statistics.cgrp.as_ref().is_some_and(is_member) {
            self.reporter.joined();
        }
        self.reporter.statistics(&statistics);
    }
}

impl ConsumerContext for Callbacks {
    fn rebalance(&self, kafka: &BaseConsumer<Self>, kind: RDKafkaRespErr, list: &mut TopicPartitionList) {
        if self.closing.load(Ordering::Relaxed) {
            let cooperative = matches!(kafka.rebalance_protocol(), RebalanceProtocol::Cooperative);
            let assigned = kind == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS;
            // Refused only where there is nothing to answer any more.
            let _ = match (cooperative, assigned) {
                (true, true) => kafka.incremental_assign(list),
                (true, false) => kafka.incremental_unassign(list),
                (false, true) => kafka.assign(list),
                (false, false) => kafka.unassign(),
            };
            return;
        }
        let list = list.clone();
        self.leave(|inbox| {
            inbox.rebalances.push(match kind {
                RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS => Rebalanced::Assign(list),
                _ => Rebalanced::Revoke(list),
            });
        });
    }
}
