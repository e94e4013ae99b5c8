//! Brokers that are lost, too few, full, or stand still.

use std::{thread, time::Duration};

use rstest::rstest;

use super::{BOTH, alerts, assert_delivered, assert_goes_on, config, ids, service, wait_for_some};
use crate::harness::{Broker, Daemon, LONG, Node, Topics};

/// Two brokers that both have the input, the output and the dead letters, with such settings; the second leads.
fn two_brokers(kafka: &Broker, settings: &[(&str, &str)]) -> (Topics, Node) {
    let topics = Topics::create(&kafka.bootstrap, "two");
    // Kafka's own topics come to be where the only broker is.
    assert_eq!(topics.uncommitted(), 0);
    topics.begin_transactions();
    let second = Node::second(kafka);
    for name in [&topics.input, &topics.output, &topics.dead_letters] {
        topics.delete(name);
        topics.make_on(&[2, 1], name, settings);
    }
    (topics, second)
}

#[rstest]
#[case::at_least_once(BOTH[0])]
#[case::exactly_once(BOTH[1])]
fn a_leader_that_is_killed_costs_nothing(#[case] delivery: &str) {
    let Some(kafka) = Broker::own() else { return };
    let service = service();
    let (topics, mut second) = two_brokers(&kafka, &[]);
    let (first, more) = (alerts(1, 150), alerts(2, 50));
    let all = [ids(&first), ids(&more)].concat();
    topics.seed(first);
    let mut daemon = Daemon::start(&config(&topics, &service, delivery).limits(&["100 per 1s"]));
    wait_for_some(&mut daemon, &topics);
    second.stop();
    topics.wait_until_led_by(1);
    topics.seed_in(0, &more);
    assert_goes_on(daemon, &topics, &all, delivery);
}

/// Three partitions are on a broker that is away when the daemon begins, and a fourth is not.
#[rstest]
#[case::at_least_once(BOTH[0])]
#[case::exactly_once(BOTH[1])]
fn input_partitions_without_a_leader_are_waited_for_while_the_others_are_read(#[case] delivery: &str) {
    let Some(kafka) = Broker::own() else { return };
    let service = service();
    let topics = Topics::create(&kafka.bootstrap, "leaderless");
    assert_eq!(topics.uncommitted(), 0);
    topics.begin_transactions();
    let mut second = Node::second(&kafka);
    topics.delete(&topics.input);
    topics.make_on(&[2], &topics.input, &[]);
    let (away, there) = (alerts(1, 50), alerts(2, 50));
    let all = [ids(&away), ids(&there)].concat();
    topics.seed(away);
    second.stop();
    topics.wait_until_is_led_by(&topics.input, -1);
    topics.grow(&topics.input, 4);
    topics.seed_in(3, &there);
    let mut daemon = Daemon::start(&config(&topics, &service, delivery));
    let told = daemon.wait_for_log("no broker leads it", LONG);
    assert!(told.contains(&format!("{0}/0, {0}/1, {0}/2 (no", topics.input)), "{told}");
    assert_delivered(&mut daemon, &topics, &ids(&there), delivery);
    thread::sleep(Duration::from_secs(10));
    assert_eq!(daemon.log().matches("no broker leads it").count(), 1);
    assert!(!daemon.log().contains("partitions to be given up"));
    second.start();
    assert_goes_on(daemon, &topics, &all, delivery);
}

/// What a service that only speaks Kafka's protocol may do with more metadata than it takes.
#[test]
fn commits_that_are_refused_are_told_until_one_is_taken() {
    let Some(kafka) = Broker::shared() else { return };
    let service = service();
    let mut node = Node::with_rights(kafka);
    node.set("offset.metadata.max.bytes=10");
    let topics = Topics::create(&node.bootstrap, "uncommitted");
    let alerts = alerts(1, 50);
    let all = ids(&alerts);
    topics.seed(alerts);
    let mut daemon = Daemon::start(&config(&topics, &service, BOTH[0]));
    let told = daemon.wait_for_words("commits fail: ");
    assert!(told.contains("input.max_commit_metadata"), "{told}");
    assert!(topics.uncommitted() > 0);
    node.set("offset.metadata.max.bytes=4096");
    assert_goes_on(daemon, &topics, &all, BOTH[0]);
}

#[rstest]
#[case::at_least_once(BOTH[0])]
#[case::exactly_once(BOTH[1])]
fn an_output_with_too_few_replicas_in_sync_is_waited_for(#[case] delivery: &str) {
    let Some(kafka) = Broker::own() else { return };
    let service = service();
    let (topics, mut second) = two_brokers(&kafka, &[]);
    for name in [&topics.output, &topics.dead_letters] {
        topics.configure(name, &[("min.insync.replicas", "2")]);
    }
    let (first, more) = (alerts(1, 50), alerts(2, 50));
    let all = [ids(&first), ids(&more)].concat();
    topics.seed(first.clone());
    let mut daemon = Daemon::start(&config(&topics, &service, delivery).limits(&["100 per 1s"]));
    assert_delivered(&mut daemon, &topics, &ids(&first), delivery);
    second.stop();
    topics.wait_until_led_by(1);
    topics.seed_in(0, &more);
    let told = daemon.wait_for_words("replicas in sync");
    assert!(told.contains(&topics.output) && told.contains("look for a broker that is down"), "{told}");
    second.start();
    assert_goes_on(daemon, &topics, &all, delivery);
}

/// Connections stay, and nothing answers.
#[rstest]
#[case::at_least_once(BOTH[0])]
#[case::exactly_once(BOTH[1])]
fn a_broker_that_stands_still_is_waited_for(#[case] delivery: &str) {
    let Some(kafka) = Broker::own() else { return };
    let service = service();
    let topics = Topics::create(&kafka.bootstrap, "stopped");
    let alerts = alerts(1, 300);
    let all = ids(&alerts);
    topics.seed(alerts);
    let mut daemon = Daemon::start(&config(&topics, &service, delivery));
    wait_for_some(&mut daemon, &topics);
    kafka.pause();
    thread::sleep(Duration::from_secs(25));
    daemon.assert_running();
    kafka.resume();
    assert_goes_on(daemon, &topics, &all, delivery);
}

/// The broker refuses what it can't write, and ends itself. Whoever runs it makes room and starts it again.
#[rstest]
#[case::at_least_once(BOTH[0])]
#[case::exactly_once(BOTH[1])]
fn a_broker_whose_disk_is_full_is_waited_for(#[case] delivery: &str) {
    let Some(kafka) = Broker::own() else { return };
    let service = service();
    let topics = Topics::create(&kafka.bootstrap, "full");
    let alerts = alerts(1, 300);
    let all = ids(&alerts);
    topics.seed(alerts);
    let config = config(&topics, &service, delivery);
    // A broker that comes back waits for the members it knew.
    let config = config.property("session.timeout.ms", 6_000).property("reconnect.backoff.max.ms", 1_000);
    let mut daemon = Daemon::start(&config);
    wait_for_some(&mut daemon, &topics);
    kafka.fill_disk();
    daemon.wait_for_words("no kafka broker can be reached");
    kafka.stop();
    kafka.start();
    assert_goes_on(daemon, &topics, &all, delivery);
}
