//! Appends entries: an idempotent producer that never blocks its caller, and says of each entry what became of it.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicI32, Ordering},
    },
    time::Duration,
};

use rdkafka::{
    ClientContext,
    config::{FromClientConfigAndContext, RDKafkaLogLevel},
    error::{KafkaError, RDKafkaErrorCode as Code},
    message::{DeliveryResult, Message},
    producer::{BaseRecord, Producer, ProducerContext, ThreadedProducer},
};
use tokio::sync::mpsc;

use super::{LogEvent, LogPlace};
use crate::kafka::{
    client::{InvalidKafkaConfig, KafkaConfig},
    discard::discard,
    notice::{self, Client},
};

/// Names an append in its [`LogEvent::Appended`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AppendId(pub usize);

/// Why an entry is not known to be in the log.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{words}")]
pub struct AppendFailed {
    pub words: String,
    /// Whether it may be in the log nevertheless, now or some time later.
    pub may_appear: bool,
    /// Whether it is the entry, which is larger than the topic takes, and not the way there.
    pub too_large: bool,
}

impl AppendFailed {
    fn not_appended(words: String) -> Self {
        Self { words, may_appear: false, too_large: false }
    }
}

/// No partition is known yet.
const NOWHERE: i32 = -1;

/// The partition that the reader found for the key, so that both sides agree.
#[derive(Clone, Debug)]
pub(super) struct Partition(Arc<AtomicI32>);

impl Default for Partition {
    fn default() -> Self {
        Self(Arc::new(AtomicI32::new(NOWHERE)))
    }
}

impl Partition {
    pub(super) fn set(&self, partition: i32) {
        self.0.store(partition, Ordering::Relaxed);
    }

    fn known(&self) -> Option<i32> {
        Some(self.0.load(Ordering::Relaxed)).filter(|partition| *partition != NOWHERE)
    }
}

pub(super) struct Writer {
    config: KafkaConfig,
    place: LogPlace,
    give_up_after: Duration,
    partition: Partition,
    events: mpsc::Sender<LogEvent>,
    /// `None` where it could not be made anew; tried again at the next append.
    producer: Option<ThreadedProducer<Callbacks>>,
    next: AppendId,
}

impl Writer {
    pub(super) fn new(
        config: &KafkaConfig,
        place: &LogPlace,
        give_up_after: Duration,
        partition: Partition,
        events: mpsc::Sender<LogEvent>,
    ) -> Result<Self, InvalidKafkaConfig> {
        let mut writer = Self {
            config: config.clone(),
            place: place.clone(),
            give_up_after,
            partition,
            events,
            producer: None,
            next: AppendId(0),
        };
        writer.producer = Some(writer.connect()?);
        Ok(writer)
    }

    pub(super) fn append(&mut self, payload: &[u8]) -> Result<AppendId, AppendFailed> {
        let Some(partition) = self.partition.known() else {
            return Err(AppendFailed::not_appended(format!(
                "the journal {} was not reached yet; nothing can be appended",
                self.place.topic
            )));
        };
        self.rebuild_if_dead()?;
        let Some(producer) = &self.producer else {
            return Err(AppendFailed::not_appended("the producer of the journal can't be made anew".to_owned()));
        };
        let id = self.next;
        let record = BaseRecord {
            topic: &self.place.topic,
            partition: Some(partition),
            payload: Some(payload),
            key: Some(self.place.key.as_bytes()),
            timestamp: None,
            headers: None,
            delivery_opaque: id.0,
        };
        match producer.send(record) {
            Ok(()) => {
                self.next = AppendId(id.0.wrapping_add(1));
                Ok(id)
            }
            Err((error, _)) => {
                let code = notice::code(&error);
                let failed = producer.context().failed(code, payload.len());
                // It never left this process.
                Err(AppendFailed { may_appear: false, ..failed })
            }
        }
    }

    /// A producer that has failed for good answers for what it holds, and is replaced. So is one that let an entry time out:
    /// after an outage an idempotent producer was seen to send nothing more while the brokers answered everyone else. What
    /// it still brings into the log has a number below those that follow, and counts for nothing.
    fn rebuild_if_dead(&mut self) -> Result<(), AppendFailed> {
        if let Some(producer) = &self.producer {
            if let Some((code, reason)) = producer.client().fatal_error() {
                tracing::warn!(
                    reason = %notice::clean(&reason), code = %notice::code_words(code),
                    "the producer of the journal has failed for good; it is made anew"
                );
            } else if producer.context().timed_out.load(Ordering::Relaxed) {
                tracing::debug!("an entry timed out: the producer of the journal is made anew");
            } else {
                return Ok(());
            }
        }
        discard(self.producer.take());
        let producer = self.connect().map_err(|error| AppendFailed::not_appended(error.to_string()))?;
        self.producer = Some(producer);
        Ok(())
    }

