//! From a waiting lookup to a call on the wire: who is next, its claim, its ruling, its call.

use std::time::Duration;

use rand::RngExt as _;

use super::{Account, access::Generation};
use crate::{
    defender::{
        client::{Call, call},
        journal::Journal,
        transport::Transport,
    },
    domain::{
        alert::{AlertId, Severity},
        budget::{Room, Ruling},
        journal::{Answer, Body, Claim, EntryId, Permit, Reached, Stamped},
        time::BootTime,
    },
};

/// A call that is over.
pub(super) struct Called {
    pub(super) claim: EntryId,
    pub(super) id: AlertId,
    pub(super) call: Call,
    pub(super) with: Generation,
    pub(super) took: Duration,
}

/// How much later than a slot is free it may be claimed for an alert below High, where others may claim it too.
const CONTENTION_STEP: Duration = Duration::from_millis(200);

/// What can be done now.
enum Step {
    /// Claim a slot for the first lookup of this severity.
    Claim(Severity),
    /// Nothing before this.
    Wait(BootTime),
    /// Nothing until something else happens.
    Idle,
}

impl<J: Journal, T: Transport> Account<J, T> {
    /// Starts every call that may be made now. Returns when to look again, unless something happens before.
    pub(super) fn start_calls(&mut self) -> Option<BootTime> {
        let now = self.clock.boot();
        self.reporting.pulse.beat(now);
        self.replay();
        self.budget.advance(self.journal.now());
        self.backlog.release_due(now);
        self.renew_token(now);
        let due = self.backlog.next_due();
        let wake = loop {
            match self.next_step(now) {
                Step::Claim(severity) => self.claim(severity, now),
                Step::Wait(until) => break Some(until),
                Step::Idle => break None,
            }
        };
        if self.draining {
            // Nothing is started any more: only a call that ends matters.
            return None;
        }
        [wake, due, self.access.next_renewal()].into_iter().flatten().min()
    }

    fn next_step(&mut self, now: BootTime) -> Step {
        if self.draining || !Severity::ALL.into_iter().any(|severity| self.backlog.is_ready(severity)) {
            return Step::Idle;
        }
        if self.access.token(now).is_none() {
            return Step::Idle;
        }
        let quiet = self.calls.is_empty() && self.claims.is_empty();
        if let Some(probe) = self.access.next_probe().max(self.breaker.next_probe()) {
            match (now >= probe, quiet) {
                (false, _) => return Step::Wait(probe),
                (true, false) => return Step::Idle,
                (true, true) => {}
            }
        }
        let writer = self.last_entry.writer;
        let claimed = self.claims.len();
        let high = self.budget.room(writer, Severity::High, true, claimed);
        let other = self.budget.room(writer, Severity::Low, self.backlog.others_are_due(), claimed);
        let paced = now < self.paced_until;
        let may_go =
            |severity| if severity == Severity::High { high == Room::Now } else { other == Room::Now && !paced };
        let Some(severity) = self.backlog.next(may_go) else { return self.wait_for_room(now, high, other) };
        if severity != Severity::High
            && let Err(next_turn) = self.pacer.take()
        {
            self.paced_until = next_turn;
            return self.next_step(now);
        }
        Step::Claim(severity)
    }

    fn wait_for_room(&mut self, now: BootTime, high: Room, other: Room) -> Step {
        let others_wait = Severity::ALL[1..].iter().any(|severity| self.backlog.is_ready(*severity));
        // Instances that wait for the same slot do not claim it at the same moment.
        let step =
            if self.budget.claimants() > 1 { CONTENTION_STEP.mul_f64(self.random.random()) } else { Duration::ZERO };
        let at = |room| match room {
            Room::Now => Some(now),
            Room::At(free) => Some(now + free.saturating_since(self.journal.now())),
            Room::AfterAnEntry => None,
        };
        let high = self.backlog.is_ready(Severity::High).then(|| at(high)).flatten();
        let other = others_wait.then(|| at(other).map(|free| free.max(self.paced_until) + step)).flatten();
        high.into_iter().chain(other).min().map_or(Step::Idle, Step::Wait)
    }

