//! The budget against a service that counts by itself: no window is ever over, whatever happens to the calls.

use std::time::Duration;

use alert_ips::domain::{
    alert::{AlertId, Severity},
    budget::{Budget, Room, Ruling},
    journal::{Answer, Body, Claim, Entry, EntryId, Freeze, Reached, WriterId},
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
    wire: Vec<(EntryId, Duration, Reached)>,
    granted: u64,
    writers: u64,
    answers: u64,
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
            skew: Duration::ZERO,
        };
        let lossy = random.random_bool(0.3);
        let writers = random.random_range(1..4);
        let drift = random.random_range(-0.016..0.016);
        Self {
            random,
            terms,
            now: Duration::from_secs(100),
            drift,
            counted: Counted::default(),
            wire: Vec::new(),
            granted: 0,
            writers,
            answers: 0,
            lossy,
        }
    }

    fn run(mut self, steps: usize, rule: impl Fn(&mut Budget, JournalTime, &Entry) -> Ruling) -> Self {
        let mut budget = Budget::default();
        for writer in 0..self.writers {
            rule(&mut budget, at(self.now), &entry(writer, 1, Body::Terms(self.view(writer))));
        }
        for step in 0..steps {
            self.now += Duration::from_millis(self.random.random_range(0..60));
            self.answer_due(&mut budget, &rule);
            let writer = self.random.random_range(0..self.writers);
            let claim = entry(writer, step as u64 + 2, self.claim(step));
            if let Ruling::Granted(id) = rule(&mut budget, at(self.now), &claim) {
                self.granted += 1;
                self.call(id);
            }
            if self.random.random_bool(0.1) {
                // A retried append.
                assert_eq!(budget.apply(at(self.now), &claim), Ruling::Copy);
            }
            if self.random.random_bool(0.02) {
                // Whoever begins with a checkpoint here.
                budget = Budget::from(&budget.checkpoint(Some(0)));
            }
        }
        self
    }

    /// What a writer holds itself to: the first to the terms, the others to no less.
    fn view(&self, writer: u64) -> Terms {
        let mut terms = self.terms.clone();
        if writer > 0 {
            let more = |limit: &Limit| Limit { calls: limit.calls.saturating_add(5), ..*limit };
            terms.limits = terms.limits.iter().map(more).collect();
            terms.max_in_flight += 2;
        }
        terms
    }

    fn claim(&mut self, step: usize) -> Body {
        let severity = if self.random.random_bool(0.3) { Severity::High } else { Severity::Low };
        let (reserved, highs_wait) = (severity == Severity::High, self.random.random_bool(0.1));
        Body::Claim(Claim { alert: alert(step), severity, reserved, highs_wait })
    }

    /// Lets a granted call go out, with some fate between its grant and its answer.
    fn call(&mut self, id: EntryId) {
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
            self.answers += 1;
            rule(budget, at(appended), &answer(self.answers, claim, reached));
        }
    }
}

/// The writer of all answers, so that their numbers are their own.
const ANSWERING: u64 = 99;

pub(crate) fn entry(writer: u64, number: u64, body: Body) -> Entry {
    Entry { id: EntryId { writer: WriterId(writer), number }, instance: "host".into(), body }
}

pub(crate) fn answer(number: u64, claim: EntryId, reached: Reached) -> Entry {
    entry(ANSWERING, number, Body::Answer(Answer { claim, alert: alert(number), reached, status: None, outcome: None }))
}

pub(crate) fn limit(calls: u32, seconds: u64) -> Limit {
    Limit { calls: calls.try_into().unwrap(), per: Duration::from_secs(seconds) }
}

pub(crate) fn at(time: Duration) -> JournalTime {
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
    let at_once = |budget: &mut Budget, at: JournalTime, entry: &Entry| match &entry.body {
        Body::Answer(Answer { claim, .. }) => budget.apply(at, &answer(entry.id.number, *claim, Reached::Never)),
        _ => budget.apply(at, entry),
    };
    assert!(first_over(2000, at_once).is_some());
}

/// The check can fail: not counting calls whose answer never came is caught.
#[test]
fn forgetting_calls_without_an_answer_is_caught() {
    let forgetful = |budget: &mut Budget, at: JournalTime, entry: &Entry| match &entry.body {
        Body::Answer(Answer { claim, reached: Reached::Unknown, .. }) => {
            budget.apply(at, &answer(entry.id.number, *claim, Reached::Never))
        }
        _ => budget.apply(at, entry),
    };
    assert!(first_over(2000, forgetful).is_some());
}

/// The check can fail: a budget that takes each writer's word for the limits is caught.
#[test]
fn holding_only_the_last_declared_terms_is_caught() {
    let last = |budget: &mut Budget, at: JournalTime, entry: &Entry| match &entry.body {
        // The second and third writer hold themselves to more.
        Body::Terms(_) if entry.id.writer == WriterId(0) => Ruling::Noted,
        _ => budget.apply(at, entry),
    };
    assert!(first_over(2000, last).is_some());
}

