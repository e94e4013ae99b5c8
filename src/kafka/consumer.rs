//! The source's thread: polls, hands records over, answers rebalances and commits.
//!
//! It polls for ever, with permits or without, so that the group never thinks it dead. Everything it decides with is
//! its own; librdkafka's callbacks only leave word in an [`Inbox`] that is read between polls.

use std::{
    collections::{HashMap, HashSet},
    mem,
    sync::{Arc, mpsc as blocking},
    thread,
    time::Duration,
};

use rdkafka::{
    Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer as _, RebalanceProtocol},
    error::KafkaResult,
    types::RDKafkaErrorCode,
};
use tokio::sync::mpsc::{self, error::TrySendError};

use super::{
    assigned::Assigned,
    callbacks::{self, Callbacks, Connection, Inbox, Rebalanced},
    client::KafkaConfig,
    notice::{self, Client, Notice, Reporter, Trouble},
    source::{Mail, Mailbox, SettledReply, SourceEvent, Start, StartSourceError},
};
use crate::domain::{
    commit_point::CommitPoint,
    record::{Epoch, Partition, Record},
};

/// Records handed over at once.
const BATCH: usize = 256;

/// The longest wait inside librdkafka, and so until a command is seen.
const IDLE_POLL: Duration = Duration::from_millis(50);

/// How many idle polls, at the end, the answer to a commit under way is waited for: 5 s.
const LAST_COMMIT_POLLS: usize = 100;

/// How often it is tried again to hand a batch over to a dispatcher that has not kept up.
const FULL_RETRY: Duration = Duration::from_millis(1);

/// A pause shorter than this is not told to librdkafka, which would throw away what it has fetched ahead.
const SHORT_PAUSE: Duration = Duration::from_millis(250);

/// How long to wait before a new consumer is made in place of one that failed for good.
const RECREATE_AFTER: Duration = Duration::from_secs(5);

/// How long, and how often, the brokers are asked where partitions begin: a minute at most, in which others of the group
/// may have to wait, and less than the group waits for a member.
const PLACE_LIMIT: Duration = Duration::from_secs(5);
const PLACE_ATTEMPTS: usize = 12;
const PLACE_PAUSE: Duration = Duration::from_millis(200);

pub(super) struct Consumer {
    config: KafkaConfig,
    topics: Vec<String>,
    start: Start,
    mailbox: Arc<Mailbox>,
    events: mpsc::Sender<SourceEvent>,
    notices: mpsc::Sender<Notice>,
    connection: Connection,
    epoch: Epoch,
    assigned: Assigned,
    /// Polled, and not handed over yet.
    batch: Vec<Record>,
    commits: HashMap<Partition, CommitPoint>,
    commit_in_flight: bool,
    /// How long records have been held back so far.
    held_for: Duration,
    /// Whether librdkafka was told to fetch nothing.
    paused: bool,
    /// Partitions of which it was told to fetch nothing.
    held: HashSet<Partition>,
    /// Whether an assignment could not be taken up.
    failed: bool,
}

enum End {
    Stopped,
    Failed,
}

impl Consumer {
    pub(super) fn new(
        config: &KafkaConfig,
        topics: &[String],
        start: Start,
        mailbox: Arc<Mailbox>,
        events: mpsc::Sender<SourceEvent>,
        notices: mpsc::Sender<Notice>,
    ) -> Result<Self, StartSourceError> {
        let connection = Connection::open(config, topics, notices.clone())?;
        Ok(Self {
            config: config.clone(),
            topics: topics.to_vec(),
            start,
            mailbox,
            events,
            notices,
            connection,
            epoch: Epoch::default(),
            assigned: Assigned::default(),
            batch: Vec::with_capacity(BATCH),
            commits: HashMap::new(),
            commit_in_flight: false,
            held_for: Duration::ZERO,
            paused: false,
            held: HashSet::new(),
            failed: false,
        })
    }

    pub(super) fn run(mut self) {
        while let End::Failed = self.poll_until_it_ends() {
            self.lose_everything();
            if !self.recreate() {
                break;
            }
        }
        let Self { connection, events, .. } = self;
        drop(connection);
        // A dispatcher that is gone needs no events.
        let _ = events.blocking_send(SourceEvent::Stopped);
    }

