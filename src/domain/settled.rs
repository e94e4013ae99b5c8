//! Which offsets beyond a watermark are settled, and the text that says so in a commit's metadata.
//!
//! The text is `alert-ips/1:` and then six bits a character, from the lowest offset up, in the order `A`-`Z`, `a`-`z`,
//! `0`-`9`, `-`, `_`. Below 32, the bits are five offsets, the lowest first, 1 for settled. From 32 on, four bits are a
//! hexadecimal digit, the least first, of how many offsets in a row are open (32 to 47) or settled (48 to 63). So a storm
//! behind one parked alert costs a few characters, and offsets settled at random a fifth of a character each.
//!
//! Open offsets at the end say nothing, and are not written: what stands there instead is a [`LogId`](super::log_id::LogId),
//! and before that, from the first `.` on, what is [published](super::published) of open messages.

use std::{collections::BTreeMap, ops::Range};

use super::published::MESSAGE;

/// What a text of ours begins with; the number is its version.
pub(super) const PREFIX: &str = "alert-ips/1:";

/// A run this long is shorter as a number than as bits.
const LONG: i64 = 6;

/// A range this long takes no more characters for itself than one for each five offsets.
const VERY_LONG: i64 = 20;

/// Offsets of one character of bits.
const BITS: i64 = 5;

pub(super) const OPEN_DIGIT: u8 = 0b10_0000;
pub(super) const SETTLED_DIGIT: u8 = 0b11_0000;

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// Ranges of settled offsets, which neither touch nor overlap.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settled {
    /// Their ends by their starts.
    ranges: BTreeMap<i64, i64>,
    /// Offsets of the [very long](VERY_LONG) ones.
    very_long: i64,
    /// The most characters that these take.
    characters: usize,
}

/// The metadata of a committed offset is not ours, or of a newer version: nothing is known beyond the offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the commit's metadata is none that this version reads; everything from the committed offset on is read again")]
pub struct Unreadable;

impl Settled {
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    pub fn contains(&self, offset: i64) -> bool {
        self.end_of(offset).is_some()
    }

    /// One past the last offset of the range that holds this one.
    pub fn end_of(&self, offset: i64) -> Option<i64> {
        self.before(offset.saturating_add(1)).map(|range| range.end).filter(|end| offset < *end)
    }

    /// The last range that begins before this offset.
    pub fn before(&self, offset: i64) -> Option<Range<i64>> {
        self.ranges.range(..offset).next_back().map(|(start, end)| *start..*end)
    }

    /// The first range that begins at this offset or after it.
    pub fn after(&self, offset: i64) -> Option<Range<i64>> {
        self.ranges.range(offset..).next().map(|(start, end)| *start..*end)
    }

    /// One past the last settled offset; `None` where nothing is settled.
    pub fn end(&self) -> Option<i64> {
        self.ranges.last_key_value().map(|(_, end)| *end)
    }

    /// Adds a range, and swallows those that it touches or overlaps.
    pub fn insert(&mut self, mut added: Range<i64>) {
        while let Some(earlier) = self.before(added.end.saturating_add(1)).filter(|range| range.end >= added.start) {
            self.remove(&earlier);
            added = added.start.min(earlier.start)..added.end.max(earlier.end);
        }
        let length = added.end - added.start;
        if length >= VERY_LONG {
            self.very_long += length;
            self.characters += most_characters(length);
        }
        self.ranges.insert(added.start, added.end);
    }

    fn remove(&mut self, range: &Range<i64>) {
        let length = range.end - range.start;
        if self.ranges.remove(&range.start).is_some() && length >= VERY_LONG {
            self.very_long -= length;
            self.characters -= most_characters(length);
        }
    }

    /// Forgets what lies below the watermark, where everything is settled.
    pub fn forget_below(&mut self, watermark: i64) {
        while let Some(range) = self.after(i64::MIN).filter(|range| range.start < watermark) {
            self.remove(&range);
            if range.end > watermark {
                self.insert(watermark..range.end);
            }
        }
    }

    /// The text for a commit at `next`, of at most `most` bytes: what does not fit is left out from the top, as if it were
    /// open. Empty where nothing is settled beyond.
    pub fn write(&self, next: i64, most: usize) -> String {
        let (text, _) = self.write_from(next, most.saturating_sub(PREFIX.len()));
        if text.is_empty() { text } else { format!("{PREFIX}{text}") }
    }

    /// The same without what the text begins with, and whether it says all.
    pub(super) fn write_from(&self, next: i64, most: usize) -> (String, bool) {
        let mut text = String::new();
        let mut says_all = true;
        let mut at = next;
        // Up to where it says that something is settled.
        let mut says = 0;
        while let Some(piece) = self.piece(&mut at) {
            if text.len() + piece.len() > most {
                says_all = false;
                break;
            }
            text.extend(piece.iter().map(|value| character(*value)));
            let is_open = piece.iter().all(|value| (OPEN_DIGIT..SETTLED_DIGIT).contains(value));
            says = if is_open { says } else { text.len() };
        }
        text.truncate(says);
        (text, says_all)
    }

