//! A journal that was created anew: what running instances know is carried into it, and counts once.

use std::time::Duration;

use alert_ips::domain::{
    alert::Severity,
    budget::{Budget, Room, Ruling},
    journal::{Body, Entry, Freeze, Reached, WriterId},
    time::JournalTime,
};
use rand::{RngExt, SeedableRng, rngs::SmallRng};

use crate::budget::{answer, at, claim, declared, entry, limit, minor, terms};

fn second(n: u64) -> JournalTime {
    at(Duration::from_secs(n))
}

/// Slots taken of the only limit, which is forgotten with its writers once nothing counts any more.
fn used(budget: &Budget, at: JournalTime) -> u32 {
    budget.outlook(at).windows().next().map_or(0, |(_, used, _)| used)
}

/// A log of claims and answers at two a second, and how it goes on.
fn log() -> Vec<(JournalTime, Entry)> {
    let claimed = |n: u64| (second(10 + n), minor(2 * n + 2));
    let answered = |n: u64| (second(10 + n), answer(2 * n + 3, minor(2 * n + 2).id, Reached::Complete));
    (0..30).flat_map(|n| [claimed(n), answered(n)]).collect()
}

fn read(log: &[(JournalTime, Entry)]) -> Budget {
    let mut budget = declared(&terms(&[limit(40, 60)]), Duration::from_secs(1));
    for (at, entry) in log {
        budget.apply(*at, entry);
    }
    budget
}

fn carried(known: &Budget, by: u64, number: u64) -> Entry {
    entry(by, number, Body::Checkpoint(Box::new(known.checkpoint(None))))
}

#[test]
fn what_instances_carry_over_counts_once_and_nothing_is_lost() {
    let log = log();
    for seed in 0..200 {
        let mut random = SmallRng::seed_from_u64(seed);
        // Both have read the log up to some point.
        let [one, other] = [random.random_range(0..=log.len()), random.random_range(0..=log.len())];
        let mut anew = Budget::default();
        anew.apply(second(50), &carried(&read(&log[..one]), 1, 1_000));
        anew.apply(second(55), &carried(&read(&log[..other]), 2, 1_000));
        let mut both = read(&log[..one.max(other)]);
        for n in 55..200 {
            // Only entries let calls be given up.
            let nothing = entry(3, n, Body::Freeze(Freeze { lasts: Duration::ZERO, why: String::new() }));
            for budget in [&mut anew, &mut both] {
                budget.apply(second(n), &nothing);
            }
            // A call that was open is taken to be out for as long as it may, so there may be more, never less.
            let (now, then) = (used(&anew, second(n)), used(&both, second(n)));
            assert!(now >= then && now <= then + 1, "seed {seed}, at {n} s: {now} instead of {then}");
        }
    }
}

#[test]
fn nothing_is_granted_until_the_others_had_time_to_carry_theirs_over() {
    let known = read(&log()[..2]);
    let mut anew = Budget::default();
    anew.apply(second(50), &carried(&known, 1, 1_000));
    // The terms are carried over too.
    assert_eq!(anew.outlook(second(50)).room(WriterId(0), Severity::High, true, 0), Room::At(second(70)));
    let early = claim(0, 100, Severity::High, true);
    assert_eq!(anew.apply(second(69), &early), Ruling::Refused(early.id));
    let later = claim(0, 101, Severity::High, true);
    assert_eq!(anew.apply(second(70), &later), Ruling::Granted(later.id));
}

#[test]
fn an_entry_of_the_old_log_that_appears_in_the_new_one_is_a_copy() {
    let log = log();
    let mut anew = Budget::default();
    anew.apply(second(50), &carried(&read(&log), 1, 1_000));
    assert_eq!(anew.apply(second(80), &log[0].1), Ruling::Copy);
}

#[test]
fn an_operator_may_end_a_freeze() {
    let mut budget = read(&[]);
    let freeze = |n, lasts| entry(5, n, Body::Freeze(Freeze { lasts, why: "test".into() }));
    budget.apply(second(10), &freeze(1, Duration::from_hours(1)));
    assert!(budget.outlook(second(11)).frozen_until().is_some());
    budget.apply(second(11), &freeze(2, Duration::ZERO));
    assert_eq!(budget.outlook(second(11)).frozen_until(), None);
    let high = claim(0, 100, Severity::High, false);
    assert_eq!(budget.apply(second(11), &high), Ruling::Granted(high.id));
}
