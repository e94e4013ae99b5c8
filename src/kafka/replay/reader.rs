//! Reads the dead letters, and keeps the notes about them.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use rdkafka::{
    Message as _, Offset, TopicPartitionList,
    config::FromClientConfigAndContext,
    consumer::{BaseConsumer, CommitMode, Consumer},
    error::{KafkaError, RDKafkaErrorCode as Code},
    metadata::{MetadataPartition, MetadataTopic},
};
use tokio::sync::mpsc;

use super::{
    super::{
        assigned,
        client::{InvalidKafkaConfig, KafkaConfig},
        group,
        notice::{self, Client, News, Notice, Trouble},
        topics::{ClusterError, LIMIT, Listener},
    },
    POLL, Read, SILENCE, progress,
};
use crate::domain::{
    progress::Progress,
    record::{Epoch, Partition, Record},
    settled::Settled,
};

/// The dead letters that are there when it is opened. Those that come later are not read: what is sent back and rejected
/// again would be sent back for ever.
pub struct DeadLetters {
    config: KafkaConfig,
    kafka: BaseConsumer<Listener>,
    notices: mpsc::Receiver<Notice>,
    topic: Arc<str>,
    which: Read,
    /// The partitions that are not read to their end yet, and where they ended.
    unread: BTreeMap<i32, i64>,
    /// Of each partition: what was sent back is settled.
    notes: BTreeMap<i32, Progress>,
    /// As they were written down last: nobody else may write others meanwhile.
    written: BTreeMap<i32, (i64, String)>,
    /// The most bytes that the notes of a partition may take.
    most: usize,
}

impl DeadLetters {
    /// Opens the topic. `config` is the daemon's, `most` the most bytes of a commit's metadata.
    pub fn open(config: &KafkaConfig, topic: &str, which: Read, most: usize) -> Result<Self, ClusterError> {
        let config = KafkaConfig { group_id: format!("{}.replay", config.group_id), ..config.clone() };
        let (listener, notices) = Listener::new(&config);
        let kafka = BaseConsumer::from_config_and_context(&config.dead_letter_reader(), listener)
            .map_err(InvalidKafkaConfig::from)?;
        let (unread, notes) = (BTreeMap::new(), BTreeMap::new());
        let mut letters =
            Self { config, kafka, notices, topic: topic.into(), which, unread, notes, written: BTreeMap::new(), most };
        letters.place()?;
        Ok(letters)
    }

    fn place(&mut self) -> Result<(), ClusterError> {
        let topic = Arc::clone(&self.topic);
        let partitions: Vec<_> =
            self.partitions()?.into_iter().map(|number| Partition { topic: topic.clone(), number }).collect();
        let committed =
            group::committed_points(&self.config, partitions.iter()).map_err(|error| self.trouble(&error))?;
        let mut places = TopicPartitionList::new();
        for Partition { number, .. } in &partitions {
            let watermarks = self.kafka.fetch_watermarks(&topic, *number, LIMIT);
            let (first, end) = watermarks.map_err(|error| self.trouble(&error))?;
            let known = committed.iter().find(|(partition, ..)| partition.number == *number);
            let notes = known.map_or_else(|| progress(first, ""), |(_, next, beyond)| kept(*next, beyond, first, end));
            self.written.insert(*number, known.map(|(_, next, beyond)| (*next, beyond.clone())).unwrap_or_default());
            let begin = if self.which == Read::Unsent { notes.watermark().unwrap_or(first) } else { first };
            self.notes.insert(*number, notes);
            if begin < end {
                self.unread.insert(*number, end);
                places
                    .add_partition_offset(&topic, *number, Offset::Offset(begin))
                    .map_err(|error| self.trouble(&error))?;
            }
        }
        self.kafka.assign(&places).map_err(|error| self.trouble(&error))
    }

    /// The numbers of the topic's partitions.
    fn partitions(&self) -> Result<Vec<i32>, ClusterError> {
        let metadata = self.kafka.fetch_metadata(Some(&self.topic), LIMIT).map_err(|error| self.trouble(&error))?;
        let topic = metadata.topics().iter().find(|topic| topic.name() == &*self.topic);
        if let Some(code) = topic.and_then(MetadataTopic::error) {
            return Err(self.trouble(&KafkaError::MetadataFetch(code.into())));
        }
        Ok(topic.map(|topic| topic.partitions().iter().map(MetadataPartition::id).collect()).unwrap_or_default())
    }

    /// The next letter, and whether it counts as sent back already. `None`: all have been read.
    pub fn read(&mut self) -> Result<Option<(Record, bool)>, ClusterError> {
        let mut silent = Duration::ZERO;
        while !self.unread.is_empty() {
            match self.kafka.poll(POLL) {
                None => silent += POLL,
                Some(Err(KafkaError::PartitionEOF(number))) => drop(self.unread.remove(&number)),
                // It goes on by itself, or the silence ends it.
                Some(Err(error)) if !is_lasting(&error) => silent += POLL,
                Some(Err(error)) => return Err(self.trouble(&error)),
                Some(Ok(message)) => {
                    let (number, offset) = (message.partition(), message.offset());
                    let partition = Partition { topic: Arc::clone(&self.topic), number };
                    let record = assigned::copied(&message, partition, Epoch::default());
                    let end = self.unread.get(&number).copied().unwrap_or_default();
                    if offset + 1 >= end {
                        self.unread.remove(&number);
                    }
                    if offset < end {
                        let is_new = self.notes.get_mut(&number).is_some_and(|notes| notes.open(offset));
                        return Ok(Some((record, !is_new && self.which != Read::AllAnew)));
                    }
                }
            }
            if silent >= SILENCE {
                return Err(self.silence());
            }
        }
        Ok(None)
    }

