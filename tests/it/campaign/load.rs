//! What the instances are asked: a stream of alerts each, with repeats between them, and now and then a storm.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    sync::{Arc, Mutex},
    time::Duration,
};

use alert_ips::{
    clock::Clock,
    defender::account::AccountHandle,
    domain::alert::{Alert, AlertId, Severity},
};
use futures_util::{StreamExt as _, stream::FuturesUnordered};
use jiff::Timestamp;
use rand::{RngExt, SeedableRng, rngs::SmallRng};
use tokio::time::{Instant, sleep_until};

/// How many of the newest alerts may come once more.
const RECENT: usize = 300;

/// How much there is to do.
#[derive(Clone, Debug)]
pub(super) struct Load {
    /// How many alerts always wait at each instance.
    open: usize,
    /// One more in so long, at each.
    every: Duration,
    /// How many are about an alert that was asked about lately, by whoever.
    repeated: f64,
    high: f64,
    /// When there are so many High alerts at once, at one instance.
    storms: Vec<(Duration, usize)>,
}

impl Load {
    pub(super) fn saturating() -> Self {
        let every = Duration::from_hours(1);
        Self { open: 150, every, repeated: 0.2, high: 0.1, storms: Vec::new() }
    }

    /// Nearly all of them High, which nothing paces.
    pub(super) fn of_highs() -> Self {
        Self { high: 0.95, repeated: 0.0, ..Self::saturating() }
    }

    pub(super) fn draw(random: &mut SmallRng) -> Self {
        let saturating = random.random_bool(0.7);
        let storms = if random.random_bool(0.5) { random.random_range(1..6) } else { 0 };
        let mut storms: Vec<_> = (0..storms)
            .map(|_| (Duration::from_secs(random.random_range(10..5_400)), random.random_range(50..300)))
            .collect();
        storms.sort_unstable();
        Self {
            open: if saturating { random.random_range(20..200) } else { 0 },
            every: Duration::from_secs(if saturating { 3_600 } else { random.random_range(4..60) }),
            repeated: random.random_range(0.0..0.4),
            high: [0.02, 0.1, 0.5, 0.95][random.random_range(0..4_usize)],
            storms,
        }
    }

    /// Whether there is always more to ask than may be asked.
    pub(super) fn saturates(&self) -> bool {
        self.open > 0
    }
}

/// The alerts of all instances.
#[derive(Clone, Default)]
pub(super) struct Alerts(Arc<Mutex<Vec<AlertId>>>);

impl Alerts {
    fn next(&self, random: &mut SmallRng, repeated: f64) -> AlertId {
        let mut alerts = self.0.lock().unwrap();
        let recent = alerts.len().saturating_sub(RECENT)..alerts.len();
        if !recent.is_empty() && random.random_bool(repeated) {
            return alerts[random.random_range(recent)].clone();
        }
        let id = AlertId::parse(&format!("a{}", alerts.len())).unwrap();
        alerts.push(id.clone());
        id
    }
}

/// What one instance is asked, through all its lives: what was not answered is asked again in the next one, as Kafka would
/// hand it over again.
pub(super) struct Asker {
    load: Load,
    alerts: Alerts,
    random: SmallRng,
    /// Not answered yet.
    open: BTreeMap<u64, Alert>,
    asked: u64,
    answered: u64,
    next: Instant,
    storms: Vec<(Instant, usize)>,
}

impl Asker {
    pub(super) fn new(load: &Load, alerts: &Alerts, seed: u64, takes_storms: bool) -> Self {
        let now = Instant::now();
        let storms = if takes_storms { load.storms.as_slice() } else { &[] };
        Self {
            load: load.clone(),
            alerts: alerts.clone(),
            random: SmallRng::seed_from_u64(seed),
            open: BTreeMap::new(),
            asked: 0,
            answered: 0,
            next: now,
            storms: storms.iter().map(|(when, count)| (now + *when, *count)).collect(),
        }
    }

    /// The longest that an alert has waited, and how many do.
    pub(super) fn waiting(&self) -> (usize, Option<Timestamp>) {
        (self.open.len(), self.open.values().filter_map(|alert| alert.created).min())
    }

    pub(super) fn answered(&self) -> u64 {
        self.answered
    }

    /// Asks, until it is dropped.
    pub(super) async fn ask(&mut self, account: &AccountHandle, clock: &Clock) -> Infallible {
        let mut pending = FuturesUnordered::new();
        let question = |number: u64, alert: Alert| {
            let account = account.clone();
            async move {
                let since = alert.created.unwrap_or_default();
                let answer = account.ask(alert, since).await.ok()?.await;
                answer.ok().map(|_| number)
            }
        };
        pending.extend(self.open.iter().map(|(number, alert)| question(*number, alert.clone())));
        loop {
            for (number, alert) in self.due(clock) {
                pending.push(question(number, alert));
            }
            let storm = self.storms.first().map(|(when, _)| *when);
            let wake = storm.map_or(self.next, |storm| storm.min(self.next));
            tokio::select! {
                biased;
                Some(answered) = pending.next(), if !pending.is_empty() => {
                    if let Some(number) = answered {
                        self.open.remove(&number);
                        self.answered += 1;
                    }
                }
                () = sleep_until(wake) => {}
            }
        }
    }

    /// What there is to ask anew.
    fn due(&mut self, clock: &Clock) -> Vec<(u64, Alert)> {
        let now = Instant::now();
        let mut count = self.load.open.saturating_sub(self.open.len());
        if self.next <= now {
            self.next = now + self.load.every.mul_f64(self.random.random_range(0.0..2.0));
            count += 1;
        }
        let mut due: Vec<_> = (0..count).map(|_| self.draw(clock, false)).collect();
        while let Some((_, count)) = self.storms.first().copied().filter(|(when, _)| *when <= now) {
            self.storms.remove(0);
            due.extend((0..count).map(|_| self.draw(clock, true)));
        }
        due
    }

    fn draw(&mut self, clock: &Clock, high: bool) -> (u64, Alert) {
        let severity = if high || self.random.random_bool(self.load.high) {
            Severity::High
        } else {
            [Severity::Medium, Severity::Low, Severity::Informational][self.random.random_range(0..3_usize)]
        };
        let id = self.alerts.next(&mut self.random, self.load.repeated);
        let alert = Alert { id, tenant: None, severity, updated: None, created: Some(clock.wall()) };
        self.asked += 1;
        self.open.insert(self.asked, alert.clone());
        (self.asked, alert)
    }
}