    fn poll_until_it_ends(&mut self) -> End {
        loop {
            let Mail { paused, held, stop, commits, .. } = self.mailbox.take();
            self.commits.extend(commits);
            self.hold_partitions(held);
            if stop {
                self.commit_at_the_end();
                return End::Stopped;
            }
            self.commit();
            let full = !self.hand_over();
            if full || paused {
                self.hold(if full { FULL_RETRY } else { IDLE_POLL });
            } else {
                self.release();
                self.fill_batch();
                self.hand_over();
            }
            self.answer_callbacks();
            if mem::take(&mut self.failed) {
                return End::Failed;
            }
            if let Some((code, reason)) = self.kafka().client().fatal_error() {
                let about = format!("{reason} ({})", notice::code_words(code));
                self.reporter().trouble(notice::explain(
                    Client::Source,
                    RDKafkaErrorCode::Fatal,
                    &self.config.bootstrap_servers,
                    &about,
                ));
                return End::Failed;
            }
        }
    }

    /// Polls until a batch is full or nothing more waits; blocks only for the first record.
    fn fill_batch(&mut self) {
        let mut limit = IDLE_POLL;
        while self.batch.len() < BATCH {
            match self.connection.kafka.poll(limit) {
                Some(Ok(message)) => {
                    if let Some(record) = self.assigned.record(&message) {
                        self.batch.push(record);
                    }
                    limit = Duration::ZERO;
                }
                // An error was reported by the callback already, with its words.
                Some(Err(_)) => limit = Duration::ZERO,
                None => break,
            }
        }
    }

    /// False where the dispatcher has not kept up; then the batch stays.
    fn hand_over(&mut self) -> bool {
        if self.batch.is_empty() {
            return true;
        }
        match self.events.try_reserve() {
            Ok(permit) => {
                permit.send(SourceEvent::Records(mem::replace(&mut self.batch, Vec::with_capacity(BATCH))));
                self.reporter().working();
                true
            }
            Err(TrySendError::Full(())) => false,
            // Nobody is left to read: the records were never taken.
            Err(TrySendError::Closed(())) => {
                self.batch.clear();
                true
            }
        }
    }

    /// Waits without taking records. A short wait leaves alone what is fetched ahead; a longer one stops the fetching
    /// and goes on polling, which keeps this instance in its group.
    fn hold(&mut self, step: Duration) {
        // Counted, not measured; a wait that is cut short by a command counts a little, so that commands can't keep it
        // from polling.
        let waited = if self.mailbox.wait(step) { FULL_RETRY } else { step };
        self.held_for = self.held_for.saturating_add(waited);
        if self.held_for < SHORT_PAUSE {
            return;
        }
        if !self.paused {
            self.paused = true;
            self.tell_paused(&self.assigned.list_where(|_| true));
        }
        if let Some(Ok(message)) = self.connection.kafka.poll(Duration::from_millis(1)) {
            // None comes from a paused partition; one that did must not be lost.
            self.batch.extend(self.assigned.record(&message));
        }
    }

    fn release(&mut self) {
        self.held_for = Duration::ZERO;
        if mem::take(&mut self.paused) {
            self.tell_resumed(&self.assigned.list_where(|partition| !self.held.contains(partition)));
        }
    }

    /// Fetches nothing of these partitions, and what is not held any more again.
    fn hold_partitions(&mut self, held: HashSet<Partition>) {
        if held == self.held {
            return;
        }
        self.tell_paused(&self.assigned.list_where(|partition| held.contains(partition)));
        let released = self.assigned.list_where(|partition| self.held.contains(partition) && !held.contains(partition));
        if !self.paused {
            self.tell_resumed(&released);
        }
        self.held = held;
    }

    fn tell_resumed(&self, list: &TopicPartitionList) {
        if let Err(error) = self.kafka().resume(list) {
            tracing::warn!(error = %notice::error_words(&error), "resuming partitions failed");
        }
    }

