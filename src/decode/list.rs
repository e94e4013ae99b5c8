//! The way through a message: containers are entered, their items read by their own shapes as they stream by.
//!
//! Containers are a bare array, an Event Hubs envelope (`records`: the streaming API puts a list of rows into each
//! event) and a list page of the service (`value`, as in every `OData` collection).

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::{
    fields::{Fields, Text},
    walk::Walk,
};
use crate::domain::outcome::{Reason, Rejection, Skip};

/// The members whose array holds items.
const LISTS: [&str; 2] = ["records", "value"];

/// Deepest nesting of containers that is entered: an array of envelopes of pages needs three.
const MAX_NESTED: usize = 4;

/// One JSON value of any type: the whole text, or an item of an array.
pub(super) struct Item<'w> {
    pub(super) walk: &'w mut Walk,
    /// How many containers are around it.
    pub(super) nested: usize,
}

impl Item<'_> {
    fn scalar<E: Error>(self, kind: &str) -> Result<(), E> {
        self.walk.unusable(unknown(format!("{kind} is no alert")))
    }
}

impl<'de> DeserializeSeed<'de> for Item<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Item<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<(), M::Error> {
        let Self { walk, nested } = self;
        let mut fields = Fields::new();
        let mut lists = 0;
        while let Some(name) = map.next_key::<Text<'de>>()? {
            if LISTS.contains(&name.as_str()) {
                fields.note(name);
                lists += usize::from(map.next_value_seed(List(Item { walk: &mut *walk, nested }))?);
            } else {
                fields.take(name, &mut map)?;
            }
        }
        // Where it is unclear what holds the alerts, any choice would silently lose what another finds.
        match lists {
            0 => walk.object(&fields),
            1 if !Walk::is_known(&fields) => Ok(()),
            1 => walk.stop(unknown(format!("{fields} holds a list and is an alert itself"))),
            _ => walk.stop(unknown(format!("{fields} holds more than one list"))),
        }
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut array: A) -> Result<(), A::Error> {
        let Self { walk, nested } = self;
        if nested == MAX_NESTED {
            while array.next_element::<IgnoredAny>()?.is_some() {}
            return walk.unusable(unknown(format!("lists nested more than {MAX_NESTED} deep")));
        }
        let mut empty = true;
        while array.next_element_seed(Item { walk: &mut *walk, nested: nested + 1 })?.is_some() {
            empty = false;
        }
        if empty { walk.skip(Skip::EmptyPage) } else { Ok(()) }
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<(), E> {
        self.scalar("text")
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<(), E> {
        self.scalar("a boolean")
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        self.scalar("null")
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<(), E> {
        self.scalar("a number")
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<(), E> {
        self.scalar("a number")
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<(), E> {
        self.scalar("a number")
    }
}

/// The value of a member named as a list; tells whether it was one.
struct List<'w>(Item<'w>);

impl<'de> DeserializeSeed<'de> for List<'_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for List<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.expecting(f)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, array: A) -> Result<bool, A::Error> {
        self.0.visit_seq(array).map(|()| true)
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<bool, M::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(false)
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<bool, E> {
        Ok(false)
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<bool, E> {
        Ok(false)
    }

    fn visit_unit<E: Error>(self) -> Result<bool, E> {
        Ok(false)
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<bool, E> {
        Ok(false)
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<bool, E> {
        Ok(false)
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<bool, E> {
        Ok(false)
    }
}

fn unknown(detail: String) -> Rejection {
    Rejection { reason: Reason::UnknownShape, detail }
}
