//! The slots of one limit that are taken by calls that are over.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use crate::domain::{limit::Limit, terms::Terms, time::JournalTime};

/// Limits with more calls than this keep their slots in buckets of a thousandth of the period.
const EXACT_UP_TO: u32 = 4096;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Window {
    pub(super) limit: Limit,
    /// Slots that may be taken at the same time: with and without those reserved for High.
    pub(super) usable: (u32, u32),
    /// How long after its end a call keeps its slot.
    pub(super) hold: Duration,
    /// Times are rounded up to multiples of this, so that memory does not grow with the limit.
    bucket: Duration,
    /// Slots by the time at which they are free again.
    freeing: BTreeMap<JournalTime, u32>,
    pub(super) taken: u32,
}

impl Window {
    /// With nothing taken. `limit` is one of the `terms`.
    pub(super) fn new(limit: Limit, terms: &Terms) -> Self {
        let bucket = if limit.calls.get() > EXACT_UP_TO { limit.per / 1000 } else { Duration::ZERO };
        Self {
            limit,
            usable: terms.usable(&limit),
            hold: terms.hold(&limit),
            bucket,
            freeing: BTreeMap::new(),
            taken: 0,
        }
    }

    /// With the slots as they were taken by `points`: when each is free again, and how many.
    pub(super) fn restored(limit: Limit, terms: &Terms, points: impl IntoIterator<Item = (JournalTime, u32)>) -> Self {
        let mut window = Self::new(limit, terms);
        points.into_iter().for_each(|(free, slots)| window.take(free, slots));
        window
    }

    /// As `new`, for a window that begins to count at `now` in place of, or beside, `known` ones: with what they know of
    /// calls that are over, and, where even the longest of them does not look back far enough, as if the limit had been
    /// used up just before.
    pub(super) fn begun(limit: Limit, terms: &Terms, known: &[Self], now: JournalTime) -> Self {
        let mut window = Self::new(limit, terms);
        if let Some(same) = known.iter().find(|known| known.limit.per == limit.per && known.hold == window.hold) {
            return Self::restored(limit, terms, same.points());
        }
        let Some(longest) = known.iter().max_by_key(|known| known.hold) else { return window };
        for (free, slots) in longest.points_held_for(window.hold) {
            window.take(free, slots);
        }
        let unknown = window.hold.saturating_sub(longest.hold);
        if !unknown.is_zero() {
            window.take(now + unknown, window.usable.0.saturating_sub(window.taken));
        }
        window.free_until(now);
        window
    }

    pub(super) fn hold_from(&mut self, over: JournalTime) {
        self.take(over + self.hold, 1);
    }

    fn take(&mut self, free: JournalTime, slots: u32) {
        if slots > 0 {
            *self.freeing.entry(self.rounded_up(free)).or_default() += slots;
            self.taken += slots;
        }
    }

    pub(super) fn free_until(&mut self, now: JournalTime) {
        while let Some(first) = self.freeing.first_entry() {
            if *first.key() > now {
                break;
            }
            self.taken -= first.remove();
        }
    }

    /// When one more slot can be taken while `open` calls hold one each; `None` if only an answer can free one.
    pub(super) fn next_free(&self, open: u32, reserved: bool) -> Option<JournalTime> {
        let usable = if reserved { self.usable.0 } else { self.usable.1 };
        let mut used = u64::from(self.taken) + u64::from(open);
        if used < u64::from(usable) {
            return Some(JournalTime::default());
        }
        for (free, slots) in &self.freeing {
            used -= u64::from(*slots);
            if used < u64::from(usable) {
                return Some(*free);
            }
        }
        None
    }

