//! The open offsets of one partition, and how far it is settled.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    published::{self, Part, Published},
    settled::{Settled, Unreadable},
};

/// Lookups finish out of order; what may be committed is the lowest offset that is still open, and beside it which offsets
/// beyond it are settled, so that whoever reads the partition next redoes only what was open.
///
/// Only offsets that were read are known to be records: what lies between them (compaction, transaction markers) counts as
/// whatever is shorter to tell.
///
/// ```
/// # use alert_ips::domain::progress::Progress;
/// let mut progress = Progress::default();
/// progress.open(7);
/// progress.open(9);
/// progress.settle(9);
/// assert_eq!(progress.watermark(), Some(7));
/// assert!(progress.settled().contains(9));
/// progress.settle(7);
/// assert_eq!(progress.watermark(), Some(10));
/// ```
#[derive(Clone, Debug, Default)]
pub struct Progress {
    open: BTreeSet<i64>,
    /// Beyond the watermark: by this reader, and, from `end` on, by those before it.
    settled: Settled,
    /// What is published of offsets that are not settled.
    published: BTreeMap<i64, Published>,
    /// What is below it was read, or was settled by those before.
    end: Option<i64>,
    /// Where reading goes on: one past the highest offset read, or where it began.
    next: Option<i64>,
}

impl Progress {
    /// Goes on where another reader stopped: it had settled everything below `next`, and beyond it what it says.
    pub fn resume(next: i64, settled: Settled) -> Self {
        Self { settled, end: Some(next), next: Some(next), ..Self::default() }
    }

    /// The same, from a commit at `next` and what its metadata [says](Self::beyond). What it says of published alerts is left out
    /// where it can't be read: then they are published again.
    pub fn resume_committed(next: i64, beyond: &str) -> Result<Self, Unreadable> {
        let mut progress = Self::resume(next, Settled::read(next, beyond)?);
        progress.published = published::read(next, beyond).unwrap_or_default();
        progress.published.retain(|offset, _| !progress.settled.contains(*offset));
        Ok(progress)
    }

    /// Whether this offset was read before. Where it is not read again on purpose, the partition's log begins anew (its topic
    /// was recreated, or its end was lost), and what is known of the old one says nothing about it.
    pub fn was_read(&self, offset: i64) -> bool {
        self.next.is_some_and(|next| offset < next)
    }

    /// A record was read. False where it is settled already: then nothing is to be done.
    pub fn open(&mut self, offset: i64) -> bool {
        let settled = self.end.is_some_and(|end| offset < end) || self.settled.contains(offset);
        if !settled {
            self.open.insert(offset);
        }
        self.next = Some(offset + 1);
        self.end = self.end.max(self.next);
        self.forget_settled();
        !settled
    }

    /// Which alerts of a record that is not settled are published already.
    pub fn published(&self, offset: i64) -> Option<&Published> {
        self.published.get(&offset)
    }

    /// An alert of an open record is published, and others of it are not.
    pub fn publish(&mut self, offset: i64, part: Part) {
        if self.open.contains(&offset) {
            self.published.entry(offset).or_default().add(part);
        }
    }

    /// What was known to be published of a record is of no use: its alerts are others now.
    pub fn unpublish(&mut self, offset: i64) {
        self.published.remove(&offset);
    }

    /// Everything that follows from the record is acknowledged.
    pub fn settle(&mut self, offset: i64) {
        if !self.open.remove(&offset) {
            return;
        }
        self.published.remove(&offset);
        let mut settled = offset..offset + 1;
        // Of what is no record between two settled ones it is shorter to say that it is settled too.
        if let Some(earlier) = self.settled.before(offset)
            && self.open.range(earlier.end..offset).next().is_none()
        {
            settled.start = earlier.start;
        }
        if let Some(later) = self.settled.after(offset)
            && self.end.is_some_and(|end| later.start < end)
            && self.open.range(offset..later.start).next().is_none()
        {
            settled.end = later.end;
        }
        self.settled.insert(settled);
        self.forget_settled();
    }

    fn forget_settled(&mut self) {
        if self.open.is_empty() {
            self.end = self.end.map(|end| self.settled.end_of(end).unwrap_or(end));
        }
        if let Some(watermark) = self.watermark() {
            self.settled.forget_below(watermark);
            // Of records that were removed before they were read again.
            while self.published.first_key_value().is_some_and(|(offset, _)| *offset < watermark) {
                self.published.pop_first();
            }
        }
    }

    /// Where a reader must go on to miss nothing: the lowest offset that is not settled. `None` before the first record.
    pub fn watermark(&self) -> Option<i64> {
        self.open.first().copied().or(self.end)
    }

    /// What is settled beyond the watermark.
    pub fn settled(&self) -> &Settled {
        &self.settled
    }

    /// What a commit at the watermark says beside it, in at most so many bytes: what is settled beyond, and in what is left of
    /// them, what is published of open records.
    pub fn beyond(&self, most: usize) -> String {
        let Some(watermark) = self.watermark() else { return String::new() };
        let published = self.published.iter().map(|(offset, published)| (*offset, published));
        published::write(self.settled.write(watermark, most), watermark, published, most)
    }