/// A refusal that names a time is exactly right: refused until then, granted at it.
#[test]
fn a_named_time_is_the_first_at_which_a_claim_is_granted() {
    let mut named = 0;
    for seed in 0..2000 {
        let mut random = SmallRng::seed_from_u64(seed);
        let schedule = Schedule::new(seed);
        let mut now = schedule.now;
        let mut budget = declared(&schedule.terms, now);
        for step in 2..42 {
            now += Duration::from_millis(random.random_range(0..60));
            if let Room::At(free) = budget.outlook(at(now)).room(WriterId(0), Severity::Low, false, 0) {
                named += 1;
                let (mut before, mut then) = (budget.clone(), budget.clone());
                let just_before = JournalTime::from_origin(free.since_origin() - Duration::from_nanos(1));
                let claim = minor(u64::MAX);
                assert_eq!(before.apply(just_before, &claim), Ruling::Refused(claim.id));
                assert_eq!(then.apply(free, &claim), Ruling::Granted(claim.id));
            }
            let claim = minor(step);
            if budget.apply(at(now), &claim) == Ruling::Granted(claim.id) {
                budget.apply(at(now), &answer(step, claim.id, Reached::Complete));
            }
        }
    }
    assert!(named > 1000, "only {named} refusals named a time");
}

/// A budget with one writer and these terms.
pub(crate) fn declared(terms: &Terms, now: Duration) -> Budget {
    let mut budget = Budget::default();
    budget.apply(at(now), &entry(0, 1, Body::Terms(terms.clone())));
    budget
}

pub(crate) fn minor(number: u64) -> Entry {
    claim(0, number, Severity::Low, false)
}

pub(crate) fn claim(writer: u64, number: u64, severity: Severity, highs_wait: bool) -> Entry {
    let reserved = severity == Severity::High;
    let alert = alert(format!("{writer}-{number}"));
    entry(writer, number, Body::Claim(Claim { alert, severity, reserved, highs_wait }))
}

fn alert(id: impl std::fmt::Display) -> AlertId {
    AlertId::parse(&format!("a{id}")).unwrap()
}

pub(crate) fn terms(limits: &[Limit]) -> Terms {
    Terms {
        limits: limits.to_vec(),
        share: 1.0,
        reserve: 0.01,
        max_in_flight: 64,
        claim_ttl: Duration::from_secs(10),
        call_timeout: Duration::from_secs(30),
        skew: Duration::ZERO,
    }
}

/// However wide the limit, the memory of it is bounded: at most a thousand buckets and a few for the margin.
#[test]
fn a_wide_limit_takes_no_more_memory_than_a_narrow_one() {
    let mut budget = declared(&terms(&[limit(50_000_000, 60)]), Duration::ZERO);
    for n in 2..300_000 {
        let now = at(Duration::from_micros(n * 400));
        let claim = claim(0, n, Severity::High, false);
        assert_eq!(budget.apply(now, &claim), Ruling::Granted(claim.id));
        budget.apply(now, &answer(n, claim.id, Reached::Complete));
    }
    assert!(budget.remembered() <= 1100, "{} points in time are remembered", budget.remembered());
}

/// A replay that begins with a checkpoint, wherever it was taken, reaches every later verdict that the whole one does.
#[test]
fn a_replay_from_a_checkpoint_reaches_the_same_verdicts() {
    for seed in 0..500 {
        let mut log: Vec<(JournalTime, Entry)> = Vec::new();
        let mut whole = Vec::new();
        let recording = |budget: &mut Budget, at: JournalTime, entry: &Entry| budget.apply(at, entry);
        let schedule = Schedule::new(seed);
        let log_and_whole = std::cell::RefCell::new((&mut log, &mut whole));
        schedule.run(200, |budget, at, entry| {
            let ruling = recording(budget, at, entry);
            let mut both = log_and_whole.borrow_mut();
            both.0.push((at, entry.clone()));
            both.1.push(ruling);
            ruling
        });
        let cut = usize::try_from(seed).unwrap() * 7 % log.len();
        let mut before = Budget::default();
        for (at, entry) in &log[..cut] {
            before.apply(*at, entry);
        }
        let mut after = Budget::from(&before.checkpoint(Some(0)));
        let rulings: Vec<_> = log[cut..].iter().map(|(at, entry)| after.apply(*at, entry)).collect();
        assert_eq!(rulings, whole[cut..], "seed {seed}, cut at {cut}");
    }
}

#[test]
fn a_writer_that_declared_no_terms_is_granted_nothing() {
    let mut budget = declared(&terms(&[limit(100, 60)]), Duration::from_secs(1));
    let unknown = claim(7, 1, Severity::High, false);
    assert_eq!(budget.apply(at(Duration::from_secs(2)), &unknown), Ruling::Refused(unknown.id));
}

