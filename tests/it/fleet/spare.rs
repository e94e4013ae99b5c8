//! What was sent back from the dead letters gets only calls that nobody else wants, on whichever instance.

use std::time::Duration;

use alert_ips::{
    defender::account::Pending,
    domain::{
        alert::{Alert, AlertId, Severity},
        backlog::Rank,
    },
};
use futures_util::FutureExt as _;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::Fleet;

impl Fleet {
    /// So many alerts that were sent back, on this instance. High ones, which makes no difference.
    async fn send_back(&self, instance: usize, count: usize) -> Vec<Pending> {
        let mut pending = Vec::new();
        for n in 0..count {
            let id = AlertId::parse(&format!("spare{n}")).unwrap();
            let now = self.clock.wall();
            let alert = Alert { id, tenant: None, severity: Severity::High, updated: None, created: Some(now) };
            let account = &self.instances[instance].account;
            let asked = account.ask_until(CancellationToken::new(), alert.into(), Rank::Spare, now).await;
            pending.push(asked.unwrap());
        }
        pending
    }

    fn spare_calls(&self) -> usize {
        self.sim.calls().iter().filter(|call| call.path.contains("/spare")).count()
    }
}

/// How many of these few are answered; they are taken out.
fn answered(pending: &mut Vec<Pending>) -> usize {
    let before = pending.len();
    pending.retain_mut(|pending| pending.now_or_never().is_none());
    before - pending.len()
}

#[tokio::test(start_paused = true)]
async fn while_anybody_wants_calls_what_was_sent_back_gets_none_and_then_all() {
    for seed in 1..=3 {
        let fleet = Fleet::of(2, seed);
        sleep(Duration::from_secs(1)).await;
        let _wanted = fleet.ask_many(0, 600, Severity::Informational).await;
        sleep(Duration::from_secs(1)).await;
        let _sent_back = fleet.send_back(1, 300).await;
        // 600 at the sustained rate of 1,500 an hour.
        sleep(Duration::from_mins(20)).await;
        assert!(fleet.spare_calls() <= 1, "{} calls that others wanted", fleet.spare_calls());
        let status = fleet.status(1);
        assert!((299..=300).contains(&status.spare_waiting) && status.waiting() == 0, "{status:?}");
        // Half of the hour's calls stay free: the rest goes as those of before count no more.
        sleep(Duration::from_mins(70)).await;
        assert_eq!((fleet.spare_calls(), fleet.status(1).spare_waiting), (300, 0));
        fleet.assert_limits_kept();
    }
}

#[tokio::test(start_paused = true)]
async fn after_hours_of_it_half_of_every_window_is_free_for_an_incident() {
    let fleet = Fleet::of(2, 6);
    sleep(Duration::from_secs(1)).await;
    let _sent_back = fleet.send_back(0, 5_000).await;
    sleep(Duration::from_hours(3)).await;
    let spent = fleet.spare_calls();
    assert!((1_800..=2_300).contains(&spent), "{spent}");
    let before = fleet.calls();
    let _incident = fleet.ask_many(1, 600, Severity::High).await;
    sleep(Duration::from_mins(8)).await;
    let high = fleet.calls() - before - (fleet.spare_calls() - spent) as u64;
    assert_eq!(high, 600, "600 calls take six minutes where none were spent before");
    fleet.assert_limits_kept();
}

#[tokio::test(start_paused = true)]
async fn what_comes_in_meanwhile_goes_at_once() {
    let fleet = Fleet::of(2, 4);
    sleep(Duration::from_secs(1)).await;
    let _sent_back = fleet.send_back(0, 2_000).await;
    for round in 0..10 {
        sleep(Duration::from_mins(3)).await;
        let mut pending = Vec::new();
        for n in 0..5 {
            pending.push(fleet.ask(n % 2, &format!("new{round}_{n}"), Severity::Low).await);
        }
        sleep(Duration::from_secs(5)).await;
        assert_eq!(answered(&mut pending), 5, "round {round}");
    }
    assert!(fleet.spare_calls() > 300, "{}", fleet.spare_calls());
    fleet.assert_limits_kept();
}

/// Whoever else asks the same needs not wait like that.
#[tokio::test(start_paused = true)]
async fn an_alert_that_comes_in_takes_what_was_sent_back_with_it() {
    let fleet = Fleet::of(1, 5);
    sleep(Duration::from_secs(1)).await;
    let mut sent_back = fleet.send_back(0, 500).await;
    sleep(Duration::from_secs(1)).await;
    let mut asked = vec![fleet.ask(0, "spare499", Severity::Low).await];
    sleep(Duration::from_secs(5)).await;
    assert_eq!(answered(&mut asked), 1);
    assert!(sent_back.pop().unwrap().now_or_never().is_some());
}
