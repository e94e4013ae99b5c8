//! From the bytes of one Kafka message to the alerts in it.
//!
//! A message holds no, one or many alerts. [`decode`] parses it once, from end to end: `list` enters the containers,
//! `fields` captures of each object what any of the `SHAPES` may want to know, the first shape that knows the object
//! reads it, and `walk` gathers the results. A shape is one file, which names the JSON pointers it reads, and one line
//! in that table.

mod bare_id;
mod defender_alert;
mod fields;
mod list;
mod streaming;
mod syntax;
mod walk;

use self::{fields::Fields, walk::Walk};
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
        .and_then(Walk::through)
        .unwrap_or_else(|rejection| Decoded { rejection: Some(rejection), ..Decoded::default() })
}

/// The known shapes, asked in this order. A new one is a file and a line here.
static SHAPES: [Shape; 3] = [streaming::SHAPE, defender_alert::SHAPE, bare_id::SHAPE];

/// One shape of an object that is about an alert.
struct Shape {
    /// In words, for the rejection of what is none of them.
    name: &'static str,
    /// The JSON pointers that `read` may ask for; nothing else is captured.
    pointers: &'static [&'static str],
    /// `Ok(None)`: not this shape. `Err`: this shape, but this item can't be used.
    read: fn(&Fields<'_>) -> Result<Option<Reading>, Rejection>,
}

/// What a shape makes of an object.
enum Reading {
    Alert(Alert),
    Skip(Skip),
}

/// The rejection of an object that no shape knows.
fn unknown_shape(object: &Fields<'_>) -> Rejection {
    let known = SHAPES.each_ref().map(|shape| shape.name).join(", ");
    Rejection { reason: Reason::UnknownShape, detail: format!("{object} is none of the known shapes: {known}") }
}

#[cfg(test)]
mod tests;
