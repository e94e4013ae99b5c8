//! Writes and commit points in transactions: a record is settled in the transaction that holds all that it led to. One at a
//! time; what is decided meanwhile shares the next.

use std::collections::HashSet;

use super::{
    Delivery, Dispatcher,
    remedy::{Remedy, instead_of_too_large},
    transactions::Ready,
};
use crate::{
    domain::{commit_point::CommitPoint, record::Partition},
    kafka::{
        sink::WriteFailed,
        transactor::{Outcome, Transacted},
    },
};

impl Dispatcher {
    /// Begins a transaction with what is decided, if none is on its way. `due`: also where only a place to begin is to be
    /// committed.
    pub(super) fn transact(&mut self, due: bool) {
        let now = self.clock.boot();
        let Delivery::ExactlyOnce(transactions) = &mut self.delivery else { return };
        if !transactions.may_begin(now) {
            return;
        }
        let mut ready = transactions.queue.take(now);
        // What is not open any more was given up with its partition.
        ready.retain(|ready| self.open.contains_key(&ready.record));
        if ready.is_empty() && !due {
            return;
        }
        let receipts = ready.iter().filter_map(|ready| self.open.get(&ready.record));
        let receipts: Vec<_> = receipts.map(|open| (&open.record.receipt, open.log)).collect();
        let (points, told) = self.partitions.transact(&receipts);
        let mut told = told.into_iter();
        let (now_told, later): (Vec<_>, Vec<_>) = ready.into_iter().partition(|_| told.next() == Some(true));
        let nothing_is_told = transactions.queue.pass_over(later);
        if !(points.is_empty() && now_told.is_empty()) {
            transactions.begin(now_told, points, now);
        } else if nothing_is_told {
            transactions.rest(now);
        }
    }

    pub(super) fn transacted(&mut self, transacted: Transacted) {
        let Delivery::ExactlyOnce(transactions) = &mut self.delivery else { return };
        let (ready, points, outcome) = transactions.taken_back(transacted);
        let committed = match &outcome {
            Outcome::Committed => true,
            Outcome::Aborted(_) => false,
            Outcome::Found(settled) => !settled.is_empty(),
        };
        let is_refused = |(_, failed): &(usize, WriteFailed)| !matches!(failed, WriteFailed::Retriable(_));
        transactions
            .queue
            .has_ended(committed, matches!(&outcome, Outcome::Aborted(failures) if failures.iter().any(is_refused)));
        self.reporting.metrics.transaction_ended(committed);
        match outcome {
            Outcome::Committed => ready.iter().for_each(|ready| self.committed_with(ready)),
            Outcome::Aborted(failures) => self.aborted(ready, &points, failures),
            Outcome::Found(settled) => self.found(ready, points, &settled),
        }
    }

    /// Kafka did not say how the transaction ended; these partitions are settled as far as it would have settled them.
    fn found(&mut self, ready: Vec<Ready>, mut points: Vec<CommitPoint>, settled: &HashSet<Partition>) {
        points.retain(|point| !settled.contains(&point.partition));
        let is_settled = |ready: &Ready| {
            // What is not open any more was given up with its partition.
            self.open.get(&ready.record).is_none_or(|open| settled.contains(&open.record.receipt.partition))
        };
        let (committed, rest): (Vec<_>, Vec<_>) = ready.into_iter().partition(is_settled);
        for ready in committed {
            if self.open.contains_key(&ready.record) {
                self.committed_with(&ready);
            }
        }
        if !(points.is_empty() && rest.is_empty()) {
            self.aborted(rest, &points, Vec::new());
        }
    }

    fn committed_with(&mut self, ready: &Ready) {
        ready.writes.iter().for_each(|write| self.count(write));
        if let Some(open) = self.open.remove(&ready.record) {
            self.partitions.settled_in_transaction(&open.record.receipt, open.log);
            self.window.release(&open.size);
        }
    }

    /// Nothing of it is in Kafka: all of it waits again, and what Kafka refused for good is replaced.
    fn aborted(&mut self, mut ready: Vec<Ready>, points: &[CommitPoint], failures: Vec<(usize, WriteFailed)>) {
        self.partitions.due_again(points);
        for (at, failed) in failures {
            self.refused_in_transaction(&mut ready, at, &failed);
        }
        let now = self.clock.boot();
        if let Delivery::ExactlyOnce(transactions) = &mut self.delivery {
            transactions.queue.put_back(ready);
            transactions.rest(now);
        }
    }

    fn refused_in_transaction(&mut self, ready: &mut [Ready], at: usize, failed: &WriteFailed) {
        let Some((ready, at)) = write_at(ready, at) else { return };
        let Some(write) = ready.writes.get_mut(at) else { return };
        let (to, now) = (write.outgoing.to, self.clock.boot());
        match Remedy::of(failed, to, write.outgoing.timestamp.is_some()) {
            Remedy::Replace { bytes } => {
                if let Some(open) = self.open.get(&ready.record) {
                    *write = instead_of_too_large(&open.record, write.what.clone(), bytes, self.clock.wall());
                }
            }
            Remedy::WithoutTimestamp => write.outgoing.timestamp = None,
            Remedy::Again => {}
            Remedy::AgainAlone => {
                ready.was_refused(now);
                self.reporting.output.refused_alone(to, failed.to_string());
            }
            Remedy::AgainAndTell => {
                self.reporting.output.refused(to, failed.to_string());
                if let Delivery::ExactlyOnce(transactions) = &mut self.delivery {
                    transactions.queue.was_refused(to, now);
                }
            }
        }
    }
}

/// The record of a write, and the write's place among the record's, by its place among those of all records.
fn write_at(ready: &mut [Ready], at: usize) -> Option<(&mut Ready, usize)> {
    let mut at = at;
    for ready in ready {
        match at.checked_sub(ready.writes.len()) {
            Some(beyond) => at = beyond,
            None => return Some((ready, at)),
        }
    }
    None
}
