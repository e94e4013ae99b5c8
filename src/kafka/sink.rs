//! Where outputs and dead letters go: an idempotent producer that never blocks its caller.
//!
//! The law: every write that [`Sink::send`] accepts gets exactly one [`Ack`], whatever happens to the producer, and no
//! write is accepted that could find no room for its acknowledgement.

use std::{sync::Arc, thread, time::Duration};

use rdkafka::{
    ClientContext, Statistics,
    config::{FromClientConfigAndContext, RDKafkaLogLevel},
    error::{KafkaError, RDKafkaErrorCode as Code},
    message::{DeliveryResult, Header, Message, OwnedHeaders},
    producer::{BaseRecord, Producer, ProducerContext, ThreadedProducer},
};
use tokio::sync::mpsc::{self, error::TrySendError};

use super::{
    client::{InvalidKafkaConfig, KafkaConfig, MAX_UNACKNOWLEDGED},
    discard::discard,
    ear::Ear,
    notice::{self, Client, Notice, Reporter, Trouble},
};
use crate::{
    crash_point::{self, Point},
    domain::record::{self, Destination, Outgoing},
};

/// How often it is tried again to hand over an acknowledgement for which there is no room.
const ACK_RETRY: Duration = Duration::from_millis(1);

/// Names a write in its acknowledgement. The dispatcher chooses it; the sink only carries it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WriteId(pub usize);

/// The end of one write.
#[derive(Debug, PartialEq, Eq)]
pub struct Ack {
    pub write: WriteId,
    /// Ok: in every in-sync replica.
    pub result: Result<(), WriteFailed>,
}

/// Why a write that was accepted is not in Kafka, or may not be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WriteFailed {
    /// A record of this size is not taken, and would not be if sent again. `bytes` are those of key and payload.
    #[error(
        "a record of {bytes} bytes is too large for kafka; raise max.message.bytes of the topic, and message.max.bytes in \
         kafka.properties"
    )]
    TooLarge { bytes: usize },
    /// The topic bounds its records' timestamps, and this one is outside (`message.timestamp.before.max.ms`, and
    /// `message.timestamp.after.max.ms`, an hour unless set). Without one of its own, a record has that of this host's clock.
    #[error(
        "kafka refuses the time of what is written, which is that of this host's clock; it is tried again by itself; set the clock \
         (timedatectl, chronyc tracking), or the topic's message.timestamp.type to LogAppendTime"
    )]
    BadTimestamp,
    #[error("{0}")]
    Denied(String),
    #[error("{0}")]
    TopicMissing(String),
    /// The topic does not take this very record, as it is set now.
    #[error("{0}")]
    Refused(String),
    /// To be sent again; it may be in Kafka already.
    #[error("{0}")]
    Retriable(String),
}

/// Why a write was not accepted. It gets no acknowledgement.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// As much waits as may wait; send again after some acknowledgements.
    #[error("the producer's queue is full")]
    QueueFull,
    /// The producer is of no more use: [`Sink::rebuild`] it, after a pause where that has just been done.
    #[error("{0}")]
    Fatal(String),
    /// What an acknowledgement would say, known at once.
    #[error(transparent)]
    Failed(WriteFailed),
}

/// The names of the topics behind the two destinations.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SinkTopics {
    /// At least one.
    pub outputs: Vec<String>,
    pub dead_letters: String,
}

impl SinkTopics {
    fn of(&self, to: Destination) -> &str {
        match to {
            // What is written is of an output that there is.
            Destination::Output(n) => self.outputs.get(usize::from(n)).map_or("", String::as_str),
            Destination::DeadLetters => &self.dead_letters,
        }
    }

    /// All of them, for a person.
    pub(super) fn listed(&self) -> String {
        format!("the output {} and the dead letters {}", self.outputs.join(", "), self.dead_letters)
    }
}

pub struct Sink {
    config: KafkaConfig,
    topics: SinkTopics,
    acks: mpsc::Sender<Ack>,
    /// That of all its producers: what one told is over once the next works.
    reporter: Arc<Reporter>,
    /// `None` only while it is replaced.
    producer: Option<ThreadedProducer<Callbacks>>,
    ear: Ear,
}

