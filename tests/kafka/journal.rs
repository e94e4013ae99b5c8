//! The journal's log on a real broker: what the embedded one can't show.

use std::{process, time::Duration};

use alert_ips::kafka::{
    client::KafkaConfig,
    journal::{Break, Demands, JournalLog, Judgement, Log as _, LogEvent, LogPlace, ReadingFrom, Start, try_access},
    topics::{self, ConfiguredTopic, TopicRole},
};
use jiff::Timestamp;
use rdkafka::{
    ClientConfig,
    admin::{AdminClient, AdminOptions, AlterConfig, NewTopic, ResourceSpecifier, TopicReplication},
    client::DefaultClientContext,
    producer::{BaseProducer, BaseRecord, Producer as _},
};
use tokio::{sync::mpsc, time::timeout};

use crate::harness::{Broker, LONG};

const DEMANDS: Demands = Demands { retention: Duration::from_mins(65), assume_settings: false };

/// A journal topic of one test, deleted at its end.
struct Journal {
    config: KafkaConfig,
    topic: String,
    admin: AdminClient<DefaultClientContext>,
}

impl Journal {
    /// No topic yet.
    fn named(kafka: &Broker, test: &str) -> Self {
        let config = KafkaConfig {
            bootstrap_servers: kafka.bootstrap.clone(),
            group_id: "alert-ips".into(),
            properties: Vec::new(),
            client_id: "test".into(),
            static_member: None,
        };
        let admin = ClientConfig::new().set("bootstrap.servers", &kafka.bootstrap).create().unwrap();
        let topic = format!("{test}-{}-{}.journal", process::id(), Timestamp::now().as_millisecond());
        Self { config, topic, admin }
    }

    async fn create(&self) {
        let topic = ConfiguredTopic { role: TopicRole::Journal(DEMANDS), name: self.topic.clone() };
        let created = topics::create_missing(&self.config, &[topic]).await.unwrap();
        assert!(created.len() == 1 && created[0].result.is_ok(), "{created:?}");
    }

    async fn create_compacted(&self) {
        let topic = NewTopic::new(&self.topic, 1, TopicReplication::Fixed(1)).set("cleanup.policy", "compact");
        self.admin.create_topics([&topic], &AdminOptions::new()).await.unwrap()[0].as_ref().unwrap();
    }

    async fn configure(&self, settings: &[(&str, &str)]) {
        let config = AlterConfig::new(ResourceSpecifier::Topic(&self.topic));
        let config = settings.iter().fold(config, |config, (name, value)| config.set(name, value));
        self.admin.alter_configs([&config], &AdminOptions::new()).await.unwrap()[0].as_ref().unwrap();
    }

    async fn delete(&self) {
        self.admin.delete_topics(&[&self.topic], &AdminOptions::new()).await.unwrap()[0].as_ref().unwrap();
    }

    /// Entries of the key, written by someone else.
    fn fill(&self, count: usize, payload: &str) {
        let producer: BaseProducer =
            ClientConfig::new().set("bootstrap.servers", &self.config.bootstrap_servers).create().unwrap();
        for _ in 0..count {
            producer.send(BaseRecord::to(&self.topic).key("t/c").payload(payload)).unwrap();
        }
        producer.flush(LONG).unwrap();
    }

    fn place(&self) -> LogPlace {
        LogPlace { topic: self.topic.clone(), key: "t/c".into() }
    }

    fn open(&self, start: Start) -> (JournalLog, mpsc::Receiver<LogEvent>) {
        JournalLog::open(&self.config, &self.place(), start, DEMANDS, Duration::from_secs(10)).unwrap()
    }
}

/// The first event that `wanted` makes something of, and the events before it.
async fn wait_for<T>(
    events: &mut mpsc::Receiver<LogEvent>,
    wanted: impl Fn(&LogEvent) -> Option<T>,
) -> (T, Vec<LogEvent>) {
    let mut before = Vec::new();
    loop {
        let event = timeout(LONG, events.recv()).await.unwrap_or_else(|_| panic!("nothing comes after {before:?}"));
        let event = event.unwrap();
        match wanted(&event) {
            Some(found) => return (found, before),
            None => before.push(event),
        }
    }
}

