//! The assigned partitions: what is open in each, and what of it was committed.

use std::{collections::HashMap, mem};

use crate::{
    domain::{
        commit_point::CommitPoint,
        progress::Progress,
        record::{Epoch, Partition, Receipt},
    },
    kafka::notice::PartitionOffsets,
};

#[derive(Debug, Default)]
pub(super) struct Partitions {
    assigned: HashMap<Partition, Assigned>,
    last_log: Log,
    /// Logs that ended since [`take_ended`](Partitions::take_ended).
    ended: Vec<Log>,
}

/// One log of one partition within one assignment: a record of an earlier one settles nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Log(u64);

impl Log {
    pub(super) fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

#[derive(Debug)]
struct Assigned {
    epoch: Epoch,
    log: Log,
    progress: Progress,
    /// The offset that was asked to be committed last.
    committed: Option<i64>,
}

impl Partitions {
    pub(super) fn assign(&mut self, partitions: Vec<Partition>, epoch: Epoch) {
        for partition in partitions {
            self.begin(partition, epoch);
        }
    }

    /// Begins with nothing open; what was before ends.
    fn begin(&mut self, partition: Partition, epoch: Epoch) {
        self.last_log = self.last_log.next();
        let assigned = Assigned { epoch, log: self.last_log, progress: Progress::default(), committed: None };
        let earlier = self.assigned.insert(partition, assigned);
        self.ended.extend(earlier.map(|earlier| earlier.log));
    }

    /// Logs whose records are of no concern any more: given up, or begun anew.
    pub(super) fn take_ended(&mut self) -> Vec<Log> {
        mem::take(&mut self.ended)
    }

    /// Ends their logs. Returns how far they were settled.
    pub(super) fn give_up(&mut self, partitions: &[Partition]) -> Vec<CommitPoint> {
        let gone = partitions.iter().filter_map(|partition| {
            let assigned = self.assigned.remove(partition)?;
            self.ended.push(assigned.log);
            assigned.point(partition)
        });
        gone.collect()
    }

    /// Opens a record of a current assignment and returns its log. `None` for one of an earlier assignment.
    pub(super) fn open(&mut self, receipt: &Receipt) -> Option<Log> {
        let Receipt { partition, offset, epoch } = receipt;
        let assigned = self.assigned.get(partition).filter(|assigned| assigned.epoch == *epoch)?;
        if assigned.progress.begins_anew(*offset) {
            tracing::warn!(%partition, offset, "the partition begins anew: its topic was recreated or lost its end; reading it from here");
            self.begin(partition.clone(), *epoch);
        }
        let assigned = self.assigned.get_mut(partition)?;
        assigned.progress.open(*offset);
        Some(assigned.log)
    }

    pub(super) fn settle(&mut self, receipt: &Receipt, log: Log) {
        if let Some(assigned) = self.assigned.get_mut(&receipt.partition).filter(|assigned| assigned.log == log) {
            assigned.progress.settle(receipt.offset);
        }
    }

    /// What was settled and not yet asked to be committed; counts as asked from now on.
    pub(super) fn due(&mut self) -> Vec<CommitPoint> {
        let due = self.assigned.iter_mut().filter_map(|(partition, assigned)| {
            let point = assigned.point(partition).filter(|point| assigned.committed != Some(point.next))?;
            assigned.committed = Some(point.next);
            Some(point)
        });
        due.collect()
    }

    /// A commit failed: everything settled is due again.
    pub(super) fn commit_again(&mut self) {
        for assigned in self.assigned.values_mut() {
            assigned.committed = None;
        }
    }

    /// Records not settled yet, for each of our partitions whose end is known.
    pub(super) fn lags(&self, offsets: &[PartitionOffsets]) -> Vec<(Partition, i64)> {
        let lags = offsets.iter().filter_map(|known| {
            let partition = Partition { topic: known.topic.as_str().into(), number: known.number };
            let assigned = self.assigned.get(&partition)?;
            let settled = assigned.progress.watermark().or(known.committed)?;
            Some((partition, (known.end? - settled).max(0)))
        });
        lags.collect()
    }
}

impl Assigned {
    fn point(&self, partition: &Partition) -> Option<CommitPoint> {
        let next = self.progress.watermark()?;
        Some(CommitPoint { partition: partition.clone(), epoch: self.epoch, next })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn receipt(offset: i64) -> Receipt {
        Receipt { partition: Partition { topic: "in".into(), number: 0 }, offset, epoch: Epoch(1) }
    }

    fn assigned() -> Partitions {
        let mut partitions = Partitions::default();
        partitions.assign(vec![receipt(0).partition], Epoch(1));
        partitions
    }

    #[test]
    fn only_news_is_due() {
        let mut partitions = assigned();
        assert_eq!(partitions.due(), []);
        let log = partitions.open(&receipt(7)).unwrap();
        assert_eq!(partitions.due()[0].next, 7);
        assert_eq!(partitions.due(), []);
        partitions.settle(&receipt(7), log);
        assert_eq!(partitions.due()[0].next, 8);
        partitions.commit_again();
        assert_eq!(partitions.due()[0].next, 8);
    }

    #[test]
    fn a_log_that_begins_anew_is_committed_from_its_own_beginning() {
        let mut partitions = assigned();
        let old = partitions.open(&receipt(3)).unwrap();
        partitions.open(&receipt(10)).unwrap();
        let new = partitions.open(&receipt(3)).unwrap();
        assert_eq!(partitions.take_ended(), [old]);
        partitions.settle(&receipt(3), old);
        assert_eq!(partitions.due()[0].next, 3, "a record of the old log settled one of the new");
        partitions.settle(&receipt(3), new);
        assert_eq!(partitions.due()[0].next, 4);
    }

    #[test]
    fn records_of_an_earlier_assignment_are_not_opened() {
        let mut partitions = assigned();
        partitions.assign(vec![receipt(0).partition], Epoch(2));
        assert!(partitions.open(&receipt(1)).is_none());
        assert_eq!(partitions.give_up(&[receipt(0).partition]), []);
        assert_eq!(partitions.take_ended().len(), 2, "both logs ended");
    }
}
