//! Records that are decided and wait for a transaction, and those in the one that is on its way.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

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

/// Wait before a write that was refused, or a topic that refuses them all, is tried again.
const REFUSED_FOR: Duration = Duration::from_secs(1);

/// For a single record that wait doubles up to about a minute: each attempt costs all others their transaction.
const MOST_DOUBLINGS: u32 = 6;

/// Wait after a transaction that was aborted, for whatever reason, and where nothing may go into one yet.
const REST: Duration = Duration::from_millis(100);

/// After a transaction that Kafka did not take in time, or not for another reason than its writes, the next has half as
/// much; and after one that was committed twice as much again.
const MOST_HALVINGS: u32 = 10;

/// A decided record with all that it led to.
#[derive(Debug)]
pub(super) struct Ready {
    pub(super) record: RecordId,
    pub(super) writes: Vec<Write>,
    /// How often one of its writes was refused.
    refusals: u32,
    /// It is in no transaction before.
    not_before: BootTime,
}

impl Ready {
    fn new(record: RecordId, writes: Vec<Write>, refusals: u32) -> Self {
        Self { record, writes, refusals, not_before: BootTime::default() }
    }

    /// Waits, for longer each time, and holds none of the others back.
    pub(super) fn was_refused(&mut self, now: BootTime) {
        self.not_before = now + REFUSED_FOR * (1 << self.refusals.min(MOST_DOUBLINGS));
        self.refusals = self.refusals.saturating_add(1);
    }
}

/// A record in the transaction that is on its way. Its writes are with the transactor; this is what they stand for.
struct OnWay {
    record: RecordId,
    what: Vec<Written>,
    refusals: u32,
}

pub(super) struct Transactions {
    transactor: Transactor,
    ended: mpsc::Receiver<Transacted>,
    pub(super) queue: Queue,
    on_way: Option<Vec<OnWay>>,
    /// No transaction begins before.
    not_before: BootTime,
}

/// Records that wait for a transaction.
#[derive(Default)]
pub(super) struct Queue {
    waiting: VecDeque<Ready>,
    /// How many were passed over since something else was taken: no commit can tell yet that they are settled.
    passed_over: usize,
    /// How often the most that a transaction may have is halved.
    halvings: u32,
    /// No write to these is tried before.
    refused: HashMap<Destination, BootTime>,
}

impl Transactions {
    pub(super) fn new(transactor: Transactor, ended: mpsc::Receiver<Transacted>) -> Self {
        Self { transactor, ended, queue: Queue::default(), on_way: None, not_before: BootTime::default() }
    }

    /// Records that are decided and not in Kafka.
    pub(super) fn len(&self) -> usize {
        self.queue.waiting.len() + self.on_way.as_ref().map_or(0, Vec::len)
    }

    /// When another transaction may begin, if one is to.
    pub(super) fn next_round(&self) -> Option<BootTime> {
        let first = |ready: &Ready| self.not_before.max(self.queue.refused_until(ready));
        if self.on_way.is_some() { None } else { self.queue.waiting.iter().map(first).min() }
    }

    /// Whether a transaction may begin now.
    pub(super) fn may_begin(&self, now: BootTime) -> bool {
        self.on_way.is_none() && self.not_before <= now
    }

    /// Begins a transaction with these records, which settles partitions up to these points.
    pub(super) fn begin(&mut self, ready: Vec<Ready>, points: Vec<CommitPoint>, now: BootTime) {
        let mut batch = Batch { writes: Vec::new(), points };
        let split = |Ready { record, writes, refusals, .. }| {
            let (outgoing, what): (Vec<_>, _) =
                writes.into_iter().map(|write: Write| (write.outgoing, write.what)).unzip();
            batch.writes.extend(outgoing);
            OnWay { record, what, refusals }
        };
        let on_way: Vec<_> = ready.into_iter().map(split).collect();
        self.queue.passed_over = 0;
        match self.transactor.begin(batch) {
            Ok(()) => self.on_way = Some(on_way),
            Err(batch) => {
                let ready = joined(on_way, batch);
                self.queue.put_back(ready);
                self.not_before = now + REFUSED_FOR;
            }
        }
    }

