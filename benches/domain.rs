//! The pure parts, each at the size it has on a bad day: `cargo bench --bench domain`.

#![allow(clippy::unwrap_used, reason = "a failed assumption ends the measurement")]

use std::{hint::black_box, time::Duration};

use alert_ips::{
    decode::Decoder,
    domain::{
        alert::{Alert, AlertId, Severity},
        backlog::{Backlog, Patience},
        budget::{Budget, Ruling},
        journal::{Answer, Body, Claim, Entry, EntryId, Reached, WriterId},
        outcome::{Outcome, Status},
        output::{Output, OutputFormat},
        record::{Epoch, Partition, Receipt},
        related_ips::RelatedIps,
        terms::Terms,
        time::JournalTime,
    },
    encode::{Subject, encode},
    sim::world::{Shares, World},
};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use jiff::Timestamp;

/// Lookups in the backlog while it is measured.
const WAITING: u64 = 50_000;

/// The time at which the simulated world stands.
const NOW: Timestamp = Timestamp::constant(1_795_000_000, 0);

/// The first message of this shape in the simulated world.
fn payload(shape: &str) -> Vec<u8> {
    let mut world = World::new(1, NOW).shares(Shares::ONLY_NEW);
    world.find(|message| message.shape == shape).unwrap().payload.unwrap()
}

fn decoding(criterion: &mut Criterion) {
    let decoder = Decoder::default();
    let mut group = criterion.benchmark_group("decode");
    for shape in ["alert", "alert of 2019", "bare id", "streaming row", "event hubs envelope", "list page"] {
        let payload = payload(shape);
        let alerts = decoder.decode(Some(&payload), NOW).alerts.len() as u64;
        group.throughput(Throughput::Elements(alerts));
        group.bench_function(shape, |bencher| bencher.iter(|| decoder.decode(black_box(Some(&payload)), NOW)));
    }
    group.finish();
}

/// From a message to its records, as it is without any I/O: the sizes that the project holds itself to.
fn decoding_and_encoding(criterion: &mut Criterion) {
    let decoder = Decoder::default();
    let receipt =
        Receipt { partition: Partition { topic: "defender.alerts".into(), number: 3 }, offset: 42, epoch: Epoch(1) };
    let ips = RelatedIps::from_texts(["104.80.104.128", "23.203.232.228", "2a01:111::1"]);
    let outcome = Outcome { status: Status::Found, ips, retrieved_at: NOW };
    let outputs = [Output::default()];
    let mut group = criterion.benchmark_group("decode and encode");
    let messages = [
        ("bare alert", br#"{"id":"da637551227677560813_-961444813"}"#.to_vec()),
        ("alert resource of 1.5 kB", resource(1_500)),
        ("envelope of 1,000 rows", envelope(1_000)),
    ];
    for (name, payload) in messages {
        let alerts = decoder.decode(Some(&payload), NOW).alerts.len() as u64;
        group.throughput(Throughput::Elements(alerts));
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                let message = decoder.decode(black_box(Some(&payload)), NOW);
                let encoded = message.alerts.iter().map(|indexed| {
                    let subject = Subject {
                        receipt: &receipt,
                        index: indexed.index,
                        alert: &indexed.alert,
                        tenant: "tenant",
                        outcome: &outcome,
                        headers: &[],
                        original: None,
                    };
                    encode(&outputs, &subject).len()
                });
                encoded.sum::<usize>()
            });
        });
    }
    group.finish();
}

/// An alert of the service in so many bytes: what the shapes do not read fills it up, as evidence does.
fn resource(bytes: usize) -> Vec<u8> {
    let text = include_str!("../tests/fixtures/input/alert-resource.json").trim_end();
    let (open, filled) = (&text[..text.len() - 1], "x".repeat(bytes - text.len() - ",'comments':''".len()));
    let text = format!("{open},\"comments\":\"{filled}\"}}");
    assert_eq!(text.len(), bytes);
    text.into_bytes()
}

