//! A time on the command line: so long ago, or a time as it is.

use std::time::Duration;

use jiff::Timestamp;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Since {
    Ago(Duration),
    At(Timestamp),
}

impl Since {
    /// The time that is meant; never before 1970.
    pub(super) fn from(self, now: Timestamp) -> Timestamp {
        match self {
            Self::Ago(ago) => now.checked_sub(ago).unwrap_or(Timestamp::UNIX_EPOCH).max(Timestamp::UNIX_EPOCH),
            Self::At(time) => time,
        }
    }
}

/// For clap.
pub(super) fn since(text: &str) -> Result<Since, String> {
    let ago = humantime::parse_duration(text).map(Since::Ago).ok();
    ago.or_else(|| text.parse().map(Since::At).ok())
        .ok_or_else(|| "write how long ago, such as 24h, or a time, such as 2026-11-24T00:00:00Z".to_owned())
}
