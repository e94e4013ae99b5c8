//! Deliberate mistakes, planted around the core and never in it: each must be found by the campaign, or it proves nothing.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use alert_ips::{
    defender::{
        account::AccountConfig,
        transport::{HttpFailure, HttpRequest, HttpResponse, Transport},
    },
    domain::{
        alert::AlertId,
        journal::{Answer, Body, Entry, EntryId, Reached, WriterId, read_message, write_message},
    },
    kafka::journal::{AppendFailed, AppendId, Log, LogEvent, Start},
    sim::{Latency, Mix},
};
use jiff::{SignedDuration, Timestamp};
use rand::{RngExt, SeedableRng, rngs::SmallRng};
use tokio::{sync::mpsc, time::sleep};

use super::{
    faults::{Event, Plan},
    load::Load,
    log::SimLog,
    network::{SimNetwork, about},
    partition::Partition,
    run::World,
};

/// A mistake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Defect {
    None,
    /// A call's slot is freed a period after it was sent, not after its answer.
    StampedAtSend,
    /// An answer frees its slot.
    FreedByItsAnswer,
    /// A call that may have arrived is taken for one that has not.
    UnknownTakenForNever,
    /// Each instance counts its own calls.
    CountedPerInstance,
    /// The HTTP client repeats what fails.
    RetryNotCounted,
    /// A restart begins with nothing spent.
    ForgottenAtRestart,
    /// A replay begins a minute back, with nothing spent before.
    ReplayedWithoutCheckpoint,
    /// A replay begins some entries after the state it begins with.
    ReplayedFromTooLate,
    /// Entries count from when they arrive, on each reader's own clock.
    OwnClock,
    /// A claim may become a call at any time.
    ClaimWithoutExpiry,
    /// A call waits for a connection after its last check.
    NoRecheckBeforeTheWrite,
    /// A pause is not written down.
    FreezeNotJournalled,
    /// A claim does not say what it asks.
    QuestionNotNamed,
    /// What was seen before a jump of the broker's clock is known only by that clock: instances start anew just after it.
    OwnClockForgotten,
    /// Entries carry their writers' times, and the terms do not say how far apart their clocks are.
    SkewNotDeclared,
    /// The broker's clock runs faster than the margins allow for.
    FastBroker,
}

/// Who writes what a defect adds.
const INTRUDER: u64 = 1 << 63;

/// Entries that a late replay misses.
const MISSED: i64 = 300;

impl Defect {
    /// A run in which it should show: what the campaign draws, with the faults that bear on it.
    pub(super) fn plan(self, seed: u64) -> Plan {
        let mut plan = Plan::healthy(seed);
        let mut random = SmallRng::seed_from_u64(seed);
        match self {
            Self::None | Self::FreedByItsAnswer | Self::CountedPerInstance | Self::QuestionNotNamed => {}
            Self::StampedAtSend => {
                plan.load = Load::of_highs();
                plan.network.way = Latency::HeavyTail { typical: Duration::from_secs(6) };
                plan.network.slow = 0.5;
            }
            Self::UnknownTakenForNever => plan.network.broken = 0.3,
            Self::RetryNotCounted => plan.mix = Mix::STORMY,
            Self::ForgottenAtRestart | Self::ReplayedWithoutCheckpoint | Self::ReplayedFromTooLate => {
                plan.instances = 1;
                plan.load = Load::of_highs();
                plan.kill_often(&mut random);
            }
            Self::OwnClock => plan.kill_often(&mut random),
            Self::ClaimWithoutExpiry | Self::NoRecheckBeforeTheWrite => {
                plan.instances = 8;
                plan.load = Load::of_highs();
                plan.network.way = Latency::Fixed(Duration::from_millis(50));
                let when_granted = self == Self::ClaimWithoutExpiry;
                if when_granted {
                    plan.log.fetch = Latency::Fixed(Duration::from_secs(4));
                }
                plan.stop_one_after_another(&mut random, when_granted);
            }
            Self::OwnClockForgotten => {
                plan.load = Load::of_highs();
                let when = plan.jump_by_hours(&mut random);
                // The first to start writes down its terms, by the clock that has jumped; who starts then goes by that.
                for (who, after) in (0..plan.instances).flat_map(|who| [(who, 1), (who, 15)]) {
                    plan.events.push((when + Duration::from_secs(after), Event::Kill { who, down: Duration::ZERO }));
                }
                plan.events.sort_by_key(|(when, _)| *when);
            }
            Self::SkewNotDeclared => {
                plan.stamp_by_writers();
                plan.load = Load::of_highs();
                plan.kill_often(&mut random);
            }
            Self::FastBroker => {
                plan.rate = 1.05;
                plan.load = Load::of_highs();
                plan.kill_often(&mut random);
            }
            Self::FreezeNotJournalled => {
                let when = Duration::from_secs(random.random_range(600..3_000));
                plan.events.push((when, Event::Pause { lasts: Duration::from_mins(4) }));
                let restart = Event::Kill { who: 0, down: Duration::from_secs(1) };
                plan.events.push((when + Duration::from_mins(1), restart));
            }
        }
        plan
    }

