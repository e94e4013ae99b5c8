//! Exactly-once: writes, and the commit points that they settle, in one transaction of Kafka's; on a thread of its own, as
//! all of these calls block.
//!
//! The law: every [`Batch`] comes back with what became of it. Committed means that all of it is in Kafka, aborted that a
//! `read_committed` reader never sees any of it. Where Kafka does not say which, a new producer ends what the old one left
//! open, and the committed offsets tell.
//!
//! The request that ends one transaction, come late, would end the next one half-way; the one with its offsets would take
//! the place of the next one's. The brokers tell producers apart by their epoch, and it does not change from one transaction
//! to the next (KIP-890 changes that, and librdkafka does not have it). So where such a request may have been sent twice, the
//! next transaction has a new producer.

use std::{
    collections::HashSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc as blocking,
    },
    thread,
    time::Duration,
};

use rdkafka::{
    error::{KafkaError, RDKafkaErrorCode as Code},
    producer::Producer as _,
};
use tokio::sync::mpsc;

use super::{
    client::{InvalidKafkaConfig, KafkaConfig},
    discard::discard,
    group,
    notice::{self, Client, Notice, Reporter, Trouble, code},
    sink::{SinkTopics, WriteFailed},
    source::Stamper,
    transaction::{Broken, Connected, Limit, STEP, is_retriable, words},
};
use crate::{
    clock::Clock,
    domain::{
        commit_point::CommitPoint,
        record::{Outgoing, Partition},
        time::BootTime,
    },
};

/// A transaction that is not at its end by then is given up. The brokers give it up after 30 s
/// (`transaction.timeout.ms`).
const GIVE_UP_AFTER: Duration = Duration::from_secs(25);

/// Wait before something that failed is tried again.
const AGAIN_AFTER: Duration = Duration::from_secs(1);

/// Wait before a producer is made in place of one that was fenced: another process may be using its name.
const AFTER_FENCING: Duration = Duration::from_secs(5);

/// Transactions that are aborted for so long, for another reason than their writes, are told.
const TOLD_AFTER: Duration = Duration::from_secs(10);

/// What one transaction holds.
#[derive(Debug, Default)]
pub struct Batch {
    pub writes: Vec<Outgoing>,
    /// How far partitions are settled once these are written.
    pub points: Vec<CommitPoint>,
}

/// What became of a batch.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    Committed,
    /// None of it is in Kafka. Which of the writes, by their place in the batch, were at fault, if any were.
    Aborted(Vec<(usize, WriteFailed)>),
    /// It was for Kafka's committed offsets to tell. These partitions are settled as far as the batch says; of the others
    /// nothing is in Kafka. Each of them stands for itself: one that was given up may have been settled by another since.
    Found(HashSet<Partition>),
}

/// A batch that comes back.
#[derive(Debug)]
pub struct Transacted {
    pub batch: Batch,
    pub outcome: Outcome,
}

/// Where batches are handed in, one at a time. Dropped, the thread ends, once what it waits for lets it.
#[derive(Debug)]
pub struct Transactor {
    batches: blocking::SyncSender<Batch>,
    closed: Arc<AtomicBool>,
}

/// Starts the thread. `name`: the `transactional.id`, which no other running process may use.
pub fn start(
    config: &KafkaConfig,
    topics: SinkTopics,
    name: &str,
    source: Stamper,
    notices: mpsc::Sender<Notice>,
    clock: Clock,
) -> Result<(Transactor, mpsc::Receiver<Transacted>), StartTransactorError> {
    let (ended, receiver) = mpsc::channel(1);
    let (batches, queue) = blocking::sync_channel(1);
    let closed = Arc::new(AtomicBool::new(false));
    let mut thread = Transactions {
        config: config.clone(),
        topics,
        name: name.to_owned(),
        source,
        reporter: Reporter::new(Client::Sink, &config.bootstrap_servers, notices.clone()),
        of_producers: Arc::new(Reporter::new(Client::Sink, &config.bootstrap_servers, notices)),
        producer: None,
        again_at: BootTime::default(),
        failing_since: None,
        clock,
        closed: Arc::clone(&closed),
    };
    // What can never work is told at once; no broker is asked.
    thread.connect()?;
    let run = move || {
        loop {
            // At once, and not with the next batch: of partitions whose offsets stand in a transaction that was left open, by the
            // process before or by a producer that was given up, the brokers don't say where to begin until that has ended;
            // and without that there may be no next batch.
            thread.initialised();
            let Ok(batch) = queue.recv() else { return };
            let outcome = thread.transact(&batch);
            if ended.blocking_send(Transacted { batch, outcome }).is_err() {
                return;
            }
        }
    };
    thread::Builder::new().name("kafka-transactor".into()).spawn(run).map_err(StartTransactorError::Thread)?;
    Ok((Transactor { batches, closed }, receiver))
}

