//! The summary: each thing the demo claims, and whether it was so.

use std::time::Duration;

use super::{
    ledger::{Audit, Waits, p95},
    show::counted,
};
use crate::{
    dispatcher::Unfinished,
    domain::limit::Limit,
    sim::{Violation, Window},
};

/// How long 95 of 100 High alerts may wait at most while the storm is on, at the demo's limits: far less than the storm,
/// far more than one turn of a busy machine.
const HIGH_WITHIN: Duration = Duration::from_secs(2);

/// Anomalies that are told one by one; all are counted.
const TOLD: usize = 5;

/// Everything that the run left behind.
#[derive(Clone, Debug)]
pub(super) struct Facts {
    pub(super) audit: Audit,
    pub(super) waits: Waits,
    /// The run was ended before everything was answered.
    pub(super) cut_short: bool,
    /// There were more alerts than can be answered in the time.
    pub(super) overloaded: bool,
    /// As the simulated service counted them.
    pub(super) windows: Vec<Window>,
    pub(super) violations: Vec<Violation>,
    pub(super) freeze: Option<FreezeSeen>,
    pub(super) drain: Drain,
}

/// A freeze as the service saw it.
#[derive(Clone, Debug)]
pub(super) struct FreezeSeen {
    /// Calls that met a 429.
    pub(super) calls: usize,
    /// Calls that may be on the wire at once.
    pub(super) in_flight: u32,
    pub(super) lasted: Duration,
}

/// How the daemon stopped.
#[derive(Clone, Debug)]
pub(super) struct Drain {
    pub(super) took: Duration,
    pub(super) unfinished: Unfinished,
}

/// One claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Check {
    pub(super) ok: bool,
    pub(super) name: String,
    pub(super) words: String,
}

impl Check {
    fn new(ok: bool, name: &str, words: String) -> Self {
        Self { ok, name: name.to_owned(), words }
    }

    /// As one line of the summary.
    pub(super) fn line(&self) -> String {
        let verdict = if self.ok { "ok" } else { "FAILED" };
        format!("{verdict:6}  {:12}  {}", self.name, self.words)
    }
}

/// All claims, checked.
pub(super) fn checks(facts: &Facts) -> Vec<Check> {
    let mut checks: Vec<_> = facts.windows.iter().map(limit_kept).collect();
    checks.extend([
        only_permitted(&facts.violations),
        accounted_for(&facts.audit, facts.cut_short),
        exactly_once(&facts.audit),
        answers(&facts.audit),
        high_first(&facts.waits, facts.overloaded),
    ]);
    checks.extend(facts.freeze.as_ref().map(freeze_obeyed));
    checks.push(drained(&facts.drain));
    checks
}

/// What was found wrong, line by line, for whoever looks for the cause.
pub(super) fn anomalies(audit: &Audit) -> Vec<String> {
    let kinds =
        [("lost", &audit.lost), ("twice", &audit.doubled), ("unexpected", &audit.phantom), ("wrong", &audit.wrong)];
    let mut lines = Vec::new();
    for (kind, found) in kinds {
        lines.extend(found.iter().take(TOLD).map(|words| format!("{kind}: {words}")));
        if found.len() > TOLD {
            lines.push(format!("{kind}: and {} more", found.len() - TOLD));
        }
    }
    lines
}

fn limit_kept(window: &Window) -> Check {
    let Window { limit: Limit { calls, .. }, worst, .. } = *window;
    let used = worst * 100 / calls.get() as usize;
    let words = format!("fullest window the service saw: {} ({used} % used)", counted(worst, "call"));
    Check::new(!window.was_exceeded(), &window.limit.to_string(), words)
}

fn only_permitted(violations: &[Violation]) -> Check {
    let words = match violations.first() {
        None => "for nothing but the addresses of well-formed alert ids".to_owned(),
        Some(first) => format!("{} that must not be, first: {first}", counted(violations.len(), "call")),
    };
    Check::new(violations.is_empty(), "calls", words)
}

fn accounted_for(audit: &Audit, cut_short: bool) -> Check {
    let Audit { records, outputs, dead_letters, skipped, waiting, .. } = audit;
    let (outputs, dead_letters) = (counted(*outputs, "output"), counted(*dead_letters, "dead letter"));
    let left = match waiting {
        0 => String::new(),
        _ => format!(", {waiting} still waiting (uncommitted)"),
    };
    let words = format!("{records} messages in: {outputs}, {dead_letters}, {skipped} skipped{left}");
    Check::new(*waiting == 0 || cut_short, "records", words)
}

fn exactly_once(audit: &Audit) -> Check {
    let [lost, doubled, phantom] = [&audit.lost, &audit.doubled, &audit.phantom].map(Vec::len);
    let words = format!("{lost} lost, {doubled} twice, {phantom} unexpected");
    Check::new(lost + doubled + phantom == 0, "delivery", words)
}

fn answers(audit: &Audit) -> Check {
    let words = match audit.wrong.len() {
        0 => format!("all as the service planned, {} with addresses", audit.found),
        wrong => format!("{wrong} not as the service planned"),
    };
    Check::new(audit.wrong.is_empty(), "answers", words)
}

fn high_first(waits: &Waits, overloaded: bool) -> Check {
    let Some(high) = p95(&waits.high) else {
        return Check::new(true, "high first", "not shown: no high alert came through the storm".to_owned());
    };
    if overloaded && high > HIGH_WITHIN {
        let words = "not shown: the high alerts alone are more than the limits allow".to_owned();
        return Check::new(true, "high first", words);
    }
    let others = p95(&waits.others).map_or_else(String::new, |others| format!("; others {}", seconds(others)));
    let count = counted(waits.high.len(), "high alert");
    let words = format!("p95 {} of {count} in the storm{others}", seconds(high));
    Check::new(high <= HIGH_WITHIN, "high first", words)
}

fn freeze_obeyed(freeze: &FreezeSeen) -> Check {
    let FreezeSeen { calls, in_flight, lasted } = freeze;
    let (ok, lasted) = (*calls <= *in_flight as usize, seconds(*lasted));
    let words = match calls {
        0 => format!("not shown: no call was due while the service throttled for {lasted}"),
        _ => format!("{} met the freeze of {lasted} (at most {in_flight} on the wire)", counted(*calls, "call")),
    };
    Check::new(ok, "429", words)
}

fn drained(drain: &Drain) -> Check {
    // What still waits was told before.
    let Unfinished { records, writes, still_in_group, left_open: _ } = drain.unfinished;
    let took = seconds(drain.took);
    if records == 0 && writes == 0 && !still_in_group {
        return Check::new(true, "stopped", format!("in {took}: all finished, acknowledged and committed"));
    }
    let group = if still_in_group { ", still in the group" } else { "" };
    Check::new(
        false,
        "stopped",
        format!("after {took}, with {} and {} open{group}", counted(records, "record"), counted(writes, "write")),
    )
}

/// `0.4 s`.
pub(super) fn seconds(duration: Duration) -> String {
    format!("{:.1} s", duration.as_secs_f64())
}
