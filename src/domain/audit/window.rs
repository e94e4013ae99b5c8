//! The fullest window of a limit's length, counted anew: not by the budget's own books.

use std::time::Duration;

use crate::domain::time::JournalTime;

/// The most calls that the service can have counted within one window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fullest {
    pub calls: usize,
    /// When that window ended.
    pub until: JournalTime,
}

/// The fullest window of length `per` that ends with a call's claim at `since` or later; the first of several. `spans`:
/// from when to when each call can have been counted.
///
/// Nobody but the service knows when within its span it counted a call. So a window counts every call whose span touches
/// it: no window can have held more, whenever the service counted each. A fuller one only begins with another claim, so it
/// suffices to look at those. Where the limits hold, this count is the one that the budget kept below them.
pub(super) fn fullest(spans: &[(JournalTime, JournalTime)], per: Duration, since: JournalTime) -> Option<Fullest> {
    let mut claims: Vec<_> = spans.iter().map(|(from, _)| *from).collect();
    let mut ends: Vec<_> = spans.iter().map(|(_, until)| *until).collect();
    claims.sort_unstable();
    ends.sort_unstable();
    let (mut fullest, mut left): (Option<Fullest>, usize) = (None, 0);
    for (claimed, at) in claims.iter().enumerate() {
        if claims.get(claimed + 1) == Some(at) {
            // Of several at the same time the last sees them all.
            continue;
        }
        // Calls that were over before the window began.
        left += ends[left..].iter().take_while(|end| **end + per < *at).count();
        let calls = claimed + 1 - left;
        if *at >= since && fullest.is_none_or(|known| calls > known.calls) {
            fullest = Some(Fullest { calls, until: *at });
        }
    }
    fullest
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    fn at(millis: u64) -> JournalTime {
        JournalTime::from_origin(Duration::from_millis(millis))
    }

    fn spans(of: &[(u64, u64)]) -> Vec<(JournalTime, JournalTime)> {
        of.iter().map(|(from, until)| (at(*from), at(*until))).collect()
    }

    #[rstest]
    #[case::none(&[], 0, None)]
    #[case::one(&[(50, 60)], 0, Some((1, 50)))]
    #[case::apart(&[(0, 10), (111, 120)], 0, Some((1, 0)))]
    #[case::a_slow_answer_reaches_into_the_next_window(&[(0, 11), (111, 120)], 0, Some((2, 111)))]
    #[case::at_the_same_time(&[(5, 6), (5, 9), (5, 7)], 0, Some((3, 5)))]
    #[case::before_the_period(&[(0, 1), (1, 2), (500, 501)], 400, Some((1, 500)))]
    #[case::from_before_the_period_into_it(&[(390, 391), (395, 396), (450, 451)], 400, Some((3, 450)))]
    #[case::nothing_in_the_period(&[(0, 1)], 400, None)]
    fn a_window_of_100_ms_holds_what_touches_it(
        #[case] of: &[(u64, u64)],
        #[case] since: u64,
        #[case] expected: Option<(usize, u64)>,
    ) {
        let found = fullest(&spans(of), Duration::from_millis(100), at(since));
        assert_eq!(found, expected.map(|(calls, until)| Fullest { calls, until: at(until) }));
    }

    fn any_spans() -> impl Strategy<Value = Vec<(u64, u64)>> {
        prop::collection::vec((0..2_000_u64, 0..300_u64).prop_map(|(from, lasts)| (from, from + lasts)), 0..60)
    }

    proptest! {
        #[test]
        fn it_is_what_looking_at_every_window_finds(of in any_spans(), per in 1..500_u64, since in 0..2_000_u64) {
            let touches = |end: u64| of.iter().filter(|(from, until)| *from <= end && until + per >= end).count();
            let ends = of.iter().map(|(from, _)| *from).filter(|from| *from >= since);
            let expected = ends.map(touches).max();
            let found = fullest(&spans(&of), Duration::from_millis(per), at(since));
            prop_assert_eq!(found.map(|found| found.calls), expected);
            if let Some(found) = found {
                let until = u64::try_from(found.until.since_origin().as_millis()).unwrap();
                prop_assert_eq!(touches(until), found.calls);
            }
        }

        /// Wherever in its span the service counted each call.
        #[test]
        fn no_window_can_have_held_more(of in any_spans(), per in 1..500_u64, places in prop::collection::vec(0.0..=1.0_f64, 60)) {
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss, reason = "a point in a short span")]
            let counted: Vec<u64> =
                of.iter().zip(places).map(|((from, until), place)| from + ((until - from) as f64 * place) as u64).collect();
            let in_window = |begin: u64| counted.iter().filter(|point| (begin..=begin + per).contains(*point)).count();
            let most = counted.iter().map(|point| in_window(*point)).max();
            let found = fullest(&spans(&of), Duration::from_millis(per), JournalTime::default());
            prop_assert!(most <= found.map(|found| found.calls), "{most:?} {found:?}");
        }
    }
}
