//! The topics of one test: created under fresh names, seeded, read back by a plain consumer, deleted.

use std::{
    collections::BTreeMap,
    env, process,
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use alert_ips::{
    domain::{
        record::{Epoch, Header, Partition, Receipt, Record},
        settled::Settled,
    },
    sim::world::Message,
};
use jiff::Timestamp;
use rdkafka::{
    ClientConfig, Offset, TopicPartitionList,
    admin::{AdminClient, AdminOptions, AlterConfig, NewPartitions, NewTopic, ResourceSpecifier, TopicReplication},
    client::DefaultClientContext,
    consumer::{BaseConsumer, CommitMode, Consumer as _},
    error::{KafkaError, RDKafkaErrorCode},
    message::{Header as KafkaHeader, Headers as _, Message as _, OwnedHeaders},
    producer::{BaseProducer, BaseRecord, Producer as _},
};

pub const PARTITIONS: i32 = 3;

/// How long the broker has for each answer, also on a machine with more to do than it can.
pub(super) const ANSWER: Duration = super::LONG;

/// How long one client is waited for; then another asks. One that has asked for a topic too soon asks on and on, and one that has
/// lost its only broker may never hear of it again (confluentinc/librdkafka#5301).
const MOMENT: Duration = Duration::from_secs(10);

/// Counts the seeded messages, so that what is read back finds its expectation.
const SEED_HEADER: &str = "seed";

/// Input, output, dead letters and journal, and the group that reads the input.
pub struct Topics {
    pub bootstrap: String,
    pub input: String,
    pub output: String,
    pub dead_letters: String,
    pub journal: String,
    pub group: String,
}

/// A message as it stands in the input topic, and what must become of it.
pub struct Seeded {
    pub record: Record,
    pub message: Message,
    pub traceparent: String,
}

/// Messages that are written to the input one by one.
pub struct Seeding<'a> {
    topics: &'a Topics,
    producer: BaseProducer,
    /// How many the topic held before.
    first: usize,
    messages: Vec<Message>,
}

impl Topics {
    /// Names nobody has used, and no topics yet.
    pub fn named(bootstrap: &str, test: &str) -> Self {
        static NAMED: AtomicU32 = AtomicU32::new(0);
        let number = NAMED.fetch_add(1, Ordering::Relaxed);
        let unique = format!("{test}-{}-{}-{number}", process::id(), Timestamp::now().as_millisecond());
        Self {
            bootstrap: bootstrap.to_owned(),
            input: format!("{unique}.in"),
            output: format!("{unique}.out"),
            dead_letters: format!("{unique}.dead-letters"),
            journal: format!("{unique}.journal"),
            group: unique,
        }
    }

    pub fn create(bootstrap: &str, test: &str) -> Self {
        let topics = Self::named(bootstrap, test);
        topics.create_all();
        topics
    }

    pub fn create_all(&self) {
        let stamped = [("message.timestamp.type", "LogAppendTime")];
        self.make(&self.input, &[]);
        // So an output's timestamp says when it was there to be read.
        self.make(&self.output, &stamped);
        self.make(&self.dead_letters, &[]);
        self.make(&self.journal, &stamped);
    }

    /// Creates a topic with these settings, and waits until it is there.
    pub fn make(&self, name: &str, settings: &[(&str, &str)]) {
        self.make_on(&[1], name, settings);
    }

    /// The same on these brokers, the first of which leads all partitions.
    pub fn make_on(&self, brokers: &[i32], name: &str, settings: &[(&str, &str)]) {
        let places = vec![brokers; usize::try_from(PARTITIONS).unwrap()];
        let new = NewTopic::new(name, PARTITIONS, TopicReplication::Variable(&places));
        let new = settings.iter().fold(new, |new, (setting, value)| new.set(setting, value));
        // A topic that was deleted under this name may be going still.
        super::eventually(&format!("{name} is created"), ANSWER, || {
            let answer = block_on(self.admin().create_topics([&new], &options()));
            let created = matches!(answer.as_deref(), Ok([Ok(_)]));
            if !created {
                eprintln!("{name} is not created yet: {answer:?}");
            }
            created.then_some(())
        });
        // The creation is acknowledged before every client can see it.
        super::eventually(&format!("{name} is there"), ANSWER, || (self.partitions(name) == PARTITIONS).then_some(()));
    }

