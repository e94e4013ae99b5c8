//! Records that are decided and wait for a transaction, and those in the one that is on its way.

use std::{collections::VecDeque, time::Duration};

use tokio::sync::mpsc;

use crate::{
    domain::{commit_point::CommitPoint, record::Destination, time::BootTime},
    kafka::transactor::{Batch, Outcome, Transacted, Transactor},
    pipeline::{RecordId, Write, Written},
};

/// Most records of one transaction, and most bytes: enough to share its cost, few enough that a failed one is soon made
/// again.
const MOST_RECORDS: usize = 10_000;
const MOST_BYTES: usize = 8 << 20;

/// Wait before a topic that refused a write is tried again.
const REFUSED_FOR: Duration = Duration::from_secs(1);

/// Wait after a transaction that was aborted, for whatever reason.
const ABORTED_FOR: Duration = Duration::from_millis(100);

/// A decided record with all that it led to.
#[derive(Debug)]
pub(super) struct Ready {
    pub(super) record: RecordId,
    pub(super) writes: Vec<Write>,
}

pub(super) struct Transactions {
    transactor: Transactor,
    ended: mpsc::Receiver<Transacted>,
    waiting: VecDeque<Ready>,
    /// Of the transaction on its way: the records, and what their writes stand for. The writes are with the transactor.
    on_way: Option<Vec<(RecordId, Vec<Written>)>>,
    /// No transaction begins before.
    not_before: BootTime,
    /// No write to these is tried before.
    refused: [(Destination, BootTime); 2],
}

impl Transactions {
    pub(super) fn new(transactor: Transactor, ended: mpsc::Receiver<Transacted>) -> Self {
        let refused = [Destination::Output, Destination::DeadLetters].map(|to| (to, BootTime::default()));
        Self { transactor, ended, waiting: VecDeque::new(), on_way: None, not_before: BootTime::default(), refused }
    }

    pub(super) fn push(&mut self, record: RecordId, writes: Vec<Write>) {
        self.waiting.push_back(Ready { record, writes });
    }

    /// Records that are decided and not in Kafka.
    pub(super) fn len(&self) -> usize {
        self.waiting.len() + self.on_way.as_ref().map_or(0, Vec::len)
    }

    /// When another transaction may begin, if one is to.
    pub(super) fn next_round(&self) -> Option<BootTime> {
        let first = |ready: &Ready| self.not_before.max(self.refused_until(ready));
        if self.on_way.is_some() { None } else { self.waiting.iter().map(first).min() }
    }

    /// Whether a transaction may begin now.
    pub(super) fn may_begin(&self, now: BootTime) -> bool {
        self.on_way.is_none() && self.not_before <= now
    }

    /// Takes the records that come next, but for those that wait for a topic.
    pub(super) fn take(&mut self, now: BootTime) -> Vec<Ready> {
        let (mut taken, mut left, mut bytes) = (Vec::new(), VecDeque::new(), 0);
        while let Some(ready) = self.waiting.pop_front() {
            if taken.len() == MOST_RECORDS || bytes > MOST_BYTES {
                left.push_back(ready);
                break;
            }
            if self.refused_until(&ready) > now {
                left.push_back(ready);
                continue;
            }
            bytes += ready.writes.iter().map(|write| write.outgoing.held_bytes()).sum::<usize>();
            taken.push(ready);
        }
        left.append(&mut self.waiting);
        self.waiting = left;
        taken
    }

    /// So that they come first the next time.
    pub(super) fn put_back(&mut self, ready: Vec<Ready>) {
        ready.into_iter().rev().for_each(|ready| self.waiting.push_front(ready));
    }

    /// Begins a transaction with these records, which settles partitions up to these points.
    pub(super) fn begin(&mut self, ready: Vec<Ready>, points: Vec<CommitPoint>, now: BootTime) {
        let mut batch = Batch { writes: Vec::new(), points };
        let split = |Ready { record, writes }| {
            let (outgoing, what): (Vec<_>, _) =
                writes.into_iter().map(|write: Write| (write.outgoing, write.what)).unzip();
            batch.writes.extend(outgoing);
            (record, what)
        };
        let on_way: Vec<(RecordId, Vec<Written>)> = ready.into_iter().map(split).collect();
        match self.transactor.begin(batch) {
            Ok(()) => self.on_way = Some(on_way),
            Err(batch) => {
                let ready = joined(on_way, batch);
                self.put_back(ready);
                self.not_before = now + REFUSED_FOR;
            }
        }
    }

    /// Waits for the end of the transaction on its way. Cancel safe.
    pub(super) async fn ended(&mut self) -> Transacted {
        match self.ended.recv().await {
            Some(transacted) => transacted,
            // The thread ends only with its owner.
            None => std::future::pending().await,
        }
    }

    /// The records of the transaction that has ended, and how.
    pub(super) fn taken_back(&mut self, transacted: Transacted) -> (Vec<Ready>, Vec<CommitPoint>, Outcome) {
        let Transacted { mut batch, outcome } = transacted;
        let points = std::mem::take(&mut batch.points);
        (joined(self.on_way.take().unwrap_or_default(), batch), points, outcome)
    }

    /// Waits a moment before the next one.
    pub(super) fn was_aborted(&mut self, now: BootTime) {
        self.not_before = now + ABORTED_FOR;
    }

    /// Waits before anything is written to this topic again.
    pub(super) fn was_refused(&mut self, to: Destination, now: BootTime) {
        self.refused.iter_mut().filter(|(known, _)| *known == to).for_each(|(_, until)| *until = now + REFUSED_FOR);
    }

    fn refused_until(&self, ready: &Ready) -> BootTime {
        let is_written = |to: Destination| ready.writes.iter().any(|write| write.outgoing.to == to);
        self.refused.iter().filter(|(to, _)| is_written(*to)).map(|(_, until)| *until).max().unwrap_or_default()
    }
}

/// The records with their writes again.
fn joined(on_way: Vec<(RecordId, Vec<Written>)>, batch: Batch) -> Vec<Ready> {
    let mut outgoing = batch.writes.into_iter();
    let join = |(record, what): (RecordId, Vec<Written>)| {
        let writes = what.into_iter().zip(&mut outgoing).map(|(what, outgoing)| Write { outgoing, what }).collect();
        Ready { record, writes }
    };
    on_way.into_iter().map(join).collect()
}
