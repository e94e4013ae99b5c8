//! One run: the world is made, disturbed by a schedule, healed, drained, read to its end, and judged.
//!
//! These variables change it; the defaults are the short form, for CI:
//!
//! | variable | default | |
//! |---|---|---|
//! | `ALERT_IPS_SEED` | 1 | the schedule and the messages |
//! | `ALERT_IPS_CHAOS_PROTOCOL` | `cooperative` | `eager`, `cooperative` or `consumer` (KIP-848) |
//! | `ALERT_IPS_CHAOS_DELIVERY` | `at-least-once` | or `exactly-once` |
//! | `ALERT_IPS_CHAOS_RECORDS` | 12,000 | messages in the input |
//! | `ALERT_IPS_CHAOS_SPEED` | 100 | how many times as fast as the documented limits the service is |
//! | `ALERT_IPS_CHAOS_EACH` | 2 | so often each kind of fault comes at least |
//! | `ALERT_IPS_CHAOS_MORE` | 14 | faults beside these |
//! | `ALERT_IPS_CHAOS_PAUSE_MS` | 6,000 | the mean pause between two faults |
//! | `ALERT_IPS_CHAOS_STOP_S` | 30 | the longest stop |
//! | `ALERT_IPS_CHAOS_FOLDER` | below `target` | where the history and the logs are kept |

use std::{
    collections::{BTreeSet, VecDeque},
    env, fs,
    mem::ManuallyDrop,
    net::SocketAddr,
    path::{Path, PathBuf},
    str::FromStr,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use alert_ips::{
    domain::{alert::AlertId, outcome::Reason},
    sim::{Answer as Planned, Latency, world::Message},
};
use rdkafka::{
    ClientConfig,
    admin::{AdminClient, AdminOptions, NewTopic, TopicReplication},
    client::DefaultClientContext,
};

use super::{
    checker::{self, Judgement},
    cluster,
    fleet::Fleet,
    harness::{Config, LONG, Proxy, Service, Topics, WallClock, eventually, is_asked_for},
    history::{self, Alert, Answer, Call, Delivery, Fact, Limit, Place, Recorder, Seeded, Terms, nanos},
    schedule::{self, Extent},
    seeder::{OUTPUT_TAKES, Seeds},
    witness::{self, INPUTS, InputRecord, OUTPUTS, Processes, Watched},
};

const INSTANCES: [&str; 3] = ["one", "two", "three"];

const SESSION: Duration = Duration::from_secs(10);
const MAX_OPEN: usize = 600;

/// Where so long nothing more is committed, nothing more will be.
const STALLED: Duration = Duration::from_mins(3);

/// What a run can be told.
struct Asked {
    seed: u64,
    protocol: String,
    delivery: Delivery,
    records: usize,
    speed: usize,
    extent: Extent,
}

impl Asked {
    fn by_environment() -> Self {
        let delivery = number_or("ALERT_IPS_CHAOS_DELIVERY", "at-least-once".to_owned());
        let delivery = serde_json::from_value(delivery.into()).expect("ALERT_IPS_CHAOS_DELIVERY");
        Self {
            seed: number_or("ALERT_IPS_SEED", 1),
            protocol: number_or("ALERT_IPS_CHAOS_PROTOCOL", "cooperative".to_owned()),
            delivery,
            records: number_or("ALERT_IPS_CHAOS_RECORDS", 12_000),
            speed: number_or("ALERT_IPS_CHAOS_SPEED", 100),
            extent: Extent {
                each: number_or("ALERT_IPS_CHAOS_EACH", 2),
                more: number_or("ALERT_IPS_CHAOS_MORE", 14),
                pause: Duration::from_millis(number_or("ALERT_IPS_CHAOS_PAUSE_MS", 6_000)),
                longest_stop: Duration::from_secs(number_or("ALERT_IPS_CHAOS_STOP_S", 30)),
                transactions: delivery == Delivery::ExactlyOnce,
            },
        }
    }

    /// About the documented limits, so many times as fast; a period is a second at least.
    fn limits(&self) -> [Limit; 2] {
        let hour = 3_600 / u64::try_from(self.speed).unwrap();
        [Limit { calls: 8 * self.speed / 5, per_ms: 1_000 }, Limit { calls: 1_500, per_ms: 1_000 * hour }]
    }

    /// The same, as a configuration has them.
    fn limit_words(&self) -> [String; 2] {
        self.limits().map(|Limit { calls, per_ms }| format!("{calls} per {}s", per_ms / 1_000))
    }

    /// For how long a run may go on: twice what its calls and its faults take.
    fn limit(&self) -> Duration {
        let [_, Limit { calls, per_ms }] = self.limits();
        let calls = Duration::from_millis(self.records as u64 * per_ms / calls as u64);
        2 * (calls + self.disturbed()) + Duration::from_mins(3)
    }

    /// For how long faults are done.
    fn disturbed(&self) -> Duration {
        u32::try_from(self.extent.each * self.extent.kinds().count() + self.extent.more).unwrap() * self.extent.pause
    }

    /// Between two messages, so that half of them come while faults are done.
    fn seeding_pause(&self) -> Duration {
        self.disturbed() / 2 / u32::try_from(self.records).unwrap()
    }

    fn terms(&self, input: &str) -> Terms {
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap();
        Terms {
            seed: self.seed,
            protocol: self.protocol.clone(),
            delivery: self.delivery,
            input: input.to_owned(),
            limits: self.limits().to_vec(),
            max_in_flight: 8,
            max_open: MAX_OPEN,
            instances: INSTANCES.len(),
            claim_ms: 10_000,
            session_ms: millis(SESSION),
            recovery_ms: 60_000,
            stop_ms: 30_000,
            memory_kib: 128 * 1024,
            // Of one broker and one account it is 64 and the calls; a client has connections with each of three brokers.
            descriptors: 160,
            threads: 64,
        }
    }
}

/// What a variable says, or this.
fn number_or<T: FromStr>(variable: &str, otherwise: T) -> T {
    let Ok(text) = env::var(variable) else { return otherwise };
    text.parse().ok().unwrap_or_else(|| panic!("{variable} can't be \"{text}\""))
}

#[test]
fn a_fleet_that_everything_is_done_to_keeps_its_promises() {
    if !is_asked_for() {
        return;
    }
    let asked = Asked::by_environment();
    let folder = folder().join(format!("{}-{}-{}", asked.protocol, delivery_name(asked.delivery), asked.seed));
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).unwrap();
    let history = folder.join("history.jsonl");
    eprintln!("ALERT_IPS_SEED={}: {} records, {:?}; {}", asked.seed, asked.records, asked.extent, history.display());
    let recorder = Recorder::create(&history);
    run(&asked, &recorder, folder.clone());
    assert!(says_that_its_clock_is_wrong(&folder), "the wall clocks were set, and no instance noticed");
    report(&checker::judge(&recorder.lines()));
}

