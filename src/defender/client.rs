//! Puts one question to the API, with one permit.

use jiff::Timestamp;
use secrecy::ExposeSecret;
use url::Url;

use super::{
    token::Token,
    transport::{HttpFailure, HttpRequest, Transport},
    wire::{classify, classify_failure, date},
};
use crate::{
    clock::Clock,
    crash_point::{self, Point},
    domain::{
        journal::{Permit, Reached},
        retry::Verdict,
    },
    observe::metrics::CallEnd,
};

/// How a permit was spent.
#[derive(Debug)]
pub struct Call {
    pub reached: Reached,
    /// `None` where the permit had expired before the call could be made.
    pub answer: Option<Answered>,
}

/// What came of a call that was made.
#[derive(Debug)]
pub struct Answered {
    pub verdict: Verdict,
    pub end: CallEnd,
    /// When the answer was complete, by this host's clock.
    pub at: Timestamp,
    /// When it was sent, by the service's clock, where it says so.
    pub sent: Option<Timestamp>,
}

/// Spends `permit` on one `GET` of `url`.
pub async fn call(transport: &impl Transport, clock: &Clock, permit: Permit, url: Url, token: &Token) -> Call {
    let request = HttpRequest::Get { url, bearer: token.bearer.clone() };
    // A process that was stopped since the claim must not let the call out late; what comes after this line counts as
    // in flight, and that many slots stay free.
    if clock.boot() >= permit.expires {
        return Call { reached: Reached::Unused, answer: None };
    }
    crash_point::pass(Point::CallBeforeRequest);
    let result = transport.send(request).await;
    let at = clock.wall();
    match result {
        Ok(mut response) => {
            if repeats(&response.body, token.bearer.expose_secret()) {
                // What repeats the token is neither used nor quoted anywhere.
                response.body.clear();
            }
            let verdict = classify(&response, at);
            crash_point::pass(Point::CallAnswered);
            let bad = matches!(&verdict, Verdict::Retry(failure) if failure.kind == crate::domain::retry::FailureKind::BadResponse);
            let end = if bad { CallEnd::BadResponse } else { CallEnd::Status(response.status) };
            let sent = date(&response);
            Call { reached: Reached::Complete, answer: Some(Answered { verdict, end, at, sent }) }
        }
        Err(failure) => {
            let end = match failure {
                HttpFailure::Connect(_) => CallEnd::Connect,
                HttpFailure::Timeout(_) | HttpFailure::SlowBody(_) => CallEnd::Timeout,
                HttpFailure::Broken(_) | HttpFailure::Truncated(_) => CallEnd::Broken,
                HttpFailure::TooLarge => CallEnd::BadResponse,
            };
            let answered = Answered { verdict: classify_failure(&failure), end, at, sent: None };
            Call { reached: failure.reached(), answer: Some(answered) }
        }
    }
}

fn repeats(body: &[u8], token: &str) -> bool {
    !token.is_empty() && body.windows(token.len()).any(|window| window == token.as_bytes())
}