    /// Takes what `other`, which counts the same calls or some of them, knows beyond this: as many slots are held at any
    /// time as the one or the other holds.
    pub(super) fn absorb(&mut self, other: &Self) {
        let theirs: BTreeMap<_, _> = other.points_held_for(self.hold).collect();
        let times: BTreeSet<_> = self.freeing.keys().chain(theirs.keys()).copied().collect();
        let (mut ours_held, mut theirs_held, mut held) = (0, 0, 0);
        let mut freeing = BTreeMap::new();
        // From the latest time back: how many are held until then, at least.
        for time in times.into_iter().rev() {
            ours_held += self.freeing.get(&time).copied().unwrap_or_default();
            theirs_held += theirs.get(&time).copied().unwrap_or_default();
            let more = ours_held.max(theirs_held) - held;
            held += more;
            if more > 0 {
                freeing.insert(time, more);
            }
        }
        (self.freeing, self.taken) = (freeing, held);
    }

    /// Slots that are still taken at `at`.
    pub(super) fn taken_at(&self, at: JournalTime) -> u32 {
        self.taken - self.freeing.range(..=at).map(|(_, slots)| slots).sum::<u32>()
    }

    /// When each slot would be free again, were it held for `hold`.
    fn points_held_for(&self, hold: Duration) -> impl Iterator<Item = (JournalTime, u32)> {
        let over = |free: JournalTime| JournalTime::from_origin(free.since_origin().saturating_sub(self.hold));
        self.points().map(move |(free, slots)| (over(free) + hold, slots))
    }

    /// When each slot is free again.
    pub(super) fn points(&self) -> impl Iterator<Item = (JournalTime, u32)> {
        self.freeing.iter().map(|(free, slots)| (*free, *slots))
    }

    fn rounded_up(&self, time: JournalTime) -> JournalTime {
        if self.bucket.is_zero() {
            return time;
        }
        let buckets = time.since_origin().as_nanos().div_ceil(self.bucket.as_nanos());
        let nanos = buckets.saturating_mul(self.bucket.as_nanos());
        JournalTime::from_origin(Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: u64) -> JournalTime {
        JournalTime::from_origin(Duration::from_secs(second))
    }

    fn terms(limits: &[&str]) -> Terms {
        Terms { limits: limits.iter().map(|text| text.parse().unwrap()).collect(), ..Terms::example() }
    }

    #[test]
    fn a_shorter_limit_begins_with_the_calls_a_longer_window_remembers() {
        let before = terms(&["40 per 1h"]);
        let mut hour = Window::new(before.limits[0], &before);
        hour.hold_from(at(10_000));
        hour.hold_from(at(10_055));
        let after = terms(&["40 per 1m"]);
        let minute = Window::begun(after.limits[0], &after, &[hour], at(10_070));
        let free: Vec<_> = minute.points().map(|(free, slots)| (free.since_origin().as_secs(), slots)).collect();
        assert_eq!(free, [(10_116, 1)], "the call of 10,000 has left a minute's window");
    }

    #[test]
    fn what_two_know_of_the_same_calls_counts_once() {
        let terms = terms(&["40 per 1m"]);
        let (mut one, mut other) = (Window::new(terms.limits[0], &terms), Window::new(terms.limits[0], &terms));
        for second in [10, 20, 30] {
            one.hold_from(at(second));
        }
        // Read further: the call at 20 is known to be over only at 25, and there is one more.
        for second in [10, 25, 30, 40] {
            other.hold_from(at(second));
        }
        one.absorb(&other);
        let over: Vec<_> = one.points().map(|(free, _)| free.since_origin().as_secs() - 61).collect();
        assert_eq!((over, one.taken), (vec![10, 25, 30, 40], 4));
        let before = one.clone();
        one.absorb(&other);
        assert_eq!(one, before);
    }

    #[test]
    fn a_longer_limit_begins_as_if_it_had_been_used_up_before_what_is_known() {
        let before = terms(&["40 per 1m"]);
        let mut minute = Window::new(before.limits[0], &before);
        minute.hold_from(at(10_050));
        let after = terms(&["400 per 1h"]);
        let hour = Window::begun(after.limits[0], &after, &[minute], at(10_070));
        assert_eq!(hour.taken, hour.usable.0);
        let times: Vec<_> = hour.points().map(|(free, _)| free).collect();
        assert!(times[0] >= at(10_070 + 3_600 - 62) && times.len() == 2, "{times:?}");
    }
}
