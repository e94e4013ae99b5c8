//! From a waiting lookup to a call on the wire: who is next, its claim, its ruling, its call.

use std::time::Duration;

use rand::RngExt as _;

use super::{Account, access::Generation};
use crate::{
    crash_point::{self, Point},
    defender::{
        client::{Call, call},
        journal::Journal,
        transport::Transport,
    },
    domain::{
        alert::{AlertId, Severity},
        backlog::Rank,
        budget::Room,
        journal::{Answer, Body, Claim, EntryId, Permit, Reached},
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

/// A claim that the journal has not ruled on yet.
pub(super) struct Claimed {
    pub(super) alert: AlertId,
    /// When it was handed in: its life counts from there, not from when its entry is read back.
    pub(super) at: BootTime,
    /// Until when it may become a call.
    pub(super) expires: BootTime,
}

/// How long after there is room it is claimed at most, where other instances may claim it too: long enough that most see
/// what is taken before they claim it themselves. With narrow limits; else at most the time in which one slot comes free.
const STEP: Duration = Duration::from_millis(200);

/// The part of the step that is for High alerts. The others follow, whoever has them.
const HIGH_STEP_PART: f64 = 0.25;

/// What can be done now.
enum Step {
    /// Claim a slot for the first lookup of this rank.
    Claim(Rank),
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
        self.give_up_claims(now);
        let held = self.release_held(now);
        self.backlog.release_due(now);
        self.renew_token(now);
        let due = self.backlog.next_due();
        let wake = loop {
            match self.next_step(now) {
                Step::Claim(rank) => self.claim(rank, now),
                Step::Wait(until) => break Some(until),
                Step::Idle => break None,
            }
        };
        if self.draining {
            // Nothing is started any more: only what ends matters.
            return self.next_expiry();
        }
        [wake, due, held, self.next_expiry(), self.access.next_renewal()].into_iter().flatten().min()
    }

    /// When the first of the claims under way expires.
    fn next_expiry(&self) -> Option<BootTime> {
        self.claims.values().map(|claimed| claimed.expires).min()
    }

    fn next_step(&mut self, now: BootTime) -> Step {
        if self.draining || !self.backlog.is_any_ready() {
            return Step::Idle;
        }
        if self.access.token(now).is_none() || !self.standing.is_settled() {
            return Step::Idle;
        }
        let journal_now = self.journal.now();
        if let Some(until) = self.standing.doubted_until(journal_now) {
            return Step::Wait(self.boot_at(until));
        }
        // What is full on this host's clock need not be claimed: the call would only wait.
        let Some(own_room) = self.own_clock.room(now) else { return Step::Idle };
        let held_back = self.frozen_here.max(self.refused_until).max(own_room);
        if now < held_back {
            self.room = None;
            return Step::Wait(held_back);
        }
        let quiet = self.calls.is_empty() && self.claims.is_empty() && self.held.is_empty();
        if let Some(probe) = self.access.next_probe().max(self.breaker.next_probe()) {
            match (now >= probe, quiet) {
                (false, _) => return Step::Wait(probe),
                (true, false) => return Step::Idle,
                (true, true) => {}
            }
        }
        let writer = self.last_entry.writer;
        let claimed = self.claims.len();
        let outlook = self.budget.outlook(journal_now);
        let high = outlook.room(writer, Severity::High, true, claimed);
        let other = if self.backlog.only_spare_is_ready() {
            outlook.room_to_spare(writer, claimed)
        } else {
            outlook.room(writer, Severity::Low, self.backlog.others_are_due(), claimed)
        };
        let paced = now < self.paced_until;
        let is_high = |rank| rank == Rank::Alert(Severity::High);
        let may_go = |rank| if is_high(rank) { high == Room::Now } else { other == Room::Now && !paced };
        let Some(rank) = self.backlog.next(may_go) else {
            self.room = None;
            return self.wait_for_room(now, high, other);
        };
        let turn = self.turn(is_high(rank), now);
        if now < turn {
            return Step::Wait(turn);
        }
        if !is_high(rank)
            && let Err(next_turn) = self.pacer.take()
        {
            self.paced_until = next_turn;
            return self.next_step(now);
        }
        Step::Claim(rank)
    }

    /// When it may be claimed what there is room for. Instances that see room come do not all claim it at once.
    fn turn(&mut self, is_high: bool, now: BootTime) -> BootTime {
        if self.budget.claimants() <= 1 {
            return now;
        }
        let random = &mut self.random;
        let (since, lot) = *self.room.get_or_insert_with(|| (now, random.random::<f64>()));
        let part = if is_high { HIGH_STEP_PART * lot } else { HIGH_STEP_PART + (1.0 - HIGH_STEP_PART) * lot };
        since + STEP.min(self.config.terms.pace().every).mul_f64(part)
    }

    fn wait_for_room(&self, now: BootTime, high: Room, other: Room) -> Step {
        let others_wait = self.backlog.is_any_other_ready();
        let at = |room| match room {
            Room::Now => Some(now),
            Room::At(free) => Some(self.boot_at(free)),
            Room::AfterAnEntry => None,
        };
        let high = self.backlog.is_ready(Severity::High).then(|| at(high)).flatten();
        let other = others_wait.then(|| at(other).map(|free| free.max(self.paced_until))).flatten();
        high.into_iter().chain(other).min().map_or(Step::Idle, Step::Wait)
    }

    /// Appends the claim for the first lookup of this rank; its call starts when the journal has ruled.
    fn claim(&mut self, rank: Rank, now: BootTime) {
        let severity = rank.severity();
        let reserved = severity == Severity::High || self.backlog.others_are_due();
        let Some(place) = self.backlog.take(rank) else { return };
        let Some(alert) = self.start(&place) else { return };
        self.access.probing(now);
        self.breaker.probing(now);
        let highs_wait = self.backlog.is_ready(Severity::High);
        let id = self.append(Body::Claim(Claim { alert: alert.clone(), severity, reserved, highs_wait }));
        self.claims.insert(id, Claimed { alert, at: now, expires: now + self.config.terms.claim_ttl });
        self.replay();
    }

    /// Makes the call as soon as this host's clock allows it too, unless an answer came while the claim was on its way.
    pub(super) fn granted(&mut self, permit: Permit, id: AlertId) {
        crash_point::pass(Point::ClaimGranted);
        let lookup = self.lookups.get(&id).map(|lookup| &lookup.alert);
        let fresh = lookup.and_then(|alert| self.answers.fresh(alert, self.service_time()));
        if let Some(outcome) = fresh {
            self.give_back(permit.claim, &id);
            self.reporting.metrics.answer_reused();
            return self.resolve(&id, &Ok(outcome));
        }
        self.held.push_back((permit, id));
        self.release_held(self.clock.boot());
    }

    /// Makes the calls that are granted. Returns when to look again at those for which there is no room on this host's clock.
    fn release_held(&mut self, now: BootTime) -> Option<BootTime> {
        while let Some((permit, id)) = self.held.pop_front() {
            let room = self.own_clock.room(now);
            // A pause that was asked for since, by whomever, holds for what was granted before it too.
            let frozen = now < self.frozen_here || self.is_stopped();
            if !frozen && room.is_some_and(|room| room <= now) {
                self.own_clock.begin(permit.claim, now);
                self.call(permit, id);
            } else if frozen || permit.expires <= now || self.draining {
                self.give_back(permit.claim, &id);
                self.requeue(&id);
            } else {
                let again = room.map_or(permit.expires, |room| room.min(permit.expires));
                self.held.push_front((permit, id));
                return Some(again);
            }
        }
        None
    }

    /// Whether the journal says that no calls are to be made.
    fn is_stopped(&self) -> bool {
        let now = self.journal.now();
        self.budget.outlook(now).frozen_until().is_some() || self.standing.doubted_until(now).is_some()
    }

    /// Frees the slot of a permit that no call was made with.
    pub(super) fn give_back(&mut self, claim: EntryId, id: &AlertId) {
        let alert = id.clone();
        self.append(Body::Answer(Answer { claim, alert, reached: Reached::Unused, status: None, outcome: None }));
    }

    fn call(&mut self, permit: Permit, id: AlertId) {
        if self.lookups.get_mut(&id).is_some_and(|lookup| lookup.is_abandoned()) {
            self.lookups.remove(&id);
        }
        let token = self.access.token(self.clock.boot()).filter(|_| !self.draining).cloned();
        let (Some(token), Some(lookup)) = (token, self.lookups.get(&id)) else {
            self.give_back(permit.claim, &id);
            self.requeue(&id);
            return;
        };
        let url = lookup.next_page().cloned().unwrap_or_else(|| self.config.api.ips(&id));
        let (clock, transport, with) = (self.clock.clone(), self.transport.clone(), self.access.generation());
        self.calls.spawn(async move {
            let started = clock.boot();
            let claim = permit.claim;
            let call = call(&*transport, &clock, permit, url, &token).await;
            Called { claim, id, call, with, took: clock.boot().saturating_since(started) }
        });
    }
}
