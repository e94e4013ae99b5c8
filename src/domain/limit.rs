//! One limit of the service: so many calls in so long.

use std::{fmt, num::NonZeroU32, str::FromStr, time::Duration};

/// Lets `share * calls` that is a whole number on paper stay one in binary fractions.
const ROUNDING: f64 = 1e-9;

/// At most `calls` calls in any window of length `per`.
///
/// ```
/// # use alert_ips::domain::limit::Limit;
/// let limit: Limit = "100 per 1m".parse()?;
/// assert_eq!((limit.calls.get(), limit.per.as_secs()), (100, 60));
/// # Ok::<(), alert_ips::domain::limit::InvalidLimit>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Limit {
    pub calls: NonZeroU32,
    pub per: Duration,
}

impl Limit {
    /// Shortest and longest `per` that is accepted.
    pub const PER: std::ops::RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_hours(720);

    /// The calls that a `share` (0 to 1) of this limit allows, rounded down. Zero if the share is too small for one.
    pub fn scaled(self, share: f64) -> u32 {
        whole_part(f64::from(self.calls.get()) * share + ROUNDING)
    }

    /// The slots of the scaled limit that a `reserve` (0 to 1) keeps for High alerts, rounded up.
    pub fn reserved(self, share: f64, reserve: f64) -> u32 {
        whole_part((f64::from(self.scaled(share)) * reserve - ROUNDING).ceil())
    }

    /// How much longer than `per` a slot stays taken, so that a service whose clock runs slow still sees no full window.
    ///
    /// 1.7 % of a period up to a minute and 0.14 % of one from an hour on; in between it grows evenly from 1.02 s to
    /// 5.04 s.
    pub fn clock_margin(self) -> Duration {
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

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to what u32 holds")]
fn whole_part(number: f64) -> u32 {
    number.clamp(0.0, f64::from(u32::MAX)) as u32
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} per {}", self.calls, humantime::format_duration(self.per))
    }
}

impl FromStr for Limit {
    type Err = InvalidLimit;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (calls, per) = text.split_once(" per ").ok_or(InvalidLimit::Form)?;
        let calls = calls.trim().parse().map_err(|_| InvalidLimit::Calls)?;
        let per = humantime::parse_duration(per.trim()).map_err(|_| InvalidLimit::Per)?;
        if Self::PER.contains(&per) { Ok(Self { calls, per }) } else { Err(InvalidLimit::PerOutOfRange) }
    }
}

/// Why a text is no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidLimit {
    #[error("a limit is written like \"100 per 1m\"")]
    Form,
    #[error("the number of calls of a limit is a whole number from 1 to 4294967295")]
    Calls,
    #[error("the period of a limit is a duration with its unit, such as 1s, 1m or 1h")]
    Per,
    #[error("the period of a limit is at least 1s and at most 30 days")]
    PerOutOfRange,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    fn limit(text: &str) -> Limit {
        text.parse().unwrap()
    }

    #[rstest]
    #[case::minute("100 per 1m")]
    #[case::hour("1500 per 1h")]
    #[case::second("20 per 1s")]
    #[case::mixed("7 per 1m 30s")]
    fn limits_print_as_they_are_written(#[case] text: &str) {
        assert_eq!(limit(text).to_string(), text);
    }

    #[rstest]
    #[case::no_period("100", InvalidLimit::Form)]
    #[case::slash("100/1m", InvalidLimit::Form)]
    #[case::no_calls("0 per 1m", InvalidLimit::Calls)]
    #[case::negative("-1 per 1m", InvalidLimit::Calls)]
    #[case::fraction("1.5 per 1m", InvalidLimit::Calls)]
    #[case::too_many("4294967296 per 1m", InvalidLimit::Calls)]
    #[case::no_unit("100 per 60", InvalidLimit::Per)]
    #[case::too_short("100 per 999ms", InvalidLimit::PerOutOfRange)]
    #[case::too_long("100 per 31d", InvalidLimit::PerOutOfRange)]
    fn what_is_no_limit_is_refused(#[case] text: &str, #[case] why: InvalidLimit) {
        assert_eq!(text.parse::<Limit>(), Err(why));
    }

    #[rstest]
    #[case::whole("1500 per 1h", 1.0, 1500)]
    #[case::exact_on_paper("100 per 1m", 0.29, 29)]
    #[case::rounded_down("100 per 1m", 0.999, 99)]
    #[case::too_small("100 per 1m", 0.009, 0)]
    fn a_share_never_gives_more_than_its_part(#[case] text: &str, #[case] share: f64, #[case] calls: u32) {
        assert_eq!(limit(text).scaled(share), calls);
    }

    #[rstest]
    #[case::hour("1500 per 1h", 1.0, 0.01, 15)]
    #[case::minute("100 per 1m", 1.0, 0.01, 1)]
    #[case::rounded_up("20 per 1s", 1.0, 0.01, 1)]
    #[case::none("1500 per 1h", 1.0, 0.0, 0)]
    #[case::of_the_share("1500 per 1h", 0.5, 0.01, 8)]
    fn the_reserve_is_a_part_of_the_scaled_limit(
        #[case] text: &str,
        #[case] share: f64,
        #[case] reserve: f64,
        #[case] slots: u32,
    ) {
        assert_eq!(limit(text).reserved(share, reserve), slots);
    }

    #[rstest]
    #[case("20 per 1s", 17)]
    #[case("100 per 1m", 1020)]
    #[case("1500 per 1h", 5040)]
    #[case("36000 per 1day", 120_960)]
    fn margins_follow_the_period(#[case] text: &str, #[case] margin_ms: u128) {
        assert_eq!(limit(text).clock_margin().as_millis(), margin_ms);
    }

    proptest! {
        #[test]
        fn parts_never_exceed_the_whole(calls in 1..=u32::MAX, share in 0.0..=1.0_f64, reserve in 0.0..=1.0_f64) {
            let limit = Limit { calls: NonZeroU32::new(calls).unwrap(), per: Duration::from_secs(1) };
            prop_assert!(limit.scaled(share) <= calls);
            prop_assert!(limit.reserved(share, reserve) <= limit.scaled(share));
        }
    }
}