    /// Whether all that is settled beyond the watermark can be told in so many bytes.
    pub fn is_told_in(&self, most: usize) -> bool {
        let Some(watermark) = self.watermark() else { return true };
        self.settled.longest(watermark, watermark) <= most || self.settled.write(watermark, usize::MAX).len() <= most
    }

    /// Whether reading is to wait for the oldest open records: else telling what is settled could take more than `most` bytes,
    /// however the open ones end. So many records are `on_their_way` whatever is said.
    ///
    /// Reading what those before have settled takes no more than is told already. And with nothing open, there is nothing to
    /// wait for: what is read next moves the watermark.
    pub fn must_wait(&self, most: usize, on_their_way: i64) -> bool {
        let (Some(watermark), Some(next), false) = (self.watermark(), self.next, self.open.is_empty()) else {
            return false;
        };
        let ahead = self.settled.longest(watermark, next.saturating_add(on_their_way));
        ahead > most && ahead > self.settled.longest(watermark, watermark)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;
    use crate::domain::alert::AlertId;

    /// The most bytes that telling what is settled may take, however the open records end.
    fn longest_text(progress: &Progress) -> usize {
        progress.settled().longest(progress.watermark().unwrap(), progress.end.unwrap())
    }

    /// As the next reader takes over.
    fn resumed(progress: &Progress) -> Progress {
        let watermark = progress.watermark().unwrap();
        let text = progress.settled().write(watermark, 4_096);
        assert!(text.len() <= longest_text(progress), "{text}");
        Progress::resume(watermark, Settled::read(watermark, &text).unwrap())
    }

    #[test]
    fn nothing_read_means_nothing_to_commit() {
        assert_eq!(Progress::default().watermark(), None);
    }

    /// A partition at its bound, taken over: of two tenants' records in turn one's are settled, and none of the other's.
    #[test]
    fn a_reader_that_takes_over_at_the_bound_reads_again_what_is_open() {
        let (most, on_their_way) = (400, 256);
        let mut before = Progress::default();
        let mut offset = 0;
        while !before.must_wait(most, on_their_way) {
            before.open(offset);
            if offset % 2 == 1 {
                before.settle(offset);
            }
            offset += 1;
        }
        let mut progress = resumed(&before);
        assert!(!progress.must_wait(most, on_their_way), "nothing is open");
        let again: Vec<_> = (0..offset).step_by(2).collect();
        for open in &again {
            assert!(*open > offset - on_their_way || !progress.must_wait(most, on_their_way), "at {open} of {offset}");
            assert!(progress.open(*open));
        }
        let further: Vec<_> = (offset..offset + 10).collect();
        for open in &further {
            assert!(progress.open(*open));
        }
        assert!(progress.must_wait(most, on_their_way), "beyond what is told it waits as before");
        for open in again.iter().chain(&further) {
            progress.settle(*open);
        }
        assert!(!progress.must_wait(most, on_their_way));
        assert_eq!(progress.watermark(), Some(offset + 10));
    }

    #[test]
    fn an_offset_below_the_last_one_was_read_before() {
        let mut progress = Progress::default();
        progress.open(10);
        assert!(!progress.was_read(11) && progress.was_read(10) && progress.was_read(0));
        // Of an offset beyond the end of the log the broker says that it is out of range, and reading begins earlier.
        assert!(Progress::resume(10, Settled::default()).was_read(9));
    }

    /// What comparable programs got wrong.
    #[rstest]
    // An empty text stands for a partition without anything beyond, not for one offset more or less.
    #[case::nothing_beyond(&[100, 101], &[100, 101], &[102], &[102])]
    #[case::one_behind_the_first(&[100, 101, 102], &[101], &[100, 101, 102], &[100, 102])]
    // Offsets that compaction or a transaction's markers took are never delivered, and must not stay open for ever.
    #[case::gaps(&[100, 103, 107, 109], &[103, 109], &[100, 107, 109, 112], &[100, 107, 112])]
    #[case::the_open_one_was_deleted_meanwhile(&[100, 101, 102], &[101], &[102, 103], &[102, 103])]
    // A commit that moves nothing on loses nothing.
    #[case::no_progress(&[100, 101], &[], &[100, 101], &[100, 101])]
    fn the_next_reader_opens_exactly_what_was_open(
        #[case] read: &[i64],
        #[case] settled: &[i64],
        #[case] delivered: &[i64],
        #[case] opened: &[i64],
    ) {
        let mut progress = Progress::default();
        assert!(read.iter().all(|offset| progress.open(*offset)));
        for offset in settled {
            progress.settle(*offset);
        }
        let mut next = resumed(&progress);
        let again: Vec<_> = delivered.iter().copied().filter(|offset| next.open(*offset)).collect();
        assert_eq!(again, opened);
        for offset in again {
            next.settle(offset);
        }
        assert_eq!(next.watermark(), delivered.last().map(|last| last + 1));
        assert!(next.settled().is_empty());
    }

    fn part(place: usize) -> Part {
        Part::of(place, &AlertId::parse("a").unwrap()).unwrap()
    }

    /// From reader to reader, until the record is settled or is gone.
    #[test]
    fn what_is_published_of_an_open_record_is_told_to_whoever_reads_it_next() {
        let mut progress = Progress::default();
        (7..=9).for_each(|offset| assert!(progress.open(offset)));
        progress.publish(8, part(2));
        progress.publish(9, part(1));
        progress.settle(9);
        progress.publish(9, part(3));
        let again = |progress: &Progress| {
            Progress::resume_committed(progress.watermark().unwrap(), &progress.beyond(4_096)).unwrap()
        };
        let mut second = again(&progress);
        assert_eq!(second.published(8), Some(&[part(2)].into_iter().collect()));
        assert_eq!((second.published(7), second.published(9)), (None, None), "open as a whole, and settled");
        // It was not even read again when the next took over.
        let mut third = again(&second);
        for progress in [&mut second, &mut third] {
            assert!(progress.open(7) && progress.open(8) && !progress.open(9));
            progress.publish(8, part(0));
            assert_eq!(progress.published(8), Some(&[part(0), part(2)].into_iter().collect()));
        }
        second.settle(8);
        assert_eq!((second.published(8), second.beyond(4_096)), (None, "alert-ips/1:G".to_owned()));
        third.unpublish(8);
        assert_eq!(third.published(8), None);
        // Kafka has removed both: nobody reads them again.
        let mut fourth = again(&progress);
        assert!(fourth.open(12));
        assert_eq!((fourth.published(8), fourth.beyond(4_096)), (None, String::new()));
    }

    /// As it is where nothing is settled beyond, and the notes are of another version.
    #[test]
    fn notes_that_can_not_be_read_cost_no_more_than_themselves() {
        let progress = Progress::resume_committed(7, "alert-ips/1:C.of another version").unwrap();
        assert!(progress.settled().contains(8));
        assert_eq!(progress.published(7), None);
    }

    #[test]
    fn what_was_settled_and_is_not_read_again_yet_stays_settled() {
        let mut progress = Progress::default();
        (0..1_000).for_each(|offset| assert!(progress.open(offset)));
        (1..1_000).filter(|offset| offset % 100 != 0).for_each(|offset| progress.settle(offset));
        let mut second = resumed(&progress);
        assert!(second.open(0) && !second.open(1));
        second.settle(0);
        assert_eq!(second.watermark(), Some(100), "everything before it was settled by the first");
        let mut third = resumed(&second);
        let open: Vec<_> = (100..1_000).filter(|offset| third.open(*offset)).collect();
        assert_eq!(open, (100..1_000).step_by(100).collect::<Vec<_>>());
    }

    #[test]
    fn a_storm_behind_one_parked_record_takes_a_few_bytes() {
        let mut progress = Progress::default();
        progress.open(0);
        for offset in 1..100_000 {
            progress.open(offset);
            progress.settle(offset);
        }
        assert_eq!((progress.watermark(), longest_text(&progress)), (Some(0), 12 + 5 + 2 + 1));
    }

    proptest! {
        /// Readers follow each other at any moment; whatever order records end in, each is settled once, and whoever comes
        /// last has settled all.
        #[test]
        fn readers_that_follow_each_other_settle_everything_once(
            offsets in proptest::collection::btree_set(0..600_i64, 1..200),
            lives in proptest::collection::vec((0..200_usize, proptest::collection::vec(any::<prop::sample::Index>(), 0..60)), 0..5),
        ) {
            let mut progress = Progress::default();
            let mut settled = BTreeSet::new();
            let everything = (offsets.len(), vec![]);
            for (life, (reads, ends)) in lives.into_iter().chain([everything]).enumerate() {
                let from = progress.watermark().unwrap_or(0);
                if life > 0 && progress.watermark().is_some() {
                    progress = resumed(&progress);
                }
                let mut open: Vec<i64> =
                    offsets.iter().copied().filter(|offset| *offset >= from).take(reads).filter(|offset| progress.open(*offset)).collect();
                prop_assert!(open.iter().all(|offset| !settled.contains(offset)), "settled twice");
                let last = ends.is_empty() && reads == offsets.len();
                for end in ends {
                    if open.is_empty() {
                        break;
                    }
                    let offset = open.swap_remove(end.index(open.len()));
                    let before = progress.watermark();
                    progress.settle(offset);
                    prop_assert!(progress.watermark() >= before);
                    settled.insert(offset);
                    prop_assert!(open.iter().all(|open| progress.watermark() <= Some(*open) && !progress.settled().contains(*open)));
                }
                if last {
                    for offset in open {
                        progress.settle(offset);
                        settled.insert(offset);
                    }
                }
            }
            prop_assert_eq!(&settled, &offsets);
            prop_assert_eq!(progress.watermark(), offsets.last().map(|last| last + 1));
        }
    }
}
