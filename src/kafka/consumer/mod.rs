//! The source's thread: polls, hands records over, answers rebalances and commits.
//!
//! It polls for ever, with permits or without, so that the group never thinks it dead. Everything it decides with is
//! its own; librdkafka's callbacks only leave word in an [`Inbox`] that is read between polls.

mod committing;
mod placing;
#[cfg(test)]
mod tests;

use std::{
    collections::{HashMap, HashSet},
    mem,
    sync::{
        Arc,
        mpsc::{self as blocking, RecvTimeoutError},
    },
    thread,
    time::Duration,
};

use rdkafka::{
    Message as _, TopicPartitionList,
    consumer::{BaseConsumer, Consumer as _, RebalanceProtocol},
    error::KafkaError,
    types::RDKafkaErrorCode,
};
use tokio::sync::mpsc::{self, error::TrySendError};

use super::{
    absence::Absence,
    assigned::Assigned,
    callbacks::{Callbacks, Connection, Inbox, Rebalanced},
    client::KafkaConfig,
    denial::Denial,
    discard::discard,
    ear::Ear,
    flow::Flow,
    notice::{self, Client, Notice, Reporter},
    place,
    source::{Mail, Mailbox, SettledReply, SourceEvent, Start, StartSourceError},
    waiting::Waiting,
};
use crate::{
    clock::Clock,
    crash_point::{self, Point},
    domain::{
        commit_point::CommitPoint,
        record::{Epoch, Partition, Record},
        time::BootTime,
    },
};

/// Records handed over at once.
const BATCH: usize = 256;

/// The longest wait inside librdkafka, and so until a command is seen.
const IDLE_POLL: Duration = Duration::from_millis(50);

/// How often it is tried again to hand a batch over to a dispatcher that has not kept up.
const FULL_RETRY: Duration = Duration::from_millis(1);

/// So much earlier than the source gives up waiting the dispatcher is to answer, and how often it is looked meanwhile
/// whether a transaction wants something.
const ANSWER_SLACK: Duration = Duration::from_secs(1);
const ANSWER_STEP: Duration = Duration::from_millis(5);

/// How long to wait before a new consumer is made in place of one that failed for good.
const RECREATE_AFTER: Duration = Duration::from_secs(5);

/// The same where another static member of this name has joined: whoever joins last drives the other out, and both would do
/// nothing else.
const AFTER_FENCING: Duration = Duration::from_mins(1);

pub(super) struct Consumer {
    config: KafkaConfig,
    topics: Vec<String>,
    start: Start,
    mailbox: Arc<Mailbox>,
    events: mpsc::Sender<SourceEvent>,
    reporter: Arc<Reporter>,
    connection: Connection,
    epoch: Epoch,
    assigned: Assigned,
    /// Polled, and not handed over yet.
    batch: Vec<Record>,
    commits: HashMap<Partition, CommitPoint>,
    commit_in_flight: bool,
    flow: Flow,
    ear: Ear,
    denial: Denial,
    absence: Absence,
    /// Topics that were read.
    read: HashSet<Arc<str>>,
    /// Assigned, and not read yet.
    waiting: Waiting,
    /// Nothing is read again before, for the brokers did not say where.
    not_again_before: BootTime,
    /// The same of what has lost its place.
    not_looked_before: BootTime,
    clock: Clock,
    /// Whether an assignment could not be taken up.
    failed: bool,
}

