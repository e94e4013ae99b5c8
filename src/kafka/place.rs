//! Where partitions are read from: what the brokers say of them, and what follows from it.

use std::{collections::HashMap, thread, time::Duration};

use rdkafka::{
    Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer as _},
    error::{KafkaError, KafkaResult, RDKafkaErrorCode as Code},
    types::RDKafkaRespErr,
};

use super::{callbacks::Callbacks, notice, source::Start};
use crate::domain::{
    beginning::{Beginning, Place, Seen},
    commit_point::CommitPoint,
    log_id::LogId,
    record::{Epoch, Partition},
};

/// How long, and how often, the brokers are asked where partitions begin: a minute at most, in which others of the group
/// may have to wait, and less than the group waits for a member.
const LIMIT: Duration = Duration::from_secs(5);
const SHORT_LIMIT: Duration = Duration::from_secs(1);
const ATTEMPTS: usize = 12;
pub(super) const PAUSE: Duration = Duration::from_millis(200);

type Offsets = HashMap<Partition, i64>;

/// Between which offsets partitions hold records.
pub(super) struct Ends {
    first: Offsets,
    end: Offsets,
}

impl Ends {
    /// The oldest offset that is kept, and one past the newest.
    pub(super) fn of(&self, partition: &Partition) -> KafkaResult<(i64, i64)> {
        let ends = self.first.get(partition).zip(self.end.get(partition));
        ends.map(|(first, end)| (*first, *end)).ok_or(KafkaError::OffsetFetch(Code::UnknownPartition))
    }
}

/// Where one partition is to be read from.
pub(super) struct Placed {
    pub(super) partition: Partition,
    pub(super) beginning: Beginning,
    pub(super) place: Place,
    /// The metadata of the group's commit, without the log.
    beyond: String,
}

impl Placed {
    /// `fresh`: where it begins if nobody has read it.
    pub(super) fn new(partition: Partition, seen: Seen, fresh: i64, beyond: &str) -> Self {
        let beginning = seen.beginning();
        let next = match beginning {
            Beginning::GoesOn(next) => next,
            Beginning::Removed { to: first, .. }
            | Beginning::Recreated { first }
            | Beginning::LostItsEnd { first, .. }
            | Beginning::Added { first } => first,
            Beginning::Fresh => fresh,
        };
        Self { partition, beginning, place: Place { next, log: seen.log }, beyond: beyond.to_owned() }
    }

    /// Whether what is known of the partition holds no more.
    pub(super) fn is_anew(&self) -> bool {
        matches!(self.beginning, Beginning::Recreated { .. } | Beginning::LostItsEnd { .. })
    }

    /// How many offsets were removed before they were read.
    pub(super) fn removed(&self) -> Option<u64> {
        let Beginning::Removed { from, to } = self.beginning else { return None };
        u64::try_from(to - from).ok()
    }

    /// How far those before have settled it, or where it begins without them.
    pub(super) fn point(&self, epoch: Epoch) -> Result<CommitPoint, CommitPoint> {
        let point = |next, beyond| CommitPoint { partition: self.partition.clone(), epoch, next, beyond };
        match self.beginning {
            Beginning::GoesOn(next) | Beginning::Removed { from: next, .. } => Ok(point(next, self.beyond.clone())),
            _ => Err(point(self.place.next, String::new())),
        }
    }

    /// Says what an operator must know.
    pub(super) fn tell(&self) {
        let Self { partition, beginning, .. } = self;
        match beginning {
            Beginning::Removed { from, to } => tracing::error!(
                %partition, from, to,
                "records were lost: kafka removed the offsets from {from} to {} of {partition} before they were read; reading \
                 goes on with what is left; raise retention.ms and retention.bytes of the topic, or the limits of the \
                 account",
                to - 1
            ),
            Beginning::Recreated { first } => tracing::error!(
                %partition, first,
                "the topic {} was deleted and created anew: {partition} is read from its beginning, offset {first}, and \
                 nothing of the new topic is skipped; what was not read of the old one is gone with it; readers that drop \
                 repeats by ce_id must forget those of the old topic, for its offsets are used again",
                partition.topic
            ),
            Beginning::LostItsEnd { first, end, next } => tracing::error!(
                %partition, first, end, next,
                "{partition} ends at {end}, but was read up to {next}: records were lost in kafka, or the topic was deleted \
                 and created anew; it is read from its beginning, offset {first}, so that nothing is skipped, and what is \
                 there still is published again; look for an unclean leader election"
            ),
            Beginning::Added { first } => {
                tracing::info!(%partition, first, "the partition was added to its topic: it is read from its beginning");
            }
            Beginning::GoesOn(_) | Beginning::Fresh => {}
        }
    }
}

/// Tries as often as it may help.
pub(super) fn patiently<T>(ask: impl Fn() -> KafkaResult<T>) -> Option<T> {
    for _ in 0..ATTEMPTS {
        match ask() {
            Ok(answer) => return Some(answer),
            Err(error) => tracing::warn!(error = %notice::error_words(&error), "asking where to begin failed"),
        }
        thread::sleep(PAUSE);
    }
    None
}

