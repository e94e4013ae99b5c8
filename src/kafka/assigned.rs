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
    commit_point::CommitPoint,
    record::{Epoch, Header, Partition, Receipt, Record},
};

/// The partitions that are this instance's now, with the epoch of each.
#[derive(Default)]
pub(super) struct Assigned {
    entries: Vec<(Partition, Epoch)>,
    /// Where the last record's partition is in `entries`: records come in runs.
    last: usize,
}

impl Assigned {
    pub(super) fn add(&mut self, list: &TopicPartitionList, epoch: Epoch) -> Vec<Partition> {
        let mut added = Vec::with_capacity(list.count());
        for element in list.elements() {
            // One allocation for a topic's name, however many partitions and records it has.
            let known =
                self.entries.iter().map(|(partition, _)| partition).find(|known| *known.topic == *element.topic());
            let topic = known.map_or_else(|| Arc::from(element.topic()), |known| Arc::clone(&known.topic));
            let partition = Partition { topic, number: element.partition() };
            self.entries.retain(|(known, _)| *known != partition);
            self.entries.push((partition.clone(), epoch));
            added.push(partition);
        }
        added
    }

    pub(super) fn remove(&mut self, partitions: &[Partition]) {
        self.entries.retain(|(partition, _)| !partitions.contains(partition));
    }

    pub(super) fn clear(&mut self) -> Vec<Partition> {
        mem::take(&mut self.entries).into_iter().map(|(partition, _)| partition).collect()
    }

    fn find(&self, topic: &str, number: i32) -> Option<usize> {
        let is_it = |(partition, _): &(Partition, Epoch)| partition.number == number && *partition.topic == *topic;
        if self.entries.get(self.last).is_some_and(is_it) {
            return Some(self.last);
        }
        self.entries.iter().position(is_it)
    }

    /// Copies a message out of librdkafka; `None` for a partition that was given up meanwhile.
    pub(super) fn record(&mut self, message: &BorrowedMessage<'_>) -> Option<Record> {
        self.last = self.find(message.topic(), message.partition())?;
        let (partition, epoch) = self.entries.get(self.last)?;
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
        for (partition, _) in self.entries.iter().filter(|(partition, _)| wanted(partition)) {
            list.add_partition(&partition.topic, partition.number);
        }
        list
    }

    pub(super) fn partitions(&self, list: &TopicPartitionList) -> Vec<Partition> {
        let found = list.elements().into_iter().filter_map(|element| self.find(element.topic(), element.partition()));
        found.map(|at| self.entries[at].0.clone()).collect()
    }

    /// What is to be committed, as librdkafka takes it: only what is of the current assignment.
    pub(super) fn commit_list(&self, points: impl IntoIterator<Item = CommitPoint>) -> TopicPartitionList {
        let mut list = TopicPartitionList::new();
        for CommitPoint { partition, epoch, next, beyond } in points {
            if !self.entries.iter().any(|(known, of)| *known == partition && *of == epoch) {
                continue;
            }
            let mut element = list.add_partition(&partition.topic, partition.number);
            // Refused only for an offset that can't be one.
            if element.set_offset(Offset::Offset(next)).is_err() {
                tracing::error!(%partition, next, "no valid offset to commit");
            }
            if !beyond.is_empty() {
                element.set_metadata(beyond);
            }
        }
        list
    }

    /// How far partitions are settled, as librdkafka says it was committed.
    pub(super) fn points(&self, list: &TopicPartitionList) -> Vec<CommitPoint> {
        let point = |element: TopicPartitionListElem<'_>| {
            let (partition, epoch) = self.entries.get(self.find(element.topic(), element.partition())?)?;
            let Offset::Offset(next) = element.offset() else { return None };
            let beyond = element.metadata().to_owned();
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
        let mut list = TopicPartitionList::new();
        list.add_partition_range("alerts", 0, 1);
        let partitions = assigned.add(&list, Epoch(3));
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