    fn tell_paused(&self, list: &TopicPartitionList) {
        if let Err(error) = self.kafka().pause(list) {
            tracing::warn!(error = %notice::error_words(&error), "pausing partitions failed");
        }
    }

    fn answer_callbacks(&mut self) {
        let Inbox { rebalances, commits } = self.connection.callbacks().take_inbox();
        for committed in commits {
            self.commit_in_flight = false;
            let result = committed.map(|list| self.assigned.points(&list));
            self.tell(SourceEvent::Committed { result });
        }
        for rebalance in rebalances {
            match rebalance {
                Rebalanced::Assign(list) => self.assign(&list),
                Rebalanced::Revoke(list) => self.revoke(&list),
            }
        }
    }

    fn assign(&mut self, list: &TopicPartitionList) {
        let Some(Placed { list, committed }) = self.place(list) else { return };
        let accepted = match self.kafka().rebalance_protocol() {
            RebalanceProtocol::Cooperative => self.kafka().incremental_assign(&list),
            _ => self.kafka().assign(&list),
        };
        if let Err(error) = accepted {
            let words = notice::error_words(&error);
            self.reporter().trouble(Trouble::Other(format!(
                "an assignment of partitions failed: {words}; the group rebalances again"
            )));
            return;
        }
        self.epoch = Epoch(self.epoch.0 + 1);
        let partitions = self.assigned.add(&list, self.epoch);
        if self.paused {
            self.tell_paused(&list);
        }
        if !partitions.is_empty() {
            self.reporter().working();
        }
        let committed = self.assigned.points(&committed);
        self.tell(SourceEvent::Assigned { partitions, committed, epoch: self.epoch });
    }

    /// Asks where partitions begin, and how far they are settled. Without an answer nothing is read: what was settled would
    /// be done again.
    fn place(&mut self, list: &TopicPartitionList) -> Option<Placed> {
        for _ in 0..PLACE_ATTEMPTS {
            match placed(self.kafka(), list, self.start) {
                Ok(placed) => return Some(placed),
                Err(error) => tracing::warn!(error = %notice::error_words(&error), "asking where to begin failed"),
            }
            thread::sleep(PLACE_PAUSE);
        }
        self.reporter().trouble(Trouble::Other(
            "kafka does not say how far the group has committed; the consumer joins again until it does".to_owned(),
        ));
        self.failed = true;
        None
    }

    fn revoke(&mut self, revoked: &TopicPartitionList) {
        let lost = self.kafka().assignment_lost();
        let partitions = self.assigned.partitions(revoked);
        self.batch.retain(|record| !partitions.contains(&record.receipt.partition));
        let (reply, settled) = blocking::sync_channel(1);
        self.tell(SourceEvent::Revoked { partitions: partitions.clone(), lost, settled: SettledReply(reply) });
        if !lost {
            let settled = settled.recv_timeout(self.config.settle_limit()).unwrap_or_default();
            let mut commits = self.mailbox.take().commits;
            self.commits.extend(commits.drain());
            self.commits.extend(settled.into_iter().map(|point| (point.partition.clone(), point)));
            self.commit_now(|partition| partitions.contains(partition));
        }
        self.commits.retain(|partition, _| !partitions.contains(partition));
        let given_up = match self.kafka().rebalance_protocol() {
            RebalanceProtocol::Cooperative => self.kafka().incremental_unassign(revoked),
            _ => self.kafka().unassign(),
        };
        if let Err(error) = given_up {
            tracing::warn!(error = %notice::error_words(&error), "giving up partitions failed");
        }
        self.assigned.remove(&partitions);
        // Should they come back, they begin anew.
        self.held.retain(|partition| !partitions.contains(partition));
    }

    /// Starts a commit of everything that waits for one; one at a time.
    fn commit(&mut self) {
        if self.commit_in_flight || self.commits.is_empty() {
            return;
        }
        let commits = mem::take(&mut self.commits);
        let list = self.assigned.commit_list(commits.into_values());
        if list.count() == 0 {
            return;
        }
        self.commit_in_flight = self.connection.commit_soon(list);
    }

