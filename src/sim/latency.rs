//! How slow the simulated network is.

use std::{fmt, str::FromStr, time::Duration};

use rand::{Rng, RngExt};

/// The longest leg of [`Latency::HeavyTail`].
const TAIL_END: Duration = Duration::from_secs(4);

/// The time a call spends on the wire: half of what is drawn on the way there, before it counts, and half of a second
/// draw on the way back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Latency {
    #[default]
    None,
    Fixed(Duration),
    Uniform {
        from: Duration,
        to: Duration,
    },
    /// Mostly about `typical`, now and then much more, at most 8 s (a Pareto distribution of shape 1, cut off).
    HeavyTail {
        typical: Duration,
    },
}

impl Latency {
    /// How long one of the two legs takes this time.
    pub fn draw_leg(self, rng: &mut impl Rng) -> Duration {
        match self {
            Self::None => Duration::ZERO,
            Self::Fixed(whole) => whole / 2,
            Self::Uniform { from, to } => rng.random_range(from..=to.max(from)) / 2,
            Self::HeavyTail { typical } => {
                // The median of Pareto(1) is twice its least value, so a quarter makes the median leg half of `typical`.
                let least = typical.as_secs_f64() / 4.0;
                let uniform: f64 = rng.random_range(f64::EPSILON..1.0);
                Duration::try_from_secs_f64(least / uniform).unwrap_or(TAIL_END).min(TAIL_END)
            }
        }
    }
}

impl fmt::Display for Latency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let show = humantime::format_duration;
        match self {
            Self::None => f.write_str("none"),
            Self::Fixed(whole) => write!(f, "{}", show(*whole)),
            Self::Uniform { from, to } => write!(f, "{}..{}", show(*from), show(*to)),
            Self::HeavyTail { typical } => write!(f, "tail {}", show(*typical)),
        }
    }
}

/// The text describes no latency.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a latency is \"none\", \"20ms\", \"10ms..200ms\" or \"tail 50ms\" (about 50ms, now and then up to 8s)")]
pub struct InvalidLatency;

impl FromStr for Latency {
    type Err = InvalidLatency;

    fn from_str(text: &str) -> Result<Self, InvalidLatency> {
        let duration = |text: &str| humantime::parse_duration(text.trim()).map_err(|_| InvalidLatency);
        if text == "none" {
            Ok(Self::None)
        } else if let Some(typical) = text.strip_prefix("tail ") {
            Ok(Self::HeavyTail { typical: duration(typical)? })
        } else if let Some((from, to)) = text.split_once("..") {
            let (from, to) = (duration(from)?, duration(to)?);
            if from > to { Err(InvalidLatency) } else { Ok(Self::Uniform { from, to }) }
        } else {
            duration(text).map(Self::Fixed)
        }
    }
}

#[cfg(test)]
mod tests {
    use rand::{SeedableRng, rngs::SmallRng};
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("none", Latency::None)]
    #[case("20ms", Latency::Fixed(Duration::from_millis(20)))]
    #[case("10ms..8s", Latency::Uniform { from: Duration::from_millis(10), to: Duration::from_secs(8) })]
    #[case("tail 50ms", Latency::HeavyTail { typical: Duration::from_millis(50) })]
    fn latencies_are_written_as_they_are_read(#[case] text: &str, #[case] latency: Latency) {
        assert_eq!(text.parse(), Ok(latency));
        assert_eq!(latency.to_string(), text);
    }

    #[rstest]
    #[case("")]
    #[case("fast")]
    #[case("2s..1s")]
    fn other_texts_are_refused(#[case] text: &str) {
        assert_eq!(text.parse::<Latency>(), Err(InvalidLatency));
    }

    #[test]
    fn a_heavy_tail_is_mostly_short_and_sometimes_very_long() {
        let mut rng = SmallRng::seed_from_u64(1);
        let latency = Latency::HeavyTail { typical: Duration::from_millis(80) };
        let mut legs: Vec<_> = (0..10_000).map(|_| latency.draw_leg(&mut rng)).collect();
        legs.sort_unstable();
        assert!((35..45).contains(&legs[5_000].as_millis()), "median {:?}", legs[5_000]);
        assert!(legs[9_990] > Duration::from_secs(2) && legs[9_999] <= TAIL_END);
    }
}
