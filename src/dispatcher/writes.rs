//! Writes on their way to Kafka, and the records that wait for them.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use crate::{
    domain::time::BootTime,
    kafka::sink::{Refusal, Sink, WriteFailed, WriteId},
    pipeline::{RecordId, Write},
};

/// Wait before writes that failed, or that a broken producer refused, are sent again.
const AGAIN_AFTER: Duration = Duration::from_secs(1);

/// The writes that are not acknowledged yet. Each belongs to a record.
#[derive(Debug, Default)]
pub(super) struct Writes {
    last: usize,
    unacknowledged: HashMap<WriteId, (RecordId, Write)>,
    /// Not accepted by the sink yet, in their order.
    queue: VecDeque<WriteId>,
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
    pub(super) fn push(&mut self, record: RecordId, write: Write) {
        self.last += 1;
        let id = WriteId(self.last);
        self.unacknowledged.insert(id, (record, write));
        self.queue.push_back(id);
    }

    /// Ends a write: acknowledged, or to be replaced.
    pub(super) fn take(&mut self, id: WriteId) -> Option<(RecordId, Write)> {
        self.unacknowledged.remove(&id)
    }

    /// Sends a write again, after a pause.
    pub(super) fn again(&mut self, id: WriteId, now: BootTime) {
        if self.unacknowledged.contains_key(&id) {
            self.queue.push_back(id);
            self.not_before = now + AGAIN_AFTER;
        }
    }

    /// When the next round of sending is due, if any write waits.
    pub(super) fn next_round(&self) -> Option<BootTime> {
        (!self.queue.is_empty()).then_some(self.not_before)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.unacknowledged.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.unacknowledged.len()
    }

    /// Hands as much to the sink as it takes.
    pub(super) fn send(&mut self, sink: &Sink, now: BootTime) -> Option<Trouble> {
        if now < self.not_before {
            return None;
        }
        while let Some(id) = self.queue.front().copied() {
            let sent = self.unacknowledged.get(&id).map(|(_, write)| sink.send(id, &write.outgoing));
            match sent {
                None | Some(Ok(())) => {
                    self.queue.pop_front();
                }
                Some(Err(Refusal::QueueFull)) => return None,
                Some(Err(Refusal::Failed(failed))) => {
                    self.queue.pop_front();
                    return Some(Trouble::Failed(id, failed));
                }
                Some(Err(Refusal::Fatal(words))) => {
                    self.not_before = now + AGAIN_AFTER;
                    return Some(Trouble::Broken(words));
                }
            }
        }
        None
    }
}