/// Whether some life of an instance says so.
fn says_that_its_clock_is_wrong(folder: &Path) -> bool {
    let logs = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    logs.filter(|path| path.extension().is_some_and(|extension| extension == "log"))
        .any(|log| fs::read_to_string(log).unwrap().contains(WallClock::NOTICED))
}

/// Judges a run of before again, with the judge as it is now.
#[test]
fn a_history_of_before_is_judged_again() {
    let Some(path) = env::var_os("ALERT_IPS_CHAOS_HISTORY") else { return };
    report(&checker::judge(&history::read(&PathBuf::from(path))));
}

/// Prints the figures, and fails with what is wrong.
fn report(judgement: &Judgement) {
    for (name, value) in &judgement.figures {
        eprintln!("{value:>10}  {name}");
    }
    let mut counts = std::collections::BTreeMap::<_, usize>::new();
    for violation in &judgement.violations {
        let count = counts.entry(violation.kind).or_default();
        *count += 1;
        if *count <= 10 {
            eprintln!("{violation}");
        }
    }
    assert!(counts.is_empty(), "{counts:?}");
}

fn run(asked: &Asked, recorder: &Recorder, folder: PathBuf) {
    let begun = Instant::now();
    let mut proxies: Vec<Proxy> = INSTANCES.iter().map(|_| Proxy::bind(cluster::BROKERS)).collect();
    let addresses: Vec<_> = proxies.iter().map(Proxy::addresses).collect();
    let brokers = cluster::start(&folder, &addresses, asked.seed);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    for (index, proxy) in proxies.iter_mut().enumerate() {
        let behind: Vec<_> = brokers.iter().map(|broker| broker.behind[index]).collect();
        proxy.run(&runtime, &behind);
    }
    let bootstrap = list(&brokers.iter().map(|broker| broker.address).collect::<Vec<_>>());
    // Their drop would delete the topics of brokers that are gone.
    let topics = ManuallyDrop::new(Topics::named(&bootstrap, "chaos"));
    create_topics(&topics);
    let seeds = Seeds::draw(asked.seed, asked.records);
    let limits = asked.limit_words();
    let service = Service::start(&limits.each_ref().map(String::as_str), |settings| {
        settings.plan = seeds.plan(asked.seed);
        settings.latency = Latency::HeavyTail { typical: Duration::from_millis(20) };
    });
    recorder.add(Fact::Terms(asked.terms(&topics.input)));
    let watched = watched(&topics, asked.delivery);
    let configs = INSTANCES.iter().zip(proxies).zip(&addresses);
    let configs = configs.map(|((name, proxy), addresses)| {
        ((*name).to_owned(), config(asked, &topics, &service, name, addresses), proxy)
    });
    let configs = configs.collect();
    eprintln!("{} s: the world is made", begun.elapsed().as_secs());

    let (stop, processes) = (AtomicBool::new(false), Processes::default());
    thread::scope(|scope| {
        let _stop = StopAtTheEnd(&stop);
        scope.spawn(|| watched.tail(recorder, &stop));
        scope.spawn(|| watched.sample(recorder, &stop));
        scope.spawn(|| witness::look_at(&processes, recorder, &stop));
        let mut fleet = Fleet::start(configs, brokers, recorder.clone(), processes.clone(), folder);
        eventually("each instance reads", LONG, || {
            fleet.tick();
            fleet.shares_the_input().then_some(())
        });
        let seeder = scope.spawn(|| seeds.write(&bootstrap, &topics.input, asked.seeding_pause()));
        disturb(&mut fleet, asked, begun);
        eventually("the fleet is whole", LONG, || {
            fleet.heal();
            fleet.tick();
            fleet.is_whole().then_some(())
        });
        eprintln!("{} s: healed", begun.elapsed().as_secs());
        seeder.join().unwrap();
        let input = watched.read_input(LONG);
        drain(&mut fleet, &watched, &input, begun, asked.limit());
        fleet.terminate();
        eventually("all have stopped", LONG, || {
            fleet.tick();
            fleet.has_stopped().then_some(())
        });
        eprintln!("{} s: stopped", begun.elapsed().as_secs());
        watched.read_all(recorder, LONG);
        write_down(recorder, &input, &seeds, &service);
    });
}

