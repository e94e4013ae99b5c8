//! Figures of the journal, measured on the program as it runs, for `docs/`:
//!
//! `ALERT_IPS_KAFKA_REQUIRED=1 ALERT_IPS_BIN=target/release/alert-ips cargo test --test kafka numbers -- --nocapture`
//!
//! What depends on the machine is asserted with room to spare; what does not is asserted as it is promised.

use std::{
    thread,
    time::{Duration, Instant},
};

use alert_ips::{
    domain::{
        alert::{AlertId, Severity},
        budget::{Budget, Ruling},
        journal::{Answer, Body, Claim, Entry, EntryId, Reached, WriterId, write_message},
        outcome::{Outcome, Status},
        related_ips::RelatedIps,
        terms::Terms,
        time::JournalTime,
    },
    sim::{Latency, Mix, Plan},
};
use jiff::Timestamp;
use rstest::rstest;

use super::{calls, config, new_alerts, service};
use crate::harness::{Broker, Config, Daemon, LONG, Service, Topics};

/// In KiB, as `/proc` counts.
const MEBIBYTE: u64 = 1_024;

/// The messages of instances that take turns.
struct Writers {
    next: Vec<u64>,
    budget: Budget,
    offset: i64,
}

impl Writers {
    fn new(instances: usize) -> Self {
        Self { next: vec![1; instances], budget: Budget::default(), offset: 0 }
    }

    /// One message with one entry, applied to the budget as every reader would.
    fn write(&mut self, instance: usize, body: Body) -> (Vec<u8>, EntryId, Ruling) {
        let id = EntryId { writer: WriterId(0x00c0_ffee_0000_0000 + instance as u64), number: self.next[instance] };
        self.next[instance] += 1;
        let entry = Entry { id, instance: format!("host-{instance}").into(), body };
        let at = JournalTime::from_origin(Duration::from_secs(1_790_000_000));
        let ruling = self.budget.apply(at, &entry);
        self.offset += 1;
        (write_message(&[entry]), id, ruling)
    }
}

fn alert(number: usize) -> AlertId {
    AlertId::parse(&format!("da637551227677560813_-{number}")).unwrap()
}

fn found(number: usize, addresses: usize) -> Outcome {
    let texts = (0..addresses).map(|n| format!("198.{}.{}.{}", n % 200, number / 250 % 250, number % 250));
    let ips = RelatedIps::from_texts(texts.collect::<Vec<_>>().iter().map(String::as_str));
    Outcome { status: Status::Found, ips, retrieved_at: Timestamp::now() }
}

/// An hour of full load by three instances: 1,500 calls, each claimed and answered, and 60 checkpoints.
///
/// The broker stamps all of it now, so the terms are wide: a claim too many would be refused. Whoever replays it reads the
/// whole hour, for no checkpoint is old enough to begin with.
fn an_hour_of_full_load() -> Vec<Vec<u8>> {
    let mut writers = Writers::new(3);
    let terms = Terms {
        limits: ["20000 per 1m", "50000 per 1h"].map(|text| text.parse().unwrap()).into(),
        share: 1.0,
        reserve: 0.01,
        max_in_flight: 8,
        claim_ttl: Duration::from_secs(10),
        call_timeout: Duration::from_secs(30),
        skew: Duration::ZERO,
    };
    let mut messages: Vec<_> = (0..3).map(|instance| writers.write(instance, Body::Terms(terms.clone())).0).collect();
    for call in 0..1_500 {
        let (instance, alert) = (call % 3, alert(call));
        let claim = Claim { alert: alert.clone(), severity: Severity::High, reserved: true, highs_wait: false };
        let (message, claim, ruling) = writers.write(instance, Body::Claim(claim));
        assert_eq!(ruling, Ruling::Granted(claim));
        messages.push(message);
        let outcome = Some(found(call, 3));
        let answer = Answer { claim, alert, reached: Reached::Complete, status: Some(200), outcome };
        messages.push(writers.write(instance, Body::Answer(answer)).0);
        if call % 25 == 24 {
            let checkpoint = writers.budget.checkpoint(Some(writers.offset - 1));
            messages.push(writers.write(instance, Body::Checkpoint(Box::new(checkpoint))).0);
        }
    }
    messages
}

