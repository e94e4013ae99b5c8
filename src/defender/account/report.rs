//! What an account says about itself.

use rand::RngExt;

use super::Account;
use crate::{
    defender::{journal::Journal, token, transport::Transport},
    domain::{
        alert::Severity,
        backlog::{Parked, Rank},
        budget::Room,
        time::BootTime,
    },
    observe::{
        health::Condition,
        status::{AccountStatus, BacklogStatus, Pause, WindowStatus},
    },
};

impl<J: Journal, T: Transport> Account<J, T> {
    /// Publishes a snapshot and the account's condition.
    pub(super) fn publish(&mut self) {
        let now = self.clock.boot();
        let wall = self.clock.wall();
        let backlog = Severity::ALL.map(|severity| {
            let (waiting, oldest) = self.backlog.waiting(severity);
            let oldest = oldest.map(|since| wall.duration_since(since).max(jiff::SignedDuration::ZERO).unsigned_abs());
            BacklogStatus { waiting, oldest: oldest.unwrap_or_default() }
        });
        let outlook = self.budget.outlook(self.journal.now());
        let windows = outlook.windows().map(|(limit, used, left)| WindowStatus {
            per: limit.per,
            calls: limit.calls.get(),
            used,
            left,
        });
        let next_slot_in = match outlook.room(self.last_entry.writer, Severity::High, true, self.claims.len()) {
            Room::At(free) => Some(free.saturating_since(self.journal.now())),
            Room::Now | Room::AfterAnEntry => None,
        };
        let (spare_waiting, _) = self.backlog.waiting(Rank::Spare);
        self.status.send_replace(AccountStatus {
            windows: windows.collect(),
            backlog,
            reask_waiting: self.backlog.parked(Parked::Reask),
            retry_waiting: self.backlog.parked(Parked::Retry),
            spare_waiting,
            in_flight: self.calls.len(),
            next_slot_in,
            time_to_empty: outlook.time_for(self.backlog.len() - spare_waiting),
            paused: self.pause(now),
        });
        self.report_condition(now);
    }

    fn pause(&self, now: BootTime) -> Option<Pause> {
        if let Some(why) = self.access.trouble(now) {
            let until = self.access.next_probe().or(self.access.next_renewal());
            let remaining = until.map(|until| until.saturating_since(now));
            return Some(Pause { why: why.to_owned(), remaining, lasting: self.access.needs_mending() });
        }
        if let Some(probe) = self.breaker.next_probe() {
            let remaining = Some(probe.saturating_since(now));
            return Some(Pause { why: self.failing_words(), remaining, lasting: false });
        }
        if let Some(why) = self.standing.trouble(self.journal.now()) {
            return Some(Pause { why: why.to_owned(), remaining: None, lasting: false });
        }
        let frozen = self.budget.outlook(self.journal.now()).frozen_until()?;
        let why = self.frozen_words();
        Some(Pause { why, remaining: Some(frozen.saturating_since(self.journal.now())), lasting: false })
    }

    /// Tells the one place that logs conditions how the account is.
    pub(super) fn report_condition(&self, now: BootTime) {
        let condition = if let Some(why) = self.access.trouble(now) {
            Condition::Waiting(why.to_owned())
        } else if let Some(why) = self.standing.trouble(self.journal.now()) {
            Condition::Waiting(why.to_owned())
        } else if self.standing.is_reading() {
            Condition::Starting("reading the journal".to_owned())
        } else if self.access.is_starting() {
            Condition::Starting("signing in".to_owned())
        } else if self.breaker.is_open() {
            Condition::Waiting(self.failing_words())
        } else if self.breaker.is_suspicious() {
            let last = self.breaker.last_failure().unwrap_or("no answer");
            Condition::Degraded(format!("the last calls to the API failed ({last}); they are made again"))
        } else if self.budget.outlook(self.journal.now()).frozen_until().is_some() {
            Condition::Degraded(self.frozen_words())
        } else if self.access.lacks_role() {
            Condition::Degraded(token::lacks_role_words())
        } else {
            Condition::Ok
        };
        self.reporting.health.set(condition);
    }

    fn frozen_words(&self) -> String {
        let why = self.frozen_why.as_deref();
        why.unwrap_or("a pause that was written down before this instance started; `alert-ips journal` shows why")
            .to_owned()
    }

    fn failing_words(&self) -> String {
        let last = self.breaker.last_failure().unwrap_or("no answer");
        format!("the API is failing ({last}); one call at a time, at most 30 seconds apart, until it answers")
    }

    /// A factor in `[0.5, 1)` for waits that must not all end together, nor at once.
    pub(super) fn jitter(&mut self) -> f64 {
        self.random.random_range(0.5..1.0)
    }
}