    /// Waits for the end of the transaction on its way. `None`: the thread has ended by itself. Cancel safe.
    pub(super) async fn ended(&mut self) -> Option<Transacted> {
        self.ended.recv().await
    }

    /// The records of the transaction that has ended, and how.
    pub(super) fn taken_back(&mut self, transacted: Transacted) -> (Vec<Ready>, Vec<CommitPoint>, Outcome) {
        let Transacted { mut batch, outcome } = transacted;
        let points = std::mem::take(&mut batch.points);
        (joined(self.on_way.take().unwrap_or_default(), batch), points, outcome)
    }

    /// Waits a moment before the next one.
    pub(super) fn rest(&mut self, now: BootTime) {
        self.not_before = now + REST;
    }
}

impl Queue {
    pub(super) fn push(&mut self, record: RecordId, writes: Vec<Write>) {
        self.waiting.push_back(Ready::new(record, writes, 0));
    }

    /// Takes the records that come next, but for those that wait for a topic.
    pub(super) fn take(&mut self, now: BootTime) -> Vec<Ready> {
        let (mut taken, mut left, mut bytes) = (Vec::new(), VecDeque::new(), 0);
        while let Some(ready) = self.waiting.pop_front() {
            if taken.len() >= MOST_RECORDS >> self.halvings || bytes > MOST_BYTES >> self.halvings {
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

    /// So that all others come first: they can't go into a transaction before some of those have. True where all others were
    /// passed over as well.
    pub(super) fn pass_over(&mut self, ready: Vec<Ready>) -> bool {
        self.passed_over += ready.len();
        self.waiting.extend(ready);
        let all = self.passed_over >= self.waiting.len();
        if all {
            self.passed_over = 0;
        }
        all
    }

    /// To be told of each end of a transaction. `at_fault`: whether a write of it was the reason that it was aborted.
    pub(super) fn has_ended(&mut self, committed: bool, at_fault: bool) {
        if committed {
            self.halvings = self.halvings.saturating_sub(1);
        } else if !at_fault {
            self.halvings = (self.halvings + 1).min(MOST_HALVINGS);
        }
    }

    /// Waits before anything is written to this topic again.
    pub(super) fn was_refused(&mut self, to: Destination, now: BootTime) {
        self.refused.insert(to, now + REFUSED_FOR);
    }

    fn refused_until(&self, ready: &Ready) -> BootTime {
        let is_written = |to: Destination| ready.writes.iter().any(|write| write.outgoing.to == to);
        let of_topics = self.refused.iter().filter(|(to, _)| is_written(**to)).map(|(_, until)| *until);
        of_topics.max().unwrap_or_default().max(ready.not_before)
    }
}

/// The records with their writes again.
fn joined(on_way: Vec<OnWay>, batch: Batch) -> Vec<Ready> {
    let mut outgoing = batch.writes.into_iter();
    let join = |OnWay { record, what, refusals }| {
        let writes = what.into_iter().zip(&mut outgoing).map(|(what, outgoing)| Write { outgoing, what }).collect();
        Ready::new(record, writes, refusals)
    };
    on_way.into_iter().map(join).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records(ready: &[Ready]) -> Vec<u64> {
        ready.iter().map(|ready| ready.record.0).collect()
    }

    /// The oldest, whose commit makes room for others in the metadata, may have been decided last.
    #[test]
    fn what_no_commit_can_tell_yet_lets_all_others_pass() {
        let now = BootTime::default();
        let mut queue = Queue { halvings: MOST_HALVINGS, ..Queue::default() };
        let at_once = MOST_RECORDS >> MOST_HALVINGS;
        let all = 2 * at_once + 1;
        (0..).take(all).for_each(|record| queue.push(RecordId(record), Vec::new()));
        let mut passed_over = Vec::new();
        for (taken, was_last) in [(at_once, false), (at_once, false), (at_once, true)] {
            let ready = queue.take(now);
            assert_eq!(ready.len(), taken);
            passed_over.extend(records(&ready));
            assert_eq!(queue.pass_over(ready), was_last);
        }
        passed_over.truncate(all);
        assert_eq!(passed_over, (0..).take(all).collect::<Vec<_>>(), "each of them once");
        // And then they are tried again.
        assert_eq!(queue.take(now).len(), at_once);
    }
}
