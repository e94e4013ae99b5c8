//! The windows once more, on one instance's own clock.
//!
//! The journal's time is its broker's. Where that jumps forward, with another leader for instance, slots come free that are
//! not; what an instance saw arrive it therefore counts on its own clock too. The verdicts stay the entries': this only
//! lets a granted call of its own wait.

use std::collections::BTreeMap;

use super::Window;
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
}

impl OwnClock {
    /// Goes by these terms from `now` on: those in force.
    pub fn agree(&mut self, terms: Option<&Terms>, now: BootTime) {
        self.advance(now);
        if self.terms.as_ref() == terms {
            return;
        }
        let limits = terms.iter().flat_map(|terms| terms.limits.iter().map(move |limit| (terms, limit)));
        self.windows = limits.map(|(terms, limit)| Window::begun(*limit, terms, &self.windows, self.now)).collect();
        self.terms = terms.cloned();
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

    /// When one more call fits into every window: now, or later. `None`: not before some are answered.
    pub fn room(&mut self, now: BootTime) -> Option<BootTime> {
        self.advance(now);
        let open = u32::try_from(self.open.len()).unwrap_or(u32::MAX);
        let free = self.windows.iter().map(|window| window.next_free(open, true));
        let free = free.collect::<Option<Vec<_>>>()?.into_iter().max().unwrap_or_default();
        Some(BootTime::from_origin(free.max(self.now).since_origin()))
    }

    fn advance(&mut self, now: BootTime) {
        self.now = self.now.max(JournalTime::from_origin(now.since_origin()));
        let now = self.now;
        let lapsed: Vec<_> = self.open.extract_if(.., |_, lapse| *lapse <= now).map(|(_, lapse)| lapse).collect();
        for lapse in lapsed {
            self.hold_from(lapse);
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
    fn what_never_reached_the_service_takes_no_room() {
        let mut own = with_all_slots_taken(Reached::Never);
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
