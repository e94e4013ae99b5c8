//! The shell's only source of time. Everything below takes the time it needs as an argument.

use std::sync::{
    Arc,
    atomic::{AtomicI64, Ordering},
};

use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

use crate::domain::time::BootTime;

/// Reads the clocks: the machine's, or tokio's, which tests can pause.
///
/// Cheap to clone; every owner of state holds its own.
#[derive(Clone, Debug)]
pub struct Clock(Source);

#[derive(Clone, Debug)]
enum Source {
    Machine,
    Tokio {
        started: Instant,
        wall_at_start: Timestamp,
        /// By how many milliseconds the wall clock was set since.
        stepped: Arc<AtomicI64>,
    },
}

impl Clock {
    /// `CLOCK_BOOTTIME` and the wall clock of this machine.
    pub const fn machine() -> Self {
        Self(Source::Machine)
    }

    /// Both clocks follow tokio's, starting at `wall`: under tokio's paused time a simulated day passes in seconds.
    pub fn following_tokio(wall: Timestamp) -> Self {
        Self(Source::Tokio { started: Instant::now(), wall_at_start: wall, stepped: Arc::default() })
    }

    /// Sets the wall clock of one that follows tokio's forward or back, as an administrator does with a machine's.
    pub fn step_wall(&self, by: SignedDuration) {
        if let Source::Tokio { stepped, .. } = &self.0 {
            stepped.fetch_add(i64::try_from(by.as_millis()).unwrap_or_default(), Ordering::Relaxed);
        }
    }

    /// Now, for every local wait.
    pub fn boot(&self) -> BootTime {
        match &self.0 {
            Source::Machine => {
                let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
                let (seconds, nanos) = (now.tv_sec.unsigned_abs(), now.tv_nsec.unsigned_abs());
                BootTime::from_origin(std::time::Duration::from_secs(seconds) + std::time::Duration::from_nanos(nanos))
            }
            Source::Tokio { started, .. } => BootTime::from_origin(started.elapsed()),
        }
    }

    /// Now, for what people and other systems read. It may step; no wait depends on it.
    #[expect(clippy::disallowed_methods, reason = "this is the one place that reads the wall clock")]
    pub fn wall(&self) -> Timestamp {
        match &self.0 {
            Source::Machine => Timestamp::now(),
            Source::Tokio { started, wall_at_start, stepped } => {
                let stepped = SignedDuration::from_millis(stepped.load(Ordering::Relaxed));
                let stepped = wall_at_start.saturating_add(stepped).unwrap_or(Timestamp::MAX);
                stepped.saturating_add(started.elapsed()).unwrap_or(Timestamp::MAX)
            }
        }
    }
}
