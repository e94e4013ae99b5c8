//! What a call's answer means, how long to wait after a failure, and when the service as a whole is failing.

use std::{collections::VecDeque, time::Duration};

use jiff::Timestamp;

use super::{alert::AlertId, related_ips::RelatedIps, time::BootTime};

/// What an HTTP answer means for the lookup and for the account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// A page of addresses, whole and well-formed. With `next`, the answer goes on there.
    Page { texts: Vec<String>, next: Option<String> },
    /// The service does not know the alert (yet).
    NotFound,
    /// This call failed and may be made again. Says what happened.
    Retry(Failure),
    /// The whole account must pause.
    Throttled(Throttle),
    /// The token is not accepted: get another.
    Reauthenticate,
    /// The token is accepted but lacks the right. Says what the service said.
    Forbidden(String),
    /// The service refuses this question for good. Says what it said.
    Reject(String),
}

/// Why a call that may be repeated failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    pub kind: FailureKind,
    /// In words, without secrets and with hostile text escaped.
    pub detail: String,
    /// What the service's `Retry-After` asked for, where it sent one.
    pub retry_after: Option<Duration>,
}

/// Kinds of failed calls, bounded so that they can label a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FailureKind {
    /// 408, 425 or 5xx.
    Status,
    /// No connection.
    Connect,
    /// No answer in time.
    Timeout,
    /// The connection broke before the answer was complete.
    Broken,
    /// An answer that is not what the API's page describes.
    BadResponse,
}

impl FailureKind {
    pub const ALL: [Self; 5] = [Self::Status, Self::Connect, Self::Timeout, Self::Broken, Self::BadResponse];

    /// As written in metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Status => "status",
            Self::Connect => "connect",
            Self::Timeout => "timeout",
            Self::Broken => "broken",
            Self::BadResponse => "bad_response",
        }
    }
}

/// What a 429 says about how long to pause.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Throttle {
    /// `Retry-After`, in seconds or as a date read against the same answer's `Date`; at most an hour.
    pub retry_after: Option<Duration>,
    /// The window the message names ("maximum allowed 1500 per 01:00:00"). A hint: the message is free text.
    pub window: Option<Duration>,
}

/// Exponential backoff with full jitter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    pub first: Duration,
    pub longest: Duration,
}

impl Backoff {
    /// The wait after the `failures`th failure in a row (from 1), for a random number in `[0, 1)`.
    pub fn wait(&self, failures: u32, random: f64) -> Duration {
        self.ceiling(failures).mul_f64(random)
    }

    /// The longest wait that could follow the `failures`th failure.
    pub fn ceiling(&self, failures: u32) -> Duration {
        let doublings = failures.saturating_sub(1).min(31);
        self.first.saturating_mul(1 << doublings).min(self.longest)
    }
}

/// Tells a service that fails from a question that fails.
///
/// Open (failing) when half of the last [`SAMPLE`](Breaker::SAMPLE) calls failed, or when failures in a row are about
/// [`DISTINCT`](Breaker::DISTINCT) different alerts; then one call at a time is let through, after 1, 2, 4, … 30 s, until one succeeds.
#[derive(Clone, Debug, Default)]
pub struct Breaker {
    /// The last [`MEMORY`](Breaker::MEMORY) calls, the latest last: about which alert, whether answered, and when.
    recent: VecDeque<(AlertId, bool, BootTime)>,
    next_probe: Option<BootTime>,
    /// Probes that failed since the service counts as failing.
    failed_probes: u32,
    last_failure: Option<String>,
}

impl Breaker {
    /// Calls of which half must fail.
    pub const SAMPLE: usize = 20;
    /// Different alerts that must fail in a row.
    pub const DISTINCT: usize = 5;
    /// Longest time between probes.
    pub const PROBE_EVERY: Duration = Duration::from_secs(30);
    /// Calls remembered, to tell one question from all others.
    const MEMORY: usize = 100;

    /// A call was answered. Returns whether the service counted as failing until now.
    pub fn succeeded(&mut self, id: &AlertId, now: BootTime) -> bool {
        let was_open = self.next_probe.take().is_some();
        if was_open {
            self.recent.clear();
            self.failed_probes = 0;
        }
        self.remember(id, true, now);
        was_open
    }

    /// A call failed. Returns whether the service counts as failing from now on and did not before.
    pub fn failed(&mut self, id: &AlertId, detail: &str, now: BootTime) -> bool {
        self.remember(id, false, now);
        self.last_failure = Some(detail.to_owned());
        let was_open = self.is_open();
        if was_open || self.half_of_the_sample_failed() || self.different_alerts_failed_in_a_row() {
            self.failed_probes += u32::from(was_open);
            self.next_probe = Some(now + self.until_next_probe());
        }
        self.is_open() && !was_open
    }

