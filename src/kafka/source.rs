//! Where records come from: a consumer on a thread of its own, and the messages between it and the dispatcher.
//!
//! Why a thread: librdkafka reports a rebalance from inside `poll` and then waits until it is answered, and a revoked
//! partition is given up only when the dispatcher has said how far it is settled. Waiting for that inside an `async
//! fn` would hold up a worker of the runtime; here it holds up nobody.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, mpsc as blocking},
    thread,
    time::Duration,
};

use jiff::Timestamp;
use rdkafka::{TopicPartitionList, consumer::ConsumerGroupMetadata};
use tokio::sync::mpsc;

use super::{
    client::{InvalidKafkaConfig, KafkaConfig},
    consumer::Consumer,
    notice::Notice,
};
use crate::domain::{
    commit_point::CommitPoint,
    record::{Epoch, Partition, Receipt, Record},
};

/// Events that may wait for the dispatcher; with batches of 256 this bounds what is between the two.
const EVENT_CAPACITY: usize = 8;

/// What the source tells the dispatcher, in order. The dispatcher must go on receiving at all times; to hold records
/// back it says [`SourceHandle::pause`].
#[derive(Debug)]
pub enum SourceEvent {
    /// At least one, at most 256 records, in the order of their partitions.
    Records(Vec<Record>),
    /// These partitions are now this instance's. Their records carry this epoch. `committed`: how far those were settled
    /// that were read before. `begun`: where others begin, if that is to be committed.
    Assigned { partitions: Vec<Partition>, committed: Vec<CommitPoint>, begun: Vec<CommitPoint>, epoch: Epoch },
    /// These partitions, which stay this instance's, have another log now, and are read from here on. What was read of the
    /// old one is nowhere else any more: it is to be finished, and settles nothing.
    BegunAnew { begun: Vec<CommitPoint> },
    /// The topics of these partitions are gone. What was read of them is to be finished, and settles nothing.
    Gone { partitions: Vec<Partition> },
    /// A partition is read again from this record on, as it was asked for; what comes before the first that was not read
    /// before was read before. The oldest offset that Kafka keeps is `first`.
    ReadAgain { from: Receipt, first: i64 },
    /// Kafka removed records of a partition before they were read: so many offsets.
    Removed { partition: Partition, offsets: u64 },
    /// These partitions are to be given up. The source waits for `settled` (at most half the session timeout, and a moment
    /// longer than `within`), commits that, and only then lets go. `lost`: they are gone already, nothing can be committed,
    /// and nobody waits.
    Revoked { partitions: Vec<Partition>, lost: bool, within: Duration, settled: SettledReply },
    /// A commit was answered. Points may be reported more than once; a failed commit is not repeated by the source, a
    /// later one covers it.
    Committed { result: Result<Vec<CommitPoint>, String> },
    /// The last event: the group was left.
    Stopped,
}

/// The dispatcher's answer to a revocation. Dropped unanswered it means that there is nothing more to commit.
#[derive(Debug)]
pub struct SettledReply(pub(super) blocking::SyncSender<Vec<CommitPoint>>);

impl SettledReply {
    /// Says how far the revoked partitions are settled for good. Never blocks.
    pub fn settle(self, points: Vec<CommitPoint>) {
        // A refusal means that the source has stopped waiting; what is not committed is read again by the next owner.
        let _ = self.0.try_send(points);
    }
}

/// Where to begin in a partition for which the group has committed no offset yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Start {
    #[default]
    Earliest,
    Latest,
    /// At the first record with this Kafka timestamp or a later one.
    At(Timestamp),
}

/// Commands for the source. None of them blocks; the source sees them within about 50 ms.
pub struct SourceHandle {
    mailbox: Arc<Mailbox>,
}

/// Starts reading `topics`. Fails only for a configuration that can never work; everything else is told as a notice
/// while the source tries again by itself.
pub fn start(
    config: &KafkaConfig,
    topics: &[String],
    start: Start,
    notices: mpsc::Sender<Notice>,
) -> Result<(SourceHandle, mpsc::Receiver<SourceEvent>), StartSourceError> {
    let (events, receiver) = mpsc::channel(EVENT_CAPACITY);
    let mailbox = Arc::new(Mailbox::default());
    let consumer = Consumer::new(config, topics, start, Arc::clone(&mailbox), events, notices)?;
    let run = move || consumer.run();
    thread::Builder::new().name("kafka-source".into()).spawn(run).map_err(StartSourceError::Thread)?;
    Ok((SourceHandle { mailbox }, receiver))
}

#[derive(Debug, thiserror::Error)]
pub enum StartSourceError {
    #[error(transparent)]
    Config(#[from] InvalidKafkaConfig),
    #[error("the thread that reads from kafka can't be started: {0}")]
    Thread(std::io::Error),
}

impl SourceHandle {
    /// No more records until [`Self::resume`], but for at most two batches that are on their way. The source keeps
    /// its place in the group however long that takes.
    pub fn pause(&self) {
        self.mailbox.post(|mail| mail.paused = true);
    }

