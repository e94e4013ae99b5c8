//! The alert of a message, as it stands in a record.

use std::{cell::OnceCell, collections::HashSet, fmt};

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::value::{RawValue, to_raw_value};

/// How deep the brackets of an alert may nest, so that those of a record with it are no more than 127, as many parsers
/// take them.
const MOST_DEPTH: usize = 124;

/// An alert as it was read, and what is made of it only where an output wants that.
pub(super) struct Embedded<'a> {
    original: &'a RawValue,
    json: OnceCell<Option<Box<RawValue>>>,
}

impl<'a> Embedded<'a> {
    pub(super) fn of(original: &'a RawValue) -> Self {
        Self { original, json: OnceCell::new() }
    }

    /// For fields that are texts.
    pub(super) fn text(&self) -> &'a str {
        self.original.get()
    }

    /// For fields that are JSON: the alert on one line, its numbers and texts as they were written. Where not every parser
    /// would take it, and so not the record around it either, it is a text here too.
    pub(super) fn json(&self) -> Option<&RawValue> {
        let made = || {
            if is_strict(self.text()) {
                RawValue::from_string(one_line(self.text()))
            } else {
                to_raw_value(self.text())
            }
        };
        // A text always has a JSON form, and without the space between its parts JSON stays what it is.
        self.json.get_or_init(|| made().ok()).as_deref()
    }
}

/// JSON without the space between its parts.
fn one_line(json: &str) -> String {
    let (mut in_text, mut is_escaped) = (false, false);
    let is_kept = |c: &char| {
        in_text ^= *c == '"' && !is_escaped;
        is_escaped = *c == '\\' && !is_escaped;
        in_text || !c.is_ascii_whitespace()
    };
    json.chars().filter(is_kept).collect()
}

/// Whether any parser takes it, and none for something else than another. Alerts are read from more than that: the parts of
/// a message that say nothing of its alert may have half of a surrogate pair, a number beyond a double, a member twice.
fn is_strict(json: &str) -> bool {
    Strict { depth_left: MOST_DEPTH }.deserialize(&mut serde_json::Deserializer::from_str(json)).is_ok()
}

/// Reads a value and keeps nothing of it. The parser itself refuses texts and numbers that are none.
#[derive(Clone, Copy)]
struct Strict {
    depth_left: usize,
}

impl Strict {
    fn deeper<E: Error>(self) -> Result<Self, E> {
        let depth_left = self.depth_left.checked_sub(1).ok_or_else(|| E::custom("nested too deeply"))?;
        Ok(Self { depth_left })
    }
}

impl<'de> DeserializeSeed<'de> for Strict {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        let item = self.deeper()?;
        while items.next_element_seed(item)?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<(), A::Error> {
        let value = self.deeper()?;
        let mut names = HashSet::new();
        while let Some(name) = members.next_key::<String>()? {
            if !names.insert(name) {
                return Err(A::Error::custom("a member twice"));
            }
            members.next_value_seed(value)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;
    use serde_json::Value;

    use super::*;

    fn embedded(json: &str) -> String {
        let original = RawValue::from_string(json.to_owned()).unwrap();
        Embedded::of(&original).json().unwrap().get().to_owned()
    }

    fn nested(depth: usize) -> String {
        "[".repeat(depth) + &"]".repeat(depth)
    }

    #[rstest]
    #[case::space("{\n\t\"a\" : [ 1 ,\r\n 2 ] }", r#"{"a":[1,2]}"#)]
    #[case::space_in_texts(r#"{"a b" : "c  d"}"#, r#"{"a b":"c  d"}"#)]
    #[case::quotes_in_texts(r#"["\" ", "\\" , " \\\" "]"#, r#"["\" ","\\"," \\\" "]"#)]
    #[case::numbers("[1.10, 1e2, 12345678901234567890123, -0]", "[1.10,1e2,12345678901234567890123,-0]")]
    #[case::escapes(r#"["\u0041\/", "\ud83d\ude00"]"#, r#"["\u0041\/","\ud83d\ude00"]"#)]
    #[case::the_same_name_elsewhere(r#"{"a":{"a":1},"b":[{"a":2}]}"#, r#"{"a":{"a":1},"b":[{"a":2}]}"#)]
    #[case::bare_id("\"a\"", "\"a\"")]
    #[case::deep(&nested(MOST_DEPTH), &nested(MOST_DEPTH))]
    fn an_alert_is_embedded_as_it_is_on_one_line(#[case] json: &str, #[case] expected: &str) {
        assert_eq!(embedded(json), expected);
    }

    #[rstest]
    #[case::half_a_pair(r#"{"a":"\ud83d"}"#)]
    #[case::half_a_pair_in_a_name(r#"{"\ude00":1}"#)]
    #[case::beyond_a_double(r#"{"a": [1e400]}"#)]
    #[case::integer_beyond_a_double(&"9".repeat(400))]
    #[case::member_twice(r#"{"a":1, "b":2, "\u0061":1}"#)]
    #[case::too_deep(&nested(MOST_DEPTH + 1))]
    fn what_not_every_parser_takes_is_embedded_as_a_text(#[case] json: &str) {
        assert_eq!(serde_json::from_str::<String>(&embedded(json)).unwrap(), json);
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            ".*".prop_map(Value::from)
        ];
        leaf.prop_recursive(4, 32, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map(".*", inner, 0..4).prop_map(|members| members.into_iter().collect()),
            ]
        })
    }

    proptest! {
        #[test]
        fn any_pretty_alert_means_the_same_on_one_line(value in any_json()) {
            let json = embedded(&serde_json::to_string_pretty(&value).unwrap());
            prop_assert_eq!(&json, &value.to_string());
        }
    }
}
