//! The simulated service and world: what tests, `demo` and `simulate` run against.
//!
//! An oracle, written apart from the daemon: of the daemon it uses the words of `domain/`, never its budget, client or
//! decoders. One [`Sim`] is one service. It is asked in process ([`Sim::send`], also under tokio's paused time) or over
//! HTTP ([`http::Server`]), with the same answers and the same faults.

mod answer;
mod calls;
mod latency;
mod oracle;
mod plan;
mod service;
mod shapes;
mod sign_in;

pub mod http;
pub mod world;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::http::{Request, Response};
use bytes::Bytes;
use jiff::Timestamp;
use tokio::time::sleep;

pub use self::{
    answer::{Answer, BAIT, Fault, NextPage, Reply, RetryAfter},
    calls::{Call, Violation, Wrong},
    latency::{InvalidLatency, Latency},
    oracle::{Window, Windows},
    plan::{InvalidMix, Mix, Plan},
    service::{Counts, Outage, Settings, SimService, Switches},
    sign_in::{Client, SignInAnswer},
};
use crate::{clock::Clock, domain::time::BootTime};

/// One moment on both clocks.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// What the limits and token lifetimes are measured on.
    pub boot: BootTime,
    /// What is written into headers, tokens and the log.
    pub wall: Timestamp,
}

/// A handle on one simulated service. Cheap to clone; all clones are the same service.
#[derive(Clone)]
pub struct Sim {
    service: Arc<Mutex<SimService>>,
    clock: Clock,
}

/// A connection that gave no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    #[error("connection refused")]
    Refused,
    #[error("connection closed before an answer")]
    Reset,
    #[error("connection closed before the end of the body")]
    Truncated,
    #[error("the body does not end")]
    Endless,
}

impl Sim {
    pub fn new(settings: Settings, clock: Clock) -> Self {
        Self { service: Arc::new(Mutex::new(SimService::new(settings))), clock }
    }

    /// Looks at the service or changes it.
    pub fn with<T>(&self, look: impl FnOnce(&mut SimService) -> T) -> T {
        look(&mut self.lock())
    }

    /// Flips switches while the service runs.
    pub fn switch(&self, change: impl FnOnce(&mut Switches)) {
        change(&mut self.lock().switches);
    }

    /// Makes every token issued so far invalid.
    pub fn revoke_tokens(&self) {
        self.lock().sign_in.revoke_all();
    }

    /// Takes a request that arrives now.
    pub fn handle(&self, request: &Request<Bytes>) -> Reply {
        let mut service = self.lock();
        // Read under the lock, so that arrivals are in the order of their times.
        let now = self.now();
        service.handle(now, request)
    }

    /// Lets a request travel to the service, and gives the reply as it leaves there.
    ///
    /// A request under way arrives, and counts, also where its sender gives up and drops this future.
    pub async fn arrive(&self, request: Request<Bytes>) -> Reply {
        let leg = self.lock().draw_leg();
        if leg.is_zero() {
            return self.handle(&request);
        }
        let sim = self.clone();
        let arrival = tokio::spawn(async move {
            sleep(leg).await;
            sim.handle(&request)
        });
        match arrival.await {
            Ok(reply) => reply,
            // The runtime is shutting down.
            Err(_) => std::future::pending().await,
        }
    }

    /// One whole exchange as a client without timeouts sees it: the way there, the way back, and faults.
    pub async fn send(&self, request: Request<Bytes>) -> Result<Response<Bytes>, Failure> {
        let Reply { response, delay, fault } = self.arrive(request).await;
        if !delay.is_zero() {
            sleep(delay).await;
        }
        match fault {
            None => Ok(response),
            Some(Fault::Refused) => Err(Failure::Refused),
            Some(Fault::Reset) => Err(Failure::Reset),
            Some(Fault::Truncated | Fault::LyingLength) => Err(Failure::Truncated),
            Some(Fault::Endless) => Err(Failure::Endless),
            Some(Fault::Hang) => std::future::pending().await,
            Some(Fault::Drip(pause)) => {
                sleep(pause.saturating_mul(u32::try_from(response.body().len()).unwrap_or(u32::MAX))).await;
                Ok(response)
            }
        }
    }

    /// Every limit's window now, with the fullest there has been.
    pub fn windows(&self) -> Vec<Window> {
        self.lock().windows(self.clock.boot())
    }

    pub fn counts(&self) -> Counts {
        self.lock().counts()
    }

    /// The newest calls, oldest first.
    pub fn calls(&self) -> Vec<Call> {
        self.lock().calls().cloned().collect()
    }

    /// The first violations, at most a thousand of them.
    pub fn violations(&self) -> Vec<Violation> {
        self.lock().violations().to_vec()
    }

    /// Why the request log was given up, if it was.
    pub fn log_failure(&self) -> Option<String> {
        self.lock().records.log_failure.clone()
    }

    fn now(&self) -> Now {
        Now { boot: self.clock.boot(), wall: self.clock.wall() }
    }

    fn lock(&self) -> MutexGuard<'_, SimService> {
        self.service.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
