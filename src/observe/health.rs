//! The condition of each part, and whether the loops still turn.
//!
//! A part reports how it is ([`Reporter`]) and that it moves ([`Pulse`]) without knowing who looks. Readers ask
//! [`Health`]. Waiting for the API's quota is neither a bad condition nor a missing pulse: it is the daemon's work.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::sync::watch;

use crate::{clock::Clock, domain::time::BootTime};

/// How often at least an owner must let its pulse beat, also while it waits for something.
pub const BEAT_EVERY: Duration = Duration::from_secs(5);

/// How long a pulse may be silent before its owner counts as stuck.
pub const ALIVE_WITHIN: Duration = Duration::from_secs(30);

/// How a part is. The words are for the person on call: what happened, what the daemon does, what to do.
///
/// They hold no number that changes by itself, for each change is logged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Condition {
    /// Not there yet. Not ready.
    Starting(String),
    /// As it should be.
    Ok,
    /// It works, but someone should know of something.
    Degraded(String),
    /// It can't work until something outside changes: a dead broker, a failing sign-in, a 403, an outage. Not ready.
    Waiting(String),
}

impl Condition {
    /// The condition in one word.
    pub const fn state(&self) -> &'static str {
        match self {
            Self::Starting(_) => "starting",
            Self::Ok => "ok",
            Self::Degraded(_) => "degraded",
            Self::Waiting(_) => "waiting",
        }
    }

    /// What the part says about it; nothing when all is well.
    pub fn words(&self) -> Option<&str> {
        match self {
            Self::Ok => None,
            Self::Starting(words) | Self::Degraded(words) | Self::Waiting(words) => Some(words),
        }
    }

    /// Whether the part does its work.
    pub const fn is_ready(&self) -> bool {
        matches!(self, Self::Ok | Self::Degraded(_))
    }
}

/// One part's condition, as readers see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartReport {
    pub part: Arc<str>,
    pub condition: Condition,
    /// Since when it is in this state; new words alone don't change it.
    pub since: BootTime,
}

/// An owner whose loop has not turned for too long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stalled {
    pub owner: Arc<str>,
    pub silent_for: Duration,
}

/// The conditions and pulses of all parts. Cheap to clone; all clones are one.
#[derive(Clone, Debug)]
pub struct Health {
    board: Arc<watch::Sender<Board>>,
    clock: Clock,
}

#[derive(Debug, Default)]
struct Board {
    parts: Vec<PartReport>,
    pulses: Vec<(Arc<str>, Pulse)>,
}

impl Health {
    pub fn new(clock: Clock) -> Self {
        Self { board: Arc::default(), clock }
    }

    /// Adds a part. Until it reports it is [`Condition::Starting`], so it can't be forgotten.
    pub fn part(&self, name: &str) -> Reporter {
        let report = PartReport {
            part: name.into(),
            condition: Condition::Starting("has not reported yet".into()),
            since: self.clock.boot(),
        };
        let mut slot = 0;
        self.board.send_modify(|board| {
            slot = board.parts.len();
            board.parts.push(report);
        });
        Reporter { board: self.board.clone(), clock: self.clock.clone(), slot }
    }

    /// Adds the pulse of an owner; it counts as having beaten now.
    pub fn pulse(&self, owner: &str) -> Pulse {
        let pulse = Pulse(Arc::default());
        pulse.beat(self.clock.boot());
        self.board.send_modify(|board| board.pulses.push((owner.into(), pulse.clone())));
        pulse
    }

    /// Every part, in the order they were added.
    pub fn report(&self) -> Vec<PartReport> {
        self.board.borrow().parts.clone()
    }

    /// Whether every part does its work.
    pub fn ready(&self) -> bool {
        self.board.borrow().parts.iter().all(|part| part.condition.is_ready())
    }

    /// The owners whose loop did not turn `within` that time before `now`.
    pub fn stalled(&self, now: BootTime, within: Duration) -> Vec<Stalled> {
        let board = self.board.borrow();
        let silent = board.pulses.iter().map(|(owner, pulse)| (owner, pulse.silent_for(now)));
        silent
            .filter(|(_, silent_for)| *silent_for > within)
            .map(|(owner, silent_for)| Stalled { owner: owner.clone(), silent_for })
            .collect()
    }

    /// Whether every loop turned `within` that time before `now`.
    pub fn alive(&self, now: BootTime, within: Duration) -> bool {
        self.stalled(now, within).is_empty()
    }

    /// The present, on the clock that `since` and the pulses are measured on.
    pub fn now(&self) -> BootTime {
        self.clock.boot()
    }
}

/// A part's own way to say how it is.
#[derive(Clone, Debug)]
pub struct Reporter {
    board: Arc<watch::Sender<Board>>,
    clock: Clock,
    slot: usize,
}

impl Reporter {
    /// Says how the part is now. Saying the same again costs little and changes nothing; a change is logged here, once.
    pub fn set(&self, condition: Condition) {
        let now = self.clock.boot();
        let mut change = None;
        self.board.send_if_modified(|board| {
            let report = &mut board.parts[self.slot];
            if report.condition == condition {
                return false;
            }
            let since = if report.condition.state() == condition.state() { report.since } else { now };
            let after = PartReport { part: report.part.clone(), condition, since };
            change = Some((std::mem::replace(report, after.clone()), after));
            true
        });
        if let Some((before, after)) = change {
            log_change(&before, &after);
        }
    }