/// Also where something fails, else the witnesses would go on for ever.
struct StopAtTheEnd<'a>(&'a AtomicBool);

impl Drop for StopAtTheEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Goes through the schedule. What is not possible yet is waited for, so that the order stays.
fn disturb(fleet: &mut Fleet, asked: &Asked, begun: Instant) {
    let mut schedule: VecDeque<_> = schedule::draw(asked.seed, asked.extent).into();
    let mut due = Instant::now() + Duration::from_secs(15);
    while let Some(next) = schedule.front() {
        assert!(begun.elapsed() < asked.limit(), "the schedule is not done in time");
        fleet.tick();
        if Instant::now() >= due && fleet.disturb(next) {
            eprintln!("{} s: {:?} {} for {:?}", begun.elapsed().as_secs(), next.kind, next.target, next.lasts);
            schedule.pop_front();
            due = Instant::now() + schedule.front().map_or(Duration::ZERO, |next| next.pause);
        }
        thread::sleep(Duration::from_millis(20));
    }
}

/// Waits until everything is committed. What is not by then, the judge finds missing.
fn drain(fleet: &mut Fleet, watched: &Watched, input: &[InputRecord], begun: Instant, limit: Duration) {
    let asker = watched.asker();
    let (mut open, mut changed) = (None, Instant::now());
    while begun.elapsed() < limit && changed.elapsed() < STALLED {
        fleet.tick();
        let now = watched.uncommitted(&asker, input).or(open);
        if now != open {
            (open, changed) = (now, Instant::now());
        }
        if open == Some(0) {
            eprintln!("{} s: everything is committed", begun.elapsed().as_secs());
            return;
        }
        thread::sleep(Duration::from_millis(200));
    }
    eprintln!("{} s: {open:?} records are not committed", begun.elapsed().as_secs());
    fleet.keep_logs();
}

/// What is known only at the end: the service's calls and answers, and the places of the messages.
fn write_down(recorder: &Recorder, input: &[InputRecord], seeds: &Seeds, service: &Service) {
    for call in service.sim.calls() {
        let instance = call.instance.map(Into::into);
        let fact = Fact::Call(Call { path: call.path.into(), instance, status: call.status });
        recorder.add_at(nanos(call.at.since_origin()), fact);
    }
    let mut ids = BTreeSet::new();
    for InputRecord { place, number } in input {
        let expected = &seeds.messages[*number].expected;
        ids.extend(expected.alerts.iter().filter(|alert| !alert.expired).map(|alert| alert.id.clone()));
        recorder.add(Fact::Seeded(seeded(*place, *number, seeds)));
    }
    for alert in ids {
        recorder.add(Fact::Answer(planned(service, alert)));
    }
}

