//! What the account hears of what the log tells.

use std::sync::{Arc, Mutex};

use futures_util::FutureExt as _;
use jiff::Timestamp;
use rstest::rstest;

use super::*;
use crate::{
    domain::{
        alert::AlertId,
        budget::Budget,
        journal::{Answer, EntryId, Freeze, Reached, Stamped, WriterId, read_message},
        outcome::{Outcome, Status},
        related_ips::RelatedIps,
        terms::Terms,
    },
    kafka::journal::{LogEntry, ReadingFrom},
};

/// What was done with the log: the messages appended, and from where it was asked to read on.
#[derive(Clone, Default)]
struct Done(Arc<Mutex<Calls>>);

type Calls = (Vec<Vec<Entry>>, Vec<String>);

impl Done {
    fn appended(&self) -> Vec<Vec<Entry>> {
        self.0.lock().unwrap().0.clone()
    }

    fn read_from(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap().1)
    }
}

impl Log for Done {
    fn append(&mut self, message: &[u8]) -> Result<AppendId, AppendFailed> {
        let mut done = self.0.lock().unwrap();
        done.0.push(read_message(message).unwrap());
        Ok(AppendId(done.0.len() - 1))
    }

    fn read_from(&mut self, start: LogStart) {
        self.0.lock().unwrap().1.push(match start {
            LogStart::Offset(offset) => format!("offset {offset}"),
            LogStart::Beginning => "beginning".to_owned(),
            LogStart::Checkpoint(_) => "checkpoint".to_owned(),
            LogStart::Since(_) => "since".to_owned(),
        });
    }
}

struct Fixture {
    journal: KafkaJournal<Done>,
    events: mpsc::Sender<LogEvent>,
    done: Done,
}

impl Fixture {
    fn new(worked_before: Result<bool, String>) -> Self {
        let (events, receiver) = mpsc::channel(100);
        let done = Done::default();
        let clock = Clock::following_tokio(Timestamp::UNIX_EPOCH);
        let worked_before: WorkedBefore = Box::new(move || std::future::ready(worked_before.clone()).boxed());
        let journal = KafkaJournal::new(done.clone(), receiver, replay_from(Duration::ZERO), clock, worked_before);
        Self { journal, events, done }
    }

    /// One whose account was told that it is usable.
    async fn usable() -> Self {
        let mut fixture = Self::new(Ok(false));
        fixture.read_all(&[0, 0, 0], &[]);
        fixture.tell(LogEvent::Settings(Judgement::default()));
        assert!(matches!(fixture.next().await[..], [News::Replay(_), News::Usable(_)]));
        fixture
    }

    fn tell(&self, event: LogEvent) {
        self.events.try_send(event).unwrap();
    }

    fn read_all(&self, [offset, end, first]: &[i64; 3], messages: &[LogEntry]) {
        self.tell(LogEvent::Reading(ReadingFrom { offset: *offset, end: *end, first: *first, found: false }));
        for message in messages {
            self.tell(LogEvent::Entry(message.clone()));
        }
        self.tell(LogEvent::CaughtUp { end: *end });
    }

    /// All the news there are.
    async fn next(&mut self) -> Vec<News> {
        let mut news = Vec::new();
        while let Ok(next) = tokio::time::timeout(Duration::from_millis(1), self.journal.next()).await {
            news.push(next);
        }
        news
    }

    /// Why no calls may be claimed, should that be the only news.
    async fn why_not(&mut self) -> String {
        match &self.next().await[..] {
            [News::Unusable(why)] => why.clone(),
            other => panic!("{other:?}"),
        }
    }
}

fn entry(number: u64, body: Body) -> Entry {
    Entry { id: EntryId { writer: WriterId(7), number }, instance: "host-1".into(), body }
}

fn terms() -> Body {
    Body::Terms(Terms::example())
}

fn answer() -> Body {
    let outcome = Outcome { status: Status::Empty, ips: RelatedIps::default(), retrieved_at: Timestamp::UNIX_EPOCH };
    let claim = EntryId { writer: WriterId(7), number: 1 };
    let alert = AlertId::parse("a").unwrap();
    Body::Answer(Answer { claim, alert, reached: Reached::Complete, status: Some(200), outcome: Some(outcome) })
}

fn message(offset: i64, entry: Entry) -> LogEntry {
    LogEntry { offset, at: 1_000 * offset, stamped_by_broker: true, payload: write_message(&[entry]).into() }
}

