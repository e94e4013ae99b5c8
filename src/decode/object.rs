//! One JSON object, read shallowly: its members as raw text, parsed when a shape asks for them.
//!
//! Whatever a shape asks for decides, so it must be there only once: readers disagree about which of two equal names
//! counts, and an attacker would choose.

use std::{borrow::Cow, fmt, sync::Arc};

use jiff::{Timestamp, civil, tz::TimeZone};
use serde::{
    Deserialize,
    de::{IgnoredAny, MapAccess},
};
use serde_json::value::RawValue;

use crate::domain::{
    alert::{AlertId, Severity},
    outcome::{Reason, Rejection},
};

/// The most members an object may have to be looked at. A full alert resource has about 40.
const MAX_MEMBERS: usize = 1_000;

/// Longest tenant that is taken over, in bytes: a GUID has 36, a domain name at most 253.
const MAX_TENANT_LEN: usize = 253;

/// The members of one object in their order, names unescaped, values unparsed.
#[derive(Default)]
pub(super) struct Object<'a> {
    members: Vec<(Text<'a>, &'a RawValue)>,
    too_many: bool,
}

impl<'a> Object<'a> {
    /// Takes the members of a map that is being parsed, and no more than [`MAX_MEMBERS`] of them into memory.
    pub(super) fn collect<M: MapAccess<'a>>(mut map: M) -> Result<Self, M::Error> {
        let mut members = Vec::with_capacity(48);
        while members.len() < MAX_MEMBERS {
            match map.next_entry()? {
                Some(member) => members.push(member),
                None => return Ok(Self { members, too_many: false }),
            }
        }
        let mut too_many = false;
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {
            too_many = true;
        }
        Ok(Self { members, too_many })
    }

    /// Whether the object has more members than were taken, so that it can't be judged.
    pub(super) fn has_too_many_members(&self) -> bool {
        self.too_many
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.members.iter().any(|(Text(member), _)| member == name)
    }

    /// The text under `name`; `None` if there is none or it is something else.
    pub(super) fn text(&self, name: &str) -> Result<Option<Cow<'a, str>>, Rejection> {
        Ok(self.member(name)?.and_then(parse_text))
    }

    /// The object under `name`; `None` if there is none or it is something else.
    pub(super) fn object(&self, name: &str) -> Result<Option<Object<'a>>, Rejection> {
        Ok(self.member(name)?.and_then(|value| serde_json::from_str(value.get()).ok()))
    }

    /// The array under `name`; `None` if there is none or it is something else.
    pub(super) fn array(&self, name: &str) -> Result<Option<&'a RawValue>, Rejection> {
        Ok(self.member(name)?.filter(|value| value.get().starts_with('[')))
    }

    /// The alert id under `name`, which must be there and valid.
    pub(super) fn alert_id(&self, name: &str) -> Result<AlertId, Rejection> {
        let invalid = |detail| Rejection { reason: Reason::InvalidAlertId, detail };
        let value = self
            .member(name)
            .map_err(|rejection| invalid(rejection.detail))?
            .ok_or_else(|| invalid(format!("`{name}` is missing")))?;
        let text = parse_text(value).ok_or_else(|| invalid(format!("`{name}` is {}, not text", kind(value))))?;
        AlertId::parse(&text).map_err(|error| invalid(error.to_string()))
    }

    /// The severity under `name`; whatever can't be read is unspecified.
    pub(super) fn severity(&self, name: &str) -> Result<Severity, Rejection> {
        Ok(self.text(name)?.map_or(Severity::Unspecified, |text| Severity::parse(&text)))
    }

    /// The tenant under `name`, lower-cased. What can be no tenant id (another type, other characters than those of a
    /// GUID or a domain name) counts as not told: it can't be routed by.
    pub(super) fn tenant(&self, name: &str) -> Result<Option<Arc<str>>, Rejection> {
        let legal = |text: &str| {
            (1..=MAX_TENANT_LEN).contains(&text.len())
                && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'.')
        };
        Ok(self.text(name)?.filter(|text| legal(text)).map(|text| text.to_ascii_lowercase().into()))
    }

    /// The time under `name`; whatever can't be read counts as not told.
    pub(super) fn time(&self, name: &str) -> Result<Option<Timestamp>, Rejection> {
        Ok(self.text(name)?.and_then(|text| parse_time(&text)))
    }

    fn member(&self, name: &str) -> Result<Option<&'a RawValue>, Rejection> {
        let mut found = self.members.iter().filter(|(Text(member), _)| member == name).map(|(_, value)| *value);
        match (found.next(), found.next()) {
            (first, None) => Ok(first),
            (_, Some(_)) => Err(Rejection {
                reason: Reason::UnknownShape,
                detail: format!("`{name}` occurs more than once, so it is unclear which one counts"),
            }),
        }
    }
}

impl<'de> Deserialize<'de> for Object<'de> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Object<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<M: MapAccess<'de>>(self, map: M) -> Result<Self::Value, M::Error> {
                Object::collect(map)
            }
        }

        deserializer.deserialize_map(Visitor)
    }
}