/// As librdkafka takes it.
pub(super) fn list<'a>(placed: impl Iterator<Item = &'a Placed>) -> KafkaResult<TopicPartitionList> {
    let mut list = TopicPartitionList::new();
    for Placed { partition, place, .. } in placed {
        list.add_partition_offset(&partition.topic, partition.number, Offset::Offset(place.next))?;
    }
    Ok(list)
}

/// Where each of the listed partitions is to be read from. `was_read`: whether this process has read of a topic before.
/// The ids of the topics must be known, if they ever are.
pub(super) fn placed(
    kafka: &BaseConsumer<Callbacks>,
    list: &TopicPartitionList,
    start: Start,
    was_read: impl Fn(&str) -> bool,
) -> KafkaResult<Vec<Placed>> {
    let ends = ends(kafka, list)?;
    let fresh = if let Start::At(time) = start { offsets(kafka, list, time.as_millisecond())? } else { Offsets::new() };
    let mut all = Vec::with_capacity(list.count());
    for element in kafka.committed_offsets(list.clone(), LIMIT)?.elements() {
        element.error()?;
        let partition = Partition { topic: element.topic().into(), number: element.partition() };
        let (first, end) = ends.of(&partition)?;
        let (beyond, log) = LogId::unsign(element.metadata());
        let before = if let Offset::Offset(next) = element.offset() { Some(Place { next, log }) } else { None };
        let topic = &*partition.topic;
        let others_were_read =
            before.is_none() && start != Start::Earliest && (was_read(topic) || is_read(kafka, topic)?);
        let seen = Seen { before, log: kafka.context().ids.of(topic), first, end, others_were_read };
        let fresh = match start {
            Start::Earliest => first,
            Start::Latest => end,
            // Without a record so late it begins at the end.
            Start::At(_) => fresh.get(&partition).copied().unwrap_or(end),
        };
        all.push(Placed::new(partition, seen, fresh, beyond));
    }
    Ok(all)
}

/// Lets librdkafka learn the topics' ids, and how many partitions they have.
pub(super) fn ask_for_ids<'a>(
    kafka: &BaseConsumer<Callbacks>,
    topics: impl Iterator<Item = &'a str>,
) -> KafkaResult<()> {
    for topic in topics {
        kafka.fetch_metadata(Some(topic), LIMIT)?;
    }
    Ok(())
}

/// Whether the topic is not there. A cluster that does not answer has it.
pub(super) fn is_gone(kafka: &BaseConsumer<Callbacks>, topic: &str) -> bool {
    let Ok(metadata) = kafka.fetch_metadata(Some(topic), SHORT_LIMIT) else { return false };
    let known = metadata.topics().iter().find(|known| known.name() == topic);
    known.is_some_and(|known| known.error() == Some(RDKafkaRespErr::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART))
}

/// Whether the group has committed anything of the topic.
fn is_read(kafka: &BaseConsumer<Callbacks>, topic: &str) -> KafkaResult<bool> {
    let metadata = kafka.fetch_metadata(Some(topic), LIMIT)?;
    let partitions =
        metadata.topics().iter().find(|known| known.name() == topic).map_or(0, |known| known.partitions().len());
    let mut asked = TopicPartitionList::new();
    asked.add_partition_range(topic, 0, i32::try_from(partitions).unwrap_or(i32::MAX) - 1);
    let committed = kafka.committed_offsets(asked, LIMIT)?;
    Ok(committed.elements().iter().any(|element| matches!(element.offset(), Offset::Offset(_))))
}

/// The oldest offset and the end of each partition, by one question for each.
pub(super) fn ends(kafka: &BaseConsumer<Callbacks>, list: &TopicPartitionList) -> KafkaResult<Ends> {
    const OLDEST: i64 = -2;
    const NEWEST: i64 = -1;
    Ok(Ends { first: offsets(kafka, list, OLDEST)?, end: offsets(kafka, list, NEWEST)? })
}

/// The first offsets of that time, in milliseconds, or one of Kafka's words for an end.
fn offsets(kafka: &BaseConsumer<Callbacks>, list: &TopicPartitionList, time: i64) -> KafkaResult<Offsets> {
    let mut asked = TopicPartitionList::new();
    for element in list.elements() {
        asked.add_partition_offset(element.topic(), element.partition(), Offset::from_raw(time))?;
    }
    let mut offsets = Offsets::new();
    if asked.count() == 0 {
        return Ok(offsets);
    }
    for element in kafka.offsets_for_times(asked, LIMIT)?.elements() {
        element.error()?;
        if let Offset::Offset(offset) = element.offset() {
            offsets.insert(Partition { topic: element.topic().into(), number: element.partition() }, offset);
        }
    }
    Ok(offsets)
}