    /// Whether the service counts as failing.
    pub fn is_open(&self) -> bool {
        self.next_probe.is_some()
    }

    /// Whether the last two calls failed: too little to count as failing, enough to be told.
    pub fn is_suspicious(&self) -> bool {
        self.recent.len() >= 2 && self.recent.iter().rev().take(2).all(|(_, answered, _)| !answered)
    }

    /// When the next call may be made, while the service counts as failing.
    pub fn next_probe(&self) -> Option<BootTime> {
        self.next_probe
    }

    /// A probe is on its way: the next one waits its turn.
    pub fn probing(&mut self, now: BootTime) {
        if self.is_open() {
            self.next_probe = Some(now + self.until_next_probe());
        }
    }

    /// What the last failed call said.
    pub fn last_failure(&self) -> Option<&str> {
        self.last_failure.as_deref()
    }

    /// Whether another question was answered since then: it is this one that fails, and not the service.
    pub fn others_answered_since(&self, id: &AlertId, since: BootTime) -> bool {
        !self.is_open() && self.recent.iter().any(|(other, answered, at)| other != id && *answered && *at >= since)
    }

    /// Whether others are answered, at least 99 of 100.
    pub fn others_pass(&self, id: &AlertId) -> bool {
        let (others, answered) = self.others(id);
        !self.is_open() && others > 0 && answered * 100 >= others * 99
    }

    /// A second at first, so that a short blip costs little, then doubling.
    fn until_next_probe(&self) -> Duration {
        Backoff { first: Duration::from_secs(1), longest: Self::PROBE_EVERY }.ceiling(self.failed_probes + 1)
    }

    fn others(&self, id: &AlertId) -> (usize, usize) {
        let others = || self.recent.iter().filter(|(other, ..)| other != id);
        (others().count(), others().filter(|(_, answered, _)| *answered).count())
    }

    fn half_of_the_sample_failed(&self) -> bool {
        let failed = self.recent.iter().rev().take(Self::SAMPLE).filter(|(_, answered, _)| !answered).count();
        self.recent.len() >= Self::SAMPLE && failed * 2 >= Self::SAMPLE
    }

    fn different_alerts_failed_in_a_row(&self) -> bool {
        let mut failing: Vec<&AlertId> =
            self.recent.iter().rev().take_while(|(_, answered, _)| !answered).map(|(id, ..)| id).collect();
        failing.sort_unstable();
        failing.dedup();
        failing.len() >= Self::DISTINCT
    }

    fn remember(&mut self, id: &AlertId, answered: bool, now: BootTime) {
        if self.recent.len() == Self::MEMORY {
            self.recent.pop_front();
        }
        self.recent.push_back((id.clone(), answered, now));
    }
}

/// When an alert the service does not know is asked about again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReaskPlan {
    /// Waits before the first, second, … re-ask.
    pub after: Vec<Duration>,
    /// Alerts older than this are not asked about again.
    pub young_for: Duration,
}

impl ReaskPlan {
    /// The wait before the next re-ask, after `asked` earlier ones; `None` when the answer stands.
    ///
    /// An alert of unknown age counts as young.
    pub fn next(&self, asked: usize, created: Option<Timestamp>, now: Timestamp) -> Option<Duration> {
        let young = created.is_none_or(|created| {
            now.duration_since(created)
                <= jiff::SignedDuration::try_from(self.young_for).unwrap_or(jiff::SignedDuration::MAX)
        });
        self.after.get(asked).copied().filter(|_| young)
    }
}

/// The pages of one answer as they come in: used whole or not at all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pages {
    texts: Vec<String>,
    read: u32,
}

impl Pages {
    /// Most pages of one answer.
    pub const MOST: u32 = 20;

    /// Adds a page. With a further page to come, says so by `Ok(None)`; else the whole answer is returned.
    pub fn add(&mut self, texts: Vec<String>, more: bool) -> Result<Option<RelatedIps>, TooManyPages> {
        self.read += 1;
        self.texts.extend(texts);
        if more {
            return if self.read < Self::MOST { Ok(None) } else { Err(TooManyPages) };
        }
        let texts = std::mem::take(self).texts;
        Ok(Some(RelatedIps::from_texts(texts.iter().map(String::as_str))))
    }
}

/// An answer that does not end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the answer goes on after {} pages", Pages::MOST)]
pub struct TooManyPages;
