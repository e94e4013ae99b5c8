//! What of the service's limits an account may spend, and on what.

use std::{num::NonZeroU32, time::Duration};

use super::limit::Limit;

/// What decides about an account's claims, beside the entries themselves.
///
/// The life of a slot, in the journal's time but for the claim's own life:
///
/// ```text
/// claim ──claim_ttl──▶ no call any more      answer ──hold(limit)──▶ free again
///   └── lapse_after = claim_ttl + call_timeout + margin ──▶ taken to be over, should no answer come: hold(limit) from there
/// ```
///
/// `memory` is the longest way through it: so long what a writer said last still matters.
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
    /// How far apart the clocks may be that stamp the journal's entries; zero where one clock stamps them all.
    pub skew: Duration,
}

impl Terms {
    /// Whether a configuration may hold these, so that nothing that is worked out from them overflows.
    pub fn are_sound(&self) -> bool {
        const LONGEST: Duration = Duration::from_hours(24);
        let parts = self.share > 0.0 && self.share <= 1.0 && (0.0..=0.5).contains(&self.reserve);
        let waits = [self.claim_ttl, self.call_timeout, self.skew].iter().all(|wait| *wait <= LONGEST);
        let limits = !self.limits.is_empty() && self.limits.iter().all(|limit| Limit::PER.contains(&limit.per));
        parts && waits && limits && self.max_in_flight > 0
    }

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

    /// Terms under which no view of `views` is broken: of every period the fewest calls, the longest waits, the largest
    /// reserve. `None` without a view.
    pub fn strictest<'a>(views: impl IntoIterator<Item = &'a Self>) -> Option<Self> {
        let views: Vec<_> = views.into_iter().map(Self::without_share).collect();
        let kept_free = views.iter().map(|view| view.max_in_flight).max()?;
        let mut strictest = views.into_iter().reduce(|one, other| {
            let mut limits = one.limits;
            for limit in other.limits {
                match limits.iter_mut().find(|known| known.per == limit.per) {
                    Some(known) => known.calls = known.calls.min(limit.calls),
                    None => limits.push(limit),
                }
            }
            Self {
                limits,
                share: 1.0,
                reserve: one.reserve.max(other.reserve),
                max_in_flight: one.max_in_flight.min(other.max_in_flight),
                claim_ttl: one.claim_ttl.max(other.claim_ttl),
                call_timeout: one.call_timeout.max(other.call_timeout),
                skew: one.skew.max(other.skew),
            }
        })?;
        // As many slots stay free as calls may still be out that were made under the laxest of them.
        let more = kept_free - strictest.max_in_flight;
        for limit in &mut strictest.limits {
            limit.calls = NonZeroU32::new(limit.calls.get().saturating_sub(more)).unwrap_or(NonZeroU32::MIN);
        }
        Some(strictest)
    }

    /// The same, with the share in the limits.
    fn without_share(&self) -> Self {
        let scaled =
            |limit: &Limit| Limit { calls: self.scaled(limit).try_into().unwrap_or(NonZeroU32::MIN), ..*limit };
        let limits = self.limits.iter().map(scaled).collect();
        Self { limits, share: 1.0, max_in_flight: self.effective_in_flight(), ..self.clone() }
    }

    /// How long after its last word the calls of a writer can hold slots.
    pub fn memory(&self) -> Duration {
        self.limits.iter().map(|limit| self.hold(limit)).max().unwrap_or_default() + self.lapse_after()
    }

    /// How long after its end a call keeps its slot of `limit`.
    pub fn hold(&self, limit: &Limit) -> Duration {
        limit.per + limit.clock_margin() + self.skew
    }

    /// How alerts below High are spread: a burst of so many calls, then one in so long.
    pub fn pace(&self) -> Pace {
        let turn = |limit: &Limit| limit.per.div_f64(f64::from(self.scaled(limit).max(1)));
        let every = self.limits.iter().map(turn).max().unwrap_or_default();
        let shortest = self.limits.iter().min_by_key(|limit| limit.per);
        let burst = shortest.map_or(1, |limit| self.usable(limit).1 / Pace::BURST_PART).max(1);
        Pace { burst, every }
    }

    /// How long after its claim's entry a call without an answer is taken to be over.
    pub fn lapse_after(&self) -> Duration {
        const NETWORK_MARGIN: Duration = Duration::from_secs(5);
        self.claim_ttl + self.call_timeout + NETWORK_MARGIN
    }
}

/// How calls are spread.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pace {
    /// Calls that may be made at once.
    pub burst: u32,
    /// Then one in so long.
    pub every: Duration,
}

impl Pace {
    /// The part of the shortest limit that may be spent at once by alerts below High.
    const BURST_PART: u32 = 4;
}

#[cfg(test)]
impl Terms {
    /// The service's own limits, with the defaults of the rest.
    pub(crate) fn example() -> Self {
        Self {
            limits: ["100 per 1m", "1500 per 1h"].map(|text| text.parse().unwrap()).into(),
            share: 1.0,
            reserve: 0.01,
            max_in_flight: 8,
            claim_ttl: Duration::from_secs(10),
            call_timeout: Duration::from_secs(30),
            skew: Duration::ZERO,
        }
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
        let terms =
            Terms { limits: limits.iter().map(|text| limit(text)).collect(), max_in_flight, ..Terms::example() };
        assert_eq!(terms.effective_in_flight(), effective);
        assert_eq!(terms.minor_in_flight(), minor);
        assert_eq!(terms.usable(&terms.limits[0]), usable_of_first);
    }

    #[rstest]
    #[case::no_limit(Terms { limits: Vec::new(), ..Terms::example() })]
    #[case::too_long_a_period(Terms { limits: vec![Limit { calls: NonZeroU32::MIN, per: Duration::MAX }], ..Terms::example() })]
    #[case::no_share(Terms { share: 0.0, ..Terms::example() })]
    #[case::a_share_that_is_no_number(Terms { share: f64::NAN, ..Terms::example() })]
    #[case::all_reserved(Terms { reserve: 1.0, ..Terms::example() })]
    #[case::calls_for_ever(Terms { call_timeout: Duration::from_nanos(u64::MAX), ..Terms::example() })]
    #[case::none_in_flight(Terms { max_in_flight: 0, ..Terms::example() })]
    fn terms_that_no_configuration_has_are_unsound(#[case] terms: Terms) {
        assert!(Terms::example().are_sound() && !terms.are_sound());
    }

    #[test]
    fn the_strictest_of_two_views_breaks_neither() {
        let one = Terms { limits: vec![limit("100 per 1m")], share: 0.5, max_in_flight: 4, ..Terms::example() };
        let other = Terms {
            limits: vec![limit("80 per 1m"), limit("900 per 1h")],
            reserve: 0.1,
            claim_ttl: Duration::from_secs(20),
            ..Terms::example()
        };
        let both = Terms::strictest([&one, &other]).unwrap();
        // Four calls may be in flight, but eight of the other's may be out.
        assert_eq!(both.limits, [limit("46 per 1m"), limit("896 per 1h")]);
        assert_eq!((both.share, both.reserve, both.max_in_flight), (1.0, 0.1, 4));
        assert_eq!(both.claim_ttl, Duration::from_secs(20));
    }
}
