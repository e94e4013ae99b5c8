//! What the daemon costs with the limits out of the way:
//!
//! ```sh
//! cargo build --release && ALERT_IPS_BIN=target/release/alert-ips cargo bench --profile dev --bench end_to_end
//! ```
//!
//! The profile is that of this program alone, which only looks on. It starts a real Kafka (`tools/kafka`), the simulated service as a process of its own (`alert-ips simulate`) and the
//! daemon, all on this machine, and prints figures; it judges none. `ALERT_IPS_BENCH_ALERTS` (default 100,000) says how
//! many alerts are put through, `ALERT_IPS_BENCH_IN_FLIGHT` (64) how many calls there may be at once, and
//! `ALERT_IPS_BENCH_LATENCY` (none) how long they take. With `-- skips` at its end the command measures that alone: alerts of
//! other products.

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

use alert_ips::{
    domain::record::Record,
    sim::world::{Expected, Message},
};
use jiff::Timestamp;

use self::harness::{Broker, Config, Daemon, Topics, program};

/// No call has to wait for it.
const WIDE: &str = "1000000 per 1s";

/// Storms of each kind.
const STORMS: usize = 3;

/// The quiet phase: so many alerts, with this pause after each.
const QUIET_ALERTS: usize = 600;
const PAUSE: Duration = Duration::from_millis(50);

