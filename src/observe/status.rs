//! Snapshots of an account, published by its owner and read by whoever shows them.

use std::time::Duration;

use crate::domain::alert::Severity;

/// One account at one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AccountStatus {
    /// One for each limit, in the order of the configuration.
    pub windows: Vec<WindowStatus>,
    /// Lookups that wait for a permit or a re-ask, by [`Severity::ALL`].
    pub backlog: [BacklogStatus; Severity::ALL.len()],
    /// Lookups that wait for their next re-ask after a 404; also part of `backlog`.
    pub reask_waiting: usize,
    /// Lookups that wait out a backoff after a failure; also part of `backlog`.
    pub retry_waiting: usize,
    /// Lookups for what was sent back from the dead letters, which wait until nobody else wants calls; not in `backlog`.
    pub spare_waiting: usize,
    /// Calls on the wire.
    pub in_flight: usize,
    /// How long until the next slot frees, where every slot is taken now.
    pub next_slot_in: Option<Duration>,
    /// Estimated time to empty the backlog at the rate the limits allow; zero when it is empty.
    pub time_to_empty: Duration,
    /// Why no calls are made, in words, and for how long still, where that is known.
    pub paused: Option<Pause>,
}

/// What is spent and left of one limit.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct WindowStatus {
    /// The limit's period.
    pub per: Duration,
    /// The limit's calls, as configured.
    pub calls: u32,
    /// Slots taken now, calls on the wire included.
    pub used: u32,
    /// Slots a High alert could take now.
    pub left: u32,
}

/// The waiting lookups of one severity.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct BacklogStatus {
    pub waiting: usize,
    /// How long the oldest has waited, since its record's Kafka timestamp.
    pub oldest: Duration,
}

/// Why an account makes no calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pause {
    /// What happened and what to do, for a person.
    pub why: String,
    /// How long still; `None` while it waits for something it can't foresee.
    pub remaining: Option<Duration>,
    /// Whether it lasts until someone changes something: a refused sign-in, a missing right.
    pub lasting: bool,
}

impl AccountStatus {
    /// Lookups waiting, all severities together.
    pub fn waiting(&self) -> usize {
        self.backlog.iter().map(|backlog| backlog.waiting).sum()
    }
}
