//! The whole life of one record, from top to bottom: decode, look up, encode.
//!
//! It returns what to write and never produces by itself; a dead letter is one more thing to write. So every way of
//! delivering, and every test, shares this one path.

mod accounts;

use std::{mem, sync::Arc, time::Duration};

use futures_util::{
    FutureExt as _, StreamExt as _,
    future::{Either, Ready, ready},
    stream::FuturesUnordered,
};
use jiff::Timestamp;
use tokio::sync::{Semaphore, SemaphorePermit, mpsc};
use tokio_util::sync::CancellationToken;

pub use self::accounts::Accounts;
use crate::{
    clock::Clock,
    decode::{Decoded as Message, Decoder, Indexed, MAX_ITEMS, Original},
    defender::account::{LetGo, Pending},
    domain::{
        alert::{Alert, Severity},
        backlog::Rank,
        dead_letter::DeadLetter,
        outcome::{Outcome, Rejection, Status},
        output::Output,
        published::{Part, Published},
        record::{Outgoing, Record},
        related_ips::RelatedIps,
        replay,
    },
    encode::{Subject, encode},
    observe::metrics::Metrics,
    registry::Registry,
};

/// Whose share of the read window a record takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claimant {
    /// Which of the accounts.
    pub account: u16,
    /// Whether one of its alerts is high.
    pub is_high: bool,
    /// How many alerts it holds.
    pub alerts: u32,
}

/// What every record's life needs. Shared by all of them.
pub struct Pipeline {
    pub accounts: Accounts,
    pub decoder: Decoder,
    /// What was written with a schema is read by this, if it is there.
    pub registry: Option<Registry>,
    /// What is published of each alert.
    pub outputs: Vec<Output>,
    /// Alerts whose latest known time is longer ago are not asked about.
    pub max_age: Duration,
    pub clock: Clock,
    pub metrics: Metrics,
    /// Room for alerts that are not decided yet: [`MAX_OPEN_ALERTS`] permits. A small message may hold very many.
    pub room: Semaphore,
    /// The same for what was sent back from the dead letters, which may hold it for hours: a tenth of it, and none of what comes in
    /// waits for that.
    pub spare_room: Semaphore,
}

/// Most alerts that are not decided, of all open records together. No message holds more.
pub const MAX_OPEN_ALERTS: usize = MAX_ITEMS;

/// Most of them that were sent back; a message that holds more takes all of it.
pub const MAX_SPARE_ALERTS: usize = MAX_OPEN_ALERTS / 10;

/// Names a record between its arrival and its settlement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RecordId(pub u64);

/// Where the writes of a record go whose other alerts are not decided yet: a High alert must not wait for the Low ones
/// that came in the same message.
#[derive(Clone, Debug)]
pub struct Outlet {
    pub record: RecordId,
    pub early: mpsc::Sender<Early>,
}

/// What one alert of a record led to, while others of it are not decided.
#[derive(Debug)]
pub struct Early {
    pub record: RecordId,
    pub part: Part,
    /// What was known to be published of the record is of no use: its alerts are others now.
    pub begins_anew: bool,
    pub writes: Vec<Write>,
}

/// A record whose alerts are all decided.
#[derive(Debug, Default)]
pub struct Decided {
    /// Writes that went to the [`Outlet`] before.
    pub early: usize,
    /// The others. With none of both the record was skipped.
    pub writes: Vec<Write>,
}

/// One message to produce, and what it stands for.
#[derive(Debug)]
pub struct Write {
    pub outgoing: Outgoing,
    pub what: Written,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Written {
    /// The outcome of an alert of this severity, whose record has this Kafka timestamp.
    Outcome { severity: Severity, since: Timestamp },
    /// The record itself, for this rejection.
    DeadLetter(Rejection),
}

impl Pipeline {
    /// The account of a record's first alert. `None` with a single account, which shares with nobody, for what asks nothing, and
    /// for what only its schema tells.
    pub fn claimant(&self, record: &Record) -> Option<Claimant> {
        if self.accounts.len() < 2 {
            return None;
        }
        let alerts = self.decode(record).alerts;
        let account = self.accounts.index_of(&alerts.first()?.alert).ok()?;
        let is_high = alerts.iter().any(|Indexed { alert, .. }| alert.severity == Severity::High)
            && !replay::is_sent_back(record);
        let alerts = u32::try_from(alerts.len()).unwrap_or(u32::MAX);
        Some(Claimant { account: u16::try_from(account).ok()?, is_high, alerts })
    }