    pub fn delete(&self, name: &str) {
        block_on(self.admin().delete_topics(&[name], &options())).unwrap()[0].as_ref().unwrap();
    }

    /// Has Kafka create its own topic of transactions.
    pub fn begin_transactions(&self) {
        let mut config = self.client();
        let producer: BaseProducer = config.set("transactional.id", &self.output).create().unwrap();
        producer.init_transactions(ANSWER).unwrap();
    }

    /// Waits until this broker leads all partitions of all topics.
    pub fn wait_until_led_by(&self, broker: i32) {
        for name in self.all() {
            self.wait_until_is_led_by(name, broker);
        }
    }

    /// The same of one topic; -1: until no broker does.
    pub fn wait_until_is_led_by(&self, name: &str, broker: i32) {
        super::eventually(&format!("broker {broker} leads {name}"), ANSWER, || {
            let metadata = self.consumer().fetch_metadata(Some(name), MOMENT).ok()?;
            metadata.topics()[0].partitions().iter().all(|partition| partition.leader() == broker).then_some(())
        });
    }

    /// The input is deleted, and another one created under its name.
    pub fn recreate_input(&self) {
        self.delete(&self.input);
        self.make(&self.input, &[]);
    }

    /// A topic has so many partitions from now on.
    pub fn grow(&self, name: &str, partitions: usize) {
        let new = NewPartitions::new(name, partitions);
        block_on(self.admin().create_partitions(&[new], &options())).unwrap()[0].as_ref().unwrap();
    }

    /// Kafka removes all that lies before `first` in each partition of a topic.
    pub fn remove_before(&self, name: &str, first: i64) {
        let mut offsets = TopicPartitionList::new();
        for number in 0..PARTITIONS {
            offsets.add_partition_offset(name, number, Offset::Offset(first)).unwrap();
        }
        for partition in block_on(self.admin().delete_records(&offsets, &options())).unwrap().elements() {
            partition.error().unwrap();
        }
    }

    /// Writes messages to one partition of the input.
    pub fn seed_in(&self, partition: i32, messages: &[Message]) {
        let producer = self.producer();
        for message in messages {
            let mut record = BaseRecord::<[u8], [u8]>::to(&self.input).partition(partition);
            record.payload = message.payload.as_deref();
            send(&producer, record);
        }
        producer.flush(ANSWER).unwrap();
    }

    /// What the group has committed of the input.
    pub fn committed(&self) -> TopicPartitionList {
        self.committed_by(&self.group, &self.input)
    }

    fn committed_by(&self, group: &str, topic: &str) -> TopicPartitionList {
        let mut asked = TopicPartitionList::new();
        asked.add_partition_range(topic, 0, PARTITIONS - 1);
        // A broker that has just come back may not answer for the group yet; and none does while a transaction is open that
        // one left which was killed: for 30 s, and until the brokers look.
        super::eventually("the group's offsets", ANSWER, || {
            self.consumer_of(group).committed_offsets(asked.clone(), MOMENT).ok()
        })
    }

    /// Commits this for the group, as a member may that is late.
    pub fn commit(&self, offsets: &TopicPartitionList) {
        self.consumer().commit(offsets, CommitMode::Sync).unwrap();
    }

    /// Changes a topic's settings.
    pub fn configure(&self, name: &str, settings: &[(&str, &str)]) {
        let config = AlterConfig::new(ResourceSpecifier::Topic(name));
        let config = settings.iter().fold(config, |config, (setting, value)| config.set(setting, value));
        block_on(self.admin().alter_configs([&config], &options())).unwrap()[0].as_ref().unwrap();
    }

