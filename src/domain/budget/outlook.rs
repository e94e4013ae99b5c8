//! What a budget allows at a time after its last entry. A budget itself moves with its entries alone, else its readers would
//! differ; who waits for a slot looks ahead with this.

use std::time::Duration;

use super::{Budget, window::Window};
use crate::domain::{alert::Severity, journal::WriterId, limit::Limit, time::JournalTime};

/// When a claim could be granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    Now,
    /// A slot frees, or a pause ends, at this time.
    At(JournalTime),
    /// Only once something else is in the journal: an answer, or terms.
    AfterAnEntry,
}

/// A budget, and the time it is looked at: the last entry's, or later.
#[derive(Clone, Copy, Debug)]
pub struct Outlook<'a> {
    budget: &'a Budget,
    at: JournalTime,
}

impl<'a> Outlook<'a> {
    pub(super) fn new(budget: &'a Budget, at: JournalTime) -> Self {
        Self { budget, at: at.max(budget.now) }
    }

    /// When a claim of `writer` could be granted; `reserved` as in [`Claim`](crate::domain::journal::Claim). `claimed`: how
    /// many claims of the writer are on their way into the journal.
    pub fn room(&self, writer: WriterId, severity: Severity, reserved: bool, claimed: usize) -> Room {
        let budget = self.budget;
        let Some(terms) = &budget.terms else { return Room::AfterAnEntry };
        if !budget.is_claimant(writer) {
            return Room::AfterAnEntry;
        }
        let mut earliest = self.at.max(budget.frozen_until);
        if severity != Severity::High {
            earliest = earliest.max(self.next_turn(claimed));
            if !reserved {
                earliest = earliest.max(self.highs_of_others(writer));
            }
        }
        let claimed = u32::try_from(claimed).unwrap_or(u32::MAX);
        let bound = if reserved { terms.effective_in_flight() } else { terms.minor_in_flight() };
        match self.place_in_flight(claimed, bound) {
            Some(place) => earliest = earliest.max(place),
            None => return Room::AfterAnEntry,
        }
        let open = self.open().saturating_add(claimed);
        for window in &budget.windows {
            // Calls that are never answered hold their slots for a period after they are given up.
            let lapsed = || budget.next_lapse.map(|lapse| lapse + window.hold);
            match window.next_free(open, reserved).or_else(lapsed) {
                Some(free) => earliest = earliest.max(free),
                None => return Room::AfterAnEntry,
            }
        }
        if earliest > self.at { Room::At(earliest) } else { Room::Now }
    }

    /// As [`room`](Self::room), for what only wants what nobody else does: when a claim below High could be granted without
    /// any of the burst, and with half of every window free. Whoever wants calls uses these up first, so while there is
    /// demand anywhere, this never comes; and what goes by it leaves a burst, and half of the windows, to those who begin to
    /// want some.
    pub fn room_to_spare(&self, writer: WriterId, claimed: usize) -> Room {
        let every = self.budget.pace.every * u32::try_from(claimed).unwrap_or(u32::MAX);
        let mut rested = self.budget.paced.max(self.at) + every;
        let open = self.open().saturating_add(u32::try_from(claimed).unwrap_or(u32::MAX));
        for window in &self.budget.windows {
            match window.next_free(open.saturating_add(window.usable.1 / 2), false) {
                Some(free) => rested = rested.max(free),
                None => return Room::AfterAnEntry,
            }
        }
        match self.room(writer, Severity::Informational, false, claimed) {
            Room::Now if rested > self.at => Room::At(rested),
            Room::At(free) => Room::At(free.max(rested)),
            room => room,
        }
    }

    /// Calls granted and neither answered nor given up.
    pub fn in_flight(&self) -> usize {
        self.budget.open.values().filter(|call| call.lapse > self.at).count()
    }

    /// Until when the service asked for a pause, if that is not over.
    pub fn frozen_until(&self) -> Option<JournalTime> {
        (self.budget.frozen_until > self.at).then_some(self.budget.frozen_until)
    }

    /// When the limit with this period has room again for a call, were there no other limit.
    ///
    /// `None` where no limit has this period, or where it has room now.
    pub fn room_in_window(&self, per: Duration) -> Option<JournalTime> {
        let window = self.budget.windows.iter().find(|window| window.limit.per == per)?;
        window.next_free(self.open(), true).filter(|free| *free > self.at)
    }

    /// For each limit: the limit, slots taken, and slots that a High alert could still take.
    pub fn windows(&self) -> impl Iterator<Item = (Limit, u32, u32)> {
        self.budget.windows.iter().map(|window| {
            let used = self.used(window);
            (window.limit, used, window.usable.0.saturating_sub(used))
        })
    }

    /// How long it takes to answer `waiting` lookups at the rate the limits allow.
    pub fn time_for(&self, waiting: usize) -> Duration {
        let waiting = u32::try_from(waiting).unwrap_or(u32::MAX);
        let needed = |window: &Window| {
            let free = window.usable.1.saturating_sub(self.used(window));
            let beyond = waiting.saturating_sub(free);
            window.hold.mul_f64(f64::from(beyond) / f64::from(window.usable.1.max(1)))
        };
        self.budget.windows.iter().map(needed).max().unwrap_or_default()
    }

    fn used(&self, window: &Window) -> u32 {
        window.taken_at(self.at) + self.open()
    }

    fn open(&self) -> u32 {
        u32::try_from(self.budget.open.len()).unwrap_or(u32::MAX)
    }

    /// When fewer than `bound` calls are in flight, `claimed` counted too. `None`: only once some are answered.
    fn place_in_flight(&self, claimed: u32, bound: u32) -> Option<JournalTime> {
        let open = self.open().saturating_add(claimed);
        if open < bound {
            return Some(self.at);
        }
        let mut lapses: Vec<_> = self.budget.open.values().map(|call| call.lapse).collect();
        lapses.sort_unstable();
        // When so many of them have been given up.
        lapses.get((open - bound) as usize).copied()
    }

    /// When a call below High is within its burst again, once `claimed` more have had their turn.
    fn next_turn(&self, claimed: usize) -> JournalTime {
        let Budget { pace, paced, .. } = self.budget;
        let ahead = pace.every * pace.burst.saturating_sub(1);
        let claimed = pace.every * u32::try_from(claimed).unwrap_or(u32::MAX);
        let paced = if claimed.is_zero() { *paced } else { (*paced).max(self.at) + claimed };
        JournalTime::from_origin(paced.since_origin().saturating_sub(ahead))
    }

    /// Until when High alerts of writers other than this one wait.
    fn highs_of_others(&self, writer: WriterId) -> JournalTime {
        let others = self.budget.writers.iter().filter(|(other, _)| **other != writer);
        others.map(|(_, other)| other.highs_until).max().unwrap_or_default()
    }
}
