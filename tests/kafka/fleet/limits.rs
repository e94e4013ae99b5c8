//! Limits that change while the fleet works: instances restarted one by one with other numbers.

use std::{
    collections::{BTreeSet, HashMap},
    thread,
    time::Duration,
};

use alert_ips::sim::{Call, Latency, Mix, Plan, world::TENANT};
use jiff::Timestamp;

use super::{RECOVERY, alert_of, config, high_alerts};
use crate::harness::{Broker, Daemon, JournalMessage, LONG, Service, Topics};

/// The larger limits, which the service has and counts by.
const WIDE: [&str; 2] = ["20 per 1s", "40 per 5s"];

/// The smaller ones, and the same in numbers.
const NARROW: [&str; 2] = ["10 per 1s", "20 per 5s"];
const NARROW_CALLS: [usize; 2] = [10, 20];

/// How long after its last word a writer's limits hold: the longest window, a claim's life, a call, and a margin for the
/// network.
const REMEMBERED: Duration = Duration::from_secs(5 + 10 + 2 + 5);

/// How long the fleet works under the same limits: so that a window is full and begins to empty again.
const A_WHILE: Duration = Duration::from_secs(7);

fn is_within_narrow(call: &Call) -> bool {
    call.windows.iter().zip(NARROW_CALLS).all(|(window, most)| window.calls <= most)
}

/// Where and when a claim was written down.
#[derive(Clone, Copy)]
struct Claimed {
    offset: i64,
    at: Timestamp,
}

/// The service's calls, each with the claim it was made by: the last one about its alert.
fn claimed_calls(service: &Service, journal: &[JournalMessage]) -> Vec<(Call, Claimed)> {
    let mut claims = HashMap::new();
    for message in journal {
        for claim in message.entries("claim") {
            let claimed = Claimed { offset: message.offset, at: message.at };
            claims.insert(claim["alert"].as_str().unwrap(), claimed);
        }
    }
    let calls = service.sim.calls();
    let distinct: BTreeSet<_> = calls.iter().map(alert_of).collect();
    assert_eq!(distinct.len(), calls.len(), "an answered alert was asked about again");
    calls.iter().map(|call| (call.clone(), claims[alert_of(call)])).collect()
}

fn declares_narrow(message: &JournalMessage) -> bool {
    let calls = NARROW_CALLS.map(serde_json::Value::from);
    message.entries("terms").any(|terms| (0..2).all(|index| terms["limits"][index][0] == calls[index]))
}

#[test]
fn smaller_limits_hold_from_the_first_restart_on_and_larger_ones_when_the_smaller_are_forgotten() {
    let Some(kafka) = Broker::shared() else { return };
    let service = Service::start(&WIDE, |settings| {
        settings.plan = Plan::new(7, Mix::ALL_FOUND);
        settings.latency = Latency::Uniform { from: Duration::from_millis(20), to: Duration::from_millis(100) };
    });
    let topics = Topics::create(&kafka.bootstrap, "limits");
    topics.seed(high_alerts(19, TENANT, 1_500));
    let start = |name: &str, limits: &[&str]| {
        let config = config(&topics, &service).instance(name).limits(limits);
        Daemon::start(&config.set("http.head_timeout", "2s").set("http.total_timeout", "2s"))
    };
    let wide_is_used = |daemon: &mut Daemon, limit| {
        let seen = service.sim.calls().len();
        daemon.wait_for("more calls than the smaller limits allow", limit, |_| {
            service.sim.calls()[seen..].iter().any(|call| !is_within_narrow(call)).then_some(())
        });
    };
    let (mut one, mut two) = (start("one", &WIDE), start("two", &WIDE));
    wide_is_used(&mut one, LONG);

    two.stop();
    two = start("two", &NARROW);
    two.wait_for("the smaller limits are written down", LONG, |_| {
        topics.read_journal().iter().any(declares_narrow).then_some(())
    });
    thread::sleep(A_WHILE);
    one.stop();
    one = start("one", &NARROW);
    thread::sleep(A_WHILE);
    two.stop();
    two = start("two", &WIDE);
    thread::sleep(A_WHILE);
    one.stop();
    one = start("one", &WIDE);
    wide_is_used(&mut one, REMEMBERED + RECOVERY);
    thread::sleep(Duration::from_secs(1));
    one.stop();
    two.stop();

    service.assert_no_violation();
    let journal = topics.read_journal();
    let first = journal.iter().find(|message| declares_narrow(message)).unwrap();
    let writers: BTreeSet<_> =
        journal.iter().filter(|message| declares_narrow(message)).map(JournalMessage::writer).collect();
    let last = journal.iter().rfind(|message| writers.contains(message.writer())).unwrap();
    let forgotten = last.at + REMEMBERED;
    let calls = claimed_calls(&service, &journal);
    let (narrow, later): (Vec<_>, Vec<_>) = calls
        .iter()
        .filter(|(_, claimed)| claimed.offset > first.offset)
        .partition(|(_, claimed)| claimed.at < forgotten);
    for (call, claimed) in &narrow {
        assert!(is_within_narrow(call), "{} s after: {call:?}", claimed.at.duration_since(first.at).as_secs_f64());
    }
    let fullest = narrow.iter().map(|(call, _)| call.windows[1].calls).max();
    let wide = later.iter().find(|(call, _)| !is_within_narrow(call)).unwrap();
    eprintln!(
        "{} calls in {:.1} s while the smaller limits held, at most {fullest:?} in 5 s; the larger ones were used {:.1} s after \
         the last word of an instance with the smaller",
        narrow.len(),
        forgotten.duration_since(first.at).as_secs_f64(),
        wide.1.at.duration_since(last.at).as_secs_f64()
    );
    assert!(fullest >= Some(12), "{fullest:?}: the smaller limits were never put to the test");
}
