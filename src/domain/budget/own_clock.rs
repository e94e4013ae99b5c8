//! The windows once more, on one instance's own clock.
//!
//! The journal's time is its broker's. Where that jumps forward, with another leader for instance, slots come free that are
//! not; what an instance saw arrive it therefore counts on its own clock too. The verdicts stay the entries': this only
//! lets a granted call of its own wait.

use std::collections::BTreeMap;

use super::{Budget, Window};
use crate::domain::{
    journal::{Answer, EntryId, Reached},
    terms::Terms,
    time::{BootTime, JournalTime},
};

/// What an instance saw of the calls of all, by its own clock.
#[derive(Clone, Debug, Default)]
pub struct OwnClock {
    terms: Option<Terms>,
    windows: Vec<Window>,
    /// Calls that may be out, and when each is given up.
    open: BTreeMap<EntryId, JournalTime>,
    now: JournalTime,
    adopted: bool,
}

impl OwnClock {
    /// Takes over what a replay has shown, as old as the journal says it is: a jump of the broker's clock after that frees
    /// none of it early. `journal` and `now` are one moment, and what was told before is in the budget.
    ///
    /// Only the first time: of what a later replay shows, most was seen to arrive.
    pub fn adopt(&mut self, budget: &Budget, journal: JournalTime, now: BootTime) {
        self.advance(now);
        if std::mem::replace(&mut self.adopted, true) {
            return;
        }
        let now = self.now;
        let here = |time: JournalTime| now + time.saturating_since(journal);
        let windows = budget.terms.iter().flat_map(|terms| budget.windows.iter().map(move |window| (terms, window)));
        self.windows = windows
            .map(|(terms, window)| {
                let points = window.points().map(|(free, slots)| (here(free), slots));
                Window::restored(window.limit, terms, points)
            })
            .collect();
        self.terms.clone_from(&budget.terms);
        self.open = budget.open.iter().map(|(id, call)| (*id, here(call.lapse))).collect();
    }

    /// Goes by these terms from `now` on: those in force.
    pub fn agree(&mut self, terms: Option<&Terms>, now: BootTime) {
        self.advance(now);
        // While none are known, as in a log that was created anew, what was seen still counts.
        let Some(terms) = terms.filter(|terms| self.terms.as_ref() != Some(terms)) else { return };
        let begun = |limit| Window::begun(limit, terms, &self.windows, self.now);
        self.windows = terms.limits.iter().copied().map(begun).collect();
        self.terms = Some(terms.clone());
    }

    /// A call may be out from now on.
    pub fn begin(&mut self, claim: EntryId, now: BootTime) {
        self.advance(now);
        let lapse_after = self.terms.as_ref().map(Terms::lapse_after).unwrap_or_default();
        self.open.insert(claim, self.now + lapse_after);
    }

    /// Someone's answer arrived.
    pub fn end(&mut self, answer: &Answer, now: BootTime) {
        self.advance(now);
        let lapse = self.open.remove(&answer.claim);
        match (answer.reached, lapse) {
            (Reached::Complete, _) => self.hold_from(self.now),
            (Reached::Unknown, Some(lapse)) => self.hold_from(lapse),
            (Reached::Unknown, None) | (Reached::Never | Reached::Unused, _) => {}
        }
    }

    /// When one more call fits into every window: at `now`, or later. `None`: not before some are answered.
    ///
    /// `now` may be a moment behind what was told since: room that there is then is room now.
    pub fn room(&mut self, now: BootTime) -> Option<BootTime> {
        self.advance(now);
        let open = u32::try_from(self.open.len()).unwrap_or(u32::MAX);
        let free = self.windows.iter().map(|window| window.next_free(open, true));
        let free = free.collect::<Option<Vec<_>>>()?.into_iter().max().unwrap_or_default();
        Some(if free <= self.now { now } else { BootTime::from_origin(free.since_origin()) })
    }