/// Starts a sink. Its acknowledgements come from the receiver, which should be read with `recv_many`.
pub fn start(
    config: &KafkaConfig,
    topics: SinkTopics,
    notices: mpsc::Sender<Notice>,
) -> Result<(Sink, mpsc::Receiver<Ack>), InvalidKafkaConfig> {
    let (acks, receiver) = mpsc::channel(2 * MAX_UNACKNOWLEDGED);
    let reporter = Arc::new(Reporter::new(Client::Sink, &config.bootstrap_servers, notices));
    let producer = connect(config, &topics, &acks, &reporter)?;
    Ok((
        Sink { config: config.clone(), topics, acks, reporter, producer: Some(producer), ear: Ear::default() },
        receiver,
    ))
}

impl Sink {
    /// Hands a write to the producer. Never blocks. An error is no acknowledgement: the write was not accepted.
    pub fn send(&self, write: WriteId, outgoing: &Outgoing) -> Result<(), Refusal> {
        let Some(producer) = &self.producer else {
            return Err(Refusal::Fatal("the producer could not be made anew".to_owned()));
        };
        crash_point::pass(Point::ProduceBefore);
        producer.send(native(&self.topics, write, outgoing)).map_err(|(error, _)| {
            let fatal = producer.client().fatal_error().map(|(_, reason)| reason);
            producer.context().refused(&error, fatal, outgoing)
        })
    }

    /// To be asked again and again, with the time since the last time. True where the producer reaches no broker although
    /// others do: [`rebuild`](Self::rebuild) it.
    pub fn is_deaf(&mut self, passed: Duration) -> bool {
        self.ear.is_deaf(&self.config, passed, self.reporter.is_unreachable())
    }

    /// Says that nothing was acknowledged for so long; nothing where another reason is told already.
    pub fn silence(&self, lasts: Duration) -> Option<String> {
        let about = format!("for {} s none to {}", lasts.as_secs(), self.topics.listed());
        (!self.reporter.is_unreachable()).then(|| notice::unacknowledged(&about))
    }

    /// Replaces the producer. What was not acknowledged is now, as [`WriteFailed::Retriable`].
    pub fn rebuild(&mut self) -> Result<(), InvalidKafkaConfig> {
        discard(self.producer.take());
        self.producer = Some(connect(&self.config, &self.topics, &self.acks, &self.reporter)?);
        Ok(())
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        discard(self.producer.take());
    }
}

fn connect(
    config: &KafkaConfig,
    topics: &SinkTopics,
    acks: &mpsc::Sender<Ack>,
    reporter: &Arc<Reporter>,
) -> Result<ThreadedProducer<Callbacks>, InvalidKafkaConfig> {
    let callbacks = Callbacks::new(config, topics, acks.clone(), Arc::clone(reporter));
    Ok(ThreadedProducer::from_config_and_context(&config.producer(), callbacks)?)
}

/// A write as librdkafka takes it.
pub(super) fn native<'a>(
    topics: &'a SinkTopics,
    write: WriteId,
    outgoing: &'a Outgoing,
) -> BaseRecord<'a, [u8], [u8], usize> {
    BaseRecord {
        topic: topics.of(outgoing.to),
        partition: None,
        payload: outgoing.payload.as_deref(),
        key: outgoing.key.as_deref(),
        timestamp: outgoing.timestamp.map(jiff::Timestamp::as_millisecond),
        headers: native_headers(&outgoing.headers),
        delivery_opaque: write.0,
    }
}

/// `None` for none.
pub(super) fn native_headers(headers: &[record::Header]) -> Option<OwnedHeaders> {
    let with_room = (!headers.is_empty()).then(|| OwnedHeaders::new_with_capacity(headers.len()))?;
    Some(headers.iter().fold(with_room, |headers, header| {
        headers.insert(Header { key: &header.name, value: header.value.as_deref() })
    }))
}

fn held(bytes: Option<&[u8]>) -> usize {
    bytes.map_or(0, <[u8]>::len)
}

