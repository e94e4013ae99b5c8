//! `instance.static_member`: a restart moves no partitions, and delivers as well as any other.

use std::{thread, time::Duration};

use rstest::rstest;

use crate::{
    exactly_once::{assert_each_is_there_once, config_without_session, seeded, service, wait_for_more},
    harness::{Broker, Config, Daemon, LONG, Service, Topics},
};

/// Longer than a restart takes.
const SESSION: Duration = Duration::from_secs(20);

/// How the group works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Protocol {
    Cooperative,
    Eager,
    /// KIP-848. The session is the brokers', and until its end they refuse the successor of a killed member.
    Consumer,
}

fn static_member(topics: &Topics, service: &Service, protocol: Protocol) -> Config {
    let config = config_without_session(topics, service).set("instance.static_member", true);
    match protocol {
        Protocol::Cooperative => config.property("session.timeout.ms", SESSION.as_millis()),
        Protocol::Eager => config
            .property("session.timeout.ms", SESSION.as_millis())
            .property("partition.assignment.strategy", "range"),
        Protocol::Consumer => config.property("group.protocol", "consumer"),
    }
}

/// How often partitions were given to it or taken from it.
fn moves(daemon: &Daemon) -> usize {
    let log = daemon.log();
    ["partitions to be given up", "partitions assigned"].iter().map(|words| log.matches(words).count()).sum()
}

fn wait_for_partitions(daemon: &mut Daemon, topics: &Topics) {
    let has_some = |daemon: &Daemon| daemon.log().contains(&format!("{}/", topics.input)).then_some(());
    daemon.wait_for("partitions", LONG, has_some);
}

/// Ended by SIGTERM or `kill -9`, and started again.
fn restarted(daemon: Daemon, clean: bool, config: &Config, topics: &Topics) -> Daemon {
    if clean {
        daemon.stop();
    } else {
        daemon.kill();
    }
    let mut daemon = Daemon::start(config);
    wait_for_partitions(&mut daemon, topics);
    daemon
}

#[rstest]
#[case::cooperative(Protocol::Cooperative, "exactly-once")]
#[case::eager(Protocol::Eager, "exactly-once")]
#[case::consumer(Protocol::Consumer, "exactly-once")]
#[case::cooperative_at_least_once(Protocol::Cooperative, "at-least-once")]
fn a_restart_within_the_session_moves_no_partitions(#[case] protocol: Protocol, #[case] delivery: &str) {
    let Some(kafka) = Broker::shared() else { return };
    let service = service();
    let checker = seeded(kafka, &service, "static", 4_000);
    let topics = checker.topics();
    let config = static_member(topics, &service, protocol).set("output.delivery", delivery);
    let mut first = Daemon::start(&config);
    wait_for_partitions(&mut first, topics);
    let mut second = Daemon::start(&config.clone().instance("another"));
    wait_for_partitions(&mut second, topics);
    wait_for_more(&mut second, topics, 100);
    // The first rebalances are over.
    thread::sleep(Duration::from_secs(5));
    // One of them leads the group.
    let ends: &[bool] = if protocol == Protocol::Consumer { &[true] } else { &[true, false] };
    for &clean in ends {
        let before = moves(&second);
        first = restarted(first, clean, &config, topics);
        wait_for_more(&mut second, topics, 100);
        assert_eq!(moves(&second), before, "nothing was moved to the other, or from it");

        let before = moves(&first);
        second = restarted(second, clean, &config.clone().instance("another"), topics);
        wait_for_more(&mut first, topics, 100);
        assert_eq!(moves(&first), before, "nothing was moved to the other, or from it");
    }
    second.finish(topics);
    first.stop();
    second.stop();
    if delivery == "exactly-once" {
        assert_each_is_there_once(&checker);
    } else {
        checker.assert_at_least_once();
    }
}

/// The newer drives out the older, which says so, waits, and tries again.
#[test]
fn two_static_members_of_one_name_say_what_is_wrong_and_neither_ends() {
    let Some(kafka) = Broker::shared() else { return };
    let service = service();
    let checker = seeded(kafka, &service, "static-twins", 1_500);
    let topics = checker.topics();
    let config = static_member(topics, &service, Protocol::Cooperative);
    let mut first = Daemon::start(&config);
    wait_for_more(&mut first, topics, 100);
    let mut twin = Daemon::start(&config);
    let words = "look for a second process with the same instance.name";
    first.wait_for_log(words, LONG);
    wait_for_partitions(&mut twin, topics);
    wait_for_more(&mut twin, topics, 100);
    twin.assert_running();
    first.assert_running();
    assert!(!twin.log().contains("the kafka client can't go on"), "they drive each other out");
    twin.stop();
    first.finish(topics);
    first.stop();
    assert_each_is_there_once(&checker);
}
