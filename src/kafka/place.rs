//! Where partitions are read from: what the brokers say of them, and what follows from it.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    thread,
    time::Duration,
};

use rdkafka::{
    Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer as _},
    error::{KafkaResult, RDKafkaErrorCode as Code},
    metadata::MetadataPartition,
    types::RDKafkaRespErr,
};

use super::{callbacks::Callbacks, ends::Asker, notice, source::Start, waiting::Unplaced};
use crate::domain::{
    beginning::{Beginning, Place, Seen},
    commit_point::CommitPoint,
    log_id::LogId,
    record::{Epoch, Partition},
};

/// How long, and how often, the brokers are asked where partitions begin: a minute at most, in which others of the group
/// may have to wait, and less than the group waits for a member.
pub(super) const LIMIT: Duration = Duration::from_secs(5);
const SHORT_LIMIT: Duration = Duration::from_secs(1);
const ATTEMPTS: usize = 12;
pub(super) const PAUSE: Duration = Duration::from_millis(200);

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

    /// The partition, and where it is read on.
    pub(super) fn at(&self) -> (&Partition, i64) {
        (&self.partition, self.place.next)
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

/// What an operator must know where a group has committed nothing of partitions, in one text for each topic: nothing, or what
/// it had committed is gone.
pub(super) fn fresh_words(placed: &[Placed], group: &str, start: Start) -> Vec<String> {
    let mut topics: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for Placed { partition, .. } in placed.iter().filter(|placed| placed.beginning == Beginning::Fresh) {
        topics.entry(&partition.topic).or_default().push(partition.to_string());
    }
    let (place, input_start, cost) = match start {
        Start::Earliest => {
            ("their oldest records", "earliest".to_owned(), "what it had published of what is kept is published again")
        }
        Start::Latest => ("their ends", "latest".to_owned(), "what it had not read yet is skipped"),
        Start::At(time) => (
            "the first records of that time or a later one",
            time.to_string(),
            "what it had not read yet of before that time is skipped, and what it had published of after it is published \
             again",
        ),
    };
    let words = |partitions: Vec<String>| {
        format!(
            "the group {group} has committed nothing of {}: reading begins at {place}, as input.start = {input_start} says; \
             if this group has worked before, its offsets were removed in kafka (they expired, see \
             offsets.retention.minutes of the brokers, or somebody deleted them), and {cost}",
            partitions.join(", ")
        )
    };
    topics.into_values().map(words).collect()
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
pub(super) fn list<'a>(places: impl Iterator<Item = (&'a Partition, i64)>) -> KafkaResult<TopicPartitionList> {
    let mut list = TopicPartitionList::new();
    for (partition, next) in places {
        list.add_partition_offset(&partition.topic, partition.number, Offset::Offset(next))?;
    }
    Ok(list)
}

/// What Kafka says about partitions that were asked about.
pub(super) struct Answer {
    pub(super) placed: Vec<Placed>,
    pub(super) unplaced: Vec<Unplaced>,
}

/// Where each of the listed partitions is to be read from. `others_were_read`: whether others of a partition's topic were read
/// before, where this process knows. The ids of the topics must be known, if they ever are. An error means that it is not
/// known how far the group has committed, of any.
pub(super) fn placed(
    kafka: &BaseConsumer<Callbacks>,
    list: &TopicPartitionList,
    leaders: &Leaders,
    start: Start,
    others_were_read: impl Fn(&Partition) -> Option<bool>,
) -> KafkaResult<Answer> {
    let mut answer = Answer { placed: Vec::new(), unplaced: Vec::new() };
    let mut ready = Vec::new();
    let mut asked = TopicPartitionList::new();
    for element in kafka.committed_offsets(list.clone(), LIMIT)?.elements() {
        let partition = Partition { topic: element.topic().into(), number: element.partition() };
        if let Err(error) = element.error() {
            answer.unplaced.push(Unplaced { partition, why: notice::code(&error), others_were_read: None });
            continue;
        }
        let (beyond, log) = LogId::unsign(element.metadata());
        let before = if let Offset::Offset(next) = element.offset() { Some(Place { next, log }) } else { None };
        let others_were_read = match others_were_read(&partition) {
            _ if before.is_some() || start == Start::Earliest => false,
            Some(known) => known,
            None => is_read(kafka, &partition.topic)?,
        };
        if let Some(why) = leaders.obstacle(&partition) {
            answer.unplaced.push(Unplaced { partition, why, others_were_read: Some(others_were_read) });
            continue;
        }
        asked.add_partition(&partition.topic, partition.number);
        ready.push((partition, before, others_were_read, beyond.to_owned()));
    }
    let mut ends = Asker::new(kafka, start);
    ends.ask(&asked);
    for (partition, before, others_were_read, beyond) in ready {
        match ends.answer(&partition) {
            Ok((first, end, fresh)) => {
                let seen = Seen { before, log: kafka.context().ids.of(&partition.topic), first, end, others_were_read };
                answer.placed.push(Placed::new(partition, seen, fresh, &beyond));
            }
            Err(error) => {
                let others_were_read = Some(others_were_read);
                answer.unplaced.push(Unplaced { partition, why: notice::code(&error), others_were_read });
            }
        }
    }
    Ok(answer)
}

