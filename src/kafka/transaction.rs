//! One transaction, as librdkafka makes it: begun, written, its commit points vouched for by the group, committed or aborted.

use std::{cell::Cell, sync::Arc, time::Duration};

use rdkafka::{
    config::FromClientConfigAndContext,
    error::{KafkaError, RDKafkaErrorCode as Code},
    producer::{BaseProducer, Producer as _, PurgeConfig},
};
use tokio::sync::mpsc;

use super::{
    client::{InvalidKafkaConfig, KafkaConfig, MAX_UNACKNOWLEDGED, RESENT_AFTER},
    notice::{self, Reporter, code},
    sink::{Ack, Callbacks, Refusal, SinkTopics, WriteFailed, WriteId, native},
    source::{Stamped, Stamper},
    transactor::Batch,
};
use crate::{
    clock::Clock,
    crash_point::{self, Point},
    domain::{record::Outgoing, time::BootTime},
};

/// The longest that one call into librdkafka waits for the brokers, before it is looked whether that is still wanted.
pub(super) const STEP: Duration = Duration::from_secs(5);

/// Wait for room in the producer's queue.
const ROOM: Duration = Duration::from_millis(5);

/// In words.
const TOO_SLOW: &str = "its writes were not acknowledged in time";

/// A producer of a `transactional.id`.
pub(super) struct Connected {
    pub kafka: BaseProducer<Callbacks>,
    acks: mpsc::Receiver<Ack>,
    /// Whether it has its epoch, and all that was open under its name before has ended.
    pub initialised: bool,
    /// Whether a request that changes what a transaction comes to may have been sent twice, so that one may come to the brokers
    /// late.
    in_doubt: Cell<bool>,
    /// Writes of the transaction that failed, by their place in the batch, as far as they are reported.
    failures: Vec<(usize, WriteFailed)>,
}

/// Why a transaction did not come to its end.
pub(super) enum Broken {
    /// It is to be aborted, for this reason where it is not one of its writes. Nobody was told to commit it.
    Abort(Option<String>),
    /// The producer is of no more use. Nobody was told to commit it.
    Gone(Code, String),
    /// It may be committed, or not.
    Unknown(String),
}

/// How long a transaction may still take.
#[derive(Clone, Copy)]
pub(super) struct Limit<'a> {
    pub give_up: BootTime,
    pub clock: &'a Clock,
}

impl Limit<'_> {
    fn left(self) -> Duration {
        self.give_up.saturating_since(self.clock.boot())
    }
}

impl Connected {
    /// Asks no broker.
    pub(super) fn open(
        config: &KafkaConfig,
        topics: &SinkTopics,
        name: &str,
        reporter: Arc<Reporter>,
    ) -> Result<Self, InvalidKafkaConfig> {
        let (sender, acks) = mpsc::channel(2 * MAX_UNACKNOWLEDGED);
        let callbacks = Callbacks::new(config, topics, sender, reporter);
        let kafka = BaseProducer::from_config_and_context(&config.transactional_producer(name), callbacks)?;
        Ok(Self { kafka, acks, initialised: false, in_doubt: Cell::new(false), failures: Vec::new() })
    }

    /// Whether a request may come to the brokers late.
    pub(super) fn is_in_doubt(&self) -> bool {
        self.in_doubt.get()
    }

    /// One transaction, from its beginning to its commit.
    pub(super) fn attempt(
        &mut self,
        topics: &SinkTopics,
        source: &Stamper,
        batch: &Batch,
        limit: Limit<'_>,
    ) -> Result<(), Broken> {
        self.kafka.begin_transaction().map_err(|error| before_the_end(&error))?;
        crash_point::pass(Point::TransactionBegun);
        for (n, outgoing) in batch.writes.iter().enumerate() {
            self.send(topics, n, outgoing, limit)?;
            // A message may lead to more writes than there is room for reports.
            self.take_reports();
            crash_point::pass(Point::TransactionProduced);
        }
        self.all_written(limit)?;
        // Only the source knows whether these partitions are still this instance's, and as which member of the group. Of one
        // that it gives up before this has ended, the brokers refuse the offsets: the group has gone on without this member.
        let Some(stamped) = source.stamp(&batch.points, STEP) else { return Err(Broken::Abort(None)) };
        crash_point::pass(Point::TransactionBeforeOffsets);
        if stamped.list.count() > 0 {
            self.tell(limit, |kafka| kafka.send_offsets_to_transaction(&stamped.list, &stamped.group, STEP))
                .map_err(|error| before_the_end(&error))?;
        }
        crash_point::pass(Point::TransactionBeforeCommit);
        self.tell(limit, |kafka| kafka.commit_transaction(STEP)).map_err(|error| match &error {
            KafkaError::Flush(_) => Broken::Abort(None),
            // Also one that asks for an abort: a request whose answer was lost may have been obeyed.
            error => Broken::Unknown(words(error)),
        })?;
        crash_point::pass(Point::TransactionCommitted);
        Ok(())
    }

