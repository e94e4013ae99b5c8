//! The process aborts at each of its crash points, when it passes it for the first, the second and the tenth time, in both
//! ways to deliver. It starts again under the same name, and all is as if nothing had happened, but for what a crash may
//! cost by `docs/delivery.md`.
//!
//! One case by itself, with a line for it:
//!
//! ```sh
//! ALERT_IPS_KAFKA_REQUIRED=1 ALERT_IPS_CRASH_AT=transaction.before-commit:2 cargo test --test kafka crash_points -- --nocapture
//! ```

use std::{
    any::Any,
    collections::{BTreeMap, BTreeSet, VecDeque},
    env, fmt,
    os::unix::process::ExitStatusExt as _,
    panic::{AssertUnwindSafe, catch_unwind},
    process::ExitStatus,
    sync::{Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use alert_ips::{
    crash_point::{self, Point},
    domain::{alert::Severity, settled::Settled},
    sim::{
        Answer, Latency, Plan,
        world::{Shares, World},
    },
};
use jiff::{Timestamp, ToSpan as _};
use rstest::rstest;

use crate::{
    fleet::is_full_run,
    harness::{Broker, Checker, Config, Daemon, LONG, Place, Seeded, Service, Topics, Visitor, eventually},
};

const AT_LEAST_ONCE: &str = "at-least-once";
const EXACTLY_ONCE: &str = "exactly-once";

/// Cases of one test that run at the same time: they wait most of the time, for the end of a dead member's session and for
/// answers to calls whose claims it left open.
const AT_ONCE: usize = 8;

/// Wide, so that they hold up nothing for long, and low enough to be reached.
const LIMITS: [&str; 2] = ["40 per 1s", "300 per 10s"];
const MAX_IN_FLIGHT: u64 = 8;

/// Some alerts that are asked about more than once, and some that the service refuses to answer.
const MIX: &str = "found=840,empty=90,unknown=10,late=30,failing=20,refused=10";

/// How often an alert that the service does not know is asked about again.
const REASKS: u64 = 3;

/// A dead member is missed then.
const SESSION: Duration = Duration::from_secs(3);

/// So many messages are there at the start; then one follows in each of these times, later in each of those.
const AT_FIRST: usize = 16;
const PAUSE: Duration = Duration::from_millis(100);
const LATER: Duration = Duration::from_secs(15);
const LATER_PAUSE: Duration = Duration::from_secs(1);

/// A point that is not passed often enough by then is not passed.
const PATIENCE: Duration = Duration::from_secs(45);

/// How often it is looked whether everything is committed.
const LOOK_EVERY: Duration = Duration::from_millis(300);

/// What leads past a point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// Alerts alone.
    Work,
    /// Tokens that last a second.
    ShortTokens,
    /// Another member that comes and goes, while calls are on the wire.
    Moves,
    /// SIGTERM, while calls are on the wire.
    Stop,
}

/// What is judged together, in one test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Asking,
    Delivering,
    Membership,
}

struct Case {
    point: Point,
    passing: u32,
    delivery: &'static str,
}

impl Case {
    /// How often calls may be cut off: at the crash, and wherever partitions move and there is too little time for them.
    fn interruptions(&self) -> u64 {
        1 + if way(self.point) == Way::Moves { u64::from(self.passing) } else { 0 }
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}:{}", self.delivery, self.point.name(), self.passing)
    }
}

fn way(point: Point) -> Way {
    match point {
        Point::AssignBefore
        | Point::AssignAfter
        | Point::RevokeTold
        | Point::RevokeWaiting
        | Point::RevokeBeforeGivingUp
        | Point::RevokeGivenUp => Way::Moves,
        Point::DrainBegun
        | Point::DrainWaiting
        | Point::DrainBeforeLastCommit
        | Point::DrainBeforeLeaving
        | Point::DrainLeft => Way::Stop,
        Point::TokenBeforeRequest | Point::TokenFetched => Way::ShortTokens,
        _ => Way::Work,
    }
}

