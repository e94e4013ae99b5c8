//! What outlives an instance: the pace, checkpoints, slots that were given up, and what is carried into another log.

use std::time::Duration;

use alert_ips::domain::{alert::Severity, journal::Body};
use rstest::rstest;
use tokio::time::sleep;

use super::{Begin, Fleet, Other, a_moment, terms};

#[rstest]
#[case::from_the_oldest_entry(Begin::Oldest)]
#[case::from_the_newest_checkpoint(Begin::NewestCheckpoint)]
#[tokio::test(start_paused = true)]
async fn a_restart_brings_no_second_burst(#[case] begin: Begin) {
    let mut fleet = Fleet::of(1, 21);
    a_moment().await;
    let _before = fleet.ask_many(0, 100, Severity::Low).await;
    sleep(Duration::from_secs(70)).await;
    let before = fleet.calls();
    let burst = u64::from(terms().pace().burst);
    assert!(before > burst, "{before} calls: the burst, and some at the pace that the hour sustains");

    fleet.kill(0);
    let anew = fleet.start(begin);
    a_moment().await;
    let _after = fleet.ask_many(anew, 100, Severity::Low).await;
    let lasts = terms().pace().every * 10;
    sleep(lasts).await;
    let calls = fleet.calls() - before;
    assert!((8..=12).contains(&calls), "{calls} calls in {lasts:?}, in which 10 have their turn");
}

/// What is read of the journal at the start is as old as it is, although nothing newer says how late it is now.
#[rstest]
#[case::from_the_oldest_entry(Begin::Oldest)]
#[case::from_the_newest_checkpoint(Begin::NewestCheckpoint)]
#[tokio::test(start_paused = true)]
async fn after_a_long_time_without_any_instance_calls_begin_at_once(#[case] begin: Begin) {
    let mut fleet = Fleet::of(1, 23);
    a_moment().await;
    let _before = fleet.ask_many(0, 1_500, Severity::High).await;
    sleep(Duration::from_mins(30)).await;
    let hour = u64::from(terms().usable(&terms().limits[1]).0);
    assert_eq!(fleet.calls(), hour, "the hour is spent");
    fleet.kill(0);
    sleep(Duration::from_mins(61)).await;
    let anew = fleet.start(begin);
    a_moment().await;
    let _after = fleet.ask_many(anew, 50, Severity::High).await;
    sleep(Duration::from_secs(5)).await;
    assert_eq!(fleet.calls(), hour + 50);
    fleet.assert_limits_kept();
}

#[tokio::test(start_paused = true)]
async fn a_checkpoint_is_written_every_minute_by_one_of_all_while_there_is_traffic() {
    let mut fleet = Fleet::of(1, 31);
    for _ in 1..3 {
        // Each looks after it twice a second, and not all at the same moments.
        sleep(Duration::from_millis(170)).await;
        fleet.start(Begin::Oldest);
    }
    a_moment().await;
    for n in 0..120 {
        fleet.ask(n % 3, &format!("a{n}"), Severity::High).await.await.unwrap().unwrap();
        sleep(Duration::from_secs(5)).await;
    }
    let quiet = fleet.clock.boot().since_origin();
    let written = fleet.topic.checkpoints();
    assert!(written.iter().all(|(_, offset)| offset.is_some()), "{written:?}");
    let gaps: Vec<_> = written.windows(2).map(|pair| (pair[1].0 - pair[0].0).as_secs()).collect();
    assert!(gaps.len() >= 8 && gaps.iter().all(|gap| (60..=66).contains(gap)), "{gaps:?}");

    // Before half of what is remembered has passed, nobody has anything to say.
    sleep(terms().memory() / 2 - quiet - Duration::from_mins(1)).await;
    let more = fleet.topic.checkpoints().split_off(written.len());
    assert!(more.len() == 1 && more[0].0 < quiet + Duration::from_secs(66), "{more:?} since {quiet:?}");
}

