//! What `/readyz` says, for machines and for people.

use serde::Serialize;

use super::escape;
use crate::{
    domain::{alert::Severity, phase::Phase},
    observe::{
        health::Health,
        snapshot::{Snapshot, window_label},
        status::AccountStatus,
    },
};

/// The JSON of `/readyz?verbose`. Times are in seconds.
#[derive(Debug, Serialize)]
pub(super) struct Readiness {
    pub(super) ready: bool,
    phase: &'static str,
    parts: Vec<Part>,
    accounts: Vec<Account>,
}

#[derive(Debug, Serialize)]
struct Part {
    name: String,
    state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    words: Option<String>,
    since_seconds: u64,
}

#[derive(Debug, Serialize)]
struct Account {
    name: String,
    windows: Vec<Window>,
    next_slot_in_seconds: Option<f64>,
    in_flight: usize,
    waiting: usize,
    backlog: Vec<Backlog>,
    reask_waiting: usize,
    retry_waiting: usize,
    spare_waiting: usize,
    time_to_empty_seconds: f64,
    paused: Option<Paused>,
}

#[derive(Debug, Serialize)]
struct Window {
    per: String,
    calls: u32,
    used: u32,
    left: u32,
}

#[derive(Debug, Serialize)]
struct Backlog {
    severity: &'static str,
    waiting: usize,
    oldest_seconds: f64,
}

#[derive(Debug, Serialize)]
struct Paused {
    why: String,
    remaining_seconds: Option<f64>,
}

impl Readiness {
    pub(super) fn of(health: &Health, snapshot: Snapshot) -> Self {
        let now = health.now();
        let parts = health.report().into_iter().map(|report| Part {
            state: report.condition.state(),
            words: report.condition.words().map(str::to_owned),
            since_seconds: now.saturating_since(report.since).as_secs(),
            name: report.part.to_string(),
        });
        Self {
            ready: snapshot.phase == Phase::Running && health.ready(),
            phase: snapshot.phase.as_str(),
            parts: parts.collect(),
            accounts: snapshot.accounts.into_iter().map(|(name, status)| Account::of(&name, status)).collect(),
        }
    }

    /// For a person with curl: `ready`, or what is in the way, a line each.
    pub(super) fn lines(&self) -> String {
        let first = if self.ready { "ready\n".to_owned() } else { format!("not ready, {}\n", self.phase) };
        let parts = self.parts.iter().filter_map(|part| {
            let words = escape::line(part.words.as_ref()?);
            Some(format!("{} {} for {} s: {words}\n", part.name, part.state, part.since_seconds))
        });
        std::iter::once(first).chain(parts).collect()
    }
}

impl Account {
    fn of(name: &str, status: AccountStatus) -> Self {
        let windows = status.windows.iter().map(|window| Window {
            per: window_label(window.per),
            calls: window.calls,
            used: window.used,
            left: window.left,
        });
        let backlog = Severity::ALL.iter().zip(&status.backlog).map(|(severity, backlog)| Backlog {
            severity: severity.as_str(),
            waiting: backlog.waiting,
            oldest_seconds: backlog.oldest.as_secs_f64(),
        });
        Self {
            name: name.to_owned(),
            windows: windows.collect(),
            next_slot_in_seconds: status.next_slot_in.map(|wait| wait.as_secs_f64()),
            in_flight: status.in_flight,
            waiting: status.waiting(),
            backlog: backlog.collect(),
            reask_waiting: status.reask_waiting,
            retry_waiting: status.retry_waiting,
            spare_waiting: status.spare_waiting,
            time_to_empty_seconds: status.time_to_empty.as_secs_f64(),
            paused: status.paused.map(|pause| Paused {
                why: pause.why,
                remaining_seconds: pause.remaining.map(|wait| wait.as_secs_f64()),
            }),
        }
    }
}
