//! The log against librdkafka's mock cluster. What it can't show (LogAppendTime, a topic created anew, starting at a time)
//! is shown by tables of the decisions, and against a real Kafka.

use std::time::Duration;

use rdkafka::{
    mocking::MockCluster,
    producer::DefaultProducerContext,
    types::{RDKafkaApiKey, RDKafkaRespErr},
};
use rstest::rstest;
use tokio::{sync::mpsc, time::timeout};

use super::{Log as _, *};

/// Far longer than anything takes; reached only by a failure.
const LONG: Duration = Duration::from_secs(30);

const GIVE_UP_AFTER: Duration = Duration::from_secs(2);

struct Broker(MockCluster<'static, DefaultProducerContext>);

impl Broker {
    fn with_journal() -> Self {
        let cluster = MockCluster::new(1).unwrap();
        cluster.create_topic("journal", 1, 1).unwrap();
        Self(cluster)
    }

    fn config(&self) -> KafkaConfig {
        KafkaConfig {
            bootstrap_servers: self.0.bootstrap_servers(),
            group_id: "alert-ips".into(),
            properties: [("reconnect.backoff.max.ms", "200"), ("topic.metadata.refresh.interval.ms", "500")]
                .map(|(key, value)| (key.into(), value.into()))
                .into(),
            client_id: "test".into(),
            static_member: None,
        }
    }

    fn open(&self, key: &str, start: Start) -> Log {
        let (config, place) = (self.config(), place(key));
        let demands = Demands { retention: Duration::from_mins(65), assume_settings: true };
        let (log, events) = JournalLog::open(&config, &place, start, demands, GIVE_UP_AFTER).unwrap();
        Log { log, events }
    }

    fn topic_error(&self, error: RDKafkaRespErr) {
        self.0.topic_error("journal", error).unwrap();
    }
}

/// librdkafka ends the process where a partition is taken away twice before it has been seen to stop.
#[test]
fn reading_begins_elsewhere_and_ends_at_once_however_often() {
    let broker = Broker::with_journal();
    for _ in 0..5 {
        let mut link = link::Link::open(&broker.config(), &place("a/b"), Client::Journal).unwrap();
        for _ in 0..50 {
            link.fetch_from(0, 0).unwrap();
        }
        link.fetch_nothing();
        link.fetch_from(0, 0).unwrap();
    }
}

fn place(key: &str) -> LogPlace {
    LogPlace { topic: "journal".into(), key: key.into() }
}

struct Log {
    log: JournalLog,
    events: mpsc::Receiver<LogEvent>,
}

impl Log {
    async fn event(&mut self) -> LogEvent {
        timeout(LONG, self.events.recv()).await.expect("an event").unwrap()
    }

    /// The first event that `wanted` makes something of. A break that nobody waits for is a failure.
    async fn wait_for<T>(&mut self, wanted: impl Fn(&LogEvent) -> Option<T>) -> T {
        loop {
            let event = self.event().await;
            if let Some(found) = wanted(&event) {
                return found;
            }
            assert!(!matches!(event, LogEvent::Broken(_)), "{event:?}");
        }
    }

    async fn caught_up(&mut self) -> i64 {
        self.wait_for(|event| if let LogEvent::CaughtUp { end } = event { Some(*end) } else { None }).await
    }

    async fn reading(&mut self) -> ReadingFrom {
        self.wait_for(|event| if let LogEvent::Reading(from) = event { Some(*from) } else { None }).await
    }

    async fn trouble(&mut self) -> String {
        self.wait_for(|event| if let LogEvent::Trouble(words) = event { Some(words.clone()) } else { None }).await
    }

    async fn broken(&mut self) -> Break {
        self.wait_for(|event| if let LogEvent::Broken(broken) = event { Some(broken.clone()) } else { None }).await
    }

    async fn appended(&mut self) -> (AppendId, Result<i64, AppendFailed>) {
        let result = |event: &LogEvent| match event {
            LogEvent::Appended { id, result } => Some((*id, result.clone())),
            _ => None,
        };
        self.wait_for(result).await
    }

    /// The next `count` entries, as offset and text.
    async fn entries(&mut self, count: usize) -> Vec<(i64, String)> {
        let text = |entry: &LogEntry| (entry.offset, String::from_utf8(entry.payload.to_vec()).unwrap());
        let mut entries = Vec::new();
        while entries.len() < count {
            entries
                .push(self.wait_for(|e| if let LogEvent::Entry(entry) = e { Some(text(entry)) } else { None }).await);
        }
        entries
    }

    /// Appends each of these and sees it acknowledged. The log must have caught up.
    async fn append(&mut self, payloads: &[&str]) {
        for payload in payloads {
            let id = self.log.append(payload.as_bytes()).unwrap();
            let (answered, result) = self.appended().await;
            assert!(answered == id && result.is_ok(), "{result:?}");
        }
    }
}

/// A broker whose journal holds these entries of `key`.
async fn journal_of(key: &str, payloads: &[&str]) -> Broker {
    let broker = Broker::with_journal();
    let mut log = broker.open(key, Start::Beginning);
    log.caught_up().await;
    log.append(payloads).await;
    broker
}

fn numbered(texts: &[(i64, &str)]) -> Vec<(i64, String)> {
    texts.iter().map(|(offset, text)| (*offset, (*text).to_owned())).collect()
}

#[tokio::test]
async fn entries_come_back_in_order_with_the_offsets_their_appends_were_told() {
    const COUNT: usize = 500;
    let broker = Broker::with_journal();
    let mut log = broker.open("t/c", Start::Beginning);
    log.caught_up().await;
    let ids: Vec<_> = (0..COUNT).map(|number| log.log.append(format!("{number}").as_bytes()).unwrap()).collect();
    let (mut read, mut told) = (Vec::new(), Vec::new());
    while read.len() < COUNT || told.len() < COUNT {
        match log.event().await {
            LogEvent::Entry(entry) => read.push((entry.offset, String::from_utf8(entry.payload.to_vec()).unwrap())),
            LogEvent::Appended { id, result } => told.push((id, result.unwrap())),
            _ => {}
        }
    }
    told.sort();
    let expected: Vec<_> = (0..).map(|offset: i64| (offset, offset.to_string())).take(COUNT).collect();
    assert_eq!(read, expected);
    assert_eq!(told, ids.into_iter().zip(0..).collect::<Vec<_>>());
}

#[tokio::test]
async fn only_entries_of_the_key_are_handed_over() {
    let broker = Broker::with_journal();
    let (mut ours, mut others) = (broker.open("t/ours", Start::Beginning), broker.open("t/others", Start::Beginning));
    ours.caught_up().await;
    others.caught_up().await;
    others.append(&["1"]).await;
    ours.append(&["2"]).await;
    others.append(&["3"]).await;
    ours.append(&["4"]).await;
    assert_eq!(broker.open("t/ours", Start::Beginning).entries(2).await, numbered(&[(1, "2"), (3, "4")]));
    assert_eq!(broker.open("t/others", Start::Beginning).entries(2).await, numbered(&[(0, "1"), (2, "3")]));
}

#[tokio::test]
async fn an_empty_log_is_caught_up_with_at_once_and_known_to_be_empty() {
    let broker = Broker::with_journal();
    let mut log = broker.open("t/c", Start::Beginning);
    assert_eq!(log.reading().await, ReadingFrom { offset: 0, end: 0, first: 0, found: true });
    assert_eq!(log.caught_up().await, 0);
}

#[tokio::test]
async fn caught_up_comes_after_the_last_entry_that_was_there_also_one_of_others() {
    let broker = journal_of("t/c", &["a", "b"]).await;
    let mut others = broker.open("t/others", Start::Beginning);
    others.caught_up().await;
    others.append(&["c"]).await;
    let mut log = broker.open("t/c", Start::Beginning);
    assert_eq!(log.reading().await.end, 3);
    assert_eq!(log.entries(2).await, numbered(&[(0, "a"), (1, "b")]));
    assert_eq!(log.caught_up().await, 3);
}

#[tokio::test]
async fn reading_begins_at_an_offset_and_begins_anew_where_it_is_asked_to() {
    let broker = journal_of("t/c", &["a", "b", "c"]).await;
    let mut log = broker.open("t/c", Start::Offset(2));
    assert_eq!(log.reading().await.offset, 2);
    assert_eq!(log.entries(1).await, numbered(&[(2, "c")]));
    log.log.read_from(Start::Offset(1));
    assert_eq!(log.reading().await.offset, 1);
    assert_eq!(log.entries(2).await, numbered(&[(1, "b"), (2, "c")]));
}

#[tokio::test]
async fn a_replay_begins_at_the_newest_checkpoint_of_the_key() {
    let broker = Broker::with_journal();
    let (mut ours, mut others) = (broker.open("t/ours", Start::Beginning), broker.open("t/others", Start::Beginning));
    ours.caught_up().await;
    others.caught_up().await;
    ours.append(&["checkpoint 0", "1", "checkpoint 2", "3"]).await;
    others.append(&["checkpoint of others"]).await;
    // More than one step of the search.
    let fill: Vec<String> = (0..1_500).map(|number| number.to_string()).collect();
    for text in &fill {
        ours.log.append(text.as_bytes()).unwrap();
    }
    for _ in &fill {
        assert!(ours.appended().await.1.is_ok());
    }
    let is_it = |payload: &[u8]| payload.starts_with(b"checkpoint");
    let start = Start::Checkpoint(Checkpoint { is_it, older_by: Duration::ZERO });
    let mut log = broker.open("t/ours", start);
    let from = log.reading().await;
    assert_eq!((from.offset, from.found, from.end), (2, true, 1_505));
    assert_eq!(log.entries(2).await, numbered(&[(2, "checkpoint 2"), (3, "3")]));
    assert_eq!(log.caught_up().await, 1_505);
}

#[tokio::test]
async fn a_replay_begins_at_the_beginning_where_no_checkpoint_is_old_enough() {
    let broker = journal_of("t/c", &["a", "checkpoint", "b"]).await;
    let is_it = |payload: &[u8]| payload == b"checkpoint";
    let mut log = broker.open("t/c", Start::Checkpoint(Checkpoint { is_it, older_by: Duration::from_mins(15) }));
    let from = log.reading().await;
    assert_eq!((from.offset, from.found), (0, false));
    assert_eq!(log.entries(3).await.len(), 3);
}

#[tokio::test]
async fn a_replay_begins_once_a_broker_answers() {
    let broker = journal_of("t/c", &["a", "checkpoint", "b"]).await;
    broker.0.broker_down(1).unwrap();
    let is_it = |payload: &[u8]| payload == b"checkpoint";
    let mut log = broker.open("t/c", Start::Checkpoint(Checkpoint { is_it, older_by: Duration::ZERO }));
    log.trouble().await;
    broker.0.broker_up(1).unwrap();
    assert_eq!(log.reading().await.offset, 1);
    assert_eq!(log.entries(2).await, numbered(&[(1, "checkpoint"), (2, "b")]));
}

#[tokio::test]
async fn an_append_while_the_broker_is_away_fails_in_words_and_may_appear_and_reading_goes_on_afterwards() {
    let broker = journal_of("t/c", &["a"]).await;
    let mut log = broker.open("t/c", Start::Beginning);
    assert_eq!(log.entries(1).await.len(), 1);
    assert_eq!(log.caught_up().await, 1);
    broker.0.broker_down(1).unwrap();
    let id = log.log.append(b"while it was away").unwrap();
    let (mut failed, mut trouble) = (None, None);
    while failed.is_none() || trouble.is_none() {
        match log.event().await {
            LogEvent::Appended { id, result } => failed = Some((id, result.unwrap_err())),
            LogEvent::Trouble(words) => trouble = Some(words),
            _ => {}
        }
    }
    let (answered, failed) = failed.unwrap();
    assert!(answered == id && failed.may_appear, "{failed:?}");
    assert!(failed.words.contains("within 2s") && failed.words.contains("kafka.bootstrap_servers"), "{failed:?}");
    let trouble = trouble.unwrap();
    assert!(trouble.contains("tried again by itself") && trouble.contains("kafka.bootstrap_servers"), "{trouble}");

    broker.0.broker_up(1).unwrap();
    log.wait_for(|event| (*event == LogEvent::Working).then_some(())).await;
    let end = log.caught_up().await;
    log.append(&["b"]).await;
    // Nothing is handed over twice, and nothing is missing.
    assert_eq!(log.entries(1).await, numbered(&[(end, "b")]));
}

#[tokio::test]
async fn an_entry_that_is_too_large_is_refused_and_will_not_appear() {
    let broker = journal_of("t/c", &["a"]).await;
    let mut log = broker.open("t/c", Start::Beginning);
    log.caught_up().await;
    let refused = log.log.append(&vec![b'x'; 9_000_000]).unwrap_err();
    assert!(
        !refused.may_appear && refused.too_large && refused.words.contains("raise max.message.bytes"),
        "{refused:?}"
    );
}

#[tokio::test]
async fn nothing_is_appended_before_the_place_is_known() {
    let broker = Broker::with_journal();
    broker.topic_error(RDKafkaRespErr::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART);
    let mut log = broker.open("t/c", Start::Beginning);
    let refused = log.log.append(b"a").unwrap_err();
    assert!(!refused.may_appear, "{refused:?}");
    let told = log.trouble().await;
    assert!(told.contains("journal journal") && told.contains("alert-ips topics --create"), "{told}");
    // Created meanwhile.
    broker.topic_error(RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR);
    log.caught_up().await;
    log.append(&["a"]).await;
}

#[tokio::test]
async fn a_topic_that_comes_back_as_it_was_is_read_on() {
    let broker = journal_of("t/c", &["a", "b"]).await;
    let mut log = broker.open("t/c", Start::Beginning);
    log.entries(2).await;
    broker.topic_error(RDKafkaRespErr::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART);
    log.trouble().await;
    broker.topic_error(RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR);
    assert_eq!(log.caught_up().await, 2);
    log.append(&["c"]).await;
    assert_eq!(log.entries(1).await, numbered(&[(2, "c")]));
}

#[tokio::test]
async fn a_log_that_ends_before_what_was_read_is_not_read_until_the_owner_says_from_where() {
    let broker = journal_of("t/c", &["a"]).await;
    // As an instance that has read up to 10 of the journal before this one.
    let mut log = broker.open("t/c", Start::Offset(10));
    let told = log.broken().await;
    assert!(matches!(&told, Break::Recreated(words) if words.contains("ends at 1")), "{told:?}");
    log.log.read_from(Start::Beginning);
    assert_eq!(log.reading().await.offset, 0);
    assert_eq!(log.entries(1).await, numbered(&[(0, "a")]));
}

#[tokio::test]
async fn settings_that_are_not_told_are_judged_as_that() {
    let broker = Broker::with_journal();
    let mut log = broker.open("t/c", Start::Beginning);
    let judged = |event: &LogEvent| if let LogEvent::Settings(judged) = event { Some(judged.clone()) } else { None };
    let judgement = log.wait_for(judged).await;
    assert!(judgement.usable() && judgement.warnings[0].contains("does not tell"), "{judgement:?}");
}

#[tokio::test]
async fn a_log_that_is_dropped_ends_its_events() {
    let broker = Broker::with_journal();
    let Log { log, mut events } = broker.open("t/c", Start::Beginning);
    drop(log);
    let all = async { while events.recv().await.is_some() {} };
    timeout(LONG, all).await.expect("the end of the events");
}

/// A broker that looks at rights refuses the write either way, in other words; one that doesn't takes it.
#[rstest]
#[case::refused_after_the_rights(RDKafkaApiKey::Produce, RDKafkaRespErr::RD_KAFKA_RESP_ERR_INVALID_REQUIRED_ACKS, None)]
#[case::taken(RDKafkaApiKey::Produce, RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR, None)]
#[case::not_writable(
    RDKafkaApiKey::Produce,
    RDKafkaRespErr::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED,
    Some("entries can't be appended: ")
)]
#[case::not_readable(
    RDKafkaApiKey::ListOffsets,
    RDKafkaRespErr::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED,
    Some("entries can't be read: ")
)]
#[tokio::test]
async fn rights_that_are_missing_are_told_with_what_to_grant(
    #[case] request: RDKafkaApiKey,
    #[case] answer: RDKafkaRespErr,
    #[case] told: Option<&str>,
) {
    let broker = Broker::with_journal();
    // librdkafka may ask more than once.
    broker.0.request_errors(request, &[answer; 4]);
    let tried = try_access(&broker.config(), &place("t/c"), b"nothing".to_vec()).await;
    match (tried, told) {
        (Ok(()), None) => {}
        (Err(error), Some(told)) => {
            let words = error.to_string();
            assert!(words.starts_with(told) && words.contains("grant read, write, describe"), "{words}");
            assert!(!words.contains("tried again"), "a command ends: {words}");
        }
        (tried, told) => panic!("{tried:?}, not {told:?}"),
    }
}