    fn connect(&self) -> Result<ThreadedProducer<Callbacks>, InvalidKafkaConfig> {
        let callbacks = Callbacks {
            events: self.events.clone(),
            servers: self.config.bootstrap_servers.clone(),
            topic: self.place.topic.clone(),
            give_up_after: self.give_up_after,
            cause: Mutex::default(),
            timed_out: AtomicBool::new(false),
        };
        let config = self.config.journal_writer(self.give_up_after);
        Ok(ThreadedProducer::from_config_and_context(&config, callbacks)?)
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        discard(self.producer.take());
    }
}

struct Callbacks {
    events: mpsc::Sender<LogEvent>,
    servers: String,
    topic: String,
    give_up_after: Duration,
    /// What went wrong last since an entry was appended: why one times out.
    cause: Mutex<Option<String>>,
    /// Whether an entry was not taken in time.
    timed_out: AtomicBool,
}

impl ClientContext for Callbacks {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        notice::log(Client::Journal, level, facility, line);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        // That all are down is the consequence; the cause was told before.
        if error.rdkafka_error_code() != Some(Code::AllBrokersDown) {
            self.set_cause(Some(notice::clean(reason)));
        }
    }
}

impl ProducerContext for Callbacks {
    type DeliveryOpaque = usize;

    fn delivery(&self, report: &DeliveryResult<'_>, id: usize) {
        let result = match report {
            Ok(message) => {
                self.set_cause(None);
                Ok(message.offset())
            }
            Err((error, message)) => {
                let code = notice::code(error);
                self.timed_out.fetch_or(code == Code::MessageTimedOut, Ordering::Relaxed);
                Err(self.failed(code, message.payload_len()))
            }
        };
        // Waits for its turn, on the producer's own thread; an owner that is gone needs no answer.
        let _ = self.events.blocking_send(LogEvent::Appended { id: AppendId(id), result });
    }
}

impl Callbacks {
    fn set_cause(&self, cause: Option<String>) {
        *self.cause.lock().unwrap_or_else(PoisonError::into_inner) = cause;
    }

    fn failed(&self, code: Code, bytes: usize) -> AppendFailed {
        let topic = &self.topic;
        let words = match code {
            Code::MessageSizeTooLarge => format!(
                "an entry of {bytes} bytes is too large for the journal {topic}; raise max.message.bytes of the topic"
            ),
            Code::MessageTimedOut => {
                let cause = self.cause.lock().unwrap_or_else(PoisonError::into_inner).clone();
                let cause = cause.unwrap_or_else(|| "no answer came".to_owned());
                format!(
                    "the journal {topic} did not take an entry within {}: {cause}; look for a broker that is down (an entry \
                     wants as many replicas in sync as the topic's min.insync.replicas says), and check \
                     kafka.bootstrap_servers ({})",
                    humantime::format_duration(self.give_up_after),
                    self.servers
                )
            }
            Code::QueueFull => format!("too many entries wait to be appended to the journal {topic}"),
            Code::PurgeQueue | Code::PurgeInflight => {
                format!("the producer was closed before the journal {topic} took an entry")
            }
            Code::NotEnoughReplicas | Code::NotEnoughReplicasAfterAppend => format!(
                "the journal {topic} has too few replicas in sync to take an entry; look for a broker that is down"
            ),
            other => {
                let about = format!("journal {topic}: {}", notice::code_words(other));
                notice::explain(Client::Journal, other, &self.servers, &about).words().to_owned()
            }
        };
        AppendFailed { words, may_appear: may_appear(code), too_large: code == Code::MessageSizeTooLarge }
    }
}

/// Only what the broker, or the queue before it, refuses outright is known not to be in the log. What waits in the queue
/// may wait for another try after one whose answer was lost.
fn may_appear(code: Code) -> bool {
    !matches!(
        code,
        Code::MessageSizeTooLarge
            | Code::QueueFull
            | Code::UnknownTopic
            | Code::UnknownPartition
            | Code::UnknownTopicOrPartition
            | Code::TopicAuthorizationFailed
            | Code::ClusterAuthorizationFailed
            | Code::InvalidRecord
            | Code::InvalidTimestamp
            | Code::PolicyViolation
    )
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::timed_out(Code::MessageTimedOut, true)]
    #[case::closed_while_on_the_wire(Code::PurgeInflight, true)]
    #[case::appended_by_the_leader_only(Code::NotEnoughReplicasAfterAppend, true)]
    #[case::unforeseen(Code::Unknown, true)]
    #[case::closed_while_waiting_for_another_try(Code::PurgeQueue, true)]
    #[case::too_large(Code::MessageSizeTooLarge, false)]
    #[case::denied(Code::TopicAuthorizationFailed, false)]
    fn what_may_have_been_appended_is_said_so(#[case] code: Code, #[case] expected: bool) {
        assert_eq!(may_appear(code), expected);
    }
}
