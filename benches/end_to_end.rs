//! What the daemon costs with the limits out of the way:
//!
//! ```sh
//! cargo build --release && ALERT_IPS_BIN=target/release/alert-ips cargo bench --profile dev --bench end_to_end
//! ```
//!
//! The profile is that of this program alone, which only looks on. It starts a real Kafka (`tools/kafka`), the simulated service as a process of its own (`alert-ips simulate`) and the
//! daemon, all on this machine, and prints figures; it judges none. `ALERT_IPS_BENCH_ALERTS` (default 100,000) says how
//! many alerts are put through.

#![allow(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::print_stderr,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a measurement on the machine's time; a failed assumption ends it"
)]

#[allow(dead_code, unreachable_pub, unused_imports, reason = "shared with the suite, which uses all of it")]
#[path = "../tests/kafka/harness/mod.rs"]
mod harness;

use std::{
    collections::HashMap,
    env,
    io::{BufRead as _, BufReader},
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use alert_ips::domain::record::Record;
use jiff::Timestamp;

use self::harness::{Broker, Config, Daemon, Topics, program};

/// No call has to wait for it.
const WIDE: &str = "1000000 per 1s";

const IN_FLIGHT: usize = 64;

/// Storms with each kind of journal.
const STORMS: usize = 3;

/// The quiet phase: so many alerts, with this pause after each.
const QUIET_ALERTS: usize = 600;
const PAUSE: Duration = Duration::from_millis(50);

fn main() {
    let alerts = env::var("ALERT_IPS_BENCH_ALERTS").map_or(100_000, |count| count.parse().expect("a number"));
    let kafka = Broker::required();
    let simulator = Simulator::start();
    println!("{alerts} alerts, {IN_FLIGHT} calls in flight; simulated service, Kafka and daemon on one machine");
    // In turn, so that what changes on the machine meanwhile changes both.
    let ratios: Vec<_> = (0..STORMS)
        .map(|_| {
            let [memory, journal] = Journal::ALL.map(|journal| storm(kafka, &simulator, alerts, journal));
            println!(
                "the journal in Kafka      {:9.0} % of the throughput with the journal in memory\n",
                journal / memory * 1e2
            );
            journal / memory
        })
        .collect();
    let least = ratios.iter().copied().fold(f64::INFINITY, f64::min);
    let most = ratios.iter().copied().fold(0.0, f64::max);
    println!(
        "of {STORMS} storms each, the journal in Kafka has {:.0} to {:.0} % of the throughput",
        least * 1e2,
        most * 1e2
    );
    quiet(kafka, &simulator);
}

#[derive(Clone, Copy)]
enum Journal {
    InMemory,
    InKafka,
}

impl Journal {
    const ALL: [Self; 2] = [Self::InMemory, Self::InKafka];
}

/// Everything waits when the daemon starts. Returns the alerts decided a second.
fn storm(kafka: &Broker, simulator: &Simulator, alerts: usize, journal: Journal) -> f64 {
    let topics = Topics::create(&kafka.bootstrap, "bench-storm");
    topics.seed_many(alerts, Duration::ZERO);
    let started = Timestamp::now();
    let config = config(&topics, simulator);
    let (config, words) = match journal {
        Journal::InMemory => (config.journal_in_memory(), "the journal in memory"),
        Journal::InKafka => (config, "the journal in Kafka"),
    };
    println!("a storm, {words}");
    let mut daemon = Daemon::start(&config);
    daemon.wait_for("everything is committed", Duration::from_mins(30), |_| {
        thread::sleep(Duration::from_millis(200));
        (topics.uncommitted() == 0).then_some(())
    });
    let (processor, peak) = (daemon.processor_time().as_secs_f64(), daemon.peak_kib());
    daemon.stop();
    let times = milliseconds(&topics.read(&topics.output));
    let (first, last) = (times.iter().min().unwrap(), times.iter().max().unwrap());
    #[expect(clippy::cast_precision_loss, reason = "small numbers")]
    let (seconds, count) = ((last - first) as f64 / 1e3, times.len() as f64);
    println!("start to first output     {:9} ms, joining the group included", first - started.as_millisecond());
    println!("throughput                {:9.0} alerts/s", count / seconds);
    println!("processor time            {:9.3} s per 1,000 alerts, the daemon's own", processor / count * 1e3);
    println!("peak memory               {:9.1} MiB", mebibytes(peak));
    count / seconds
}

/// 20 alerts a second, one at a time. Beside the daemon a bare relay copies each record as it is from the same topic to
/// another, so that what Kafka takes both ways is measured with the same records.
fn quiet(kafka: &Broker, simulator: &Simulator) {
    let topics = Topics::create(&kafka.bootstrap, "bench-quiet");
    let relayed = Topics::create(&kafka.bootstrap, "bench-relay");
    let mut daemon = Daemon::start(&config(&topics, simulator).journal_in_memory());
    daemon.wait_until_ready();
    thread::sleep(Duration::from_secs(5));
    println!("idle memory               {:9.1} MiB", mebibytes(daemon.resident_kib()));
    thread::scope(|scope| {
        scope.spawn(|| topics.relay(QUIET_ALERTS, &relayed.output));
        // The relay has its partitions.
        thread::sleep(Duration::from_secs(5));
        topics.seed_many(QUIET_ALERTS, PAUSE);
    });
    daemon.finish(&topics);
    daemon.stop();

    let created: HashMap<_, _> = topics
        .read(&topics.input)
        .into_iter()
        .map(|record| (format!("{}/0", record.receipt), record.timestamp.unwrap()))
        .collect();
    let latencies = |records: Vec<Record>| -> HashMap<String, i128> {
        let latency = |record: &Record| {
            let id = record.headers.iter().find(|header| &*header.name == "ce_id").unwrap();
            let id = std::str::from_utf8(id.value.as_deref().unwrap()).unwrap().to_owned();
            let latency = record.timestamp.unwrap().duration_since(created[&id]).as_millis();
            (id, latency)
        };
        records.iter().map(latency).collect()
    };
    let (daemon, relay) = (latencies(topics.read(&topics.output)), latencies(relayed.read(&relayed.output)));
    let added: Vec<i128> = daemon.iter().map(|(id, latency)| latency - relay[id]).collect();
    println!("latency at {} alerts/s, from the input's creation until the output's append:", 1000 / PAUSE.as_millis());
    println!("  daemon, call included   {}", percentiles(daemon.values().copied().collect()));
    println!("  bare relay              {}", percentiles(relay.values().copied().collect()));
    println!("  added, record by record {}", percentiles(added));
}

fn percentiles(mut milliseconds: Vec<i128>) -> String {
    milliseconds.sort_unstable();
    let of = |hundredths: usize| milliseconds[(milliseconds.len() - 1) * hundredths / 100];
    format!("{:9} ms median, {} ms 99th percentile, {} ms at most", of(50), of(99), of(100))
}

fn config(topics: &Topics, simulator: &Simulator) -> Config {
    Config::new(topics, &simulator.origin).limits(&[WIDE]).set("accounts.contoso.max_in_flight", IN_FLIGHT)
}

fn milliseconds(records: &[Record]) -> Vec<i64> {
    records.iter().map(|record| record.timestamp.unwrap().as_millisecond()).collect()
}

#[expect(clippy::cast_precision_loss, reason = "small numbers")]
fn mebibytes(kib: u64) -> f64 {
    kib as f64 / 1024.0
}

/// `alert-ips simulate`, killed at the end.
struct Simulator {
    child: Child,
    origin: String,
}

impl Simulator {
    fn start() -> Self {
        let mut child = Command::new(program())
            .args(["simulate", "--listen", "127.0.0.1:0", "--limits", WIDE, "--mix", "all-found", "--latency", "none"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the simulated service starts");
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let origin = line.split_whitespace().last().unwrap().to_owned();
        assert!(origin.starts_with("http://"), "{line}");
        Self { child, origin }
    }
}

impl Drop for Simulator {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
