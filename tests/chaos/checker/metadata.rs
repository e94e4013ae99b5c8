//! Reads which offsets a commit's metadata tells to be settled, from the published format alone.
//!
//! `alert-ips/1:` and then six bits a character, `A`-`Z`, `a`-`z`, `0`-`9`, `-`, `_`. Below 32: five offsets, the lowest bit
//! first, 1 for settled. From 32 on: a hexadecimal digit, the least first, of the length of a run that is open (32 to
//! 47) or settled (48 to 63); digits of one kind in a row are one number.
//!
//! Then, of open messages that are published in part: `.`, a hexadecimal distance, `,`, and such characters, at least six.

use std::ops::Range;

/// The settled ranges beyond the committed offset, in their order; `None` where it is no such text.
pub(super) fn settled(committed: i64, text: &str) -> Option<Vec<Range<i64>>> {
    if text.is_empty() {
        return Some(Vec::new());
    }
    let mut pieces = text.strip_prefix("alert-ips/1:")?.split('.');
    let values: Vec<i64> = pieces.next()?.chars().map(value).collect::<Option<_>>()?;
    if !pieces.all(is_published_in_part) {
        return None;
    }
    let mut ranges = Vec::new();
    let mut at = committed;
    let mut rest = &values[..];
    while let Some(first) = rest.first() {
        let kind = first / 16;
        if kind < 2 {
            let settled = (0..5).filter(|bit| first >> bit & 1 == 1).map(|bit| at + bit..at + bit + 1);
            ranges.extend(settled);
            at += 5;
            rest = &rest[1..];
            continue;
        }
        let digits = rest.iter().take_while(|value| *value / 16 == kind).count();
        let (number, others) = rest.split_at(digits);
        let length =
            number.iter().rev().try_fold(0_i64, |length, digit| length.checked_mul(16)?.checked_add(digit % 16))?;
        let end = at.checked_add(length)?;
        if kind == 3 {
            ranges.push(at..end);
        }
        at = end;
        rest = others;
    }
    Some(ranges)
}

fn is_published_in_part(text: &str) -> bool {
    text.split_once(',').is_some_and(|(distance, alerts)| {
        i64::from_str_radix(distance, 16).is_ok() && alerts.len() > 5 && alerts.chars().all(|one| value(one).is_some())
    })
}

fn value(character: char) -> Option<i64> {
    let (first, base) = match character {
        'A'..='Z' => ('A', 0),
        'a'..='z' => ('a', 26),
        '0'..='9' => ('0', 52),
        '-' => return Some(62),
        '_' => return Some(63),
        _ => return None,
    };
    Some(i64::from(u32::from(character) - u32::from(first)) + base)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::nothing("", Some(vec![]))]
    #[case::the_next_but_one("alert-ips/1:C", Some(vec![(101, 102)]))]
    #[case::lowest_first("alert-ips/1:a", Some(vec![(101, 102), (103, 104), (104, 105)]))]
    #[case::a_storm_behind_one("alert-ips/1:e0-z", Some(vec![(101, 102), (102, 103), (103, 104), (104, 105), (105, 1_101)]))]
    #[case::one_far_away("alert-ips/1:oujB", Some(vec![(1_100, 1_101)]))]
    #[case::published_in_part("alert-ips/1:C.0,OsuPCF.ff,ZSvfDpBhqpjigjhkkllkg", Some(vec![(101, 102)]))]
    #[case::only_that("alert-ips/1:.0,OsuPCF", Some(vec![]))]
    #[case::published_nowhere("alert-ips/1:C.,OsuPCF", None)]
    #[case::published_nothing("alert-ips/1:C.0,OsuPC", None)]
    #[case::of_others("{}", None)]
    #[case::newer("alert-ips/2:B", None)]
    #[case::no_character_of_it("alert-ips/1:B!", None)]
    #[case::beyond_all_offsets("alert-ips/1:____________________", None)]
    fn texts_are_read(#[case] text: &str, #[case] ranges: Option<Vec<(i64, i64)>>) {
        let told = settled(100, text);
        assert_eq!(told.map(|told| told.iter().map(|range| (range.start, range.end)).collect()), ranges);
    }
}
