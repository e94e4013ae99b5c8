//! Entries on their way into the log: which of them share a message, and what became of it.

use std::{collections::VecDeque, time::Duration};

use crate::{
    crash_point::{self, Point},
    domain::{
        journal::{Body, Entry},
        time::BootTime,
    },
    kafka::journal::AppendId,
};

/// Most entries of a message.
const ENTRIES_OF_A_MESSAGE: usize = 64;

/// An answer with more addresses ends its message.
const MANY_ADDRESSES: usize = 256;

/// How long entries wait at most for the message before them to arrive. With few entries nothing is on its way, and none
/// waits; with many each message costs more than its entries do.
const GATHER: Duration = Duration::from_millis(5);

/// What is handed in together travels together, and so does what is handed in while a message is on its way.
#[derive(Default)]
pub(super) struct Outbox {
    /// Each goes alone, before the others: together they were too large.
    apart: VecDeque<Entry>,
    /// In order, and since when the first of them waits.
    unsent: Vec<Entry>,
    since: BootTime,
    /// In order.
    sent: VecDeque<Sent>,
}

/// A message on its way to the log and back.
struct Sent {
    id: AppendId,
    payload: Vec<u8>,
    entries: Vec<Entry>,
    acknowledged: bool,
    read: bool,
}

impl Outbox {
    pub(super) fn push(&mut self, entry: Entry, now: BootTime) {
        if self.unsent.is_empty() {
            self.since = now;
        }
        self.unsent.push(entry);
    }

    pub(super) fn push_apart(&mut self, entries: Vec<Entry>) {
        self.apart.extend(entries);
    }

    /// Until when what is unsent waits for company, if nothing arrives before.
    pub(super) fn held_until(&self) -> Option<BootTime> {
        let is_gathering = !self.unsent.is_empty() && self.unsent.len() < ENTRIES_OF_A_MESSAGE;
        let is_on_its_way = self.sent.back().is_some_and(|sent| !sent.read);
        (is_gathering && is_on_its_way && self.apart.is_empty()).then(|| self.since + GATHER)
    }

    /// The entries of the next message, if any are unsent.
    pub(super) fn next_message(&mut self) -> Option<Vec<Entry>> {
        if let Some(entry) = self.apart.pop_front() {
            return Some(vec![entry]);
        }
        let most = self.unsent.len().min(ENTRIES_OF_A_MESSAGE);
        let end = self.unsent[..most].iter().position(ends_message).map_or(most, |last| last + 1);
        let rest = self.unsent.split_off(end);
        let message = std::mem::replace(&mut self.unsent, rest);
        pass_each(&message, BEFORE_APPEND);
        (!message.is_empty()).then_some(message)
    }

    pub(super) fn sent(&mut self, id: AppendId, payload: Vec<u8>, entries: Vec<Entry>) {
        self.sent.push_back(Sent { id, payload, entries, acknowledged: false, read: false });
    }

    /// The entries of one of our own messages that comes back: they need not be read from it again.
    pub(super) fn read(&mut self, payload: &[u8]) -> Option<Vec<Entry>> {
        let sent = self.sent.iter_mut().find(|sent| !sent.read && sent.payload == payload)?;
        sent.read = true;
        let entries = sent.entries.clone();
        self.forget_arrived();
        Some(entries)
    }

    /// Reading begins anew: what comes back of what was sent is read like any other.
    pub(super) fn read_anew(&mut self) {
        self.sent.iter_mut().for_each(|sent| sent.read = true);
        self.forget_arrived();
    }

    pub(super) fn acknowledged(&mut self, id: AppendId) {
        if let Some(sent) = self.sent.iter_mut().find(|sent| sent.id == id) {
            sent.acknowledged = true;
            pass_each(&sent.entries, APPENDED);
        }
        self.forget_arrived();
    }

    /// The entries of a message that was not appended, or is not known to be.
    pub(super) fn take_back(&mut self, id: AppendId) -> Option<Vec<Entry>> {
        let place = self.sent.iter().position(|sent| sent.id == id)?;
        self.sent.remove(place).map(|sent| sent.entries)
    }

    /// Whether everything sent is known to be in the log.
    pub(super) fn is_acknowledged(&self) -> bool {
        self.sent.iter().all(|sent| sent.acknowledged)
    }

    fn forget_arrived(&mut self) {
        self.sent.retain(|sent| !(sent.acknowledged && sent.read));
    }
}

/// The crash points of claims, answers and checkpoints.
type Points = [Point; 3];

const BEFORE_APPEND: Points = [Point::ClaimBeforeAppend, Point::AnswerBeforeAppend, Point::CheckpointBeforeAppend];
const APPENDED: Points = [Point::ClaimAppended, Point::AnswerAppended, Point::CheckpointAppended];

fn pass_each(entries: &[Entry], [claim, answer, checkpoint]: Points) {
    for entry in entries {
        match &entry.body {
            Body::Claim(_) => crash_point::pass(claim),
            Body::Answer(_) => crash_point::pass(answer),
            Body::Checkpoint(_) => crash_point::pass(checkpoint),
            Body::Terms(_) | Body::Freeze(_) => {}
        }
    }
}

fn ends_message(entry: &Entry) -> bool {
    match &entry.body {
        Body::Checkpoint(_) => true,
        Body::Answer(answer) => {
            answer.outcome.as_ref().is_some_and(|outcome| outcome.ips.as_slice().len() > MANY_ADDRESSES)
        }
        _ => false,
    }
}
