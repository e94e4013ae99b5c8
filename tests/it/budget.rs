//! The budget against a service that counts by itself: no window is ever over, whatever happens to the calls.

use std::time::Duration;

use alert_ips::domain::{
    alert::{AlertId, Severity},
    budget::{Budget, Room, Ruling},
    journal::{Answer, Claim, ClaimId, Entry, Reached},
    limit::Limit,
    terms::Terms,
    time::JournalTime,
};
use rand::{RngExt, SeedableRng, rngs::SmallRng};

/// What the service saw: it knows nothing of slots, grants or margins.
#[derive(Default)]
struct Counted(Vec<Duration>);

impl Counted {
    /// The first window that holds more than `limit.calls`, by brute force over all calls.
    fn over(&mut self, limit: &Limit) -> Option<Duration> {
        self.0.sort_unstable();
        let calls = limit.calls.get() as usize;
        self.0.windows(calls + 1).find(|window| window[calls] - window[0] < limit.per).map(|window| window[0])
    }
}

/// One schedule: alerts arrive, calls are slow, lost, stopped or let out late, and the clocks drift apart.
struct Schedule {
    random: SmallRng,
    terms: Terms,
    now: Duration,
    /// How much slower than the journal's the service's clock runs.
    drift: f64,
    counted: Counted,
    /// Calls on the wire: the claim, when the service counts it (if ever), when its answer is appended, and as what.
    wire: Vec<(ClaimId, Duration, Reached)>,
    granted: u64,
    /// Most answers never arrive.
    lossy: bool,
}

impl Schedule {
    fn new(seed: u64) -> Self {
        let mut random = SmallRng::seed_from_u64(seed);
        let of_second = random.random_range(8..30_u32);
        let of_three = random.random_range(of_second..of_second * 3);
        let limits = vec![limit(of_second, 1), limit(of_three, 3)];
        let terms = Terms {
            limits,
            share: [1.0, 0.8][random.random_range(0..2_usize)],
            reserve: [0.0, 0.1][random.random_range(0..2_usize)],
            max_in_flight: random.random_range(1..6),
            claim_ttl: Duration::from_millis(200),
            call_timeout: Duration::from_secs(1),
        };
        let lossy = random.random_bool(0.3);
        let drift = random.random_range(-0.016..0.016);
        Self {
            random,
            terms,
            now: Duration::from_secs(100),
            drift,
            counted: Counted::default(),
            wire: Vec::new(),
            granted: 0,
            lossy,
        }
    }

    fn run(mut self, steps: usize, rule: impl Fn(&mut Budget, JournalTime, &Entry) -> Ruling) -> Self {
        let mut budget = Budget::new(self.terms.clone());
        for step in 0..steps {
            self.now += Duration::from_millis(self.random.random_range(0..60));
            self.answer_due(&mut budget, &rule);
            let severity = if self.random.random_bool(0.3) { Severity::High } else { Severity::Low };
            let id = ClaimId(step as u64);
            let claim =
                Claim { id, alert: AlertId::parse("a").unwrap(), severity, reserved: severity == Severity::High };
            if let Ruling::Granted(_) = rule(&mut budget, at(self.now), &Entry::Claim(claim)) {
                self.granted += 1;
                self.call(id);
            }
        }
        self
    }

    /// Lets a granted call go out, with some fate between its grant and its answer.
    fn call(&mut self, id: ClaimId) {
        // Most are quick, some as slow as a call can be.
        let slow = self.random.random_bool(0.2);
        let most = if slow { self.terms.call_timeout.as_secs_f64() } else { 0.05 };
        let answered = self.now + Duration::from_secs_f64(self.random.random_range(0.0..most));
        let counted = self.now + (answered - self.now).mul_f64(self.random.random_range(0.0..=1.0));
        let fate = if self.lossy && self.random.random_bool(0.6) { 2 } else { self.random.random_range(0..10) };
        let (counted, appended, reached) = match fate {
            0 => (None, answered, Reached::Never),
            1 => (None, answered, Reached::Unused),
            // Given up by the client, and counted by the service long after.
            2 => (Some(self.late()), answered, Reached::Unknown),
            // Never answered at all: the process died.
            3 => (Some(counted), Duration::MAX, Reached::Unknown),
            _ => (Some(counted), answered, Reached::Complete),
        };
        if let Some(counted) = counted {
            self.counted.0.push(counted.mul_f64(1.0 - self.drift));
        }
        self.wire.push((id, appended, reached));
    }

    /// Some time until the budget gives the call up.
    fn late(&mut self) -> Duration {
        self.now + self.terms.lapse_after().mul_f64(self.random.random_range(0.0..=1.0))
    }

    fn answer_due(&mut self, budget: &mut Budget, rule: &impl Fn(&mut Budget, JournalTime, &Entry) -> Ruling) {
        let now = self.now;
        self.wire.sort_unstable_by_key(|(_, appended, _)| *appended);
        let due = self.wire.partition_point(|(_, appended, _)| *appended <= now);
        for (claim, appended, reached) in self.wire.drain(..due) {
            rule(budget, at(appended), &Entry::Answer(Answer { claim, reached }));
        }
    }
}

fn limit(calls: u32, seconds: u64) -> Limit {
    Limit { calls: calls.try_into().unwrap(), per: Duration::from_secs(seconds) }
}

