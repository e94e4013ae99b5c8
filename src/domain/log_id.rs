//! Which log an offset belongs to: a topic that was deleted and created anew has the old name and another log.

use super::{
    fingerprint::fingerprint,
    settled::{OPEN_DIGIT, PREFIX, SETTLED_DIGIT, value},
};

/// Told apart by 56 bits of what the cluster calls the topic.
const BITS: u32 = 56;

/// Its length in a commit's metadata: hexadecimal digits.
const DIGITS: usize = BITS as usize / 4;

/// The most bytes that [`LogId::sign`] adds.
pub const SIGNED: usize = DIGITS + PREFIX.len();

/// The id of a topic, or as much of it as tells it from others. The cluster draws it at random when it creates the topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LogId(u64);

impl LogId {
    /// `id`: as the cluster writes it. `None` for the one that stands for "none".
    pub fn of(id: &str) -> Option<Self> {
        let hash = fingerprint(id.bytes());
        let is_none = id.bytes().all(|byte| matches!(byte, b'A' | b'='));
        (!is_none).then_some(Self((hash ^ (hash >> BITS)) & ((1 << BITS) - 1)))
    }

    /// Adds it to a commit's metadata: as a number of open offsets beyond all that are settled, which says nothing to
    /// whoever does not know of it, earlier versions among them.
    pub fn sign(self, beyond: &str) -> String {
        let mut text = if beyond.is_empty() { PREFIX.to_owned() } else { beyond.to_owned() };
        let digit = |n: usize| OPEN_DIGIT | u8::try_from(self.0 >> (4 * n) & 0xF).unwrap_or_default();
        text.extend((0..DIGITS).map(|n| super::settled::character(digit(n))));
        text
    }

    /// A commit's metadata without the id, and the id, if there is one.
    pub fn unsign(text: &str) -> (&str, Option<Self>) {
        let unsigned = (text, None);
        let Some(at) = text.len().checked_sub(DIGITS).filter(|at| *at >= PREFIX.len()) else { return unsigned };
        let (true, Some((beyond, id))) = (text.starts_with(PREFIX), text.split_at_checked(at)) else { return unsigned };
        let mut number = 0;
        for (n, character) in id.bytes().enumerate() {
            let Some(digit) = value(character).filter(|value| (OPEN_DIGIT..SETTLED_DIGIT).contains(value)) else {
                return unsigned;
            };
            number |= u64::from(digit & 0xF) << (4 * n);
        }
        (if beyond == PREFIX { "" } else { beyond }, Some(Self(number)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::domain::settled::Settled;

    const ID: &str = "3vKy0ZxJQ0mPq1i8cT7w2A";

    /// The format, so that a change of it is seen.
    #[test]
    fn the_text_is() {
        let id = LogId::of(ID).unwrap();
        assert_eq!(id.sign(""), "alert-ips/1:hqpjigjhkkllkg");
        assert_eq!(id.sign("alert-ips/1:C"), "alert-ips/1:Chqpjigjhkkllkg");
        assert_eq!(id.sign("alert-ips/1:C").len(), "alert-ips/1:C".len() + DIGITS);
    }

    #[test]
    fn no_id_is_none() {
        assert_eq!(LogId::of("AAAAAAAAAAAAAAAAAAAAAA"), None);
        assert_eq!(LogId::of(""), None);
        assert_ne!(LogId::of(ID), LogId::of(&ID.to_lowercase()));
    }

    #[test]
    fn a_text_of_an_earlier_version_has_none() {
        for text in
            ["", "alert-ips/1:C", "alert-ips/1:e0-z", "alert-ips/1:oujB", "set by hand", "alert-ips/2:gggggggggggggg"]
        {
            assert_eq!(LogId::unsign(text), (text, None));
        }
    }

    proptest! {
        #[test]
        fn what_is_signed_is_read_and_says_the_same_to_earlier_versions(
            next in 0..1_i64 << 40,
            steps in proptest::collection::vec((1..40_i64, 1..300_i64), 0..50),
            most in 64..400_usize,
            id in "[A-Za-z0-9+/]{22}",
        ) {
            let mut ranges = Settled::default();
            let mut at = next;
            for (open, length) in steps {
                at += open;
                ranges.insert(at..at + length);
                at += length;
            }
            let beyond = ranges.write(next, most);
            let id = LogId::of(&id).unwrap();
            let signed = id.sign(&beyond);
            prop_assert!(signed.len() <= beyond.len() + SIGNED);
            prop_assert_eq!(LogId::unsign(&signed), (beyond.as_str(), Some(id)));
            prop_assert_eq!(LogId::unsign(&beyond), (beyond.as_str(), None));
            prop_assert_eq!(Settled::read(next, &signed), Settled::read(next, &beyond));
        }
    }
}
