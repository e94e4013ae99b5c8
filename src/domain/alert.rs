//! An alert as far as the daemon must know it to ask about it.

use std::{fmt, sync::Arc, time::Duration};

use jiff::{SignedDuration, Timestamp};

/// Longest alert id that is accepted, in bytes. The service's own ids have at most 39.
const MAX_ID_LEN: usize = 128;

/// .NET ticks (100 ns since 0001-01-01) at the Unix epoch.
const TICKS_AT_UNIX_EPOCH: i64 = 621_355_968_000_000_000;

/// What the ids of other products begin with, in the unified experiences of Microsoft Defender (Microsoft Learn,
/// "Investigate alerts in Microsoft Defender XDR", alert sources): Defender XDR (`ra`, `ta`, `ea`), Office 365 (`fa`),
/// Identity (`aa`, `ri`), Cloud Apps (`ca`, `ma`, `rm`), Entra ID Protection (`ad`), Data Loss Prevention (`dl`),
/// Defender for Cloud (`dc`), Sentinel (`sn`), Insider Risk (`ir`). Defender for Endpoint has `da`, and `ed` for
/// detections of the customer's own.
const OTHER_PRODUCTS: [&str; 14] = ["ra", "ta", "ea", "fa", "aa", "ri", "ca", "ma", "rm", "ad", "dl", "dc", "sn", "ir"];

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

    /// Whether the id looks like one of Microsoft's: ticks and a signed number, or a GUID, with up to two letters before
    /// it. Ids of other forms are accepted where a message says that they are ids; this tells where it does not.
    pub fn has_known_form(&self) -> bool {
        self.prefix().is_some()
    }

    /// Whether the id is one that only other products give.
    pub fn is_of_another_product(&self) -> bool {
        self.prefix().is_some_and(|prefix| OTHER_PRODUCTS.contains(&prefix))
    }

    /// What stands before the ticks or the GUID: nothing or up to two lower-case letters. The shortest that fits, for a
    /// GUID may begin with such letters too.
    fn prefix(&self) -> Option<&str> {
        (0..=2).find_map(|length| {
            let (prefix, rest) = self.0.split_at_checked(length)?;
            let fits = prefix.bytes().all(|byte| byte.is_ascii_lowercase()) && (is_ticks(rest) || is_guid(rest));
            fits.then_some(prefix)
        })
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

/// `637551227677560813_-961444813`: 15 to 20 digits and a number of up to 10.
fn is_ticks(text: &str) -> bool {
    text.split_once('_').is_some_and(|(ticks, suffix)| {
        has_digits(ticks, 15, 20) && has_digits(suffix.strip_prefix('-').unwrap_or(suffix), 1, 10)
    })
}

/// `efa1828b-dd4e-405c-8a3b-aa28596830dd`, also with `_1` after it.
fn is_guid(text: &str) -> bool {
    let (guid, suffix) = text.split_once('_').unwrap_or((text, "1"));
    let mut parts = guid.split('-');
    let is_hex = |part: &str, length: usize| part.len() == length && part.bytes().all(|byte| byte.is_ascii_hexdigit());
    [8, 4, 4, 4, 12].into_iter().all(|length| parts.next().is_some_and(|part| is_hex(part, length)))
        && parts.next().is_none()
        && has_digits(suffix.strip_prefix('-').unwrap_or(suffix), 1, 10)
}

fn has_digits(text: &str, least: usize, most: usize) -> bool {
    (least..=most).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit())
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
        let text = text.trim_ascii();
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
    /// When it was created, as was told or else as its id says.
    pub fn creation(&self) -> Option<Timestamp> {
        self.created.or_else(|| self.id.created())
    }

    /// The latest time known of the alert: last update, else creation, else the id's ticks. Its age counts from here.
    pub fn latest_known(&self) -> Option<Timestamp> {
        self.updated.or_else(|| self.creation())
    }

    /// Whether its latest known time is longer ago than `age`; what tells no time is never too old.
    pub fn is_older_than(&self, age: Duration, now: Timestamp) -> bool {
        let age = SignedDuration::try_from(age).unwrap_or(SignedDuration::MAX);
        self.latest_known().is_some_and(|latest| now.duration_since(latest) > age)
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
    #[case::bare_ticks("636688558380765161_2136280442", Some(""))]
    #[case::endpoint("da637308392288907382_-880718168", Some("da"))]
    #[case::guid("efa1828b-dd4e-405c-8a3b-aa28596830dd_1", Some(""))]
    #[case::guid_that_begins_like_a_prefix("daefa182-dd4e-405c-8a3b-aa28596830dd", Some(""))]
    #[case::prefixed_guid("daefa1828b-dd4e-405c-8a3b-aa28596830dd_1", Some("da"))]
    #[case::office("faf8edc936-85f8-a603-b800-08d8525cf099", Some("fa"))]
    #[case::identity("ri001122334455667788_-0123456789", Some("ri"))]
    #[case::number("17", None)]
    #[case::word("alert_1", None)]
    #[case::three_letters("abc637308392288907382_1", None)]
    #[case::no_suffix("da637308392288907382", None)]
    #[case::short_guid("efa1828b-dd4e-405c-8a3b", None)]
    fn known_forms_have_a_prefix(#[case] id: &str, #[case] prefix: Option<&str>) {
        let id = AlertId::parse(id).unwrap();
        assert_eq!(id.prefix(), prefix);
        assert_eq!(id.is_of_another_product(), matches!(prefix, Some("fa" | "ri")));
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
