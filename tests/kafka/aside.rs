//! Several tenants share one read window, and one of them may not call.

use std::{thread, time::Duration};

use alert_ips::{
    clock::Clock,
    domain::alert::Severity,
    sim::{Mix, Plan, world::TENANT},
};
use rstest::rstest;

use crate::{
    fleet::{
        accounts::{OTHER_CLIENT, OTHER_TENANT},
        alerts_of,
    },
    harness::{Broker, Checker, Config, Daemon, LONG, Service, Topics},
};

/// Of the one that may not call, and of the other: far more, and fewer, than are open at the same time.
const REFUSED: usize = 3_600;
const ANSWERED: usize = 400;
const MAX_OPEN: usize = 900;

/// Until what was settled is committed: that is done every second.
const COMMITTED: Duration = Duration::from_secs(3);

/// For so long the one may not call: until the other's alerts are answered, a kill and a start.
const FROZEN: Duration = Duration::from_mins(1);

#[rstest]
#[case::exactly_once("exactly-once", &[("session.timeout.ms", "6000")], Daemon::kill)]
#[case::eager("at-least-once", &[("session.timeout.ms", "6000"), ("partition.assignment.strategy", "range")], Daemon::kill)]
// After a kill its partitions would move only with the brokers' own session timeout.
#[case::kip_848("at-least-once", &[("group.protocol", "consumer")], Daemon::stop)]
fn a_tenant_that_may_not_call_does_not_stop_the_reading_for_the_others(
    #[case] delivery: &str,
    #[case] group: &[(&str, &str)],
    #[case] end: fn(Daemon),
) {
    let Some(kafka) = Broker::shared() else { return };
    let service = || Service::start(&[], |settings| settings.plan = Plan::new(7, Mix::ALL_FOUND));
    let (refused, answered) = (service(), service());
    let until = Clock::machine().boot() + FROZEN;
    refused.sim.switch(|switches| switches.frozen_until = Some(until));
    let topics = Topics::create(&kafka.bootstrap, "aside");
    let (mut many, few) = (
        alerts_of(Severity::Medium, 17, TENANT, REFUSED).into_iter(),
        alerts_of(Severity::Medium, 18, OTHER_TENANT, ANSWERED),
    );
    let each = REFUSED / ANSWERED;
    topics.seed(few.into_iter().flat_map(|one| many.by_ref().take(each).chain([one]).collect::<Vec<_>>()).collect());
    let config = Config::new(&topics, &refused.origin)
        .account("fabrikam", OTHER_TENANT, OTHER_CLIENT, &answered.origin)
        .limits(&["1000 per 1s"])
        .set("accounts.fabrikam.limits", "1000 per 1s")
        .set("input.max_open_records", MAX_OPEN)
        .set("output.delivery", delivery);
    let config = group.iter().fold(config, |config, (key, value)| config.property(key, value));
    let mut first = Daemon::start(&config);
    first
        .wait_for("all outputs of the one that may call", LONG, |_| (answered.sim.counts().calls >= 400).then_some(()));
    let is_frozen = || Clock::machine().boot() < until;
    assert!(is_frozen(), "they waited for the one that may not");
    thread::sleep(COMMITTED);
    let aside = first.metric("alert_ips_records_set_aside").unwrap();
    assert!(aside >= (REFUSED - MAX_OPEN) as f64, "{aside} records are set aside");
    end(first);
    let mut second = Daemon::start(&config);
    second.wait_until_ready();
    assert!(is_frozen(), "that took too long for this test to show anything");
    second.finish(&topics);
    eprintln!("all is answered {:?} after the one may call again", Clock::machine().boot().saturating_since(until));
    second.wait_for("nothing is set aside", LONG, |second| {
        (second.metric("alert_ips_records_set_aside")? == 0.0).then_some(())
    });
    second.stop();

    let published = Checker::published(&topics);
    assert_eq!(published.len(), REFUSED + ANSWERED, "all that was set aside comes");
    assert!(published.values().all(|times| *times == 1), "and once");
    assert_eq!(answered.sim.counts().calls, ANSWERED as u64, "nothing was asked twice");
}
