//! What each verdict leads to.

use std::time::Duration;

use rand::RngExt;
use tokio::task::JoinError;
use url::Url;

use super::{Account, access::Generation, calls::Called};
use crate::{
    defender::{client::Answered, journal::Journal, transport::Transport},
    domain::{
        alert::AlertId,
        backlog::Parked,
        journal::{Answer, Body, Freeze},
        outcome::{Outcome, Reason, Rejection, Status},
        related_ips::RelatedIps,
        retry::{Backoff, Breaker, Failure, FailureKind, Pages, Throttle, Verdict},
        service_clock::{News, given_at},
        time::JournalTime,
    },
    observe::metrics::RetryReason,
};

/// How long after the next probe a lookup that was forbidden has its turn again.
const AFTER_THE_PROBE: Duration = Duration::from_secs(1);

/// First wait after a 429 that names neither a time nor a window we have filled.
const FIRST_THROTTLE_WAIT: Duration = Duration::from_secs(5);

/// An answer that took longer, or that this process was stopped in, does not say what time it is now.
const TIMELY: Duration = Duration::from_secs(5);

impl<J: Journal, T: Transport> Account<J, T> {
    /// Takes a finished call: its slot, then its verdict.
    pub(super) fn finish(&mut self, called: Result<Called, JoinError>) {
        let called = match called {
            Ok(called) => called,
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        };
        let Called { claim, id, call, with, took } = called;
        let (alert, reached) = (id.clone(), call.reached);
        let Some(Answered { verdict, end, at: wall, sent }) = call.answer else {
            self.append(Body::Answer(Answer { claim, alert, reached, status: None, outcome: None }));
            return self.requeue(&id);
        };
        self.reporting.metrics.call_ended(end, took);
        tracing::debug!(alert_id = %id, ?end, ?took, "a call ended");
        let at = given_at(sent, wall);
        // What answers in the service's place has a clock of its own.
        let is_the_services = matches!(verdict, Verdict::Page { .. } | Verdict::NotFound) && took < TIMELY;
        if let Some(sent) = sent.filter(|_| is_the_services) {
            self.hear_time(sent, wall);
        }
        let status = end.status();
        let answer = |outcome| Body::Answer(Answer { claim, alert, reached, status, outcome });
        match verdict {
            Verdict::Page { texts, next } => {
                self.service_answers(&id, Some(with));
                let outcome = self.page(&id, texts, next.as_deref(), at);
                self.append(answer(outcome));
            }
            Verdict::NotFound => {
                self.service_answers(&id, Some(with));
                let outcome = self.not_found(&id, at);
                self.append(answer(outcome));
            }
            verdict => {
                // What follows looks at the windows with this call in them.
                self.append(answer(None));
                self.replay();
                self.judge(&id, with, verdict);
            }
        }
        self.replay();
    }

    /// Takes what the service says the time is.
    fn hear_time(&mut self, sent: jiff::Timestamp, wall: jiff::Timestamp) {
        let Some(news) = self.service_clock.hear(sent, self.clock.boot(), wall) else { return };
        let part = self.reporting.health.part();
        let off = match news {
            News::Agrees => return tracing::info!(%part, "this host's clock agrees with the service's again"),
            News::Ahead(by) => format!("{} s ahead of", by.as_secs()),
            News::Behind(by) => format!("{} s behind", by.as_secs()),
        };
        tracing::warn!(
            %part,
            "this host's clock is {off} the service's: answers are dated by the service's; the age of alerts and what else is \
             written as a time are wrong by as much; set the clock (timedatectl, chronyc tracking)"
        );
    }

    /// What an answer that is none leads to.
    fn judge(&mut self, id: &AlertId, with: Generation, verdict: Verdict) {
        let now = self.clock.boot();
        match verdict {
            Verdict::Page { .. } | Verdict::NotFound => {}
            Verdict::Reject(said) => {
                self.service_answers(id, Some(with));
                let detail = format!("the API refuses the question about this alert for good: {said}");
                self.resolve(id, &Err(Rejection { reason: Reason::Refused, detail }));
            }
            Verdict::Retry(failure) => self.failed(id, &failure),
            Verdict::Throttled(throttle) => {
                self.service_answers(id, None);
                self.retried(id, RetryReason::Throttled);
                self.throttled(&throttle);
            }
            Verdict::Reauthenticate => {
                self.retried(id, RetryReason::Unauthorized);
                self.access.refused(with, now);
                self.report_condition(now);
            }
            Verdict::Forbidden(said) => {
                self.reporting.metrics.retried(RetryReason::Forbidden);
                let again = self.access.forbidden(with, &said, now);
                // Behind the others: should it be this alert alone that is forbidden, the next probe is another's.
                self.park(id, again + AFTER_THE_PROBE, Parked::Retry);
                self.report_condition(now);
            }
        }
    }

