//! Simulated hours and days under paused time: the limits as the service counted them, and how much of them was used.

use std::time::Duration;

use alert_ips::{
    domain::alert::Severity,
    sim::{Latency, Mix, Plan},
};
use tokio::{task::JoinSet, time::Instant};

use crate::world::World;

/// A day of more work than the limits allow, over a slow network with a heavy tail.
#[tokio::test(start_paused = true)]
async fn a_saturated_day_keeps_both_limits_and_uses_98_percent() {
    const HOURS: u64 = 24;
    let world = World::new(1, Plan::new(1, Mix::ALL_FOUND), |_, settings| {
        settings.latency = "tail 200ms".parse::<Latency>().unwrap();
    });
    // Work never runs out: 40,000 alerts wait from the start, of which 36,000 can be asked about in a day.
    let mut waiting = Vec::new();
    for n in 0..40_000 {
        let severity = [Severity::Medium, Severity::Low, Severity::Informational][n % 3];
        waiting.push(world.ask(&format!("a{n}"), severity).await);
    }
    tokio::time::sleep(Duration::from_hours(HOURS)).await;
    world.assert_limits_kept();
    let calls = world.sim.counts().calls;
    let used = calls as f64 / (1500.0 * HOURS as f64);
    println!("{calls} calls in {HOURS} h: {:.2} % of 1500 an hour", used * 100.0);
    assert!(used >= 0.98, "only {:.2} % of the hour's calls were used", used * 100.0);
    // From the second hour on nothing of the first burst is left.
    assert!(used <= 1.0 + 100.0 / 1500.0 / HOURS as f64);
}

/// Trouble all day long: 404s, 5xx, time-outs, broken connections, and answers that take up to 8 s.
#[tokio::test(start_paused = true)]
async fn a_troubled_day_keeps_both_limits() {
    for seed in 0..3 {
        let world = World::new(seed, Plan::new(seed, Mix::STORMY), |_, settings| {
            settings.latency = "10ms..8s".parse::<Latency>().unwrap();
        });
        let mut waiting = Vec::new();
        for n in 0..12_000 {
            waiting.push(world.ask(&format!("a{n}"), Severity::ALL[n % 5]).await);
            if n % 1000 == 0 {
                tokio::time::sleep(Duration::from_mins(15)).await;
            }
        }
        tokio::time::sleep(Duration::from_hours(5)).await;
        world.assert_limits_kept();
        let calls = world.sim.counts().calls;
        assert!(calls > 8_000, "only {calls} calls were made");
    }
}

/// 1,100 minor alerts at once, then a High one every few seconds for an hour.
#[tokio::test(start_paused = true)]
async fn high_alerts_pass_a_storm_within_a_second() {
    const CALL: Duration = Duration::from_millis(300);
    let world = World::new(3, Plan::new(3, Mix::ALL_FOUND), |_, settings| {
        settings.latency = Latency::Fixed(CALL);
    });
    let mut minor = Vec::new();
    for n in 0..1_100 {
        minor.push(world.ask(&format!("minor{n}"), [Severity::Low, Severity::Informational][n % 2]).await);
    }
    let mut answers = JoinSet::new();
    for n in 0..110 {
        tokio::time::sleep(Duration::from_secs([1, 3, 20, 40, 60][n % 5])).await;
        let asked = Instant::now();
        let pending = world.ask(&format!("high{n}"), Severity::High).await;
        answers.spawn(async move {
            pending.await.unwrap().unwrap();
            asked.elapsed()
        });
    }
    let mut took = answers.join_all().await;
    took.sort_unstable();
    let p95 = took[took.len() * 95 / 100];
    println!(
        "High in a storm: median {:?}, 95th percentile {p95:?}, longest {:?}",
        took[took.len() / 2],
        took[took.len() - 1]
    );
    world.assert_limits_kept();
    assert!(p95 <= CALL * 2 + Duration::from_secs(1), "the 95th percentile is {p95:?}");
}

/// High alerts that come without end do not starve the others: a tenth of the grants is theirs.
#[tokio::test(start_paused = true)]
async fn others_get_a_tenth_of_the_grants() {
    let world = World::all_found(4);
    let mut high = Vec::new();
    for n in 0..3_000 {
        high.push(world.ask(&format!("high{n}"), Severity::High).await);
    }
    let mut low = JoinSet::new();
    for n in 0..500 {
        low.spawn(world.ask(&format!("low{n}"), Severity::Low).await);
    }
    tokio::time::sleep(Duration::from_hours(1)).await;
    let mut answered = 0;
    while low.try_join_next().is_some() {
        answered += 1;
    }
    assert!((135..=165).contains(&answered), "{answered} of about 1,500 calls went to the others");
}
