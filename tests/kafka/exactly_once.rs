//! `output.delivery = "exactly-once"`: readers of what is committed see each alert once, whatever happens in between.

use std::{thread, time::Duration};

use alert_ips::sim::{Latency, Plan, world::World};
use jiff::Timestamp;

use crate::harness::{Broker, Checker, Config, Daemon, LONG, Service, Topics, eventually};

/// Some alerts that the service refuses to answer for good.
const MIX: &str = "found=840,empty=90,unknown=10,late=30,failing=20,refused=10";

/// A killed member is missed when its session ends.
const SESSION: Duration = Duration::from_secs(6);

pub(super) fn service() -> Service {
    Service::start(&[], |settings| {
        settings.plan = Plan::new(7, MIX.parse().unwrap());
        settings.latency = Latency::Uniform { from: Duration::from_millis(1), to: Duration::from_millis(60) };
    })
}

pub(super) fn seeded(kafka: &Broker, service: &Service, name: &str, messages: usize) -> Checker {
    let topics = Topics::create(&kafka.bootstrap, name);
    let seeded = topics.seed(World::new(3, Timestamp::now()).take(messages).collect::<Vec<_>>());
    Checker::new(topics, service, seeded)
}

pub(super) fn config(topics: &Topics, service: &Service) -> Config {
    config_without_session(topics, service).property("session.timeout.ms", SESSION.as_millis())
}

pub(super) fn config_without_session(topics: &Topics, service: &Service) -> Config {
    Config::new(topics, &service.origin)
        .limits(&["60 per 1s"])
        .set("output.delivery", "exactly-once")
        .set("accounts.contoso.max_in_flight", 32)
        .set("retry.first", "100ms")
}

pub(super) fn published(topics: &Topics) -> usize {
    topics.read(&topics.output).len()
}

pub(super) fn wait_for_more(daemon: &mut Daemon, topics: &Topics, more: usize) {
    let before = published(topics);
    daemon.wait_for("more outputs", LONG, |_| (published(topics) >= before + more).then_some(()));
}

/// What comes after a transaction that a killed process left open is hidden until the brokers end it, after 30 s.
pub(super) fn assert_each_is_there_once(checker: &Checker) {
    let topics = checker.topics();
    let visible = || published(topics) + topics.read(&topics.dead_letters).len();
    eventually("as much is visible as there must be", LONG, || (visible() >= checker.expected_records()).then_some(()));
    checker.assert_exactly_once();
}

#[test]
fn each_alert_is_there_once_after_a_clean_run() {
    let Some(kafka) = Broker::shared() else { return };
    let service = service();
    let checker = seeded(kafka, &service, "once-clean", 1_000);
    let mut daemon = Daemon::start(&config(checker.topics(), &service).limits(&["1000 per 1s"]));
    daemon.finish(checker.topics());
    daemon.stop();
    assert_each_is_there_once(&checker);
    assert_eq!(checker.topics().uncommitted(), 0);
}

#[test]
fn each_alert_is_there_once_after_kill_9_and_sigterm_under_load() {
    let Some(kafka) = Broker::shared() else { return };
    let service = service();
    let checker = seeded(kafka, &service, "once-killed", 2_500);
    let topics = checker.topics();
    let config = config(topics, &service);
    for round in 0..4 {
        let mut daemon = Daemon::start(&config);
        wait_for_more(&mut daemon, topics, 300);
        assert!(topics.uncommitted() > 0, "it ends in the middle");
        if round % 2 == 0 { daemon.kill() } else { daemon.stop() }
    }
    let mut daemon = Daemon::start(&config);
    daemon.finish(topics);
    daemon.stop();
    assert_each_is_there_once(&checker);
}

/// Partitions move to a second instance and back, while both work; the one is stopped cleanly, the other killed.
#[test]
fn each_alert_is_there_once_after_partitions_moved() {
    let Some(kafka) = Broker::shared() else { return };
    let service = service();
    let checker = seeded(kafka, &service, "once-moved", 3_000);
    let topics = checker.topics();
    let config = config(topics, &service);
    let mut first = Daemon::start(&config);
    wait_for_more(&mut first, topics, 200);
    for _ in 0..2 {
        let second = Daemon::start(&config.clone().instance("another"));
        wait_for_more(&mut first, topics, 300);
        second.stop();
        wait_for_more(&mut first, topics, 100);
    }
    let mut second = Daemon::start(&config.instance("another"));
    wait_for_more(&mut second, topics, 300);
    first.kill();
    second.finish(topics);
    second.stop();
    assert_each_is_there_once(&checker);
}

/// Stopped for longer than its session and its transaction may last: what it had in hand is another's now.
#[test]
fn each_alert_is_there_once_after_an_instance_was_stopped_and_went_on() {
    let Some(kafka) = Broker::shared() else { return };
    let service = service();
    let checker = seeded(kafka, &service, "once-stopped", 2_500);
    let topics = checker.topics();
    let config = config(topics, &service);
    let mut first = Daemon::start(&config);
    wait_for_more(&mut first, topics, 200);
    let mut second = Daemon::start(&config.instance("another"));
    wait_for_more(&mut second, topics, 300);
    first.pause();
    // Longer than a transaction may be open.
    thread::sleep(Duration::from_secs(35));
    first.resume();
    second.finish(topics);
    first.stop();
    second.stop();
    assert_each_is_there_once(&checker);
}

#[test]
fn each_alert_is_there_once_after_the_broker_was_away() {
    let Some(kafka) = Broker::own() else { return };
    let service = service();
    let checker = seeded(&kafka, &service, "once-broker", 2_000);
    let topics = checker.topics();
    let mut daemon = Daemon::start(&config(topics, &service));
    for _ in 0..2 {
        wait_for_more(&mut daemon, topics, 300);
        kafka.stop();
        thread::sleep(Duration::from_secs(3));
        kafka.start();
    }
    daemon.finish(topics);
    daemon.stop();
    assert_each_is_there_once(&checker);
}

/// Two processes of one name end each other's transactions. It costs time, and nothing else; and it is told.
#[test]
fn two_instances_of_one_name_repeat_nothing_and_say_what_is_wrong() {
    let Some(kafka) = Broker::shared() else { return };
    let service = service();
    let checker = seeded(kafka, &service, "once-twins", 1_500);
    let topics = checker.topics();
    let config = config(topics, &service);
    let mut first = Daemon::start(&config);
    wait_for_more(&mut first, topics, 100);
    let mut twin = Daemon::start(&config);
    let words = "look for a second instance of the same instance.name";
    twin.wait_for("the clash is told", LONG, |twin| {
        (first.log().contains(words) || twin.log().contains(words)).then_some(())
    });
    twin.stop();
    first.finish(topics);
    first.stop();
    assert_each_is_there_once(&checker);
}