    /// The service is there; what was asked with `accepted` it also accepts the token and the pace of.
    fn service_answers(&mut self, id: &AlertId, accepted: Option<Generation>) {
        if self.breaker.succeeded(id, self.clock.boot()) {
            // What failed with the service need not wait for itself any longer, nor does it speak against a question.
            self.lookups.values_mut().for_each(|lookup| lookup.forget_failures());
            self.backlog.release_retries();
            self.report_condition(self.clock.boot());
        }
        if let Some(with) = accepted {
            self.throttled_in_a_row = 0;
            if self.access.accepted(with) {
                self.backlog.release_retries();
                self.report_condition(self.clock.boot());
            }
        }
    }

    /// Takes a page; returns the outcome if it was the last one.
    fn page(&mut self, id: &AlertId, texts: Vec<String>, next: Option<&str>, at: jiff::Timestamp) -> Option<Outcome> {
        let course = self.lookups.get_mut(id)?.course();
        // Of what was updated after the first page, the others may say something else.
        let at = *course.begun.get_or_insert(at);
        let this_page = course.next_page.take();
        if let Some(link) = next {
            let is_this =
                |next: &Url| this_page.as_ref().map_or_else(|| *next == self.config.api.ips(id), |this| next == this);
            let Some(next_page) = self.config.api.next_page(id, link).filter(|next| !is_this(next)) else {
                let detail =
                    "the answer goes on at this very address, or not at this alert's: that is not followed".to_owned();
                self.failed(id, &Failure { kind: FailureKind::BadResponse, detail, retry_after: None });
                return None;
            };
            course.next_page = Some(next_page);
        }
        match course.pages.add(texts, course.next_page.is_some()) {
            Ok(Some(ips)) => return Some(self.answered(id, ips, at)),
            // The next page is a call like any other, and goes as soon as there is a permit.
            Ok(None) => self.requeue(id),
            Err(error) => {
                let detail = error.to_string();
                self.failed(id, &Failure { kind: FailureKind::BadResponse, detail, retry_after: None });
            }
        }
        None
    }

    fn answered(&mut self, id: &AlertId, ips: RelatedIps, at: jiff::Timestamp) -> Outcome {
        if ips.invalid_count() > 0 {
            tracing::warn!(
                alert_id = %id,
                invalid = ips.invalid_count(),
                first = ips.invalid_texts().join(" | "),
                "the answer names texts that are no IP address; they are left out"
            );
        }
        let status = if ips.is_empty() { Status::Empty } else { Status::Found };
        self.conclude(id, Outcome { status, ips, retrieved_at: at })
    }

    fn conclude(&mut self, id: &AlertId, outcome: Outcome) -> Outcome {
        self.resolve(id, &Ok(outcome.clone()));
        outcome
    }

    /// Parks the lookup for its next re-ask, or, after the last, returns the outcome.
    fn not_found(&mut self, id: &AlertId, at: jiff::Timestamp) -> Option<Outcome> {
        let lookup = self.lookups.get_mut(id)?;
        // As far as anything tells: its age decides.
        let created = lookup.alert.creation().or(lookup.alert.updated);
        let course = lookup.course();
        if let Some(wait) = self.config.reask.next(course.reasked, created, at) {
            course.reasked += 1;
            self.reporting.metrics.retried(RetryReason::NotVisibleYet);
            self.park(id, self.clock.boot() + wait, Parked::Reask);
            None
        } else {
            let outcome = Outcome { status: Status::NotFound, ips: RelatedIps::default(), retrieved_at: at };
            Some(self.conclude(id, outcome))
        }
    }