    /// Decides every alert of a record. Takes as long as its lookups take: from microseconds to hours.
    ///
    /// Without an outlet nothing is written before all of them are decided. What is `published` of them is left out; of
    /// most records nothing is, so it is boxed. Once `leaving` is cancelled, only calls on the wire are waited for.
    pub async fn process(
        self: Arc<Self>,
        record: Arc<Record>,
        outlet: Option<Outlet>,
        published: Option<Box<Published>>,
        leaving: CancellationToken,
    ) -> Result<Decided, LetGo> {
        let since = record.timestamp.unwrap_or_else(|| self.clock.wall());
        // Boxed: a record may wait for hours, and need not hold the room that putting its questions took.
        let put = Box::pin(leaving.run_until_cancelled(self.put_all(&record, since, published.as_deref(), &leaving)));
        let put = put.await.ok_or(LetGo)??;
        let (only, _room) = match put.single() {
            Ok(only) => only,
            Err(put) => return Box::pin(self.decide_all(&record, since, put, outlet)).await,
        };
        let (mut writes, rejections) = match self.decide(&record, since, only.answered().await)? {
            Ok(writes) => (writes, Vec::new()),
            Err(rejection) => (Vec::new(), vec![rejection]),
        };
        writes.extend(self.dead_letter(&record, rejections));
        Ok(Decided { early: 0, writes })
    }

    /// Decides the alerts of a message that holds several, each as soon as its answer is there. With an outlet also those that
    /// are on the wire when others are let go: what they lead to need not be done again.
    async fn decide_all(
        &self,
        record: &Arc<Record>,
        since: Timestamp,
        put: Put<'_>,
        outlet: Option<Outlet>,
    ) -> Result<Decided, LetGo> {
        let Put { questions, mut rejections, mut begins_anew, room: _room } = put;
        let mut undecided = questions.len();
        let mut answers = questions.into_iter().map(Asked::answered).collect::<FuturesUnordered<_>>();
        let mut decided = Decided::default();
        let mut let_go = Ok(());
        while let Some(answered) = answers.next().await {
            undecided -= 1;
            let part = answered.place.part();
            let decision = match self.decide(record, since, answered) {
                Ok(decision) => decision,
                Err(LetGo) if outlet.is_some() => {
                    let_go = Err(LetGo);
                    continue;
                }
                Err(LetGo) => return Err(LetGo),
            };
            // With a rejection the dead letter comes after it.
            let is_last = undecided == 0 && let_go.is_ok() && rejections.is_empty();
            match (decision, &outlet, part) {
                (Ok(writes), Some(outlet), Some(part)) if !is_last && !writes.is_empty() => {
                    decided.early += writes.len();
                    outlet.put(part, mem::take(&mut begins_anew), writes).await;
                }
                (Ok(writes), ..) => decided.writes.extend(writes),
                (Err(rejection), ..) => rejections.push(rejection),
            }
        }
        decided.writes.extend(self.dead_letter(record, rejections));
        let_go.map(|()| decided)
    }

    /// One dead letter for all rejections: it carries the whole record anyway.
    fn dead_letter(&self, record: &Record, rejections: Vec<Rejection>) -> Option<Write> {
        let rejection = merged(rejections)?;
        Some(dead_letter(record.clone(), rejection, self.clock.wall(), usize::MAX))
    }

