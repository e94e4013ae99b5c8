//! The members of one object that decide, captured while it is parsed.
//!
//! Each shape names the JSON pointers it reads; together they make a tree, and an object is parsed once along it.
//! Everything beside the tree, most of an alert, is skipped without being stored.
//!
//! What is captured must be there only once: readers disagree about which of two equal names counts, and an attacker
//! would choose.

use std::{
    borrow::Cow,
    fmt,
    sync::{Arc, LazyLock},
};

use jiff::{Timestamp, civil, tz::TimeZone};
use serde::{
    Deserialize,
    de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor},
};

use super::{SHAPES, syntax};
use crate::domain::{
    alert::{AlertId, Severity},
    outcome::{Reason, Rejection},
};

/// The most values that are captured of one object. There are fewer pointers, so beyond it some occur more than once.
const MAX_CAPTURED: usize = 64;

/// How many of an object's names are kept to describe it.
const NAMES_SHOWN: usize = 5;

/// Longest tenant that is taken over, in bytes: a GUID has 36, a domain name at most 253.
const MAX_TENANT_LEN: usize = 253;

/// All pointers of all shapes.
static ROOT: LazyLock<Node> = LazyLock::new(|| {
    let mut root = Node::default();
    for pointer in SHAPES.iter().flat_map(|shape| shape.pointers) {
        root.add(pointer);
    }
    root
});

/// What was captured of one object.
pub(super) struct Fields<'a> {
    /// In the order of the text, an object before what is in it.
    captured: Vec<(&'static str, Value<'a>)>,
    /// The first names, whether captured or not.
    names: Vec<Text<'a>>,
    /// Whether something that was skipped is nested too deeply.
    too_deep: bool,
}

/// A captured value. Only texts matter; of the others the type is kept, in words.
enum Value<'a> {
    Text(Cow<'a, str>),
    Other(&'static str),
}

impl<'a> Fields<'a> {
    pub(super) fn new() -> Self {
        Self { captured: Vec::with_capacity(12), names: Vec::with_capacity(NAMES_SHOWN), too_deep: false }
    }

    /// Takes the value of the member `name`, which is next in `map`.
    pub(super) fn take<M: MapAccess<'a>>(&mut self, name: Text<'a>, map: &mut M) -> Result<(), M::Error> {
        let node = ROOT.child(name.as_str());
        self.note(name);
        self.take_value(node, map)
    }

    /// Keeps one of the first names, to describe the object by.
    pub(super) fn note(&mut self, name: Text<'a>) {
        if self.names.len() < NAMES_SHOWN {
            self.names.push(name);
        }
    }

    fn take_value<M: MapAccess<'a>>(&mut self, node: Option<&'static Node>, map: &mut M) -> Result<(), M::Error> {
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
            Value::Other(_) => None,
        }))
    }

    /// The alert id at `pointer`, which must be there and valid.
    pub(super) fn alert_id(&self, pointer: &str) -> Result<AlertId, Rejection> {
        let invalid = |detail| Rejection { reason: Reason::InvalidAlertId, detail };
        match self.value(pointer).map_err(|rejection| invalid(rejection.detail))? {
            Some(Value::Text(text)) => AlertId::parse(text).map_err(|error| invalid(error.to_string())),
            Some(Value::Other(kind)) => Err(invalid(format!("`{pointer}` is {kind}, not text"))),
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

    /// The time at `pointer`; whatever can't be read counts as not told.
    pub(super) fn time(&self, pointer: &str) -> Result<Option<Timestamp>, Rejection> {
        Ok(self.text(pointer)?.and_then(parse_time))
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

/// Names the object by its first members, escaped and cut.
impl fmt::Display for Fields<'_> {
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

/// One step of the pointers.
#[derive(Default)]
struct Node {
    name: &'static str,
    /// The whole pointer to here.
    pointer: &'static str,
    children: Vec<Node>,
}

impl Node {
    fn child(&self, name: &str) -> Option<&Node> {
        self.children.iter().find(|child| child.name == name)
    }

    /// Adds the steps of `pointer` below the one this node stands for.
    fn add(&mut self, pointer: &'static str) {
        let rest = &pointer[self.pointer.len()..];
        let Some(name) = rest.split('/').nth(1) else { return };
        let at = self.children.iter().position(|child| child.name == name).unwrap_or_else(|| {
            let here = &pointer[..=self.pointer.len() + name.len()];
            self.children.push(Node { name, pointer: here, children: Vec::new() });
            self.children.len() - 1
        });
        self.children[at].add(pointer);
    }
}

/// Captures one value, and within an object what the node's children name.
struct Capture<'f, 'a> {
    fields: &'f mut Fields<'a>,
    node: &'static Node,
}

impl<'a> Capture<'_, 'a> {
    fn put(self, value: Value<'a>) {
        self.fields.captured.push((self.node.pointer, value));
    }
}

impl<'de> DeserializeSeed<'de> for Capture<'_, 'de> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Capture<'_, 'de> {
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
        while let Some(item) = array.next_element()? {
            self.fields.too_deep |= syntax::is_too_deep(item);
        }
        self.put(Value::Other("an array"));
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

    fn visit_u64<E: Error>(self, _: u64) -> Result<(), E> {
        self.put(Value::Other("a number"));
        Ok(())
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<(), E> {
        self.visit_u64(0)
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<(), E> {
        self.visit_u64(0)
    }
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

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    impl<'de> Deserialize<'de> for Fields<'de> {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            let mut fields = Self::new();
            Capture { fields: &mut fields, node: &ROOT }.deserialize(deserializer)?;
            Ok(fields)
        }
    }

    fn fields(json: &str) -> Fields<'_> {
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
