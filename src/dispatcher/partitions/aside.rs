//! Records that found no room in the read window: only their offsets are kept, and they are read again when there is some.

use std::{collections::BTreeMap, mem, time::Duration};

use super::{Assigned, Partitions};
use crate::{
    domain::{
        record::{Partition, Receipt},
        time::BootTime,
    },
    pipeline::Claimant,
};

/// Most records set aside, of all partitions together: some megabytes of offsets. With more, nothing new is read.
pub(super) const MOST_ASIDE: usize = 200_000;

/// A partition is not read again more often; and where that has not come to its end, not until then.
const AGAIN_AFTER: Duration = Duration::from_secs(10);
const AGAIN_WITHOUT_END: Duration = Duration::from_mins(2);

/// Of one partition. An offset set aside is open, as one in the window is: nothing settles it before its record was read again.
#[derive(Debug, Default)]
pub(super) struct Aside {
    records: BTreeMap<i64, Claimant>,
    /// While the partition is read again: what is below was.
    again: Option<i64>,
    /// When that was asked for last.
    asked: Option<BootTime>,
}

impl Aside {
    pub(super) fn len(&self) -> usize {
        self.records.len()
    }

    /// A record that was read for the first time finds no room.
    pub(super) fn put(&mut self, offset: i64, claimant: Claimant) {
        self.records.insert(offset, claimant);
    }

    /// Whose a record is that was set aside.
    pub(super) fn claimant(&self, offset: i64) -> Option<Claimant> {
        self.records.get(&offset).copied()
    }

    /// A record that was set aside has found room.
    pub(super) fn take(&mut self, offset: i64) {
        self.records.remove(&offset);
    }

    /// Where to read again from, if that is due and some record would find room.
    pub(super) fn read_again_from(&mut self, now: BootTime, has_room: impl Fn(Claimant) -> bool) -> Option<i64> {
        let after = if self.again.is_some() { AGAIN_WITHOUT_END } else { AGAIN_AFTER };
        if self.asked.is_some_and(|asked| now.saturating_since(asked) < after) {
            return None;
        }
        let (first, _) = self.records.iter().find(|(_, claimant)| has_room(**claimant))?;
        self.asked = Some(now);
        Some(*first)
    }

    /// The partition is read again, from this offset on.
    pub(super) fn begin_again(&mut self, from: i64) {
        self.again = Some(from);
    }

    pub(super) fn is_read_again(&self) -> bool {
        self.again.is_some()
    }

    /// A record was read again. Returns what Kafka has removed since: of a partition that is read in order, what does not
    /// come back is not there any more. `last`: whether it is the last of those that were read before.
    pub(super) fn came_again(&mut self, offset: i64, last: bool) -> Vec<i64> {
        let removed = self.again.map_or_else(Vec::new, |from| self.remove_between(from, offset));
        self.again = (!last).then_some(offset + 1);
        removed
    }

    /// What comes now was not read before. Returns what Kafka has removed.
    pub(super) fn end_again(&mut self, next: i64) -> Vec<i64> {
        self.again.take().map_or_else(Vec::new, |from| self.remove_between(from, next))
    }

    /// Kafka has removed everything below `first`.
    pub(super) fn remove_below(&mut self, first: i64) -> Vec<i64> {
        self.remove_between(i64::MIN, first)
    }

    fn remove_between(&mut self, from: i64, end: i64) -> Vec<i64> {
        if self.records.range(from..end.max(from)).next().is_none() {
            return Vec::new();
        }
        let mut inside = self.records.split_off(&from);
        let mut beyond = inside.split_off(&end);
        self.records.append(&mut beyond);
        inside.into_keys().collect()
    }

    /// Nothing of it can be read again. Returns how many records that are.
    pub(super) fn lose_all(&mut self) -> usize {
        self.again = None;
        mem::take(&mut self.records).len()
    }
}

impl Partitions {
    /// A record that was opened finds no room.
    pub(in crate::dispatcher) fn set_aside(&mut self, receipt: &Receipt, claimant: Claimant) {
        if let Some(assigned) = self.assigned.get_mut(&receipt.partition) {
            assigned.aside.put(receipt.offset, claimant);
        }
    }

    /// A record that was set aside has found room.
    pub(in crate::dispatcher) fn take_back(&mut self, receipt: &Receipt) {
        if let Some(assigned) = self.assigned.get_mut(&receipt.partition) {
            assigned.aside.take(receipt.offset);
        }
    }

    /// How many records are set aside.
    pub(in crate::dispatcher) fn set_aside_in_all(&self) -> usize {
        self.assigned.values().map(|assigned| assigned.aside.len()).sum()
    }

