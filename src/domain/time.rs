//! Points in time that must not be confused with each other.
//!
//! Wall-clock time is [`jiff::Timestamp`]. The two clocks below only ever move forward and have arbitrary origins.

use std::{ops::Add, time::Duration};

/// A point on this host's `CLOCK_BOOTTIME`, which counts suspends and ignores steps of the wall clock.
///
/// Every local wait (backoff, re-ask, token expiry, claim expiry) is measured on it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct BootTime(Duration);

/// A point on the journal's clock, which alone decides about slots.
///
/// For the journal in Kafka it is the broker's `LogAppendTime`, for the one in memory this host's boot clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct JournalTime(Duration);

macro_rules! point_in_time {
    ($name:ident) => {
        impl $name {
            /// The point `since_origin` after the clock's origin.
            pub const fn from_origin(since_origin: Duration) -> Self {
                Self(since_origin)
            }

            /// How long after the clock's origin this is.
            pub const fn since_origin(self) -> Duration {
                self.0
            }

            /// How long after `earlier` this is; zero if it is not after it.
            pub const fn saturating_since(self, earlier: Self) -> Duration {
                self.0.saturating_sub(earlier.0)
            }
        }

        impl Add<Duration> for $name {
            type Output = Self;

            fn add(self, wait: Duration) -> Self {
                Self(self.0.saturating_add(wait))
            }
        }
    };
}

point_in_time!(BootTime);
point_in_time!(JournalTime);
