//! Writes that Kafka refuses hold no others back. Alerts with more addresses than the output topic takes go to the dead letters.

use std::{collections::HashSet, time::Duration};

use alert_ips::{
    domain::{dead_letter::DeadLetter, outcome::Reason},
    sim::{
        Answer, Mix, Plan,
        world::{Expected, Message, World},
    },
};
use jiff::Timestamp;
use rstest::rstest;

use crate::harness::{Broker, Config, Daemon, LONG, Service, Topics};

const MESSAGES: usize = 300;

/// Of the alerts that are alone in their message, each with this distance has too many addresses.
const EACH: usize = 10;

/// More than a batch of the daemon, less than so many addresses.
const OUTPUT_TAKES: &str = "80000";
const MANY: u32 = 6_000;

/// What is refused fails at once; waiting for what can't be written beside it takes 20 s each time.
const SOON: Duration = Duration::from_mins(1);

#[rstest]
#[case::at_least_once("at-least-once")]
#[case::exactly_once("exactly-once")]
fn an_alert_with_too_many_addresses_holds_nobody_back(#[case] delivery: &str) {
    let Some(kafka) = Broker::shared() else { return };
    let messages: Vec<_> = World::new(3, Timestamp::now()).take(MESSAGES).collect();
    let alone = messages.iter().filter_map(|message| match &message.expected.alerts[..] {
        [alert] if message.expected.rejection.is_none() && !alert.expired => Some(alert.id.clone()),
        _ => None,
    });
    let large: HashSet<_> = alone.step_by(EACH).collect();
    let many: Vec<_> = (0..MANY).map(|number| format!("2a01:db8:1111:2222:3333:4444:5555:{number:x}")).collect();
    let service = Service::start(&[], |settings| {
        let plan = Plan::new(7, Mix::ALL_FOUND);
        settings.plan = large.iter().fold(plan, |plan, alert| plan.script(alert, vec![Answer::Found(many.clone())]));
    });
    let topics = Topics::create(&kafka.bootstrap, "too-large");
    topics.configure(&topics.output, &[("max.message.bytes", OUTPUT_TAKES)]);
    let alerts: usize = messages.iter().map(|message| message.expected.alerts.len()).sum();
    topics.seed(messages);

    let mut daemon =
        Daemon::start(&Config::new(&topics, &service.origin).limits(&["1000 per 1s"]).set("output.delivery", delivery));
    daemon.wait_for("everything is committed", SOON, |_| (topics.uncommitted() == 0).then_some(()));
    assert!(!daemon.log().contains("kafka acknowledges no write"), "something waited for its timeout");
    daemon.stop();

    let refused = topics.read(&topics.dead_letters).into_iter().map(|record| DeadLetter::read(record).unwrap());
    let refused = refused.filter(|dead_letter| dead_letter.rejection.reason == Reason::TooLarge).count();
    let asked = |alert: &String| service.sim.calls().iter().any(|call| call.path.contains(&**alert));
    assert!(large.iter().all(asked) && large.len() >= 5);
    // Some of them come again.
    assert!(refused >= large.len(), "{refused} dead letters");
    assert_eq!(topics.read(&topics.output).len() + refused, alerts);
}

/// In one transaction there is room for the reports of 20,000 writes; the write that is refused is long reported when the last of
/// this message's is sent.
#[test]
fn a_refused_write_at_the_beginning_of_a_long_transaction_is_not_forgotten() {
    const ALERTS: usize = 30_000;
    let Some(kafka) = Broker::shared() else { return };
    let ids: Vec<_> = (0..ALERTS).map(|number| format!("young-{number}")).collect();
    let many: Vec<_> = (0..MANY).map(|number| format!("2a01:db8:1111:2222:3333:4444:5555:{number:x}")).collect();
    let service = Service::start(&[], |settings| {
        settings.plan = Plan::new(7, Mix::ALL_FOUND).script(&ids[0], vec![Answer::Found(many)]);
    });
    let topics = Topics::create(&kafka.bootstrap, "refused-early");
    topics.configure(&topics.output, &[("max.message.bytes", OUTPUT_TAKES)]);
    let payload = format!(r#"[{{"id":"{}"}}]"#, ids.join(r#""},{"id":""#));
    topics.seed_in(
        0,
        &[Message { key: None, payload: Some(payload.into()), shape: "many", expected: Expected::default() }],
    );

    let config = Config::new(&topics, &service.origin)
        .journal_in_memory()
        .limits(&["1000000 per 1s"])
        .set("accounts.contoso.max_in_flight", 64)
        .set("output.delivery", "exactly-once");
    let mut daemon = Daemon::start(&config);
    daemon.wait_for("everything is committed", LONG, |_| (topics.uncommitted() == 0).then_some(()));
    daemon.stop();
    assert_eq!((topics.read(&topics.output).len(), topics.read(&topics.dead_letters).len()), (ALERTS - 1, 1));
}

/// A compacted topic takes nothing without a key. It is told, and tried again until the topic takes it.
#[rstest]
#[case::at_least_once("at-least-once")]
#[case::exactly_once("exactly-once")]
fn a_dead_letter_that_its_topic_refuses_holds_nobody_back(#[case] delivery: &str) {
    let Some(kafka) = Broker::shared() else { return };
    let service = Service::start(&[], |settings| settings.plan = Plan::new(7, Mix::ALL_FOUND));
    let topics = Topics::create(&kafka.bootstrap, "refused");
    topics.configure(&topics.dead_letters, &[("cleanup.policy", "compact")]);
    let payload = Some(b"no alert".to_vec());
    topics.seed_in(0, &[Message { key: None, payload, shape: "no alert", expected: Expected::default() }]);
    topics.seed_many(MESSAGES, Duration::ZERO);

    let mut daemon =
        Daemon::start(&Config::new(&topics, &service.origin).limits(&["1000 per 1s"]).set("output.delivery", delivery));
    let published = || topics.read(&topics.output).len();
    daemon.wait_for("all others are published", SOON, |_| (published() == MESSAGES).then_some(()));
    daemon.wait_for_log("dead-letter topic", SOON);
    topics.configure(&topics.dead_letters, &[("cleanup.policy", "delete")]);
    daemon.finish(&topics);
    daemon.stop();
    assert_eq!((published(), topics.read(&topics.dead_letters).len()), (MESSAGES, 1));
}