fn part(point: Point) -> Part {
    match way(point) {
        Way::Moves | Way::Stop => Part::Membership,
        Way::ShortTokens => Part::Asking,
        Way::Work => match point {
            Point::ConsumerPolled
            | Point::ConsumerHandedOver
            | Point::AnswerBeforeAppend
            | Point::AnswerAppended
            | Point::CheckpointBeforeAppend
            | Point::CheckpointAppended => Part::Delivering,
            _ if is_of(point, "produce.") || is_of(point, "commit.") || is_of(point, "transaction.") => {
                Part::Delivering
            }
            _ => Part::Asking,
        },
    }
}

fn is_of(point: Point, group: &str) -> bool {
    point.name().starts_with(group)
}

/// Whether an instance that delivers so comes there.
fn is_passed(point: Point, delivery: &str) -> bool {
    if is_of(point, "produce.") || is_of(point, "commit.") {
        delivery == AT_LEAST_ONCE
    } else {
        delivery == EXACTLY_ONCE || !is_of(point, "transaction.")
    }
}

/// At which passings it aborts.
fn passings(point: Point) -> &'static [u32] {
    match point {
        Point::CheckpointBeforeAppend | Point::CheckpointAppended if is_full_run() => &[1, 2],
        // A process stops once, and writes one checkpoint at its start and then one a minute.
        Point::DrainBegun
        | Point::DrainBeforeLastCommit
        | Point::DrainBeforeLeaving
        | Point::DrainLeft
        | Point::CheckpointBeforeAppend
        | Point::CheckpointAppended => &[1],
        _ => &[1, 2, 10],
    }
}

#[rstest]
#[case::at_least_once_while_asking(AT_LEAST_ONCE, Part::Asking)]
#[case::at_least_once_while_delivering(AT_LEAST_ONCE, Part::Delivering)]
#[case::at_least_once_in_the_group(AT_LEAST_ONCE, Part::Membership)]
#[case::exactly_once_while_asking(EXACTLY_ONCE, Part::Asking)]
#[case::exactly_once_while_delivering(EXACTLY_ONCE, Part::Delivering)]
#[case::exactly_once_in_the_group(EXACTLY_ONCE, Part::Membership)]
fn a_crash_costs_no_more_than_it_may(#[case] delivery: &'static str, #[case] of: Part) {
    let Some(kafka) = Broker::shared() else { return };
    let only = env::var(crash_point::VARIABLE).ok();
    let points = Point::ALL.iter().copied().filter(|point| is_passed(*point, delivery) && part(*point) == of);
    let cases = points.flat_map(|point| passings(point).iter().map(move |passing| (point, *passing)));
    let cases = cases
        .filter(|(point, passing)| only.as_ref().is_none_or(|only| *only == format!("{}:{passing}", point.name())));
    let cases: VecDeque<_> = cases.map(|(point, passing)| Case { point, passing, delivery }).collect();
    let (cases, failed) = (Mutex::new(cases), Mutex::new(Vec::new()));
    thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some(case) = next(&cases) {
                    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| crash(kafka, &case))) {
                        failed.lock().unwrap().push(format!("{case}: {}", words(&*panic)));
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().unwrap();
    assert!(failed.is_empty(), "{} failed:\n{}", failed.len(), failed.join("\n"));
}

/// The brokers end it after 30 s, and until then say nothing of the offsets in it, so that nobody can read on: but whoever
/// comes under the same name ends it at once.
#[test]
fn a_transaction_that_a_crash_left_open_does_not_keep_the_next_life_waiting() {
    let Some(kafka) = Broker::shared() else { return };
    let case = Case { point: Point::TransactionBeforeCommit, passing: 1, delivery: EXACTLY_ONCE };
    let service = service(&case);
    let topics = Topics::create(&kafka.bootstrap, "crash-open");
    let config = config(&topics, &service, &case);
    let mut first = Daemon::start(&config.clone().crash_at(case.point, case.passing));
    lead_past(&case, &mut first, &topics, &service);
    let mut second = Daemon::start(&config);
    second.wait_for("outputs of what was answered before", SESSION + Duration::from_secs(10), |_| {
        (!topics.read(&topics.output).is_empty()).then_some(())
    });
    second.stop();
}