/// Names the object by its first members, escaped and cut.
impl fmt::Display for Object<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 5;
        if self.members.is_empty() {
            return f.write_str("an object without members");
        }
        f.write_str("an object with the members ")?;
        for (i, (Text(name), _)) in self.members.iter().take(SHOWN).enumerate() {
            let name: String = name.chars().take(32).flat_map(char::escape_default).collect();
            write!(f, "{}`{name}`", if i == 0 { "" } else { ", " })?;
        }
        if self.members.len() > SHOWN { f.write_str(", …") } else { Ok(()) }
    }
}

/// A JSON string, borrowed where it holds no escape.
#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

/// `None` for other types, and for escapes that stand for no character.
fn parse_text(value: &RawValue) -> Option<Cow<'_, str>> {
    let json = value.get();
    json.starts_with('"').then(|| serde_json::from_str(json).ok()).flatten().map(|Text(text)| text)
}

/// Reads what the service and its exporters write: RFC 3339 with up to 9 fractional digits, UTC where no offset is told.
///
/// Times outside 2000 to 2100 are placeholders (.NET's unset time is the year 1) and count as not told.
fn parse_time(text: &str) -> Option<Timestamp> {
    let time = text.parse::<Timestamp>().ok().or_else(|| {
        let civil: civil::DateTime = text.parse().ok()?;
        TimeZone::UTC.to_timestamp(civil).ok()
    })?;
    let plausible = Timestamp::constant(946_684_800, 0)..Timestamp::constant(4_102_444_800, 0);
    plausible.contains(&time).then_some(time)
}

/// The type of a value in words.
fn kind(value: &RawValue) -> &'static str {
    match value.get().as_bytes().first() {
        Some(b'n') => "null",
        Some(b't' | b'f') => "a boolean",
        Some(b'"') => "text with a broken escape",
        Some(b'[') => "an array",
        Some(b'{') => "an object",
        _ => "a number",
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn object(json: &str) -> Object<'_> {
        serde_json::from_str(json).unwrap()
    }

    #[rstest]
    #[case::seven_digits("2020-09-20T17:53:35.3543476Z", Some("2020-09-20T17:53:35.3543476Z"))]
    #[case::seven_threes("2020-09-20T17:53:35.7733333Z", Some("2020-09-20T17:53:35.7733333Z"))]
    #[case::two_digits("2020-09-20T17:53:35.13Z", Some("2020-09-20T17:53:35.13Z"))]
    #[case::no_fraction("2020-09-20T17:53:35Z", Some("2020-09-20T17:53:35Z"))]
    #[case::offset("2020-09-20T19:53:35+02:00", Some("2020-09-20T17:53:35Z"))]
    #[case::no_offset_is_utc("2020-09-20T17:53:35.1", Some("2020-09-20T17:53:35.1Z"))]
    #[case::dotnet_unset("0001-01-01T00:00:00Z", None)]
    #[case::far_future("9999-12-31T23:59:59Z", None)]
    #[case::words("yesterday", None)]
    #[case::empty("", None)]
    #[case::impossible_day("2020-02-30T00:00:00Z", None)]
    fn times_are_read_leniently(#[case] text: &str, #[case] expected: Option<&str>) {
        let json = format!(r#"{{"t":"{text}"}}"#);
        assert_eq!(object(&json).time("t").unwrap(), expected.map(|time| time.parse().unwrap()));
    }

    #[rstest]
    #[case::guid(r#""AAAAAAAA-0000-0000-0000-00000000000B""#, Some("aaaaaaaa-0000-0000-0000-00000000000b"))]
    #[case::empty(r#""""#, None)]
    #[case::number("7", None)]
    #[case::escape_sequence(r#""\u001b[31m""#, None)]
    #[case::slash(r#""a/b""#, None)]
    fn tenants_are_lower_cased_and_what_is_none_is_not_told(#[case] value: &str, #[case] expected: Option<&str>) {
        let json = format!(r#"{{"tenantId":{value}}}"#);
        assert_eq!(object(&json).tenant("tenantId").unwrap().as_deref(), expected);
    }

    #[test]
    fn names_are_compared_unescaped() {
        assert!(object(r#"{"\u0069d":"a","id":"b"}"#).text("id").is_err());
    }

    #[test]
    fn members_beyond_the_bound_are_not_held() {
        let json = format!("{{{}\"id\":\"a\"}}", r#""x":1,"#.repeat(MAX_MEMBERS));
        let object = object(&json);
        assert!(object.has_too_many_members());
        assert_eq!(object.members.len(), MAX_MEMBERS);
    }

    #[test]
    fn exactly_as_many_members_as_allowed_are_fine() {
        let json = format!("{{{}\"id\":\"a\"}}", r#""x":1,"#.repeat(MAX_MEMBERS - 1));
        assert!(!object(&json).has_too_many_members());
    }
}