    /// Commits what waits for these partitions and waits for the answer.
    fn commit_now(&mut self, these: impl Fn(&Partition) -> bool) {
        let commits: Vec<_> =
            self.commits.extract_if(|partition, _| these(partition)).map(|(_, point)| point).collect();
        let list = self.assigned.commit_list(commits);
        if list.count() == 0 {
            return;
        }
        let result = callbacks::commit(self.kafka(), list).map(|list| self.assigned.points(&list));
        self.tell(SourceEvent::Committed { result });
    }

    /// Sees the commit under way answered and makes the last one.
    fn commit_at_the_end(&mut self) {
        self.batch.clear();
        for _ in 0..LAST_COMMIT_POLLS {
            if !self.commit_in_flight {
                break;
            }
            // Records that still come are read again after the next start.
            self.kafka().poll(IDLE_POLL);
            self.answer_callbacks();
        }
        self.commit_now(|_| true);
    }

    /// The consumer has failed for good, and its partitions with it.
    fn lose_everything(&mut self) {
        self.batch.clear();
        self.commits.clear();
        self.commit_in_flight = false;
        let partitions = self.assigned.clear();
        self.held.clear();
        if !partitions.is_empty() {
            let (reply, _) = blocking::sync_channel(1);
            self.tell(SourceEvent::Revoked { partitions, lost: true, settled: SettledReply(reply) });
        }
    }

    /// Makes a new consumer; false where stop was asked meanwhile.
    fn recreate(&mut self) -> bool {
        loop {
            if self.stop_comes_within(RECREATE_AFTER) {
                return false;
            }
            match Connection::open(&self.config, &self.topics, self.notices.clone()) {
                Ok(connection) => {
                    let failed = mem::replace(&mut self.connection, connection);
                    self.paused = false;
                    // Closing may take as long as its brokers are away.
                    let close = thread::Builder::new().name("kafka-close".into()).spawn(move || drop(failed));
                    if let Err(error) = close {
                        tracing::warn!(%error, "no thread to close the failed consumer on");
                    }
                    return true;
                }
                Err(error) => tracing::error!(%error, "the consumer can't be made anew"),
            }
        }
    }

    fn stop_comes_within(&self, limit: Duration) -> bool {
        let mut left = limit;
        while !left.is_zero() {
            if self.mailbox.take().stop {
                return true;
            }
            let step = left.min(IDLE_POLL);
            thread::sleep(step);
            left = left.saturating_sub(step);
        }
        false
    }

    fn tell(&self, event: SourceEvent) {
        // A dispatcher that is gone needs no events.
        let _ = self.events.blocking_send(event);
    }

    fn kafka(&self) -> &BaseConsumer<Callbacks> {
        &self.connection.kafka
    }

    fn reporter(&self) -> &Reporter {
        &self.connection.callbacks().reporter
    }
}

/// Where partitions begin.
struct Placed {
    /// With the offsets to begin at; librdkafka finds those that are not given.
    list: TopicPartitionList,
    /// With what was committed, where something was.
    committed: TopicPartitionList,
}

fn placed(kafka: &BaseConsumer<Callbacks>, list: &TopicPartitionList, start: Start) -> KafkaResult<Placed> {
    let mut begin = list.clone();
    let mut fresh = TopicPartitionList::new();
    let committed = kafka.committed_offsets(list.clone(), PLACE_LIMIT)?;
    for element in committed.elements() {
        element.error()?;
        if element.offset() != Offset::Invalid {
            begin.set_partition_offset(element.topic(), element.partition(), element.offset())?;
        } else if start != Start::Earliest {
            let asked = if let Start::At(time) = start { Offset::Offset(time.as_millisecond()) } else { Offset::End };
            fresh.add_partition_offset(element.topic(), element.partition(), asked)?;
        }
    }
    if let Start::At(_) = start {
        fresh = kafka.offsets_for_times(fresh, PLACE_LIMIT)?;
    }
    for element in fresh.elements() {
        element.error()?;
        begin.set_partition_offset(element.topic(), element.partition(), element.offset())?;
    }
    Ok(Placed { list: begin, committed })
}