/// One of two ways to work that are compared.
type Way = (&'static str, fn(Config) -> Config);

const IN_MEMORY: Way = ("the journal in memory", Config::journal_in_memory);
const IN_KAFKA: Way = ("the journal in Kafka", |config| config);
const EXACTLY_ONCE: Way =
    ("exactly-once, the journal in memory", |config| config.journal_in_memory().set("output.delivery", "exactly-once"));

fn main() {
    let alerts = asked("ALERT_IPS_BENCH_ALERTS", "100000").parse().expect("a number");
    let kafka = Broker::required();
    let simulator = Simulator::start();
    println!(
        "{alerts} alerts, {} calls in flight that take {}; simulated service, Kafka and daemon on one machine",
        in_flight(),
        latency()
    );
    for _ in 0..STORMS {
        skips(kafka, &simulator, 10 * alerts);
    }
    if env::args().any(|argument| argument == "skips") {
        return;
    }
    compare(kafka, &simulator, alerts, [IN_MEMORY, IN_KAFKA]);
    compare(kafka, &simulator, alerts, [IN_MEMORY, EXACTLY_ONCE]);
    let [without, with] = [IN_MEMORY, EXACTLY_ONCE].map(|way| quiet(kafka, &simulator, way));
    println!(
        "a transaction adds {} ms at the median and {} ms at the 99th percentile",
        percentile(&with, 50) - percentile(&without, 50),
        percentile(&with, 99) - percentile(&without, 99)
    );
}

/// Storms in turn, so that what changes on the machine meanwhile changes both ways.
fn compare(kafka: &Broker, simulator: &Simulator, alerts: usize, ways: [Way; 2]) {
    let [(one, _), (other, _)] = ways;
    let ratios: Vec<_> = (0..STORMS)
        .map(|_| {
            let [base, compared] = ways.map(|way| storm(kafka, simulator, alerts, way));
            println!("{other}: {:.0} % of the throughput with {one}\n", compared / base * 1e2);
            compared / base
        })
        .collect();
    let least = ratios.iter().copied().fold(f64::INFINITY, f64::min);
    let most = ratios.iter().copied().fold(0.0, f64::max);
    println!(
        "of {STORMS} storms each, {other} has {:.0} to {:.0} % of the throughput with {one}\n",
        least * 1e2,
        most * 1e2
    );
}

/// Everything waits when the daemon starts. Returns the alerts decided a second.
fn storm(kafka: &Broker, simulator: &Simulator, alerts: usize, (words, change): Way) -> f64 {
    let topics = Topics::create(&kafka.bootstrap, "bench-storm");
    topics.seed_many(alerts, Duration::ZERO);
    let started = Timestamp::now();
    println!("a storm, {words}");
    let mut daemon = Daemon::start(&change(config(&topics, simulator)));
    daemon.wait_for("everything is committed", Duration::from_mins(30), |_| {
        thread::sleep(Duration::from_millis(200));
        (topics.uncommitted() == 0).then_some(())
    });
    let (processor, peak) = (daemon.processor_time().as_secs_f64(), daemon.peak_kib());
    let transactions = daemon.metric("alert_ips_transactions_total").unwrap_or_default();
    daemon.stop();
    let times = milliseconds(&topics.read(&topics.output));
    let (first, last) = (times.iter().min().unwrap(), times.iter().max().unwrap());
    #[expect(clippy::cast_precision_loss, reason = "small numbers")]
    let (seconds, count) = ((last - first) as f64 / 1e3, times.len() as f64);
    println!("start to first output     {:9} ms, joining the group included", first - started.as_millisecond());
    println!("throughput                {:9.0} alerts/s", count / seconds);
    println!("processor time            {:9.3} s per 1,000 alerts, the daemon's own", processor / count * 1e3);
    println!("peak memory               {:9.1} MiB", mebibytes(peak));
    if transactions > 0.0 {
        println!(
            "transactions              {:9.0} alerts each, {:.1} a second",
            count / transactions,
            transactions / seconds
        );
    }
    count / seconds
}

/// Alerts of other products alone, as Microsoft Graph has them: what reading and leaving them out takes.
#[expect(clippy::cast_precision_loss, reason = "small numbers")]
fn skips(kafka: &Broker, simulator: &Simulator, alerts: usize) {
    const AT_ONCE: usize = 1_000;
    let topics = Topics::create(&kafka.bootstrap, "bench-skips");
    let of_this = include_str!("../tests/fixtures/input/graph.json");
    let of_another = of_this.replace("microsoftDefenderForEndpoint", "microsoftDefenderForOffice365");
    assert_ne!(of_another, of_this);
    let messages: Vec<_> = (0..AT_ONCE)
        .map(|_| Message {
            key: None,
            payload: Some(of_another.clone().into_bytes()),
            shape: "of another product",
            expected: Expected::default(),
        })
        .collect();
    for partition in (0..3).cycle().take(alerts / AT_ONCE) {
        topics.seed_in(partition, &messages);
    }
    let all = (alerts / AT_ONCE * AT_ONCE) as f64;
    let mut daemon = Daemon::start(&config(&topics, simulator).journal_in_memory());
    let skipped = |daemon: &Daemon| {
        thread::sleep(Duration::from_millis(20));
        daemon.metric("alert_ips_skips_total").filter(|skipped| *skipped > 0.0)
    };
    let before = daemon.wait_for("the first is skipped", Duration::from_mins(1), skipped);
    let begun = Timestamp::now();
    daemon.wait_for("all are skipped", Duration::from_mins(10), |daemon| {
        skipped(daemon).filter(|skipped| *skipped >= all)
    });
    let seconds = Timestamp::now().duration_since(begun).as_secs_f64();
    let processor = daemon.processor_time().as_secs_f64();
    daemon.stop();
    println!("{all} alerts of {} bytes of other products", of_another.len());
    println!("skipped                   {:9.0} alerts/s", (all - before) / seconds);
    println!("processor time            {:9.3} s per 100,000\n", processor / all * 1e5);
}

/// 20 alerts a second, one at a time. Beside the daemon a bare relay copies each record as it is from the same topic to
/// another, so that what Kafka takes both ways is measured with the same records. Returns the milliseconds from each
/// record's creation until a `read_committed` reader had its output, sorted.
fn quiet(kafka: &Broker, simulator: &Simulator, (words, change): Way) -> Vec<i128> {
    println!("a quiet time, {words}");
    let topics = Topics::create(&kafka.bootstrap, "bench-quiet");
    let relayed = Topics::create(&kafka.bootstrap, "bench-relay");
    let mut daemon = Daemon::start(&change(config(&topics, simulator)));
    daemon.wait_until_ready();
    thread::sleep(Duration::from_secs(5));
    println!("idle memory               {:9.1} MiB", mebibytes(daemon.resident_kib()));
    let seen = thread::scope(|scope| {
        scope.spawn(|| topics.relay(QUIET_ALERTS, &relayed.output));
        let reader = scope.spawn(|| topics.watch(&topics.output, QUIET_ALERTS));
        // Both have their partitions.
        thread::sleep(Duration::from_secs(5));
        topics.seed_many(QUIET_ALERTS, PAUSE);
        reader.join().unwrap()
    });
    daemon.finish(&topics);
    daemon.stop();

    let created: HashMap<_, _> = topics
        .read(&topics.input)
        .into_iter()
        .map(|record| (format!("{}/0", record.receipt), record.timestamp.unwrap()))
        .collect();
    let since = |record: &Record, then: Timestamp| {
        let id = record.headers.iter().find(|header| &*header.name == "ce_id").unwrap();
        let id = std::str::from_utf8(id.value.as_deref().unwrap()).unwrap().to_owned();
        let latency = then.duration_since(created[&id]).as_millis();
        (id, latency)
    };
    let appended = |records: Vec<Record>| -> HashMap<String, i128> {
        records.iter().map(|record| since(record, record.timestamp.unwrap())).collect()
    };
    let (daemon, relay) = (appended(topics.read(&topics.output)), appended(relayed.read(&relayed.output)));
    let added = daemon.iter().map(|(id, latency)| latency - relay[id]);
    println!("latency at {} alerts/s, from the input's creation until the output's append:", 1000 / PAUSE.as_millis());
    println!("  daemon, call included   {}", percentiles(daemon.values().copied().collect()));
    println!("  bare relay              {}", percentiles(relay.values().copied().collect()));
    println!("  added, record by record {}", percentiles(added.collect()));
    let mut seen: Vec<_> = seen.iter().map(|(record, then)| since(record, *then).1).collect();
    println!("until a read_committed reader has it:");
    println!("  daemon, call included   {}\n", percentiles(seen.clone()));
    seen.sort_unstable();
    seen
}

fn percentiles(mut milliseconds: Vec<i128>) -> String {
    milliseconds.sort_unstable();
    let of = |hundredths| percentile(&milliseconds, hundredths);
    format!("{:9} ms median, {} ms 99th percentile, {} ms at most", of(50), of(99), of(100))
}

fn percentile(sorted: &[i128], hundredths: usize) -> i128 {
    sorted[(sorted.len() - 1) * hundredths / 100]
}

fn asked(variable: &str, otherwise: &str) -> String {
    env::var(variable).unwrap_or_else(|_| otherwise.to_owned())
}

fn in_flight() -> String {
    asked("ALERT_IPS_BENCH_IN_FLIGHT", "64")
}

fn latency() -> String {
    asked("ALERT_IPS_BENCH_LATENCY", "none")
}

fn config(topics: &Topics, simulator: &Simulator) -> Config {
    Config::new(topics, &simulator.origin).limits(&[WIDE]).set("accounts.contoso.max_in_flight", in_flight())
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
            .args(["simulate", "--listen", "127.0.0.1:0", "--limits", WIDE, "--mix", "all-found"])
            .args(["--latency", &latency()])
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
