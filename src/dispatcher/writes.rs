//! Writes on their way to Kafka, and the records that wait for them.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    time::Duration,
};

use crate::{
    domain::{published::Part, record::Destination, time::BootTime},
    kafka::sink::{Refusal, Sink, WriteFailed, WriteId},
    pipeline::{RecordId, Write},
};

/// Wait before writes that failed, or that a broken producer refused, are sent again.
const AGAIN_AFTER: Duration = Duration::from_secs(1);

/// The writes that are not acknowledged yet. Each belongs to a record.
#[derive(Debug, Default)]
pub(super) struct Writes {
    last: usize,
    unacknowledged: HashMap<WriteId, Unacknowledged>,
    /// A topic that takes nothing must not hold up the others.
    queues: BTreeMap<Destination, Queue>,
    /// The producer takes nothing more until something is acknowledged.
    full: bool,
}

#[derive(Debug)]
pub(super) struct Unacknowledged {
    pub(super) record: RecordId,
    /// The alert it is of, where others of the record were not decided.
    pub(super) part: Option<Part>,
    pub(super) write: Write,
}

/// Writes for one topic that the sink has not accepted yet, in their order.
#[derive(Debug, Default)]
struct Queue {
    ids: VecDeque<WriteId>,
    /// Nothing is sent before.
    not_before: BootTime,
}

/// What one round of sending met.
#[derive(Debug)]
pub(super) enum Trouble {
    /// This write failed at once; it is no longer queued.
    Failed(WriteId, WriteFailed),
    /// The producer is of no more use, in words.
    Broken(String),
}

impl Writes {
    pub(super) fn push(&mut self, record: RecordId, part: Option<Part>, write: Write) {
        self.last += 1;
        let id = WriteId(self.last);
        self.queue(write.outgoing.to).ids.push_back(id);
        self.unacknowledged.insert(id, Unacknowledged { record, part, write });
    }

    /// Ends a write: acknowledged, or to be replaced.
    pub(super) fn take(&mut self, id: WriteId) -> Option<Unacknowledged> {
        self.full = false;
        self.unacknowledged.remove(&id)
    }

    /// Sends a write again, after a pause for its topic.
    pub(super) fn again(&mut self, id: WriteId, now: BootTime) {
        self.full = false;
        if let Some((_, to, _)) = self.of(id) {
            let queue = self.queue(to);
            queue.ids.push_back(id);
            queue.not_before = now + AGAIN_AFTER;
        }
    }

    /// As [`again`](Self::again), with the producer's timestamp instead of the write's own.
    pub(super) fn again_without_timestamp(&mut self, id: WriteId) {
        self.full = false;
        if let Some(Unacknowledged { write, .. }) = self.unacknowledged.get_mut(&id) {
            write.outgoing.timestamp = None;
            let to = write.outgoing.to;
            self.queue(to).ids.push_back(id);
        }
    }

    /// Forgets the writes of records that are not open any more, but for those that the sink has.
    pub(super) fn forget(&mut self, is_open: impl Fn(RecordId) -> bool) {
        let Self { unacknowledged, queues, .. } = self;
        for queue in queues.values_mut() {
            queue.ids.retain(|id| {
                let wanted = unacknowledged.get(id).is_some_and(|known| is_open(known.record));
                if !wanted {
                    unacknowledged.remove(id);
                }
                wanted
            });
        }
    }

    /// When the next round of sending is due, if any write waits for its time and not for room.
    pub(super) fn next_round(&self) -> Option<BootTime> {
        let waiting = self.queues.values().filter(|queue| !queue.ids.is_empty());
        waiting.map(|queue| queue.not_before).min().filter(|_| !self.full)
    }

    /// The record of a write that is not acknowledged, its topic, and whether it has a timestamp of its own.
    pub(super) fn of(&self, id: WriteId) -> Option<(RecordId, Destination, bool)> {
        let Unacknowledged { record, write, .. } = self.unacknowledged.get(&id)?;
        Some((*record, write.outgoing.to, write.outgoing.timestamp.is_some()))
    }

    pub(super) fn len(&self) -> usize {
        self.unacknowledged.len()
    }

    /// Hands as much to the sink as it takes. To be called again after each trouble.
    pub(super) fn send(&mut self, sink: &Sink, now: BootTime) -> Option<Trouble> {
        let all: Vec<_> = self.queues.keys().copied().collect();
        all.into_iter().find_map(|to| self.send_to(to, sink, now))
    }

    fn send_to(&mut self, to: Destination, sink: &Sink, now: BootTime) -> Option<Trouble> {
        while let Some(id) = self.next(to, now) {
            let sent = self.unacknowledged.get(&id).map(|known| sink.send(id, &known.write.outgoing));
            match sent {
                None | Some(Ok(())) => {
                    self.queue(to).ids.pop_front();
                }
                Some(Err(Refusal::QueueFull)) => self.full = true,
                Some(Err(Refusal::Failed(failed))) => {
                    self.queue(to).ids.pop_front();
                    return Some(Trouble::Failed(id, failed));
                }
                Some(Err(Refusal::Fatal(words))) => {
                    self.queues.values_mut().for_each(|queue| queue.not_before = now + AGAIN_AFTER);
                    return Some(Trouble::Broken(words));
                }
            }
        }
        None
    }

    fn next(&mut self, to: Destination, now: BootTime) -> Option<WriteId> {
        let full = self.full;
        let queue = self.queue(to);
        queue.ids.front().copied().filter(|_| !full && queue.not_before <= now)
    }

    fn queue(&mut self, to: Destination) -> &mut Queue {
        self.queues.entry(to).or_default()
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::{
        domain::{
            outcome::{Reason, Rejection},
            record::Outgoing,
        },
        pipeline::Written,
    };

    /// What the producer did not take may be all that there is: then nothing is acknowledged that could make room.
    #[rstest]
    #[case::acknowledged(|writes: &mut Writes, id| _ = writes.take(id))]
    #[case::refused(|writes: &mut Writes, id| writes.again(id, BootTime::default()))]
    #[case::refused_for_its_timestamp(Writes::again_without_timestamp)]
    fn whatever_comes_of_a_write_makes_room(#[case] ends: fn(&mut Writes, WriteId)) {
        let mut writes = Writes::default();
        let outgoing =
            Outgoing { to: Destination::DeadLetters, key: None, payload: None, headers: Vec::new(), timestamp: None };
        let rejection = Rejection { reason: Reason::NotJson, detail: String::new() };
        let what = Written::DeadLetter(rejection);
        for record in [1, 2] {
            writes.push(RecordId(record), None, Write { outgoing: outgoing.clone(), what: what.clone() });
        }
        writes.full = true;
        assert_eq!(writes.next_round(), None);
        ends(&mut writes, WriteId(1));
        assert!(writes.next_round().is_some());
    }
}
