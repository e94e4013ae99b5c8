//! Messages as they come from Kafka and as they go back to it.

use std::{fmt, sync::Arc};

use jiff::Timestamp;

/// One partition of one topic.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Partition {
    pub topic: Arc<str>,
    pub number: i32,
}

impl fmt::Display for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.topic, self.number)
    }
}

/// Which assignment of a partition a record belongs to. What arrives late from an earlier one is dropped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Epoch(pub u64);

/// What must be settled before the consumer may commit past a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    pub partition: Partition,
    pub offset: i64,
    pub epoch: Epoch,
}

impl fmt::Display for Receipt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.partition, self.offset)
    }
}

/// One Kafka header. Names are not unique and values may be null or any bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    pub name: Box<str>,
    pub value: Option<Box<[u8]>>,
}

impl Header {
    /// A header with a value.
    pub fn new(name: &str, value: impl AsRef<[u8]>) -> Self {
        Self { name: name.into(), value: Some(value.as_ref().into()) }
    }
}

/// One consumed message, whole, so that a dead letter can carry exactly what came in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    pub receipt: Receipt,
    pub key: Option<Box<[u8]>>,
    pub payload: Option<Box<[u8]>>,
    pub headers: Vec<Header>,
    /// The message's Kafka timestamp (`CreateTime` or `LogAppendTime`), in whole milliseconds, where it has one.
    pub timestamp: Option<Timestamp>,
}

impl Record {
    /// Bytes this record holds in memory beyond its own struct, for the read window's bound.
    pub fn held_bytes(&self) -> usize {
        held_bytes(self.key.as_deref(), self.payload.as_deref(), &self.headers)
    }
}

fn held_bytes(key: Option<&[u8]>, payload: Option<&[u8]>, headers: &[Header]) -> usize {
    let held = |bytes: Option<&[u8]>| bytes.map_or(0, <[u8]>::len);
    let header = |header: &Header| size_of::<Header>() + header.name.len() + held(header.value.as_deref());
    held(key) + held(payload) + headers.iter().map(header).sum::<usize>()
}

/// Which of the daemon's topics a message goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Destination {
    /// That of the n-th output.
    Output(u8),
    DeadLetters,
}

impl Destination {
    pub const fn is_output(self) -> bool {
        matches!(self, Self::Output(_))
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Output(_) => "output",
            Self::DeadLetters => "dead letters",
        })
    }
}

/// One message to produce. The pipeline returns these; it never produces by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outgoing {
    pub to: Destination,
    pub key: Option<Box<[u8]>>,
    pub payload: Option<Box<[u8]>>,
    pub headers: Vec<Header>,
    /// The Kafka timestamp to set; `None` leaves it to the producer (now).
    pub timestamp: Option<Timestamp>,
}

impl Outgoing {
    /// Bytes this message holds in memory beyond its own struct.
    pub fn held_bytes(&self) -> usize {
        held_bytes(self.key.as_deref(), self.payload.as_deref(), &self.headers)
    }
}