fn next(cases: &Mutex<VecDeque<Case>>) -> Option<Case> {
    cases.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
}

/// What a panic said.
fn words(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string)).unwrap_or_default()
}

/// One case, from its topics to its judgement.
fn crash(kafka: &Broker, case: &Case) {
    let begun = Instant::now();
    let service = service(case);
    let topics = Topics::create(&kafka.bootstrap, "crash");
    let config = config(&topics, &service, case);

    let mut first = Daemon::start(&config.clone().crash_at(case.point, case.passing));
    let (status, seeded) = lead_past(case, &mut first, &topics, &service);
    assert_eq!(status.signal(), Some(6), "it ends by SIGABRT: {status}");
    let line = format!("crash point {}, passing {}:", case.point.name(), case.passing);
    assert!(first.log().contains(&line), "its last words name the point");
    let crashed = begun.elapsed();
    // Of a transaction that is open the brokers say nothing before it ends; there is no need to ask either.
    let before = (case.delivery == AT_LEAST_ONCE).then(|| Before::look(&topics));

    let mut second = Daemon::start(&config);
    second.wait_for("everything in the input is committed", LONG, |_| {
        thread::sleep(LOOK_EVERY);
        (topics.uncommitted() == 0).then_some(())
    });
    let drained = begun.elapsed();
    second.stop();
    let stopped = begun.elapsed();
    judge(topics, &service, seeded, before, case.interruptions());
    let judged = begun.elapsed();
    eprintln!("{case}: crashed after {crashed:.1?}, drained {drained:.1?}, stopped {stopped:.1?}, judged {judged:.1?}");
}

fn service(case: &Case) -> Service {
    Service::start(&LIMITS, |settings| {
        settings.plan = Plan::new(7, MIX.parse().unwrap());
        let way = way(case.point);
        let (from, to) = match way {
            Way::Work | Way::ShortTokens => (2, 40),
            Way::Moves => (250, 350),
            // They end one by one, so that there is something to wait for again and again.
            Way::Stop => (600, 1_800),
        };
        settings.latency = Latency::Uniform { from: Duration::from_millis(from), to: Duration::from_millis(to) };
        if way == Way::ShortTokens {
            settings.token_lifetime = Duration::from_secs(1);
        }
    })
}

fn config(topics: &Topics, service: &Service, case: &Case) -> Config {
    Config::new(topics, &service.origin)
        .built_with_tests()
        .limits(&LIMITS)
        .set("output.delivery", case.delivery)
        .set("accounts.contoso.max_in_flight", MAX_IN_FLIGHT)
        .set("retry.first", "100ms")
        // So long an alert is not asked about again whose claim was left open, and as long again as a claim and the network
        // may take.
        .set("http.connect_timeout", "3s")
        .set("http.head_timeout", "3s")
        .set("http.total_timeout", "3s")
        .property("session.timeout.ms", SESSION.as_millis())
        .property("heartbeat.interval.ms", 200)
}

/// Lets the daemon work, and does what leads it past the point, until it has ended. Returns how, and what it was given.
fn lead_past(case: &Case, daemon: &mut Daemon, topics: &Topics, service: &Service) -> (ExitStatus, Vec<Seeded>) {
    let begun = Instant::now();
    let way = way(case.point);
    let patience = if is_of(case.point, "checkpoint.") { 3 * PATIENCE } else { PATIENCE };
    // So long ago that an answer is good for an alert that is read again.
    let shares = Shares { odd: 60, repeat: 0, storm: 0 };
    let mut world = World::new(7, Timestamp::now() - 10.minutes()).shares(shares);
    let mut seeding = topics.seeding();
    let mut write = || {
        // Messages with several alerts are decided with the last of their calls: fewer ends to wait for.
        let alone = (way == Way::Stop).then(|| world.alert(Severity::Medium));
        seeding.write(alone.unwrap_or_else(|| world.next_message()));
    };
    (0..AT_FIRST).for_each(|_| write());
    let visitor = (way == Way::Moves).then(|| Visitor::come_and_go(topics, SESSION));
    let mut is_asked_to_stop = way != Way::Stop;
    let status = loop {
        if let Some(status) = daemon.ended() {
            break status;
        }
        assert!(begun.elapsed() < patience, "it is not passed so often within {} s", patience.as_secs());
        if !is_asked_to_stop && service.sim.counts().calls >= MAX_IN_FLIGHT {
            daemon.terminate();
            is_asked_to_stop = true;
        }
        write();
        thread::sleep(if begun.elapsed() < LATER { PAUSE } else { LATER_PAUSE });
    };
    drop(visitor);
    (status, seeding.end())
}