fn caught_up(event: &LogEvent) -> Option<i64> {
    if let LogEvent::CaughtUp { end } = event { Some(*end) } else { None }
}

fn broken(event: &LogEvent) -> Option<Break> {
    if let LogEvent::Broken(broken) = event { Some(broken.clone()) } else { None }
}

fn settings(event: &LogEvent) -> Option<Judgement> {
    if let LogEvent::Settings(judgement) = event { Some(judgement.clone()) } else { None }
}

/// Offsets of the entries among these events that hold `payload`.
fn offsets(events: &[LogEvent], payload: &str) -> Vec<i64> {
    let of = |event: &LogEvent| match event {
        LogEvent::Entry(entry) if *entry.payload == *payload.as_bytes() => Some(entry.offset),
        _ => None,
    };
    events.iter().filter_map(of).collect()
}

#[tokio::test]
async fn the_journal_as_created_is_accepted_and_stamped_by_the_broker() {
    let Some(kafka) = Broker::shared() else { return };
    let journal = Journal::named(kafka, "accepted");
    journal.create().await;
    let (mut log, mut events) = journal.open(Start::Beginning);
    let (judgement, before) = wait_for(&mut events, settings).await;
    assert_eq!(judgement, Judgement::default());
    if !before.iter().any(|event| caught_up(event).is_some()) {
        wait_for(&mut events, caught_up).await;
    }
    log.append(b"a").unwrap();
    let entry = |event: &LogEvent| if let LogEvent::Entry(entry) = event { Some(entry.clone()) } else { None };
    let (first, _) = wait_for(&mut events, entry).await;
    assert!(first.stamped_by_broker && *first.payload == *b"a", "{first:?}");
    tokio::time::sleep(Duration::from_millis(5)).await;
    journal.fill(1, "b");
    let (second, _) = wait_for(&mut events, entry).await;
    assert!(second.at > first.at);
    // By the broker's time.
    let (_log, mut events) = journal.open(Start::Since(Timestamp::from_millisecond(second.at).unwrap()));
    assert_eq!(wait_for(&mut events, entry).await.0, second);
    let (_log, mut events) = journal.open(Start::Since(Timestamp::from_millisecond(second.at + 3_600_000).unwrap()));
    assert_eq!(wait_for(&mut events, caught_up).await.0, 2);
    journal.delete().await;
}

/// A journal in which nothing was ever written is one of a first start, and stays one.
#[tokio::test]
async fn rights_are_tried_without_an_entry() {
    let Some(kafka) = Broker::shared() else { return };
    let journal = Journal::named(kafka, "tried");
    journal.create().await;
    assert_eq!(try_access(&journal.config, &journal.place(), b"nothing".to_vec()).await, Ok(()));
    let (_log, mut events) = journal.open(Start::Beginning);
    let reading = |event: &LogEvent| if let LogEvent::Reading(from) = event { Some(*from) } else { None };
    let empty = ReadingFrom { offset: 0, end: 0, first: 0, found: true };
    assert_eq!(wait_for(&mut events, reading).await.0, empty);
    journal.delete().await;
}

#[tokio::test]
async fn settings_that_forget_calls_are_refused_until_they_are_mended() {
    let Some(kafka) = Broker::shared() else { return };
    let journal = Journal::named(kafka, "mended");
    let (_log, mut events) = journal.open(Start::Beginning);
    let missing = wait_for(&mut events, settings).await.0;
    assert!(missing.refusals[0].contains("alert-ips topics --create"), "{missing:?}");
    journal.create_compacted().await;
    // The reader finds it, and says so.
    let compacted = wait_for(&mut events, settings).await.0;
    assert!(compacted.refusals[0].contains("set it to delete") && compacted.skewed_clocks, "{compacted:?}");
    journal.configure(&[("cleanup.policy", "delete"), ("message.timestamp.type", "LogAppendTime")]).await;
    let mended = wait_for(&mut events, settings).await.0;
    assert!(mended.usable() && !mended.skewed_clocks, "{mended:?}");
    journal.delete().await;
}

