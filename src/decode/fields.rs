//! The members of one object that decide, captured while it is parsed.
//!
//! Each shape names the JSON pointers it reads; together they make a tree, and an object is parsed once along it.
//! Everything beside the tree, most of an alert, is skipped without being stored.
//!
//! What is captured must be there only once: readers disagree about which of two equal names counts, and an attacker
//! would choose.

use std::{borrow::Cow, fmt, sync::Arc};

use jiff::{SignedDuration, Timestamp, Unit, civil, tz::TimeZone};
use serde::{
    Deserialize,
    de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor},
};

use super::{syntax, tree::Tree};
use crate::domain::{
    alert::{AlertId, Severity},
    outcome::{Reason, Rejection},
};

/// The most values that are captured of one object. There are fewer pointers, so beyond it some occur more than once.
const MAX_CAPTURED: usize = 128;

/// How many of an object's names are kept to describe it.
const NAMES_SHOWN: usize = 5;

/// Longest tenant that is taken over, in bytes: a GUID has 36, a domain name at most 253.
const MAX_TENANT_LEN: usize = 253;

/// What was captured of one object.
pub(super) struct Fields<'t, 'a> {
    tree: &'t Tree,
    /// In the order of the text, an object before what is in it.
    captured: Vec<(&'t str, Value<'a>)>,
    /// The first names, whether captured or not.
    names: Vec<Text<'a>>,
    /// Whether something that was skipped is nested too deeply.
    too_deep: bool,
}

/// A captured value. Only texts and numbers matter; of the others the type is kept, in words.
enum Value<'a> {
    Text(Cow<'a, str>),
    Number(f64),
    Other(&'static str),
}

impl Value<'_> {
    fn kind(&self) -> &'static str {
        match self {
            Self::Text(_) => "text",
            Self::Number(_) => "a number",
            Self::Other(kind) => kind,
        }
    }
}

impl<'t, 'a> Fields<'t, 'a> {
    pub(super) fn new(tree: &'t Tree) -> Self {
        Self { tree, captured: Vec::with_capacity(12), names: Vec::with_capacity(NAMES_SHOWN), too_deep: false }
    }

