//! Several versions of the program on one journal.
//!
//! There is no earlier release that keeps its journal in Kafka, so nothing older can run beside this one yet. What holds
//! the way open: an instance that meets a newer version's entries stands back, and the messages that this version writes
//! are kept (`tests/fixtures/journal-v1.jsonl`), for every later one to read into the same rulings (`it::journal_versions`).

use std::{env, fs, thread, time::Duration};

use alert_ips::sim::{Latency, Mix, Plan};

use super::{RECOVERY, calls, config, new_alerts, service};
use crate::harness::{Broker, Config, Daemon, LONG, Service, Topics};

#[test]
fn entries_of_a_newer_version_stop_all_until_nothing_of_them_counts() {
    let Some(kafka) = Broker::shared() else { return };
    let service = service(|settings| settings.plan = Plan::new(7, Mix::ALL_FOUND));
    let topics = Topics::create(&kafka.bootstrap, "newer");
    topics.seed_many(5_000, Duration::ZERO);
    let mut daemons = ["one", "two"].map(|name| Daemon::start(&config(&topics, &service).instance(name)));
    daemons[0].wait_for("calls", LONG, |_| (calls(&service) >= 20).then_some(()));

    let newer = br#"{"v":2,"writer":"00c0ffee00c0ffee","n":1,"instance":"newer","entries":[{"claims":12}]}"#;
    topics.append_to_journal([newer.to_vec()]);
    for daemon in &mut daemons {
        daemon.wait_for_words("version 2");
    }
    // Of the calls claimed before.
    thread::sleep(Duration::from_secs(2));
    let before = calls(&service);
    // Nearly as long as a call of that entry could hold a slot of the longest window.
    thread::sleep(Duration::from_secs(28));
    assert_eq!(calls(&service), before, "calls beside a version that may rule otherwise");
    daemons[0].wait_for("calls go on", RECOVERY, |_| (calls(&service) >= before + 5).then_some(()));
    daemons.iter_mut().for_each(Daemon::wait_until_ready);
    daemons.into_iter().for_each(Daemon::stop);
    service.assert_no_violation();
}

/// Writes what a small fleet on a bad day writes, with every kind of entry, to the file that
/// `ALERT_IPS_WRITE_JOURNAL_FIXTURE` names: once for each version of the messages, never again.
#[test]
fn the_messages_of_this_version_are_written_to_a_fixture_where_asked_for() {
    let Some(path) = env::var_os("ALERT_IPS_WRITE_JOURNAL_FIXTURE") else { return };
    let Some(kafka) = Broker::shared() else { return };
    let limits = ["12 per 2s", "24 per 15s"];
    let service = Service::start(&limits, |settings| {
        settings.plan = Plan::new(7, Mix { refused: 0, ..Mix::STORMY });
        settings.latency = Latency::Uniform { from: Duration::from_millis(20), to: Duration::from_millis(300) };
    });
    let topics = Topics::create(&kafka.bootstrap, "fixture");
    topics.seed(new_alerts(15, 1_000));
    let config = Config::new(&topics, &service.origin)
        .limits(&limits)
        .set("http.head_timeout", "3s")
        .set("http.total_timeout", "3s");
    let mut daemons = ["one", "two", "three"].map(|name| Daemon::start(&config.clone().instance(name)));
    daemons[0].wait_for("two checkpoints", 2 * LONG, |_| (topics.journal_entries("checkpoint") >= 2).then_some(()));
    thread::sleep(Duration::from_secs(5));
    daemons.into_iter().for_each(Daemon::stop);

    let lines = topics.read(&topics.journal).into_iter().map(|record| {
        let message = String::from_utf8(record.payload.unwrap().into()).unwrap();
        let (offset, at) = (record.receipt.offset, record.timestamp.unwrap().as_millisecond());
        format!("{{\"offset\":{offset},\"at\":{at},\"message\":{message}}}\n")
    });
    fs::write(path, lines.collect::<String>()).unwrap();
}
