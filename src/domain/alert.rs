//! An alert as far as the daemon must know it to ask about it.

use std::{fmt, sync::Arc};

use jiff::Timestamp;

/// Longest alert id that is accepted, in bytes. The service's own ids have at most 39.
const MAX_ID_LEN: usize = 128;

/// .NET ticks (100 ns since 0001-01-01) at the Unix epoch.
const TICKS_AT_UNIX_EPOCH: i64 = 621_355_968_000_000_000;

/// A valid alert id: 1 to 128 of `A-Z a-z 0-9 _ -`.
///
/// No other byte can be in it, so it can stand in a URL as one path segment, in a log and in a header as it is.
/// The minus sign is legal: the suffix of a tick-form id is a signed number.
///
/// ```
/// # use alert_ips::domain::alert::AlertId;
/// assert!(AlertId::parse("da637551227677560813_-961444813").is_ok());
/// assert!(AlertId::parse("../alerts").is_err());
/// ```
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AlertId(Arc<str>);

impl AlertId {
    /// Accepts exactly the ids described at the type.
    pub fn parse(text: &str) -> Result<Self, InvalidAlertId> {
        if text.is_empty() {
            return Err(InvalidAlertId::Empty);
        }
        if text.len() > MAX_ID_LEN {
            return Err(InvalidAlertId::TooLong { bytes: text.len() });
        }
        match text.bytes().position(|byte| !(byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-')) {
            Some(at) => Err(InvalidAlertId::ForbiddenByte { at }),
            None => Ok(Self(text.into())),
        }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// When the alert was created, for ids in the tick form (`da637551227677560813_-961444813`, prefix optional).
    ///
    /// The 18 digits are .NET ticks; they were found within 0.6 s of the documented creation time of every published
    /// sample. `None` for GUID-form ids and for digits that name no year from 2000 to 2100.
    pub fn created(&self) -> Option<Timestamp> {
        let (head, suffix) = self.0.split_once('_')?;
        let digits = head.trim_start_matches(|c: char| c.is_ascii_lowercase());
        if head.len() - digits.len() > 2 || digits.len() != 18 || suffix.parse::<i64>().is_err() {
            return None;
        }
        let ticks: i64 = digits.parse().ok()?;
        let created = Timestamp::from_nanosecond(i128::from(ticks - TICKS_AT_UNIX_EPOCH) * 100).ok()?;
        let plausible = Timestamp::constant(946_684_800, 0)..Timestamp::constant(4_102_444_800, 0);
        plausible.contains(&created).then_some(created)
    }
}

impl fmt::Display for AlertId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for AlertId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why a text is no alert id. The text itself is not repeated: it may be hostile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidAlertId {
    #[error("the alert id is empty")]
    Empty,
    #[error("the alert id has {bytes} bytes; at most {MAX_ID_LEN} are accepted")]
    TooLong { bytes: usize },
    #[error("the alert id has a character at byte {at} that is none of A-Z a-z 0-9 _ -")]
    ForbiddenByte { at: usize },
}

/// How bad the service says an alert is. The order is by urgency: `High` is the least.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Severity {
    High,
    Medium,
    #[default]
    Unspecified,
    Low,
    Informational,
}

impl Severity {
    /// Every severity, most urgent first.
    pub const ALL: [Self; 5] = [Self::High, Self::Medium, Self::Unspecified, Self::Low, Self::Informational];

    /// Reads the service's spellings in any case; whatever is none of them is `Unspecified`.
    pub fn parse(text: &str) -> Self {
        Self::ALL.into_iter().find(|severity| severity.as_str().eq_ignore_ascii_case(text)).unwrap_or_default()
    }

    /// Lower-case name, as in metrics and configuration.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::High => "high",
            Self::Medium => "medium",
            Self::Unspecified => "unspecified",
            Self::Low => "low",
            Self::Informational => "informational",
        }
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One decoded alert.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alert {
    pub id: AlertId,
    /// The tenant the alert names, lower-cased, where its shape has one.
    pub tenant: Option<Arc<str>>,
    pub severity: Severity,
    /// The service's last update of the alert, where the shape tells it.
    pub updated: Option<Timestamp>,
    /// The alert's creation, where the shape tells it; the id may tell it too.
    pub created: Option<Timestamp>,
}

impl Alert {
    /// The latest time known of the alert: last update, else creation, else the id's ticks. Its age counts from here.
    pub fn latest_known(&self) -> Option<Timestamp> {
        self.updated.or(self.created).or_else(|| self.id.created())
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::ticks("636688558380765161_2136280442")]
    #[case::negative_suffix("da637308392288907382_-880718168")]
    #[case::guid("daefa1828b-dd4e-405c-8a3b-aa28596830dd_1")]
    #[case::longest(&"a".repeat(128))]
    fn legal_ids_are_accepted(#[case] text: &str) {
        assert_eq!(AlertId::parse(text).unwrap().as_str(), text);
    }

    #[rstest]
    #[case::empty("")]
    #[case::parent("..")]
    #[case::here(".")]
    #[case::encoded("%2e%2e")]
    #[case::encoded_slash("..%2f")]
    #[case::slash("a/b")]
    #[case::query("a?b")]
    #[case::fragment("a#b")]
    #[case::authority("@evil")]
    #[case::crlf("a\r\nb")]
    #[case::tab("a\t")]
    #[case::nul("a\0")]
    #[case::unicode_digits("١٢٣")]
    #[case::too_long(&"a".repeat(129))]
    fn hostile_ids_are_refused(#[case] text: &str) {
        assert!(AlertId::parse(text).is_err());
    }

    #[rstest]
    #[case::bare("636688558380765161_2136280442", Some("2018-08-03T01:17:18.0765161Z"))]
    #[case::prefixed("da637472900382838869_1364969609", Some("2021-01-26T20:33:58.2838869Z"))]
    #[case::guid("daefa1828b-dd4e-405c-8a3b-aa28596830dd_1", None)]
    #[case::absurd_year("da999999999999999999_1", None)]
    #[case::no_suffix("637472900382838869", None)]
    fn ticks_tell_the_creation(#[case] id: &str, #[case] created: Option<&str>) {
        let expected = created.map(|text| text.parse::<Timestamp>().unwrap());
        assert_eq!(AlertId::parse(id).unwrap().created(), expected);
    }

    #[rstest]
    #[case("High", Severity::High)]
    #[case("UnSpecified", Severity::Unspecified)]
    #[case("informational", Severity::Informational)]
    #[case("\u{1b}[31m", Severity::Unspecified)]
    fn severities_are_read_in_any_case(#[case] text: &str, #[case] severity: Severity) {
        assert_eq!(Severity::parse(text), severity);
    }
}