    /// A call failed that may be repeated: the lookup backs off, and is given up only while others are answered.
    fn failed(&mut self, id: &AlertId, failure: &Failure) {
        let now = self.clock.boot();
        if self.breaker.failed(id, &failure.detail, now) {
            self.report_condition(now);
        }
        if let Some(pause) = failure.retry_after {
            let why = format!("the API asks for a pause ({})", failure.detail);
            self.freeze(self.journal.now() + pause, why);
        }
        let Some(course) = self.lookups.get_mut(id).map(|lookup| lookup.course()) else { return };
        course.pages = Pages::default();
        course.begun = None;
        course.next_page = None;
        course.failures += 1;
        course.bad_responses += u32::from(failure.kind == FailureKind::BadResponse);
        let (failures, bad_responses) = (course.failures, course.bad_responses);
        let since = *course.first_failed.get_or_insert(now);
        let failing_for = now.saturating_since(since);
        let bad = failure.kind == FailureKind::BadResponse;
        if bad && bad_responses >= self.config.bad_response_attempts && self.breaker.others_answered_since(id, since) {
            let detail = format!(
                "the API answered {bad_responses} times with something that is no answer, last: {}",
                failure.detail
            );
            return self.resolve(id, &Err(Rejection { reason: Reason::BadResponse, detail }));
        }
        if failing_for >= self.config.poison_after && self.breaker.others_pass(id) {
            let failing_for = humantime::format_duration(Duration::from_secs(failing_for.as_secs()));
            let detail = format!(
                "the question about this alert failed {failures} times in {failing_for} while others were answered, last: {}",
                failure.detail
            );
            return self.resolve(id, &Err(Rejection { reason: Reason::Poison, detail }));
        }
        self.reporting.metrics.retried(failure.kind.into());
        tracing::debug!(alert_id = %id, failures, failure = %failure.detail, "a call failed and will be repeated");
        if let Some(probe) = self.breaker.next_probe() {
            // Behind the others: should it be this question alone that fails, the next probe is another's.
            return self.park(id, probe + AFTER_THE_PROBE, Parked::Retry);
        }
        let mut backoff = self.config.backoff;
        if !self.breaker.others_pass(id) {
            // Perhaps it is the service and not the question: then it must not take long to notice that it is back.
            backoff.longest = backoff.longest.min(Breaker::PROBE_EVERY);
        }
        let wait = backoff.wait(failures, self.random.random());
        self.park(id, now + wait, Parked::Retry);
    }

    fn retried(&mut self, id: &AlertId, why: RetryReason) {
        self.reporting.metrics.retried(why);
        self.requeue(id);
    }

    /// A 429: nobody calls for a while.
    fn throttled(&mut self, throttle: &Throttle) {
        // Of the calls that were on the wire together, the first that is refused counts for all.
        if self.clock.boot() >= self.frozen_here && self.budget.outlook(self.journal.now()).frozen_until().is_none() {
            self.throttled_in_a_row += 1;
        }
        let now = self.journal.now();
        if let Some(pause) = throttle.retry_after {
            let pause_words = humantime::format_duration(pause);
            return self.freeze(now + pause, format!("the API is throttling (429) and asks to wait {pause_words}"));
        }
        if let Some(room) = throttle.window.and_then(|window| self.budget.outlook(now).room_in_window(window)) {
            let why = "the API is throttling (429) and names a window that our own count has filled; waiting until it has room";
            return self.freeze(room, why.to_owned());
        }
        // Our own count has room: someone else spends too.
        let shortest = self.config.terms.limits.iter().map(|limit| limit.per).min().unwrap_or(FIRST_THROTTLE_WAIT);
        let longest = throttle.window.unwrap_or(shortest).max(FIRST_THROTTLE_WAIT);
        let backoff = Backoff { first: FIRST_THROTTLE_WAIT, longest };
        let pause = backoff.ceiling(self.throttled_in_a_row).mul_f64(self.jitter());
        let why = "the API is throttling (429) although our own count has room: another tool seems to use the same app \
                   registration; lower the account's share, or give the tool a registration of its own";
        self.freeze(now + pause, why.to_owned());
    }

    fn freeze(&mut self, until: JournalTime, why: String) {
        self.reporting.metrics.frozen();
        self.frozen_why = Some(why.clone());
        let lasts = until.saturating_since(self.journal.now());
        self.frozen_here = self.frozen_here.max(self.clock.boot() + lasts);
        if !lasts.is_zero() {
            self.append(Body::Freeze(Freeze { lasts, why }));
            self.replay();
        }
        self.report_condition(self.clock.boot());
    }
}

impl From<FailureKind> for RetryReason {
    fn from(kind: FailureKind) -> Self {
        match kind {
            FailureKind::Status => Self::ServerError,
            FailureKind::Connect => Self::Connect,
            FailureKind::Timeout => Self::Timeout,
            FailureKind::Broken => Self::Broken,
            FailureKind::BadResponse => Self::BadResponse,
        }
    }
}
