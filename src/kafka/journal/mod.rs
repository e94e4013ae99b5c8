//! The journal as Kafka keeps it: bytes appended to one partition, and read back in the order that decides.
//!
//! It knows nothing of claims. Two clients stand behind it, one that reads (on a thread of its own, for the reason given
//! in `source`) and one that appends; a task judges the topic's settings. All three speak through one channel of
//! [`LogEvent`]s.
//!
//! The law: what is handed over is exactly the partition's entries of the key, in order, each once, from where
//! [`LogEvent::Reading`] says on. Where that can't be kept up, [`LogEvent::Broken`] says so and nothing more is read until
//! the owner asks for it; the place in the log never moves silently. One thing is noticed late, within 10 s without entries:
//! a topic that was deleted and created anew in a moment, and that has more entries than were read of the old one.

mod access;
mod link;
mod place;
mod reader;
pub mod settings;
#[cfg(test)]
mod tests;
mod watch;
mod writer;

use std::{sync::Arc, thread, time::Duration};

use jiff::Timestamp;
use tokio::{
    sync::{Notify, mpsc, watch as latest},
    task::JoinHandle,
};

pub use self::{
    access::{NoAccess, try_access},
    place::Break,
    settings::{Demands, Judgement},
    writer::{AppendFailed, AppendId},
};
use self::{
    link::Link,
    reader::Reader,
    writer::{Partition, Writer},
};
use super::{
    client::{InvalidKafkaConfig, KafkaConfig},
    notice::Client,
};

/// Events that may wait for the owner. When they do, reading waits too.
const EVENT_CAPACITY: usize = 1_024;

/// Whose entries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogPlace {
    pub topic: String,
    /// `tenant_id/client_id` in lower case. All entries of a key lie in one partition, which is chosen here as Java's
    /// default partitioner does (murmur2 of the key, modulo the number of partitions).
    pub key: String,
}

/// Where reading begins.
#[derive(Clone, Copy, Debug)]
pub enum Start {
    /// At the oldest entry that is kept.
    Beginning,
    Offset(i64),
    /// At the first entry stamped then or later, by the broker's clock.
    Since(Timestamp),
    /// At the newest checkpoint of the key that is old enough, else, where the log has lost its beginning, at the oldest;
    /// at the beginning where there is none.
    Checkpoint(Checkpoint),
}

/// Which entry a replay begins with.
///
/// It is searched backwards from the end, rather than forwards from a point in time: the way is as short as the newest
/// checkpoint is near, it needs no assumption about how often checkpoints come, and none that this host's wall clock
/// agrees with the broker's.
#[derive(Clone, Copy, Debug)]
pub struct Checkpoint {
    /// Whether an entry of the key is a checkpoint.
    pub is_it: fn(&[u8]) -> bool,
    /// How much older than the newest entry of the partition it must be: answers and re-asks are replayed as far back as
    /// they count.
    pub older_by: Duration,
}

/// What the log tells its owner, who must go on receiving.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogEvent {
    /// Reading begins anew: the entries that follow are those from this place on.
    Reading(ReadingFrom),
    Entry(LogEntry),
    /// Every entry that the log held when reading began, or was taken up after a gap, has been handed over. `end` is one
    /// past the last of them.
    CaughtUp {
        end: i64,
    },
    /// What became of an append: its offset. Exactly one for each that was accepted; it may come before or after the
    /// entry itself.
    Appended {
        id: AppendId,
        result: Result<i64, AppendFailed>,
    },
    /// Nothing is read at present; reading is taken up again by itself. Later words replace earlier ones.
    Trouble(String),
    /// The last trouble has passed: the log is read again.
    Working,
    /// Nothing is read until [`JournalLog::read_from`] says where to begin again.
    Broken(Break),
    /// How the topic's settings are judged: once they are known, and whenever that changes. Until then nothing is known of
    /// them.
    Settings(Judgement),
}

/// Where reading began, and what there was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadingFrom {
    pub offset: i64,
    /// One past the newest entry then.
    pub end: i64,
    /// The oldest entry that is kept. Where it is `end` too, the partition is empty; where both are 0, nothing was ever
    /// written to it.
    pub first: i64,
    /// Whether `offset` is what was asked for: false where there is no such checkpoint.
    pub found: bool,
}

/// One entry of the key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogEntry {
    pub offset: i64,
    /// Its timestamp in milliseconds since 1970.
    pub at: i64,
    /// Whether `at` is the broker's clock (LogAppendTime), not that of whoever wrote it (CreateTime).
    pub stamped_by_broker: bool,
    /// Empty for a tombstone, which nobody should write here.
    pub payload: Box<[u8]>,
}

/// What can be done with a log. The seam that lets a simulated one stand in for Kafka.
pub trait Log: Send + 'static {
    /// Hands a message in, without blocking. Accepted, it is answered by one [`LogEvent::Appended`]; an error is the whole
    /// answer, and the message is not in the log.
    fn append(&mut self, payload: &[u8]) -> Result<AppendId, AppendFailed>;

    /// Begins to read anew, for instance after [`LogEvent::Broken`]. What was read before may still be among the events;
    /// [`LogEvent::Reading`] comes between.
    fn read_from(&mut self, start: Start);
}

/// The log of one account. Dropped, it stops: what was not appended yet is given up.
pub struct JournalLog {
    writer: Writer,
    start: latest::Sender<Start>,
    watch: JoinHandle<()>,
}

#[derive(Debug, thiserror::Error)]
pub enum OpenJournalError {
    #[error(transparent)]
    Config(#[from] InvalidKafkaConfig),
    #[error("the thread that reads the journal can't be started: {0}")]
    Thread(std::io::Error),
}

impl JournalLog {
    /// Begins to read, and is ready to append. Fails only for a configuration that can never work; everything else is
    /// told as an event, while it is tried again. `give_up_after`: so long an entry is tried to be appended.
    ///
    /// Must be called inside a tokio runtime.
    pub fn open(
        config: &KafkaConfig,
        place: &LogPlace,
        start: Start,
        demands: Demands,
        give_up_after: Duration,
    ) -> Result<(Self, mpsc::Receiver<LogEvent>), OpenJournalError> {
        let (events, receiver) = mpsc::channel(EVENT_CAPACITY);
        let (partition, connected) = (Partition::default(), Arc::new(Notify::new()));
        let writer = Writer::new(config, place, give_up_after, partition.clone(), events.clone())?;
        let (start, asked) = latest::channel(start);
        let link = Link::open(config, place, Client::Journal)?;
        let reader = Reader::new(link, asked, partition, events.clone(), Arc::clone(&connected));
        let run = move || reader.run();
        thread::Builder::new().name("kafka-journal".into()).spawn(run).map_err(OpenJournalError::Thread)?;
        let watch = tokio::spawn(watch::run(config.clone(), place.topic.clone(), demands, connected, events));
        Ok((Self { writer, start, watch }, receiver))
    }
}

impl Log for JournalLog {
    fn append(&mut self, payload: &[u8]) -> Result<AppendId, AppendFailed> {
        self.writer.append(payload)
    }

    fn read_from(&mut self, start: Start) {
        self.start.send_replace(start);
    }
}

impl Drop for JournalLog {
    fn drop(&mut self) {
        self.watch.abort();
    }
}
