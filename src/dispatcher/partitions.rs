//! The assigned partitions: what is open in each, and what of it was committed.

use std::collections::HashMap;

use tokio_util::sync::CancellationToken;

use crate::{
    domain::{
        commit_point::CommitPoint,
        progress::Progress,
        record::{Epoch, Partition, Receipt},
    },
    kafka::notice::PartitionOffsets,
};

#[derive(Debug, Default)]
pub(super) struct Partitions(HashMap<Partition, Assigned>);

#[derive(Debug)]
struct Assigned {
    epoch: Epoch,
    progress: Progress,
    /// The offset that was asked to be committed last.
    committed: Option<i64>,
    /// Ends the lives of the partition's records when it is given up.
    given_up: CancellationToken,
}

impl Partitions {
    pub(super) fn assign(&mut self, partitions: Vec<Partition>, epoch: Epoch) {
        for partition in partitions {
            let assigned =
                Assigned { epoch, progress: Progress::default(), committed: None, given_up: CancellationToken::new() };
            if let Some(earlier) = self.0.insert(partition, assigned) {
                earlier.given_up.cancel();
            }
        }
    }

    /// Ends the lives of their records. Returns how far they were settled.
    pub(super) fn give_up(&mut self, partitions: &[Partition]) -> Vec<CommitPoint> {
        let gone = partitions.iter().filter_map(|partition| {
            let assigned = self.0.remove(partition)?;
            assigned.given_up.cancel();
            assigned.point(partition)
        });
        gone.collect()
    }

    /// Opens a record of a current assignment; returns what ends its life early. `None` for one of an earlier assignment.
    pub(super) fn open(&mut self, receipt: &Receipt) -> Option<CancellationToken> {
        let assigned = self.current(receipt)?;
        assigned.progress.open(receipt.offset);
        Some(assigned.given_up.clone())
    }

    pub(super) fn settle(&mut self, receipt: &Receipt) {
        if let Some(assigned) = self.current(receipt) {
            assigned.progress.settle(receipt.offset);
        }
    }

    pub(super) fn is_current(&mut self, receipt: &Receipt) -> bool {
        self.current(receipt).is_some()
    }

    /// What was settled and not yet asked to be committed; counts as asked from now on.
    pub(super) fn due(&mut self) -> Vec<CommitPoint> {
        let due = self.0.iter_mut().filter_map(|(partition, assigned)| {
            let point = assigned.point(partition).filter(|point| assigned.committed != Some(point.next))?;
            assigned.committed = Some(point.next);
            Some(point)
        });
        due.collect()
    }

    /// A commit failed: everything settled is due again.
    pub(super) fn commit_again(&mut self) {
        for assigned in self.0.values_mut() {
            assigned.committed = None;
        }
    }

    /// Records not settled yet, for each of our partitions whose end is known.
    pub(super) fn lags(&self, offsets: &[PartitionOffsets]) -> Vec<(Partition, i64)> {
        let lags = offsets.iter().filter_map(|known| {
            let partition = Partition { topic: known.topic.as_str().into(), number: known.number };
            let assigned = self.0.get(&partition)?;
            let settled = assigned.progress.watermark().or(known.committed)?;
            Some((partition, (known.end? - settled).max(0)))
        });
        lags.collect()
    }

    fn current(&mut self, receipt: &Receipt) -> Option<&mut Assigned> {
        self.0.get_mut(&receipt.partition).filter(|assigned| assigned.epoch == receipt.epoch)
    }
}

impl Assigned {
    fn point(&self, partition: &Partition) -> Option<CommitPoint> {
        let next = self.progress.watermark()?;
        Some(CommitPoint { partition: partition.clone(), epoch: self.epoch, next })
    }
}