#[derive(Debug, thiserror::Error)]
pub enum StartTransactorError {
    #[error(transparent)]
    Config(#[from] InvalidKafkaConfig),
    #[error("the thread that writes to kafka can't be started: {0}")]
    Thread(std::io::Error),
}

impl Transactor {
    /// Hands a batch in, without blocking. Given back where the one before is not taken up yet, which is against the rule
    /// of one at a time, or where the thread has ended.
    pub fn begin(&self, batch: Batch) -> Result<(), Batch> {
        self.batches.try_send(batch).map_err(|refused| match refused {
            blocking::TrySendError::Full(batch) | blocking::TrySendError::Disconnected(batch) => batch,
        })
    }
}

impl Drop for Transactor {
    fn drop(&mut self) {
        self.closed.store(true, Ordering::Relaxed);
    }
}

/// The thread's own.
struct Transactions {
    config: KafkaConfig,
    topics: SinkTopics,
    name: String,
    source: Stamper,
    reporter: Reporter,
    /// What the producers report by themselves. A write that is acknowledged says nothing of the transaction that it is in.
    of_producers: Arc<Reporter>,
    producer: Option<Connected>,
    /// No producer is made before.
    again_at: BootTime,
    /// Since when transactions are aborted for another reason than their writes, and none is committed.
    failing_since: Option<BootTime>,
    clock: Clock,
    closed: Arc<AtomicBool>,
}

impl Transactions {
    fn transact(&mut self, batch: &Batch) -> Outcome {
        if !self.initialised() {
            return Outcome::Aborted(Vec::new());
        }
        let Some(connected) = &mut self.producer else { return Outcome::Aborted(Vec::new()) };
        let limit = Limit { give_up: self.clock.boot() + GIVE_UP_AFTER, clock: &self.clock };
        let outcome = match connected.attempt(&self.topics, &self.source, batch, limit) {
            Ok(()) => {
                self.failing_since = None;
                self.reporter.working();
                Outcome::Committed
            }
            Err(Broken::Abort(reason)) => {
                let denial = connected.denial(&self.source, batch, &self.clock);
                let aborted = connected.abort(limit);
                let failures = connected.take_failures();
                match (denial, aborted) {
                    // A transaction that never had a right can't be aborted either.
                    (Some(error), aborted) => {
                        self.trouble(&error);
                        if aborted.is_err() {
                            self.drop_producer();
                        }
                    }
                    (None, Err(error)) => self.give_up_producer(code(&error), &words(&error)),
                    (None, Ok(())) => self.tell_why_aborted(reason.filter(|_| failures.is_empty())),
                }
                Outcome::Aborted(failures)
            }
            Err(Broken::Gone(code, words)) => {
                self.give_up_producer(code, &words);
                Outcome::Aborted(Vec::new())
            }
            Err(Broken::Unknown(words)) => {
                tracing::warn!(
                    "kafka does not say whether a transaction was committed: {words}; the committed offsets will tell"
                );
                self.give_up_producer(Code::Fatal, &words);
                self.find_out(batch)
            }
        };
        self.replace_if_in_doubt();
        outcome
    }

    /// A rebalance aborts a transaction now and then; what goes on is told.
    fn tell_why_aborted(&mut self, reason: Option<String>) {
        let now = self.clock.boot();
        let Some(reason) = reason else { return };
        let since = *self.failing_since.get_or_insert(now);
        if now.saturating_since(since) >= TOLD_AFTER {
            let about =
                self.about(&format!("none is committed for {} s: {reason}", now.saturating_since(since).as_secs()));
            self.reporter.trouble(notice::explain(Client::Sink, Code::Fail, &self.config.bootstrap_servers, &about));
        }
    }

