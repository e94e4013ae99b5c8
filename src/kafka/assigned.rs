//! The partitions that are this instance's, and what goes between them and librdkafka's own types.

use std::{
    collections::HashSet,
    mem,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use jiff::Timestamp;
use rdkafka::{
    Offset, TopicPartitionList,
    message::{BorrowedMessage, Headers, Message},
    topic_partition_list::TopicPartitionListElem,
};

use crate::domain::{
    beginning::Place,
    commit_point::CommitPoint,
    log_id::LogId,
    record::{Epoch, Header, Partition, Receipt, Record},
};

/// The partitions that are this instance's now.
#[derive(Default)]
pub(super) struct Assigned {
    entries: Vec<Entry>,
    /// Where the last record's partition is in `entries`: records come in runs.
    last: usize,
    /// Whether a partition that was read again has come to what was not read before.
    caught_up: bool,
}

struct Entry {
    partition: Partition,
    epoch: Epoch,
    /// Where reading goes on, and in which log.
    place: Place,
    /// How far it was read. Reading goes on below that while it is read again.
    reached: i64,
    /// Whether, while it is read again, its end came first.
    end_came: bool,
    /// Whether a record or its end came since reading was resumed last.
    is_heard: bool,
}

impl Entry {
    fn is_read_again(&self) -> bool {
        self.place.next < self.reached
    }
}

impl Assigned {
    /// Takes up a partition, or begins anew with it. Returns it, with its name shared.
    pub(super) fn add(&mut self, partition: &Partition, epoch: Epoch, place: Place) -> Partition {
        // One allocation for a topic's name, however many partitions and records it has.
        let known = self.entries.iter().map(|known| &known.partition).find(|known| known.topic == partition.topic);
        let topic = known.map_or_else(|| Arc::clone(&partition.topic), |known| Arc::clone(&known.topic));
        let partition = Partition { topic, number: partition.number };
        self.entries.retain(|known| known.partition != partition);
        let reached = place.next;
        let entry = Entry { partition: partition.clone(), epoch, place, reached, end_came: false, is_heard: false };
        self.entries.push(entry);
        partition
    }

    /// Reading of a partition goes on elsewhere.
    pub(super) fn go_on_at(&mut self, partition: &Partition, next: i64) {
        if let Some(entry) = self.entries.iter_mut().find(|known| known.partition == *partition) {
            entry.end_came &= next >= entry.place.next;
            entry.place.next = next;
            entry.reached = entry.reached.max(next);
        }
    }

    /// Where reading goes on.
    pub(super) fn places(&self) -> impl Iterator<Item = (&Partition, Place)> {
        self.entries.iter().map(|entry| (&entry.partition, entry.place))
    }

    /// How far a partition was read.
    pub(super) fn reached(&self, partition: &Partition) -> Option<i64> {
        self.entries.iter().find(|known| known.partition == *partition).map(|entry| entry.reached)
    }

    /// Whether reading of a partition goes on below what was read of it.
    pub(super) fn is_read_again(&self, partition: &Partition) -> bool {
        self.entries.iter().any(|known| known.partition == *partition && known.is_read_again())
    }

    /// Whether a record is of the current assignment.
    pub(super) fn is_current(&self, Receipt { partition, epoch, .. }: &Receipt) -> bool {
        self.entries.iter().any(|known| known.partition == *partition && known.epoch == *epoch)
    }

    /// Whether, since it was asked last, a partition that was read again has come to what was not read before.
    pub(super) fn take_caught_up(&mut self) -> bool {
        mem::take(&mut self.caught_up)
    }

    /// A partition of some topic has no more records. True where that is not as far as it was read, once each time it is
    /// read again.
    pub(super) fn end_came(&mut self, number: i32) -> bool {
        let mut is_early = false;
        for entry in self.entries.iter_mut().filter(|known| known.partition.number == number) {
            entry.is_heard = true;
            is_early |= entry.is_read_again() && !mem::replace(&mut entry.end_came, true);
        }
        is_early
    }

    /// Partitions of which neither a record nor their end came since [`listen_anew`](Self::listen_anew).
    pub(super) fn unheard(&self) -> HashSet<Partition> {
        self.entries.iter().filter(|known| !known.is_heard).map(|known| known.partition.clone()).collect()
    }

    /// Reading is resumed.
    pub(super) fn listen_anew(&mut self) {
        self.entries.iter_mut().for_each(|entry| entry.is_heard = false);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(super) fn remove(&mut self, partitions: &[Partition]) {
        self.entries.retain(|known| !partitions.contains(&known.partition));
    }

    pub(super) fn clear(&mut self) -> Vec<Partition> {
        mem::take(&mut self.entries).into_iter().map(|entry| entry.partition).collect()
    }

    fn find(&self, topic: &str, number: i32) -> Option<usize> {
        let is_it = |known: &Entry| known.partition.number == number && *known.partition.topic == *topic;
        if self.entries.get(self.last).is_some_and(is_it) {
            return Some(self.last);
        }
        self.entries.iter().position(is_it)
    }

    /// Copies a message out of librdkafka; `None` for a partition that was given up meanwhile.
    pub(super) fn record(&mut self, message: &BorrowedMessage<'_>) -> Option<Record> {
        self.last = self.find(message.topic(), message.partition())?;
        let entry = self.entries.get_mut(self.last)?;
        let was_read_again = entry.is_read_again();
        entry.is_heard = true;
        entry.place.next = message.offset() + 1;
        self.caught_up |= was_read_again && !entry.is_read_again();
        entry.reached = entry.reached.max(entry.place.next);
        let Entry { partition, epoch, .. } = entry;
        Some(copied(message, partition.clone(), *epoch))
    }

    pub(super) fn list_where(&self, wanted: impl Fn(&Partition) -> bool) -> TopicPartitionList {
        let mut list = TopicPartitionList::with_capacity(self.entries.len());
        for partition in self.entries.iter().map(|known| &known.partition).filter(|known| wanted(known)) {
            list.add_partition(&partition.topic, partition.number);
        }
        list
    }

    pub(super) fn partitions(&self, list: &TopicPartitionList) -> Vec<Partition> {
        let found = list.elements().into_iter().filter_map(|element| self.find(element.topic(), element.partition()));
        found.map(|at| self.entries[at].partition.clone()).collect()
    }

    /// What is to be committed, as librdkafka takes it: only what is of the current assignment.
    pub(super) fn commit_list(&self, points: impl IntoIterator<Item = CommitPoint>) -> TopicPartitionList {
        let mut list = TopicPartitionList::new();
        for CommitPoint { partition, epoch, next, beyond } in points {
            let is_it = |known: &&Entry| known.partition == partition && known.epoch == epoch;
            let Some(Entry { place: Place { log, .. }, .. }) = self.entries.iter().find(is_it) else { continue };
            let mut element = list.add_partition(&partition.topic, partition.number);
            // Refused only for an offset that can't be one.
            if element.set_offset(Offset::Offset(next)).is_err() {
                tracing::error!(%partition, next, "no valid offset to commit");
            }
            let metadata = log.map_or(beyond.clone(), |log| log.sign(&beyond));
            if !metadata.is_empty() {
                element.set_metadata(metadata);
            }
        }
        list
    }

    /// How far partitions are settled, as librdkafka says it was committed.
    pub(super) fn points(&self, list: &TopicPartitionList) -> Vec<CommitPoint> {
        let point = |element: TopicPartitionListElem<'_>| {
            let Entry { partition, epoch, .. } = self.entries.get(self.find(element.topic(), element.partition())?)?;
            let Offset::Offset(next) = element.offset() else { return None };
            let beyond = LogId::unsign(element.metadata()).0.to_owned();
            Some(CommitPoint { partition: partition.clone(), epoch: *epoch, next, beyond })
        };
        list.elements().into_iter().filter_map(point).collect()
    }
}

/// The name of a header whose name is not UTF-8.
const UNREADABLE_NAME: &str = "unreadable";

/// A message as a record of its own.
pub(super) fn copied(message: &BorrowedMessage<'_>, partition: Partition, epoch: Epoch) -> Record {
    Record {
        receipt: Receipt { partition, offset: message.offset(), epoch },
        key: message.key().map(Into::into),
        payload: message.payload().map(Into::into),
        headers: message.headers().map(copy_headers).unwrap_or_default(),
        timestamp: message.timestamp().to_millis().and_then(|millis| Timestamp::from_millisecond(millis).ok()),
    }
}

fn copy_headers(headers: &impl Headers) -> Vec<Header> {
    (0..headers.count()).map(|index| copy_header(|| headers.get(index))).collect()
}

/// rdkafka panics on a header name that is not UTF-8, which Kafka lets pass. Such a record must not end the daemon, so
/// this needs a build in which panics unwind.
fn copy_header<'a>(read: impl FnOnce() -> rdkafka::message::Header<'a, &'a [u8]>) -> Header {
    match catch_unwind(AssertUnwindSafe(read)) {
        Ok(header) => Header { name: header.key.into(), value: header.value.map(Into::into) },
        Err(_) => Header { name: UNREADABLE_NAME.into(), value: None },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_name_that_is_not_utf_8_ends_nothing() {
        let unreadable = copy_header(|| panic!("not UTF-8"));
        assert_eq!(unreadable, Header { name: UNREADABLE_NAME.into(), value: None });
    }

    #[test]
    fn only_points_of_the_current_assignment_are_committed() {
        let mut assigned = Assigned::default();
        let place = Place { next: 0, log: LogId::of("3vKy0ZxJQ0mPq1i8cT7w2A") };
        let partitions =
            [0, 1].map(|number| assigned.add(&Partition { topic: "alerts".into(), number }, Epoch(3), place));
        let point = |at: usize, epoch| CommitPoint {
            partition: partitions[at].clone(),
            epoch: Epoch(epoch),
            next: 7,
            beyond: "alert-ips/1:C".to_owned(),
        };
        let commit = |assigned: &Assigned| assigned.points(&assigned.commit_list([point(0, 3), point(1, 2)]));
        assert_eq!(commit(&assigned), [point(0, 3)]);
        assigned.remove(&partitions[..1]);
        assert_eq!(commit(&assigned), []);
    }
}
