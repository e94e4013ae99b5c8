//! What instances do where the journal shows that another rules otherwise than they do.

use std::time::Duration;

use alert_ips::{domain::alert::Severity, observe::health::Condition};
use futures_util::FutureExt as _;
use rstest::rstest;
use tokio::time::sleep;

use super::{Begin, Fleet, Other, a_moment, terms};

/// One that starts later learns of it too, also from a checkpoint between the refusal and the answer.
#[rstest]
#[case::from_the_oldest_entry(Begin::Oldest)]
#[case::from_the_newest_checkpoint(Begin::NewestCheckpoint)]
#[tokio::test(start_paused = true)]
async fn a_call_on_a_refused_claim_stops_all_until_nothing_of_it_counts(#[case] begin: Begin) {
    let mut fleet = Fleet::of(1, 11);
    let mut other = Other::of(&fleet);
    sleep(Duration::from_secs(59)).await;
    // Without terms it is refused, and called all the same.
    let claim = other.claims("elsewhere");
    fleet.ask(0, "before", Severity::High).await.await.unwrap().unwrap();
    sleep(Duration::from_secs(20)).await;
    let checkpoints = fleet.topic.checkpoints();
    assert!(checkpoints.last().unwrap().0 > Duration::from_secs(59), "{checkpoints:?}");
    other.answers(claim, "elsewhere");
    a_moment().await;
    let later = fleet.start(begin);
    a_moment().await;

    let waiting = [fleet.ask(0, "after", Severity::High).await, fleet.ask(later, "later", Severity::High).await];
    sleep(terms().memory() - Duration::from_mins(1)).await;
    assert_eq!(fleet.calls(), 1, "the call of the other may still count");
    for instance in [0, later] {
        let why = fleet.status(instance).paused.expect("it is told").why;
        let words = format!("the journal holds an answer to claim {claim}, which was refused");
        assert!(why.starts_with(&words) && why.ends_with("all instances run the same version"), "{why}");
        assert_eq!(fleet.condition(instance), Condition::Waiting(why));
    }
    assert_eq!(fleet.topic.checkpoints(), checkpoints, "who began with one would know nothing of it");

    sleep(Duration::from_mins(1)).await;
    for pending in waiting {
        pending.now_or_never().expect("calls go on").unwrap().unwrap();
    }
    a_moment().await;
    for instance in [0, later] {
        assert_eq!((fleet.status(instance).paused, fleet.condition(instance)), (None, Condition::Ok));
    }
}

/// Neither who raised it nor who starts then calls before its time.
#[tokio::test(start_paused = true)]
async fn a_doubt_outlives_the_journal_that_raised_it() {
    let mut fleet = Fleet::of(1, 12);
    let mut other = Other::of(&fleet);
    a_moment().await;
    let claim = other.claims("elsewhere");
    other.answers(claim, "elsewhere");
    a_moment().await;
    fleet.topic.recreate();
    a_moment().await;
    let later = fleet.start(Begin::Oldest);
    let _waiting = [fleet.ask(0, "after", Severity::High).await, fleet.ask(later, "later", Severity::High).await];
    sleep(terms().memory() - Duration::from_mins(1)).await;
    assert_eq!(fleet.calls(), 0, "the call of the other may still count");
    sleep(Duration::from_mins(2)).await;
    assert_eq!(fleet.calls(), 2);
}
