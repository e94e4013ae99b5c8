//! The way through one message: containers are entered, objects go to the shapes, results are gathered.
//!
//! Everything streams: an array's items are read one after the other and none is kept.

use std::{collections::HashMap, fmt};

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::{Decoded, Indexed, MAX_ITEMS, Reading, SHAPES, object::Object, syntax, unknown_shape};
use crate::domain::{
    alert::{Alert, AlertId, Severity},
    outcome::{Reason, Rejection, Skip},
};

/// Deepest nesting of containers that is entered: an array of envelopes of pages needs three.
const MAX_CONTAINERS: usize = 4;

/// How many of the items that can't be used are described.
const DESCRIBED_FAULTS: usize = 3;

/// One pass through one message.
pub(super) struct Walk<'a> {
    text: &'a str,
    found: Decoded,
    /// Where in `found.alerts` an alert id was first found.
    first_of: HashMap<AlertId, usize>,
    /// How many items were met.
    items: usize,
    /// How many containers are open.
    containers: usize,
    faults: Faults,
    /// Why the walk ended before the end of the text, while this is on its way out through the parser.
    stopped: Option<Rejection>,
}

impl<'a> Walk<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self {
            text,
            found: Decoded::default(),
            first_of: HashMap::new(),
            items: 0,
            containers: 0,
            faults: Faults::default(),
            stopped: None,
        }
    }

    /// Reads the whole text. An error is one of the message as a whole.
    pub(super) fn run(mut self) -> Result<Decoded, Rejection> {
        self.read(self.text)?;
        self.found.rejection = self.faults.into_rejection(self.items);
        Ok(self.found)
    }

    /// Reads one JSON value, which is the whole text or a part of it.
    fn read(&mut self, part: &'a str) -> Result<(), Rejection> {
        let mut parser = serde_json::Deserializer::from_str(part);
        let result = Value(self).deserialize(&mut parser).and_then(|()| parser.end());
        result.map_err(|error| self.stopped.take().unwrap_or_else(|| syntax::parser_error(self.text, part, &error)))
    }

    fn object(&mut self, object: &Object<'a>) -> Result<(), Rejection> {
        if object.has_too_many_members() {
            let detail = "an object with more members than any alert has".into();
            return self.item(Item::Unusable(Rejection { reason: Reason::UnknownShape, detail }));
        }
        match SHAPES.iter().find_map(|shape| (shape.read)(object).transpose()) {
            Some(Ok(Reading::Items(array))) => self.read(array.get()),
            Some(Ok(Reading::Alert(alert))) => self.item(Item::Alert(alert)),
            Some(Ok(Reading::Skip(skip))) => self.item(Item::Skip(skip)),
            Some(Err(rejection)) => self.item(Item::Unusable(rejection)),
            None => self.item(Item::Unusable(unknown_shape(object))),
        }
    }

    fn array<A: SeqAccess<'a>>(&mut self, mut array: A) -> Result<(), A::Error> {
        if self.containers == MAX_CONTAINERS {
            while array.next_element::<IgnoredAny>()?.is_some() {}
            let detail = format!("lists nested more than {MAX_CONTAINERS} deep");
            let result = self.item(Item::Unusable(Rejection { reason: Reason::UnknownShape, detail }));
            return self.or_stop(result);
        }
        self.containers += 1;
        let mut empty = true;
        while array.next_element_seed(Value(self))?.is_some() {
            empty = false;
        }
        self.containers -= 1;
        if empty {
            let result = self.item(Item::Skip(Skip::EmptyPage));
            return self.or_stop(result);
        }
        Ok(())
    }

    fn scalar(&mut self, kind: &str) -> Result<(), Rejection> {
        let detail = format!("{kind} is no alert");
        self.item(Item::Unusable(Rejection { reason: Reason::UnknownShape, detail }))
    }

    /// Takes what one item is. An error ends the walk.
    fn item(&mut self, item: Item) -> Result<(), Rejection> {
        let index = self.items;
        self.items += 1;
        if self.items > MAX_ITEMS {
            let detail = format!("more than {MAX_ITEMS} items in one message; split it");
            return Err(Rejection { reason: Reason::UnknownShape, detail });
        }
        match item {
            Item::Alert(alert) => self.alert(index, alert),
            Item::Skip(skip) => self.found.skips.push(skip),
            Item::Unusable(rejection) => self.faults.add(index, &rejection),
        }
        Ok(())
    }

    /// Adds an alert, or what an item adds to the one that is there.
    ///
    /// The same id under another tenant is another alert.
    fn alert(&mut self, index: usize, alert: Alert) {
        let alerts = &mut self.found.alerts;
        let first = *self.first_of.entry(alert.id.clone()).or_insert(alerts.len());
        match alerts.get_mut(first).map(|indexed| &mut indexed.alert) {
            Some(known) if known.tenant.is_none() || alert.tenant.is_none() || known.tenant == alert.tenant => {
                merge(known, alert);
            }
            _ => alerts.push(Indexed { index, alert }),
        }
    }

    /// Turns the walk's own end into one the parser passes on.
    fn or_stop<E: Error>(&mut self, result: Result<(), Rejection>) -> Result<(), E> {
        result.map_err(|rejection| {
            self.stopped = Some(rejection);
            E::custom("stopped")
        })
    }
}