    pub fn resume(&self) {
        self.mailbox.post(|mail| mail.paused = false);
    }

    /// No more records of these partitions, and of these only, but for those on their way, until it is said otherwise.
    pub fn hold(&self, partitions: HashSet<Partition>) {
        self.mailbox.post(|mail| mail.held = partitions);
    }

    /// Reads these partitions again from these records on, soon, and says so with [`SourceEvent::ReadAgain`]. What can't be
    /// done now is not done: who wants it asks again. A partition that is [held](Self::hold) is read as far as it was before.
    pub fn read_again(&self, from: Vec<Receipt>) {
        self.mailbox.post(|mail| mail.again.extend(from.into_iter().map(|from| (from.partition.clone(), from))));
    }

    /// Commits these points soon. Of several points of one partition only the last is committed; points of another
    /// assignment than the current one are left out.
    pub fn commit(&self, points: Vec<CommitPoint>) {
        self.mailbox.post(|mail| mail.commits.extend(points.into_iter().map(|point| (point.partition.clone(), point))));
    }

    /// Makes the commits that were asked for, leaves the group and ends with [`SourceEvent::Stopped`]. librdkafka may take
    /// arbitrarily long to leave a group whose brokers are away.
    pub fn stop(&self) {
        self.mailbox.post(|mail| mail.stop = true);
    }
}

/// Vouches for commit points, for a transaction to carry them.
#[derive(Clone)]
pub struct Stamper(Arc<Mailbox>);

/// Points of the current assignment, as a member of the group.
pub(super) struct Stamped {
    pub(super) list: TopicPartitionList,
    pub(super) group: ConsumerGroupMetadata,
}

/// The reply is `None` where one of the points is of an assignment that has ended.
pub(super) struct StampAsk {
    pub(super) points: Vec<CommitPoint>,
    pub(super) reply: blocking::SyncSender<Option<Stamped>>,
}

impl Stamper {
    /// `None` where a point is of an assignment that has ended, or the source does not answer within `limit`.
    pub(super) fn stamp(&self, points: &[CommitPoint], limit: Duration) -> Option<Stamped> {
        let (reply, stamped) = blocking::sync_channel(1);
        self.0.post(|mail| mail.stamps.push(StampAsk { points: points.to_vec(), reply }));
        stamped.recv_timeout(limit).ok().flatten()
    }
}

impl SourceHandle {
    /// For whoever commits points in transactions.
    pub fn stamper(&self) -> Stamper {
        Stamper(Arc::clone(&self.mailbox))
    }
}

impl Drop for SourceHandle {
    fn drop(&mut self) {
        self.stop();
    }
}

/// What the dispatcher wants, the latest of each: a mailbox instead of a channel, so that posting can neither block
/// nor fail nor pile up while the source waits in a rebalance.
#[derive(Default)]
pub(super) struct Mailbox {
    mail: Mutex<Mail>,
    posted: Condvar,
}

#[derive(Default)]
pub(super) struct Mail {
    pub(super) paused: bool,
    pub(super) held: HashSet<Partition>,
    pub(super) stop: bool,
    pub(super) again: HashMap<Partition, Receipt>,
    pub(super) commits: HashMap<Partition, CommitPoint>,
    pub(super) stamps: Vec<StampAsk>,
    unread: bool,
}

impl Mailbox {
    fn post(&self, write: impl FnOnce(&mut Mail)) {
        let mut mail = self.lock();
        write(&mut mail);
        mail.unread = true;
        self.posted.notify_one();
    }

    /// The standing wishes, and the commits and questions since the last time.
    pub(super) fn take(&self) -> Mail {
        let mut mail = self.lock();
        mail.unread = false;
        let (commits, stamps) = (std::mem::take(&mut mail.commits), std::mem::take(&mut mail.stamps));
        let again = std::mem::take(&mut mail.again);
        Mail { paused: mail.paused, held: mail.held.clone(), stop: mail.stop, again, commits, stamps, unread: false }
    }

    /// The commits since the last time, and nothing else.
    pub(super) fn take_commits(&self) -> HashMap<Partition, CommitPoint> {
        std::mem::take(&mut self.lock().commits)
    }

    /// The questions since the last time, and nothing else.
    pub(super) fn take_stamps(&self) -> Vec<StampAsk> {
        std::mem::take(&mut self.lock().stamps)
    }

    /// Waits for something unread; false where `limit` was over first.
    pub(super) fn wait(&self, limit: Duration) -> bool {
        let waited = self.posted.wait_timeout_while(self.lock(), limit, |mail| !mail.unread);
        !waited.unwrap_or_else(PoisonError::into_inner).1.timed_out()
    }

    fn lock(&self) -> MutexGuard<'_, Mail> {
        self.mail.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
