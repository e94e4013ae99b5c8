//! An alert as it stands in its message, for outputs that embed it.

use std::{fmt, ops::Range};

use serde_json::value::RawValue;

/// Where the JSON text of an alert is. A message may hold thousands that wait for hours, so the text is copied only where
/// it is no part of the payload.
#[derive(Clone, PartialEq, Eq)]
pub enum Original {
    /// At these bytes of the payload.
    At(Range<usize>),
    /// This: it stood in a JSON text inside the payload, or as a bare id on a line.
    Text(Box<str>),
}

impl Original {
    /// `item` is JSON: a part of `payload` itself, or a text of its own. `None`: there is no more `room` to copy it.
    pub(super) fn within(payload: &[u8], item: &str, room: &mut usize) -> Option<Self> {
        let (begin, end) = (payload.as_ptr().addr(), payload.as_ptr().addr() + payload.len());
        match item.as_ptr().addr().checked_sub(begin) {
            Some(at) if begin + at + item.len() <= end => Some(Self::At(at..at + item.len())),
            _ => {
                *room = room.checked_sub(item.len())?;
                Some(Self::Text(item.into()))
            }
        }
    }

    /// The text, from the payload that was decoded.
    pub fn text<'a>(&'a self, payload: &'a [u8]) -> Option<&'a RawValue> {
        match self {
            Self::At(range) => serde_json::from_slice(payload.get(range.clone())?).ok(),
            Self::Text(text) => serde_json::from_str(text).ok(),
        }
    }
}

/// The place only: the text is an alert's.
impl fmt::Debug for Original {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::At(range) => write!(f, "at {range:?}"),
            Self::Text(text) => write!(f, "{} bytes of its own", text.len()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::{Compression, write::GzEncoder};
    use jiff::Timestamp;

    use super::super::{ALWAYS_COPIED, COPIED_TIMES, Decoder};

    /// Packed, a message is a hundredth of its originals, and these would be held for hours.
    #[test]
    fn no_more_is_copied_than_the_read_window_may_bear() {
        let of = |n: u32| format!(r#"{{"id":"a{n}","title":"{}"}}"#, "x".repeat(1_000));
        let list = format!("[{}]", (0..1_000).map(of).collect::<Vec<_>>().join(","));
        let mut packed = GzEncoder::new(Vec::new(), Compression::default());
        packed.write_all(list.as_bytes()).unwrap();
        let packed = packed.finish().unwrap();
        let decoder = Decoder::default().keeping_originals(true);
        let copied = |payload: &[u8]| {
            let alerts = decoder.decode(Some(payload), Timestamp::UNIX_EPOCH).alerts;
            assert_eq!(alerts.len(), 1_000);
            let copies = alerts.iter().filter_map(|alert| alert.original.as_ref()?.text(payload));
            copies.map(|text| text.get().len()).sum::<usize>()
        };
        let room = ALWAYS_COPIED.max(COPIED_TIMES * packed.len());
        assert!((room - 1_100..=room).contains(&copied(&packed)), "{} of {room}", copied(&packed));
        assert!(copied(list.as_bytes()) > 1_000_000, "what stands in the payload itself is no copy");
    }
}
