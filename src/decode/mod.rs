//! From the bytes of one Kafka message to the alerts in it.
//!
//! A message holds no, one or many alerts. [`decode`] reads it once: `walk` steps through the containers and hands each
//! object to the [`SHAPES`] in turn; the first that knows it reads it. A shape is one file with one function and one
//! line in that table. Objects are read shallowly (`object`): a member is parsed only if a shape asks for it, so what
//! the daemon has no use for, most of an alert, is skipped without being stored.

mod bare_id;
mod container;
mod defender_alert;
mod object;
mod streaming;
mod syntax;
mod walk;

use serde_json::value::RawValue;

use self::{object::Object, walk::Walk};
use crate::domain::{
    alert::Alert,
    outcome::{Reason, Rejection, Skip},
};

/// The most items one message may hold. Beyond it the whole message is rejected.
///
/// The largest real message is a list page of the service with 10,000 alerts; the bound keeps a hostile one from
/// filling the backlog on its own.
pub const MAX_ITEMS: usize = 100_000;

/// What one message holds. Never nothing: at least one alert, one skip or the rejection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Decoded {
    /// One for each distinct alert, in the order of their first items.
    pub alerts: Vec<Indexed>,
    /// One for each item that needs neither a call nor an output.
    pub skips: Vec<Skip>,
    /// All items that can't be used, as one: the dead letter carries the whole message anyway.
    pub rejection: Option<Rejection>,
}

/// An alert and its place in the message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Indexed {
    /// The position of the alert's first item among all items of the message, from 0. Never changes for the same bytes.
    pub index: usize,
    pub alert: Alert,
}

/// Reads the payload of one message; `None` is a tombstone.
///
/// Items about the same alert become one: at the place of the first, with the most urgent known severity, the latest
/// update and the earliest creation. A payload that is not JSON from end to end gives a rejection and nothing else.
///
/// ```
/// # use alert_ips::decode::decode;
/// let decoded = decode(Some(br#"{"value":[{"id":"da637551227677560813_-961444813","severity":"High"}]}"#));
/// assert_eq!(decoded.alerts[0].alert.id.as_str(), "da637551227677560813_-961444813");
/// ```
pub fn decode(payload: Option<&[u8]>) -> Decoded {
    let Some(payload) = payload else {
        return Decoded { skips: vec![Skip::Tombstone], ..Decoded::default() };
    };
    syntax::checked_text(payload)
        .and_then(|text| Walk::new(text).run())
        .unwrap_or_else(|rejection| Decoded { rejection: Some(rejection), ..Decoded::default() })
}

/// The known shapes, asked in this order. A new one is a file and a line here.
const SHAPES: [Shape; 4] = [
    Shape { name: "a list (`records` or `value`)", read: container::read },
    Shape { name: "a streaming row", read: streaming::read },
    Shape { name: "an alert resource", read: defender_alert::read },
    Shape { name: "a bare id", read: bare_id::read },
];

/// One shape of input.
struct Shape {
    /// In words, for the rejection of what is none of them.
    name: &'static str,
    /// `Ok(None)`: not this shape. `Err`: this shape, but this item can't be used.
    read: for<'a> fn(&Object<'a>) -> Result<Option<Reading<'a>>, Rejection>,
}

/// What a shape makes of an object.
enum Reading<'a> {
    Alert(Alert),
    Skip(Skip),
    /// The object only wraps this array of items.
    Items(&'a RawValue),
}

/// The rejection of an object that no shape knows.
fn unknown_shape(object: &Object<'_>) -> Rejection {
    let known = SHAPES.map(|shape| shape.name).join(", ");
    Rejection { reason: Reason::UnknownShape, detail: format!("{object} is none of the known shapes: {known}") }
}

#[cfg(test)]
mod tests;