    /// A new producer ends what the old one left open; then the committed offsets are those of the batch, or those of
    /// before. Asked until there is an answer.
    fn find_out(&mut self, batch: &Batch) -> Outcome {
        while self.initialised() {
            if batch.points.is_empty() {
                // Of a topic that is gone: nothing can tell.
                return Outcome::Aborted(Vec::new());
            }
            let partitions = batch.points.iter().map(|point| &point.partition);
            match group::committed_points(&self.config, partitions) {
                Ok(known) => {
                    let is_known = |point: &&CommitPoint| {
                        known.iter().any(|(partition, next, beyond)| {
                            *partition == point.partition && *next == point.next && *beyond == point.beyond
                        })
                    };
                    let settled: HashSet<_> =
                        batch.points.iter().filter(is_known).map(|point| point.partition.clone()).collect();
                    let (partitions, committed) = (batch.points.len(), settled.len());
                    tracing::info!(partitions, committed, "the transaction's end is known");
                    return Outcome::Found(settled);
                }
                Err(error) => self.trouble(&error),
            }
            thread::sleep(AGAIN_AFTER);
        }
        // Only where nobody waits for it any more.
        Outcome::Aborted(Vec::new())
    }

    /// The brokers refuse a late request of a producer that has a successor.
    fn replace_if_in_doubt(&mut self) {
        if self.producer.as_ref().is_some_and(Connected::is_in_doubt) {
            tracing::info!(
                "kafka was slow to answer for a transaction: a request may have been sent twice, and its copy must not \
                 reach the next transaction; a new producer takes the place of {}",
                self.name
            );
            discard(self.producer.take());
        }
    }

    /// Makes a producer that may begin, if there is none; takes as long as the brokers take. False where that is not wanted
    /// any more.
    fn initialised(&mut self) -> bool {
        if self.producer.as_ref().is_some_and(|connected| connected.initialised) {
            return true;
        }
        // What refuses the transactions themselves is not over with this.
        let mut hides = self.reporter.is_denied();
        while !self.closed.load(Ordering::Relaxed) {
            thread::sleep(self.again_at.saturating_since(self.clock.boot()));
            if let Err(error) = self.connect() {
                tracing::error!(%error, "the producer can't be made anew; it is tried again");
            }
            self.again_at = self.clock.boot() + AGAIN_AFTER;
            let Some(connected) = &mut self.producer else { continue };
            match connected.kafka.init_transactions(STEP) {
                Ok(()) => {
                    connected.initialised = true;
                    if !hides {
                        self.reporter.working();
                    }
                    return true;
                }
                Err(error) if is_retriable(&error) => self.trouble(&error),
                Err(error) => self.give_up_producer(code(&error), &words(&error)),
            }
            hides = false;
        }
        false
    }

    fn connect(&mut self) -> Result<(), InvalidKafkaConfig> {
        if self.producer.is_none() {
            self.producer =
                Some(Connected::open(&self.config, &self.topics, &self.name, Arc::clone(&self.of_producers))?);
        }
        Ok(())
    }

    /// The next one ends what this one left open.
    fn give_up_producer(&mut self, code: Code, words: &str) {
        let denied = notice::explain(Client::Sink, code, &self.config.bootstrap_servers, &self.about(words));
        self.reporter.trouble(if let Trouble::Denied(_) = denied {
            denied
        } else {
            Trouble::Fatal(format!(
                "the producer {} can't go on: {words}; a new one takes its place; if it stays, look for a second instance of \
                 the same instance.name in this group",
                self.name
            ))
        });
        self.drop_producer();
    }

    fn drop_producer(&mut self) {
        if let Some(connected) = self.producer.take() {
            discard(connected);
        }
        self.again_at = self.clock.boot() + AFTER_FENCING;
    }

    fn trouble(&self, error: &KafkaError) {
        let about = self.about(&words(error));
        self.reporter.trouble(notice::explain(Client::Sink, code(error), &self.config.bootstrap_servers, &about));
    }

    fn about(&self, words: &str) -> String {
        format!("transactions of {} to {}: {words}", self.name, self.topics.listed())
    }
}