enum End {
    Stopped,
    /// It is made anew after this time.
    Failed(Duration),
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
        let clock = Clock::machine();
        let reporter = Arc::new(Reporter::new(Client::Source, &config.bootstrap_servers, notices));
        let connection = Connection::open(config, topics, Arc::clone(&reporter))?;
        Ok(Self {
            config: config.clone(),
            topics: topics.to_vec(),
            start,
            mailbox,
            events,
            reporter,
            connection,
            epoch: Epoch::default(),
            assigned: Assigned::default(),
            batch: Vec::with_capacity(BATCH),
            commits: HashMap::new(),
            commit_in_flight: false,
            flow: Flow::default(),
            ear: Ear::default(),
            denial: Denial::default(),
            absence: Absence::new(clock.boot()),
            read: HashSet::new(),
            waiting: Waiting::default(),
            not_again_before: BootTime::default(),
            not_looked_before: BootTime::default(),
            clock,
            failed: false,
        })
    }

    pub(super) fn run(mut self) {
        while let End::Failed(again_after) = self.poll_until_it_ends() {
            self.lose_everything();
            if !self.recreate(again_after) {
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
            let Mail { paused, mut held, stop, again, commits, stamps, .. } = self.mailbox.take();
            self.commits.extend(commits);
            self.stamp(stamps);
            self.read_again(again);
            // What waits for its oldest records must read them, if they are to be read again.
            held.retain(|partition| !self.assigned.is_read_again(partition));
            self.flow.hold_partitions(self.connection.kafka(), &self.assigned, held);
            if stop {
                self.commit_at_the_end();
                crash_point::pass(Point::DrainBeforeLeaving);
                return End::Stopped;
            }
            self.commit();
            let full = !self.hand_over();
            if full || paused {
                self.wait_without_records(if full { FULL_RETRY } else { IDLE_POLL });
            } else {
                self.flow.release(self.connection.kafka(), &mut self.assigned, self.clock.boot());
                self.fill_batch();
                self.hand_over();
            }
            self.answer_callbacks();
            self.look_again();
            self.ask_again();
            self.try_what_was_denied();
            self.look_for_what_is_missing();
            // A turn takes as long as a poll without a record, where no broker is reached.
            let unreachable = self.reporter.is_unreachable();
            let deaf = self.ear.is_deaf(&self.config, IDLE_POLL, unreachable);
            if mem::take(&mut self.failed) || deaf {
                return End::Failed(RECREATE_AFTER);
            }
            if let Some((code, reason)) = self.kafka().client().fatal_error() {
                let about = format!("{reason} ({})", notice::code_words(code));
                self.reporter.trouble(notice::explain(
                    Client::Source,
                    RDKafkaErrorCode::Fatal,
                    &self.config.bootstrap_servers,
                    &about,
                ));
                let fenced = code == RDKafkaErrorCode::FencedInstanceId;
                return End::Failed(if fenced { AFTER_FENCING } else { RECREATE_AFTER });
            }
        }
    }

    /// Polls until a batch is full or nothing more waits, or until nothing more may be read of a partition; blocks only for
    /// the first record.
    fn fill_batch(&mut self) {
        let mut limit = IDLE_POLL;
        while self.batch.len() < BATCH && self.poll_once(limit) && !self.assigned.take_caught_up() {
            limit = Duration::ZERO;
        }
    }

    /// False where nothing came.
    fn poll_once(&mut self, limit: Duration) -> bool {
        match self.connection.kafka().poll(limit) {
            Some(Ok(message)) => {
                // Of a topic that is another one now it is looked first where to read.
                let is_stale = self.connection.callbacks().ids.has_changed(message.topic());
                if !is_stale && let Some(record) = self.assigned.record(&message) {
                    self.batch.push(record);
                    crash_point::pass(Point::ConsumerPolled);
                }
                true
            }
            Some(Err(KafkaError::PartitionEOF(number))) => {
                if self.assigned.end_came(number) {
                    self.connection.callbacks().set_misplaced();
                }
                if self.denial.end_heard() {
                    self.reporter.working();
                }
                true
            }
            // An error was reported by the callback already, with its words.
            Some(Err(_)) => true,
            None => false,
        }
    }

    /// Has partitions answer again that may be readable by now.
    fn try_what_was_denied(&mut self) {
        let now = self.clock.boot();
        if self.connection.callbacks().take_denied() {
            self.denial.said(now);
        } else if !self.reporter.is_denied() {
            self.denial.is_over();
        } else if self.denial.is_due(now) {
            self.denial.tried(self.flow.fetch_anew(self.connection.kafka(), &self.assigned), now);
        }
    }

    /// Asks the cluster whether there are all topics.
    fn look_for_what_is_missing(&mut self) {
        let now = self.clock.boot();
        if self.connection.callbacks().take_missing() {
            self.absence.said(now);
        }
        if !self.absence.is_due(now) || self.reporter.is_unreachable() {
            return;
        }
        let kafka = self.connection.kafka();
        if let Some(missing) = self.absence.ask(&self.topics, now, |topic| place::is_there(kafka, topic)) {
            self.reporter.missing(missing, self.topics.len());
        }
    }

    /// A short wait leaves alone what is fetched ahead; a longer one stops the fetching and goes on polling, which keeps this
    /// instance in its group.
    fn wait_without_records(&mut self, step: Duration) {
        // Counted, not measured; a wait that is cut short by a command counts a little, so that commands can't keep it
        // from polling.
        let waited = if self.mailbox.wait(step) { FULL_RETRY } else { step };
        if !self.flow.hold(self.connection.kafka(), &self.assigned, waited) {
            return;
        }
        // No record comes from a paused partition; one that does must not be lost.
        self.poll_once(Duration::from_millis(1));
    }

    /// False where the dispatcher has not kept up; then the batch stays.
    fn hand_over(&mut self) -> bool {
        if self.batch.is_empty() {
            return true;
        }
        match self.events.try_reserve() {
            Ok(permit) => {
                permit.send(SourceEvent::Records(mem::replace(&mut self.batch, Vec::with_capacity(BATCH))));
                crash_point::pass(Point::ConsumerHandedOver);
                self.reporter.working();
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

    fn answer_callbacks(&mut self) {
        let Inbox { rebalances, commits } = self.connection.callbacks().take_inbox();
        self.hear_commits(commits);
        for rebalance in rebalances {
            match rebalance {
                Rebalanced::Assign(list) => self.assign(&list),
                Rebalanced::Revoke(list) => self.revoke(&list),
            }
        }
    }

    fn revoke(&mut self, revoked: &TopicPartitionList) {
        crash_point::pass(Point::RevokeTold);
        let lost = self.kafka().assignment_lost();
        let partitions = self.assigned.partitions(revoked);
        // Also where they are lost: they are where the topic is deleted.
        self.tell_what_is_gone(&partitions);
        self.batch.retain(|record| !partitions.contains(&record.receipt.partition));
        let (reply, settled) = blocking::sync_channel(1);
        let limit = self.config.settle_limit();
        let within = limit.saturating_sub(ANSWER_SLACK).max(limit / 2);
        self.tell(SourceEvent::Revoked { partitions: partitions.clone(), lost, within, settled: SettledReply(reply) });
        if !lost {
            let (settled, left) = self.settled(&settled, limit);
            self.see_commit_answered(left);
            self.commits.extend(self.mailbox.take_commits());
            self.commits.extend(settled.into_iter().map(|point| (point.partition.clone(), point)));
            self.commit_now(|partition| partitions.contains(partition));
        }
        self.commits.retain(|partition, _| !partitions.contains(partition));
        crash_point::pass(Point::RevokeBeforeGivingUp);
        self.waiting.forget(revoked);
        let given_up = match self.kafka().rebalance_protocol() {
            RebalanceProtocol::Cooperative => {
                // Of those that wait librdkafka knows nothing, and it gives none up where it does not know one.
                let taken_up = self.assigned.list_where(|partition| partitions.contains(partition));
                self.kafka().incremental_unassign(&taken_up)
            }
            _ => self.kafka().unassign(),
        };
        if let Err(error) = given_up {
            tracing::warn!(error = %notice::error_words(&error), "giving up partitions failed");
        }
        self.assigned.remove(&partitions);
        crash_point::pass(Point::RevokeGivenUp);
    }

    /// Waits for the dispatcher's answer; and vouches meanwhile for what it still commits in a transaction. Returns also what
    /// is left of the time.
    fn settled(&self, reply: &blocking::Receiver<Vec<CommitPoint>>, limit: Duration) -> (Vec<CommitPoint>, Duration) {
        let mut left = limit;
        while !left.is_zero() {
            match reply.recv_timeout(ANSWER_STEP) {
                Err(RecvTimeoutError::Timeout) => self.stamp(self.mailbox.take_stamps()),
                answer => return (answer.unwrap_or_default(), left),
            }
            left = left.saturating_sub(ANSWER_STEP);
            crash_point::pass(Point::RevokeWaiting);
        }
        (Vec::new(), left)
    }

    /// The consumer has failed for good, and its partitions with it.
    fn lose_everything(&mut self) {
        self.batch.clear();
        self.commits.clear();
        self.commit_in_flight = false;
        self.waiting = Waiting::default();
        let partitions = self.assigned.clear();
        if !partitions.is_empty() {
            let (reply, _) = blocking::sync_channel(1);
            let within = Duration::ZERO;
            self.tell(SourceEvent::Revoked { partitions, lost: true, within, settled: SettledReply(reply) });
        }
    }

    /// Makes a new consumer; false where stop was asked meanwhile.
    fn recreate(&mut self, again_after: Duration) -> bool {
        loop {
            if self.stop_comes_within(again_after) {
                return false;
            }
            match Connection::open(&self.config, &self.topics, Arc::clone(&self.reporter)) {
                Ok(connection) => {
                    let failed = mem::replace(&mut self.connection, connection);
                    self.flow = Flow::default();
                    discard(failed);
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
        self.connection.kafka()
    }
}