    /// Puts all questions before the first answer is awaited, so that their order is the account's to choose.
    async fn put_all(
        &self,
        record: &Record,
        since: Timestamp,
        published: Option<&Published>,
        leaving: &CancellationToken,
    ) -> Result<Put<'_>, LetGo> {
        let (message, room) = self.decoded(record).await;
        // What the filter leaves out now may have been published before.
        let unwanted = message.unwanted.iter().map(|(index, id)| (*index, id));
        let all = message.alerts.iter().map(|Indexed { index, alert, .. }| (*index, &alert.id)).chain(unwanted);
        let parts = all.filter_map(|(index, id)| Part::of(index, id));
        let begins_anew = published.is_some_and(|published| !published.is_of(parts));
        let published = published.filter(|_| !begins_anew);
        message.skips.iter().for_each(|skip| self.metrics.skipped(*skip));
        let mut questions = Vec::with_capacity(message.alerts.len());
        let is_sent_back = replay::is_sent_back(record);
        for Indexed { index, alert, original } in message.alerts {
            if let (Some(published), Some(part)) = (published, Part::of(index, &alert.id))
                && published.contains(part)
            {
                self.metrics.alert_published_before();
                continue;
            }
            self.metrics.alert_decoded(alert.severity);
            let alert = Arc::new(alert);
            let rank = if is_sent_back { Rank::Spare } else { alert.severity.into() };
            let question = self.put(&alert, rank, since, leaving).await?;
            questions.push(Asked { place: Place { index, alert, original }, question });
        }
        Ok(Put { questions, rejections: message.rejection.into_iter().collect(), begins_anew, room })
    }

    /// What the record holds, once there is room for its alerts. What has to wait for room is decoded again then, so that
    /// only its bytes wait.
    async fn decoded(&self, record: &Record) -> (Message, Option<SemaphorePermit<'_>>) {
        let message = self.read(record).await;
        let (room, most) = if replay::is_sent_back(record) {
            (&self.spare_room, MAX_SPARE_ALERTS)
        } else {
            (&self.room, MAX_OPEN_ALERTS)
        };
        let alerts = u32::try_from(message.alerts.len().min(most)).unwrap_or(u32::MAX);
        if let Ok(room) = room.try_acquire_many(alerts) {
            return (message, Some(room));
        }
        drop(message);
        // Never closed, so never refused.
        let room = room.acquire_many(alerts).await.ok();
        (self.read(record).await, room)
    }

    /// What the record holds, for which its schema may have to be asked for.
    async fn read(&self, record: &Record) -> Message {
        let made = match (&self.registry, record.payload.as_deref()) {
            (Some(registry), Some(payload)) => registry.json(payload).await,
            _ => None,
        };
        match made {
            None => self.decode(record),
            Some(Ok(json)) => {
                let size = record.payload.as_deref().map_or(0, <[u8]>::len);
                self.decoder.decode_made(&json, size, self.clock.wall())
            }
            Some(Err(rejection)) => Message { rejection: Some(rejection), ..Message::default() },
        }
    }

    fn decode(&self, record: &Record) -> Message {
        self.decoder.decode(record.payload.as_deref(), self.clock.wall())
    }

    async fn put(
        &self,
        alert: &Arc<Alert>,
        rank: Rank,
        since: Timestamp,
        leaving: &CancellationToken,
    ) -> Result<Question, LetGo> {
        let account = match self.accounts.of(alert) {
            Ok(account) => account,
            Err(rejection) => return Ok(decided(Err(rejection))),
        };
        let now = self.clock.wall();
        if alert.is_older_than(self.max_age, now) {
            let outcome = Outcome { status: Status::Expired, ips: RelatedIps::default(), retrieved_at: now };
            return Ok(decided(Ok(outcome)));
        }
        account.ask_until(leaving.clone(), Arc::clone(alert), rank, since).await.map(Either::Right)
    }

