//! The service's limits, and what of them may be spent on what.

use std::{fmt, num::NonZeroU32, str::FromStr, time::Duration};

/// At most `calls` calls in any window of the length `per`, as the service counts them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    pub calls: NonZeroU32,
    pub per: Duration,
}

impl Limit {
    /// How much longer than `per` a slot stays taken, so that a service whose clock runs slow still sees no full window.
    ///
    /// 1.7 % of a period up to a minute and 0.14 % of one from an hour on; in between it grows evenly from 1.02 s to
    /// 5.04 s.
    pub fn clock_margin(&self) -> Duration {
        const MINUTE: f64 = 60.0;
        const HOUR: f64 = 3600.0;
        let per = self.per.as_secs_f64();
        let margin = if per <= MINUTE {
            per * 0.017
        } else if per >= HOUR {
            per * 0.0014
        } else {
            1.02 + (per - MINUTE) / (HOUR - MINUTE) * (5.04 - 1.02)
        };
        Duration::from_secs_f64(margin)
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} per {}", self.calls, humantime::format_duration(self.per))
    }
}

/// Reads `100 per 1m`.
impl FromStr for Limit {
    type Err = InvalidLimit;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (calls, per) = text.split_once(" per ").ok_or(InvalidLimit)?;
        let calls = calls.trim().parse().map_err(|_| InvalidLimit)?;
        let per = humantime::parse_duration(per.trim()).map_err(|_| InvalidLimit)?;
        if per.is_zero() { Err(InvalidLimit) } else { Ok(Self { calls, per }) }
    }
}

/// The text is no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a limit; write it like `100 per 1m`")]
pub struct InvalidLimit;

/// What decides about an account's claims, beside the entries themselves.
#[derive(Clone, Debug, PartialEq)]
pub struct Terms {
    /// The service's limits. Never empty.
    pub limits: Vec<Limit>,
    /// The part of every limit this account may use, in `(0, 1]`: other tools may use the same app registration.
    pub share: f64,
    /// The part of every limit that only High alerts may use, in `[0, 0.5]`.
    pub reserve: f64,
    /// Most unanswered calls at any time. [`Terms::effective_in_flight`] says what small limits leave of it.
    pub max_in_flight: u32,
    /// How long after the request to append it a claim may still become a call.
    pub claim_ttl: Duration,
    /// The longest a call may take, from its first byte to its last.
    pub call_timeout: Duration,
}

impl Terms {
    /// The calls of `limit` that this account may use.
    pub fn scaled(&self, limit: &Limit) -> u32 {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "share is in (0, 1]")]
        let calls = (f64::from(limit.calls.get()) * self.share) as u32;
        calls
    }

    /// `max_in_flight`, but at most a quarter of the smallest scaled limit, and at least 1.
    pub fn effective_in_flight(&self) -> u32 {
        let smallest = self.limits.iter().map(|limit| self.scaled(limit)).min().unwrap_or(0);
        self.max_in_flight.min(smallest / 4).max(1)
    }

    /// In-flight calls that alerts below High may have: some of the line stays open for a High alert.
    pub fn minor_in_flight(&self) -> u32 {
        let all = self.effective_in_flight();
        all - all.div_ceil(8).min(all - 1)
    }

    /// Slots of `limit` that may be taken at the same time, by High alerts (`.0`) and by all others (`.1`).
    ///
    /// As many slots as calls may be in flight always stay free: calls let out late, by a process that was stopped
    /// between its last check and its write, still fit.
    pub fn usable(&self, limit: &Limit) -> (u32, u32) {
        let scaled = self.scaled(limit);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "reserve is in [0, 0.5]")]
        let reserve = (f64::from(scaled) * self.reserve).ceil() as u32;
        let high = scaled.saturating_sub(self.effective_in_flight());
        (high, high.saturating_sub(reserve))
    }

    /// How long after its claim's entry a call without an answer is taken to be over.
    pub fn lapse_after(&self) -> Duration {
        const NETWORK_MARGIN: Duration = Duration::from_secs(5);
        self.claim_ttl + self.call_timeout + NETWORK_MARGIN
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn limit(text: &str) -> Limit {
        text.parse().unwrap()
    }

    #[rstest]
    #[case("20 per 1s", 17)]
    #[case("100 per 1m", 1020)]
    #[case("1500 per 1h", 5040)]
    #[case("36000 per 1day", 120_960)]
    fn margins_follow_the_period(#[case] text: &str, #[case] margin_ms: u128) {
        assert_eq!(limit(text).clock_margin().as_millis(), margin_ms);
    }

    #[rstest]
    #[case("100 per 1m")]
    #[case("1500 per 1h")]
    fn limits_print_as_they_are_read(#[case] text: &str) {
        assert_eq!(limit(text).to_string(), text);
    }

    #[rstest]
    #[case::service_defaults(8, &["100 per 1m", "1500 per 1h"], 8, 7, (92, 91))]
    #[case::small_limits_shrink_it(8, &["20 per 1s", "60 per 10s"], 5, 4, (15, 14))]
    #[case::tiny(8, &["2 per 1s"], 1, 1, (1, 0))]
    fn slots_are_kept_free_for_late_calls_and_for_high_alerts(
        #[case] max_in_flight: u32,
        #[case] limits: &[&str],
        #[case] effective: u32,
        #[case] minor: u32,
        #[case] usable_of_first: (u32, u32),
    ) {
        let terms = Terms {
            limits: limits.iter().map(|text| limit(text)).collect(),
            share: 1.0,
            reserve: 0.01,
            max_in_flight,
            claim_ttl: Duration::from_secs(10),
            call_timeout: Duration::from_secs(30),
        };
        assert_eq!(terms.effective_in_flight(), effective);
        assert_eq!(terms.minor_in_flight(), minor);
        assert_eq!(terms.usable(&terms.limits[0]), usable_of_first);
    }
}
