//! One message with more alerts than writes may be on their way at a time.

use alert_ips::{decode::MAX_ITEMS, domain::dead_letter::DeadLetter};
use jiff::{Timestamp, ToSpan as _};
use rdkafka::{
    ClientConfig,
    producer::{BaseProducer, BaseRecord, Producer as _},
};
use rstest::rstest;

use crate::harness::{Broker, Config, Daemon, LONG, Service, Topics};

/// All of one message go into one transaction.
#[rstest]
#[case::at_least_once("at-least-once")]
#[case::exactly_once("exactly-once")]
fn a_message_with_very_many_alerts_is_published_whole(#[case] delivery: &str) {
    let Some(kafka) = Broker::shared() else { return };
    let service = Service::start(&[], |_| ());
    let topics = Topics::create(&kafka.bootstrap, "many-alerts");
    seed_compressed(&topics, &message_of_old_alerts());

    let mut daemon = Daemon::start(&Config::new(&topics, &service.origin).set("output.delivery", delivery));
    daemon.wait_for("it is committed", LONG, |_| (topics.uncommitted() == 0).then_some(()));
    daemon.stop();
    let refused: Vec<_> = topics.read(&topics.dead_letters).into_iter().take(2).map(DeadLetter::read).collect();
    assert!(refused.is_empty(), "{refused:?}");
    assert_eq!(topics.read(&topics.output).len(), MAX_ITEMS);
    assert_eq!(service.sim.counts().calls, 0, "nobody asks about alerts that are so old");
}

fn message_of_old_alerts() -> String {
    let old = Timestamp::now() - (24 * 90).hours();
    let ticks = 621_355_968_000_000_000 + old.as_nanosecond() / 100;
    let ids: Vec<_> = (0..MAX_ITEMS).map(|number| format!(r#"{{"id":"da{ticks}_-{number}"}}"#)).collect();
    format!("[{}]", ids.join(","))
}

/// Larger than what a broker takes uncompressed.
fn seed_compressed(topics: &Topics, payload: &str) {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", &topics.bootstrap).set("compression.type", "gzip");
    let producer: BaseProducer = config.set("message.max.bytes", "8000000").create().unwrap();
    producer.send(BaseRecord::<[u8], str>::to(&topics.input).payload(payload)).map_err(|(error, _)| error).unwrap();
    producer.flush(LONG).unwrap();
}