    fn send(&mut self, topics: &SinkTopics, n: usize, outgoing: &Outgoing, limit: Limit<'_>) -> Result<(), Broken> {
        loop {
            let Err((error, _)) = self.kafka.send(native(topics, WriteId(n), outgoing)) else {
                self.kafka.poll(Duration::ZERO);
                return Ok(());
            };
            if code(&error) == Code::State {
                // Nothing is taken any more: one of those before it was refused, and its report says which.
                return Err(Broken::Abort(Some("one of its writes failed".to_owned())));
            }
            let kafka = &self.kafka;
            match kafka.context().refused(&error, fatal(kafka).map(|(_, words)| words), outgoing) {
                Refusal::QueueFull if !limit.left().is_zero() => kafka.poll(ROOM),
                Refusal::QueueFull => return Err(Broken::Abort(Some(TOO_SLOW.to_owned()))),
                Refusal::Failed(failed) => {
                    self.failures.push((n, failed));
                    return Err(Broken::Abort(None));
                }
                Refusal::Fatal(words) => {
                    return Err(Broken::Gone(fatal(kafka).map_or(Code::Fatal, |(code, _)| code), words));
                }
            }
        }
    }

    /// Which writes were refused, of those that are reported so far.
    fn take_reports(&mut self) {
        while let Ok(Ack { write, result }) = self.acks.try_recv() {
            self.failures.extend(result.err().map(|failed| (write.0, failed)));
        }
    }

    /// Waits until every write is acknowledged, or one is refused: from then on librdkafka sends none of the others, which
    /// would wait for their timeout.
    fn all_written(&mut self, limit: Limit<'_>) -> Result<(), Broken> {
        loop {
            self.kafka.poll(ROOM);
            // Looked at before the reports are: none comes after it.
            let is_all_reported = self.kafka.in_flight_count() == 0;
            self.take_reports();
            if !self.failures.is_empty() || limit.left().is_zero() {
                let reason = self.failures.is_empty().then(|| TOO_SLOW.to_owned());
                return Err(fatal(&self.kafka).map_or(Broken::Abort(reason), |(code, words)| Broken::Gone(code, words)));
            }
            if is_all_reported {
                return Ok(());
            }
        }
    }

    /// What is not sent yet never is. Its reports are fetched first: librdkafka waits for them, and only this thread fetches
    /// them.
    pub(super) fn abort(&mut self, limit: Limit<'_>) -> Result<(), KafkaError> {
        while self.kafka.in_flight_count() > 0 && !limit.left().is_zero() {
            // Not once: what was on the wire and is refused for what was refused before it goes back into the queue, which is
            // not sent any more, and would stay there until its timeout.
            self.kafka.purge(PurgeConfig::default().queue());
            self.kafka.poll(ROOM);
            self.take_reports();
        }
        self.take_reports();
        self.tell(limit, |kafka| kafka.abort_transaction(STEP))
    }

    /// The writes of the transaction that failed. Those that failed only with the others are among them, as retriable.
    pub(super) fn take_failures(&mut self) -> Vec<(usize, WriteFailed)> {
        self.take_reports();
        std::mem::take(&mut self.failures)
    }

    /// Which right the transaction as a whole is denied, if one is. Writes that fail for it do not say so; the next call in
    /// the transaction does. Where it is denied none, the call adds to what is aborted.
    pub(super) fn denial(&self, source: &Stamper, batch: &Batch, clock: &Clock) -> Option<KafkaError> {
        const RIGHTS: [Code; 4] = [
            Code::TopicAuthorizationFailed,
            Code::GroupAuthorizationFailed,
            Code::TransactionalIdAuthorizationFailed,
            Code::ClusterAuthorizationFailed,
        ];
        let Stamped { list, group } = source.stamp(&batch.points, STEP).filter(|stamped| stamped.list.count() > 0)?;
        let told = self.in_time(clock, || self.kafka.send_offsets_to_transaction(&list, &group, STEP));
        told.err().filter(|error| RIGHTS.contains(&code(error)))
    }

    /// Tells the brokers what the transaction settles, or that it ends.
    fn tell(
        &self,
        limit: Limit<'_>,
        call: impl Fn(&BaseProducer<Callbacks>) -> Result<(), KafkaError>,
    ) -> Result<(), KafkaError> {
        self.in_time(limit.clock, || self.patiently(limit, call))
    }

    /// The brokers answer at once, so that a call that takes longer than librdkafka waits before it asks again may have been sent
    /// twice.
    fn in_time<T>(&self, clock: &Clock, call: impl FnOnce() -> T) -> T {
        let begun = clock.boot();
        let result = call();
        if clock.boot().saturating_since(begun) >= RESENT_AFTER {
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

pub(super) fn is_retriable(error: &KafkaError) -> bool {
    matches!(error, KafkaError::Transaction(cause) if cause.is_retriable())
}

/// What an error means where nothing was said about committing yet.
fn before_the_end(error: &KafkaError) -> Broken {
    match error {
        KafkaError::Transaction(cause) if cause.is_fatal() => Broken::Gone(code(error), words(error)),
        _ => Broken::Abort(Some(words(error))),
    }
}

fn fatal(kafka: &BaseProducer<Callbacks>) -> Option<(Code, String)> {
    kafka.client().fatal_error().map(|(code, reason)| (code, notice::clean(&reason)))
}

pub(super) fn words(error: &KafkaError) -> String {
    match error {
        KafkaError::Transaction(cause) => notice::clean(&cause.string()),
        other => notice::error_words(other),
    }
}
