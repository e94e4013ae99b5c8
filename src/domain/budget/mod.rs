//! The replayed state of an account's limits: what is spent, what is free, when the next slot frees.
//!
//! The rule: a call takes one slot of every limit when its claim is granted, and the slot is free again one full period,
//! plus a margin for the clocks, after the call can no longer reach the service. Why that is exact, whatever the
//! alignment of the service's windows: call `k` is counted somewhere between its grant and its answer, and call `k + N`
//! can only be granted once one of the `N` calls before it is a full period past its answer. So no window of that length
//! holds `N + 1`. Neither stamping calls when they are sent nor token buckets have this property.

mod carry;
mod checkpoint;
mod outlook;
mod own_clock;
mod window;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use self::window::Window;
pub use self::{
    checkpoint::{Checkpoint, DeclaredTerms, KnownWriter},
    outlook::{Outlook, Room},
    own_clock::OwnClock,
};
use super::{
    journal::{Answer, Body, Claim, Entry, EntryId, Reached, WriterId},
    terms::{Pace, Terms},
    time::JournalTime,
};
use crate::domain::alert::{AlertId, Severity};

/// What the journal's entry meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ruling {
    /// The claim may become a call.
    Granted(EntryId),
    /// It may not; nothing was taken.
    Refused(EntryId),
    /// Noted.
    Noted,
    /// The entry was there before: a copy counts for nothing.
    Copy,
    /// An answer to a claim that was refused: whoever wrote it rules otherwise, so the budget is not what it seems.
    Divergent(EntryId),
}

/// The budget of one account. A function of the entries applied so far, and of nothing else.
///
/// What decides travels in the entries: the terms in force are the strictest of all that were declared last by those who
/// were heard of within the longest window, so that instances with different configurations agree.
#[derive(Clone, Debug, Default)]
pub struct Budget {
    writers: BTreeMap<WriterId, Writer>,
    views: Vec<View>,
    /// The strictest of the views. `None`: nothing may be granted.
    terms: Option<Terms>,
    /// How the terms pace what is below High.
    pace: Pace,
    /// One for each period of the terms.
    windows: Vec<Window>,
    /// Granted and not yet answered.
    open: BTreeMap<EntryId, Call>,
    /// No open claim is given up before this.
    next_lapse: Option<JournalTime>,
    /// Claims that were refused lately.
    refused: BTreeSet<(JournalTime, EntryId)>,
    frozen_until: JournalTime,
    /// When the calls granted below High are at the sustained pace again.
    paced: JournalTime,
    now: JournalTime,
}

/// A call that may be on the wire.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Call {
    alert: AlertId,
    /// When it is given up, answered or not.
    lapse: JournalTime,
}

/// What is known of one writer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Writer {
    /// The number of its latest entry.
    last: u64,
    seen: JournalTime,
    /// Until when its High alerts hold back the others' claims below High.
    highs_until: JournalTime,
}

/// One writer's terms.
#[derive(Clone, Debug, PartialEq)]
struct View {
    writer: WriterId,
    terms: Terms,
    /// When the writer declared others; they are in force a while longer.
    superseded: Option<JournalTime>,
}

impl Budget {
    /// Applies the next entry. Times may not go back: an earlier one counts as the latest seen.
    pub fn apply(&mut self, at: JournalTime, entry: &Entry) -> Ruling {
        self.advance(at);
        let EntryId { writer, number } = entry.id;
        if number > 1 && matches!(entry.body, Body::Claim(_)) && !self.writers.contains_key(&writer) {
            // The writer was forgotten, as by a forward jump of the broker's clock: this is taken for a copy of what came
            // before. Was it refused, then the answer to the original would be one to a refused claim.
            return Ruling::Copy;
        }
        let known = self.writers.entry(writer).or_default();
        if number <= known.last {
            return Ruling::Copy;
        }
        (known.last, known.seen) = (number, self.now);
        match &entry.body {
            Body::Terms(terms) => self.declare(writer, terms),
            Body::Claim(claim) => return self.claim(entry.id, claim),
            Body::Answer(answer) => return self.answer(answer),
            Body::Freeze(freeze) if freeze.lasts.is_zero() => self.frozen_until = self.now,
            Body::Freeze(freeze) => self.frozen_until = self.frozen_until.max(self.now + freeze.lasts),
            Body::Checkpoint(checkpoint) if checkpoint.offset.is_none() => self.carry(checkpoint),
            Body::Checkpoint(_) => {}
        }
        Ruling::Noted
    }

