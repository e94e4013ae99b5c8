//! Spreads the calls for alerts below High, so that a storm does not spend the hour in a quarter of it.
//!
//! The pacer only ever delays: it admits a burst and then the sustained rate of this instance's terms. Whether a call may
//! be made at all is decided by the [`Budget`](crate::domain::budget::Budget), which paces all instances together.

use std::{num::NonZeroU32, time::Duration};

use governor::{
    Quota, RateLimiter,
    clock::{Clock as GovernorClock, Reference},
    middleware::NoOpMiddleware,
    nanos::Nanos,
    state::{InMemoryState, NotKeyed},
};

use crate::{
    clock::Clock,
    domain::{
        terms::{Pace, Terms},
        time::BootTime,
    },
};

/// A burst of a quarter of the shortest limit, then the rate that all limits sustain.
#[derive(Debug)]
pub(super) struct Pacer {
    limiter: RateLimiter<NotKeyed, InMemoryState, BootClock, NoOpMiddleware<Nanos>>,
    clock: BootClock,
}

/// governor's view of the boot clock; its own clocks don't follow tokio's.
#[derive(Clone, Debug)]
struct BootClock(Clock);

impl GovernorClock for BootClock {
    type Instant = Nanos;

    fn now(&self) -> Nanos {
        Nanos::from(self.0.boot().since_origin())
    }
}

impl Pacer {
    pub(super) fn new(terms: &Terms, clock: Clock) -> Self {
        let clock = BootClock(clock);
        Self { limiter: RateLimiter::direct_with_clock(quota(terms), clock.clone()), clock }
    }

    /// Takes a turn, or says when there is one.
    pub(super) fn take(&self) -> Result<(), BootTime> {
        self.limiter.check().map_err(|not_until| {
            let now = self.clock.now();
            let wait = Duration::from(not_until.earliest_possible().duration_since(now));
            BootTime::from_origin(Duration::from(now)) + wait
        })
    }
}

fn quota(terms: &Terms) -> Quota {
    let Pace { burst, every } = terms.pace();
    let burst = NonZeroU32::new(burst).unwrap_or(NonZeroU32::MIN);
    let every = every.max(Duration::from_nanos(1));
    Quota::with_period(every).unwrap_or(Quota::per_second(NonZeroU32::MAX)).allow_burst(burst)
}
