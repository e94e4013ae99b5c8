//! The way through a message: containers are entered, their items read by their own shapes as they stream by.
//!
//! Containers are a bare array, an Event Hubs envelope (`records`: the streaming API puts a list of rows into each
//! event), a list page of the service (`value`, as in every `OData` collection), and what the operator names.

use std::fmt;

use serde::de::{Deserialize, DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::{
    fields::{Fields, Text},
    walk::{Walk, unknown},
};
use crate::domain::{outcome::Skip, pointer::Pointer};

/// Where in an object a list of items may be: the names on the way.
#[derive(Clone, Debug)]
pub(super) struct ListAt {
    first: Box<str>,
    below: Vec<Box<str>>,
    /// The operator names it: then nothing beside it is of concern.
    is_mapped: bool,
}

impl ListAt {
    /// As the operator maps it.
    pub(super) fn new(pointer: &Pointer) -> Self {
        let mut steps = pointer.steps().map(Into::into);
        Self { first: steps.next().unwrap_or_default(), below: steps.collect(), is_mapped: true }
    }

    /// Those of the known containers.
    pub(super) fn known() -> Vec<Self> {
        ["records", "value"].map(|name| Self { first: name.into(), below: Vec::new(), is_mapped: false }).into()
    }

    pub(super) fn begins_with(&self, name: &str) -> bool {
        *self.first == *name
    }
}

/// One JSON value of any type: the whole text, or an item of an array.
pub(super) struct Item<'w, 'd, 't> {
    walk: &'w mut Walk<'d>,
    /// How many containers are around it.
    nested: usize,
    /// As it stands there, where originals are kept.
    original: Option<&'t str>,
}

impl<'w, 'd> Item<'w, 'd, '_> {
    pub(super) fn new(walk: &'w mut Walk<'d>, nested: usize) -> Self {
        Self { walk, nested, original: None }
    }

    fn scalar<E: Error>(self, kind: &str) -> Result<(), E> {
        self.walk.unusable(unknown(format!("{kind} is no alert")))
    }
}

impl<'de> DeserializeSeed<'de> for Item<'_, '_, 'de> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        if !self.walk.decoder().keeps_originals {
            return deserializer.deserialize_any(self);
        }
        let original = <&RawValue>::deserialize(deserializer)?.get();
        let item = Item { original: Some(original), ..self };
        // It is valid JSON: an error is one with which the walk ends, and has told why.
        serde_json::Deserializer::from_str(original).deserialize_any(item).map_err(D::Error::custom)
    }
}

impl<'de> Visitor<'de> for Item<'_, '_, 'de> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<(), M::Error> {
        let Self { walk, nested, original } = self;
        let decoder = walk.decoder();
        let mut fields = Fields::new(decoder.tree());
        let (mut lists, mut is_certain) = (0, false);
        let mut held_before = None;
        // What the mapping reads is an alert, whatever is in it; that is known when all of it was seen.
        let mut unread = Vec::new();
        while let Some(name) = map.next_key::<Text<'de>>()? {
            if let Some(list) = decoder.list_below(name.as_str()) {
                fields.note(name);
                let ListAt { below, is_mapped, .. } = list;
                if !is_mapped && decoder.mapping().is_some() {
                    unread.push(map.next_value::<&RawValue>()?.get());
                    continue;
                }
                if *is_mapped && held_before.is_none() {
                    held_before = Some(walk.hold());
                }
                let holds_one = map.next_value_seed(List { item: Item::new(walk, nested), below })?;
                lists += usize::from(holds_one);
                is_certain |= holds_one && *is_mapped;
            } else {
                fields.take(name, &mut map)?;
            }
        }
        if !decoder.is_mapped(&fields) {
            for list in unread {
                // Valid JSON, as an item's original is.
                let seed = List { item: Item::new(walk, nested), below: &[] };
                let holds_one = seed.deserialize(&mut serde_json::Deserializer::from_str(list));
                lists += usize::from(holds_one.map_err(M::Error::custom)?);
            }
        }
        if let Some(before) = held_before {
            walk.release(before, &fields);
        }
        // Where it is unclear what holds the alerts, any choice would silently lose what another finds.
        match lists {
            0 => walk.object(&fields, nested, original),
            1 if is_certain || !walk.is_known(&fields) => Ok(()),
            1 => walk.stop(unknown(format!("{fields} holds a list and is an alert itself"))),
            _ => walk.stop(unknown(format!("{fields} holds more than one list"))),
        }
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut array: A) -> Result<(), A::Error> {
        let Self { walk, nested, .. } = self;
        let nested = match Walk::below(nested) {
            Ok(nested) => nested,
            Err(rejection) => {
                while array.next_element::<IgnoredAny>()?.is_some() {}
                return walk.unusable(rejection);
            }
        };
        let mut empty = true;
        while array.next_element_seed(Item::new(walk, nested))?.is_some() {
            empty = false;
        }
        if empty { walk.skip(Skip::EmptyPage) } else { Ok(()) }
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<(), E> {
        self.walk.text(text, self.original)
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

/// The value of a member that may hold a list, `below` itself or at once; tells whether it did.
struct List<'w, 'd, 't> {
    item: Item<'w, 'd, 't>,
    below: &'d [Box<str>],
}

impl<'de> DeserializeSeed<'de> for List<'_, '_, 'de> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for List<'_, '_, 'de> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.item.expecting(f)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut array: A) -> Result<bool, A::Error> {
        let Self { item, below } = self;
        let Some((step, below)) = below.split_first() else { return item.visit_seq(array).map(|()| true) };
        let Item { walk, nested, .. } = item;
        let (step, mut holds_one) = (step.parse().ok(), false);
        for index in 0_usize.. {
            let more = if step == Some(index) {
                let list = List { item: Item::new(walk, nested), below };
                array.next_element_seed(list)?.map(|holds| holds_one = holds).is_some()
            } else {
                array.next_element::<IgnoredAny>()?.is_some()
            };
            if !more {
                break;
            }
        }
        Ok(holds_one)
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<bool, M::Error> {
        let Self { item: Item { walk, nested, .. }, below } = self;
        let mut lists = 0;
        while let Some(name) = map.next_key::<Text<'de>>()? {
            match below.split_first().filter(|(next, _)| next.as_ref() == name.as_str()) {
                Some((_, below)) => {
                    let list = List { item: Item::new(walk, nested), below };
                    lists += usize::from(map.next_value_seed(list)?);
                }
                None => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        if lists > 1 { walk.stop(unknown("an object holds more than one list".into())) } else { Ok(lists == 1) }
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