/// What stood in Kafka when the process was dead.
struct Before {
    settled: BTreeMap<i32, (i64, Settled)>,
    published: BTreeMap<Place, usize>,
}

impl Before {
    fn look(topics: &Topics) -> Self {
        // In this order: what was settled before was published before.
        let settled = topics.settled();
        Self { settled, published: Checker::published(topics) }
    }

    fn is_settled(&self, (partition, offset): Place) -> bool {
        self.settled.get(&partition).is_some_and(|(next, beyond)| offset < *next || beyond.contains(offset))
    }

    /// Of what was settled nothing is published any more.
    fn assert_nothing_settled_was_repeated(&self, topics: &Topics) {
        let after = Checker::published(topics);
        let before = |place: &Place| self.published.get(place).copied().unwrap_or_default();
        let again: Vec<_> = after
            .iter()
            .filter(|(place, count)| self.is_settled(**place) && **count != before(place))
            .map(|(place, count)| format!("{place:?}: {} and then {count}", before(place)))
            .collect();
        assert_eq!(again, Vec::<String>::new(), "what was settled was published after the crash");
    }
}

fn judge(topics: Topics, service: &Service, seeded: Vec<Seeded>, before: Option<Before>, interruptions: u64) {
    service.assert_no_violation();
    for window in service.sim.windows() {
        assert!(!window.was_exceeded(), "{window:?}");
    }
    assert_no_call_too_many(service, &seeded, interruptions);
    let checker = Checker::new(topics, service, seeded);
    let topics = checker.topics();
    assert_eq!(topics.uncommitted(), 0, "all is committed");
    if let Some(before) = before {
        checker.assert_at_least_once();
        before.assert_nothing_settled_was_repeated(topics);
    } else {
        let visible = || topics.read(&topics.output).len() + topics.read(&topics.dead_letters).len();
        eventually("as much is visible as there must be", LONG, || {
            (visible() >= checker.expected_records()).then_some(())
        });
        checker.assert_exactly_once();
    }
}

/// One call for each alert, what its answers cost by plan, those whose token had just ended, and what was on the wire at each
/// interruption.
fn assert_no_call_too_many(service: &Service, seeded: &[Seeded], interruptions: u64) {
    let alerts = seeded.iter().flat_map(|seeded| &seeded.message.expected.alerts);
    let asked: BTreeSet<_> = alerts.filter(|alert| !alert.expired).map(|alert| &alert.id).collect();
    let by_plan: u64 = service.sim.with(|service| asked.iter().map(|id| by_plan(service.plan(), id)).sum());
    let counts = service.sim.counts();
    let unauthorized = counts.by_status.get(&401).copied().unwrap_or_default();
    let cut_off = MAX_IN_FLIGHT * interruptions;
    let most = by_plan + unauthorized + cut_off;
    assert!(counts.calls <= most, "at most {by_plan} + {unauthorized} + {cut_off} calls: {counts:?}");
}

/// How many calls an alert costs.
fn by_plan(plan: &Plan, id: &str) -> u64 {
    let last = plan.last(id);
    let before = (0..REASKS).take_while(|n| plan.answer(id, usize::try_from(*n).unwrap()) != last).count() as u64;
    if last == Answer::NotFound { 1 + REASKS } else { 1 + before }
}