    /// Messages to be written one by one.
    pub fn seeding(&self) -> Seeding<'_> {
        let first = usize::try_from(self.count(&self.input)).unwrap();
        Seeding { topics: self, producer: self.producer(), first, messages: Vec::new() }
    }

    /// Writes the messages and reads them back, so that their places and timestamps are known.
    pub fn seed(&self, messages: Vec<Message>) -> Vec<Seeded> {
        let mut seeding = self.seeding();
        for message in messages {
            seeding.write(message);
        }
        seeding.end()
    }

    /// Writes `count` small alerts of low severity, each with an id of its own, with this pause after each; evenly to all
    /// partitions.
    pub fn seed_many(&self, count: usize, pause: Duration) {
        self.seed_lists(count, 1, pause);
    }

    /// The same, with several alerts in each of `count` messages.
    pub fn seed_lists(&self, count: usize, a_message: usize, pause: Duration) {
        let producer = self.producer();
        // Of now, so that none is expired.
        let ticks = 621_355_968_000_000_000 + Timestamp::now().as_nanosecond() / 100;
        let alert = |number: usize| {
            format!(
                r#"{{"id":"da{ticks}_-{number}","incidentId":1126093,"severity":"Low","status":"New","category":"Execution","title":"Suspicious PowerShell command line","machineId":"111e6dd8c833c8a052ea231ec1b19adaf497b625"}}"#,
            )
        };
        for (number, partition) in (0..count).zip((0..PARTITIONS).cycle()) {
            let payload = if a_message == 1 {
                alert(number)
            } else {
                let alerts: Vec<_> = (0..a_message).map(|n| alert(number * a_message + n)).collect();
                format!("[{}]", alerts.join(","))
            };
            let record = BaseRecord::<[u8], [u8]>::to(&self.input).partition(partition);
            send(&producer, record.payload(payload.as_bytes()));
            if !pause.is_zero() {
                producer.flush(ANSWER).unwrap();
                std::thread::sleep(pause);
            }
        }
        producer.flush(ANSWER).unwrap();
    }

    /// Copies the next `count` records of the input as they come to another topic, with a `ce_id` as the daemon writes it:
    /// what Kafka alone takes both ways.
    pub fn relay(&self, count: usize, to: &str) {
        let mut config = self.client();
        config.set("group.id", format!("{}-relay", self.group)).set("auto.offset.reset", "earliest");
        let consumer: BaseConsumer = config.set("fetch.wait.max.ms", "100").create().unwrap();
        consumer.subscribe(&[&self.input]).unwrap();
        let producer: BaseProducer = self.client().set("linger.ms", "0").set("acks", "all").create().unwrap();
        let mut copied = 0;
        while copied < count {
            producer.poll(Duration::ZERO);
            let Some(Ok(message)) = consumer.poll(Duration::from_millis(100)) else { continue };
            let id = format!("{}/0", record(&message).receipt);
            let headers = OwnedHeaders::new().insert(KafkaHeader { key: "ce_id", value: Some(&id) });
            let mut copy = BaseRecord::<[u8], [u8]>::to(to).headers(headers);
            copy.payload = message.payload();
            send(&producer, copy);
            copied += 1;
        }
        producer.flush(ANSWER).unwrap();
    }

    /// The next `count` records of a topic and when a reader of committed records has each.
    pub fn watch(&self, topic: &str, count: usize) -> Vec<(Record, Timestamp)> {
        let mut config = self.client();
        config.set("group.id", &self.group).set("isolation.level", "read_committed");
        let consumer: BaseConsumer = config.set("fetch.wait.max.ms", "100").create().unwrap();
        let mut assignment = TopicPartitionList::new();
        for number in 0..PARTITIONS {
            assignment.add_partition_offset(topic, number, Offset::Beginning).unwrap();
        }
        consumer.assign(&assignment).unwrap();
        let mut seen = Vec::new();
        while seen.len() < count {
            let Some(Ok(message)) = consumer.poll(ANSWER) else { continue };
            seen.push((record(&message), Timestamp::now()));
        }
        seen
    }

    /// Everything in a topic, as a reader of committed records sees it.
    pub fn read(&self, topic: &str) -> Vec<Record> {
        super::eventually(&format!("{topic} is read"), ANSWER, || read_by(&self.consumer(), topic))
    }

    /// How many records a topic holds.
    pub fn count(&self, topic: &str) -> i64 {
        let consumer = self.consumer();
        (0..PARTITIONS).map(|number| end(self, &consumer, topic, number)).sum()
    }

    /// Offsets of the input that the group has not committed.
    pub fn uncommitted(&self) -> i64 {
        let consumer = self.consumer();
        let committed = self.committed();
        let open = committed.elements().into_iter().map(|partition| {
            let end = end(self, &consumer, &self.input, partition.partition());
            match partition.offset() {
                Offset::Offset(next) => end - next,
                _ => end,
            }
        });
        open.sum()
    }

    /// How far the group says, by what it has committed, that the input is settled: of each partition the offset and what is
    /// settled beyond.
    pub fn settled(&self) -> BTreeMap<i32, (i64, Settled)> {
        let committed = self.committed();
        let settled = committed.elements().into_iter().filter_map(|partition| {
            let Offset::Offset(next) = partition.offset() else { return None };
            Some((partition.partition(), (next, Settled::read(next, partition.metadata()).unwrap())))
        });
        settled.collect()
    }

    /// How many offsets of the dead letters `alert-ips replay` has noted as sent back, in one partition at most.
    pub fn noted(&self) -> i64 {
        let noted = self.committed_by(&format!("{}.replay", self.group), &self.dead_letters);
        let next = noted.elements().into_iter().filter_map(|partition| match partition.offset() {
            Offset::Offset(next) => Some(next),
            _ => None,
        });
        next.sum()
    }

    fn all(&self) -> [&str; 4] {
        [&self.input, &self.output, &self.dead_letters, &self.journal]
    }

    /// 0 where nobody says.
    fn partitions(&self, topic: &str) -> i32 {
        let Ok(metadata) = self.consumer().fetch_metadata(Some(topic), MOMENT) else { return 0 };
        let found = metadata.topics().iter().find(|found| found.name() == topic && found.error().is_none());
        found.map_or(0, |found| i32::try_from(found.partitions().len()).unwrap())
    }

    pub(super) fn client(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.bootstrap);
        config
    }

    fn consumer(&self) -> BaseConsumer {
        self.consumer_of(&self.group)
    }

    fn consumer_of(&self, group: &str) -> BaseConsumer {
        let mut config = self.client();
        config.set("group.id", group).set("isolation.level", "read_committed");
        config.set("enable.partition.eof", "true").set("enable.auto.commit", "false");
        // The end of a partition is told with the answer to a fetch that found nothing.
        config.set("fetch.wait.max.ms", "50");
        config.create().unwrap()
    }

    fn producer(&self) -> BaseProducer {
        let mut config = self.client();
        config.set("linger.ms", "5").set("queue.buffering.max.messages", "200000");
        config.create().unwrap()
    }

    fn admin(&self) -> AdminClient<DefaultClientContext> {
        self.client().create().unwrap()
    }
}