/// What Event Hubs delivers: so many rows, each about another alert.
fn envelope(rows: usize) -> Vec<u8> {
    let row = include_str!("../tests/fixtures/input/streaming-alert-info.json").trim_end();
    let value: serde_json::Value = serde_json::from_str(row).unwrap();
    let id = value.pointer("/properties/AlertId").unwrap().as_str().unwrap();
    let rows: Vec<_> =
        (0..rows as u64).map(|n| row.replace(id, &format!("da{}_{n}", 637_551_227_677_560_813 + n))).collect();
    format!("{{\"records\":[{}]}}", rows.join(",")).into_bytes()
}

fn encoding(criterion: &mut Criterion) {
    let receipt =
        Receipt { partition: Partition { topic: "defender.alerts".into(), number: 3 }, offset: 42, epoch: Epoch(1) };
    let alert = Decoder::default().decode(Some(&payload("alert")), NOW).alerts.remove(0).alert;
    let ips = RelatedIps::from_texts(["104.80.104.128", "23.203.232.228", "2a01:111::1"]);
    let outcome = Outcome { status: Status::Found, ips, retrieved_at: NOW };
    let mut group = criterion.benchmark_group("encode");
    for format in OutputFormat::ALL {
        let outputs = [Output { format, ..Output::default() }];
        let subject = Subject {
            receipt: &receipt,
            index: 0,
            alert: &alert,
            tenant: "tenant",
            outcome: &outcome,
            headers: &[],
            original: None,
        };
        group.bench_function(format.as_str(), |bencher| bencher.iter(|| encode(&outputs, black_box(&subject))));
    }
    group.finish();
}

/// A claim and its answer with both documented windows as full as they get.
fn budget(criterion: &mut Criterion) {
    let terms = Terms {
        limits: ["100 per 1m", "1500 per 1h"].map(|text| text.parse().unwrap()).into(),
        share: 1.0,
        reserve: 0.01,
        max_in_flight: 8,
        claim_ttl: Duration::from_secs(10),
        call_timeout: Duration::from_secs(30),
        skew: Duration::ZERO,
    };
    let entry = |number, body| Entry { id: EntryId { writer: WriterId(1), number }, instance: "host".into(), body };
    let mut budget = Budget::default();
    budget.apply(JournalTime::default(), &entry(1, Body::Terms(terms)));
    let alert = AlertId::parse("da637551227677560813_-961444813").unwrap();
    let (mut number, mut now) = (1, Duration::ZERO);
    let mut spend = move || {
        number += 1;
        // The sustained rate: 1500 an hour, with the clocks' margin and the slots that stay free.
        now += Duration::from_millis(2_430);
        let severity = Severity::High;
        let claim =
            entry(number, Body::Claim(Claim { alert: alert.clone(), severity, reserved: true, highs_wait: false }));
        assert_eq!(budget.apply(JournalTime::from_origin(now), &claim), Ruling::Granted(claim.id));
        number += 1;
        let answer = Answer {
            claim: claim.id,
            alert: alert.clone(),
            reached: Reached::Complete,
            status: Some(200),
            outcome: None,
        };
        let answered = JournalTime::from_origin(now + Duration::from_millis(100));
        budget.apply(answered, &entry(number, Body::Answer(answer)))
    };
    for _ in 0..2_000 {
        spend();
    }
    criterion.bench_function("budget/claim and answer", |bencher| bencher.iter(&mut spend));
}

fn backlog(criterion: &mut Criterion) {
    let mut backlog = Backlog::new(Patience::new(|severity| Duration::from_mins(5 * severity as u64)));
    let alert = |number: u64| Alert {
        id: AlertId::parse(&format!("da{:018}_{number}", 637_551_227_677_560_813 + number)).unwrap(),
        tenant: None,
        severity: Severity::ALL[(number % 5) as usize],
        updated: None,
        created: None,
    };
    let mut number = 0;
    let mut queue = |backlog: &mut Backlog| {
        number += 1;
        let Alert { id, severity, .. } = alert(number);
        let since = NOW + Duration::from_millis(number);
        let place = backlog.place(id, severity, since);
        backlog.queue(place);
    };
    (0..WAITING).for_each(|_| queue(&mut backlog));
    criterion.bench_function("backlog/queue and take at 50,000", |bencher| {
        bencher.iter(|| {
            queue(&mut backlog);
            let rank = backlog.next(|_| true).unwrap();
            backlog.take(rank)
        });
    });
}

criterion_group!(benches, decoding, encoding, decoding_and_encoding, budget, backlog);
criterion_main!(benches);
