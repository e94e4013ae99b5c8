//! What must hold of every run, whatever went wrong in it: judged by the service's own list of calls, by what the network
//! saw, and by what any later reader of the log would rule.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    time::Duration,
};

use alert_ips::domain::{
    budget::{Budget, Ruling},
    journal::Body,
};

use super::{
    faults::{CALM, LASTS},
    network::Flight,
    partition::Stored,
    run::Record,
};
use crate::world::CALL_TIMEOUT;

/// A claim that was granted before the pause was known may leave so much later.
const CLAIM_TTL: Duration = Duration::from_secs(10);

/// The end of a run, when what went wrong is long over.
const LAST_PART: Duration = Duration::from_mins(15);

/// What is wrong with a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wrong {
    /// More calls than a limit allows, as the service counted.
    Over,
    AskedTwiceAtOnce,
    NotGranted,
    CalledInAPause,
    Stalled,
    Panicked,
}

/// What is wrong, and how it shows.
pub(super) type Complaint = (Wrong, String);

/// What is wrong with a run. Nothing, if all is well.
pub(super) fn complaints(record: &Record) -> Vec<Complaint> {
    let over = record.sim.violations().first().map(ToString::to_string);
    if let Some(over) = over {
        // Such a run was not played to its end.
        return vec![(Wrong::Over, over)];
    }
    let found = [
        (Wrong::AskedTwiceAtOnce, asked_twice_at_once(record)),
        (Wrong::NotGranted, not_granted(record)),
        (Wrong::CalledInAPause, called_in_a_pause(record)),
        (Wrong::Stalled, stalled(record)),
    ];
    found.into_iter().filter_map(|(wrong, words)| Some((wrong, words?))).collect()
}

/// Two calls about one alert, of whomever, must not be out at the same time; those that left late, after a stop, the rule
/// gives up on.
fn asked_twice_at_once(record: &Record) -> Option<String> {
    if record.plan.journal_time_is_off() {
        // By it such a question may be over early.
        return None;
    }
    // Another log does not know of it.
    let recreated = record.plan.recreated();
    let forgotten =
        |earlier: &Flight, flight: &Flight| recreated.is_some_and(|at| (earlier.left..flight.left).contains(&at));
    let mut last: HashMap<&str, &Flight> = HashMap::new();
    for flight in record.flights.iter().filter(|flight| !flight.late) {
        let earlier = last.insert(&flight.alert, flight);
        // Its caller may have been killed, and its answer lost.
        let over = |earlier: &Flight| earlier.over.unwrap_or(Duration::MAX).min(earlier.left + CALL_TIMEOUT);
        let earlier = earlier.filter(|earlier| over(earlier) > flight.left && !forgotten(earlier, flight));
        if let Some(earlier) = earlier {
            return Some(format!(
                "{} was asked by instance {} at {:?} while {} was asking since {:?}",
                flight.alert, flight.instance, flight.left, earlier.instance, earlier.left
            ));
        }
    }
    None
}

/// Every call has a claim that is granted by the log alone, as any later reader would rule.
fn not_granted(record: &Record) -> Option<String> {
    let mut calls: BTreeMap<&str, i64> = BTreeMap::new();
    for flight in &record.flights {
        *calls.entry(&flight.alert).or_default() += 1;
    }
    for log in &record.logs {
        let mut budget = Budget::default();
        for (message, entry) in
            log.iter().flat_map(|message| message.entries().into_iter().map(move |entry| (message, entry)))
        {
            match (budget.apply(message.time(), &entry), &entry.body) {
                (Ruling::Granted(_), Body::Claim(claim)) => {
                    if let Some(calls) = calls.get_mut(claim.alert.as_str()) {
                        *calls -= 1;
                    }
                }
                (Ruling::Divergent(claim), _) => return Some(format!("claim {claim} was refused, and called")),
                _ => {}
            }
        }
    }
    let (alert, more) = calls.into_iter().find(|(_, more)| *more > 0)?;
    Some(format!("{more} calls about {alert} that no claim was granted for"))
}

/// Once a pause is written down, only what was granted before may still leave.
fn called_in_a_pause(record: &Record) -> Option<String> {
    let is_freeze = |message: &&Stored| message.entries().iter().any(|entry| matches!(&entry.body, Body::Freeze(_)));
    record.pauses.iter().filter(|_| !record.plan.journal_time_is_off()).find_map(|(begins, ends)| {
        let within = |when: &Duration| (*begins..*ends).contains(when);
        let written = record.messages().filter(|message| within(&message.landed)).find(is_freeze);
        let calls = record.flights.iter().filter(|flight| within(&flight.left) && !flight.late);
        if let Some(known) = written.map(|message| message.landed) {
            let last = calls.map(|flight| flight.left).max()?;
            return (last > known + CLAIM_TTL).then(|| format!("a call at {last:?}, in a pause known since {known:?}"));
        }
        let calls = calls.count();
        (calls > 20).then(|| format!("{calls} calls in a pause from {begins:?} to {ends:?} that nobody wrote down"))
    })
}

/// When nothing goes wrong any more, calls go on, unless the hour is spent.
fn stalled(record: &Record) -> Option<String> {
    let since = |part: Duration| record.flights.iter().filter(|flight| flight.left > LASTS - part).count();
    let (lately, in_the_hour) = (since(LAST_PART), since(Duration::from_hours(1)));
    let waiting: usize = record.askers.iter().map(|asker| asker.waiting().0).sum();
    let least = if record.plan.load.saturates() { 100 } else { waiting.min(20) };
    (lately < least && in_the_hour < record.plan.spent()).then(|| {
        format!(
            "{lately} calls in the last {LAST_PART:?}, {in_the_hour} in the last hour, while {waiting} alerts waited, all \
             calm since {CALM:?}"
        )
    })
}

/// The figures of a run.
pub(super) struct Figures {
    pub(super) calls: usize,
    /// In each full hour.
    pub(super) hours: [usize; 2],
    pub(super) worst: Vec<(u64, usize)>,
    pub(super) messages: usize,
    pub(super) entries: usize,
    pub(super) late: usize,
    pub(super) answered: u64,
}

impl Figures {
    pub(super) fn of(record: &Record) -> Self {
        let hour = Duration::from_hours(1);
        let first = record.flights.iter().filter(|flight| flight.left < hour).count();
        Self {
            calls: record.flights.len(),
            hours: [first, record.flights.len() - first],
            worst: record.sim.windows().iter().map(|window| (window.limit.per.as_secs(), window.worst)).collect(),
            messages: record.messages().count(),
            entries: record.messages().map(|message| message.entries().len()).sum(),
            late: record.flights.iter().filter(|flight| flight.late).count(),
            answered: record.askers.iter().map(super::load::Asker::answered).sum(),
        }
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { calls, hours, worst, messages, entries, late, answered } = self;
        write!(
            f,
            "{calls} calls ({hours:?} by hour, {late} late), worst {worst:?}, {messages} messages with {entries} entries, \
             {answered} answered"
        )
    }
}
