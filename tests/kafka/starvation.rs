//! Far more alerts than permits, for far longer than a group waits for a member that does not poll.

use std::{thread, time::Duration};

use alert_ips::sim::{Mix, Plan};

use crate::harness::{Broker, Config, Daemon, LONG, Service, Topics};

/// Records on their way when reading was paused: the batch of 256 that filled the window, eight between the source and the
/// dispatcher, and one in the source's hand.
const ON_THEIR_WAY: f64 = 2_560.0;

#[test]
fn starvation_beyond_the_poll_interval_costs_no_assignment_and_reads_no_further_than_the_window() {
    let Some(kafka) = Broker::shared() else { return };
    let limits = ["8 per 10s"];
    let service = Service::start(&limits, |settings| settings.plan = Plan::new(7, Mix::ALL_FOUND));
    let topics = Topics::create(&kafka.bootstrap, "starvation");
    topics.seed_many(10_000, Duration::ZERO);
    let config = Config::new(&topics, &service.origin)
        .limits(&limits)
        .set("input.max_open_records", 500)
        .property("session.timeout.ms", 6_000)
        .property("max.poll.interval.ms", 6_000);
    let mut daemon = Daemon::start(&config);
    daemon.wait_for("the first outputs", LONG, |_| (topics.count(&topics.output) >= 2).then_some(()));
    // Three times the poll interval.
    thread::sleep(Duration::from_secs(18));
    daemon.assert_running();
    let consumed = daemon.metric("alert_ips_records_consumed_total").unwrap();
    assert!((500.0..=500.0 + ON_THEIR_WAY).contains(&consumed), "{consumed} records are open");
    daemon.wait_until_ready();
    let log = daemon.log();
    assert_eq!(
        (log.matches("partitions assigned").count(), log.matches("partitions to be given up").count()),
        (1, 0),
        "{log}"
    );
    daemon.stop();
    service.assert_no_violation();
}

#[test]
fn a_million_waiting_alerts_fit_into_128_mib() {
    let Some(kafka) = Broker::shared() else { return };
    let limits = ["100 per 1m", "1500 per 1h"];
    let service = Service::start(&limits, |settings| settings.plan = Plan::new(7, Mix::ALL_FOUND));
    let topics = Topics::create(&kafka.bootstrap, "million");
    topics.seed_many(1_000_000, Duration::ZERO);
    let mut daemon = Daemon::start(&Config::new(&topics, &service.origin).limits(&limits));
    // The read window is full, and stays so.
    daemon.wait_for("the read window is full", LONG, |daemon| {
        (daemon.metric("alert_ips_records_consumed_total")? >= 10_000.0).then_some(())
    });
    thread::sleep(Duration::from_secs(10));
    daemon.assert_running();
    let peak = daemon.peak_kib();
    assert!(peak <= 128 * 1024, "{} MiB at the peak", peak / 1024);
    daemon.stop();
    service.assert_no_violation();
}