impl Drop for Topics {
    /// A failed test leaves its topics to be looked at.
    fn drop(&mut self) {
        if !std::thread::panicking() && env::var_os("ALERT_IPS_KEEP_TOPICS").is_none() {
            let _ = block_on(self.admin().delete_topics(&self.all(), &options()));
        }
    }
}

impl Seeding<'_> {
    pub fn write(&mut self, message: Message) {
        let number = (self.first + self.messages.len()).to_string();
        let headers = OwnedHeaders::new()
            .insert(KafkaHeader { key: SEED_HEADER, value: Some(&number) })
            .insert(KafkaHeader { key: "traceparent", value: Some(&traceparent(&number)) });
        let mut record = BaseRecord::<[u8], [u8]>::to(&self.topics.input).headers(headers);
        record.key = message.key.as_deref();
        record.payload = message.payload.as_deref();
        send(&self.producer, record);
        self.messages.push(message);
    }

    /// Reads all of them back, so that their places and timestamps are known.
    pub fn end(self) -> Vec<Seeded> {
        self.producer.flush(ANSWER).unwrap();
        let mut records: BTreeMap<usize, Record> = BTreeMap::new();
        for record in self.topics.read(&self.topics.input) {
            let number = record.headers.iter().find(|header| &*header.name == SEED_HEADER).unwrap();
            let number = std::str::from_utf8(number.value.as_deref().unwrap()).unwrap().parse().unwrap();
            if number >= self.first {
                assert!(records.insert(number, record).is_none(), "seeded once");
            }
        }
        assert_eq!(records.len(), self.messages.len());
        let seeded = records.into_iter().zip(self.messages);
        seeded
            .map(|((number, record), message)| {
                let traceparent = traceparent(&number.to_string());
                Seeded { record, message, traceparent }
            })
            .collect()
    }
}

