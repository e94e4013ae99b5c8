//! The whole budget as a value that travels in the journal: a replay may begin with it.

use std::collections::BTreeSet;

use super::{Budget, Call, View, Window, Writer};
use crate::domain::{
    alert::AlertId,
    journal::{EntryId, WriterId},
    terms::Terms,
    time::JournalTime,
};

/// A budget as of an offset. A verdict depends on all verdicts before it, so a replay that begins elsewhere, be it a
/// longest window back, does not reach the same ones.
#[derive(Clone, Debug, PartialEq)]
pub struct Checkpoint {
    /// The last entry that is in it; a replay goes on after it. `None`: it is of a log that is gone, and is all that is left
    /// of it.
    pub offset: Option<i64>,
    pub now: JournalTime,
    pub frozen_until: JournalTime,
    pub paced: JournalTime,
    pub writers: Vec<KnownWriter>,
    pub views: Vec<DeclaredTerms>,
    /// For each limit of the terms in force: its period in place, and when its slots are free again.
    pub windows: Vec<Vec<(JournalTime, u32)>>,
    /// Calls that are not answered: about which alert, and when each is given up.
    pub open: Vec<(EntryId, AlertId, JournalTime)>,
    /// Claims that were refused, and until when they are remembered.
    pub refused: Vec<(EntryId, JournalTime)>,
}

/// See [`Checkpoint`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KnownWriter {
    pub writer: WriterId,
    pub last: u64,
    pub seen: JournalTime,
    pub highs_until: JournalTime,
}

/// See [`Checkpoint`].
#[derive(Clone, Debug, PartialEq)]
pub struct DeclaredTerms {
    pub writer: WriterId,
    pub terms: Terms,
    pub superseded: Option<JournalTime>,
}

impl Budget {
    /// The budget as it is after the entry at `offset`; without one, to be carried into another log.
    pub fn checkpoint(&self, offset: Option<i64>) -> Checkpoint {
        let known = |(writer, known): (&WriterId, &Writer)| {
            let Writer { last, seen, highs_until } = *known;
            KnownWriter { writer: *writer, last, seen, highs_until }
        };
        let declared = |view: &View| {
            let View { writer, terms, superseded } = view.clone();
            DeclaredTerms { writer, terms, superseded }
        };
        Checkpoint {
            offset,
            now: self.now,
            frozen_until: self.frozen_until,
            paced: self.paced,
            writers: self.writers.iter().map(known).collect(),
            views: self.views.iter().map(declared).collect(),
            windows: self.windows.iter().map(|window| window.points().collect()).collect(),
            open: self.open.iter().map(|(id, call)| (*id, call.alert.clone(), call.lapse)).collect(),
            refused: self.refused.iter().map(|(until, id)| (*id, *until)).collect(),
        }
    }
}

impl Checkpoint {
    /// Whether there is a window for each limit of the terms, with slots that can be counted.
    pub fn is_sound(&self) -> bool {
        let limits = Terms::strictest(self.views.iter().map(|view| &view.terms)).map_or(0, |terms| terms.limits.len());
        let countable = |points: &Vec<(JournalTime, u32)>| {
            points.iter().map(|(_, slots)| u64::from(*slots)).sum::<u64>() <= u64::from(u32::MAX / 2)
        };
        self.windows.len() == limits && self.windows.iter().all(countable)
    }
}

impl From<&Checkpoint> for Budget {
    fn from(checkpoint: &Checkpoint) -> Self {
        let writer = |known: &KnownWriter| {
            let KnownWriter { writer, last, seen, highs_until } = *known;
            (writer, Writer { last, seen, highs_until })
        };
        let view = |declared: &DeclaredTerms| {
            let DeclaredTerms { writer, terms, superseded } = declared.clone();
            View { writer, terms, superseded }
        };
        let call =
            |(id, alert, lapse): &(EntryId, AlertId, JournalTime)| (*id, Call { alert: alert.clone(), lapse: *lapse });
        let views: Vec<View> = checkpoint.views.iter().map(view).collect();
        let terms = Terms::strictest(views.iter().map(|view| &view.terms));
        let limits = terms.iter().flat_map(|terms| terms.limits.iter().map(move |limit| (terms, limit)));
        let windows = limits
            .zip(&checkpoint.windows)
            .map(|((terms, limit), points)| Window::restored(*limit, terms, points.iter().copied()))
            .collect();
        Self {
            writers: checkpoint.writers.iter().map(writer).collect(),
            views,
            windows,
            open: checkpoint.open.iter().map(call).collect(),
            next_lapse: checkpoint.open.iter().map(|(.., lapse)| *lapse).min(),
            refused: checkpoint.refused.iter().map(|(id, until)| (*until, *id)).collect::<BTreeSet<_>>(),
            frozen_until: checkpoint.frozen_until,
            paced: checkpoint.paced,
            now: checkpoint.now,
            pace: terms.as_ref().map(Terms::pace).unwrap_or_default(),
            terms,
        }
    }
}