    pub(super) fn partitions(self, instances: usize) -> usize {
        if self == Self::CountedPerInstance { instances } else { 1 }
    }

    /// Whether an instance believes that its group has worked before, where the log is empty.
    pub(super) fn remembers_that_it_worked(self) -> bool {
        self != Self::ForgottenAtRestart
    }

    pub(super) fn configure(self, config: &mut AccountConfig) {
        if self == Self::ClaimWithoutExpiry {
            config.terms.claim_ttl = Duration::from_hours(1);
        }
    }

    /// Where a replay really begins.
    pub(super) fn start(self, start: Start, partition: &Partition) -> Start {
        match self {
            Self::ForgottenAtRestart => Start::Offset(i64::try_from(partition.len()).unwrap()),
            Self::ReplayedWithoutCheckpoint => {
                let now = Timestamp::from_millisecond(partition.clock()).unwrap();
                Start::Since(now - SignedDuration::from_mins(1))
            }
            _ => start,
        }
    }

    pub(super) fn tamper(
        self,
        log: SimLog,
        events: mpsc::Receiver<LogEvent>,
        partition: &Partition,
        who: usize,
    ) -> (Tampered, mpsc::Receiver<LogEvent>, Claims) {
        let claims = Claims::default();
        let tampered = Tampered { log, defect: self, partition: partition.clone(), claims: claims.clone() };
        let events = match self {
            Self::ReplayedWithoutCheckpoint => changed(events, |event| {
                if let LogEvent::Reading(from) = event {
                    // As if all before had been removed for its age.
                    (from.found, from.first) = (false, from.offset);
                }
            }),
            Self::OwnClock => {
                let partition = partition.clone();
                let off = [0, -240_000, 240_000, 120_000][who % 4];
                changed(events, move |event| {
                    if let LogEvent::Entry(entry) = event {
                        entry.at = partition.clock() + off;
                    }
                })
            }
            _ => events,
        };
        (tampered, events, claims)
    }

    pub(super) fn transport(self, network: SimNetwork, world: &World, claims: Claims) -> Meddling {
        let partition = world.partition(network.instance).clone();
        Meddling { network, defect: self, partition, claims }
    }
}

/// Changes events on their way.
fn changed(
    mut events: mpsc::Receiver<LogEvent>,
    change: impl Fn(&mut LogEvent) + Send + 'static,
) -> mpsc::Receiver<LogEvent> {
    let (sender, receiver) = mpsc::channel(1);
    tokio::spawn(async move {
        while let Some(mut event) = events.recv().await {
            change(&mut event);
            if sender.send(event).await.is_err() {
                return;
            }
        }
    });
    receiver
}

/// The newest claim about each alert.
#[derive(Clone, Default)]
pub(super) struct Claims(Arc<Mutex<HashMap<String, EntryId>>>);

/// A log that changes what is appended.
pub(super) struct Tampered {
    log: SimLog,
    defect: Defect,
    partition: Partition,
    claims: Claims,
}