#[tokio::test(start_paused = true)]
async fn an_answer_after_its_slot_was_given_up_takes_one_again_with_every_reader() {
    let mut fleet = Fleet::of(1, 41);
    let mut other = Other::of(&fleet);
    a_moment().await;
    other.write(Body::Terms(terms()));
    let claim = other.claims("slow");
    // It is given up, and a minute more has passed.
    sleep(Duration::from_mins(2)).await;
    fleet.ask(0, "a", Severity::High).await.await.unwrap().unwrap();
    let checkpoint_at = fleet.clock.boot().since_origin();
    sleep(Duration::from_secs(70)).await;
    let checkpoints = fleet.topic.checkpoints();
    assert!(checkpoints.last().unwrap().0 >= checkpoint_at, "{checkpoints:?}");
    fleet.start(Begin::NewestCheckpoint);
    a_moment().await;
    assert_eq!(used(&fleet), [[0, 2]; 2], "the other's call holds its slot of the hour, as does our own");

    other.answers(claim, "slow");
    a_moment().await;
    fleet.start(Begin::NewestCheckpoint);
    fleet.start(Begin::Oldest);
    a_moment().await;
    assert_eq!(used(&fleet), [[1, 3]; 4], "it was counted after all, now at the latest");
    sleep(terms().hold(&terms().limits[0])).await;
    assert_eq!(used(&fleet), [[0, 3]; 4]);
}

/// Slots taken of the minute and of the hour, as each instance says.
fn used(fleet: &Fleet) -> Vec<[u32; 2]> {
    let used = |instance| {
        let windows = fleet.status(instance).windows;
        [windows[0].used, windows[1].used]
    };
    (0..fleet.instances.len()).map(used).collect()
}

/// A running instance would know by its own clock what was spent: whether the log does too shows one that starts then.
#[tokio::test(start_paused = true)]
async fn a_journal_created_anew_is_told_what_was_spent_before_anybody_calls() {
    let mut fleet = Fleet::of(2, 51);
    a_moment().await;
    let (minute, began) = (terms().limits[0], fleet.clock.boot());
    let _pending = [fleet.ask_many(0, 100, Severity::High).await, fleet.ask_many(1, 100, Severity::High).await];
    sleep(Duration::from_secs(10)).await;
    let spent = fleet.calls();
    assert_eq!(spent, u64::from(terms().usable(&minute).0));

    fleet.topic.recreate();
    a_moment().await;
    let carried: Vec<_> = fleet.topic.checkpoints().into_iter().map(|(_, offset)| offset).collect();
    assert!(carried.len() >= 2 && carried[..2] == [None, None], "each writes down what it knows: {carried:?}");
    let later = fleet.start(Begin::Oldest);
    a_moment().await;
    let _later = fleet.ask_many(later, 100, Severity::High).await;
    // Long after the others had time to write down theirs, and within the minute.
    sleep(Duration::from_secs(58) - fleet.clock.boot().saturating_since(began)).await;
    assert_eq!(fleet.calls(), spent);
    sleep(Duration::from_secs(10)).await;
    assert!(fleet.calls() > spent, "calls go on when the minute is over");
    sleep(Duration::from_mins(10)).await;
    fleet.assert_limits_kept();
}

/// Else it would be called as if nothing had been: what is called before it is there would count as part of it.
#[tokio::test(start_paused = true)]
async fn nothing_is_called_before_what_is_carried_over_has_come_back() {
    let fleet = Fleet::of(1, 53);
    a_moment().await;
    fleet.topic.lose(|body| matches!(body, Body::Checkpoint(known) if known.offset.is_none()));
    fleet.topic.recreate();
    a_moment().await;
    let _pending = fleet.ask(0, "a", Severity::High).await;
    sleep(Duration::from_secs(15)).await;
    let log = fleet.topic.entries();
    let first = log.first().map(|stamped| &stamped.entry.body);
    assert!(matches!(first, Some(Body::Checkpoint(known)) if known.offset.is_none()), "{first:?}");
    assert_eq!(fleet.calls(), 0, "the others have time to write down what they know");
    sleep(Duration::from_secs(15)).await;
    assert_eq!(fleet.calls(), 1);
}