#[tokio::test]
async fn a_journal_that_was_deleted_and_created_anew_is_never_read_on() {
    let Some(kafka) = Broker::shared() else { return };
    let journal = Journal::named(kafka, "recreated");
    journal.create().await;
    journal.fill(3, "old");
    let (mut log, mut events) = journal.open(Start::Beginning);
    assert_eq!(wait_for(&mut events, caught_up).await.0, 3);
    journal.delete().await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    journal.create().await;
    // More than there was: the offsets alone would not tell.
    journal.fill(10, "new");
    let (told, before) = wait_for(&mut events, broken).await;
    assert!(matches!(&told, Break::Recreated(words) if words.contains("created anew")), "{told:?}");
    assert_eq!(offsets(&before, "new"), [0_i64; 0]);
    log.read_from(Start::Beginning);
    let (end, before) = wait_for(&mut events, caught_up).await;
    assert_eq!((end, offsets(&before, "new")), (10, (0..10).collect()));
    journal.delete().await;
}

#[tokio::test]
async fn a_journal_that_was_created_anew_in_a_moment_is_noticed_as_soon_as_it_is_quiet() {
    let Some(kafka) = Broker::shared() else { return };
    let journal = Journal::named(kafka, "swapped");
    journal.create().await;
    journal.fill(3, "old");
    let (_log, mut events) = journal.open(Start::Beginning);
    wait_for(&mut events, caught_up).await;
    journal.delete().await;
    journal.create().await;
    journal.fill(10, "new");
    let told = wait_for(&mut events, broken).await.0;
    assert!(matches!(told, Break::Recreated(_)), "{told:?}");
    journal.delete().await;
}

#[tokio::test]
async fn an_owner_that_stands_still_while_the_journal_is_created_anew_reads_none_of_it() {
    let Some(kafka) = Broker::shared() else { return };
    let journal = Journal::named(kafka, "standstill");
    journal.create().await;
    journal.fill(3_000, "old");
    let (_log, mut events) = journal.open(Start::Beginning);
    let first = |event: &LogEvent| matches!(event, LogEvent::Entry(_)).then_some(());
    wait_for(&mut events, first).await;
    // The events' channel is full now, and the reader waits.
    journal.delete().await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    journal.create().await;
    journal.fill(6_000, "new");
    let (told, before) = wait_for(&mut events, broken).await;
    assert!(matches!(told, Break::Recreated(_)), "{told:?}");
    assert_eq!(offsets(&before, "new"), [0_i64; 0]);
    assert!(offsets(&before, "old").is_sorted());
    journal.delete().await;
}

#[tokio::test]
async fn a_restarted_broker_is_read_on_from_where_it_was_read_to() {
    let Some(kafka) = Broker::own() else { return };
    let journal = Journal::named(&kafka, "restarted");
    journal.create().await;
    journal.fill(3, "before");
    let (_log, mut events) = journal.open(Start::Beginning);
    wait_for(&mut events, caught_up).await;
    kafka.stop();
    let trouble = |event: &LogEvent| matches!(event, LogEvent::Trouble(_)).then_some(());
    wait_for(&mut events, trouble).await;
    kafka.start();
    journal.fill(2, "after");
    let (end, mut all) = wait_for(&mut events, |event| caught_up(event).filter(|end| *end >= 3)).await;
    if end < 5 {
        all.extend(
            wait_for(&mut events, |event| matches!(event, LogEvent::Entry(entry) if entry.offset == 4).then_some(()))
                .await
                .1,
        );
    }
    assert!(all.contains(&LogEvent::Working), "{all:?}");
    assert_eq!(offsets(&all, "before"), [0_i64; 0]);
    assert_eq!(offsets(&all, "after").first(), Some(&3));
}
