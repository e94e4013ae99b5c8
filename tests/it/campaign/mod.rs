//! The proof of the fleet's budget: the whole core (accounts, journal, codec, replay) over a simulated partition, network and
//! service, on one virtual clock, with everything going wrong that a seed can think of.
//!
//! `ALERT_IPS_SEEDS=20000 cargo test --test it campaign` plays more of them, `ALERT_IPS_SEED=1234` one and says what it is.

mod defects;
mod faults;
mod gate;
mod instance;
mod load;
mod log;
mod network;
mod oracle;
mod partition;
mod reader;
mod run;
mod signal;
mod variations;

use std::{
    env,
    ops::RangeInclusive,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
    thread,
};

use rand::{SeedableRng, rngs::SmallRng};
use rstest::rstest;

use self::{
    defects::Defect,
    faults::Plan,
    oracle::{Complaint, Figures, Wrong, complaints},
    run::play,
};

/// Runs of `cargo test`, unless told otherwise.
const SEEDS: u64 = 500;

/// Runs in which one thing is surely not as usual.
const VARIED_SEEDS: u64 = 10;

/// A defect that does not show in so many runs would not be found.
const SEEDS_FOR_A_DEFECT: u64 = 60;

#[test]
fn no_window_is_over_and_work_goes_on_whatever_goes_wrong() {
    let seeds = seeds(SEEDS);
    let alone = seeds.start() == seeds.end();
    let found = first_complaint(seeds, |seed| {
        let plan = Plan::draw(seed);
        if alone {
            println!("{plan:#?}");
        }
        let record = play(plan, Defect::None);
        if alone || env::var_os("ALERT_IPS_FIGURES").is_some() {
            println!("seed {seed}: {}", Figures::of(&record));
        }
        complaints(&record)
    });
    if let Some((seed, complaints)) = found {
        panic!("seed {seed} (ALERT_IPS_SEED={seed} plays it alone): {complaints:#?}");
    }
}

#[test]
fn a_healthy_fleet_uses_what_it_may() {
    let found = first_complaint(1..=3, |seed| {
        let record = play(Plan::healthy(seed), Defect::None);
        let figures = Figures::of(&record);
        println!("seed {seed}: {figures}");
        assert!(figures.hours.iter().all(|calls| *calls >= 1_470), "{figures}");
        assert!(figures.entries * 2 <= figures.calls * 5, "{figures}");
        complaints(&record)
    });
    assert_eq!(found, None);
}

/// What a defect's plan has beside the restarts, without them.
#[test]
fn a_brokers_clock_that_jumps_by_hours_frees_nothing_that_was_seen() {
    let found = first_complaint(1..=30, |seed| {
        let mut plan = Defect::OwnClockForgotten.plan(seed);
        plan.events.clear();
        let record = play(plan, Defect::None);
        println!("seed {seed}: {}", Figures::of(&record));
        complaints(&record)
    });
    assert_eq!(found, None);
}

/// What is over where the terms do not say how far apart the clocks are.
#[test]
fn clocks_of_writers_that_differ_by_seconds_free_nothing_early() {
    let found = first_complaint(1..=20, |seed| {
        let record = play(Defect::SkewNotDeclared.plan(seed), Defect::None);
        println!("seed {seed}: {}", Figures::of(&record));
        complaints(&record)
    });
    assert_eq!(found, None);
}

/// Each kind is in some runs of the campaign too, beside everything else.
#[rstest]
#[case::other_limits(|plan: &mut Plan, random: &mut SmallRng| plan.change_limits(random))]
#[case::stamps_of_writers(|plan: &mut Plan, _: &mut SmallRng| plan.stamp_by_writers())]
#[case::other_rates(|plan: &mut Plan, random: &mut SmallRng| plan.drift(random))]
#[case::created_anew(|plan: &mut Plan, random: &mut SmallRng| plan.recreate(random))]
#[case::wall_clocks_that_are_set(|plan: &mut Plan, _: &mut SmallRng| plan.wall_steps = !plan.own_stamps)]
fn what_is_not_as_usual_breaks_nothing(#[case] vary: fn(&mut Plan, &mut SmallRng)) {
    let found = first_complaint(seeds(VARIED_SEEDS), |seed| {
        let mut plan = Plan::draw(seed);
        vary(&mut plan, &mut SmallRng::seed_from_u64(!seed));
        plan.events.sort_by_key(|(when, _)| *when);
        let record = play(plan, Defect::None);
        println!("seed {seed}: {}", Figures::of(&record));
        complaints(&record)
    });
    assert_eq!(found, None);
}