fn failed(may_appear: bool, too_large: bool) -> AppendFailed {
    AppendFailed { words: "the journal is away".into(), may_appear, too_large }
}

#[tokio::test(start_paused = true)]
async fn a_replay_begins_with_a_checkpoint_and_goes_on_after_the_state_in_it() {
    let mut fixture = Fixture::new(Err("must not be asked".into()));
    let mut budget = Budget::default();
    budget.apply(JournalTime::from_origin(Duration::from_secs(40)), &entry(1, terms()));
    let checkpoint = entry(3, Body::Checkpoint(Box::new(budget.checkpoint(Some(40)))));
    fixture.tell(LogEvent::Reading(ReadingFrom { offset: 43, end: 50, first: 0, found: true }));
    fixture.tell(LogEvent::Entry(message(43, checkpoint)));
    assert!(fixture.next().await.is_empty());
    assert_eq!(fixture.done.read_from(), ["offset 41"]);

    // On its way before reading began anew.
    fixture.tell(LogEvent::Entry(message(44, entry(4, terms()))));
    fixture.read_all(&[41, 50, 0], &[message(41, entry(2, terms()))]);
    fixture.tell(LogEvent::Settings(Judgement::default()));
    match &fixture.next().await[..] {
        [News::Replay(begun), News::Entry(Stamped { at, offset: 41, entry }), News::Usable(footing)] => {
            assert_eq!(begun.terms(), budget.terms());
            assert_eq!((at.since_origin().as_secs(), entry.id.number), (41, 2));
            assert_eq!(*footing, Footing::default());
        }
        other => panic!("{other:?}"),
    }
}

#[rstest]
#[case::first_start(Ok(false), 0, Some(false))]
#[case::worked_before(Ok(true), 0, Some(true))]
#[case::not_known(Err("no broker".to_owned()), 0, None)]
#[case::aged_away(Ok(true), 90, Some(false))]
#[tokio::test(start_paused = true)]
async fn an_empty_journal_proves_only_what_its_group_tells(
    #[case] worked_before: Result<bool, String>,
    #[case] first: i64,
    #[case] unproven: Option<bool>,
) {
    let mut fixture = Fixture::new(worked_before);
    fixture.tell(LogEvent::Settings(Judgement::default()));
    fixture.read_all(&[first, first, first], &[]);
    let news = fixture.next().await;
    match (&news[..], unproven) {
        ([News::Replay(_), News::Usable(footing)], Some(unproven)) => assert_eq!(footing.unproven.is_some(), unproven),
        ([News::Replay(_), News::Unusable(why)], None) => assert!(why.contains("no broker"), "{why}"),
        other => panic!("{other:?}"),
    }
    // It is told once.
    fixture.tell(LogEvent::Trouble("away".into()));
    fixture.tell(LogEvent::Working);
    fixture.tell(LogEvent::CaughtUp { end: first });
    let again = fixture.next().await;
    assert!(!again.iter().any(|news| matches!(news, News::Usable(footing) if footing.unproven.is_some())), "{again:?}");
}