    /// The next piece of the text, from `at` on: the bits of five offsets, or the digits of a run.
    fn piece(&self, at: &mut i64) -> Option<Vec<u8>> {
        let begin = *at;
        let (settled, run_end) = match self.end_of(begin) {
            Some(end) => (true, end),
            None => (false, self.after(begin)?.start),
        };
        if run_end - begin >= LONG {
            *at = run_end;
            return Some(number(run_end - begin, if settled { SETTLED_DIGIT } else { OPEN_DIGIT }));
        }
        *at = begin.saturating_add(BITS);
        let bit = |n: i64| u8::from(self.contains(begin.saturating_add(n))) << n;
        Some(vec![(0..BITS).map(bit).sum()])
    }

    /// Reads the metadata of a commit at `next`; what it says of [published](super::published) alerts is passed over.
    pub fn read(next: i64, text: &str) -> Result<Self, Unreadable> {
        if text.is_empty() {
            return Ok(Self::default());
        }
        let text = text.strip_prefix(PREFIX).ok_or(Unreadable)?;
        Self::read_from(next, text.split_once(MESSAGE).map_or(text, |(settled, _)| settled))
    }

    /// The same without what the text begins with.
    pub(super) fn read_from(next: i64, text: &str) -> Result<Self, Unreadable> {
        let mut settled = Self::default();
        let mut at = next;
        let mut values = text.bytes().map(value).peekable();
        while let Some(value) = values.next() {
            let value = value.ok_or(Unreadable)?;
            if value < OPEN_DIGIT {
                for bit in (0..BITS).filter(|bit| value >> bit & 1 == 1) {
                    let offset = at.checked_add(bit).ok_or(Unreadable)?;
                    settled.insert(offset..offset.checked_add(1).ok_or(Unreadable)?);
                }
                at = at.checked_add(BITS).ok_or(Unreadable)?;
                continue;
            }
            let kind = value & SETTLED_DIGIT;
            let (mut length, mut place) = (i64::from(value & 0xF), 1_i64);
            while let Some(next) = values.next_if(|next| next.is_some_and(|next| next & SETTLED_DIGIT == kind)) {
                place = place.checked_mul(16).ok_or(Unreadable)?;
                let digit = place.checked_mul(i64::from(next.ok_or(Unreadable)? & 0xF)).ok_or(Unreadable)?;
                length = length.checked_add(digit).ok_or(Unreadable)?;
            }
            let end = at.checked_add(length).ok_or(Unreadable)?;
            if kind == SETTLED_DIGIT && end > at {
                settled.insert(at..end);
            }
            at = end;
        }
        Ok(settled)
    }

    /// The most bytes that [`write`](Self::write) may need for a commit at `next`, whichever of the offsets from there to
    /// `end` are settled beside these.
    ///
    /// A character stands for five offsets at least, as bits or as a digit of a run, but for those of very long ranges.
    pub fn longest(&self, next: i64, end: i64) -> usize {
        let end = self.end().map_or(end, |last| end.max(last));
        let others = end.saturating_sub(next).saturating_sub(self.very_long).max(0);
        let bits = usize::try_from(others / BITS).unwrap_or(usize::MAX);
        bits.saturating_add(PREFIX.len() + self.characters + 1)
    }
}

/// The character of a value below 64.
pub(super) fn character(value: u8) -> char {
    char::from(ALPHABET[usize::from(value)])
}

/// The value of a character.
pub(super) fn value(character: u8) -> Option<u8> {
    ALPHABET.iter().zip(0..).find(|(known, _)| **known == character).map(|(_, value)| value)
}

/// What a very long range takes: its digits, one more where it grows, and bits that lie across its beginning.
fn most_characters(length: i64) -> usize {
    length.checked_ilog2().map_or(1, |bits| bits as usize / 4 + 1) + 2
}

