//! Every alert is accounted for: after a clean run, after `kill -9`, and after being asked to stop under load.

use std::{thread, time::Duration};

use alert_ips::sim::{
    Latency, Plan,
    world::{Message, World},
};
use jiff::Timestamp;

use crate::harness::{Broker, Checker, Config, Daemon, LONG, Service, Topics};

/// A good day with some alerts that the service refuses to answer for good.
const MIX: &str = "found=840,empty=90,unknown=10,late=30,failing=20,refused=10";

fn world(messages: usize) -> Vec<Message> {
    World::new(3, Timestamp::now()).take(messages).collect()
}

#[test]
fn every_alert_is_published_or_a_dead_letter_exactly_once_and_the_limits_hold() {
    let Some(kafka) = Broker::shared() else { return };
    let limits = ["200 per 1s", "1500 per 10s"];
    let service = Service::start(&limits, |settings| {
        settings.plan = Plan::new(7, MIX.parse().unwrap());
        settings.latency = Latency::Uniform { from: Duration::from_millis(1), to: Duration::from_millis(60) };
    });
    let topics = Topics::create(&kafka.bootstrap, "exactly-once");
    let seeded = topics.seed(world(2_000));
    let checker = Checker::new(topics, &service, seeded);
    let config =
        Config::new(checker.topics(), &service.origin).limits(&limits).set("accounts.contoso.max_in_flight", 32);

    let mut daemon = Daemon::start(&config);
    daemon.finish(checker.topics());
    daemon.stop();

    checker.assert_exactly_once();
    assert_eq!(checker.topics().uncommitted(), 0);
    service.assert_no_violation();
    for window in service.sim.windows() {
        assert!(!window.was_exceeded(), "{window:?}");
        // Else the limits were never put to the test.
        assert!(window.worst * 2 > window.limit.calls.get() as usize, "{window:?}");
    }
}

#[test]
fn nothing_is_lost_by_kill_9_and_what_is_repeated_can_be_told_apart() {
    let Some(kafka) = Broker::shared() else { return };
    let service = Service::start(&[], |settings| settings.plan = Plan::new(7, MIX.parse().unwrap()));
    let topics = Topics::create(&kafka.bootstrap, "kill");
    let seeded = topics.seed(world(2_000));
    let checker = Checker::new(topics, &service, seeded);
    let topics = checker.topics();
    // A killed member is missed only when its session ends.
    let config = Config::new(topics, &service.origin)
        .limits(&["300 per 1s"])
        .property("session.timeout.ms", 6_000)
        .set("retry.first", "100ms");

    let mut published = 0;
    for _ in 0..2 {
        let mut daemon = Daemon::start(&config);
        daemon.wait_for("500 more outputs", LONG, |_| (topics.count(&topics.output) >= published + 500).then_some(()));
        daemon.kill();
        published = topics.count(&topics.output);
        assert!(topics.uncommitted() > 0, "it was killed in the middle");
    }
    let mut daemon = Daemon::start(&config);
    daemon.finish(topics);
    daemon.stop();

    let published = checker.assert_at_least_once();
    assert_eq!(published.outputs + published.dead_letters, checker.expected_records() + published.repeated);
}

#[test]
fn sigterm_with_calls_on_the_wire_and_a_backlog_ends_within_30_s_and_neither_loses_nor_repeats() {
    let Some(kafka) = Broker::shared() else { return };
    let limits = ["60 per 1s"];
    let service = Service::start(&limits, |settings| {
        settings.plan = Plan::new(7, MIX.parse().unwrap());
        settings.latency = Latency::Fixed(Duration::from_millis(500));
    });
    let topics = Topics::create(&kafka.bootstrap, "sigterm");
    let seeded = topics.seed(world(600));
    let checker = Checker::new(topics, &service, seeded);
    let topics = checker.topics();
    let config = Config::new(topics, &service.origin).limits(&limits).set("accounts.contoso.max_in_flight", 15);

    let mut daemon = Daemon::start(&config);
    daemon.wait_for("calls on the wire and a backlog", LONG, |daemon| {
        let is_under_load = topics.count(&topics.output) > 50
            && daemon.metric("alert_ips_calls_in_flight")? >= 5.0
            && daemon.metric("alert_ips_backlog")? >= 100.0;
        is_under_load.then_some(())
    });
    daemon.stop();
    let open = topics.uncommitted();
    assert!(open > 0, "a backlog was left");
    service.assert_no_violation();

    service.sim.switch(|switches| switches.latency = Latency::None);
    let mut daemon = Daemon::start(&config.limits(&["1000 per 1s"]));
    daemon.finish(topics);
    daemon.stop();
    checker.assert_exactly_once();
}

#[test]
fn a_second_sigterm_stops_at_once() {
    let Some(kafka) = Broker::shared() else { return };
    let service = Service::start(&[], |settings| {
        settings.plan = Plan::new(7, MIX.parse().unwrap());
        settings.latency = Latency::Fixed(Duration::from_secs(16));
    });
    let topics = Topics::create(&kafka.bootstrap, "second-sigterm");
    topics.seed(world(50));
    let mut daemon = Daemon::start(&Config::new(&topics, &service.origin).set("http.head_timeout", "20s"));
    daemon.wait_for("calls are on the wire", LONG, |daemon| {
        (daemon.metric("alert_ips_calls_in_flight")? >= 1.0).then_some(())
    });
    daemon.terminate();
    thread::sleep(Duration::from_secs(1));
    daemon.assert_running();
    daemon.terminate();
    let status = daemon.exited(Duration::from_secs(3));
    assert_eq!(status.code(), Some(0), "{status}");
}
