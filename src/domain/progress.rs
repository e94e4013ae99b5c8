//! The open offsets of one partition, and how far it is settled.

use std::collections::BTreeSet;

/// Lookups finish out of order; what may be committed is the lowest offset that is still open.
///
/// Only offsets that were read are known, so gaps (compaction, transaction markers) need no care.
///
/// ```
/// # use alert_ips::domain::progress::Progress;
/// let mut progress = Progress::default();
/// progress.open(7);
/// progress.open(9);
/// progress.settle(9);
/// assert_eq!(progress.watermark(), Some(7));
/// progress.settle(7);
/// assert_eq!(progress.watermark(), Some(10));
/// ```
#[derive(Clone, Debug, Default)]
pub struct Progress {
    open: BTreeSet<i64>,
    /// One past the highest offset ever opened.
    end: Option<i64>,
}

impl Progress {
    /// Whether this offset was read before: the partition's log begins anew (its topic was recreated, or its end was
    /// lost), and what is known of the old one says nothing about it.
    pub fn begins_anew(&self, offset: i64) -> bool {
        self.end.is_some_and(|end| offset < end)
    }

    /// A record was read.
    pub fn open(&mut self, offset: i64) {
        self.open.insert(offset);
        self.end = self.end.max(Some(offset + 1));
    }

    /// Everything that follows from the record is acknowledged.
    pub fn settle(&mut self, offset: i64) {
        self.open.remove(&offset);
    }

    /// Where a reader must go on to miss nothing: the lowest open offset, or the end. `None` before the first record.
    pub fn watermark(&self) -> Option<i64> {
        self.open.first().copied().or(self.end)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn nothing_read_means_nothing_to_commit() {
        assert_eq!(Progress::default().watermark(), None);
    }

    #[test]
    fn an_offset_read_before_means_that_the_log_begins_anew() {
        let mut progress = Progress::default();
        progress.open(10);
        assert!(!progress.begins_anew(11) && progress.begins_anew(10) && progress.begins_anew(0));
    }

    proptest! {
        /// In any order of completion, no open offset is ever below the watermark, and all settled means past the last.
        #[test]
        fn the_watermark_never_passes_an_open_offset(
            offsets in proptest::collection::btree_set(0..10_000_i64, 1..200),
            order in any::<prop::sample::Index>(),
            seed in any::<u64>(),
        ) {
            let mut progress = Progress::default();
            let mut open: Vec<i64> = offsets.iter().copied().collect();
            for offset in &offsets {
                progress.open(*offset);
            }
            let mut last = progress.watermark();
            let mut at = order.index(open.len());
            while !open.is_empty() {
                let settled = open.swap_remove(at % open.len());
                progress.settle(settled);
                prop_assert!(open.iter().all(|offset| progress.watermark() <= Some(*offset)));
                prop_assert!(progress.watermark() >= last);
                last = progress.watermark();
                at = at.wrapping_mul(31).wrapping_add(usize::try_from(seed % 97).unwrap());
            }
            prop_assert_eq!(progress.watermark(), offsets.last().map(|last| last + 1));
        }
    }
}