#[rstest]
#[case::calls_stamped_when_they_are_sent(Defect::StampedAtSend, Wrong::Over)]
#[case::an_answer_that_frees_its_slot(Defect::FreedByItsAnswer, Wrong::Over)]
#[case::a_broken_call_taken_for_one_that_never_arrived(Defect::UnknownTakenForNever, Wrong::Over)]
#[case::a_count_of_each_instance(Defect::CountedPerInstance, Wrong::Over)]
#[case::retries_that_do_not_count(Defect::RetryNotCounted, Wrong::Over)]
#[case::a_restart_that_forgets(Defect::ForgottenAtRestart, Wrong::Over)]
#[case::a_replay_without_a_checkpoint(Defect::ReplayedWithoutCheckpoint, Wrong::Over)]
#[case::a_replay_that_begins_too_late(Defect::ReplayedFromTooLate, Wrong::Over)]
#[case::clocks_of_their_own(Defect::OwnClock, Wrong::NotGranted)]
#[case::claims_that_do_not_expire(Defect::ClaimWithoutExpiry, Wrong::Over)]
#[case::calls_that_wait_after_the_last_check(Defect::NoRecheckBeforeTheWrite, Wrong::Over)]
#[case::a_pause_that_is_not_written_down(Defect::FreezeNotJournalled, Wrong::CalledInAPause)]
#[case::claims_that_do_not_say_what_they_ask(Defect::QuestionNotNamed, Wrong::AskedTwiceAtOnce)]
#[case::no_clock_but_the_brokers(Defect::OwnClockForgotten, Wrong::Over)]
#[case::clocks_of_writers_taken_for_one(Defect::SkewNotDeclared, Wrong::Over)]
#[case::a_brokers_clock_that_is_too_fast(Defect::FastBroker, Wrong::Over)]
fn a_planted_defect_is_caught(#[case] defect: Defect, #[case] as_what: Wrong) {
    let found = first_complaint(1..=SEEDS_FOR_A_DEFECT, |seed| {
        let record = play(defect.plan(seed), defect);
        let complaints = complaints(&record);
        println!("seed {seed}: {}, {complaints:?}", Figures::of(&record));
        complaints.into_iter().filter(|(wrong, _)| *wrong == as_what).collect()
    });
    assert!(found.is_some(), "{defect:?} was not caught in {SEEDS_FOR_A_DEFECT} runs");
}

/// The seeds to play.
fn seeds(usually: u64) -> RangeInclusive<u64> {
    let number = |name| env::var(name).ok().map(|text| text.parse().unwrap());
    match number("ALERT_IPS_SEED") {
        Some(seed) => seed..=seed,
        None => 1..=number("ALERT_IPS_SEEDS").unwrap_or(usually),
    }
}

/// Plays seeds on all cores, until one has something to complain of.
fn first_complaint(
    seeds: RangeInclusive<u64>,
    judge: impl Fn(u64) -> Vec<Complaint> + Sync,
) -> Option<(u64, Vec<Complaint>)> {
    let (next, found) = (AtomicU64::new(*seeds.start()), Mutex::new(None));
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let play = || {
        while found.lock().unwrap().is_none() {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed > *seeds.end() {
                return;
            }
            let judged = catch_unwind(AssertUnwindSafe(|| judge(seed)));
            let complaints = judged.unwrap_or_else(|_| vec![(Wrong::Panicked, "see above".to_owned())]);
            if !complaints.is_empty() {
                found.lock().unwrap().get_or_insert((seed, complaints));
            }
        }
    };
    thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(play);
        }
    });
    found.into_inner().unwrap()
}