    /// Appends the claim for the first lookup of `severity`, and starts its call if the journal rules at once.
    fn claim(&mut self, severity: Severity, now: BootTime) {
        let reserved = severity == Severity::High || self.backlog.others_are_due();
        let Some(place) = self.backlog.take(severity) else { return };
        let Some(alert) = self.start(&place) else { return };
        self.access.probing(now);
        self.breaker.probing(now);
        let highs_wait = self.backlog.is_ready(Severity::High);
        let id = self.append(Body::Claim(Claim { alert: alert.clone(), severity, reserved, highs_wait }));
        // The claim's life counts from here, not from when its entry is read back.
        self.claims.insert(id, (alert, now + self.config.terms.claim_ttl));
        self.replay();
    }

    /// Applies the entries that are there.
    pub(super) fn replay(&mut self) {
        while let Some(stamped) = self.journal.try_next() {
            self.apply(&stamped);
        }
    }

    /// Applies one entry; a granted claim of ours becomes a call.
    pub(super) fn apply(&mut self, stamped: &Stamped) {
        let ruling = self.budget.apply(stamped.at, &stamped.entry);
        let ours = stamped.entry.id.writer == self.last_entry.writer;
        match (ruling, &stamped.entry.body) {
            (Ruling::Granted(_), Body::Claim(claim)) if !ours => self.asked_elsewhere(&claim.alert),
            (Ruling::Noted, Body::Answer(answer)) if !ours => self.answered_elsewhere(answer),
            _ => {}
        }
        match ruling {
            Ruling::Granted(claim) => {
                if let Some((id, expires)) = self.claims.remove(&claim) {
                    self.granted(Permit { claim, expires }, id);
                }
            }
            Ruling::Refused(claim) => {
                if let Some((id, _)) = self.claims.remove(&claim) {
                    self.requeue(&id);
                }
            }
            Ruling::Noted | Ruling::Copy => {}
            Ruling::Divergent(claim) => {
                tracing::error!(%claim, "the journal holds an answer to a claim that was refused: an instance of another version rules otherwise");
            }
        }
    }

    /// Makes the call, unless an answer came while the claim was on its way.
    fn granted(&mut self, permit: Permit, id: AlertId) {
        let lookup = self.lookups.get(&id).map(|lookup| &lookup.alert);
        let fresh = lookup.and_then(|alert| self.answers.fresh(alert, self.clock.wall())).cloned();
        let Some(outcome) = fresh else { return self.call(permit, id) };
        self.give_back(permit.claim, &id);
        self.reporting.metrics.answer_reused();
        self.resolve(&id, &Ok(outcome));
    }

    /// Frees the slot of a permit that no call was made with.
    fn give_back(&mut self, claim: EntryId, id: &AlertId) {
        let alert = id.clone();
        self.append(Body::Answer(Answer { claim, alert, reached: Reached::Unused, status: None, outcome: None }));
    }

    fn call(&mut self, permit: Permit, id: AlertId) {
        let token = self.access.token(self.clock.boot()).filter(|_| !self.draining).cloned();
        let (Some(token), Some(lookup)) = (token, self.lookups.get(&id)) else {
            self.give_back(permit.claim, &id);
            self.requeue(&id);
            return;
        };
        let url = lookup.next_page.as_deref().cloned().unwrap_or_else(|| self.config.api.ips(&id));
        let (clock, transport, with) = (self.clock.clone(), self.transport.clone(), self.access.generation());
        self.calls.spawn(async move {
            let started = clock.boot();
            let claim = permit.claim;
            let call = call(&*transport, &clock, permit, url, &token).await;
            Called { claim, id, call, with, took: clock.boot().saturating_since(started) }
        });
    }
}
