//! The journal's clock: what its brokers stamp, made monotonic, and what it shows between two entries.

use std::time::Duration;

use crate::domain::time::{BootTime, JournalTime};

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct BrokerClock {
    /// The latest time stamped: the journal's time does not go back.
    latest: JournalTime,
    /// What the newest entry was stamped with, and when it arrived.
    newest: JournalTime,
    arrived: BootTime,
}

impl BrokerClock {
    /// An entry arrived. Returns the time that counts for it.
    pub(super) fn stamp(&mut self, millis: i64, arrived: BootTime) -> JournalTime {
        let stamped = JournalTime::from_origin(Duration::from_millis(u64::try_from(millis).unwrap_or_default()));
        self.latest = self.latest.max(stamped);
        (self.newest, self.arrived) = (stamped, arrived);
        self.latest
    }

    /// What the clock shows, a little late rather than early: an entry takes time to arrive. While the brokers' clock is
    /// behind what it showed before, the journal's stands still.
    pub(super) fn now(&self, now: BootTime) -> JournalTime {
        self.latest.max(self.newest + now.saturating_since(self.arrived))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn boot(second: u64) -> BootTime {
        BootTime::from_origin(Duration::from_secs(second))
    }

    fn journal(second: u64) -> JournalTime {
        JournalTime::from_origin(Duration::from_secs(second))
    }

    #[test]
    fn it_goes_on_between_entries_and_stands_still_while_the_brokers_are_behind() {
        let mut clock = BrokerClock::default();
        assert_eq!(clock.stamp(1_000_000, boot(10)), journal(1_000));
        assert_eq!(clock.now(boot(15)), journal(1_005));
        // Another leader, whose clock is 60 s behind.
        assert_eq!(clock.stamp(945_000, boot(15)), journal(1_000));
        assert_eq!(clock.now(boot(69)), journal(1_000));
        assert_eq!(clock.now(boot(75)), journal(1_005));
    }
}
