//! A dead service, sign-in or broker: the daemon waits, says why, and goes on by itself.

use alert_ips::{
    domain::outcome::Reason,
    sim::{
        Mix, Outage, Plan,
        world::{Message, Shares, World},
    },
};
use jiff::Timestamp;
use rstest::rstest;

use crate::harness::{Broker, Checker, Config, Daemon, LONG, Service, Topics};

/// New alerts only, and every one has addresses: what else comes out is the outage's doing.
fn alerts(count: usize) -> Vec<Message> {
    World::new(5, Timestamp::now()).shares(Shares::ONLY_NEW).take(count).collect()
}

fn service(limits: &[&str]) -> Service {
    Service::start(limits, |settings| settings.plan = Plan::new(7, Mix::ALL_FOUND))
}

#[test]
fn a_broker_that_stops_and_starts_again_is_survived() {
    let Some(kafka) = Broker::own() else { return };
    let service = service(&[]);
    let topics = Topics::create(&kafka.bootstrap, "broker");
    let seeded = topics.seed(alerts(1_000));
    let checker = Checker::new(topics, &service, seeded);
    let topics = checker.topics();
    // With the journal in Kafka there would be no calls without a broker.
    let config = Config::new(topics, &service.origin)
        .journal_in_memory()
        .limits(&["100 per 1s"])
        .property("reconnect.backoff.max.ms", 1_000);

    let mut daemon = Daemon::start(&config);
    daemon.wait_for("200 outputs", LONG, |_| (topics.count(&topics.output) >= 200).then_some(()));
    kafka.stop();
    let words = daemon.wait_for_words("kafka");
    assert!(words.contains(&kafka.bootstrap), "{words}");
    // Answers go on coming in; they wait for the broker.
    daemon.wait_for("answers without a broker", LONG, |_| (service.sim.counts().calls >= 500).then_some(()));
    kafka.start();
    daemon.wait_until_ready();
    daemon.finish(topics);
    daemon.stop();
    checker.assert_at_least_once();
}

#[test]
fn a_dead_sign_in_and_a_dead_service_are_waited_for_without_a_dead_letter() {
    let Some(kafka) = Broker::shared() else { return };
    let service = service(&[]);
    let topics = Topics::create(&kafka.bootstrap, "outage");
    let seeded = topics.seed(alerts(400));
    let checker = Checker::new(topics, &service, seeded);
    let topics = checker.topics();

    service.sim.switch(|switches| switches.sign_in_outage = Some(Outage::Refused));
    let mut daemon = Daemon::start(&Config::new(topics, &service.origin).limits(&["50 per 1s"]));
    daemon.wait_for_words("can't be asked for a token");
    assert_eq!(service.sim.counts().calls, 0, "no call without a token");

    service.sim.switch(|switches| switches.sign_in_outage = None);
    daemon.wait_for("50 outputs", LONG, |_| (topics.count(&topics.output) >= 50).then_some(()));
    service.sim.switch(|switches| switches.outage = Some(Outage::Unavailable));
    daemon.wait_for_words("the API is failing");
    service.sim.switch(|switches| switches.outage = None);

    daemon.finish(topics);
    daemon.stop();
    checker.assert_exactly_once();
}

#[test]
fn a_forbidden_account_holds_its_calls_and_says_what_to_do() {
    let Some(kafka) = Broker::shared() else { return };
    let service = service(&[]);
    let topics = Topics::create(&kafka.bootstrap, "forbidden");
    let seeded = topics.seed(alerts(50));
    let checker = Checker::new(topics, &service, seeded);
    let topics = checker.topics();

    service.sim.switch(|switches| switches.forbid = true);
    let config = Config::new(topics, &service.origin).limits(&["50 per 1s"]);
    let mut daemon = Daemon::start(&config);
    daemon.wait_for_words("403");
    daemon.wait_for_words("permission");
    // Whatever was on the wire with the first refusal, and nothing more.
    assert!(service.sim.counts().calls <= 8, "{:?}", service.sim.counts());
    daemon.stop();
    assert_eq!((topics.count(&topics.output), topics.count(&topics.dead_letters)), (0, 0));

    service.sim.switch(|switches| switches.forbid = false);
    let mut daemon = Daemon::start(&config);
    daemon.finish(topics);
    daemon.stop();
    checker.assert_exactly_once();
}

/// With KIP-848's protocol librdkafka says nothing of them.
#[rstest]
#[case::classic("classic")]
#[case::kip_848("consumer")]
fn missing_topics_are_waited_for(#[case] protocol: &str) {
    let Some(kafka) = Broker::shared() else { return };
    let service = service(&[]);
    let topics = Topics::named(&kafka.bootstrap, "missing");
    let config = Config::new(&topics, &service.origin).limits(&["50 per 1s"]).property("group.protocol", protocol);
    let mut daemon = Daemon::start(&config.property("topic.metadata.refresh.interval.ms", 1_000));
    let words = daemon.wait_for_words(&topics.input);
    assert!(words.contains("a topic is missing") && words.contains("alert-ips topics --create"), "{words}");

    topics.create_all();
    let mut messages = alerts(50);
    messages.push(Message {
        key: None,
        payload: Some(b"no JSON".to_vec()),
        shape: "no JSON",
        expected: alert_ips::sim::world::Expected { rejection: Some(Reason::NotJson), ..Default::default() },
    });
    let seeded = topics.seed(messages);
    let checker = Checker::new(topics, &service, seeded);
    daemon.finish(checker.topics());
    daemon.wait_until_ready();
    daemon.stop();
    checker.assert_exactly_once();
}
