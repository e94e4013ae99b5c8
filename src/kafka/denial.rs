//! Learns that what was denied may be read again, where no record comes that would show it.
//!
//! librdkafka says once of each partition that reading it is denied, and goes on asking without a word. So the partitions
//! are fetched anew from time to time: each of them answers again, with a denial or with its end.

use std::time::Duration;

use crate::domain::time::BootTime;

/// So long a denial stands until it is tried again whether it still does.
const AGAIN_AFTER: Duration = Duration::from_secs(5);

/// What is known since reading was denied last.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Denial(Option<Standing>);

#[derive(Debug, PartialEq, Eq)]
struct Standing {
    /// When it was said, or tried again, last.
    since: BootTime,
    /// Partitions that were fetched anew and have not shown their end yet; zero where a denial came instead.
    unheard: usize,
}

impl Denial {
    /// Reading is denied.
    pub(super) fn said(&mut self, now: BootTime) {
        self.0 = Some(Standing { since: now, unheard: 0 });
    }

    /// Reading works, as is known from elsewhere.
    pub(super) fn is_over(&mut self) {
        self.0 = None;
    }

    /// Whether the partitions are to be fetched anew.
    pub(super) fn is_due(&self, now: BootTime) -> bool {
        self.0.as_ref().is_some_and(|standing| now.saturating_since(standing.since) >= AGAIN_AFTER)
    }

    /// So many partitions are fetched anew.
    pub(super) fn tried(&mut self, partitions: usize, now: BootTime) {
        self.0 = Some(Standing { since: now, unheard: partitions });
    }

    /// A partition was read to its end. True where with it all can be read again.
    pub(super) fn end_heard(&mut self) -> bool {
        let Some(standing) = self.0.as_mut().filter(|standing| standing.unheard > 0) else { return false };
        standing.unheard -= 1;
        let is_over = standing.unheard == 0;
        if is_over {
            self.0 = None;
        }
        is_over
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> BootTime {
        BootTime::from_origin(Duration::from_secs(seconds))
    }

    #[test]
    fn it_is_over_once_every_partition_that_was_fetched_anew_has_shown_its_end() {
        let mut denial = Denial::default();
        assert!(!denial.is_due(at(100)) && !denial.end_heard());
        denial.said(at(100));
        assert!(!denial.end_heard(), "an end that was on its way");
        assert_eq!((denial.is_due(at(104)), denial.is_due(at(105))), (false, true));
        denial.tried(2, at(105));
        assert!(!denial.is_due(at(106)) && !denial.end_heard());
        assert!(denial.end_heard());
        assert_eq!(denial, Denial::default());
    }

    #[test]
    fn it_stands_where_one_partition_is_denied_still_or_does_not_answer() {
        let mut denial = Denial::default();
        denial.said(at(100));
        denial.tried(2, at(105));
        assert!(!denial.end_heard());
        denial.said(at(105));
        assert!(!denial.end_heard(), "the end of the other one");
        assert!(denial.is_due(at(110)));
        denial.tried(2, at(110));
        assert!(!denial.end_heard() && denial.is_due(at(115)), "one was given up meanwhile");
        denial.is_over();
        assert!(!denial.is_due(at(200)));
    }
}
