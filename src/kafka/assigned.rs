//! The partitions that are this instance's, and what goes between them and librdkafka's own types.

use std::{
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
}

struct Entry {
    partition: Partition,
    epoch: Epoch,
    /// Where reading goes on, and in which log.
    place: Place,
}

impl Assigned {
    /// Takes up a partition, or begins anew with it. Returns it, with its name shared.
    pub(super) fn add(&mut self, partition: &Partition, epoch: Epoch, place: Place) -> Partition {
        // One allocation for a topic's name, however many partitions and records it has.
        let known = self.entries.iter().map(|known| &known.partition).find(|known| known.topic == partition.topic);
        let topic = known.map_or_else(|| Arc::clone(&partition.topic), |known| Arc::clone(&known.topic));
        let partition = Partition { topic, number: partition.number };
        self.entries.retain(|known| known.partition != partition);
        self.entries.push(Entry { partition: partition.clone(), epoch, place });
        partition
    }

    /// Reading of a partition goes on elsewhere.
    pub(super) fn go_on_at(&mut self, partition: &Partition, next: i64) {
        if let Some(entry) = self.entries.iter_mut().find(|known| known.partition == *partition) {
            entry.place.next = next;
        }
    }

    /// Where reading goes on.
    pub(super) fn places(&self) -> impl Iterator<Item = (&Partition, Place)> {
        self.entries.iter().map(|entry| (&entry.partition, entry.place))
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
        let Entry { partition, epoch, place } = self.entries.get_mut(self.last)?;
        place.next = message.offset() + 1;
        Some(Record {
            receipt: Receipt { partition: partition.clone(), offset: message.offset(), epoch: *epoch },
            key: message.key().map(Into::into),
            payload: message.payload().map(Into::into),
            headers: message.headers().map(copy_headers).unwrap_or_default(),
            timestamp: message.timestamp().to_millis().and_then(|millis| Timestamp::from_millisecond(millis).ok()),
        })
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
