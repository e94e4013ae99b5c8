//! Which alerts of an open message are published, and the text that says so in a commit's metadata.
//!
//! A message may hold several alerts, each of which is published as soon as it is decided; the message is settled with the
//! last. Whoever reads it again, after a stop or a rebalance, leaves out those that are noted here.
//!
//! The text follows what [`Settled`] writes. For each such message: a `.`, its distance from the committed offset as a
//! hexadecimal number, a `,`, five characters of six bits that tell whether the alerts are still the same (the least first),
//! and the alerts' places in the message, told as settled offsets are from 0 on.

use std::collections::BTreeMap;

use super::{
    alert::AlertId,
    fingerprint::fingerprint,
    settled::{PREFIX, Settled, Unreadable, character, value},
};

/// Begins a message.
pub(super) const MESSAGE: char = '.';

/// Characters of a check.
const CHECK: u32 = 5;

/// What the shortest message takes.
const SHORTEST: usize = ".0,AAAAAB".len();

/// One alert of a message that holds several.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Part {
    /// The position of its first item in the message, from 0.
    place: i64,
    /// 30 bits of what it is.
    check: u32,
}

impl Part {
    /// `None` for a place that no message has.
    pub fn of(place: usize, alert: &AlertId) -> Option<Self> {
        let place = i64::try_from(place).ok()?;
        let hash = fingerprint(place.to_le_bytes().into_iter().chain(alert.as_str().bytes()));
        // The mask leaves 30 bits.
        let check = u32::try_from((hash ^ hash >> 30) & ((1 << (6 * CHECK)) - 1)).unwrap_or_default();
        Some(Self { place, check })
    }
}

/// The alerts of a message that are published.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Published {
    places: Settled,
    /// Their checks, combined by exclusive or.
    check: u32,
}

impl Published {
    pub fn add(&mut self, part: Part) {
        if !self.contains(part) {
            self.places.insert(part.place..part.place + 1);
            self.check ^= part.check;
        }
    }

    pub fn contains(&self, part: Part) -> bool {
        self.places.contains(part.place)
    }

    /// Whether it speaks of this message's alerts. It does not where another configuration or version takes the message for
    /// something else, or leaves out one of them.
    pub fn is_of(&self, parts: impl Iterator<Item = Part>) -> bool {
        parts.filter(|part| self.contains(*part)).collect::<Self>() == *self
    }
}

impl FromIterator<Part> for Published {
    fn from_iter<I: IntoIterator<Item = Part>>(parts: I) -> Self {
        let mut published = Self::default();
        for part in parts {
            published.add(part);
        }
        published
    }
}

/// Adds to what a commit at `next` says is settled `beyond` which alerts of these messages are published, each at its offset.
/// Of at most `most` bytes: what does not fit is left out, as if it were not published.
pub fn write<'a>(
    beyond: String,
    next: i64,
    messages: impl IntoIterator<Item = (i64, &'a Published)>,
    most: usize,
) -> String {
    let mut text = if beyond.is_empty() { PREFIX.to_owned() } else { beyond };
    for (offset, published) in messages {
        if text.len() + SHORTEST > most {
            break;
        }
        let check = (0..CHECK).map(|n| character(u8::try_from(published.check >> (6 * n) & 0x3F).unwrap_or_default()));
        let message = format!("{MESSAGE}{:x},{}", offset - next, check.collect::<String>());
        // All of a message's or nothing: the check is of all.
        let (places, says_all) = published.places.write_from(0, most.saturating_sub(text.len() + message.len()));
        if says_all && !places.is_empty() {
            text.push_str(&message);
            text.push_str(&places);
        }
    }
    if text.len() == PREFIX.len() { String::new() } else { text }
}

/// Reads from the metadata of a commit at `next` what is published of which offsets.
pub fn read(next: i64, text: &str) -> Result<BTreeMap<i64, Published>, Unreadable> {
    let mut messages = text.split(MESSAGE);
    // What is settled.
    messages.next();
    messages.map(|message| read_message(next, message).ok_or(Unreadable)).collect()
}

