//! The period in numbers, and what is free now.

use std::{collections::BTreeMap, sync::Arc};

use super::{Audit, Call, Cause, Fullest, Tally, Yield, window::fullest};
use crate::domain::{alert::Severity, budget::Room, journal::WriterId, limit::Limit, terms::Terms, time::JournalTime};

/// What the calls of the period were spent on, how full the windows were, and what is free.
#[derive(Clone, Debug, PartialEq)]
pub struct Summary {
    /// Where the period begins, and where it ends: now.
    pub since: JournalTime,
    pub until: JournalTime,
    /// The first entry that was read, or the checkpoint before it. `None`: the journal is empty.
    pub begins: Option<JournalTime>,
    /// Calls that the service can have counted.
    pub calls: usize,
    /// Of these.
    pub causes: BTreeMap<Cause, usize>,
    /// Of all permits.
    pub results: BTreeMap<Yield, usize>,
    /// HTTP statuses of the failed calls; `None` where the answer broke off before one was known.
    pub failures: BTreeMap<Option<u16>, usize>,
    /// Whose calls these were; `None`: unknown, for its claim was not read and no answer came.
    pub instances: BTreeMap<Option<Arc<str>>, usize>,
    pub refused: usize,
    pub checkpoints: usize,
    /// Checkpoints of a log before this one: calls before them are in the budget, and not among these.
    pub carried: usize,
    pub copies: usize,
    pub unruled: usize,
    /// Calls that were made on a claim that was refused.
    pub divergent: usize,
    /// For each limit in force, or, where no terms are, for each that was asked about.
    pub limits: Vec<Limited>,
    pub free: Option<Free>,
    /// The terms that are in force: those of each writer that can still have a call, the latest declared last.
    pub terms: Vec<Declared>,
}

/// One limit in the period and now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limited {
    pub limit: Limit,
    /// `None`: there was no call.
    pub fullest: Option<Fullest>,
    /// What is taken now, and what is free for High alerts and for the others; `None` where no terms are in force.
    pub now: Option<(u32, u32, u32)>,
}

/// What could be claimed now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Free {
    pub in_flight: usize,
    pub frozen_until: Option<JournalTime>,
    /// When a claim could be granted: for a High alert, and for another one. `None` where no instance may claim.
    pub next: Option<(Room, Room)>,
}

/// What a writer has declared.
#[derive(Clone, Debug, PartialEq)]
pub struct Declared {
    pub writer: WriterId,
    /// `None` where no entry of it was read.
    pub instance: Option<Arc<str>>,
    pub terms: Terms,
    /// Since when others of the same writer hold beside them.
    pub superseded: Option<JournalTime>,
    /// When the writer was last heard of.
    pub seen: Option<JournalTime>,
}

impl Audit {
    /// The period up to `now`. `limits`: what to look at where no terms are in force.
    pub fn summary(&self, now: JournalTime, limits: &[Limit]) -> Summary {
        let Tally { refused, checkpoints, carried, copies, unruled } = self.tally;
        let calls = self.calls();
        let counted: Vec<&Call> = calls.iter().copied().filter(|call| call.counts()).collect();
        let failed = calls.iter().filter(|call| call.led_to() == Yield::Failed);
        Summary {
            since: self.since,
            until: now.max(self.now),
            begins: self.begins,
            calls: counted.len(),
            causes: count(counted.iter().map(|call| call.cause)),
            results: count(calls.iter().map(|call| call.led_to())),
            failures: count(failed.map(|call| call.status())),
            instances: count(counted.iter().map(|call| call.instance.clone())),
            refused,
            checkpoints,
            carried,
            copies,
            unruled,
            divergent: calls.iter().filter(|call| call.divergent).count(),
            limits: self.limits(now, limits),
            free: self.free(now),
            terms: self.terms_in_force(now),
        }
    }

    fn limits(&self, now: JournalTime, otherwise: &[Limit]) -> Vec<Limited> {
        let spans: Vec<_> = self.calls.values().filter(|call| call.counts()).map(Call::span).collect();
        let limited = |limit: Limit, now| Limited { limit, fullest: fullest(&spans, limit.per, self.since), now };
        let Some(terms) = self.budget.terms().filter(|_| !self.terms_in_force(now).is_empty()) else {
            return otherwise.iter().map(|limit| limited(*limit, None)).collect();
        };
        let of = |(limit, taken, high): (Limit, u32, u32)| {
            let others = terms.usable(&limit).1.saturating_sub(taken);
            limited(limit, Some((taken, high, others)))
        };
        self.budget.outlook(now).windows().map(of).collect()
    }

    fn free(&self, now: JournalTime) -> Option<Free> {
        if !self.is_ruled() {
            return None;
        }
        let outlook = self.budget.outlook(now);
        // Any of those who may claim: the budget is theirs together.
        let claimants = self.terms_in_force(now);
        let claimant = claimants.iter().find(|declared| declared.superseded.is_none()).map(|declared| declared.writer);
        let room = |severity, reserved| claimant.map(|writer| outlook.room(writer, severity, reserved, 0));
        let next = room(Severity::High, true).zip(room(Severity::Low, false));
        Some(Free { in_flight: outlook.in_flight(), frozen_until: outlook.frozen_until(), next })
    }

    /// Those of writers that can still have a call that holds a slot.
    fn terms_in_force(&self, now: JournalTime) -> Vec<Declared> {
        let whole = self.budget.checkpoint(None);
        let seen = |writer| whole.writers.iter().find(|known| known.writer == writer).map(|known| known.seen);
        let views = whole.views.into_iter().map(|view| Declared {
            writer: view.writer,
            instance: self.instances.get(&view.writer).cloned(),
            seen: seen(view.writer),
            terms: view.terms,
            superseded: view.superseded,
        });
        let is_in_force = |declared: &Declared| {
            let last = declared.superseded.or(declared.seen);
            last.is_some_and(|last| last + declared.terms.memory() > now)
        };
        views.filter(is_in_force).collect()
    }
}

fn count<T: Ord>(of: impl Iterator<Item = T>) -> BTreeMap<T, usize> {
    let mut counts = BTreeMap::new();
    of.for_each(|each| *counts.entry(each).or_default() += 1);
    counts
}
