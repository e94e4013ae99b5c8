//! Whether the brokers let an account's entries be read and appended, tried once and without adding an entry.
//!
//! Reading is tried at the log's end. Appending is tried with a write that asks for two acknowledgements. Kafka looks first
//! whether the writer may write to the topic, and refuses what is left of the question then, so that the answer tells the
//! one from the other and the journal stays as it is. That matters: a journal in which nothing was ever written is one of
//! a first start, and an entry of ours would hide that. A broker that takes such a write all the same has a message that
//! holds no entries, if the caller gives one.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use rdkafka::{
    ClientContext,
    config::{FromClientConfigAndContext, RDKafkaLogLevel},
    error::{KafkaError, RDKafkaErrorCode as Code},
    message::DeliveryResult,
    producer::{BaseProducer, BaseRecord, Producer, ProducerContext},
};

use super::{
    LogPlace,
    link::{IDLE_POLL, Link, Unanswered},
};
use crate::kafka::{
    client::{InvalidKafkaConfig, KafkaConfig},
    notice::{self, Client},
};

/// How long the answer to either trial is waited for.
const LIMIT: Duration = Duration::from_secs(10);

/// Why an account's entries can't be read or appended; each says what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoAccess {
    #[error(transparent)]
    Config(#[from] InvalidKafkaConfig),
    #[error("entries can't be read: {0}")]
    Read(String),
    #[error("entries can't be appended: {0}")]
    Append(String),
    #[error("the question to kafka was broken off")]
    BrokenOff,
}

/// Tries to read and to append at `place`. `nothing`: a message without entries, for brokers that refuse no write.
pub async fn try_access(config: &KafkaConfig, place: &LogPlace, nothing: Vec<u8>) -> Result<(), NoAccess> {
    let (config, place) = (config.clone(), place.clone());
    let tried = tokio::task::spawn_blocking(move || {
        let mut link = Link::open(&config, &place, Client::JournalTrial)?;
        let partition = read(&mut link).map_err(|Unanswered(words)| NoAccess::Read(words))?;
        append(&config, &place, partition, &nothing)
    });
    tried.await.unwrap_or(Err(NoAccess::BrokenOff))
}

/// Fetches from the end of the log; returns the key's partition.
fn read(link: &mut Link) -> Result<i32, Unanswered> {
    let partition = link.placed()?.partition;
    let end = link.ends(partition)?.end;
    link.fetch_from(partition, end)?;
    let mut waited = Duration::ZERO;
    while waited < LIMIT {
        match link.poll() {
            Some(Ok(_) | Err(KafkaError::PartitionEOF(_))) => return Ok(partition),
            Some(Err(_)) => {}
            None => waited += IDLE_POLL,
        }
        if let Some(words) = link.trouble() {
            return Err(Unanswered(words.to_owned()));
        }
    }
    Err(link.unanswered(Code::OperationTimedOut))
}

fn append(config: &KafkaConfig, place: &LogPlace, partition: i32, nothing: &[u8]) -> Result<(), NoAccess> {
    let producer = BaseProducer::from_config_and_context(&config.journal_trial(LIMIT), Answer::default())
        .map_err(InvalidKafkaConfig::from)?;
    let record = BaseRecord::to(&place.topic).partition(partition).key(place.key.as_bytes()).payload(nothing);
    let sent = producer.send(record).map_err(|(error, _)| error);
    // Longer than the write itself may take, so that its answer comes first.
    let answer = sent.and_then(|()| producer.flush(2 * LIMIT)).and_then(|()| producer.context().taken());
    match answer.map_err(|error| notice::code(&error)) {
        Ok(()) | Err(Code::InvalidRequiredAcks) => Ok(()),
        Err(code) => Err(NoAccess::Append(words(config, place, partition, code))),
    }
}

fn words(config: &KafkaConfig, LogPlace { topic, .. }: &LogPlace, partition: i32, code: Code) -> String {
    if code == Code::MessageTimedOut {
        return format!(
            "partition {partition} of the journal {topic} gives no answer within {}; look for a broker that is down",
            humantime::format_duration(LIMIT)
        );
    }
    let about = format!("journal {topic}: {}", notice::code_words(code));
    notice::explain(Client::JournalTrial, code, &config.bootstrap_servers, &about).words().to_owned()
}

/// What became of the one write; none until its answer is there.
#[derive(Default)]
struct Answer(Mutex<Option<Result<(), KafkaError>>>);

impl Answer {
    fn taken(&self) -> Result<(), KafkaError> {
        let answer = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        answer.unwrap_or(Err(KafkaError::MessageProduction(Code::MessageTimedOut)))
    }
}

impl ClientContext for Answer {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        notice::log(Client::JournalTrial, level, facility, line);
    }

    /// The answer to the write tells what matters.
    fn error(&self, _: KafkaError, _: &str) {}
}

impl ProducerContext for Answer {
    type DeliveryOpaque = ();

    fn delivery(&self, report: &DeliveryResult<'_>, (): ()) {
        let answer = report.as_ref().map(|_| ()).map_err(|(error, _)| error.clone());
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(answer);
    }
}
