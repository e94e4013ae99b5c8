//! From the bytes of one Kafka message to the alerts in it.
//!
//! A message holds no, one or many alerts. `packed` takes off what is around its JSON, and `avro` makes JSON of what was written
//! with a schema. A [`Decoder`] parses it once, from end to end: `text` takes JSON values and bare
//! ids off the text one by one, `list` enters the containers, `fields` captures of each object what any of the shapes may
//! want to know, the first shape that knows the object reads it, and `walk` gathers the results. A shape is one file,
//! which names the JSON pointers it reads, and one line in `SHAPES`.

mod alert_resource;
mod avro;
mod bare_id;
mod custom;
mod ecs;
mod fields;
mod graph;
mod graph_legacy;
mod list;
mod original;
mod packed;
mod product;
mod siem_detection;
mod streaming;
mod syntax;
mod text;
mod tree;
mod walk;

use std::borrow::Cow;

use jiff::Timestamp;

pub use self::{
    avro::AvroSchema,
    original::Original,
    packed::{not_unpacked, schema_id},
};
use self::{fields::Fields, list::ListAt, tree::Tree, walk::Walk};
use crate::domain::{
    alert::{Alert, AlertId},
    filter::Filter,
    format::{InputFormat, Mapping},
    outcome::{Reason, Rejection, Skip},
};

/// The most items one message may hold. Beyond it the whole message is rejected.
///
/// The largest real message is a list page of the service with 10,000 alerts; the bound keeps a hostile one from
/// filling the backlog on its own.
pub const MAX_ITEMS: usize = 100_000;

/// Originals that are no part of the payload are copied, and held for as long as their alerts wait: so many times the payload's
/// size, for that is what the read window counts, or so many bytes if that is more.
const COPIED_TIMES: usize = 4;
const ALWAYS_COPIED: usize = 16 << 10;

/// What one message holds. Never nothing: at least one alert, one skip or the rejection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Decoded {
    /// One for each distinct alert, in the order of their first items.
    pub alerts: Vec<Indexed>,
    /// One for each item that needs neither a call nor an output.
    pub skips: Vec<Skip>,
    /// The alerts among them that the filter left out: each with its place, as in [`Indexed`].
    pub unwanted: Vec<(usize, AlertId)>,
    /// All items that can't be used, as one: the dead letter carries the whole message anyway.
    pub rejection: Option<Rejection>,
}

/// An alert and its place in the message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Indexed {
    /// The position of the alert's first item among all items of the message, from 0. Never changes for the same bytes.
    pub index: usize,
    pub alert: Alert,
    /// That item as it stands in the message, where it is asked for.
    pub original: Option<Original>,
}

/// Reads messages: which shapes it knows, and which alerts it leaves out.
#[derive(Debug)]
pub struct Decoder {
    /// Asked in this order.
    readers: Vec<Reader>,
    /// What they may want to know of an object.
    tree: Tree,
    /// Where a message may hold a list.
    lists: Vec<ListAt>,
    /// Whether a text that is an alert id is an alert.
    bare_ids: bool,
    filter: Filter,
    keeps_originals: bool,
}

impl Default for Decoder {
    fn default() -> Self {
        Self::new(InputFormat::Auto, None, Filter::default())
    }
}

impl Decoder {
    /// Knows the shapes of `format`, and what `mapping` names. Alerts that `filter` refuses are skips.
    pub fn new(format: InputFormat, mapping: Option<Mapping>, filter: Filter) -> Self {
        let lists = match &mapping {
            Some(Mapping { records: Some(records), .. }) if format == InputFormat::Custom => vec![ListAt::new(records)],
            _ if format == InputFormat::Custom => Vec::new(),
            Some(Mapping { records: Some(records), .. }) => [vec![ListAt::new(records)], ListAt::known()].concat(),
            _ => ListAt::known(),
        };
        let known = SHAPES.iter().filter(|shape| matches!(format, InputFormat::Auto) || shape.format == format);
        let readers: Vec<_> = mapping.map(Reader::Custom).into_iter().chain(known.map(Reader::Shape)).collect();
        let bare_ids = matches!(format, InputFormat::Auto | InputFormat::BareId);
        let tree = Tree::of(readers.iter().flat_map(Reader::pointers).chain([text::MESSAGE]));
        Self { readers, tree, lists, bare_ids, filter, keeps_originals: false }
    }

    /// Whether the alerts come with their [`Original`]s. Each item is parsed twice then.
    #[must_use]
    pub fn keeping_originals(self, keeps_originals: bool) -> Self {
        Self { keeps_originals, ..self }
    }

    /// Reads the payload of one message; `None` is a tombstone. `now` is for the filter.
    ///
    /// Items about the same alert become one: at the place of the first, with the most urgent known severity, the latest
    /// update and the earliest creation. A payload that is not JSON from end to end gives a rejection and nothing else.
    ///
    /// ```
    /// # use alert_ips::decode::Decoder;
    /// # use jiff::Timestamp;
    /// let payload = br#"{"value":[{"id":"da637551227677560813_-961444813","severity":"High"}]}"#;
    /// let decoded = Decoder::default().decode(Some(payload), Timestamp::UNIX_EPOCH);
    /// assert_eq!(decoded.alerts[0].alert.id.as_str(), "da637551227677560813_-961444813");
    /// ```
    pub fn decode(&self, payload: Option<&[u8]>, now: Timestamp) -> Decoded {
        let Some(payload) = payload else {
            return Decoded { skips: vec![Skip::Tombstone], ..Decoded::default() };
        };
        match packed::unpacked(payload) {
            Ok(Cow::Borrowed(json)) => self.walk(json, payload, payload.len(), now),
            Ok(Cow::Owned(json)) => self.walk(&json, &[], payload.len(), now),
            Err(rejection) => Decoded { rejection: Some(rejection), ..Decoded::default() },
        }
    }

