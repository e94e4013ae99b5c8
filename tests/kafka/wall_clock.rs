//! An administrator, or a time service, sets the clock of the machine.

use std::{collections::HashSet, thread, time::Duration};

use alert_ips::sim::{Mix, Plan};
use rstest::rstest;

use crate::harness::{Broker, Config, Daemon, LONG, Service, Topics, WallClock};

/// By how many seconds the clock is ahead, one after the other: long enough that what waits for a time of day would be noticed.
const AHEAD: [i64; 6] = [1_800, -1_800, 3_000, 0, -60, -3_000];

/// The group takes the partitions from an instance that says nothing for so long.
const SESSION: Duration = Duration::from_secs(6);

/// Nothing else comes to the program while the clock is set, that could wake what waits.
#[rstest]
#[case::at_least_once("at-least-once", "classic")]
#[case::exactly_once("exactly-once", "classic")]
#[case::kip_848("at-least-once", "consumer")]
fn a_clock_that_is_set_back_while_nothing_comes_stops_nothing(#[case] delivery: &str, #[case] protocol: &str) {
    let Some(kafka) = Broker::shared() else { return };
    let service = Service::start(&[], |settings| settings.plan = Plan::new(7, Mix::ALL_FOUND));
    let topics = Topics::create(&kafka.bootstrap, "set-back");
    let folder = tempfile::tempdir().unwrap();
    let clock = WallClock::at(folder.path().join("clock"));
    let mut config = Config::new(&topics, &service.origin).set("output.delivery", delivery).wall_clock(&clock);
    if protocol == "classic" {
        config = config.property("session.timeout.ms", SESSION.as_millis()).property("heartbeat.interval.ms", 1_000);
    } else {
        config = config.property("group.protocol", protocol);
    }
    let mut daemon = Daemon::start(&config);
    daemon.wait_until_ready();
    for hours in 1..=3 {
        clock.set_ahead(-3_600 * hours);
        thread::sleep(SESSION);
    }
    topics.seed_many(30, Duration::ZERO);
    daemon
        .wait_for("all is published", Duration::from_secs(20), |_| (topics.count(&topics.output) >= 30).then_some(()));
    daemon.finish(&topics);
    assert_eq!(daemon.log().matches("partitions to be given up").count(), 0, "the group knows it is there");
    assert_is_set(&daemon);
    daemon.stop();
}

/// Else nothing is shown.
fn assert_is_set(daemon: &Daemon) {
    assert!(daemon.log().contains(WallClock::NOTICED), "its clock is the machine's");
}

/// Brokers take records of the next hour, unless told otherwise.
#[rstest]
#[case::at_least_once("at-least-once")]
#[case::exactly_once("exactly-once")]
fn with_a_clock_that_the_brokers_refuse_it_says_so_and_goes_on_once_it_is_set(#[case] delivery: &str) {
    let Some(kafka) = Broker::shared() else { return };
    let service = Service::start(&[], |settings| settings.plan = Plan::new(7, Mix::ALL_FOUND));
    let topics = Topics::create(&kafka.bootstrap, "far-ahead");
    topics.configure(&topics.output, &[("message.timestamp.type", "CreateTime")]);
    let folder = tempfile::tempdir().unwrap();
    let clock = WallClock::at(folder.path().join("clock"));
    clock.set_ahead(2 * 3_600);
    let config = Config::new(&topics, &service.origin).set("output.delivery", delivery).wall_clock(&clock);
    let mut daemon = Daemon::start(&config);
    topics.seed_many(30, Duration::ZERO);
    daemon.wait_for_words("kafka refuses the time of what is written");
    assert_eq!(topics.read(&topics.output), []);
    clock.set_ahead(0);
    daemon.finish(&topics);
    daemon.wait_until_ready();
    assert_eq!(topics.read(&topics.output).len(), 30);
    daemon.stop();
}

#[rstest]
#[case::at_least_once("at-least-once")]
#[case::exactly_once("exactly-once")]
fn a_clock_that_is_set_forward_and_back_costs_nothing(#[case] delivery: &str) {
    let Some(kafka) = Broker::shared() else { return };
    let limits = ["20 per 1s"];
    let service = Service::start(&limits, |settings| settings.plan = Plan::new(7, Mix::ALL_FOUND));
    let topics = Topics::create(&kafka.bootstrap, "wall-clock");
    let folder = tempfile::tempdir().unwrap();
    let clock = WallClock::at(folder.path().join("clock"));
    let config = Config::new(&topics, &service.origin).limits(&limits).set("output.delivery", delivery);
    let mut daemon = Daemon::start(&config.wall_clock(&clock));
    daemon.wait_until_ready();
    thread::scope(|scope| {
        scope.spawn(|| topics.seed_many(60, Duration::from_millis(300)));
        for ahead in AHEAD {
            thread::sleep(Duration::from_secs(3));
            clock.set_ahead(ahead);
        }
    });
    daemon.wait_for("all is published", LONG, |_| (topics.count(&topics.output) >= 60).then_some(()));
    daemon.finish(&topics);
    assert_is_set(&daemon);
    daemon.stop();
    service.assert_no_violation();
    assert_eq!(service.sim.calls().len(), 60, "each is asked about once");
    let keys: Vec<_> = topics.read(&topics.output).into_iter().map(|record| record.key.unwrap()).collect();
    assert_eq!((keys.len(), HashSet::<_>::from_iter(&keys).len()), (60, 60));
}
