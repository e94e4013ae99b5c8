//! What was settled before a restart or a rebalance is not done again, and what was open is.

use std::{
    collections::HashMap,
    thread,
    time::{Duration, Instant},
};

use alert_ips::sim::{Answer, Latency, Mix, Plan};
use rstest::rstest;

use crate::{
    fleet::{ids, new_alerts},
    harness::{Broker, Checker, Config, Daemon, LONG, PARTITIONS, Service, Topics},
};

/// Who reads the partitions next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    /// The same instance, killed and started again.
    Itself,
    /// Another, which joins the group, and has all of it once the first is killed.
    Another,
}

/// Until what was settled is committed: that is done every second.
const COMMITTED: Duration = Duration::from_secs(3);

#[rstest]
#[case::after_a_crash(Next::Itself)]
#[case::after_a_rebalance(Next::Another)]
fn an_alert_that_waits_neither_loses_nor_repeats_what_was_settled_behind_it(#[case] next: Next) {
    let Some(kafka) = Broker::shared() else { return };
    let mut messages = new_alerts(31, 600);
    // Of a message with several alerts some come out before it is settled.
    messages.retain(|message| message.expected.alerts.len() == 1);
    let parked = ids(&messages[..1]).pop_first().unwrap();
    let service = Service::start(&[], |settings| {
        let then_found = vec![Answer::NotFound, Answer::Found(vec!["192.0.2.1".to_owned()])];
        settings.plan = Plan::new(7, Mix::ALL_FOUND).script(&parked, then_found);
    });
    let topics = Topics::create(&kafka.bootstrap, "takeover");
    let seeded = topics.seed(messages);
    let checker = Checker::new(topics, &service, seeded);
    let topics = checker.topics();
    let alerts = i64::try_from(checker.expected_records()).unwrap();
    let config = Config::new(topics, &service.origin)
        .limits(&["1000 per 1s"])
        .set("not_found.reask_after", r#"["30s"]"#)
        .property("session.timeout.ms", 6_000);

    let mut first = Daemon::start(&config);
    first.wait_for("all but the one that waits", LONG, |_| (topics.count(&topics.output) == alerts - 1).then_some(()));
    thread::sleep(COMMITTED);
    assert!(topics.uncommitted() > 100, "the offset stands where the one waits");
    let mut second = match next {
        Next::Itself => {
            first.kill();
            Daemon::start(&config)
        }
        Next::Another => {
            let mut second = Daemon::start(&config.instance("another"));
            let has_some = |second: &Daemon| second.log().contains(&format!("{}/", topics.input)).then_some(());
            second.wait_for("partitions", LONG, has_some);
            thread::sleep(COMMITTED);
            first.kill();
            second
        }
    };
    second.finish(topics);
    let settled_before = second.metric("alert_ips_records_settled_before_total").unwrap();
    assert!(settled_before > 100.0, "{settled_before} records were read again and known to be settled");
    second.stop();
    checker.assert_exactly_once();
}

/// Neither knows of the other's calls: what one had on the wire would be asked again by the other.
#[rstest]
#[case::at_least_once("at-least-once")]
#[case::exactly_once("exactly-once")]
fn calls_on_the_wire_end_before_their_partition_moves(#[case] delivery: &str) {
    let Some(kafka) = Broker::shared() else { return };
    let mut messages = new_alerts(37, 300);
    // In one transaction goes a message as a whole, and answers to a part of it are of no use.
    messages.retain(|message| delivery == "at-least-once" || message.expected.alerts.len() == 1);
    let service = Service::start(&[], |settings| {
        settings.plan = Plan::new(7, Mix::ALL_FOUND);
        settings.latency = Latency::Fixed(Duration::from_millis(1_500));
    });
    let topics = Topics::create(&kafka.bootstrap, "on-the-wire");
    let alerts = ids(&messages).len() as u64;
    let seeded = topics.seed(messages);
    let checker = Checker::new(topics, &service, seeded);
    let topics = checker.topics();
    let config = Config::new(topics, &service.origin)
        .journal_in_memory()
        .limits(&["100 per 1s"])
        .set("accounts.contoso.max_in_flight", 16)
        .set("output.delivery", delivery);

    let mut first = Daemon::start(&config);
    let in_flight = |daemon: &Daemon| (daemon.metric("alert_ips_calls_in_flight")? >= 12.0).then_some(());
    first.wait_for("calls on the wire", LONG, in_flight);
    let mut second = Daemon::start(&config.instance("another"));
    let has_some = |second: &Daemon| second.log().contains(&format!("{}/", topics.input)).then_some(());
    second.wait_for("partitions", LONG, has_some);
    second.wait_for("calls on the wire", LONG, in_flight);
    // And back.
    second.stop();
    first.finish(topics);
    first.stop();
    checker.assert_exactly_once();
    assert_eq!(service.sim.counts().calls, alerts, "none was asked twice");
}

/// Each alert of a message comes out as soon as it is decided, and not again where the message's others are decided by the next
/// process or by another.
#[rstest]
#[case::at_least_once("at-least-once")]
#[case::exactly_once("exactly-once")]
fn what_was_published_of_a_message_is_not_published_again(#[case] delivery: &str) {
    let Some(kafka) = Broker::shared() else { return };
    let service = Service::start(&[], |settings| {
        settings.plan = Plan::new(7, Mix::ALL_FOUND);
        settings.latency = Latency::Fixed(Duration::from_millis(200));
    });
    let topics = Topics::create(&kafka.bootstrap, "parts");
    let alerts: u64 = 9 * 40;
    topics.seed_lists(9, 40, Duration::ZERO);
    let config = Config::new(&topics, &service.origin).limits(&["20 per 1s"]).set("output.delivery", delivery);
    let at_once = delivery == "at-least-once";
    let mut first = Daemon::start(&config);
    let service = &service;
    let some_calls = |calls| move |_: &Daemon| (service.sim.counts().calls >= calls).then_some(());
    first.wait_for("some alerts are decided", LONG, some_calls(60));
    first.stop();
    assert!(!at_once || topics.count(&topics.output) >= 50, "each is published as soon as it is decided");
    assert!(topics.uncommitted() > 0);
    // And now with a move there and back.
    let mut first = Daemon::start(&config);
    first.wait_for("more alerts are decided", LONG, some_calls(120));
    let mut second = Daemon::start(&config.instance("another"));
    let has_some = |second: &Daemon| second.log().contains(&format!("{}/", topics.input)).then_some(());
    second.wait_for("partitions", LONG, has_some);
    second.wait_for("more alerts are decided", LONG, some_calls(180));
    second.stop();
    first.finish(&topics);
    if at_once {
        let before = first.metric("alert_ips_alerts_published_before_total").unwrap();
        assert!(before > 0.0, "{before} were known to be published");
    }
    first.stop();
    let mut published = HashMap::new();
    for record in topics.read(&topics.output) {
        *published.entry(record.key.unwrap()).or_insert(0) += 1;
    }
    assert_eq!(published.len() as u64, alerts);
    assert_eq!(published.into_iter().filter(|(_, times)| *times > 1).collect::<Vec<_>>(), []);
}

/// Others read them within half a minute more.
#[test]
fn the_partitions_of_a_killed_instance_move_when_its_session_ends() {
    const SESSION: Duration = Duration::from_secs(6);
    let Some(kafka) = Broker::shared() else { return };
    let service = Service::start(&[], |settings| settings.plan = Plan::new(7, Mix::ALL_FOUND));
    let topics = Topics::create(&kafka.bootstrap, "killed");
    let config = Config::new(&topics, &service.origin)
        .limits(&["1000 per 1s"])
        .property("session.timeout.ms", SESSION.as_millis());
    let mut first = Daemon::start(&config);
    first.wait_until_ready();
    let mut second = Daemon::start(&config.instance("another"));
    second.wait_until_ready();
    first.kill();
    let killed = Instant::now();
    let messages = new_alerts(35, 60);
    let alerts = i64::try_from(ids(&messages).len()).unwrap();
    topics.seed(messages);
    second.wait_for("all is delivered", LONG, |_| (topics.count(&topics.output) >= alerts).then_some(()));
    let moved = killed.elapsed();
    println!("delivered {} s after the kill", moved.as_secs());
    assert!(moved <= SESSION + Duration::from_secs(30), "{moved:?}");
    second.stop();
}

/// It takes over what others leave; with KIP-848's protocol librdkafka tells it nothing before.
#[rstest]
#[case::classic("classic")]
#[case::kip_848("consumer")]
fn an_instance_that_has_nothing_to_read_is_ready(#[case] protocol: &str) {
    let Some(kafka) = Broker::shared() else { return };
    let service = Service::start(&[], |settings| settings.plan = Plan::new(7, Mix::ALL_FOUND));
    let topics = Topics::create(&kafka.bootstrap, "standby");
    let config = Config::new(&topics, &service.origin).limits(&["1000 per 1s"]).property("group.protocol", protocol);
    // One for each partition, and one more.
    let mut fleet: Vec<_> = (1..=PARTITIONS + 1)
        .map(|n| {
            let mut daemon = Daemon::start(&config.clone().instance(&n.to_string()));
            daemon.wait_until_ready();
            daemon
        })
        .collect();
    let mut standby = fleet.pop().unwrap();
    fleet.into_iter().for_each(Daemon::stop);
    let messages = new_alerts(33, 30);
    let alerts = i64::try_from(ids(&messages).len()).unwrap();
    topics.seed(messages);
    standby.wait_for("all is delivered", LONG, |_| (topics.count(&topics.output) >= alerts).then_some(()));
    standby.stop();
}
