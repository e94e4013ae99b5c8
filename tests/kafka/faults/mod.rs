//! What goes wrong at Kafka: the operator reads what it is, the program goes on by itself once it is over, and everything is
//! delivered. docs/faults.md is the list.

mod brokers;
mod input;
mod rights;
mod sign_in;

use std::{collections::HashMap, thread, time::Duration};

use alert_ips::sim::{
    Mix, Plan,
    world::{Message, Shares, World},
};
use jiff::Timestamp;

use crate::harness::{Config, Daemon, LONG, Service, Topics};

/// Within this time after a fault is over, everything is delivered.
const RECOVERY: Duration = Duration::from_mins(1);

const BOTH: [&str; 2] = ["at-least-once", "exactly-once"];

fn service() -> Service {
    Service::start(&[], |settings| settings.plan = Plan::new(7, Mix::ALL_FOUND))
}

/// New alerts, which all have addresses; each seed has its own ids.
fn alerts(seed: u64, count: usize) -> Vec<Message> {
    World::new(seed, Timestamp::now()).shares(Shares::ONLY_NEW).take(count).collect()
}

fn ids(messages: &[Message]) -> Vec<String> {
    messages.iter().flat_map(|message| &message.expected.alerts).map(|alert| alert.id.clone()).collect()
}

/// With few calls a second, so that much is open; and news of topics within a second.
fn config(topics: &Topics, service: &Service, delivery: &str) -> Config {
    Config::new(topics, &service.origin)
        .limits(&["20 per 1s"])
        .set("output.delivery", delivery)
        .property("topic.metadata.refresh.interval.ms", 1_000)
}

/// How often each alert was published, as readers of what is committed see it.
fn published(topics: &Topics) -> HashMap<String, usize> {
    let mut published = HashMap::new();
    for record in topics.read(&topics.output) {
        *published.entry(String::from_utf8(record.key.unwrap().into()).unwrap()).or_default() += 1;
    }
    published
}

/// Waits until all of these are published. In exactly-once mode they are so once.
fn assert_delivered(daemon: &mut Daemon, topics: &Topics, ids: &[String], delivery: &str) {
    daemon.wait_for("everything is delivered", RECOVERY, |_| {
        let published = published(topics);
        ids.iter().all(|id| published.contains_key(id)).then_some(())
    });
    if delivery == "exactly-once" {
        // What comes late comes within this time.
        thread::sleep(Duration::from_secs(2));
        let repeated: Vec<_> = published(topics).into_iter().filter(|(_, times)| *times > 1).collect();
        assert_eq!(repeated, []);
    }
}

/// The fault comes while much is open.
fn wait_for_some(daemon: &mut Daemon, topics: &Topics) {
    daemon.wait_for("some outputs", LONG, |_| (published(topics).len() >= 20).then_some(()));
}

/// So many records are read, and most of them open.
fn wait_until_read(daemon: &mut Daemon, records: f64) {
    daemon.wait_for("all is read", LONG, |daemon| {
        (daemon.metric("alert_ips_records_consumed_total")? >= records).then_some(())
    });
}

/// The fault is over: all of these are delivered, nothing is left, and nothing is told to be wrong.
fn assert_goes_on(mut daemon: Daemon, topics: &Topics, ids: &[String], delivery: &str) {
    assert_delivered(&mut daemon, topics, ids, delivery);
    daemon.wait_until_ready();
    daemon.finish(topics);
    daemon.stop();
}
