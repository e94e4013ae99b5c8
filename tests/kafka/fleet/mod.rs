//! Several instances, and one after the other, that share a journal in Kafka: one budget, one question once, and no call
//! where there is any doubt.
//!
//! The limits are narrow, `20 per 1s` and `60 per 10s`, so that they are reached in seconds; the simulated service enforces
//! them and counts for itself. That is at most 5.5 calls a second, so a run of 3,000 alerts takes eight minutes: CI runs fewer, and `ALERT_IPS_FULL=1`
//! all of them. `ALERT_IPS_SEED` repeats a run's disturbances.

pub(crate) mod accounts;
mod chaos;
mod fails_closed;
mod limits;
mod numbers;
mod sharing;
mod versions;

use std::{
    collections::{BTreeMap, BTreeSet},
    env,
    time::Duration,
};

use alert_ips::{
    domain::alert::Severity,
    sim::{
        Call, Settings,
        world::{Message, Shares, World},
    },
};
use jiff::{Timestamp, ToSpan as _};
use rand::{RngExt as _, SeedableRng as _, rngs::SmallRng};

use crate::harness::{Config, Service, Topics};

const LIMITS: [&str; 2] = ["20 per 1s", "60 per 10s"];

/// Calls of one instance, or of all, that can be on the wire at once.
const MAX_IN_FLIGHT: usize = 8;

/// How long a call may take. The simulated network takes at most 8 s, so that none fails for that reason.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);

/// Within this time all works again once the cause of a trouble has gone.
const RECOVERY: Duration = Duration::from_mins(1);

fn service(change: impl FnOnce(&mut Settings)) -> Service {
    Service::start(&LIMITS, change)
}

/// An instance that notices within seconds what Kafka does.
fn config(topics: &Topics, service: &Service) -> Config {
    Config::new(topics, &service.origin)
        .limits(&LIMITS)
        .set("http.total_timeout", format!("{}s", CALL_TIMEOUT.as_secs()))
        .property("session.timeout.ms", 6_000)
        .property("reconnect.backoff.max.ms", 1_000)
        .property("topic.metadata.refresh.interval.ms", 1_000)
}

/// New alerts, last updated so long ago that every answer is fresh for their repeats.
pub(super) fn new_alerts(seed: u64, count: usize) -> Vec<Message> {
    World::new(seed, Timestamp::now() - 10.minutes()).shares(Shares::ONLY_NEW).take(count).collect()
}

/// The same, all of them High, so that nothing but the limits holds them back, and in a shape that names the tenant.
fn high_alerts(seed: u64, tenant: &str, count: usize) -> Vec<Message> {
    alerts_of(Severity::High, seed, tenant, count)
}

/// New alerts of this severity, in a shape that names the tenant.
pub(crate) fn alerts_of(severity: Severity, seed: u64, tenant: &str, count: usize) -> Vec<Message> {
    let mut world = World::new(seed, Timestamp::now() - 10.minutes()).tenant(tenant);
    (0..count).map(|_| world.alert(severity)).collect()
}

/// New alerts, and `percent` of all messages repeat one of those before.
fn alerts_with_repeats(seed: u64, count: usize, percent: usize) -> Vec<Message> {
    let mut rng = SmallRng::seed_from_u64(seed);
    let repeats = count * percent / 100;
    let mut messages = new_alerts(seed, count - repeats);
    for _ in 0..repeats {
        let original = rng.random_range(0..messages.len());
        let repeat = messages[original].clone();
        let place = rng.random_range(original..messages.len()) + 1;
        messages.insert(place, repeat);
    }
    messages
}

/// The ids of the alerts that have to be asked about.
pub(super) fn ids(messages: &[Message]) -> BTreeSet<String> {
    let alerts = messages.iter().flat_map(|message| &message.expected.alerts);
    alerts.filter(|alert| !alert.expired).map(|alert| alert.id.clone()).collect()
}

/// The alert that a call asks about.
fn alert_of(call: &Call) -> &str {
    call.path.strip_prefix("/api/alerts/").and_then(|rest| rest.strip_suffix("/ips")).unwrap()
}

/// The statuses of the calls about each alert, as the service counted them; `None` where it broke the connection.
fn calls_by_alert(service: &Service) -> BTreeMap<String, Vec<Option<u16>>> {
    let mut calls: BTreeMap<String, Vec<_>> = BTreeMap::new();
    for call in service.sim.calls() {
        calls.entry(alert_of(&call).to_owned()).or_default().push(call.status);
    }
    calls
}

/// Calls that the service answered although it had answered the same question before.
fn asked_in_vain(service: &Service) -> usize {
    let answered = |statuses: &Vec<Option<u16>>| statuses.iter().filter(|status| **status == Some(200)).count();
    calls_by_alert(service).values().map(|statuses| answered(statuses).saturating_sub(1)).sum()
}

fn calls(service: &Service) -> u64 {
    service.sim.counts().calls
}

/// What was asked for, or less.
pub(super) fn is_full_run() -> bool {
    env::var("ALERT_IPS_FULL").is_ok_and(|value| value == "1")
}