    /// Takes the value of the member `name`, which is next in `map`.
    pub(super) fn take<M: MapAccess<'a>>(&mut self, name: Text<'a>, map: &mut M) -> Result<(), M::Error> {
        let node = self.tree.child(name.as_str());
        self.note(name);
        self.take_value(node, map)
    }

    /// Keeps one of the first names, to describe the object by.
    pub(super) fn note(&mut self, name: Text<'a>) {
        if self.names.len() < NAMES_SHOWN {
            self.names.push(name);
        }
    }

    fn take_value<M: MapAccess<'a>>(&mut self, node: Option<&'t Tree>, map: &mut M) -> Result<(), M::Error> {
        match node {
            Some(node) if self.captured.len() < MAX_CAPTURED => map.next_value_seed(Capture { fields: self, node }),
            _ => {
                self.too_deep |= syntax::is_too_deep(map.next_value()?);
                Ok(())
            }
        }
    }

    pub(super) fn is_too_deep(&self) -> bool {
        self.too_deep
    }

    pub(super) fn has(&self, pointer: &str) -> bool {
        self.captured.iter().any(|(captured, _)| *captured == pointer)
    }

    /// The text at `pointer`; `None` if there is none or it is something else.
    pub(super) fn text(&self, pointer: &str) -> Result<Option<&str>, Rejection> {
        Ok(self.value(pointer)?.and_then(|value| match value {
            Value::Text(text) => Some(text.as_ref()),
            Value::Number(_) | Value::Other(_) => None,
        }))
    }

    /// The first text at one of `pointers`.
    pub(super) fn first_text(&self, pointers: &[&str]) -> Result<Option<&str>, Rejection> {
        first(pointers, |pointer| self.text(pointer))
    }

    /// The number at `pointer`; `None` if there is none or it is something else.
    pub(super) fn number(&self, pointer: &str) -> Result<Option<f64>, Rejection> {
        Ok(self.value(pointer)?.and_then(|value| match value {
            Value::Number(number) => Some(*number),
            Value::Text(_) | Value::Other(_) => None,
        }))
    }

    /// The alert id at `pointer`, which must be there and valid.
    pub(super) fn alert_id(&self, pointer: &str) -> Result<AlertId, Rejection> {
        let invalid = |detail| Rejection { reason: Reason::InvalidAlertId, detail };
        match self.value(pointer).map_err(|rejection| invalid(rejection.detail))? {
            Some(Value::Text(text)) => AlertId::parse(text).map_err(|error| invalid(error.to_string())),
            Some(other) => Err(invalid(format!("`{pointer}` is {}, not text", other.kind()))),
            None => Err(invalid(format!("`{pointer}` is missing"))),
        }
    }

    /// The severity at `pointer`; whatever can't be read is unspecified.
    pub(super) fn severity(&self, pointer: &str) -> Result<Severity, Rejection> {
        Ok(self.text(pointer)?.map_or(Severity::Unspecified, Severity::parse))
    }

    /// The tenant at `pointer`, lower-cased. What can be no tenant id (another type, other characters than those of a
    /// GUID or a domain name) counts as not told: it can't be routed by.
    pub(super) fn tenant(&self, pointer: &str) -> Result<Option<Arc<str>>, Rejection> {
        let legal = |text: &&str| {
            (1..=MAX_TENANT_LEN).contains(&text.len())
                && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'.')
        };
        Ok(self.text(pointer)?.filter(legal).map(|text| text.to_ascii_lowercase().into()))
    }

    /// The first tenant at one of `pointers`.
    pub(super) fn first_tenant(&self, pointers: &[&str]) -> Result<Option<Arc<str>>, Rejection> {
        first(pointers, |pointer| self.tenant(pointer))
    }

    /// The time at `pointer`; whatever can't be read counts as not told.
    pub(super) fn time(&self, pointer: &str) -> Result<Option<Timestamp>, Rejection> {
        Ok(match self.value(pointer)? {
            Some(Value::Text(text)) => parse_time(text),
            Some(Value::Number(number)) => time_of_number(*number),
            Some(Value::Other(_)) | None => None,
        })
    }

    /// The first time at one of `pointers`.
    pub(super) fn first_time(&self, pointers: &[&str]) -> Result<Option<Timestamp>, Rejection> {
        first(pointers, |pointer| self.time(pointer))
    }

    /// The value at `pointer`, if neither it nor an object around it occurs more than once.
    fn value(&self, pointer: &str) -> Result<Option<&Value<'a>>, Rejection> {
        let (mut found, mut path) = (None, pointer);
        while !path.is_empty() {
            let mut occurrences = self.captured.iter().filter(|(captured, _)| *captured == path);
            let first = occurrences.next();
            if occurrences.next().is_some() {
                return Err(Rejection {
                    reason: Reason::UnknownShape,
                    detail: format!("`{path}` occurs more than once, so it is unclear which one counts"),
                });
            }
            if path == pointer {
                found = first.map(|(_, value)| value);
            }
            path = path.rsplit_once('/').map_or("", |(around, _)| around);
        }
        Ok(found)
    }
}

/// What `read` finds at the first of `pointers` where it finds something.
fn first<T>(pointers: &[&str], read: impl Fn(&str) -> Result<Option<T>, Rejection>) -> Result<Option<T>, Rejection> {
    pointers.iter().find_map(|pointer| read(pointer).transpose()).transpose()
}

/// Names the object by its first members, escaped and cut.
impl fmt::Display for Fields<'_, '_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.names.is_empty() {
            "an object without members"
        } else {
            "an object with members such as "
        })?;
        for (i, name) in self.names.iter().enumerate() {
            let name: String = name.as_str().chars().take(32).flat_map(char::escape_default).collect();
            write!(f, "{}`{name}`", if i == 0 { "" } else { ", " })?;
        }
        Ok(())
    }
}

/// A JSON string, borrowed where it holds no escape.
#[derive(Deserialize)]
pub(super) struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

impl Text<'_> {
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

/// Captures one value, and within an object what the node's children name.
struct Capture<'f, 't, 'a> {
    fields: &'f mut Fields<'t, 'a>,
    node: &'t Tree,
}

impl<'a> Capture<'_, '_, 'a> {
    fn put(self, value: Value<'a>) {
        self.fields.captured.push((self.node.pointer(), value));
    }
}

