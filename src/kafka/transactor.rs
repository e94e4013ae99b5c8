//! Exactly-once: writes, and the commit points that they settle, in one transaction of Kafka's; on a thread of its own, as
//! all of these calls block.
//!
//! The law: every [`Batch`] comes back with what became of it. Committed means that all of it is in Kafka, aborted that a
//! `read_committed` reader never sees any of it. Where Kafka does not say which, a new producer ends what the old one left
//! open, and the committed offsets tell.
//!
//! The request that ends one transaction, come late, would end the next one half-way. The brokers tell producers apart by
//! their epoch, and it does not change from one transaction to the next (KIP-890 changes that, and librdkafka does not have
//! it). So where that request may have been sent twice, the next transaction has a new producer.

use std::{
    cell::Cell,
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
    config::FromClientConfigAndContext,
    error::{KafkaError, RDKafkaErrorCode as Code},
    producer::{BaseProducer, Producer},
};
use tokio::sync::mpsc;

use super::{
    client::{InvalidKafkaConfig, KafkaConfig, MAX_UNACKNOWLEDGED, RESENT_AFTER},
    discard::discard,
    group,
    notice::{self, Client, Notice, Reporter, Trouble},
    sink::{Ack, Callbacks, Refusal, SinkTopics, WriteFailed, WriteId, native},
    source::Stamper,
};
use crate::{
    clock::Clock,
    domain::{
        commit_point::CommitPoint,
        record::{Outgoing, Partition},
        time::BootTime,
    },
};

/// The longest that one call into librdkafka waits for the brokers, before it is looked whether that is still wanted.
const STEP: Duration = Duration::from_secs(5);

/// A transaction that is not at its end by then is given up. The brokers give it up after 30 s
/// (`transaction.timeout.ms`).
const GIVE_UP_AFTER: Duration = Duration::from_secs(25);

/// Wait before something that failed is tried again.
const AGAIN_AFTER: Duration = Duration::from_secs(1);

/// Wait before a producer is made in place of one that was fenced: another process may be using its name.
const AFTER_FENCING: Duration = Duration::from_secs(5);

/// Wait for room in the producer's queue.
const ROOM: Duration = Duration::from_millis(5);

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
        notices,
        producer: None,
        again_at: BootTime::default(),
        clock,
        closed: Arc::clone(&closed),
    };
    // What can never work is told at once; no broker is asked.
    thread.connect()?;
    let run = move || {
        while let Ok(batch) = queue.recv() {
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
    notices: mpsc::Sender<Notice>,
    producer: Option<Connected>,
    /// No producer is made before.
    again_at: BootTime,
    clock: Clock,
    closed: Arc<AtomicBool>,
}

struct Connected {
    kafka: BaseProducer<Callbacks>,
    acks: mpsc::Receiver<Ack>,
    /// Whether it has its epoch, and all that was open under its name before has ended.
    initialised: bool,
    /// Whether the request that ends a transaction may have been sent twice, so that one may come to the brokers late.
    in_doubt: Cell<bool>,
}

/// Why a transaction did not come to its end.
enum Broken {
    /// It is to be aborted. Nobody was told to commit it.
    Abort(Vec<(usize, WriteFailed)>),
    /// The producer is of no more use. Nobody was told to commit it.
    Gone(String),
    /// It may be committed, or not.
    Unknown(String),
}

impl Transactions {
    fn transact(&mut self, batch: &Batch) -> Outcome {
        if !self.initialised() {
            return Outcome::Aborted(Vec::new());
        }
        let Some(connected) = &mut self.producer else { return Outcome::Aborted(Vec::new()) };
        let limit = Limit { give_up: self.clock.boot() + GIVE_UP_AFTER, clock: &self.clock };
        let outcome = match attempt(connected, &self.topics, &self.source, batch, limit) {
            Ok(()) => {
                self.reporter.working();
                Outcome::Committed
            }
            Err(Broken::Abort(failures)) => {
                if let Err(error) = connected.end(limit, |kafka| kafka.abort_transaction(STEP)) {
                    self.give_up_producer(&words(&error));
                }
                Outcome::Aborted(failures)
            }
            Err(Broken::Gone(words)) => {
                self.give_up_producer(&words);
                Outcome::Aborted(Vec::new())
            }
            Err(Broken::Unknown(words)) => {
                tracing::warn!(
                    "kafka does not say whether a transaction was committed: {words}; the committed offsets will tell"
                );
                self.give_up_producer(&words);
                self.find_out(batch)
            }
        };
        self.replace_if_in_doubt();
        outcome
    }

    /// A new producer ends what the old one left open; then the committed offsets are those of the batch, or those of
    /// before. Asked until there is an answer.
    fn find_out(&mut self, batch: &Batch) -> Outcome {
        while self.initialised() {
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
        if self.producer.as_ref().is_some_and(|connected| connected.in_doubt.get()) {
            tracing::info!(
                "kafka was slow to end a transaction: the request may have been sent twice, and its copy must not \
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
                    self.reporter.working();
                    return true;
                }
                Err(error) if is_retriable(&error) => self.trouble(&error),
                Err(error) => self.give_up_producer(&words(&error)),
            }
        }
        false
    }

    fn connect(&mut self) -> Result<(), InvalidKafkaConfig> {
        if self.producer.is_none() {
            let (sender, acks) = mpsc::channel(2 * MAX_UNACKNOWLEDGED);
            let callbacks = Callbacks::new(&self.config, &self.topics, sender, self.notices.clone());
            let config = self.config.transactional_producer(&self.name);
            let kafka = BaseProducer::from_config_and_context(&config, callbacks)?;
            self.producer = Some(Connected { kafka, acks, initialised: false, in_doubt: Cell::new(false) });
        }
        Ok(())
    }

    /// The next one ends what this one left open.
    fn give_up_producer(&mut self, words: &str) {
        self.reporter.trouble(Trouble::Fatal(format!(
            "the producer {} can't go on: {words}; a new one takes its place; if it stays, look for a second instance of the \
             same instance.name in this group",
            self.name
        )));
        if let Some(connected) = self.producer.take() {
            discard(connected);
        }
        self.again_at = self.clock.boot() + AFTER_FENCING;
    }

    fn trouble(&self, error: &KafkaError) {
        let code = error.rdkafka_error_code().unwrap_or(Code::Fail);
        self.reporter.trouble(notice::explain(Client::Sink, code, &self.config.bootstrap_servers, &self.words(error)));
    }

    fn words(&self, error: &KafkaError) -> String {
        format!("transactions of {}: {}", self.name, words(error))
    }
}

/// How long a transaction may still take.
#[derive(Clone, Copy)]
struct Limit<'a> {
    give_up: BootTime,
    clock: &'a Clock,
}