/// `None` where this client hears nothing.
fn read_by(consumer: &BaseConsumer, topic: &str) -> Option<Vec<Record>> {
    let mut assignment = TopicPartitionList::new();
    for number in 0..PARTITIONS {
        assignment.add_partition_offset(topic, number, Offset::Beginning).unwrap();
    }
    consumer.assign(&assignment).unwrap();
    let (mut records, mut open, begun) = (Vec::new(), PARTITIONS, Instant::now());
    while open > 0 {
        match consumer.poll(MOMENT)? {
            Ok(message) => records.push(record(&message)),
            Err(KafkaError::PartitionEOF(_)) => open -= 1,
            // So it is for a moment with a broker that has just come back; the client connects again by itself.
            Err(error) => assert!(begun.elapsed() < ANSWER, "{topic} can't be read: {error}"),
        }
    }
    Some(records)
}

/// One past the newest record of a partition. A broker that has just come back may not lead it yet.
fn end(topics: &Topics, consumer: &BaseConsumer, topic: &str, number: i32) -> i64 {
    let ask = |consumer: &BaseConsumer| consumer.fetch_watermarks(topic, number, MOMENT).ok().map(|(_, end)| end);
    ask(consumer).unwrap_or_else(|| super::eventually("a partition has a leader", ANSWER, || ask(&topics.consumer())))
}

fn options() -> AdminOptions {
    AdminOptions::new().operation_timeout(Some(ANSWER)).request_timeout(Some(ANSWER))
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}

pub(super) fn send(producer: &BaseProducer, mut record: BaseRecord<'_, [u8], [u8]>) {
    loop {
        match producer.send(record) {
            Ok(()) => return,
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => {
                record = back;
                producer.poll(Duration::from_millis(10));
            }
            Err((error, _)) => panic!("a record can't be produced: {error}"),
        }
    }
}

fn traceparent(number: &str) -> String {
    format!("00-abcdef{number:0>26}-00f067aa0ba902b7-01")
}

fn record(message: &rdkafka::message::BorrowedMessage<'_>) -> Record {
    let partition = Partition { topic: message.topic().into(), number: message.partition() };
    let headers = message.headers().map(|headers| {
        headers.iter().map(|header| Header { name: header.key.into(), value: header.value.map(Into::into) }).collect()
    });
    Record {
        receipt: Receipt { partition, offset: message.offset(), epoch: Epoch::default() },
        key: message.key().map(Into::into),
        payload: message.payload().map(Into::into),
        headers: headers.unwrap_or_default(),
        timestamp: message.timestamp().to_millis().map(|millis| Timestamp::from_millisecond(millis).unwrap()),
    }
}