#[test]
fn numbers_of_a_saturated_fleet_beside_a_local_broker() {
    let Some(kafka) = Broker::shared() else { return };
    let service = service(|settings| {
        settings.plan = Plan::new(7, Mix::ALL_FOUND);
        settings.latency = Latency::Uniform { from: Duration::from_millis(50), to: Duration::from_millis(400) };
    });
    let topics = Topics::create(&kafka.bootstrap, "saturated");
    topics.seed(new_alerts(16, 5_000));
    let mut daemons = ["one", "two", "three"].map(|name| Daemon::start(&config(&topics, &service).instance(name)));
    for daemon in &mut daemons {
        daemon.wait_for("calls of every instance", LONG, |daemon| {
            (daemon.metric("alert_ips_api_calls_total")? >= 5.0).then_some(())
        });
    }
    thread::sleep(Duration::from_mins(1));
    let buckets = daemons.each_ref().map(Daemon::claim_seconds);
    let told: Vec<_> = daemons.iter().map(|daemon| daemon.metric("alert_ips_api_calls_total").unwrap()).collect();
    daemons.into_iter().for_each(Daemon::stop);
    service.assert_no_violation();

    let messages = topics.read_journal();
    let kinds = ["claim", "answer", "terms", "freeze", "checkpoint"];
    let counts = kinds.map(|kind| messages.iter().map(|message| message.entries(kind).count()).sum::<usize>());
    let entries: usize = counts.iter().sum();
    let (calls, messages_per_call) = (calls(&service), messages.len() as f64 / calls(&service) as f64);
    let entries_per_call = entries as f64 / calls as f64;
    let high = messages
        .iter()
        .flat_map(|message| message.entries("claim"))
        .filter(|claim| claim["severity"] == "high")
        .count();
    println!("{high} of the claims are for High alerts");
    println!("{calls} calls by three instances ({told:?}), {} messages, {messages_per_call:.2} a call", messages.len());
    println!("{entries} entries, {entries_per_call:.2} a call: {}", describe(kinds, counts));
    let without_checkpoints: Vec<_> =
        messages.iter().filter(|message| message.entries("checkpoint").next().is_none()).collect();
    let bytes: usize = without_checkpoints.iter().map(|message| message.bytes.len() - message.address_bytes()).sum();
    let bytes_per_entry = bytes as f64 / (entries - counts[4]) as f64;
    let largest_checkpoint = messages.iter().filter(|message| message.entries("checkpoint").next().is_some());
    let largest_checkpoint = largest_checkpoint.map(|message| message.bytes.len()).max();
    println!(
        "{bytes_per_entry:.0} bytes an entry beside addresses and checkpoints; largest checkpoint {largest_checkpoint:?}"
    );
    let mut sum: Vec<(f64, f64)> = buckets[0].clone();
    for other in &buckets[1..] {
        sum.iter_mut().zip(other).for_each(|(sum, other)| sum.1 += other.1);
    }
    let (median, high) = (quantile(&sum, 0.5), quantile(&sum, 0.99));
    println!("claim to ruling: median {:.1} ms, 99th percentile {:.1} ms", median * 1e3, high * 1e3);
    println!("fullest windows: {:?}", service.sim.windows().iter().map(|window| window.worst).collect::<Vec<_>>());

    assert!(entries_per_call <= 2.5, "{entries_per_call:.2} entries a call");
    assert!(bytes_per_entry <= 300.0, "{bytes_per_entry:.0} bytes an entry");
    assert!(median <= 0.1 && high <= 1.0, "{median} s, {high} s");
}