fn at(time: Duration) -> JournalTime {
    JournalTime::from_origin(time)
}

fn first_over(seeds: u64, rule: impl Fn(&mut Budget, JournalTime, &Entry) -> Ruling + Copy) -> Option<(u64, Limit)> {
    (0..seeds).find_map(|seed| {
        let mut schedule = Schedule::new(seed).run(90, rule);
        let limits = schedule.terms.limits.clone();
        limits.into_iter().find(|limit| schedule.counted.over(limit).is_some()).map(|limit| (seed, limit))
    })
}

#[test]
fn no_window_is_over_in_100_000_schedules() {
    assert_eq!(first_over(100_000, Budget::apply), None);
}

#[test]
fn the_budget_is_used() {
    let granted: u64 = (0..1000).map(|seed| Schedule::new(seed).run(90, Budget::apply).granted).sum();
    assert!(granted > 5_000, "only {granted} calls were granted");
}

/// The check can fail: a budget whose clock runs twice as fast frees its slots early, and is caught.
#[test]
fn freeing_slots_early_is_caught() {
    let fast = |budget: &mut Budget, at: JournalTime, entry: &Entry| {
        budget.apply(JournalTime::from_origin(at.since_origin().mul_f64(2.0)), entry)
    };
    assert!(first_over(2000, fast).is_some());
}

/// The check can fail: a budget that gives a slot back as soon as its call is answered is caught.
#[test]
fn freeing_a_slot_at_once_is_caught() {
    let at_once = |budget: &mut Budget, at: JournalTime, entry: &Entry| match entry {
        Entry::Answer(Answer { claim, .. }) => {
            budget.apply(at, &Entry::Answer(Answer { claim: *claim, reached: Reached::Never }))
        }
        entry => budget.apply(at, entry),
    };
    assert!(first_over(2000, at_once).is_some());
}

/// The check can fail: not counting calls whose answer never came is caught.
#[test]
fn forgetting_calls_without_an_answer_is_caught() {
    let forgetful = |budget: &mut Budget, at: JournalTime, entry: &Entry| match entry {
        Entry::Answer(Answer { claim, reached: Reached::Unknown }) => {
            budget.apply(at, &Entry::Answer(Answer { claim: *claim, reached: Reached::Never }))
        }
        entry => budget.apply(at, entry),
    };
    assert!(first_over(2000, forgetful).is_some());
}

/// A refusal that names a time is exactly right: refused until then, granted at it.
#[test]
fn a_named_time_is_the_first_at_which_a_claim_is_granted() {
    let mut named = 0;
    for seed in 0..2000 {
        let mut random = SmallRng::seed_from_u64(seed);
        let schedule = Schedule::new(seed);
        let mut budget = Budget::new(schedule.terms.clone());
        let mut now = schedule.now;
        for step in 0..40 {
            now += Duration::from_millis(random.random_range(0..60));
            budget.advance(at(now));
            if let Room::At(free) = budget.room(false) {
                named += 1;
                let (mut before, mut then) = (budget.clone(), budget.clone());
                let just_before = JournalTime::from_origin(free.since_origin() - Duration::from_nanos(1));
                assert_ne!(claimed(&mut before, just_before), Ruling::Granted(ClaimId(u64::MAX)));
                assert_eq!(claimed(&mut then, free), Ruling::Granted(ClaimId(u64::MAX)));
            }
            let claim = Claim {
                id: ClaimId(step),
                alert: AlertId::parse("a").unwrap(),
                severity: Severity::Low,
                reserved: false,
            };
            if budget.apply(at(now), &Entry::Claim(claim)) == Ruling::Granted(ClaimId(step)) {
                budget.apply(at(now), &Entry::Answer(Answer { claim: ClaimId(step), reached: Reached::Complete }));
            }
        }
    }
    assert!(named > 1000, "only {named} refusals named a time");
}

fn claimed(budget: &mut Budget, at: JournalTime) -> Ruling {
    let claim =
        Claim { id: ClaimId(u64::MAX), alert: AlertId::parse("a").unwrap(), severity: Severity::Low, reserved: false };
    budget.apply(at, &Entry::Claim(claim))
}

/// However wide the limit, the memory of it is bounded: at most a thousand buckets and a few for the margin.
#[test]
fn a_wide_limit_takes_no_more_memory_than_a_narrow_one() {
    let wide = Limit { calls: 50_000_000.try_into().unwrap(), per: Duration::from_mins(1) };
    let terms = Terms {
        limits: vec![wide],
        share: 1.0,
        reserve: 0.01,
        max_in_flight: 64,
        claim_ttl: Duration::from_secs(10),
        call_timeout: Duration::from_secs(30),
    };
    let mut budget = Budget::new(terms);
    for n in 0..300_000 {
        let now = at(Duration::from_micros(n * 400));
        let claim =
            Claim { id: ClaimId(n), alert: AlertId::parse("a").unwrap(), severity: Severity::High, reserved: true };
        assert_eq!(budget.apply(now, &Entry::Claim(claim)), Ruling::Granted(ClaimId(n)));
        budget.apply(now, &Entry::Answer(Answer { claim: ClaimId(n), reached: Reached::Complete }));
    }
    assert!(budget.remembered() <= 1100, "{} points in time are remembered", budget.remembered());
}
