//! Between which offsets partitions hold records: what their leaders say.

use std::{collections::HashMap, time::Duration};

use rdkafka::{
    Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer as _},
    error::{KafkaError, KafkaResult, RDKafkaErrorCode as Code},
};

use super::{callbacks::Callbacks, place::LIMIT, source::Start};
use crate::domain::record::Partition;

/// So often, in one round, a question about several partitions may fail and be asked again about fewer; and how long each of
/// the later ones may take. A round takes less than 20 s.
const MOST_FAILURES: usize = 7;
const PART_LIMIT: Duration = Duration::from_secs(2);

type Offsets = HashMap<Partition, i64>;

/// Between which offsets partitions hold records, or why that is not known.
#[derive(Default)]
pub(super) struct Ends {
    errors: HashMap<Partition, KafkaError>,
    first: Offsets,
    end: Offsets,
    /// The first offset at a time or after it, where it was asked for.
    at_time: Offsets,
}

impl Ends {
    /// The oldest offset that is kept, and one past the newest.
    pub(super) fn of(&self, partition: &Partition) -> KafkaResult<(i64, i64)> {
        if let Some(error) = self.errors.get(partition) {
            return Err(error.clone());
        }
        let ends = self.first.get(partition).zip(self.end.get(partition));
        ends.map(|(first, end)| (*first, *end)).ok_or(KafkaError::OffsetFetch(Code::UnknownPartition))
    }

    fn extend(&mut self, more: Self) {
        self.errors.extend(more.errors);
        self.first.extend(more.first);
        self.end.extend(more.end);
        self.at_time.extend(more.at_time);
    }
}

/// Asks about each that can answer.
pub(super) fn ends(kafka: &BaseConsumer<Callbacks>, list: &TopicPartitionList) -> Ends {
    let mut asker = Asker::new(kafka, Start::Earliest);
    asker.ask(list);
    asker.ends
}

/// The same, and where partitions begin that nobody has read.
pub(super) struct Asker<'a> {
    kafka: &'a BaseConsumer<Callbacks>,
    start: Start,
    failures: usize,
    ends: Ends,
}

impl<'a> Asker<'a> {
    pub(super) fn new(kafka: &'a BaseConsumer<Callbacks>, start: Start) -> Self {
        Self { kafka, start, failures: 0, ends: Ends::default() }
    }

    /// librdkafka gives no answer at all where one of the partitions has none; then it is asked about halves.
    pub(super) fn ask(&mut self, list: &TopicPartitionList) {
        let limit = if self.failures == 0 { LIMIT } else { PART_LIMIT };
        match ask(self.kafka, list, self.start, limit) {
            Ok(ends) => self.ends.extend(ends),
            Err(error) => {
                self.failures += 1;
                if list.count() < 2 || self.failures >= MOST_FAILURES {
                    self.ends.errors.extend(partitions(list).map(|partition| (partition, error.clone())));
                    return;
                }
                for half in halves(list) {
                    self.ask(&half);
                }
            }
        }
    }

    /// Where the partition's records begin and end, and where the user wants a partition to be begun that nobody has read.
    pub(super) fn answer(&self, partition: &Partition) -> KafkaResult<(i64, i64, i64)> {
        let (first, end) = self.ends.of(partition)?;
        let fresh = match self.start {
            Start::Earliest => first,
            Start::Latest => end,
            // Without a record so late it begins at the end.
            Start::At(_) => self.ends.at_time.get(partition).copied().unwrap_or(end),
        };
        Ok((first, end, fresh))
    }
}

fn ask(kafka: &BaseConsumer<Callbacks>, list: &TopicPartitionList, start: Start, limit: Duration) -> KafkaResult<Ends> {
    const OLDEST: i64 = -2;
    const NEWEST: i64 = -1;
    let of = |time| offsets(kafka, list, time, limit);
    let at_time = if let Start::At(time) = start { of(time.as_millisecond())? } else { Offsets::new() };
    Ok(Ends { errors: HashMap::new(), first: of(OLDEST)?, end: of(NEWEST)?, at_time })
}

/// The first offsets of that time, in milliseconds, or one of Kafka's words for an end.
fn offsets(
    kafka: &BaseConsumer<Callbacks>,
    list: &TopicPartitionList,
    time: i64,
    limit: Duration,
) -> KafkaResult<Offsets> {
    let mut asked = TopicPartitionList::new();
    for element in list.elements() {
        asked.add_partition_offset(element.topic(), element.partition(), Offset::from_raw(time))?;
    }
    let mut offsets = Offsets::new();
    if asked.count() == 0 {
        return Ok(offsets);
    }
    for element in kafka.offsets_for_times(asked, limit)?.elements() {
        element.error()?;
        if let Offset::Offset(offset) = element.offset() {
            offsets.insert(Partition { topic: element.topic().into(), number: element.partition() }, offset);
        }
    }
    Ok(offsets)
}

fn partitions(list: &TopicPartitionList) -> impl Iterator<Item = Partition> {
    let elements = list.elements().into_iter();
    elements.map(|element| Partition { topic: element.topic().into(), number: element.partition() })
}

fn halves(list: &TopicPartitionList) -> Vec<TopicPartitionList> {
    let elements = list.elements();
    let part = |elements: &[rdkafka::topic_partition_list::TopicPartitionListElem<'_>]| {
        let mut part = TopicPartitionList::with_capacity(elements.len());
        for element in elements {
            part.add_partition(element.topic(), element.partition());
        }
        part
    };
    elements.chunks(elements.len().div_ceil(2).max(1)).map(part).collect()
}