/// What librdkafka calls back with about writes.
pub(super) struct Callbacks {
    reporter: Arc<Reporter>,
    acks: mpsc::Sender<Ack>,
    servers: String,
    topics: SinkTopics,
}

impl ClientContext for Callbacks {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        notice::log(Client::Sink, level, facility, line);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        // Whoever has a transactional id tells that, with its name.
        if error.rdkafka_error_code() != Some(Code::TransactionalIdAuthorizationFailed) {
            self.reporter.error(&error, reason);
        }
    }

    fn stats(&self, statistics: Statistics) {
        self.reporter.statistics(&statistics);
    }
}

impl ProducerContext for Callbacks {
    type DeliveryOpaque = usize;

    fn delivery(&self, report: &DeliveryResult<'_>, write: usize) {
        let result = match report {
            Ok(_) => {
                self.reporter.working();
                Ok(())
            }
            Err((error, message)) => {
                let code = notice::code(error);
                Err(self.failure(code, message.topic(), held(message.key()) + held(message.payload())))
            }
        };
        self.acknowledge(Ack { write: WriteId(write), result });
    }
}

impl Callbacks {
    pub(super) fn new(
        config: &KafkaConfig,
        topics: &SinkTopics,
        acks: mpsc::Sender<Ack>,
        reporter: Arc<Reporter>,
    ) -> Self {
        Self { reporter, acks, servers: config.bootstrap_servers.clone(), topics: topics.clone() }
    }

    /// Why librdkafka did not take a write. `fatal`: its words, where the producer is of no more use.
    pub(super) fn refused(&self, error: &KafkaError, fatal: Option<String>, outgoing: &Outgoing) -> Refusal {
        let topic = self.topics.of(outgoing.to);
        let bytes = held(outgoing.key.as_deref()) + held(outgoing.payload.as_deref());
        let code = notice::code(error);
        if code == Code::QueueFull {
            return Refusal::QueueFull;
        }
        let Some(about) = fatal else { return Refusal::Failed(self.failure(code, topic, bytes)) };
        let trouble = notice::explain(Client::Sink, Code::Fatal, &self.servers, &about);
        self.reporter.trouble(trouble.clone());
        Refusal::Fatal(trouble.words().to_owned())
    }

    fn failure(&self, code: Code, topic: &str, bytes: usize) -> WriteFailed {
        match code {
            Code::MessageSizeTooLarge => return WriteFailed::TooLarge { bytes },
            Code::InvalidTimestamp => return WriteFailed::BadTimestamp,
            // Its own end, not news about Kafka.
            Code::PurgeQueue | Code::PurgeInflight => {
                return WriteFailed::Retriable("the producer was closed before the broker answered".to_owned());
            }
            _ => {}
        }
        let what = if topic == self.topics.dead_letters { "dead-letter topic" } else { "output topic" };
        let trouble = notice::explain(
            Client::Sink,
            code,
            &self.servers,
            &format!("{what} {topic}: {}", notice::code_words(code)),
        );
        match trouble {
            // Of one topic: other writes go on, and whoever has its writes tells it.
            Trouble::Denied(words) => WriteFailed::Denied(words),
            Trouble::TopicMissing(words) => WriteFailed::TopicMissing(words),
            // Kafka says which of a batch it is; the others fail with another code (KIP-467).
            Trouble::Other(words) if matches!(code, Code::InvalidRecord | Code::PolicyViolation) => {
                WriteFailed::Refused(words)
            }
            Trouble::Unreachable(_) | Trouble::Fatal(_) | Trouble::Other(_) => {
                self.reporter.trouble(trouble.clone());
                WriteFailed::Retriable(trouble.words().to_owned())
            }
        }
    }

    /// Waits for room rather than lose an acknowledgement. There is room for twice what may be unacknowledged, so it
    /// waits only for a dispatcher that does not receive.
    fn acknowledge(&self, ack: Ack) {
        let mut waiting = ack;
        while let Err(TrySendError::Full(back)) = self.acks.try_send(waiting) {
            waiting = back;
            thread::sleep(ACK_RETRY);
        }
    }
}
