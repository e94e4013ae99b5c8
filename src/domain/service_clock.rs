//! What time it is at the service: by its clock answers and updates of alerts are put in order, whatever this host takes the time of
//! day for.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::time::BootTime;

/// Two clocks that differ by no more count as one: answers are on their way for a while, and the service tells whole seconds.
pub const SKEW: Duration = Duration::from_secs(30);

/// The service's clock, by what its answers say.
#[derive(Clone, Copy, Debug, Default)]
pub struct ServiceClock {
    /// What it showed last, and when.
    heard: Option<(Timestamp, BootTime)>,
    /// How far ahead of this host's wall clock the operator was told that it is; zero where the two agree.
    told: SignedDuration,
}

impl ServiceClock {
    /// Takes what an answer that has just come says the time is (`Date`), while this host's clock shows `wall`. Returns what is
    /// news to an operator.
    pub fn hear(&mut self, date: Timestamp, now: BootTime, wall: Timestamp) -> Option<News> {
        self.heard = Some((date, now));
        let ahead = date.duration_since(wall);
        if ahead.unsigned_abs() <= SKEW / 2 && !self.told.is_zero() {
            self.told = SignedDuration::ZERO;
            return Some(News::Agrees);
        }
        let is_news = ahead.unsigned_abs() > SKEW && (ahead - self.told).unsigned_abs() > SKEW;
        is_news.then(|| {
            self.told = ahead;
            if ahead.is_positive() { News::Behind(ahead.unsigned_abs()) } else { News::Ahead(ahead.unsigned_abs()) }
        })
    }

    /// What it shows now; what this host's shows, until an answer has said so.
    pub fn at(self, now: BootTime, wall: Timestamp) -> Timestamp {
        let Some((date, heard)) = self.heard else { return wall };
        date.saturating_add(now.saturating_since(heard)).unwrap_or(wall)
    }
}

/// When an answer was given, which says itself that it was `sent` then: by this host's clock, which is finer, where that is not far
/// from it.
pub fn given_at(sent: Option<Timestamp>, wall: Timestamp) -> Timestamp {
    sent.filter(|sent| wall.duration_since(*sent).unsigned_abs() > SKEW).unwrap_or(wall)
}

/// What this host's clock is, measured by the service's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum News {
    Ahead(Duration),
    Behind(Duration),
    Agrees,
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn wall(second: i64) -> Timestamp {
        Timestamp::constant(1_800_000_000 + second, 0)
    }

    fn boot(second: u64) -> BootTime {
        BootTime::from_origin(Duration::from_secs(second))
    }

    #[test]
    fn what_it_shows_does_not_depend_on_this_hosts_wall_clock_once_it_was_heard() {
        let mut clock = ServiceClock::default();
        assert_eq!(clock.at(boot(10), wall(-5)), wall(-5));
        clock.hear(wall(100), boot(10), wall(99));
        for of_host in [99, -3_600, 9_999] {
            assert_eq!(clock.at(boot(70), wall(of_host)), wall(160));
        }
    }

    #[test]
    fn an_operator_hears_of_a_clock_that_is_wrong_once_and_again_where_it_is_more_so() {
        let mut clock = ServiceClock::default();
        let mut hear = |ahead: i64| clock.hear(wall(ahead), boot(1), wall(0));
        let (behind, ahead) =
            (|s| Some(News::Behind(Duration::from_secs(s))), |s| Some(News::Ahead(Duration::from_secs(s))));
        // Half a minute may be the way.
        assert_eq!([hear(-30), hear(-31), hear(-30), hear(-31)], [None, ahead(31), None, None]);
        // A drift is told each half minute.
        assert_eq!([hear(-50), hear(-62), hear(-90)], [None, ahead(62), None]);
        assert_eq!(
            [hear(1_003), hear(1_004), hear(20), hear(15), hear(-15)],
            [behind(1_003), None, None, Some(News::Agrees), None]
        );
    }

    #[rstest]
    #[case::agrees(Some(100), 101, 101)]
    #[case::host_is_ahead_or_the_answer_was_long_on_its_way(Some(100), 131, 100)]
    #[case::host_is_behind(Some(100), -3_500, 100)]
    #[case::the_service_does_not_say(None, 3_700, 3_700)]
    fn an_answer_is_given_when_it_says_itself(#[case] sent: Option<i64>, #[case] host: i64, #[case] given: i64) {
        assert_eq!(given_at(sent.map(wall), wall(host)), wall(given));
    }
}