/// What one item of a message is.
enum Item {
    Alert(Alert),
    Skip(Skip),
    Unusable(Rejection),
}

/// Adds to `known` what another item tells about the same alert.
fn merge(known: &mut Alert, other: Alert) {
    known.severity = match (known.severity, other.severity) {
        (Severity::Unspecified, severity) | (severity, Severity::Unspecified) => severity,
        (one, another) => one.min(another),
    };
    known.updated = known.updated.max(other.updated);
    known.created = [known.created, other.created].into_iter().flatten().min();
    known.tenant = known.tenant.take().or(other.tenant);
}

/// The items that can't be used, gathered into one rejection.
#[derive(Default)]
struct Faults {
    count: usize,
    reason: Option<Reason>,
    described: Vec<String>,
}

impl Faults {
    fn add(&mut self, index: usize, rejection: &Rejection) {
        self.count += 1;
        // A bad id may be an alert that is lost; an unknown shape is more likely none.
        if self.reason != Some(Reason::InvalidAlertId) {
            self.reason = Some(rejection.reason);
        }
        if self.described.len() < DESCRIBED_FAULTS {
            self.described.push(format!("item {index}: {}", rejection.detail));
        }
    }

    fn into_rejection(self, items: usize) -> Option<Rejection> {
        let reason = self.reason?;
        let mut detail = self.described.join("; ");
        if items > 1 {
            detail = format!("{} of {items} items can't be used: {detail}", self.count);
        }
        if self.count > self.described.len() {
            detail = format!("{detail}; and {} more", self.count - self.described.len());
        }
        Some(Rejection { reason, detail })
    }
}

/// One JSON value of any type, on its way into the walk.
struct Value<'w, 'a>(&'w mut Walk<'a>);

impl<'de> DeserializeSeed<'de> for Value<'_, 'de> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Value<'_, 'de> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_map<M: MapAccess<'de>>(self, map: M) -> Result<(), M::Error> {
        let result = self.0.object(&Object::collect(map)?);
        self.0.or_stop(result)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, array: A) -> Result<(), A::Error> {
        self.0.array(array)
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<(), E> {
        let result = self.0.scalar("text");
        self.0.or_stop(result)
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<(), E> {
        let result = self.0.scalar("a boolean");
        self.0.or_stop(result)
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        let result = self.0.scalar("null");
        self.0.or_stop(result)
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<(), E> {
        let result = self.0.scalar("a number");
        self.0.or_stop(result)
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<(), E> {
        self.visit_u64(0)
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<(), E> {
        self.visit_u64(0)
    }
}