impl Tampered {
    fn changed(&self, mut entry: Entry) -> Entry {
        match (&mut entry.body, self.defect) {
            (Body::Claim(claim), Defect::StampedAtSend) => {
                self.claims.0.lock().unwrap().insert(claim.alert.to_string(), entry.id);
            }
            (Body::Claim(claim), Defect::QuestionNotNamed) => {
                let other = format!("{}_{}", claim.alert, entry.id.number);
                claim.alert = AlertId::parse(&other).unwrap();
            }
            (Body::Answer(answer), Defect::StampedAtSend | Defect::FreedByItsAnswer)
                if answer.reached == Reached::Complete =>
            {
                answer.reached = Reached::Never;
            }
            (Body::Answer(answer), Defect::UnknownTakenForNever) if answer.reached == Reached::Unknown => {
                answer.reached = Reached::Never;
            }
            (Body::Terms(terms), Defect::ClaimWithoutExpiry) => terms.claim_ttl = Duration::from_secs(10),
            (Body::Terms(terms), Defect::SkewNotDeclared) => terms.skew = Duration::ZERO,
            (Body::Freeze(freeze), Defect::FreezeNotJournalled) => freeze.lasts = Duration::from_nanos(1),
            _ => {}
        }
        entry
    }
}

impl Log for Tampered {
    fn append(&mut self, payload: &[u8]) -> Result<AppendId, AppendFailed> {
        if self.defect == Defect::None {
            return self.log.append(payload);
        }
        let entries = read_message(payload).unwrap().into_iter();
        self.log.append(&write_message(&entries.map(|entry| self.changed(entry)).collect::<Vec<_>>()))
    }

    fn read_from(&mut self, start: Start) {
        let start = match start {
            Start::Offset(offset) if self.defect == Defect::ReplayedFromTooLate => {
                Start::Offset((offset + MISSED).min(i64::try_from(self.partition.len()).unwrap()))
            }
            start => self.defect.start(start, &self.partition),
        };
        self.log.read_from(start);
    }
}

/// A network that changes how calls are made.
pub(super) struct Meddling {
    network: SimNetwork,
    defect: Defect,
    partition: Partition,
    claims: Claims,
}

impl Transport for Meddling {
    async fn send(&self, request: HttpRequest) -> Result<HttpResponse, HttpFailure> {
        match self.defect {
            Defect::RetryNotCounted => {
                let again = copy(&request);
                match self.network.send(request).await {
                    Ok(response) if response.status < 500 => Ok(response),
                    _ => self.network.send(again).await,
                }
            }
            Defect::StampedAtSend => {
                self.stamp(&request);
                self.network.send(request).await
            }
            Defect::NoRecheckBeforeTheWrite => {
                let wait = Duration::from_millis(self.network.random.lock().unwrap().random_range(0..10_000));
                sleep(wait).await;
                self.network.send(request).await
            }
            _ => self.network.send(request).await,
        }
    }
}

impl Meddling {
    /// What frees the slot is written down as the call is made.
    fn stamp(&self, request: &HttpRequest) {
        let claim = about(request).and_then(|alert| self.claims.0.lock().unwrap().remove(&*alert).zip(Some(alert)));
        let Some((claim, alert)) = claim else { return };
        let alert = AlertId::parse(&alert).unwrap();
        let id = EntryId { writer: WriterId(claim.writer.0 ^ INTRUDER), number: claim.number };
        let answer = Answer { claim, alert, reached: Reached::Complete, status: None, outcome: None };
        let entry = Entry { id, instance: "intruder".into(), body: Body::Answer(answer) };
        self.partition.land(write_message(&[entry]).into(), None);
    }
}

fn copy(request: &HttpRequest) -> HttpRequest {
    match request {
        HttpRequest::Get { url, bearer } => HttpRequest::Get { url: url.clone(), bearer: bearer.clone() },
        HttpRequest::PostForm { url, form } => HttpRequest::PostForm { url: url.clone(), form: form.clone() },
    }
}
