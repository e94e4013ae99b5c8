//! The account's token, and what keeps it from being used: a failing sign-in, a refused token, a missing right.

use std::time::Duration;

use tokio::task::JoinSet;

use super::Account;
use crate::{
    crash_point::{self, Point},
    defender::{
        journal::Journal,
        token::{self, SignInFailure, Token},
        transport::Transport,
    },
    domain::{retry::Backoff, time::BootTime},
};

/// Time between probes while the API answers 403.
const FORBIDDEN_PROBE: Duration = Duration::from_mins(5);

/// Time between probes while the API refuses fresh tokens, and between sign-ins that someone must mend first.
const REFUSED_PROBE: Duration = Duration::from_mins(1);

/// Waits between sign-ins that failed for a passing reason.
const SIGN_IN_BACKOFF: Backoff = Backoff { first: Duration::from_secs(2), longest: Duration::from_mins(1) };

/// Which token a call was made with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Generation(u64);

/// The token and its troubles.
#[derive(Default)]
pub(super) struct Access {
    token: Option<Token>,
    /// Counts the tokens: what an answer says about an earlier one than the current is old news.
    generation: Generation,
    /// The sign-in under way: at most one.
    signing_in: JoinSet<Result<Token, SignInFailure>>,
    sign_in_failures: u32,
    next_sign_in: BootTime,
    /// Why there is no token, since the last sign-in failed.
    sign_in_trouble: Option<SignInFailure>,
    /// 401s since the last answer that was none.
    refused_in_a_row: u32,
    hold: Option<Hold>,
}

/// No calls but a probe from time to time, until one is answered.
struct Hold {
    why: String,
    every: Duration,
    next_probe: BootTime,
}

impl Access {
    /// The token, if it is good for a call now.
    pub(super) fn token(&self, now: BootTime) -> Option<&Token> {
        self.token.as_ref().filter(|token| now < token.expires)
    }

    /// Which token that is.
    pub(super) fn generation(&self) -> Generation {
        self.generation
    }

    /// The outcome of the sign-in under way, if there is one.
    pub(super) async fn signed_in(&mut self) -> Option<Result<Token, SignInFailure>> {
        let joined = self.signing_in.join_next().await?;
        Some(joined.unwrap_or_else(|_| Err(SignInFailure::lasting("the sign-in ended without a result".to_owned()))))
    }

    /// When a token is due, unless a sign-in is under way.
    pub(super) fn next_renewal(&self) -> Option<BootTime> {
        let due = self.token.as_ref().map_or(self.next_sign_in, |token| token.renew_at.max(self.next_sign_in));
        self.signing_in.is_empty().then_some(due)
    }

    /// When the next call may be made, while only probes are.
    pub(super) fn next_probe(&self) -> Option<BootTime> {
        self.hold.as_ref().map(|hold| hold.next_probe)
    }

    /// A probe is on its way: the next one waits its turn.
    pub(super) fn probing(&mut self, now: BootTime) {
        if let Some(hold) = &mut self.hold {
            hold.next_probe = now + hold.every;
        }
    }

    /// Why no calls are made, if that is because of the token or its rights.
    pub(super) fn trouble(&self, now: BootTime) -> Option<&str> {
        let sign_in = self.sign_in_trouble.as_ref().filter(|_| self.token(now).is_none());
        self.hold.as_ref().map(|hold| hold.why.as_str()).or(sign_in.map(|failure| failure.words.as_str()))
    }

    /// Whether the trouble, if there is one, stays until someone changes something.
    pub(super) fn needs_mending(&self) -> bool {
        self.hold.is_some() || self.sign_in_trouble.as_ref().is_some_and(|failure| !failure.transient)
    }

    /// Whether no token has been had yet, and no sign-in has failed.
    pub(super) fn is_starting(&self) -> bool {
        self.token.is_none() && self.sign_in_trouble.is_none()
    }

    /// Whether the token can be read and lacks the role.
    pub(super) fn lacks_role(&self) -> bool {
        self.token.as_ref().is_some_and(Token::lacks_role)
    }

    /// The API accepted the token. Returns whether that ends a hold.
    pub(super) fn accepted(&mut self, with: Generation) -> bool {
        if with != self.generation {
            return false;
        }
        self.refused_in_a_row = 0;
        self.hold.take().is_some()
    }

    /// The API answered 401: the token is dropped; a second one in a row means that a fresh one does not help.
    pub(super) fn refused(&mut self, with: Generation, now: BootTime) {
        if with != self.generation {
            return;
        }
        self.drop_token();
        self.refused_in_a_row += 1;
        if self.refused_in_a_row > 1 {
            let why = format!("{}; one call a minute until it is accepted", token::TOKEN_REFUSED);
            self.hold(why, REFUSED_PROBE, now);
        }
    }

    /// The API answered 403. `said` is what it said, with a leading `: `, or empty. Returns when to ask again.
    pub(super) fn forbidden(&mut self, with: Generation, said: &str, now: BootTime) -> BootTime {
        if with == self.generation {
            let why = token::forbidden_words(said, self.lacks_role());
            // A token issued before the right was granted does not have it.
            self.drop_token();
            self.hold(format!("{why}; one call every 5 minutes until it is allowed"), FORBIDDEN_PROBE, now);
        }
        now + FORBIDDEN_PROBE
    }

    fn drop_token(&mut self) {
        self.token = None;
        self.generation.0 += 1;
    }

    fn hold(&mut self, why: String, every: Duration, now: BootTime) {
        self.hold = Some(Hold { why, every, next_probe: now + every });
        self.next_sign_in = now + every;
    }
}

impl<J: Journal, T: Transport> Account<J, T> {
    /// Starts a sign-in where a token is due: one at a time, while the old one is still used.
    pub(super) fn renew_token(&mut self, now: BootTime) {
        if self.draining || self.access.next_renewal().is_none_or(|due| due > now) {
            return;
        }
        let secret = match (self.config.secret)() {
            Ok(secret) => secret,
            Err(words) => return self.signed_in(Err(SignInFailure::lasting(words))),
        };
        let (sign_in, transport) = (self.config.sign_in.clone(), self.transport.clone());
        let wall = self.clock.wall();
        crash_point::pass(Point::TokenBeforeRequest);
        self.access.signing_in.spawn(async move { sign_in.fetch(&*transport, &secret, now, wall).await });
    }

    /// Takes the outcome of a sign-in.
    pub(super) fn signed_in(&mut self, result: Result<Token, SignInFailure>) {
        let now = self.clock.boot();
        match result {
            Ok(token) => {
                crash_point::pass(Point::TokenFetched);
                self.reporting.metrics.token_refreshed();
                self.access.sign_in_failures = 0;
                self.access.sign_in_trouble = None;
                self.access.next_sign_in = now;
                self.access.token = Some(token);
                self.access.generation.0 += 1;
            }
            Err(failure) => {
                self.reporting.metrics.token_refresh_failed();
                self.access.sign_in_failures += 1;
                let wait = match (failure.retry_after, failure.transient) {
                    (Some(pause), _) => pause,
                    (None, true) => SIGN_IN_BACKOFF.ceiling(self.access.sign_in_failures).mul_f64(self.jitter()),
                    (None, false) => REFUSED_PROBE,
                };
                self.access.next_sign_in = now + wait;
                self.access.sign_in_trouble = Some(failure);
            }
        }
        self.report_condition(now);
    }
}