fn number(mut length: i64, kind: u8) -> Vec<u8> {
    let mut number = Vec::new();
    while length > 0 {
        // Below 16.
        number.push(kind | u8::try_from(length & 0xF).unwrap_or_default());
        length >>= 4;
    }
    number
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    fn settled(offsets: impl IntoIterator<Item = i64>) -> Settled {
        let mut settled = Settled::default();
        offsets.into_iter().for_each(|offset| settled.insert(offset..offset + 1));
        settled
    }

    fn offsets(settled: &Settled) -> BTreeSet<i64> {
        settled.ranges.iter().flat_map(|(start, end)| *start..*end).collect()
    }

    /// The format, so that a change of it is seen.
    #[rstest]
    #[case::nothing(settled([]), "")]
    #[case::the_next_but_one(settled([101]), "alert-ips/1:C")]
    #[case::five_bits_lowest_first(settled([101, 103, 104]), "alert-ips/1:a")]
    #[case::a_storm_behind_one(settled(101..=1_100), "alert-ips/1:e0-z")]
    #[case::one_settled_far_away(settled([1_100]), "alert-ips/1:oujB")]
    fn the_text_is(#[case] settled: Settled, #[case] text: &str) {
        assert_eq!(settled.write(100, 4_096), text);
        assert_eq!(Settled::read(100, text), Ok(settled));
    }

    #[rstest]
    #[case::of_others("{\"offset\":7}")]
    #[case::newer("alert-ips/2:B")]
    #[case::no_character_of_ours("alert-ips/1:B!")]
    #[case::cut_prefix("alert-ips")]
    #[case::beyond_all_offsets("alert-ips/1:____________________")]
    fn what_is_not_understood_is_refused(#[case] text: &str) {
        assert_eq!(Settled::read(100, text), Err(Unreadable));
    }

    #[rstest]
    #[case::bits(i64::MAX - 3, "alert-ips/1:f")]
    #[case::run(i64::MAX - 3, "alert-ips/1:3")]
    fn no_offset_passes_the_last_one(#[case] next: i64, #[case] text: &str) {
        assert_eq!(Settled::read(next, text), Err(Unreadable));
    }

    /// However open and settled ones lie.
    #[rstest]
    #[case::every_other(2)]
    #[case::every_third(3)]
    #[case::one_in_ten(10)]
    fn four_kilobytes_tell_twenty_thousand_offsets(#[case] nth: i64) {
        let ranges = settled((1..20_000).filter(|offset| offset % nth == 0));
        assert!(ranges.longest(0, 20_000) < 4_096);
        let but_them = settled((1..20_000).filter(|offset| offset % nth != 0));
        assert!(but_them.longest(0, 20_000) < 4_096);
    }

    #[test]
    fn ranges_that_touch_become_one() {
        let mut ranges = settled([3, 5, 9]);
        ranges.insert(4..5);
        ranges.insert(8..12);
        assert_eq!(ranges.ranges, BTreeMap::from([(3, 6), (8, 12)]));
        ranges.forget_below(9);
        assert_eq!((ranges.ranges.clone(), ranges.very_long, ranges.characters), (BTreeMap::from([(9, 12)]), 0, 0));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(next in 0..1_i64 << 40, steps in proptest::collection::vec((1..40_i64, 1..300_i64), 0..200)) {
            let mut ranges = Settled::default();
            let mut at = next;
            for (open, length) in steps {
                at += open;
                ranges.insert(at..at + length);
                at += length;
            }
            let text = ranges.write(next, usize::MAX);
            prop_assert!(text.bytes().all(|byte| byte.is_ascii_graphic()));
            prop_assert_eq!(Settled::read(next, &text), Ok(ranges));
        }

        #[test]
        fn a_text_cut_to_fit_says_nothing_wrong(places in proptest::collection::btree_set(1..2_000_i64, 1..500), most in 0..200_usize) {
            let ranges = settled(places);
            let text = ranges.write(0, most);
            prop_assert!(text.len() <= most);
            prop_assert!(offsets(&Settled::read(0, &text).unwrap()).is_subset(&offsets(&ranges)));
        }

        /// However the open offsets are settled from here on.
        #[test]
        fn no_text_is_longer_than_was_foreseen(
            now in proptest::collection::btree_set(1..400_i64, 0..200),
            later in proptest::collection::btree_set(1..400_i64, 0..400),
            runs in proptest::collection::vec((1..400_i64, 1..60_i64), 0..6),
        ) {
            let mut ranges = settled(now);
            let end = 400;
            for (start, length) in runs {
                ranges.insert(start..(start + length).min(end));
            }
            let longest = ranges.longest(0, end);
            prop_assert!(ranges.write(0, usize::MAX).len() <= longest);
            for offset in later {
                ranges.insert(offset..offset + 1);
                let length = ranges.write(0, usize::MAX).len();
                prop_assert!(length <= longest, "{length} > {longest}");
            }
        }

        /// As tight as it must be where many ranges are just as long that they are told as numbers.
        #[test]
        fn no_text_of_many_runs_is_longer_than_was_foreseen(
            steps in proptest::collection::vec((1..9_i64, 1..40_i64), 1..80),
            later in proptest::collection::vec(any::<prop::sample::Index>(), 0..200),
        ) {
            let mut ranges = Settled::default();
            let mut end = 0;
            for (open, length) in steps {
                ranges.insert(end + open..end + open + length);
                end += open + length;
            }
            let longest = ranges.longest(0, end);
            for offset in later {
                let offset = i64::try_from(offset.index(usize::try_from(end).unwrap())).unwrap();
                ranges.insert(offset..offset + 1);
                let length = ranges.write(0, usize::MAX).len();
                prop_assert!(length <= longest, "{length} > {longest}");
            }
        }

        #[test]
        fn any_text_is_read_or_refused(next in any::<i64>(), text in "(alert-ips/1:)?[A-Za-z0-9_-]{0,40}") {
            let _ = Settled::read(next, &text);
        }
    }
}
