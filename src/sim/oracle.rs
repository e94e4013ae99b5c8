//! The judge of every limit: an exact list of arrival times for each, and nothing else.
//!
//! It shares no code and no idea with the daemon's `Budget`. Whether a limit was kept is what this file says, so it is
//! kept simple enough to be believed, and is itself held against a brute force below.

use std::{collections::VecDeque, time::Duration};

use crate::domain::{limit::Limit, time::BootTime};

/// The calls that arrived, seen through the windows of every limit.
///
/// A window is half-open, `(now - per, now]`: of two calls exactly one period apart only the later is in it.
#[derive(Clone, Debug)]
pub struct Windows(Vec<Tracked>);

#[derive(Clone, Debug)]
struct Tracked {
    limit: Limit,
    /// Arrivals of the last period, oldest first.
    recent: VecDeque<BootTime>,
    worst: usize,
}

/// One limit's window at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    pub limit: Limit,
    /// Calls in the window that ends now.
    pub calls: usize,
    /// Calls in the fullest window there has been.
    pub worst: usize,
}

impl Window {
    /// Whether the limit was ever exceeded.
    pub fn was_exceeded(&self) -> bool {
        self.worst > self.limit.calls.get() as usize
    }
}

impl Windows {
    pub fn new(limits: impl IntoIterator<Item = Limit>) -> Self {
        Self(limits.into_iter().map(|limit| Tracked { limit, recent: VecDeque::new(), worst: 0 }).collect())
    }

    /// Counts a call that arrives at `now`, which is never before the call that arrived last.
    pub fn arrive(&mut self, now: BootTime) {
        for tracked in &mut self.0 {
            tracked.forget_before(now);
            tracked.recent.push_back(now);
            tracked.worst = tracked.worst.max(tracked.recent.len());
        }
    }

    /// Every limit's window as it is at `now`, in the order the limits were given.
    pub fn at(&self, now: BootTime) -> impl Iterator<Item = Window> + '_ {
        self.0.iter().map(move |tracked| Window {
            limit: tracked.limit,
            calls: tracked.recent.len() - tracked.recent.partition_point(|&at| tracked.has_left(at, now)),
            worst: tracked.worst,
        })
    }

    /// How long after `now` every window has room for one more call, if none arrives in between.
    pub fn room_in(&self, now: BootTime) -> Duration {
        self.0.iter().map(|tracked| tracked.room_in(now)).max().unwrap_or_default()
    }
}

impl Tracked {
    fn has_left(&self, at: BootTime, now: BootTime) -> bool {
        now.saturating_since(at) >= self.limit.per
    }

    fn forget_before(&mut self, now: BootTime) {
        while self.recent.front().is_some_and(|&at| self.has_left(at, now)) {
            self.recent.pop_front();
        }
    }

    fn room_in(&self, now: BootTime) -> Duration {
        // With N calls allowed there is room once all but the newest N - 1 have left.
        match self.recent.len().checked_sub(self.limit.calls.get() as usize) {
            Some(last_to_leave) => (self.recent[last_to_leave] + self.limit.per).saturating_since(now),
            None => Duration::ZERO,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(millis: u64) -> BootTime {
        BootTime::from_origin(Duration::from_millis(millis))
    }

    fn limit(text: &str) -> Limit {
        text.parse().unwrap()
    }

    proptest! {
        #[test]
        fn counts_agree_with_a_brute_force(
            gaps in prop::collection::vec(0_u64..40, 1..120),
            calls in 1_u32..20,
            per_ms in 1_u64..300,
            ask_after in 0_u64..400,
        ) {
            let per = Duration::from_millis(per_ms);
            let mut windows = Windows::new([Limit { calls: calls.try_into().unwrap(), per }]);
            let mut times = Vec::new();
            for gap in gaps {
                let now = times.last().unwrap_or(&0) + gap;
                times.push(now);
                windows.arrive(at(now));
            }
            let now = times.last().unwrap() + ask_after;
            let window = windows.at(at(now)).next().unwrap();

            // A fullest half-open window can always be moved until it starts at a call.
            let worst = times.iter().map(|&start| times.iter().filter(|&&t| t >= start && t < start + per_ms).count());
            prop_assert_eq!(window.worst, worst.max().unwrap());
            prop_assert_eq!(window.calls, times.iter().filter(|&&t| t + per_ms > now).count());

            let count_at = |moment: u64| times.iter().filter(|&&t| t + per_ms > moment).count();
            let wait = u64::try_from(windows.room_in(at(now)).as_millis()).unwrap();
            let calls = calls as usize;
            prop_assert!(count_at(now + wait) < calls);
            prop_assert!(wait == 0 || count_at(now + wait - 1) >= calls);
        }
    }

    #[test]
    fn calls_a_whole_period_apart_do_not_share_a_window() {
        let mut windows = Windows::new([limit("1 per 1s")]);
        windows.arrive(at(0));
        windows.arrive(at(1000));
        assert!(!windows.at(at(1000)).next().unwrap().was_exceeded());
        windows.arrive(at(1999));
        assert!(windows.at(at(1999)).next().unwrap().was_exceeded());
    }

    #[test]
    fn every_limit_has_its_own_window() {
        let mut windows = Windows::new([limit("2 per 1s"), limit("10 per 1m")]);
        for millis in [0, 100, 2000] {
            windows.arrive(at(millis));
        }
        let calls: Vec<_> = windows.at(at(2500)).map(|window| (window.calls, window.worst)).collect();
        assert_eq!(calls, [(1, 2), (3, 3)]);
    }
}
