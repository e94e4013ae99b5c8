//! What the way through one message gathers: alerts, merged by id, skips, and the items that can't be used.

use std::collections::HashMap;

use serde::de::{DeserializeSeed, Error};

use super::{Decoded, Indexed, MAX_ITEMS, Reading, SHAPES, fields::Fields, list::Item, syntax};
use crate::domain::{
    alert::{Alert, AlertId, Severity},
    outcome::{Reason, Rejection, Skip},
};

/// How many of the items that can't be used are described.
const DESCRIBED_FAULTS: usize = 3;

/// One pass through one message. Its methods give the parser an error only to end the walk.
#[derive(Default)]
pub(super) struct Walk {
    found: Decoded,
    /// Where in `found.alerts` an alert id was first found.
    first_of: HashMap<AlertId, usize>,
    /// How many items were met.
    items: usize,
    faults: Faults,
    /// Why the walk ends before the end of the text, while this is on its way out through the parser.
    stopped: Option<Rejection>,
}

impl Walk {
    /// Reads the whole text. An error is one of the message as a whole.
    pub(super) fn through(text: &str) -> Result<Decoded, Rejection> {
        let mut walk = Self::default();
        let mut parser = serde_json::Deserializer::from_str(text);
        let result = Item { walk: &mut walk, nested: 0 }.deserialize(&mut parser).and_then(|()| parser.end());
        result.map_err(|error| walk.stopped.take().unwrap_or_else(|| syntax::parser_error(text, &error)))?;
        walk.found.rejection = walk.faults.into_rejection(walk.items);
        Ok(walk.found)
    }

    /// An item that is an object, which the shapes read.
    pub(super) fn object<E: Error>(&mut self, object: &Fields<'_>) -> Result<(), E> {
        if object.is_too_deep() {
            return self.unusable(syntax::too_deep());
        }
        match SHAPES.iter().find_map(|shape| (shape.read)(object).transpose()) {
            Some(Ok(Reading::Alert(alert))) => self.alert(alert),
            Some(Ok(Reading::Skip(skip))) => self.skip(skip),
            Some(Err(rejection)) => self.unusable(rejection),
            None => self.unusable(super::unknown_shape(object)),
        }
    }

    /// Whether any shape reads the object, with whatever result.
    pub(super) fn is_known(object: &Fields<'_>) -> bool {
        SHAPES.iter().any(|shape| !matches!((shape.read)(object), Ok(None)))
    }

    /// An item that needs neither a call nor an output.
    pub(super) fn skip<E: Error>(&mut self, skip: Skip) -> Result<(), E> {
        self.next_index()?;
        self.found.skips.push(skip);
        Ok(())
    }

    /// An item that can't be used.
    pub(super) fn unusable<E: Error>(&mut self, rejection: Rejection) -> Result<(), E> {
        let index = self.next_index()?;
        self.faults.add(index, rejection);
        Ok(())
    }

    /// Ends the walk: the whole message can't be used.
    pub(super) fn stop<T, E: Error>(&mut self, rejection: Rejection) -> Result<T, E> {
        self.stopped = Some(rejection);
        Err(E::custom("stopped"))
    }

    /// An alert, or what an item adds to the one that is there. The same id under another tenant is another alert.
    fn alert<E: Error>(&mut self, alert: Alert) -> Result<(), E> {
        let index = self.next_index()?;
        let alerts = &mut self.found.alerts;
        let first = *self.first_of.entry(alert.id.clone()).or_insert(alerts.len());
        match alerts.get_mut(first).map(|indexed| &mut indexed.alert) {
            Some(known) if known.tenant.is_none() || alert.tenant.is_none() || known.tenant == alert.tenant => {
                merge(known, alert);
            }
            _ => alerts.push(Indexed { index, alert }),
        }
        Ok(())
    }

    fn next_index<E: Error>(&mut self) -> Result<usize, E> {
        if self.items == MAX_ITEMS {
            let detail = format!("more than {MAX_ITEMS} items in one message; split it");
            return self.stop(Rejection { reason: Reason::UnknownShape, detail });
        }
        self.items += 1;
        Ok(self.items - 1)
    }
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
    fn add(&mut self, index: usize, Rejection { reason, detail }: Rejection) {
        self.count += 1;
        // A bad id may be an alert that is lost; an unknown shape is more likely none.
        if self.reason != Some(Reason::InvalidAlertId) {
            self.reason = Some(reason);
        }
        if self.described.len() < DESCRIBED_FAULTS {
            self.described.push(format!("item {index}: {detail}"));
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
