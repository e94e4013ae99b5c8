//! One budget, one question once, one freeze.

use std::time::Duration;

use alert_ips::{
    domain::{alert::Severity, terms::Terms},
    sim::{Answer, Mix, Plan},
};
use futures_util::FutureExt as _;
use tokio::time::sleep;

use super::{Fleet, terms};

#[tokio::test(start_paused = true)]
async fn three_instances_keep_one_budget_and_use_it() {
    for seed in 1..=3 {
        let fleet = Fleet::of(3, seed);
        let mut pending = Vec::new();
        for n in 0..2_400 {
            // The third instance has nothing to do: its part goes to the others.
            pending.push(fleet.ask(n % 2, &format!("a{n}"), Severity::Low).await);
        }
        sleep(Duration::from_hours(1)).await;
        fleet.assert_limits_kept();
        let calls = fleet.sim.counts().calls;
        assert!(calls >= 1_470, "{calls} of 1,500 calls in the first hour");
        let entries = fleet.topic.entries().len() as u64;
        assert!(entries * 2 <= calls * 5, "{entries} entries for {calls} calls");
    }
}

#[tokio::test(start_paused = true)]
async fn the_part_of_idle_instances_goes_to_the_busy_one() {
    for seed in 1..=3 {
        let fleet = Fleet::of(3, seed);
        let _pending = fleet.ask_many(0, 3_200, Severity::Low).await;
        for hour in 1..=2 {
            let before = fleet.calls();
            sleep(Duration::from_hours(1)).await;
            let calls = fleet.calls() - before;
            assert!(calls >= 1_470, "{calls} of 1,500 calls in hour {hour}");
        }
        fleet.assert_limits_kept();
    }
}

#[tokio::test(start_paused = true)]
async fn two_instances_ask_the_same_question_once() {
    let fleet = Fleet::of(2, 7);
    sleep(Duration::from_secs(1)).await;
    let mut pending = Vec::new();
    for n in 0..20 {
        for instance in 0..2 {
            pending.push(fleet.ask(instance, &format!("a{n}"), Severity::High).await);
        }
    }
    for pending in pending {
        pending.await.unwrap().unwrap();
    }
    assert_eq!(fleet.sim.counts().calls, 20);
    // And later, from what both know.
    fleet.ask(0, "a3", Severity::High).await.await.unwrap().unwrap();
    assert_eq!(fleet.sim.counts().calls, 20);
}

#[tokio::test(start_paused = true)]
async fn a_freeze_seen_by_one_stops_all() {
    let fleet = Fleet::of(3, 5);
    sleep(Duration::from_secs(1)).await;
    let until = fleet.clock.boot() + Duration::from_mins(1);
    fleet.sim.switch(|switches| switches.frozen_until = Some(until));
    let first = fleet.ask(0, "first", Severity::High).await;
    sleep(Duration::from_secs(1)).await;
    assert_eq!(fleet.sim.counts().calls, 1);
    let others = [fleet.ask(1, "second", Severity::High).await, fleet.ask(2, "third", Severity::High).await];
    sleep(Duration::from_secs(50)).await;
    assert_eq!(fleet.sim.counts().calls, 1, "nobody asks while the service asks for a pause");
    for pending in others.into_iter().chain([first]) {
        pending.await.unwrap().unwrap();
    }
    assert!(fleet.clock.boot() >= until);
}

#[tokio::test(start_paused = true)]
async fn a_question_that_fails_on_two_instances_holds_up_nobody() {
    let fleet = Fleet::answered(2, 3, Plan::new(3, Mix::ALL_FOUND).script("bad", vec![Answer::status(500)]));
    sleep(Duration::from_secs(1)).await;
    // The oldest and most severe, on both.
    let _bad = [fleet.ask(0, "bad", Severity::High).await, fleet.ask(1, "bad", Severity::High).await];
    let mut others = Vec::new();
    for n in 0..10 {
        others.push(fleet.ask(n % 2, &format!("other{n}"), Severity::High).await);
    }
    let asked = fleet.clock.boot();
    for other in others {
        other.await.unwrap().unwrap();
    }
    let took = fleet.clock.boot().saturating_since(asked);
    assert!(took <= Duration::from_mins(1), "{took:?}");
    sleep(Duration::from_mins(1)).await;
    let calls = fleet.sim.counts().calls;
    assert!(calls <= 10 + 30, "{calls} calls: the failing question is asked without its backoff");
}

#[tokio::test(start_paused = true)]
async fn minor_alerts_of_one_instance_get_their_tenth_beside_the_others_high_ones() {
    let fleet = Fleet::of(2, 9);
    sleep(Duration::from_secs(1)).await;
    let (mut high, mut low) = (Vec::new(), Vec::new());
    for n in 0..2_000 {
        high.push(fleet.ask(0, &format!("high{n}"), Severity::High).await);
        low.push(fleet.ask(1, &format!("low{n}"), Severity::Low).await);
    }
    sleep(Duration::from_mins(30)).await;
    fleet.assert_limits_kept();
    let answered = low.into_iter().filter_map(|mut pending| (&mut pending).now_or_never()).count();
    let calls = fleet.sim.counts().calls;
    assert!(answered as u64 * 20 >= calls, "{answered} of {calls} calls");
}

#[tokio::test(start_paused = true)]
async fn smaller_limits_of_one_instance_hold_for_all_from_when_it_declares_them() {
    let fleet = Fleet::of(2, 1);
    let mut pending = Vec::new();
    for n in 0..1_200 {
        pending.push(fleet.ask(n % 2, &format!("a{n}"), Severity::High).await);
    }
    sleep(Duration::from_mins(5)).await;
    let limits = vec!["20 per 1m".parse().unwrap()];
    fleet.instances[0].account.hold_to(Terms { limits, ..terms() });
    // What is on its way is made, and what was granted leaves the windows.
    sleep(Duration::from_mins(2)).await;
    let before = fleet.calls();
    sleep(Duration::from_mins(10)).await;
    let calls = fleet.calls() - before;
    assert!((100..=200).contains(&calls), "{calls} calls in ten minutes, with 20 a minute");
    fleet.assert_limits_kept();
}