    /// What it allows at `at`, should no entry come before.
    pub fn outlook(&self, at: JournalTime) -> Outlook<'_> {
        Outlook::new(self, at)
    }

    /// The terms in force. `None` before any were declared.
    pub fn terms(&self) -> Option<&Terms> {
        self.terms.as_ref()
    }

    /// How many writers there are whose claims may be granted.
    pub fn claimants(&self) -> usize {
        self.views.iter().filter(|view| view.superseded.is_none()).count()
    }

    /// Whether the writer is one of them: its terms are known, and not forgotten again.
    pub fn is_claimant(&self, writer: WriterId) -> bool {
        self.views.iter().any(|view| view.writer == writer && view.superseded.is_none())
    }

    /// Points in time that are remembered, all limits together: what the budget's memory grows with.
    pub fn remembered(&self) -> usize {
        self.open.len() + self.refused.len() + self.windows.iter().map(|window| window.points().count()).sum::<usize>()
    }

    /// Lets time pass up to an entry: frees what is due, gives up what was never answered, and ends terms nobody holds any
    /// more.
    fn advance(&mut self, at: JournalTime) {
        self.now = self.now.max(at);
        if self.next_lapse.is_some_and(|lapse| lapse <= self.now) {
            let now = self.now;
            let lapsed: Vec<_> =
                self.open.extract_if(.., |_, call| call.lapse <= now).map(|(_, call)| call.lapse).collect();
            for lapse in lapsed {
                self.hold_from(lapse);
            }
            self.next_lapse = self.open.values().map(|call| call.lapse).min();
        }
        for window in &mut self.windows {
            window.free_until(self.now);
        }
        self.end_views();
    }

    fn declare(&mut self, writer: WriterId, terms: &Terms) {
        if let Some(view) = self.views.iter_mut().find(|view| view.writer == writer && view.superseded.is_none()) {
            if view.terms == *terms {
                return;
            }
            view.superseded = Some(self.now);
        }
        self.views.push(View { writer, terms: terms.clone(), superseded: None });
        self.agree();
    }

    /// Ends views and writers that were last heard of so long ago that none of their calls holds a slot.
    fn end_views(&mut self) {
        let (now, writers) = (self.now, &self.writers);
        let over = |view: &View| {
            let seen = view.superseded.or_else(|| writers.get(&view.writer).map(|writer| writer.seen));
            seen.is_none_or(|seen| seen + view.terms.memory() <= now)
        };
        if self.views.iter().any(over) {
            let memory = self.views.iter().map(|view| view.terms.memory()).max().unwrap_or_default();
            self.views.retain(|view| !over(view));
            self.writers.retain(|_, writer| writer.seen + memory > now);
            self.agree();
        }
    }

    /// Brings the strictest of the views into force.
    fn agree(&mut self) {
        self.terms = Terms::strictest(self.views.iter().map(|view| &view.terms));
        self.pace = self.terms.as_ref().map(Terms::pace).unwrap_or_default();
        let windows = self
            .terms
            .iter()
            .flat_map(|terms| terms.limits.iter().map(|limit| Window::begun(*limit, terms, &self.windows, self.now)));
        self.windows = windows.collect();
    }

    fn claim(&mut self, id: EntryId, claim: &Claim) -> Ruling {
        let ttl = self.terms.as_ref().map_or(Duration::ZERO, |terms| terms.claim_ttl);
        if let Some(writer) = self.writers.get_mut(&id.writer) {
            writer.highs_until = if claim.highs_wait { self.now + ttl } else { JournalTime::default() };
        }
        // One question once: who comes second is told the first's answer.
        let asked = self.open.values().any(|call| call.alert == claim.alert);
        let granted = !asked && self.outlook(self.now).room(id.writer, claim.severity, claim.reserved, 0) == Room::Now;
        let Some(terms) = self.terms.as_ref().filter(|_| granted) else {
            self.refuse(id);
            return Ruling::Refused(id);
        };
        if claim.severity != Severity::High {
            self.paced = self.paced.max(self.now) + self.pace.every;
        }
        let lapse = self.now + terms.lapse_after();
        self.open.insert(id, Call { alert: claim.alert.clone(), lapse });
        self.next_lapse = Some(self.next_lapse.map_or(lapse, |next| next.min(lapse)));
        Ruling::Granted(id)
    }

    /// Remembers a refusal for as long as an answer to it could come.
    fn refuse(&mut self, id: EntryId) {
        let lasts = self.terms.as_ref().map_or(Duration::ZERO, Terms::lapse_after);
        while self.refused.first().is_some_and(|(until, _)| *until <= self.now) {
            self.refused.pop_first();
        }
        self.refused.insert((self.now + lasts, id));
    }

    fn answer(&mut self, answer: &Answer) -> Ruling {
        let lapse = self.open.remove(&answer.claim).map(|call| call.lapse);
        match (answer.reached, lapse) {
            // Also for a claim that was given up already: it was counted after all, and now at the latest.
            (Reached::Complete, _) => self.hold_from(self.now),
            (Reached::Unknown, Some(lapse)) => self.hold_from(lapse),
            (Reached::Unknown, None) | (Reached::Never | Reached::Unused, _) => {}
        }
        let refused = lapse.is_none() && self.refused.iter().any(|(_, id)| *id == answer.claim);
        if refused { Ruling::Divergent(answer.claim) } else { Ruling::Noted }
    }

    fn hold_from(&mut self, over: JournalTime) {
        for window in &mut self.windows {
            window.hold_from(over);
        }
    }
}