impl Limit<'_> {
    fn left(self) -> Duration {
        self.give_up.saturating_since(self.clock.boot())
    }
}

/// One transaction, from its beginning to its commit.
fn attempt(
    connected: &mut Connected,
    topics: &SinkTopics,
    source: &Stamper,
    batch: &Batch,
    limit: Limit<'_>,
) -> Result<(), Broken> {
    let kafka = &connected.kafka;
    kafka.begin_transaction().map_err(|error| before_the_end(&error))?;
    for (n, outgoing) in batch.writes.iter().enumerate() {
        send(kafka, topics, n, outgoing, limit)?;
    }
    let flushed = kafka.flush(limit.left());
    let mut failures = Vec::new();
    while let Ok(Ack { write, result }) = connected.acks.try_recv() {
        failures.extend(result.err().map(|failed| (write.0, failed)));
    }
    if flushed.is_err() || !failures.is_empty() {
        return Err(fatal(kafka).map_or(Broken::Abort(failures), Broken::Gone));
    }
    // Only the source knows whether these partitions are still this instance's, and as which member of the group; and it
    // gives none up before this has ended.
    let Some(stamped) = source.stamp(&batch.points, STEP) else { return Err(Broken::Abort(Vec::new())) };
    if stamped.list.count() > 0 {
        connected
            .patiently(limit, |kafka| kafka.send_offsets_to_transaction(&stamped.list, &stamped.group, STEP))
            .map_err(|error| before_the_end(&error))?;
    }
    connected.end(limit, |kafka| kafka.commit_transaction(STEP)).map_err(|error| match &error {
        KafkaError::Flush(_) => Broken::Abort(Vec::new()),
        // Also one that asks for an abort: a request whose answer was lost may have been obeyed.
        error => Broken::Unknown(words(error)),
    })
}

fn send(
    kafka: &BaseProducer<Callbacks>,
    topics: &SinkTopics,
    n: usize,
    outgoing: &Outgoing,
    limit: Limit<'_>,
) -> Result<(), Broken> {
    loop {
        let Err((error, _)) = kafka.send(native(topics, WriteId(n), outgoing)) else {
            kafka.poll(Duration::ZERO);
            return Ok(());
        };
        match kafka.context().refused(&error, fatal(kafka), outgoing) {
            Refusal::QueueFull if !limit.left().is_zero() => kafka.poll(ROOM),
            Refusal::QueueFull => return Err(Broken::Abort(Vec::new())),
            Refusal::Failed(failed) => return Err(Broken::Abort(vec![(n, failed)])),
            Refusal::Fatal(words) => return Err(Broken::Gone(words)),
        }
    }
}

impl Connected {
    /// Ends the transaction by this call. Kafka never answers it with "not yet", so that one that takes longer than librdkafka
    /// waits before it asks again may have been sent twice.
    fn end(
        &self,
        limit: Limit<'_>,
        call: impl Fn(&BaseProducer<Callbacks>) -> Result<(), KafkaError>,
    ) -> Result<(), KafkaError> {
        let begun = limit.clock.boot();
        let result = self.patiently(limit, call);
        if limit.clock.boot().saturating_since(begun) >= RESENT_AFTER {
            self.in_doubt.set(true);
        }
        result
    }

    /// Calls as long as librdkafka says that the same call may succeed, and there is time.
    fn patiently(
        &self,
        limit: Limit<'_>,
        call: impl Fn(&BaseProducer<Callbacks>) -> Result<(), KafkaError>,
    ) -> Result<(), KafkaError> {
        loop {
            match call(&self.kafka) {
                Err(error) if is_retriable(&error) && !limit.left().is_zero() => {}
                result => return result,
            }
        }
    }
}

fn is_retriable(error: &KafkaError) -> bool {
    matches!(error, KafkaError::Transaction(cause) if cause.is_retriable())
}

/// What an error means where nothing was said about committing yet.
fn before_the_end(error: &KafkaError) -> Broken {
    match error {
        KafkaError::Transaction(cause) if cause.is_fatal() => Broken::Gone(words(error)),
        _ => Broken::Abort(Vec::new()),
    }
}

fn fatal(kafka: &BaseProducer<Callbacks>) -> Option<String> {
    kafka.client().fatal_error().map(|(_, reason)| reason)
}

fn words(error: &KafkaError) -> String {
    match error {
        KafkaError::Transaction(cause) => notice::clean(&cause.string()),
        other => notice::error_words(other),
    }
}
