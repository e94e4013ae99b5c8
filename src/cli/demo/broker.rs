//! The embedded broker, what writes to its input topic, and what reads the topics that the daemon writes.
//!
//! Clients of its own, apart from the daemon's: what is read here is what any reader of the topics would see.

use std::{collections::BTreeMap, net::IpAddr, thread, time::Duration};

use jiff::Timestamp;
use rdkafka::{
    ClientContext, Offset, TopicPartitionList,
    config::{ClientConfig, FromClientConfigAndContext},
    consumer::{BaseConsumer, Consumer},
    error::{KafkaError, RDKafkaErrorCode as Code},
    message::{BorrowedMessage, Headers, Message},
    mocking::MockCluster,
    producer::{BaseRecord, DefaultProducerContext, DeliveryResult, ProducerContext, ThreadedProducer},
};
use serde::Deserialize;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{
    ledger::{DeadLetter, Output, Place},
    script::Step,
};

pub(super) const INPUT: &str = "defender.alerts";
pub(super) const OUTPUT: &str = "defender.alert-ips";
pub(super) const DEAD_LETTERS: &str = "defender.alert-ips.dead-letters";
/// The outputs once more, in the form that is asked for.
pub(super) const SHOWN: &str = "defender.alert-ips.shown";
pub(super) const GROUP: &str = "alert-ips";

const PARTITIONS: i32 = 3;

/// How long the broker may take for an answer; it is in this process.
const BROKER_WITHIN: Duration = Duration::from_secs(5);

/// How long the reader may take from the end of the daemon to the end of the topics.
const END_WITHIN: u32 = 100;
const POLL: Duration = Duration::from_millis(100);

/// A Kafka broker within this process. Neither it nor a reference to it can change threads.
pub(super) struct Broker(MockCluster<'static, DefaultProducerContext>);

impl Broker {
    /// Starts it, with the daemon's topics.
    pub(super) fn start() -> Result<Self, KafkaError> {
        let cluster = MockCluster::new(1)?;
        for topic in [INPUT, OUTPUT, DEAD_LETTERS, SHOWN] {
            cluster.create_topic(topic, PARTITIONS, 1)?;
        }
        Ok(Self(cluster))
    }

    pub(super) fn servers(&self) -> String {
        self.0.bootstrap_servers()
    }
}

/// What the two clients report.
#[derive(Debug)]
pub(super) enum Event {
    /// A message lies in the input topic.
    Written {
        place: Place,
        at: Timestamp,
        step: Box<Step>,
    },
    /// It can't be written, for this reason.
    Failed(String),
    Output(Place, Output),
    DeadLetter(Place, DeadLetter),
    /// A record that names no message, in words.
    Stranger(String),
    /// Everything is read. For each partition of the input, the first offset not committed.
    End(BTreeMap<i32, i64>),
}

/// Writes alerts, as whatever feeds the topic elsewhere would.
pub(super) struct Writer(ThreadedProducer<Deliveries>);

struct Deliveries(mpsc::Sender<Event>);

impl ClientContext for Deliveries {}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = Box<(Timestamp, Step)>;

    fn delivery(&self, result: &DeliveryResult<'_>, written: Box<(Timestamp, Step)>) {
        let (at, step) = *written;
        let event = match result {
            Ok(message) => Event::Written { place: place(message), at, step: Box::new(step) },
            Err((error, _)) => Event::Failed(error.to_string()),
        };
        // Nobody listens any more once the demo is over.
        let _ = self.0.blocking_send(event);
    }
}

impl Writer {
    pub(super) fn start(servers: &str, events: mpsc::Sender<Event>) -> Result<Self, KafkaError> {
        let config = client(servers, &[("linger.ms", "0")]);
        ThreadedProducer::from_config_and_context(&config, Deliveries(events)).map(Self)
    }