#[tokio::test(start_paused = true)]
async fn a_group_that_has_worked_before_needs_no_proof_where_there_are_entries() {
    let mut fixture = Fixture::new(Ok(true));
    fixture.read_all(&[0, 1, 0], &[message(0, entry(1, terms()))]);
    fixture.tell(LogEvent::Settings(Judgement::default()));
    let news = fixture.next().await;
    assert!(
        matches!(&news[..], [News::Replay(_), News::Entry(_), News::Usable(Footing { unproven: None, .. })]),
        "{news:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn wrong_settings_are_told_until_they_are_mended() {
    let mut fixture = Fixture::new(Ok(false));
    fixture.read_all(&[0, 0, 0], &[]);
    let refusals = vec!["set it to delete".to_owned()];
    fixture.tell(LogEvent::Settings(Judgement { refusals, ..Judgement::default() }));
    assert!(matches!(&fixture.next().await[..], [News::Replay(_), News::Unusable(why)] if why == "set it to delete"));
    fixture.tell(LogEvent::Settings(Judgement { skewed_clocks: true, ..Judgement::default() }));
    assert!(matches!(&fixture.next().await[..], [News::Usable(footing)] if footing.skew == CLOCK_SKEW));
}

#[tokio::test(start_paused = true)]
async fn while_it_is_away_nothing_is_claimed_and_it_is_read_to_its_end_first() {
    let mut fixture = Fixture::usable().await;
    fixture.tell(LogEvent::Trouble("check that the brokers run".into()));
    assert_eq!(fixture.why_not().await, "check that the brokers run");
    fixture.tell(LogEvent::Working);
    assert_eq!(fixture.why_not().await, "reading the journal");
    fixture.tell(LogEvent::Entry(message(0, entry(1, terms()))));
    fixture.tell(LogEvent::CaughtUp { end: 1 });
    assert!(matches!(fixture.next().await[..], [News::Entry(_), News::Usable(_)]));
}

#[tokio::test(start_paused = true)]
async fn what_can_not_be_appended_comes_back_and_is_tried_again_until_it_can() {
    let mut fixture = Fixture::usable().await;
    fixture.journal.append(entry(1, terms()));
    assert!(fixture.next().await.is_empty());
    fixture.tell(LogEvent::Appended { id: AppendId(0), result: Err(failed(true, false)) });
    match &fixture.next().await[..] {
        [News::NotAppended(entries, NotAppended::Unknown), News::Unusable(why)] => {
            assert_eq!(entries[..], [entry(1, terms())]);
            assert!(why.starts_with("the journal is away; no calls until"), "{why}");
        }
        other => panic!("{other:?}"),
    }
    tokio::time::advance(AGAIN_AFTER).await;
    assert!(matches!(fixture.next().await[..], [News::Doubtful]));
    fixture.journal.append(entry(2, terms()));
    assert!(fixture.next().await.is_empty());
    fixture.tell(LogEvent::Appended { id: AppendId(1), result: Ok(0) });
    assert!(matches!(fixture.next().await[..], [News::Usable(_)]));
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_too_large_is_no_reason_to_stop() {
    let mut fixture = Fixture::usable().await;
    fixture.journal.append(entry(1, answer()));
    assert!(fixture.next().await.is_empty());
    fixture.tell(LogEvent::Appended { id: AppendId(0), result: Err(failed(false, true)) });
    assert!(matches!(fixture.next().await[..], [News::NotAppended(_, NotAppended::TooLarge)]));
}

#[tokio::test(start_paused = true)]
async fn entries_that_are_too_large_together_travel_apart() {
    let mut fixture = Fixture::usable().await;
    fixture.journal.append(entry(1, terms()));
    fixture.journal.append(entry(2, answer()));
    assert!(fixture.next().await.is_empty());
    fixture.journal.append(entry(3, terms()));
    fixture.tell(LogEvent::Appended { id: AppendId(0), result: Err(failed(false, true)) });
    assert!(fixture.next().await.is_empty());
    let numbers = |message: &Vec<Entry>| message.iter().map(|entry| entry.id.number).collect();
    let appended: Vec<Vec<_>> = fixture.done.appended().iter().map(numbers).collect();
    assert_eq!(appended, [vec![1, 2], vec![1], vec![2], vec![3]]);
}

#[tokio::test(start_paused = true)]
async fn a_topic_that_takes_not_even_small_entries_is_one_that_can_not_be_written() {
    let mut fixture = Fixture::usable().await;
    fixture.journal.append(entry(1, terms()));
    assert!(fixture.next().await.is_empty());
    fixture.tell(LogEvent::Appended { id: AppendId(0), result: Err(failed(false, true)) });
    let news = fixture.next().await;
    assert!(matches!(&news[..], [News::NotAppended(..), News::Unusable(why)] if why.contains("is away")), "{news:?}");
}

#[tokio::test(start_paused = true)]
async fn what_is_handed_in_together_travels_together() {
    let mut fixture = Fixture::usable().await;
    (1..=3).for_each(|number| fixture.journal.append(entry(number, terms())));
    assert!(fixture.next().await.is_empty());
    let checkpoint = Body::Checkpoint(Box::new(Budget::default().checkpoint(Some(0))));
    [checkpoint, terms()].into_iter().zip(4..).for_each(|(body, number)| fixture.journal.append(entry(number, body)));
    tokio::time::sleep(Duration::from_millis(5)).await;
    assert!(fixture.next().await.is_empty());
    let sizes: Vec<_> = fixture.done.appended().iter().map(Vec::len).collect();
    assert_eq!(sizes, [3, 1, 1], "what is large ends its message");
}

#[rstest]
#[case::until_it_arrives(true)]
#[case::but_not_for_long(false)]
#[tokio::test(start_paused = true)]
async fn what_is_handed_in_while_a_message_is_on_its_way_waits_for_it(#[case] arrives: bool) {
    let mut fixture = Fixture::usable().await;
    fixture.journal.append(entry(1, terms()));
    assert!(fixture.next().await.is_empty());
    (2..=3).for_each(|number| fixture.journal.append(entry(number, terms())));
    assert!(fixture.next().await.is_empty());
    assert_eq!(fixture.done.appended().len(), 1);
    if arrives {
        fixture.tell(LogEvent::Entry(message(3, entry(1, terms()))));
        assert!(matches!(fixture.next().await[..], [News::Entry(_)]));
    } else {
        tokio::time::sleep(Duration::from_millis(5)).await;
        assert!(fixture.next().await.is_empty());
    }
    let sizes: Vec<_> = fixture.done.appended().iter().map(Vec::len).collect();
    assert_eq!(sizes, [1, 2]);
}

#[tokio::test(start_paused = true)]
async fn a_log_that_has_lost_its_end_is_read_again_with_the_times_of_its_entries() {
    let mut fixture = Fixture::usable().await;
    fixture.tell(LogEvent::Entry(message(1_000, entry(1, terms()))));
    assert!(matches!(fixture.next().await[..], [News::Entry(_)]));
    fixture.tell(LogEvent::Broken(Break::Recreated("has lost entries".into())));
    fixture.read_all(&[0, 2, 0], &[message(1, entry(2, terms()))]);
    match &fixture.next().await[..] {
        [News::Replaced, News::Unusable(_), News::Replay(_), News::Entry(Stamped { at, .. }), News::Usable(_)] => {
            assert_eq!(at.since_origin().as_secs(), 1, "not the time of what was read before");
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_log_without_its_beginning_and_without_a_checkpoint_proves_nothing() {
    let mut fixture = Fixture::new(Ok(true));
    fixture.tell(LogEvent::Settings(Judgement::default()));
    fixture.read_all(&[90, 92, 90], &[message(91, entry(2, terms()))]);
    match &fixture.next().await[..] {
        [News::Replay(_), News::Entry(_), News::Usable(footing)] => assert!(footing.unproven.is_some()),
        other => panic!("{other:?}"),
    }
}

#[rstest]
#[case::created_anew(Break::Recreated("created anew".into()))]
#[case::more_partitions(Break::Moved("moved".into()))]
#[tokio::test(start_paused = true)]
async fn another_log_in_its_place_is_told_what_the_account_knows(#[case] broken: Break) {
    let mut fixture = Fixture::usable().await;
    fixture.tell(LogEvent::Broken(broken));
    assert!(matches!(&fixture.next().await[..], [News::Replaced, News::Unusable(_)]));
    assert_eq!(fixture.done.read_from(), ["checkpoint"]);
    fixture.read_all(&[0, 0, 0], &[]);
    match &fixture.next().await[..] {
        [News::Replay(_), News::Usable(footing)] => assert_eq!(footing.unproven, None),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_removed_unread_is_replaced_by_a_checkpoint() {
    let mut fixture = Fixture::usable().await;
    fixture.tell(LogEvent::Broken(Break::Overrun("removed".into())));
    assert_eq!(fixture.why_not().await, "reading the journal");
    assert_eq!(fixture.done.read_from(), ["checkpoint"]);
}

#[tokio::test(start_paused = true)]
async fn messages_of_a_newer_version_raise_doubt_and_others_count_for_nothing() {
    let mut fixture = Fixture::usable().await;
    let with = |offset, payload: &[u8]| LogEntry { payload: payload.into(), ..message(offset, entry(1, terms())) };
    fixture.tell(LogEvent::Entry(with(5, b"hello")));
    fixture.tell(LogEvent::Entry(with(6, br#"{"v":9,"news":true}"#)));
    match &fixture.next().await[..] {
        [News::Unreadable(at, why)] => {
            assert_eq!(at.since_origin().as_secs(), 6);
            assert!(why.contains("offset 6") && why.contains("update this instance"), "{why}");
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn entries_with_their_writers_times_widen_the_windows() {
    let mut fixture = Fixture::usable().await;
    let freeze = Body::Freeze(Freeze { lasts: Duration::from_secs(1), why: "test".into() });
    fixture.tell(LogEvent::Entry(LogEntry { stamped_by_broker: false, ..message(0, entry(1, freeze)) }));
    assert!(matches!(&fixture.next().await[..], [News::Usable(footing), News::Entry(_)] if footing.skew == CLOCK_SKEW));
}