/// What must become of a message at this place. An alert with more addresses than the output takes is a dead letter.
fn seeded(place: Place, number: usize, seeds: &Seeds) -> Seeded {
    let Message { shape, expected, .. } = &seeds.messages[number];
    let (large, others): (Vec<_>, Vec<_>) = expected.alerts.iter().partition(|alert| seeds.large.contains(&alert.id));
    let alerts = others.into_iter().map(|alert| Alert { id: alert.id.clone(), expired: alert.expired }).collect();
    let rejection = expected.rejection.or((!large.is_empty()).then_some(Reason::TooLarge));
    Seeded { place, shape: (*shape).to_owned(), alerts, rejection: rejection.map(|reason| reason.as_str().to_owned()) }
}

fn planned(service: &Service, alert: String) -> Answer {
    debug_assert!(AlertId::parse(&alert).is_ok());
    service.sim.with(|service| {
        let last = service.plan().last(&alert);
        // A plan has a few answers; the last one repeats.
        let earlier = (0..8).take_while(|earlier| service.plan().answer(&alert, *earlier) != last).count();
        let (status, ips) = match last {
            Planned::Found(ips) => ("found", ips),
            Planned::Empty => ("empty", Vec::new()),
            other => panic!("this campaign plans no {other:?}"),
        };
        Answer { alert, status: status.to_owned(), ips, earlier }
    })
}

fn config(asked: &Asked, topics: &Topics, service: &Service, name: &str, brokers: &[SocketAddr]) -> Config {
    let limits = asked.limit_words();
    let config = Config::new(topics, &service.origin)
        .set("kafka.bootstrap_servers", list(brokers))
        .instance(name)
        .limits(&limits.each_ref().map(String::as_str))
        .account_line("max_in_flight = 8")
        .set("output.delivery", delivery_name(asked.delivery))
        .set("input.max_open_records", MAX_OPEN)
        .set("reuse.reuse_for", "2h")
        .set("http.total_timeout", "10s")
        .property("reconnect.backoff.max.ms", 1_000)
        .property("topic.metadata.refresh.interval.ms", 2_000);
    let classic = |config: Config| config.property("session.timeout.ms", SESSION.as_millis());
    match &*asked.protocol {
        "cooperative" => classic(config),
        "eager" => classic(config).property("partition.assignment.strategy", "range"),
        // The session is the brokers'.
        "consumer" => config.property("group.protocol", "consumer"),
        other => panic!("ALERT_IPS_CHAOS_PROTOCOL can't be \"{other}\""),
    }
}

fn create_topics(topics: &Topics) {
    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", &topics.bootstrap).create().unwrap();
    let stamped = ("message.timestamp.type", "LogAppendTime");
    let output_takes = OUTPUT_TAKES.to_string();
    let new =
        |name, partitions| NewTopic::new(name, partitions, TopicReplication::Fixed(3)).set("min.insync.replicas", "2");
    let all = [
        new(&topics.input, INPUTS),
        new(&topics.output, OUTPUTS).set(stamped.0, stamped.1).set("max.message.bytes", &output_takes),
        new(&topics.dead_letters, 1),
        new(&topics.journal, 3).set(stamped.0, stamped.1),
    ];
    let options = AdminOptions::new().operation_timeout(Some(LONG));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    for topic in all {
        // Until all three brokers are there, a topic has not enough replicas.
        eventually(&format!("{} is created", topic.name), LONG, || {
            runtime.block_on(admin.create_topics([&topic], &options)).ok()?[0].is_ok().then_some(())
        });
    }
}

fn watched(topics: &Topics, delivery: Delivery) -> Watched {
    let Topics { bootstrap, input, output, dead_letters, group, .. } = topics;
    Watched {
        bootstrap: bootstrap.clone(),
        group: group.clone(),
        input: input.clone(),
        output: output.clone(),
        dead_letters: dead_letters.clone(),
        delivery,
    }
}

fn delivery_name(delivery: Delivery) -> &'static str {
    match delivery {
        Delivery::AtLeastOnce => "at-least-once",
        Delivery::ExactlyOnce => "exactly-once",
    }
}

fn list(addresses: &[SocketAddr]) -> String {
    addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

/// Where runs are kept.
fn folder() -> PathBuf {
    env::var_os("ALERT_IPS_CHAOS_FOLDER")
        .map_or_else(|| PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("chaos"), PathBuf::from)
}