    /// Hands a message over, with its Kafka timestamp. Gives it back where too many are under way.
    pub(super) fn write(&self, at: Timestamp, step: Step) -> Result<Option<Step>, KafkaError> {
        let (key, payload) = (step.message.key.clone(), step.message.payload.clone());
        let opaque = Box::new((at, step));
        let mut record: BaseRecord<'_, [u8], [u8], _> = BaseRecord::with_opaque_to(INPUT, opaque);
        record.timestamp = Some(at.as_millisecond());
        record.key = key.as_deref();
        record.payload = payload.as_deref();
        match self.0.send(record) {
            Ok(()) => Ok(None),
            Err((KafkaError::MessageProduction(Code::QueueFull), back)) => Ok(Some(back.delivery_opaque.1)),
            Err((error, _)) => Err(error),
        }
    }
}

/// Reads outputs and dead letters from their begin, on a thread of its own.
pub(super) struct Reader {
    finish: CancellationToken,
}

impl Reader {
    pub(super) fn start(servers: &str, events: mpsc::Sender<Event>) -> Result<Self, KafkaError> {
        let properties = [
            // Only to look its offsets up: what is assigned by hand joins no group.
            ("group.id", GROUP),
            ("enable.auto.commit", "false"),
            ("auto.offset.reset", "earliest"),
            ("fetch.wait.max.ms", "50"),
            ("fetch.queue.backoff.ms", "2"),
        ];
        let consumer: BaseConsumer = client(servers, &properties).create()?;
        let mut assignment = TopicPartitionList::new();
        for topic in [OUTPUT, DEAD_LETTERS] {
            for partition in 0..PARTITIONS {
                assignment.add_partition_offset(topic, partition, Offset::Beginning)?;
            }
        }
        consumer.assign(&assignment)?;
        let finish = CancellationToken::new();
        let finishing = finish.clone();
        thread::spawn(move || {
            let last = match read(&consumer, &events, &finishing) {
                Ok(committed) => Event::End(committed),
                Err(error) => Event::Failed(error.to_string()),
            };
            let _ = events.blocking_send(last);
        });
        Ok(Self { finish })
    }

    /// Nothing more will be written: [`Event::End`] follows once everything is read.
    pub(super) fn finish(&self) {
        self.finish.cancel();
    }
}

/// A record with addresses, of those in the form that is asked for: its headers and its payload, for a person. `None`: there
/// is none.
pub(super) fn shown(servers: &str) -> Result<Option<String>, KafkaError> {
    let consumer: BaseConsumer = client(servers, &[("group.id", GROUP), ("fetch.wait.max.ms", "50")]).create()?;
    let mut assignment = TopicPartitionList::new();
    for partition in 0..PARTITIONS {
        assignment.add_partition_offset(SHOWN, partition, Offset::Beginning)?;
    }
    consumer.assign(&assignment)?;
    let mut best = None;
    for _ in 0..END_WITHIN {
        let message = match consumer.poll(POLL) {
            Some(message) => message?,
            None if best.is_some() => break,
            // It takes a moment to begin.
            None => continue,
        };
        let Some(text) = message.payload().and_then(|payload| std::str::from_utf8(payload).ok()) else { continue };
        let headers = message.headers().into_iter().flat_map(Headers::iter);
        let headers: String = headers
            .filter_map(|header| Some(format!("{}: {}\n", header.key, std::str::from_utf8(header.value?).ok()?)))
            .collect();
        let pretty =
            serde_json::from_str::<serde_json::Value>(text).and_then(|json| serde_json::to_string_pretty(&json));
        best = Some(format!("{headers}\n{}", pretty.unwrap_or_else(|_| text.to_owned())));
        if text.contains("found") && !text.contains("not_found") {
            break;
        }
    }
    Ok(best)
}

fn client(servers: &str, properties: &[(&str, &str)]) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", servers);
    for (name, value) in properties {
        config.set(*name, *value);
    }
    config
}

fn read(
    consumer: &BaseConsumer,
    events: &mpsc::Sender<Event>,
    finish: &CancellationToken,
) -> Result<BTreeMap<i32, i64>, KafkaError> {
    while !finish.is_cancelled() {
        read_one(consumer, events)?;
    }
    let mut ends = BTreeMap::new();
    for topic in [OUTPUT, DEAD_LETTERS] {
        for partition in 0..PARTITIONS {
            ends.insert((topic, partition), consumer.fetch_watermarks(topic, partition, BROKER_WITHIN)?.1);
        }
    }
    let mut polls = 0;
    while !is_at(consumer, &ends)? && polls < END_WITHIN {
        polls += u32::from(!read_one(consumer, events)?);
    }
    committed(consumer)
}