    /// The part's name.
    pub fn part(&self) -> Arc<str> {
        Arc::clone(&self.board.borrow().parts[self.slot].part)
    }
}

fn log_change(before: &PartReport, after: &PartReport) {
    let (part, state) = (&*after.part, after.condition.state());
    match &after.condition {
        Condition::Ok => {
            let was = before.condition.state();
            let for_seconds = after.since.saturating_since(before.since).as_secs();
            tracing::info!(part, state, was, for_seconds, "{part} is ready");
        }
        Condition::Starting(words) => tracing::info!(part, state, "{words}"),
        Condition::Degraded(words) | Condition::Waiting(words) => tracing::warn!(part, state, "{words}"),
    }
}

/// Shows that an owner's loop turns. Beats on every turn and at least [`BEAT_EVERY`], also while it waits for permits.
#[derive(Clone, Debug)]
pub struct Pulse(Arc<AtomicU64>);

/// What a finished pulse holds instead of a time.
const FINISHED: u64 = u64::MAX;

impl Pulse {
    /// The loop turned at `now`. One atomic store.
    pub fn beat(&self, now: BootTime) {
        let millis = u64::try_from(now.since_origin().as_millis()).unwrap_or(FINISHED - 1);
        self.0.store(millis, Ordering::Relaxed);
    }

    /// The owner has ended as it should; from now on nobody expects it to beat.
    pub fn finish(&self) {
        self.0.store(FINISHED, Ordering::Relaxed);
    }

    fn silent_for(&self, now: BootTime) -> Duration {
        match self.0.load(Ordering::Relaxed) {
            FINISHED => Duration::ZERO,
            millis => now.saturating_since(BootTime::from_origin(Duration::from_millis(millis))),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use jiff::Timestamp;
    use rstest::rstest;
    use tokio::time::advance;

    use super::*;

    fn health() -> Health {
        Health::new(Clock::following_tokio(Timestamp::UNIX_EPOCH))
    }

    #[rstest]
    #[case::starting(Condition::Starting("joins the group".into()), false)]
    #[case::ok(Condition::Ok, true)]
    #[case::degraded(Condition::Degraded("the journal is in memory".into()), true)]
    #[case::waiting(Condition::Waiting("no broker answers".into()), false)]
    #[tokio::test]
    async fn only_a_part_that_works_is_ready(#[case] condition: Condition, #[case] ready: bool) {
        let health = health();
        health.part("journal").set(Condition::Ok);
        health.part("kafka").set(condition);
        assert_eq!(health.ready(), ready);
    }

    #[tokio::test]
    async fn a_part_that_never_reported_is_not_ready() {
        let health = health();
        let reporter = health.part("kafka");
        assert!(!health.ready());
        assert_eq!(health.report()[0].condition.state(), "starting");
        reporter.set(Condition::Ok);
        assert!(health.ready());
    }

    #[tokio::test(start_paused = true)]
    async fn since_is_when_the_state_began_not_when_its_words_changed() {
        let health = health();
        let reporter = health.part("sign-in");
        advance(Duration::from_secs(10)).await;
        reporter.set(Condition::Waiting("timed out".into()));
        let began = health.now();
        advance(Duration::from_secs(10)).await;
        reporter.set(Condition::Waiting("refused".into()));

        let report = health.report().remove(0);
        assert_eq!((report.condition.words(), report.since), (Some("refused"), began));

        reporter.set(Condition::Ok);
        assert_eq!(health.report()[0].since, health.now());
    }

    #[tokio::test]
    async fn a_change_is_logged_once_and_the_same_again_not_at_all() {
        #[derive(Clone, Default)]
        struct Log(Arc<Mutex<Vec<u8>>>);
        impl std::io::Write for Log {
            fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
                self.0.lock().unwrap().write(bytes)
            }
            fn flush(&mut self) -> std::io::Result<()> {
                Ok(())
            }
        }
        let log = Log::default();
        let writer = log.clone();
        let subscriber =
            tracing_subscriber::fmt().without_time().with_ansi(false).with_writer(move || writer.clone()).finish();
        tracing::subscriber::with_default(subscriber, || {
            let reporter = health().part("kafka");
            for condition in [Condition::Waiting("no broker answers".into()), Condition::Ok] {
                reporter.set(condition.clone());
                reporter.set(condition);
            }
        });
        let log = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
        let expected = [
            " WARN alert_ips::observe::health: no broker answers part=\"kafka\" state=\"waiting\"",
            " INFO alert_ips::observe::health: kafka is ready part=\"kafka\" state=\"ok\" was=\"waiting\" for_seconds=0",
        ];
        assert_eq!(log.lines().collect::<Vec<_>>(), expected);
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_loop_is_named_and_a_waiting_one_that_beats_is_alive() {
        let health = health();
        let (dispatcher, _source) = (health.pulse("dispatcher"), health.pulse("source"));
        assert!(health.alive(health.now(), ALIVE_WITHIN));

        advance(Duration::from_secs(31)).await;
        dispatcher.beat(health.now());

        let stalled = health.stalled(health.now(), ALIVE_WITHIN);
        assert_eq!(stalled, [Stalled { owner: "source".into(), silent_for: Duration::from_secs(31) }]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_finished_loop_is_not_missed() {
        let health = health();
        let pulse = health.pulse("source");
        pulse.finish();
        advance(Duration::from_hours(1)).await;
        assert!(health.alive(health.now(), ALIVE_WITHIN));
    }
}