    /// As [`decode`](Self::decode), for the JSON that was made of a payload of this size with its schema.
    pub fn decode_made(&self, json: &[u8], size: usize, now: Timestamp) -> Decoded {
        self.walk(json, &[], size, now)
    }

    /// `payload`: that of the message, if the JSON is a part of it; `size`: its size in any case.
    fn walk(&self, json: &[u8], payload: &[u8], size: usize, now: Timestamp) -> Decoded {
        let room_for_copies = ALWAYS_COPIED.max(size.saturating_mul(COPIED_TIMES));
        syntax::checked_text(json)
            .and_then(|text| Walk::through(self, text, payload, room_for_copies, now))
            .unwrap_or_else(|rejection| Decoded { rejection: Some(rejection), ..Decoded::default() })
    }

    fn tree(&self) -> &Tree {
        &self.tree
    }

    /// What the operator maps.
    fn mapping(&self) -> Option<&Mapping> {
        self.readers.iter().find_map(|reader| match reader {
            Reader::Custom(mapping) => Some(mapping),
            Reader::Shape(_) => None,
        })
    }

    /// Whether the mapping reads the object.
    fn is_mapped(&self, object: &Fields<'_, '_>) -> bool {
        self.mapping().is_some_and(|Mapping { id, .. }| object.has(id.as_str()))
    }

    /// The list that may be in an object's member `name`.
    fn list_below(&self, name: &str) -> Option<&ListAt> {
        self.lists.iter().find(|list| list.begins_with(name))
    }

    /// Where an object says what found the alert.
    fn detection_source<'o>(&self, object: &'o Fields<'_, '_>) -> Option<&'o str> {
        let pointers = self.readers.iter().flat_map(Reader::detection_sources);
        pointers.into_iter().find_map(|pointer| object.text(pointer).ok().flatten())
    }

    /// What a text is, if texts are read at all.
    fn bare_id(&self, text: &str) -> Option<Reading> {
        self.bare_ids.then(|| bare_id::in_text(text)).flatten()
    }

    /// What the first reader that knows `object` makes of it; `None`: none does.
    fn read(&self, object: &Fields<'_, '_>) -> Option<Result<Reading, Rejection>> {
        self.readers.iter().find_map(|reader| reader.read(object).transpose())
    }

    /// The rejection of an object that no shape knows.
    fn unknown_shape(&self, object: &Fields<'_, '_>) -> Rejection {
        let known = self.readers.iter().map(Reader::name).collect::<Vec<_>>().join(", ");
        Rejection { reason: Reason::UnknownShape, detail: format!("{object} is none of the known shapes: {known}") }
    }
}

/// The known shapes, asked in this order: the unmistakable ones first. A new one is a file and a line here.
static SHAPES: [Shape; 7] = [
    streaming::SHAPE,
    siem_detection::SHAPE,
    ecs::SHAPE,
    graph_legacy::SHAPE,
    graph::SHAPE,
    alert_resource::SHAPE,
    bare_id::SHAPE,
];

/// One shape of an object that is about an alert.
#[derive(Debug)]
struct Shape {
    /// In words, for the rejection of what is none of them.
    name: &'static str,
    /// Under which it can be asked for alone.
    format: InputFormat,
    /// The JSON pointers that `read` may ask for; nothing else is captured.
    pointers: &'static [&'static str],
    /// Those of them where the alert's detection source may be.
    detection_sources: &'static [&'static str],
    /// `Ok(None)`: not this shape. `Err`: this shape, but this item can't be used.
    read: fn(&Fields<'_, '_>) -> Result<Option<Reading>, Rejection>,
}

/// Who reads objects.
#[derive(Debug)]
enum Reader {
    Shape(&'static Shape),
    Custom(Mapping),
}

impl Reader {
    fn name(&self) -> Cow<'_, str> {
        match self {
            Self::Shape(shape) => shape.name.into(),
            Self::Custom(mapping) => custom::name(mapping).into(),
        }
    }

    fn pointers(&self) -> Vec<&str> {
        match self {
            Self::Shape(shape) => [shape.pointers, shape.detection_sources].concat(),
            Self::Custom(mapping) => custom::pointers(mapping),
        }
    }

    fn detection_sources(&self) -> &'static [&'static str] {
        match self {
            Self::Shape(shape) => shape.detection_sources,
            Self::Custom(_) => &[],
        }
    }

    fn read(&self, object: &Fields<'_, '_>) -> Result<Option<Reading>, Rejection> {
        match self {
            Self::Shape(shape) => (shape.read)(object),
            Self::Custom(mapping) => custom::read(mapping, object),
        }
    }
}

/// What a shape makes of an object.
#[derive(Debug)]
enum Reading {
    Alert(Alert),
    Skip(Skip),
}

impl Reading {
    /// An alert whose shape names its product, or doesn't: then its id may tell that it is another's.
    fn of(product: Option<&str>, alert: Alert) -> Self {
        let is_told = product.is_some_and(product::is_told);
        if !is_told && alert.id.is_of_another_product() { Self::Skip(Skip::OtherProduct) } else { Self::Alert(alert) }
    }
}

#[cfg(test)]
mod tests;
