//! One of the service's limits on calls.

use std::{fmt, num::NonZeroU32, str::FromStr, time::Duration};

/// At most `calls` calls in any window of `per`.
///
/// ```
/// # use alert_ips::domain::limit::Limit;
/// let limit: Limit = "100 per 1m".parse().unwrap();
/// assert_eq!((limit.calls.get(), limit.per.as_secs()), (100, 60));
/// assert_eq!(limit.to_string(), "100 per 1m");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Limit {
    pub calls: NonZeroU32,
    pub per: Duration,
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} per {}", self.calls, humantime::format_duration(self.per))
    }
}

/// The text is not of the form `100 per 1m`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a limit is written as calls and a period, both above zero, such as \"100 per 1m\"")]
pub struct InvalidLimit;

impl FromStr for Limit {
    type Err = InvalidLimit;

    fn from_str(text: &str) -> Result<Self, InvalidLimit> {
        let (calls, per) = text.split_once(" per ").ok_or(InvalidLimit)?;
        let calls = calls.trim().parse().map_err(|_| InvalidLimit)?;
        let per = humantime::parse_duration(per.trim()).map_err(|_| InvalidLimit)?;
        if per.is_zero() { Err(InvalidLimit) } else { Ok(Self { calls, per }) }
    }
}