    fn advance(&mut self, now: BootTime) {
        self.now = self.now.max(JournalTime::from_origin(now.since_origin()));
        let now = self.now;
        if self.open.values().any(|lapse| *lapse <= now) {
            let lapsed: Vec<_> = self.open.extract_if(.., |_, lapse| *lapse <= now).map(|(_, lapse)| lapse).collect();
            for lapse in lapsed {
                self.hold_from(lapse);
            }
        }
        self.windows.iter_mut().for_each(|window| window.free_until(now));
    }

    fn hold_from(&mut self, over: JournalTime) {
        self.windows.iter_mut().for_each(|window| window.hold_from(over));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::domain::{alert::AlertId, journal::WriterId};

    fn second(second: u64) -> BootTime {
        BootTime::from_origin(Duration::from_secs(second))
    }

    fn claim(number: u64) -> EntryId {
        EntryId { writer: WriterId(1), number }
    }

    fn answered(number: u64, reached: Reached) -> Answer {
        let alert = AlertId::parse("a").unwrap();
        Answer { claim: claim(number), alert, reached, status: None, outcome: None }
    }

    fn with_all_slots_taken(reached: Reached) -> OwnClock {
        let terms = Terms { limits: vec!["8 per 1m".parse().unwrap()], ..Terms::example() };
        let mut own = OwnClock::default();
        own.agree(Some(&terms), second(0));
        for number in 0..6 {
            own.begin(claim(number), second(10));
            own.end(&answered(number, reached), second(20));
        }
        own
    }

    #[test]
    fn a_full_window_has_room_a_period_after_the_answers_were_seen() {
        let mut own = with_all_slots_taken(Reached::Complete);
        let free = own.room(second(21)).unwrap();
        assert_eq!(free.since_origin().as_secs(), 20 + 61);
        assert_eq!(own.room(free), Some(free));
    }

    #[test]
    fn what_a_replay_has_shown_is_as_old_as_the_journal_says() {
        use crate::domain::journal::{Body, Claim, Entry};
        let at = |second: u64| JournalTime::from_origin(Duration::from_secs(second));
        let terms = Terms { limits: vec!["8 per 1m".parse().unwrap()], ..Terms::example() };
        let mut budget = Budget::default();
        let mut apply = |second, number, body| {
            budget.apply(at(second), &Entry { id: claim(number), instance: "host".into(), body });
        };
        apply(1_000, 1, Body::Terms(terms));
        for n in 0..6 {
            let alert = AlertId::parse("a").unwrap();
            let severity = crate::domain::alert::Severity::High;
            apply(1_000 + n, 2 + 2 * n, Body::Claim(Claim { alert, severity, reserved: true, highs_wait: false }));
            apply(1_001 + n, 3 + 2 * n, Body::Answer(answered(2 + 2 * n, Reached::Complete)));
        }
        let mut own = OwnClock::default();
        own.adopt(&budget, at(1_040), second(7));
        // The first was over at 1,001 and holds its slot for 61 s.
        assert_eq!(own.room(second(8)).unwrap().since_origin().as_secs(), 7 + 1_001 + 61 - 1_040);
    }

    #[test]
    fn what_never_reached_the_service_takes_no_room() {
        let mut own = with_all_slots_taken(Reached::Never);
        assert_eq!(own.room(second(21)), Some(second(21)));
    }

    #[test]
    fn room_that_there_is_is_room_now_also_when_a_call_has_begun_since_the_clock_was_read() {
        let mut own = with_all_slots_taken(Reached::Never);
        own.begin(claim(7), second(22));
        assert_eq!(own.room(second(21)), Some(second(21)));
    }

    #[test]
    fn a_call_that_is_never_answered_is_given_up_and_holds_its_slot_from_then_on() {
        let terms = Terms { limits: vec!["2 per 1m".parse().unwrap()], ..Terms::example() };
        let mut own = OwnClock::default();
        own.agree(Some(&terms), second(0));
        own.begin(claim(1), second(10));
        assert_eq!(own.room(second(11)), None);
        let free = own.room(second(10) + terms.lapse_after()).unwrap();
        assert_eq!(free.since_origin().as_secs(), 10 + 45 + 61);
    }
}
