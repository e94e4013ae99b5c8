//! Where reading of a partition begins, so that nothing is skipped and nothing done twice without a reason that is told.

use super::log_id::LogId;

/// What is known of a partition before it is read.
#[derive(Clone, Copy, Debug)]
pub struct Seen {
    /// Up to where it was read or settled before.
    pub before: Option<Place>,
    /// The log that is there now, where the cluster tells.
    pub log: Option<LogId>,
    /// The oldest offset that is kept, and one past the newest.
    pub first: i64,
    pub end: i64,
    /// Whether other partitions of the topic were read before.
    pub others_were_read: bool,
}

/// Where those before left off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    pub next: i64,
    /// In which log, where that was known.
    pub log: Option<LogId>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beginning {
    /// Where those before left off.
    GoesOn(i64),
    /// At the oldest record: those in between were removed before they were read.
    Removed { from: i64, to: i64 },
    /// At the oldest record: it is another topic of the same name.
    Recreated { first: i64 },
    /// At the oldest record: the log ends before the place where those before left off, so records were lost there, or the
    /// topic is another one, and what is there now was not read.
    LostItsEnd { first: i64, end: i64, next: i64 },
    /// At the oldest record: the partition was added to a topic that is read already.
    Added { first: i64 },
    /// Nobody has read the topic: where the user says.
    Fresh,
}

impl Seen {
    pub fn beginning(self) -> Beginning {
        let Self { before, log, first, end, others_were_read } = self;
        match before {
            Some(Place { log: Some(before), .. }) if log.is_some_and(|log| log != before) => {
                Beginning::Recreated { first }
            }
            Some(Place { next, .. }) if next > end => Beginning::LostItsEnd { first, end, next },
            Some(Place { next, .. }) if next < first => Beginning::Removed { from: next, to: first },
            Some(Place { next, .. }) => Beginning::GoesOn(next),
            None if others_were_read => Beginning::Added { first },
            None => Beginning::Fresh,
        }
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    const OLD: &str = "3vKy0ZxJQ0mPq1i8cT7w2A";
    const NEW: &str = "aX0Z4j2NTbSgVn7o5y1W8w";

    #[rstest]
    #[case::nothing_new(Some((10, OLD)), OLD, 0, 10, Beginning::GoesOn(10))]
    #[case::grown(Some((10, OLD)), OLD, 0, 30, Beginning::GoesOn(10))]
    #[case::aged_to_where_we_are(Some((10, OLD)), OLD, 10, 30, Beginning::GoesOn(10))]
    #[case::aged_past_us(Some((10, OLD)), OLD, 11, 30, Beginning::Removed { from: 10, to: 11 })]
    #[case::recreated_and_longer(Some((10, OLD)), NEW, 0, 30, Beginning::Recreated { first: 0 })]
    #[case::recreated_and_shorter(Some((10, OLD)), NEW, 0, 3, Beginning::Recreated { first: 0 })]
    #[case::recreated_and_aged(Some((10, OLD)), NEW, 20, 30, Beginning::Recreated { first: 20 })]
    #[case::lost_its_end(Some((10, OLD)), OLD, 2, 9, Beginning::LostItsEnd { first: 2, end: 9, next: 10 })]
    #[case::committed_by_an_earlier_version(Some((10, "")), NEW, 0, 30, Beginning::GoesOn(10))]
    #[case::a_cluster_without_ids(Some((10, OLD)), "", 0, 30, Beginning::GoesOn(10))]
    #[case::never_read(None, OLD, 0, 30, Beginning::Fresh)]
    fn reading_begins(
        #[case] before: Option<(i64, &str)>,
        #[case] log: &str,
        #[case] first: i64,
        #[case] end: i64,
        #[case] expected: Beginning,
    ) {
        let before = before.map(|(next, log)| Place { next, log: LogId::of(log) });
        let seen = Seen { before, log: LogId::of(log), first, end, others_were_read: false };
        assert_eq!(seen.beginning(), expected);
    }

    #[test]
    fn a_partition_of_a_topic_that_is_read_begins_at_its_beginning() {
        let seen = Seen { before: None, log: LogId::of(NEW), first: 0, end: 30, others_were_read: true };
        assert_eq!(seen.beginning(), Beginning::Added { first: 0 });
    }
}
