//! What time it is at the service: of what it answers and of what it says about alerts, the order must be known, whatever a host
//! takes the time of day for.

use std::{mem, time::Duration};

use jiff::{SignedDuration, Timestamp};

/// Two clocks that differ by no more count as one: answers are on their way for a while, and the service tells whole seconds.
pub const SKEW: Duration = Duration::from_secs(30);

/// The service's clock, by this host's wall clock and what the service's answers say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ServiceClock {
    /// How far it is ahead of this host's; zero where they differ by no more than [`SKEW`].
    ahead: SignedDuration,
}

impl ServiceClock {
    /// Takes what an answer says the time is (`Date`), while this host's clock shows `wall`. Returns what is news to an operator.
    pub fn hear(&mut self, date: Timestamp, wall: Timestamp) -> Option<News> {
        let ahead = date.duration_since(wall);
        let ahead = if ahead.unsigned_abs() > SKEW { ahead } else { SignedDuration::ZERO };
        let before = mem::replace(&mut self.ahead, ahead);
        let has_changed = (ahead - before).unsigned_abs() > SKEW;
        has_changed.then(|| match ahead.signum() {
            0 => News::Agrees,
            1 => News::Behind(ahead.unsigned_abs()),
            _ => News::Ahead(ahead.unsigned_abs()),
        })
    }

    /// What the service's clock shows while this host's shows `wall`.
    pub fn at(self, wall: Timestamp) -> Timestamp {
        wall.saturating_add(self.ahead).unwrap_or(wall)
    }
}

/// What this host's clock is, measured by the service's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum News {
    Ahead(Duration),
    Behind(Duration),
    Agrees,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_whose_clock_is_wrong_goes_by_that_of_the_service() {
        let at = |second: i64| Timestamp::constant(1_800_000_000 + second, 0);
        let mut clock = ServiceClock::default();
        let mut hear = |date: i64, wall: i64| (clock.hear(at(date), at(wall)), clock.at(at(wall)));
        // Half a minute may be the way.
        assert_eq!(hear(1_000, 1_030), (None, at(1_030)));
        assert_eq!(hear(1_000, 1_031), (Some(News::Ahead(Duration::from_secs(31))), at(1_000)));
        // Said once, and again where it changes.
        assert_eq!(hear(1_001, 1_032), (None, at(1_001)));
        assert_eq!(hear(1_002, 1_035), (None, at(1_002)));
        assert_eq!(hear(1_003, 0), (Some(News::Behind(Duration::from_secs(1_003))), at(1_003)));
        assert_eq!(hear(1_004, 1_003), (Some(News::Agrees), at(1_003)));
        assert_eq!(hear(1_005, 1_004), (None, at(1_004)));
    }
}