    /// From which records on partitions are to be read again, as some of what is set aside would find room.
    pub(in crate::dispatcher) fn read_again(
        &mut self,
        now: BootTime,
        has_room: impl Fn(Claimant) -> bool,
    ) -> Vec<Receipt> {
        let due = self.assigned.iter_mut().filter_map(|(partition, assigned)| {
            let offset = assigned.aside.read_again_from(now, &has_room)?;
            Some(Receipt { partition: partition.clone(), offset, epoch: assigned.epoch })
        });
        due.collect()
    }

    /// The partition is read again from this record on; it begins with `first` now.
    pub(in crate::dispatcher) fn begun_again(&mut self, from: &Receipt, first: i64) {
        let assigned = self.assigned.get_mut(&from.partition).filter(|assigned| assigned.epoch == from.epoch);
        let Some(assigned) = assigned else { return };
        assigned.aside.begin_again(from.offset);
        let removed = assigned.aside.remove_below(first);
        self.settle_removed(&from.partition, &removed);
    }

    /// A record came of a partition that is read again.
    pub(super) fn came_again(&mut self, partition: &Partition, offset: i64) {
        let Some(Assigned { progress, aside, .. }) = self.assigned.get_mut(partition) else { return };
        let removed = if progress.was_read(offset) {
            aside.came_again(offset, !progress.was_read(offset + 1))
        } else {
            aside.end_again(offset)
        };
        self.settle_removed(partition, &removed);
    }

    fn settle_removed(&mut self, partition: &Partition, removed: &[i64]) {
        let Some(assigned) = self.assigned.get_mut(partition) else { return };
        for offset in removed {
            assigned.progress.settle(*offset);
            assigned.is_due = true;
        }
        self.removed(partition, removed.len());
    }

    /// Records that were set aside can't be read again.
    pub(super) fn removed(&mut self, partition: &Partition, records: usize) {
        if records > 0 {
            tracing::error!(
                %partition, records,
                "records were lost: they were set aside, for their account made too few calls, and kafka removed them before \
                 they were read again; raise retention.ms and retention.bytes of the topic, or the limits of the account"
            );
            self.removed.push((partition.clone(), records as u64));
        }
    }

    /// Records that were set aside and are not there any more, since it was asked last.
    pub(in crate::dispatcher) fn take_removed(&mut self) -> Vec<(Partition, u64)> {
        mem::take(&mut self.removed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(account: u16) -> Claimant {
        Claimant { account, is_high: false, alerts: 1 }
    }

    fn at(seconds: u64) -> BootTime {
        BootTime::from_origin(Duration::from_secs(seconds))
    }

    fn aside(offsets: impl IntoIterator<Item = i64>) -> Aside {
        let mut aside = Aside::default();
        offsets.into_iter().for_each(|offset| aside.put(offset, of(0)));
        aside
    }

    #[test]
    fn it_is_read_again_from_the_first_that_has_room_and_not_at_every_moment() {
        let mut aside = aside([5, 7]);
        aside.put(6, of(1));
        assert_eq!(aside.read_again_from(at(0), |_| false), None);
        assert_eq!(aside.read_again_from(at(0), |claimant| claimant.account == 1), Some(6));
        assert_eq!(aside.read_again_from(at(9), |_| true), None, "asked for a moment ago");
        assert_eq!(aside.read_again_from(at(10), |_| true), Some(5));
        aside.begin_again(5);
        assert_eq!(aside.read_again_from(at(60), |_| true), None, "under way");
        aside.end_again(5);
        assert_eq!(aside.read_again_from(at(60), |_| true), Some(5));
        aside.begin_again(5);
        assert_eq!(aside.read_again_from(at(180), |_| true), Some(5), "its end did not come");
    }

    #[test]
    fn what_does_not_come_again_where_others_do_was_removed() {
        let mut aside = aside([3, 5, 7, 9, 12]);
        aside.begin_again(5);
        assert!(aside.came_again(5, false).is_empty());
        assert_eq!(aside.came_again(8, false), [7]);
        assert!(aside.came_again(9, false).is_empty() && aside.is_read_again());
        assert_eq!(aside.end_again(13), [12]);
        assert!(!aside.is_read_again());
        assert_eq!(aside.len(), 3, "before it, and what came");
        assert_eq!((aside.remove_below(5), aside.claimant(3), aside.lose_all()), (vec![3], None, 2));
    }

    #[test]
    fn nothing_was_removed_where_it_was_not_read_again() {
        let mut aside = aside([3, 5]);
        assert!(aside.end_again(9).is_empty());
        assert_eq!(aside.len(), 2);
    }
}