    /// One decided alert as its outputs, or as a reason for the record's dead letter.
    fn decide(
        &self,
        record: &Record,
        since: Timestamp,
        answered: Answered,
    ) -> Result<Result<Vec<Write>, Rejection>, LetGo> {
        let Answered { place: Place { index, alert, original }, answer } = answered;
        let outcome = match answer? {
            Ok(outcome) => outcome,
            Err(rejection) => return Ok(Err(named(&alert, &rejection))),
        };
        self.metrics.outcome_reached(outcome.status);
        let subject = Subject {
            receipt: &record.receipt,
            index,
            alert: &alert,
            tenant: self.accounts.tenant_of(&alert),
            outcome: &outcome,
            headers: &record.headers,
            original: original.as_ref().zip(record.payload.as_deref()).and_then(|(at, payload)| at.text(payload)),
        };
        let write = |outgoing| Write { outgoing, what: Written::Outcome { severity: alert.severity, since } };
        Ok(Ok(encode(&self.outputs, &subject).into_iter().map(write).collect()))
    }
}

impl Outlet {
    async fn put(&self, part: Part, begins_anew: bool, writes: Vec<Write>) {
        // The dispatcher goes away only when the process ends; then nothing is committed any more.
        let _ = self.early.send(Early { record: self.record, part, begins_anew, writes }).await;
    }
}

/// What a record asks, and what of it can't be asked.
struct Put<'a> {
    questions: Vec<Asked>,
    rejections: Vec<Rejection>,
    /// Whether what was known to be published is not of these alerts.
    begins_anew: bool,
    room: Option<SemaphorePermit<'a>>,
}

impl<'a> Put<'a> {
    /// The only question, where there is nothing else: most messages hold one alert, which need not cost what several do.
    fn single(mut self) -> Result<(Asked, Option<SemaphorePermit<'a>>), Self> {
        if self.questions.len() > 1 || !self.rejections.is_empty() {
            return Err(self);
        }
        match self.questions.pop() {
            Some(only) => Ok((only, self.room)),
            None => Err(self),
        }
    }
}

/// An alert, and where in the message it is.
struct Place {
    index: usize,
    alert: Arc<Alert>,
    original: Option<Original>,
}

impl Place {
    fn part(&self) -> Option<Part> {
        Part::of(self.index, &self.alert.id)
    }
}

/// An alert and its question.
struct Asked {
    place: Place,
    question: Question,
}

impl Asked {
    fn answered(self) -> impl Future<Output = Answered> {
        let Self { place, question } = self;
        question.map(move |answer| Answered { place, answer })
    }
}

/// An alert's question: decided at once, or put to its account. Boxed where it is decided: those that wait are many.
type Question = Either<Box<Ready<Result<Result<Outcome, Rejection>, LetGo>>>, Pending>;

fn decided(result: Result<Outcome, Rejection>) -> Question {
    Either::Left(Box::new(ready(Ok(result))))
}

/// An alert and its answer.
struct Answered {
    place: Place,
    answer: Result<Result<Outcome, Rejection>, LetGo>,
}

/// A record as a dead letter, of at most `limit` bytes.
pub fn dead_letter(record: Record, rejection: Rejection, at: Timestamp, limit: usize) -> Write {
    let outgoing = DeadLetter::new(record, &rejection, at).truncated(limit).into_outgoing();
    Write { outgoing, what: Written::DeadLetter(rejection) }
}

/// Says which alert of the record was rejected.
fn named(alert: &Alert, rejection: &Rejection) -> Rejection {
    Rejection { reason: rejection.reason, detail: format!("alert {}: {}", alert.id, rejection.detail) }
}

/// What was wrong with a record, in one.
fn merged(rejections: Vec<Rejection>) -> Option<Rejection> {
    /// More would not be read, and be cut from the header.
    const TOLD: usize = 3;
    let more = rejections.len().saturating_sub(TOLD);
    let mut rejections = rejections.into_iter();
    let mut merged = rejections.next()?;
    for rejection in rejections.take(TOLD - 1) {
        merged.detail.push_str("; ");
        merged.detail.push_str(&rejection.detail);
    }
    if more > 0 {
        merged.detail = format!("{}; and {more} more", merged.detail);
    }
    Some(merged)
}