fn read_message(next: i64, text: &str) -> Option<(i64, Published)> {
    let (distance, text) = text.split_once(',')?;
    let offset = next.checked_add(i64::from_str_radix(distance, 16).ok()?)?;
    let (digits, places) = text.split_at_checked(CHECK as usize)?;
    let mut check = 0;
    for (n, digit) in (0..).zip(digits.bytes()) {
        check |= u32::from(value(digit)?) << (6 * n);
    }
    let places = Settled::read_from(0, places).ok()?;
    Some((offset, Published { places, check }))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;
    use crate::domain::log_id::LogId;

    fn part(place: usize, id: &str) -> Part {
        Part::of(place, &AlertId::parse(id).unwrap()).unwrap()
    }

    fn published(parts: &[(usize, &str)]) -> Published {
        parts.iter().map(|(place, id)| part(*place, id)).collect()
    }

    fn text(messages: &[(i64, Published)]) -> String {
        write(String::new(), 100, messages.iter().map(|(offset, published)| (*offset, published)), 4_096)
    }

    /// The format, so that a change of it is seen.
    #[test]
    fn the_text_is() {
        let messages = [(100, published(&[(0, "a"), (2, "b")])), (355, published(&[(9, "c")]))];
        let told = text(&messages);
        assert_eq!(told, "alert-ips/1:.0,OsuPCF.ff,ZSvfDpB");
        assert_eq!(read(100, &told), Ok(BTreeMap::from(messages)));
        assert_eq!(Settled::read(100, &told), Ok(Settled::default()));
    }

    #[test]
    fn nothing_published_is_no_text() {
        assert_eq!((text(&[]), text(&[(100, Published::default())])), (String::new(), String::new()));
        assert_eq!(read(100, ""), Ok(BTreeMap::new()));
    }

    #[rstest]
    #[case::no_distance("alert-ips/1:C.,AAAAAB")]
    #[case::no_check("alert-ips/1:C.0,AAAA")]
    #[case::no_character_of_ours("alert-ips/1:C.0,AAAAA!")]
    #[case::beyond_all_offsets("alert-ips/1:C.7fffffffffffffff,AAAAAB")]
    #[case::too_far("alert-ips/1:C.ffffffffffffffffff,AAAAAB")]
    fn what_is_not_understood_is_refused(#[case] text: &str) {
        assert_eq!(read(100, text), Err(Unreadable));
    }

    #[rstest]
    #[case::the_same(&[(0, "a"), (1, "x"), (2, "b")], true)]
    #[case::others_were_left_out(&[(0, "a"), (2, "b")], true)]
    #[case::one_of_them_is_left_out(&[(0, "a"), (1, "x")], false)]
    #[case::another_is_at_its_place(&[(0, "a"), (2, "x")], false)]
    #[case::they_changed_places(&[(0, "b"), (2, "a")], false)]
    #[case::none_is_left(&[], false)]
    fn it_is_of_a_message_whose_alerts_are_the_same(#[case] now: &[(usize, &str)], #[case] is_of: bool) {
        let published = published(&[(0, "a"), (2, "b")]);
        assert_eq!(published.is_of(now.iter().map(|(place, id)| part(*place, id))), is_of);
    }

    #[test]
    fn what_does_not_fit_is_left_out_whole() {
        let few = published(&[(1, "a")]);
        let many = (0..200).filter(|n| n % 2 == 0).map(|n| part(n, "a")).collect();
        let messages = [(100, &many), (101, &few)];
        let told = write("alert-ips/1:C".to_owned(), 100, messages, 40);
        assert_eq!(read(100, &told), Ok(BTreeMap::from([(101, few)])));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_whoever_signs_it(
            settled in proptest::collection::btree_set(1..400_i64, 0..60),
            messages in proptest::collection::btree_map(0..500_i64, proptest::collection::btree_set(0..300_usize, 1..40), 0..12),
            next in 0..1_i64 << 40,
        ) {
            let mut beyond = Settled::default();
            for offset in settled {
                beyond.insert(next + offset..next + offset + 1);
            }
            let published = |places: BTreeSet<usize>| places.into_iter().map(|place| part(place, "a")).collect();
            let messages: BTreeMap<i64, Published> =
                messages.into_iter().map(|(distance, places)| (next + distance, published(places))).collect();
            let told = write(beyond.write(next, 4_096), next, messages.iter().map(|(at, published)| (*at, published)), 1 << 20);
            prop_assert!(told.bytes().all(|byte| byte.is_ascii_graphic()));
            prop_assert_eq!(read(next, &told), Ok(messages));
            prop_assert_eq!(Settled::read(next, &told), Ok(beyond));
            prop_assert_eq!(LogId::unsign(&told), (told.as_str(), None));
            let id = LogId::of("3vKy0ZxJQ0mPq1i8cT7w2A").unwrap();
            let signed = id.sign(&told);
            prop_assert_eq!(LogId::unsign(&signed), (told.as_str(), Some(id)));
        }

        #[test]
        fn any_text_is_read_or_refused(next in any::<i64>(), text in "alert-ips/1:[A-Z.,0-9a-f_-]{0,40}") {
            let _ = read(next, &text);
        }
    }
}
