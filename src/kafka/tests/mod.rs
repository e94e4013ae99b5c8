//! Source and sink against librdkafka's mock cluster. Each test has its own, on its own thread; joining a group takes
//! three seconds there.

mod partitions;

use std::{collections::BTreeSet, time::Duration};

use jiff::Timestamp;
use rdkafka::{
    mocking::MockCluster,
    producer::DefaultProducerContext,
    types::{RDKafkaApiKey, RDKafkaRespErr},
};
use tokio::{sync::mpsc, time::timeout};

use super::{
    client::KafkaConfig,
    notice::{News, Notice, Trouble},
    sink::{self, Ack, Refusal, Sink, SinkTopics, WriteFailed, WriteId},
    source::{self, SourceEvent, SourceHandle, Start},
    topics::{self, ClusterError, ConfiguredTopic, TopicRole, TopicState},
};
use crate::domain::{
    commit_point::CommitPoint,
    record::{Destination, Epoch, Header, Outgoing, Partition, Record},
};

/// Far longer than anything takes; reached only by a failure.
const LONG: Duration = Duration::from_secs(30);

const QUICK_GROUP: [(&str, &str); 2] = [("heartbeat.interval.ms", "200"), ("session.timeout.ms", "3000")];

struct Broker(MockCluster<'static, DefaultProducerContext>);

impl Broker {
    fn with_topic(partitions: i32) -> Self {
        let cluster = MockCluster::new(1).unwrap();
        cluster.create_topic("alerts", partitions, 1).unwrap();
        Self(cluster)
    }

    fn config(&self, properties: &[(&str, &str)]) -> KafkaConfig {
        config(&self.0.bootstrap_servers(), properties)
    }

    /// Writes to the topic that the sources read: to each of its partitions, for a producer that is let would write all to
    /// one.
    fn sink(&self) -> Writer {
        let topics = SinkTopics { outputs: vec!["alerts".into()], dead_letters: "alerts".into() };
        Writer::start(&self.config(&[("sticky.partitioning.linger.ms", "0")]), topics)
    }

    /// The mock delays every rebalance but the first by nearly the session timeout.
    fn source(&self) -> Reader {
        self.source_from(Start::Earliest)
    }

    fn source_from(&self, start: Start) -> Reader {
        Reader::start(&self.config(&QUICK_GROUP), start)
    }

    fn source_with(&self, properties: &[(&str, &str)]) -> Reader {
        Reader::start(&self.config(&[&QUICK_GROUP, properties].concat()), Start::Earliest)
    }
}

fn config(servers: &str, properties: &[(&str, &str)]) -> KafkaConfig {
    KafkaConfig {
        bootstrap_servers: servers.into(),
        group_id: "alert-ips".into(),
        properties: properties.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect(),
        client_id: "test".into(),
        static_member: None,
    }
}

struct Writer {
    sink: Sink,
    acks: mpsc::Receiver<Ack>,
    notices: mpsc::Receiver<Notice>,
}

impl Writer {
    fn start(config: &KafkaConfig, topics: SinkTopics) -> Self {
        let (sender, notices) = mpsc::channel(256);
        let (sink, acks) = sink::start(config, topics, sender).unwrap();
        Self { sink, acks, notices }
    }

    async fn ack(&mut self) -> Ack {
        timeout(LONG, self.acks.recv()).await.expect("an acknowledgement").unwrap()
    }

    async fn write_all(&mut self, count: usize) {
        for number in 0..count {
            self.sink.send(WriteId(number), &text(&number.to_string())).unwrap();
        }
        for _ in 0..count {
            assert_eq!(self.ack().await.result, Ok(()));
        }
    }
}

struct Reader {
    handle: SourceHandle,
    events: mpsc::Receiver<SourceEvent>,
    notices: mpsc::Receiver<Notice>,
}

impl Reader {
    fn start(config: &KafkaConfig, start: Start) -> Self {
        let (sender, notices) = mpsc::channel(256);
        let (handle, events) = source::start(config, &["alerts".into()], start, sender).unwrap();
        Self { handle, events, notices }
    }

    async fn event(&mut self) -> SourceEvent {
        timeout(LONG, self.events.recv()).await.expect("an event").unwrap()
    }

    async fn assigned(&mut self) -> (Vec<Partition>, Epoch) {
        loop {
            if let SourceEvent::Assigned { partitions, epoch, .. } = self.event().await {
                return (partitions, epoch);
            }
        }
    }

    /// What was committed of the partitions that are assigned next.
    async fn committed_before(&mut self) -> Vec<CommitPoint> {
        loop {
            if let SourceEvent::Assigned { committed, .. } = self.event().await {
                return committed;
            }
        }
    }

    /// At least `count` records, skipping other events.
    async fn records(&mut self, count: usize) -> Vec<Record> {
        let mut all = Vec::new();
        while all.len() < count {
            if let SourceEvent::Records(records) = self.event().await {
                assert!(!records.is_empty() && records.len() <= 256);
                all.extend(records);
            }
        }
        all
    }

    /// The records that come until none came for so long.
    async fn quiet_for(&mut self, limit: Duration) -> Vec<Record> {
        let mut all = Vec::new();
        while let Ok(Some(event)) = timeout(limit, self.events.recv()).await {
            if let SourceEvent::Records(records) = event {
                all.extend(records);
            }
        }
        all
    }

    async fn committed(&mut self) -> Vec<CommitPoint> {
        loop {
            if let SourceEvent::Committed { result } = self.event().await {
                return result.unwrap();
            }
        }
    }

    async fn stop(mut self) {
        self.handle.stop();
        while !matches!(self.event().await, SourceEvent::Stopped) {}
        assert!(timeout(LONG, self.events.recv()).await.expect("its thread ends").is_none());
    }
}

fn text(payload: &str) -> Outgoing {
    Outgoing {
        to: Destination::Output(0),
        key: None,
        payload: Some(payload.as_bytes().into()),
        headers: Vec::new(),
        timestamp: None,
    }
}

async fn trouble(notices: &mut mpsc::Receiver<Notice>) -> Trouble {
    loop {
        let notice = timeout(LONG, notices.recv()).await.expect("a notice").unwrap();
        if let News::Trouble(trouble) = notice.news {
            return trouble;
        }
    }
}

async fn working(notices: &mut mpsc::Receiver<Notice>) {
    while timeout(LONG, notices.recv()).await.expect("a notice").unwrap().news != News::Working {}
}

#[tokio::test]
async fn records_arrive_as_they_were_sent() {
    let broker = Broker::with_topic(1);
    let mut writer = broker.sink();
    let whole = Outgoing {
        to: Destination::Output(0),
        key: Some(b"k\0\xff".as_slice().into()),
        payload: Some(b"\x00\xfe payload".as_slice().into()),
        headers: vec![
            Header::new("twice", "1"),
            Header { name: "null".into(), value: None },
            Header::new("twice", b"\xff\x00"),
            Header::new("empty", ""),
        ],
        timestamp: Some(Timestamp::from_millisecond(1_600_000_000_123).unwrap()),
    };
    let bare = Outgoing { key: None, payload: None, headers: vec![], ..whole.clone() };
    let empty = Outgoing { key: Some([].into()), payload: Some([].into()), ..bare.clone() };
    for (number, outgoing) in [&whole, &bare, &empty].into_iter().enumerate() {
        writer.sink.send(WriteId(number), outgoing).unwrap();
        assert_eq!(writer.ack().await, Ack { write: WriteId(number), result: Ok(()) });
    }

    let mut reader = broker.source();
    let (partitions, epoch) = reader.assigned().await;
    let records = reader.records(3).await;
    for (offset, (record, sent)) in (0..).zip(records.iter().zip([&whole, &bare, &empty])) {
        assert_eq!(record.key, sent.key);
        assert_eq!(record.payload, sent.payload);
        assert_eq!(record.headers, sent.headers);
        assert_eq!(record.timestamp, sent.timestamp);
        assert_eq!((&record.receipt.partition, record.receipt.epoch), (&partitions[0], epoch));
        assert_eq!(record.receipt.offset, offset);
    }
    reader.stop().await;
}

#[tokio::test]
async fn a_pause_stops_the_records_and_loses_none() {
    const COUNT: usize = 20_000;
    let broker = Broker::with_topic(3);
    broker.sink().write_all(COUNT).await;
    let mut reader = broker.source();
    let mut seen = Vec::new();
    // A short pause that librdkafka never hears of, and a longer one.
    for length in [Duration::from_millis(50), Duration::from_secs(1)] {
        seen.extend(reader.records(1).await);
        reader.handle.pause();
        // What was on its way; then nothing.
        while let Ok(Some(event)) = timeout(length, reader.events.recv()).await {
            let SourceEvent::Records(records) = event else { panic!("{event:?}") };
            seen.extend(records);
        }
        assert!(seen.len() < COUNT / 2, "{} records in spite of a pause", seen.len());
        reader.handle.resume();
    }
    seen.extend(reader.records(COUNT - seen.len()).await);
    let distinct: BTreeSet<_> =
        seen.iter().map(|record| (record.receipt.partition.number, record.receipt.offset)).collect();
    assert_eq!((seen.len(), distinct.len()), (COUNT, COUNT));
    reader.stop().await;
}

#[tokio::test]
async fn the_next_start_begins_after_what_was_committed() {
    let broker = Broker::with_topic(1);
    broker.sink().write_all(10).await;
    let mut reader = broker.source();
    let (partitions, epoch) = reader.assigned().await;
    reader.records(10).await;
    let beyond = "alert-ips/1:C".to_owned();
    let point = |epoch, next| CommitPoint { partition: partitions[0].clone(), epoch, next, beyond: beyond.clone() };
    reader.handle.commit(vec![point(epoch, 4)]);
    assert_eq!(reader.committed().await, [point(epoch, 4)]);
    // Of another assignment: left out.
    reader.handle.commit(vec![point(Epoch(epoch.0 + 1), 9)]);
    reader.stop().await;

    let mut reader = broker.source();
    assert_eq!(reader.committed_before().await, [point(Epoch(1), 4)]);
    assert_eq!(reader.records(6).await[0].receipt.offset, 4);
    // Asked for together with the stop, and made.
    reader.handle.commit(vec![point(Epoch(1), 7)]);
    reader.stop().await;
    assert_eq!(broker.source().records(3).await[0].receipt.offset, 7);
}

#[tokio::test]
async fn where_to_start_counts_only_for_a_group_without_offsets() {
    let broker = Broker::with_topic(1);
    let mut writer = broker.sink();
    writer.write_all(5).await;
    let mut reader = broker.source_from(Start::Latest);
    let (partitions, epoch) = reader.assigned().await;
    // The end is looked up after the assignment; what is written before that is not read.
    let first = loop {
        writer.write_all(1).await;
        if let Ok(Some(SourceEvent::Records(records))) = timeout(Duration::from_millis(200), reader.events.recv()).await
        {
            break records[0].receipt.offset;
        }
    };
    assert!(first >= 5, "{first} was there before the start");
    reader.handle.commit(vec![CommitPoint { partition: partitions[0].clone(), epoch, next: 3, beyond: String::new() }]);
    reader.stop().await;
    assert_eq!(broker.source_from(Start::Latest).records(1).await[0].receipt.offset, 3);
}

#[tokio::test]
async fn a_broker_that_comes_back_is_written_to_and_read_from_again() {
    let broker = Broker::with_topic(1);
    let (mut writer, mut reader) = (broker.sink(), broker.source());
    writer.write_all(1).await;
    reader.records(1).await;
    broker.0.broker_down(1).unwrap();
    writer.sink.send(WriteId(7), &text("written while it was away")).unwrap();
    let told = trouble(&mut writer.notices).await;
    assert!(matches!(&told, Trouble::Unreachable(words) if words.contains("kafka.bootstrap_servers")), "{told:?}");
    assert!(writer.acks.try_recv().is_err());
    broker.0.broker_up(1).unwrap();
    assert_eq!(writer.ack().await, Ack { write: WriteId(7), result: Ok(()) });
    working(&mut writer.notices).await;
    assert_eq!(reader.records(1).await[0].payload.as_deref(), Some(b"written while it was away".as_slice()));
    while let Ok(notice) = reader.notices.try_recv() {
        assert!(!matches!(notice.news, News::Trouble(Trouble::Fatal(_))), "{notice:?}");
    }
    reader.stop().await;
}

#[tokio::test]
async fn what_is_too_large_is_refused_as_that() {
    let broker = Broker::with_topic(1);
    let mut writer = broker.sink();
    let huge = Outgoing { payload: Some(vec![b'x'; 9_000_000].into()), ..text("") };
    let refused = writer.sink.send(WriteId(1), &huge).unwrap_err();
    assert_eq!(refused, Refusal::Failed(WriteFailed::TooLarge { bytes: 9_000_000 }));
    // And where only the broker finds it too large.
    let too_large = RDKafkaRespErr::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE;
    broker.0.request_errors(RDKafkaApiKey::Produce, &[too_large]);
    writer.sink.send(WriteId(2), &text("12345")).unwrap();
    assert_eq!(writer.ack().await, Ack { write: WriteId(2), result: Err(WriteFailed::TooLarge { bytes: 5 }) });
}

#[tokio::test]
async fn a_write_to_a_missing_topic_names_the_remedy() {
    let broker = Broker::with_topic(1);
    let config =
        broker.config(&[("topic.metadata.propagation.max.ms", "100"), ("topic.metadata.refresh.interval.ms", "500")]);
    broker.0.topic_error("nowhere", RDKafkaRespErr::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART).unwrap();
    let topics = SinkTopics { outputs: vec!["nowhere".into()], dead_letters: "alerts".into() };
    let mut writer = Writer::start(&config, topics);
    writer.sink.send(WriteId(1), &text("x")).unwrap();
    let Err(WriteFailed::TopicMissing(words)) = writer.ack().await.result else { panic!("not missing") };
    assert!(words.contains("output topic nowhere") && words.contains("alert-ips topics --create"), "{words}");
    // The other topic is not concerned.
    writer.sink.send(WriteId(2), &Outgoing { to: Destination::DeadLetters, ..text("x") }).unwrap();
    assert_eq!(writer.ack().await.result, Ok(()));
}

#[tokio::test]
async fn a_rebuilt_sink_answers_for_every_write_of_the_old_one() {
    let broker = Broker::with_topic(1);
    let mut writer = broker.sink();
    writer.write_all(1).await;
    broker.0.broker_down(1).unwrap();
    for number in 0..100 {
        writer.sink.send(WriteId(number), &text("x")).unwrap();
    }
    writer.sink.rebuild().unwrap();
    let mut answered = BTreeSet::new();
    for _ in 0..100 {
        let ack = writer.ack().await;
        assert!(matches!(ack.result, Err(WriteFailed::Retriable(_))), "{ack:?}");
        assert!(answered.insert(ack.write));
    }
    broker.0.broker_up(1).unwrap();
    writer.write_all(100).await;
}

#[tokio::test]
async fn topics_are_described_and_missing_ones_noticed() {
    let broker = Broker::with_topic(3);
    broker.0.topic_error("nowhere", RDKafkaRespErr::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART).unwrap();
    let asked = [
        ConfiguredTopic { role: TopicRole::Input, name: "alerts".into() },
        ConfiguredTopic { role: TopicRole::Output, name: "nowhere".into() },
    ];
    let reports = topics::describe(&broker.config(&[]), &asked).await.unwrap();
    let TopicState::Present(facts) = &reports[0].state else { panic!("{reports:?}") };
    assert_eq!((facts.partitions, facts.replicas), (3, 1));
    assert_eq!(reports[1].state, TopicState::Missing);
}

#[tokio::test]
async fn a_cluster_that_is_away_is_told_with_the_cause() {
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let asked = [ConfiguredTopic { role: TopicRole::Input, name: "alerts".into() }];
    let error = topics::describe(&config(&nobody.to_string(), &[]), &asked).await.unwrap_err();
    assert!(matches!(error, ClusterError::Trouble(Trouble::Unreachable(_))), "{error:?}");
    assert!(error.to_string().contains("Connection refused"), "{error}");
}