/// Reads one record, if one comes.
fn read_one(consumer: &BaseConsumer, events: &mpsc::Sender<Event>) -> Result<bool, KafkaError> {
    let Some(message) = consumer.poll(POLL) else { return Ok(false) };
    let message = match message {
        Ok(message) => message,
        // It goes on by itself.
        Err(KafkaError::MessageConsumption(Code::AllBrokersDown | Code::BrokerTransportFailure)) => return Ok(false),
        Err(error) => return Err(error),
    };
    let event = match message.topic() {
        OUTPUT => output(&message).map(|(place, output)| Event::Output(place, output)),
        _ => dead_letter(&message).map(|(place, dead_letter)| Event::DeadLetter(place, dead_letter)),
    };
    let stranger = || {
        let (topic, Place { partition, offset }) = (message.topic(), place(&message));
        Event::Stranger(format!("{topic} partition {partition} offset {offset} can't be read back"))
    };
    let _ = events.blocking_send(event.unwrap_or_else(stranger));
    Ok(true)
}

fn is_at(consumer: &BaseConsumer, ends: &BTreeMap<(&str, i32), i64>) -> Result<bool, KafkaError> {
    let position = consumer.position()?;
    let reached = |topic: &str, partition| match position.find_partition(topic, partition).map(|at| at.offset()) {
        Some(Offset::Offset(at)) => at,
        _ => 0,
    };
    Ok(ends.iter().all(|((topic, partition), end)| reached(topic, *partition) >= *end))
}

fn committed(consumer: &BaseConsumer) -> Result<BTreeMap<i32, i64>, KafkaError> {
    let mut asked = TopicPartitionList::new();
    asked.add_partition_range(INPUT, 0, PARTITIONS - 1);
    let offsets = consumer.committed_offsets(asked, BROKER_WITHIN)?;
    let next = |offset| if let Offset::Offset(next) = offset { next } else { 0 };
    Ok(offsets.elements().iter().map(|element| (element.partition(), next(element.offset()))).collect())
}

/// An output in the `json` format.
#[derive(Deserialize)]
struct Document {
    alert_id: String,
    status: String,
    ips: Vec<IpAddr>,
}

fn output(message: &BorrowedMessage<'_>) -> Option<(Place, Output)> {
    let Document { alert_id, status, ips } = serde_json::from_slice(message.payload()?).ok()?;
    if message.key() != Some(alert_id.as_bytes()) {
        return None;
    }
    // topic/partition/offset/index
    let id = header(message, "ce_id")?;
    let mut parts = id.strip_prefix(INPUT)?.strip_prefix('/')?.split('/');
    let place = Place { partition: parts.next()?.parse().ok()?, offset: parts.next()?.parse().ok()? };
    Some((place, Output { at: time(message), alert_id, status, ips }))
}

fn dead_letter(message: &BorrowedMessage<'_>) -> Option<(Place, DeadLetter)> {
    let partition = header(message, "alert-ips-source-partition")?.parse().ok()?;
    let offset = header(message, "alert-ips-source-offset")?.parse().ok()?;
    let reason = header(message, "alert-ips-reason")?;
    (header(message, "alert-ips-source-topic")? == INPUT).then_some(())?;
    let payload = message.payload().map(<[u8]>::to_vec);
    Some((Place { partition, offset }, DeadLetter { reason, payload }))
}

fn header(message: &BorrowedMessage<'_>, name: &str) -> Option<String> {
    let value = message.headers()?.iter().find(|header| header.key == name)?.value?;
    String::from_utf8(value.to_vec()).ok()
}

fn place(message: &BorrowedMessage<'_>) -> Place {
    Place { partition: message.partition(), offset: message.offset() }
}

fn time(message: &BorrowedMessage<'_>) -> Timestamp {
    message.timestamp().to_millis().and_then(|millis| Timestamp::from_millisecond(millis).ok()).unwrap_or_default()
}
