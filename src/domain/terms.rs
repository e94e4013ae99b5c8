//! What of the service's limits an account may spend, and on what.

use std::time::Duration;

use super::limit::Limit;

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
        limit.scaled(self.share)
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
        let high = self.scaled(limit).saturating_sub(self.effective_in_flight());
        (high, high.saturating_sub(limit.reserved(self.share, self.reserve)))
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
