//! What is not as usual in a run, though nothing fails: limits that change while instances run, clocks that differ, a journal
//! that is created anew.

use std::time::Duration;

use alert_ips::{defender::account::AccountConfig, domain::limit::Limit};
use rand::{RngExt, rngs::SmallRng};

use super::faults::{CALM, Event, Plan};

/// How likely each is.
const SELDOM: f64 = 0.15;

/// How far apart the rates of two clocks may be.
const DRIFT: f64 = 0.000_5;

/// How long before the journal is created anew, and after it, nobody is stopped, killed or cut off: what one instance alone
/// has read of a log is lost with it.
const QUIET: (Duration, Duration) = (Duration::from_mins(12), Duration::from_mins(1));

/// With so many hundredths of an hour's calls it counts as spent.
const SPENT: u32 = 93;

/// What an instance holds itself to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Own {
    limits: &'static [&'static str],
    max_in_flight: u32,
}

/// The service's own.
const USUAL: Own = Own { limits: &["100 per 1m", "1500 per 1h"], max_in_flight: 8 };

/// What may come in its place.
const OTHERS: [Own; 4] = [
    Own { max_in_flight: 3, ..USUAL },
    Own { limits: &["80 per 1m", "1000 per 1h"], max_in_flight: 8 },
    Own { limits: &["90 per 1m", "300 per 10m", "1500 per 1h"], max_in_flight: 8 },
    Own { limits: &["1400 per 1h", "60 per 1m"], max_in_flight: 12 },
];

/// More than the service allows: it never counts while one instance says what that is.
const LAX: Own = Own { limits: &["130 per 1m", "2000 per 1h"], max_in_flight: 16 };

/// One instance after the other is started again with other terms.
#[derive(Clone, Debug)]
pub(super) struct Change {
    begins: Duration,
    before: Own,
    after: Own,
}

impl Change {
    /// When the change comes to an instance.
    fn comes_to(&self, who: usize) -> Duration {
        self.begins + Duration::from_mins(1) * u32::try_from(who).unwrap()
    }

    fn own(&self, who: usize, now: Duration) -> Own {
        let is_lax = self.after.limits == LAX.limits;
        match (now > self.comes_to(who), is_lax && who == 0) {
            (_, true) => USUAL,
            (true, false) => self.after,
            (false, false) => self.before,
        }
    }
}

impl Plan {
    /// Draws what is not as usual.
    pub(super) fn vary(&mut self, random: &mut SmallRng) {
        if random.random_bool(SELDOM) {
            self.change_limits(random);
        }
        if random.random_bool(SELDOM) {
            self.stamp_by_writers();
        }
        if random.random_bool(SELDOM) {
            self.drift(random);
        }
        if random.random_bool(SELDOM) {
            self.recreate(random);
        }
    }

    /// A rolling change, up or down.
    pub(super) fn change_limits(&mut self, random: &mut SmallRng) {
        if self.change.is_some() {
            return;
        }
        let begins = Duration::from_secs(random.random_range(300..3_600));
        let strict = OTHERS[random.random_range(0..OTHERS.len())];
        let (before, after) = [(USUAL, strict), (strict, USUAL), (USUAL, LAX)][random.random_range(0..3_usize)];
        let change = Change { begins, before, after };
        for who in 0..self.instances {
            self.events.push((change.comes_to(who), Event::Kill { who, down: Duration::from_secs(1) }));
        }
        // A start after a jump is a limit that is documented.
        self.steps.retain(|(_, by)| *by < 0);
        self.change = Some(change);
    }

    /// Each entry carries its writer's time. Their clocks are up to 10 s apart.
    pub(super) fn stamp_by_writers(&mut self) {
        self.own_stamps = true;
        // A clock that is set is further off than the terms say, and no fault of the rule.
        self.wall_steps = false;
        self.steps.clear();
    }

    /// The broker's clock runs at a rate of its own.
    pub(super) fn drift(&mut self, random: &mut SmallRng) {
        self.rate = random.random_range(1.0 - DRIFT..=1.0 + DRIFT);
    }

    /// The journal is deleted and created anew, while all its readers run.
    pub(super) fn recreate(&mut self, random: &mut SmallRng) {
        if self.recreated().is_some() {
            return;
        }
        let at = QUIET.0 + (CALM - QUIET.0 - QUIET.1).mul_f64(random.random());
        (self.log.killed, self.log.stopped, self.network.killed, self.network.stopped) = (0.0, 0.0, 0.0, 0.0);
        self.behind = None;
        let quiet = at - QUIET.0..at + QUIET.1;
        self.events.retain(|(when, event)| match event {
            Event::Kill { .. } | Event::Stop { .. } | Event::Cut { .. } => !quiet.contains(when),
            Event::StopWhenGranted { .. } => false,
            Event::Pause { .. } | Event::Outage { .. } | Event::Recreate => true,
        });
        self.events.push((at, Event::Recreate));
    }

    /// The broker's clock jumps forward by more than anyone remembers. Returns when.
    pub(super) fn jump_by_hours(&mut self, random: &mut SmallRng) -> Duration {
        let when = Duration::from_secs(random.random_range(60..900));
        self.steps.push((when, random.random_range(4_000_000..40_000_000)));
        when
    }

    /// When the journal was created anew, if it was.
    pub(super) fn recreated(&self) -> Option<Duration> {
        self.events.iter().find(|(_, event)| matches!(event, Event::Recreate)).map(|(when, _)| *when)
    }

    /// What the life that an instance begins now holds itself to.
    pub(super) fn configure(&self, config: &mut AccountConfig, who: usize, now: Duration) {
        let own = self.change.as_ref().map_or(USUAL, |change| change.own(who, now));
        config.terms.limits = limits(own);
        config.terms.max_in_flight = own.max_in_flight;
    }

    /// With so many calls an hour counts as spent.
    pub(super) fn spent(&self) -> usize {
        let owns = self.change.as_ref().map_or(vec![USUAL], |change| vec![change.before, change.after]);
        let hours = owns.into_iter().flat_map(limits).filter(|limit| limit.per == Duration::from_hours(1));
        let least = hours.map(|limit| limit.calls.get()).min().unwrap_or_default();
        usize::try_from(least * SPENT / 100).unwrap()
    }
}

fn limits(own: Own) -> Vec<Limit> {
    own.limits.iter().map(|text| text.parse().unwrap()).collect()
}