/// Which partitions are led by a broker.
pub(super) struct Leaders(HashMap<String, Result<HashSet<i32>, Code>>);

impl Leaders {
    /// Asks the cluster, and so lets librdkafka learn the topics' ids, and how many partitions they have.
    pub(super) fn ask<'a>(kafka: &BaseConsumer<Callbacks>, topics: impl Iterator<Item = &'a str>) -> KafkaResult<Self> {
        let mut leaders = HashMap::new();
        for topic in topics {
            let metadata = kafka.fetch_metadata(Some(topic), LIMIT)?;
            for known in metadata.topics().iter().filter(|known| known.name() == topic) {
                let led = known.partitions().iter().filter(|partition| partition.leader() >= 0);
                let led = known
                    .error()
                    .map_or_else(|| Ok(led.map(MetadataPartition::id).collect()), |error| Err(error.into()));
                leaders.insert(topic.to_owned(), led);
            }
        }
        Ok(Self(leaders))
    }

    /// Why it is of no use to ask about a partition.
    fn obstacle(&self, partition: &Partition) -> Option<Code> {
        match self.0.get(&*partition.topic) {
            Some(Ok(led)) if led.contains(&partition.number) => None,
            Some(Ok(_)) => Some(Code::LeaderNotAvailable),
            Some(Err(code)) => Some(*code),
            None => Some(Code::UnknownTopicOrPartition),
        }
    }
}

/// Whether there is such a topic; `None` where the cluster does not answer. One that seems to be missing is asked about twice: a
/// broker that has just started may not know yet what there is.
pub(super) fn is_there(kafka: &BaseConsumer<Callbacks>, topic: &str) -> Option<bool> {
    let ask = || {
        let metadata = kafka.fetch_metadata(Some(topic), SHORT_LIMIT).ok()?;
        let known = metadata.topics().iter().find(|known| known.name() == topic)?;
        Some(known.error() != Some(RDKafkaRespErr::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART))
    };
    if ask()? {
        return Some(true);
    }
    thread::sleep(PAUSE);
    ask()
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

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn placed(topic: &str, number: i32, before: Option<i64>) -> Placed {
        let before = before.map(|next| Place { next, log: None });
        let seen = Seen { before, log: None, first: 0, end: 9, others_were_read: false };
        Placed::new(Partition { topic: topic.into(), number }, seen, 0, "")
    }

    #[rstest]
    #[case::earliest(Start::Earliest, "their oldest records, as input.start = earliest says", "is published again")]
    #[case::latest(Start::Latest, "their ends, as input.start = latest says", "what it had not read yet is skipped")]
    #[case::a_time(
        Start::At("2026-11-01T00:00:00Z".parse().unwrap()),
        "the first records of that time or a later one, as input.start = 2026-11-01T00:00:00Z says",
        "what it had not read yet of before that time is skipped, and what it had published of after it is published again"
    )]
    fn where_the_group_has_committed_nothing_it_is_told_once_for_each_topic(
        #[case] start: Start,
        #[case] place: &str,
        #[case] cost: &str,
    ) {
        let all = [placed("a", 0, None), placed("b", 3, None), placed("a", 1, Some(4)), placed("a", 2, None)];
        let words = fresh_words(&all, "alert-ips", start);
        assert_eq!(words.len(), 2);
        assert!(words[0].starts_with("the group alert-ips has committed nothing of a/0, a/2: reading begins at "));
        assert!(words[1].contains("nothing of b/3: "), "{words:?}");
        for words in words {
            assert!(words.contains(place) && words.ends_with(cost), "{words}");
            assert!(words.contains("if this group has worked before, its offsets were removed in kafka"), "{words}");
        }
        assert!(fresh_words(&all[2..3], "alert-ips", start).is_empty(), "it goes on");
    }
}
