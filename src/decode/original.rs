//! An item of a message as it stands there: the same way through containers as `list` and `text` go, with the texts kept.
//!
//! Only for outputs that embed the alert; every other message is read without keeping anything of it.

use std::{borrow::Cow, fmt};

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::{
    Decoder,
    fields::{Fields, Text},
    text::{self, MESSAGE},
    walk::Walk,
};

impl Decoder {
    /// The item at this position of a message that [`decode`](Self::decode) has read.
    pub fn original(&self, payload: &[u8], index: usize) -> Option<Box<RawValue>> {
        let mut search = Search { decoder: self, before: index };
        search.in_text(std::str::from_utf8(payload).ok()?, 0)
    }
}

struct Search<'d> {
    decoder: &'d Decoder,
    /// How many items are still to be passed by.
    before: usize,
}

impl Search<'_> {
    fn in_text(&mut self, text: &str, nested: usize) -> Option<Box<RawValue>> {
        let mut rest = text.trim_ascii_start();
        while !rest.is_empty() {
            let length = if let Some(line) = text::bare_id_line(self.decoder, rest) {
                if let Some(found) = self.item(&serde_json::to_string(line).ok()?) {
                    return Some(found);
                }
                line.len()
            } else {
                let mut values = serde_json::Deserializer::from_str(rest).into_iter::<&RawValue>();
                let value = values.next()?.ok()?;
                if let Some(found) = self.in_value(value, nested) {
                    return Some(found);
                }
                values.byte_offset()
            };
            rest = rest[length..].trim_ascii_start();
        }
        None
    }

    fn in_value(&mut self, value: &RawValue, nested: usize) -> Option<Box<RawValue>> {
        match value.get().as_bytes().first() {
            Some(b'[') => self.in_array(value, nested),
            Some(b'{') => self.in_object(value, nested),
            _ => self.item(value.get()),
        }
    }

    fn in_array(&mut self, array: &RawValue, nested: usize) -> Option<Box<RawValue>> {
        let items: Vec<&RawValue> = serde_json::from_str(array.get()).ok()?;
        match Walk::below(nested) {
            Ok(nested) if !items.is_empty() => items.into_iter().find_map(|item| self.in_value(item, nested)),
            _ => self.item(array.get()),
        }
    }

    fn in_object(&mut self, object: &RawValue, nested: usize) -> Option<Box<RawValue>> {
        let Members(members) = serde_json::from_str(object.get()).ok()?;
        let list = members.iter().find_map(|(name, value)| {
            let below = self.decoder.list_below(name)?.below();
            below.iter().try_fold(*value, |value, name| member(value, name)).filter(|value| is_array(value))
        });
        if let Some(list) = list {
            return self.in_array(list, nested);
        }
        let fields = Fields::read(self.decoder.tree(), object.get())?;
        if self.decoder.read(&fields).is_none()
            && let Some(text) = fields.text(MESSAGE).ok().flatten().filter(|text| text::is_json(text))
            && let Ok(nested) = Walk::below(nested)
        {
            return self.in_text(text, nested);
        }
        self.item(object.get())
    }

    /// An item: the one that is looked for, or one before it.
    fn item(&mut self, text: &str) -> Option<Box<RawValue>> {
        match self.before.checked_sub(1) {
            Some(before) => {
                self.before = before;
                None
            }
            None => RawValue::from_string(text.to_owned()).ok(),
        }
    }
}

fn is_array(value: &RawValue) -> bool {
    value.get().starts_with('[')
}

fn member<'a>(object: &'a RawValue, name: &str) -> Option<&'a RawValue> {
    let Members(members) = serde_json::from_str(object.get()).ok()?;
    members.into_iter().find(|(known, _)| known == name).map(|(_, value)| value)
}

/// The members of an object, in their order.
struct Members<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;

        impl<'de> Visitor<'de> for Object {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Members<'de>, M::Error> {
                let mut members = Vec::new();
                while let Some((name, value)) = map.next_entry::<Text<'de>, &'de RawValue>()? {
                    members.push((name.into_inner(), value));
                }
                Ok(Members(members))
            }
        }

        deserializer.deserialize_map(Object)
    }
}
