//! Sends records back to their topics.

use std::{
    mem,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use rdkafka::{
    ClientContext, Message as _,
    config::{FromClientConfigAndContext, RDKafkaLogLevel},
    error::{KafkaError, RDKafkaErrorCode as Code},
    message::DeliveryResult,
    producer::{BaseProducer, BaseRecord, Producer as _, ProducerContext},
};

use super::{
    super::{
        client::{InvalidKafkaConfig, KafkaConfig},
        notice::{self, Client},
        sink::native_headers,
    },
    POLL,
};
use crate::domain::{record::Partition, replay::SentBack};

/// An idempotent producer that waits for what it has sent.
pub struct Sender(BaseProducer<Deliveries>);

/// Where a record is now, or why it is not known to be anywhere.
pub(super) type Delivery = Result<(Partition, i64), String>;

impl Sender {
    pub fn new(config: &KafkaConfig) -> Result<Self, InvalidKafkaConfig> {
        Ok(Self(BaseProducer::from_config_and_context(&config.replay_producer(), Deliveries::default())?))
    }

    /// Sends these records and waits until each is in Kafka or has failed for good, which takes a minute at most. The results
    /// are in the order of the records.
    pub fn send(&self, records: &[SentBack]) -> Vec<Delivery> {
        let mut results: Vec<Option<Delivery>> = records.iter().map(|_| None).collect();
        for (n, record) in records.iter().enumerate() {
            if let Err(error) = self.queue(record, n) {
                results[n] = Some(Err(notice::error_words(&error)));
            }
        }
        while results.iter().any(Option::is_none) && self.0.in_flight_count() > 0 {
            self.0.poll(POLL);
            self.0.context().take().into_iter().for_each(|(n, delivery)| results[n] = Some(delivery));
        }
        // The last of them may have been told between the look at them and the count.
        self.0.poll(Duration::ZERO);
        self.0.context().take().into_iter().for_each(|(n, delivery)| results[n] = Some(delivery));
        let untold = || Err("no broker said what became of it".to_owned());
        results.into_iter().map(|result| result.unwrap_or_else(untold)).collect()
    }
}

impl Sender {
    /// Hands a record to the producer, once there is room for it.
    fn queue(&self, record: &SentBack, n: usize) -> Result<(), KafkaError> {
        loop {
            match self.0.send(native(record, n)) {
                Err((error, _)) if notice::code(&error) == Code::QueueFull && self.0.in_flight_count() > 0 => {
                    self.0.poll(POLL);
                }
                sent => return sent.map_err(|(error, _)| error),
            }
        }
    }
}

fn native(record: &SentBack, n: usize) -> BaseRecord<'_, [u8], [u8], usize> {
    BaseRecord {
        topic: &record.topic,
        partition: None,
        payload: record.payload.as_deref(),
        key: record.key.as_deref(),
        timestamp: None,
        headers: native_headers(&record.headers),
        delivery_opaque: n,
    }
}

/// What librdkafka calls back with, until it is taken.
#[derive(Default)]
struct Deliveries(Mutex<Vec<(usize, Delivery)>>);

impl Deliveries {
    fn take(&self) -> Vec<(usize, Delivery)> {
        mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl ClientContext for Deliveries {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        notice::log(Client::Admin, level, facility, line);
    }
}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = usize;

    fn delivery(&self, report: &DeliveryResult<'_>, n: usize) {
        let delivery = match report {
            Ok(message) => {
                Ok((Partition { topic: message.topic().into(), number: message.partition() }, message.offset()))
            }
            Err((error, _)) => Err(notice::error_words(error)),
        };
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push((n, delivery));
    }
}