#[test]
fn a_stricter_limit_holds_until_no_call_made_under_it_holds_a_slot() {
    let mut budget = declared(&terms(&[limit(400, 60)]), Duration::from_secs(1));
    budget.apply(at(Duration::from_secs(1)), &entry(1, 1, Body::Terms(terms(&[limit(300, 60)]))));
    let calls = |budget: &Budget| budget.outlook(JournalTime::default()).windows().next().unwrap().0.calls.get();
    assert_eq!(calls(&budget), 300);
    // A rolling restart: the second writer says the same as the first from now on, and its earlier word holds a while.
    budget.apply(at(Duration::from_secs(50)), &entry(1, 2, Body::Terms(terms(&[limit(400, 60)]))));
    for second in [51, 110, 157] {
        budget.apply(at(Duration::from_secs(second)), &entry(0, second, Body::Terms(terms(&[limit(400, 60)]))));
        assert_eq!(calls(&budget), if second < 157 { 300 } else { 400 }, "at {second} s");
    }
}

#[test]
fn highs_of_one_writer_hold_back_the_others_minor_claims() {
    let mut budget = declared(&terms(&[limit(400, 60)]), Duration::from_secs(1));
    budget.apply(at(Duration::from_secs(1)), &entry(1, 1, Body::Terms(terms(&[limit(400, 60)]))));
    let second = |n| at(Duration::from_secs(n));
    budget.apply(second(2), &claim(1, 2, Severity::High, true));
    let (held_back, high) = (claim(0, 2, Severity::Low, false), claim(0, 3, Severity::High, false));
    assert_eq!(budget.apply(second(3), &held_back), Ruling::Refused(held_back.id));
    assert_eq!(budget.apply(second(3), &high), Ruling::Granted(high.id));
    assert_eq!(budget.outlook(JournalTime::default()).room(WriterId(0), Severity::Low, false, 0), Room::At(second(12)));
    // The tenth that is the others' own is not held back.
    assert_eq!(budget.outlook(JournalTime::default()).room(WriterId(0), Severity::Low, true, 0), Room::Now);
    budget.apply(second(4), &claim(1, 3, Severity::High, false));
    assert_eq!(
        budget.outlook(JournalTime::default()).room(WriterId(0), Severity::Low, false, 0),
        Room::Now,
        "no more of them wait"
    );
}

#[test]
fn a_freeze_lasts_from_its_entry_on() {
    let mut budget = declared(&terms(&[limit(400, 60)]), Duration::from_secs(1));
    let freeze = Freeze { lasts: Duration::from_secs(30), why: "429".into() };
    budget.apply(at(Duration::from_secs(5)), &entry(1, 1, Body::Freeze(freeze)));
    assert_eq!(
        budget.outlook(JournalTime::default()).room(WriterId(0), Severity::High, true, 0),
        Room::At(at(Duration::from_secs(35)))
    );
}

#[test]
fn an_answer_to_a_refused_claim_is_told() {
    let mut budget = declared(&terms(&[limit(8, 60)]), Duration::from_secs(1));
    let granted = claim(0, 2, Severity::High, false);
    let refused = claim(9, 1, Severity::High, false);
    budget.apply(at(Duration::from_secs(2)), &granted);
    budget.apply(at(Duration::from_secs(2)), &refused);
    assert_eq!(budget.apply(at(Duration::from_secs(3)), &answer(1, granted.id, Reached::Complete)), Ruling::Noted);
    let divergent = budget.apply(at(Duration::from_secs(3)), &answer(2, refused.id, Reached::Complete));
    assert_eq!(divergent, Ruling::Divergent(refused.id));
}

/// The broker's clock jumps further than anything is remembered between a claim and its copy by a retry.
#[test]
fn a_copy_from_before_a_jump_is_no_refused_claim() {
    let mut budget = declared(&terms(&[limit(8, 60)]), Duration::from_secs(1));
    let both = [2, 3].map(|number| claim(0, number, Severity::High, false));
    for claim in &both {
        assert_eq!(budget.apply(at(Duration::from_secs(2)), claim), Ruling::Granted(claim.id));
    }
    let after = at(Duration::from_hours(2));
    for claim in &both {
        assert_eq!(budget.apply(after, claim), Ruling::Copy);
    }
    for (number, claim) in both.iter().enumerate() {
        assert_eq!(budget.apply(after, &answer(number as u64 + 1, claim.id, Reached::Complete)), Ruling::Noted);
    }
}

#[test]
fn a_question_is_not_asked_twice_at_the_same_time() {
    let mut budget = declared(&terms(&[limit(400, 60)]), Duration::from_secs(1));
    budget.apply(at(Duration::from_secs(1)), &entry(1, 1, Body::Terms(terms(&[limit(400, 60)]))));
    let same = |writer, number| {
        let body = Claim { alert: alert("same"), severity: Severity::High, reserved: true, highs_wait: false };
        entry(writer, number, Body::Claim(body))
    };
    let (first, second, third) = (same(0, 2), same(1, 2), same(1, 3));
    let now = at(Duration::from_secs(2));
    assert_eq!(budget.apply(now, &first), Ruling::Granted(first.id));
    assert_eq!(budget.apply(now, &second), Ruling::Refused(second.id));
    budget.apply(now, &answer(1, first.id, Reached::Complete));
    assert_eq!(budget.apply(now, &third), Ruling::Granted(third.id));
}