impl<'de> DeserializeSeed<'de> for Capture<'_, '_, 'de> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Capture<'_, '_, 'de> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<(), E> {
        self.put(Value::Text(Cow::Borrowed(text)));
        Ok(())
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<(), E> {
        self.put(Value::Text(Cow::Owned(text.into())));
        Ok(())
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<(), M::Error> {
        let Self { fields, node } = self;
        Capture { fields, node }.put(Value::Other("an object"));
        while let Some(name) = map.next_key::<Text<'de>>()? {
            fields.take_value(node.child(name.as_str()), &mut map)?;
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut array: A) -> Result<(), A::Error> {
        let Self { fields, node } = self;
        Capture { fields, node }.put(Value::Other("an array"));
        for index in 0.. {
            let more = match node.item(index).filter(|_| fields.captured.len() < MAX_CAPTURED) {
                Some(node) => array.next_element_seed(Capture { fields, node })?.is_some(),
                None => array.next_element()?.map(|item| fields.too_deep |= syntax::is_too_deep(item)).is_some(),
            };
            if !more {
                break;
            }
        }
        Ok(())
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        self.put(Value::Other("null"));
        Ok(())
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<(), E> {
        self.put(Value::Other("a boolean"));
        Ok(())
    }

    #[allow(clippy::cast_precision_loss, reason = "times and severities are far from where a float has gaps")]
    fn visit_u64<E: Error>(self, number: u64) -> Result<(), E> {
        self.visit_f64(number as f64)
    }

    #[allow(clippy::cast_precision_loss, reason = "times and severities are far from where a float has gaps")]
    fn visit_i64<E: Error>(self, number: i64) -> Result<(), E> {
        self.visit_f64(number as f64)
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<(), E> {
        self.put(Value::Number(number));
        Ok(())
    }
}

/// Reads what the service and its exporters write: RFC 3339, to the nanosecond, UTC where no offset is told; or a number written
/// as text. Space around it is none of it.
///
/// Times outside 2000 to 2100 are placeholders (.NET's unset time is the year 1) and count as not told.
fn parse_time(text: &str) -> Option<Timestamp> {
    let text = text.trim_ascii();
    if text.len() > 8 && text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') {
        return text.parse().ok().and_then(time_of_number);
    }
    plausible(parse_rfc3339(text).or_else(|| parse_rfc3339(&to_the_nanosecond(text)?))?)
}

fn parse_rfc3339(text: &str) -> Option<Timestamp> {
    text.parse::<Timestamp>().ok().or_else(|| {
        let civil: civil::DateTime = text.parse().ok()?;
        TimeZone::UTC.to_timestamp(civil).ok()
    })
}

/// The text without the digits of its fraction from the tenth on; RFC 3339 bounds them nowhere. `None`: it has no such.
fn to_the_nanosecond(text: &str) -> Option<String> {
    let (whole, behind) = text.split_once('.')?;
    let digits = behind.bytes().take_while(u8::is_ascii_digit).count();
    (digits > 9).then(|| format!("{whole}.{}{}", &behind[..9], &behind[digits..]))
}

/// Reads seconds, milliseconds or microseconds since 1970, whichever gives a plausible time, to the millisecond.
fn time_of_number(number: f64) -> Option<Timestamp> {
    [number, number / 1e3, number / 1e6].into_iter().find_map(|seconds| {
        let since = SignedDuration::try_from_secs_f64(seconds).ok()?.round(Unit::Millisecond).ok()?;
        plausible(Timestamp::UNIX_EPOCH.checked_add(since).ok()?)
    })
}

fn plausible(time: Timestamp) -> Option<Timestamp> {
    let plausible = Timestamp::constant(946_684_800, 0)..Timestamp::constant(4_102_444_800, 0);
    plausible.contains(&time).then_some(time)
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use rstest::rstest;

    use super::*;

    static TREE: LazyLock<Tree> = LazyLock::new(|| {
        Tree::of(["/id", "/tenantId", "/AlertId", "/properties/AlertId", "/created", "/list/1/id", "/a~1b"])
    });

    fn fields(json: &str) -> Fields<'static, '_> {
        let mut fields = Fields::new(&TREE);
        let mut parser = serde_json::Deserializer::from_str(json);
        Capture { fields: &mut fields, node: &TREE }.deserialize(&mut parser).unwrap();
        fields
    }

    #[rstest]
    #[case::seconds("1795000000", Some("2026-11-18T11:06:40Z"))]
    #[case::fraction("1795000000.5", Some("2026-11-18T11:06:40.5Z"))]
    #[case::milliseconds("1795000000123", Some("2026-11-18T11:06:40.123Z"))]
    #[case::microseconds("1795000000123456", Some("2026-11-18T11:06:40.123Z"))]
    #[case::zero("0", None)]
    #[case::between("179500000012", None)]
    #[case::beyond_everything("1e300", None)]
    fn numbers_are_times_in_seconds_or_thousandths_or_millionths(#[case] number: &str, #[case] expected: Option<&str>) {
        let json = format!(r#"{{"created":{number}}}"#);
        assert_eq!(fields(&json).time("/created").unwrap(), expected.map(|time| time.parse().unwrap()));
    }

    #[rstest]
    #[case::item(r#"{"list":[{"id":"a"},{"id":"b"},{"id":"c"}]}"#, "/list/1/id", Some("b"))]
    #[case::too_short(r#"{"list":[{"id":"a"}]}"#, "/list/1/id", None)]
    #[case::escaped(r#"{"a/b":"c"}"#, "/a~1b", Some("c"))]
    fn pointers_reach_into_arrays_and_name_any_member(
        #[case] json: &str,
        #[case] pointer: &str,
        #[case] expected: Option<&str>,
    ) {
        assert_eq!(fields(json).text(pointer).unwrap(), expected);
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
    #[case::seconds_since_1970("1795000000", Some("2026-11-18T11:06:40Z"))]
    #[case::milliseconds_since_1970("1795000000123", Some("2026-11-18T11:06:40.123Z"))]
    #[case::microseconds_since_1970("1795000000123456", Some("2026-11-18T11:06:40.123Z"))]
    #[case::date("20201118", Some("2020-11-18T00:00:00Z"))]
    #[case::spaces(" \t2020-09-20T17:53:35.1Z\n", Some("2020-09-20T17:53:35.1Z"))]
    #[case::spaces_around_a_number(" 1795000000 ", Some("2026-11-18T11:06:40Z"))]
    #[case::ten_digits("2020-09-20T17:53:35.1234567899Z", Some("2020-09-20T17:53:35.123456789Z"))]
    #[case::many_digits_and_an_offset("2020-09-20T19:53:35.000000000000000001+02:00", Some("2020-09-20T17:53:35Z"))]
    #[case::many_digits_and_no_offset("2020-09-20T17:53:35.1000000000000", Some("2020-09-20T17:53:35.1Z"))]
    #[case::many_digits_and_words("2020-09-20T17:53:35.1000000000000 o'clock", None)]
    #[case::no_number("1795000000.1.2", None)]
    #[case::words("yesterday", None)]
    #[case::empty("", None)]
    #[case::impossible_day("2020-02-30T00:00:00Z", None)]
    fn times_are_read_leniently(#[case] text: &str, #[case] expected: Option<&str>) {
        assert_eq!(parse_time(text), expected.map(|time| time.parse().unwrap()));
    }

    #[rstest]
    #[case::guid(r#""AAAAAAAA-0000-0000-0000-00000000000B""#, Some("aaaaaaaa-0000-0000-0000-00000000000b"))]
    #[case::empty(r#""""#, None)]
    #[case::number("7", None)]
    #[case::escape_sequence(r#""\u001b[31m""#, None)]
    #[case::slash(r#""a/b""#, None)]
    fn tenants_are_lower_cased_and_what_is_none_is_not_told(#[case] value: &str, #[case] expected: Option<&str>) {
        let json = format!(r#"{{"tenantId":{value}}}"#);
        assert_eq!(fields(&json).tenant("/tenantId").unwrap().as_deref(), expected);
    }

    #[rstest]
    #[case::in_one_object(r#"{"properties":{"AlertId":"a","\u0041lertId":"b"}}"#, false)]
    #[case::in_two_objects_around_it(r#"{"properties":{"AlertId":"a"},"properties":{}}"#, false)]
    #[case::the_same_name_elsewhere(r#"{"AlertId":"b","properties":{"AlertId":"a"},"x":{"AlertId":"c"}}"#, true)]
    fn a_value_must_be_the_only_one_at_its_pointer(#[case] json: &str, #[case] readable: bool) {
        assert_eq!(fields(json).text("/properties/AlertId").ok(), readable.then_some(Some("a")));
    }

    #[test]
    fn what_is_captured_is_bounded() {
        let json = format!("{{{}\"id\":\"b\"}}", r#""id":"a","#.repeat(1_000_000));
        let fields = fields(&json);
        assert_eq!(fields.captured.len(), MAX_CAPTURED);
        assert!(fields.alert_id("/id").is_err());
    }
}