    /// Notes that the letter at this place was sent back.
    pub fn note(&mut self, partition: &Partition, offset: i64) {
        if let Some(notes) = self.notes.get_mut(&partition.number) {
            notes.settle(offset);
        }
    }

    /// Writes the notes down. False where they don't say all: then some would be sent back once more.
    pub fn keep_notes(&mut self) -> Result<bool, ClusterError> {
        self.refuse_others()?;
        let (mut list, mut says_all) = (TopicPartitionList::new(), true);
        for (number, notes) in &self.notes {
            let Some(next) = notes.watermark() else { continue };
            let mut element = list.add_partition(&self.topic, *number);
            element.set_offset(Offset::Offset(next)).map_err(|error| self.trouble(&error))?;
            let beyond = notes.settled().write(next, self.most);
            element.set_metadata(beyond.clone());
            self.written.insert(*number, (next, beyond));
            says_all &= notes.is_told_in(self.most);
        }
        self.kafka.commit(&list, CommitMode::Sync).map_err(|error| group::trouble(&self.config, &error))?;
        Ok(says_all)
    }

    /// An error where another run notes what it sends: it would send the same, and each would write over the other's notes.
    pub fn refuse_others(&self) -> Result<(), ClusterError> {
        let topic = &self.topic;
        let partitions: Vec<_> =
            self.notes.keys().map(|number| Partition { topic: topic.clone(), number: *number }).collect();
        let committed =
            group::committed_points(&self.config, partitions.iter()).map_err(|error| self.trouble(&error))?;
        let is_ours = |(partition, next, beyond): &(Partition, i64, String)| {
            self.written.get(&partition.number).is_some_and(|(ours, said)| (ours, said) == (next, beyond))
        };
        if committed.iter().all(is_ours) {
            return Ok(());
        }
        let words =
            format!("another replay of {topic} is running: it has noted what this one has not; end one of them");
        Err(ClusterError::Trouble(Trouble::Other(words)))
    }

    fn trouble(&self, error: &KafkaError) -> ClusterError {
        group::trouble_about(&self.config, error, &format!("the dead letters {}", self.topic))
    }

    /// Why nothing comes, as far as librdkafka has said it beside.
    fn silence(&mut self) -> ClusterError {
        let servers = &self.config.bootstrap_servers;
        let mut last = notice::unreachable(Client::Admin, servers, "the dead letters could not be read in time");
        while let Ok(notice) = self.notices.try_recv() {
            if let News::Trouble(trouble) = notice.news {
                last = trouble;
            }
        }
        ClusterError::Trouble(last)
    }
}

/// What was noted, of a partition that has these records now.
fn kept(next: i64, beyond: &str, first: i64, end: i64) -> Progress {
    let mut settled = Settled::read(next, beyond).unwrap_or_default();
    if next > end || settled.end().is_some_and(|noted| noted > end) {
        // A topic that was created anew: the notes are about the old one.
        return Progress::resume(first, Settled::default());
    }
    // Of what Kafka has removed nothing is to be sent.
    let next = settled.end_of(first.max(next)).unwrap_or(first.max(next));
    settled.forget_below(next);
    Progress::resume(next, settled)
}

fn is_lasting(error: &KafkaError) -> bool {
    let lasting = [
        Code::TopicAuthorizationFailed,
        Code::GroupAuthorizationFailed,
        Code::UnknownTopicOrPartition,
        Code::OffsetOutOfRange,
        // That of what Kafka has removed meanwhile.
        Code::AutoOffsetReset,
        Code::Fatal,
    ];
    error.rdkafka_error_code().is_some_and(|code| lasting.contains(&code))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    /// Offset 0 was left alone, 1 to 9 were sent back.
    fn noted() -> String {
        let mut settled = Settled::default();
        settled.insert(1..10);
        settled.write(0, 1_000)
    }

    #[rstest]
    #[case::as_before(0, 20, 0, true)]
    #[case::kafka_removed_the_one_that_was_left_alone(1, 20, 10, true)]
    #[case::and_some_that_were_sent(5, 20, 10, true)]
    #[case::and_all_that_were_sent(12, 20, 12, true)]
    #[case::created_anew_and_shorter(0, 5, 0, false)]
    fn notes_outlive_what_kafka_removes(#[case] first: i64, #[case] end: i64, #[case] next: i64, #[case] knows: bool) {
        let mut notes = kept(0, &noted(), first, end);
        assert_eq!(notes.watermark(), Some(next));
        assert_eq!(notes.open(first.max(4)), !(knows && first.max(4) < 10), "sent again");
    }
}