#[test]
fn numbers_of_a_replay_of_an_hour_of_full_load() {
    let Some(kafka) = Broker::shared() else { return };
    let service = service(|settings| settings.plan = Plan::new(7, Mix::ALL_FOUND));
    let topics = Topics::create(&kafka.bootstrap, "replay");
    let messages = an_hour_of_full_load();
    let bytes: usize = messages.iter().map(Vec::len).sum();
    let count = messages.len();
    topics.append_to_journal(messages);
    let config = Config::new(&topics, &service.origin);
    let took = (0..3).map(|_| {
        let begun = Instant::now();
        let mut daemon = Daemon::start(&config);
        let read = daemon.wait_for("the journal is read", LONG, |daemon| {
            let log = daemon.log();
            let line = log.lines().find(|line| line.contains("the journal has been read"))?.to_owned();
            Some((line, begun.elapsed()))
        });
        daemon.stop();
        read
    });
    let took: Vec<_> = took.collect();
    for (line, took) in &took {
        println!(
            "{count} entries, {} KiB: read {:.2} s after the start of the process; {line}",
            bytes / 1024,
            took.as_secs_f64()
        );
    }
    let fastest = took.iter().map(|(_, took)| *took).min().unwrap();
    println!("the fastest of them: {:.2} s (aim: 1 s)", fastest.as_secs_f64());
    assert!(fastest <= Duration::from_secs(5), "{fastest:?}");
}

/// The goal is 96 MiB. An answer costs 0.2 KiB, a waiting alert 1.1 KiB, and one in a message of its own 1.3 KiB, with the
/// message's bytes. What is asserted is that it does not become more than a machine's allocator may add.
#[rstest]
#[case::ten_a_message(10, 96)]
#[case::one_a_message(1, 104)]
fn numbers_of_memory_with_100_000_fresh_answers_and_50_000_waiting_alerts(#[case] a_message: usize, #[case] most: u64) {
    const WAITING: usize = 50_000;
    let Some(kafka) = Broker::shared() else { return };
    let limits = ["100 per 1m", "1500 per 1h"];
    let service = Service::start(&limits, |settings| settings.plan = Plan::new(7, Mix::ALL_FOUND));
    let topics = Topics::create(&kafka.bootstrap, "memory");
    let mut writers = Writers::new(3);
    let answers = (0..100_000).map(|number| {
        let claim = EntryId { writer: WriterId(7), number: number as u64 + 1 };
        let (outcome, alert) = (Some(found(number, 3)), alert(number));
        let answer = Answer { claim, alert, reached: Reached::Complete, status: Some(200), outcome };
        writers.write(number % 3, Body::Answer(answer)).0
    });
    topics.append_to_journal(answers);
    let config = Config::new(&topics, &service.origin)
        .limits(&limits)
        .set("reuse.max_answers", 100_000)
        .set("input.max_open_records", WAITING);
    let mut daemon = Daemon::start(&config);
    let begun = Instant::now();
    daemon.wait_for("the journal is read", LONG, |daemon| {
        daemon.log().contains("the journal has been read").then_some(())
    });
    println!("100,000 answers were read within {:.1} s", begun.elapsed().as_secs_f64());
    thread::sleep(Duration::from_secs(3));
    let without_alerts = daemon.resident_kib();
    topics.seed_lists(WAITING / a_message, a_message, Duration::ZERO);
    let waiting = daemon.wait_for("50,000 alerts wait", LONG, |daemon| {
        daemon.metric("alert_ips_backlog").filter(|waiting| *waiting >= 49_000.0)
    });
    thread::sleep(Duration::from_secs(5));
    let (resident, peak) = (daemon.resident_kib(), daemon.peak_kib());
    println!(
        "100,000 answers are known: {} MiB resident; and {waiting} alerts wait, {a_message} a message: {} MiB, {} MiB at the peak",
        without_alerts / MEBIBYTE,
        resident / MEBIBYTE,
        peak / MEBIBYTE
    );
    daemon.stop();
    service.assert_no_violation();
    assert!(resident <= most * MEBIBYTE, "{} MiB", resident / MEBIBYTE);
}

fn describe(kinds: [&str; 5], counts: [usize; 5]) -> String {
    kinds.iter().zip(counts).map(|(kind, count)| format!("{count} {kind}")).collect::<Vec<_>>().join(", ")
}

/// Where `part` of the observations are below, taken to lie evenly within their bucket. `buckets`: upper bounds, and how many
/// are at most that.
fn quantile(buckets: &[(f64, f64)], part: f64) -> f64 {
    let wanted = buckets.last().unwrap().1 * part;
    let mut below = (0.0, 0.0);
    for (bound, count) in buckets {
        if *count >= wanted {
            return below.0 + (bound - below.0) * (wanted - below.1) / (count - below.1).max(1.0);
        }
        below = (*bound, *count);
    }
    f64::INFINITY
}
