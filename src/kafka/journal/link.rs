//! The reading side's connection to the brokers: the questions it asks them, and what goes wrong meanwhile.

use std::{ops::Range, time::Duration};

use jiff::Timestamp;
use rdkafka::{
    ClientContext, Offset, Statistics, TopicPartitionList,
    config::{FromClientConfigAndContext, RDKafkaLogLevel},
    consumer::{BaseConsumer, Consumer, ConsumerContext},
    error::{KafkaError, KafkaResult, RDKafkaErrorCode as Code},
    message::{BorrowedMessage, Message},
};
use tokio::sync::mpsc;

use super::{Checkpoint, LogPlace, place::Ends, place::partition_of};
use crate::kafka::{
    client::{InvalidKafkaConfig, KafkaConfig},
    discard::discard,
    notice::{self, Client, News, Notice, Reporter},
};

/// The longest wait for a message, and so until a command is seen.
pub(super) const IDLE_POLL: Duration = Duration::from_millis(50);

/// How long a question to the brokers may take.
const QUESTION_LIMIT: Duration = Duration::from_secs(5);

/// How long librdkafka gets to say why there was no answer.
const REASON_POLL: Duration = Duration::from_millis(10);

/// Idle polls after which a step of the search is given up: 10 s. Counted, not measured: the exact time does not matter.
const SEARCH_POLLS: u32 = 200;

/// Entries of the first step back of the search; each further one is twice as long.
const FIRST_STEP: i64 = 1_024;

pub(super) struct Link {
    client: Client,
    config: KafkaConfig,
    place: LogPlace,
    kafka: BaseConsumer<Callbacks>,
    notices: mpsc::Receiver<Notice>,
    /// What librdkafka says is wrong with its connections.
    reported: Option<String>,
}

/// A question was not answered; why, and what to do.
#[derive(Debug)]
pub(super) struct Unanswered(pub(super) String);

/// The key's partition, and how many there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Placed {
    pub(super) partition: i32,
    pub(super) partitions: i32,
}

impl Link {
    /// `client`: on whose behalf it speaks in words.
    pub(super) fn open(config: &KafkaConfig, place: &LogPlace, client: Client) -> Result<Self, InvalidKafkaConfig> {
        let (sender, notices) = mpsc::channel(64);
        let callbacks = Callbacks { client, reporter: Reporter::new(client, &config.bootstrap_servers, sender) };
        let kafka = BaseConsumer::from_config_and_context(&config.journal_reader(), callbacks)?;
        Ok(Self { client, config: config.clone(), place: place.clone(), kafka, notices, reported: None })
    }

    /// Another client in place of this one, which has got no answer for a while: it may have lost its brokers for good (see
    /// [`Ear`](crate::kafka::ear::Ear)), and a new one costs nothing.
    pub(super) fn renew(&mut self) {
        match Self::open(&self.config, &self.place, self.client) {
            Ok(renewed) => {
                let Self { kafka, reported, .. } = std::mem::replace(self, renewed);
                self.reported = reported;
                discard(kafka);
            }
            Err(error) => tracing::error!(%error, "the journal's consumer can't be made anew"),
        }
    }

    pub(super) fn topic(&self) -> &str {
        &self.place.topic
    }

    pub(super) fn is_ours(&self, message: &BorrowedMessage<'_>) -> bool {
        message.key() == Some(self.place.key.as_bytes())
    }

    pub(super) fn poll(&self) -> Option<KafkaResult<BorrowedMessage<'_>>> {
        self.kafka.poll(IDLE_POLL)
    }

    /// What is wrong with the connections at present, as librdkafka says.
    pub(super) fn trouble(&mut self) -> Option<&str> {
        while let Ok(notice) = self.notices.try_recv() {
            match notice.news {
                News::Trouble(trouble) => self.reported = Some(trouble.words().to_owned()),
                News::Working => self.reported = None,
                News::Joined | News::Missing(_) | News::Offsets(_) => {}
            }
        }
        self.reported.as_deref()
    }

    /// Something was answered: what was wrong before is over.
    pub(super) fn relieve(&mut self) {
        self.kafka.context().reporter.working();
        self.trouble();
        self.reported = None;
    }

    pub(super) fn placed(&mut self) -> Result<Placed, Unanswered> {
        let answer = self.kafka.fetch_metadata(Some(self.topic()), QUESTION_LIMIT).and_then(|metadata| {
            let topic = metadata.topics().iter().find(|topic| topic.name() == self.place.topic);
            let missing = || KafkaError::MetadataFetch(Code::UnknownTopicOrPartition);
            let topic = topic.ok_or_else(missing)?;
            if let Some(error) = topic.error() {
                return Err(KafkaError::MetadataFetch(error.into()));
            }
            let partitions = i32::try_from(topic.partitions().len()).unwrap_or(i32::MAX);
            if partitions == 0 { Err(missing()) } else { Ok(partitions) }
        });
        let partitions = self.answer(answer)?;
        Ok(Placed { partition: partition_of(self.place.key.as_bytes(), partitions), partitions })
    }

    pub(super) fn ends(&mut self, partition: i32) -> Result<Ends, Unanswered> {
        let answer = self.kafka.fetch_watermarks(self.topic(), partition, QUESTION_LIMIT);
        self.answer(answer).map(|(first, end)| Ends { first, end })
    }

    /// The first entry stamped at `time` or later, if there is one.
    pub(super) fn offset_at(&mut self, partition: i32, time: Timestamp) -> Result<Option<i64>, Unanswered> {
        let answer = self
            .list(partition, time.as_millisecond())
            .and_then(|asked| self.kafka.offsets_for_times(asked, QUESTION_LIMIT))
            .and_then(|found| {
                let Some(element) = found.elements().into_iter().next() else { return Ok(None) };
                element.error()?;
                Ok(if let Offset::Offset(offset) = element.offset() { Some(offset) } else { None })
            });
        self.answer(answer)
    }

    pub(super) fn fetch_from(&mut self, partition: i32, offset: i64) -> Result<(), Unanswered> {
        let answer = self.list(partition, offset).and_then(|list| self.kafka.assign(&list));
        self.let_it_stop();
        self.answer(answer)
    }

    pub(super) fn fetch_nothing(&self) {
        if let Err(error) = self.kafka.unassign() {
            tracing::warn!(error = %notice::error_words(&error), "the journal can't be put down");
        }
        self.let_it_stop();
    }

    /// Waits until what was fetched before has stopped. librdkafka, 2.15.0 still, ends the process where a partition is
    /// taken away again, also by closing, before it has noticed that it stopped (confluentinc/librdkafka#5573). Its main
    /// thread takes questions in the order they are asked: the answer to any comes after the stopping, and what is asked
    /// next comes after the notice of it.
    fn let_it_stop(&self) {
        self.kafka.rebalance_protocol();
    }

    /// The newest checkpoint that is old enough, searched for in steps back from the end. Where the log has lost its
    /// beginning and none is, the oldest there is: from the middle of a log nobody reaches the verdicts of the others.
    pub(super) fn search(&mut self, partition: i32, ends: Ends, wanted: Checkpoint) -> Result<Option<i64>, Unanswered> {
        let older_by = i64::try_from(wanted.older_by.as_millis()).unwrap_or(i64::MAX);
        let (mut to, mut step, mut newest) = (ends.end, FIRST_STEP, i64::MIN);
        let mut oldest = None;
        while to > ends.first {
            let from = to.saturating_sub(step).max(ends.first);
            let mut checkpoints = Vec::new();
            self.scan(partition, from..to, |message, ours| {
                let at = stamp(message);
                newest = newest.max(at);
                if ours && message.payload().is_some_and(wanted.is_it) {
                    checkpoints.push((message.offset(), at));
                }
            })?;
            let old_enough = |(_, at): &&(i64, i64)| newest.saturating_sub(*at) >= older_by;
            if let Some((offset, _)) = checkpoints.iter().rev().find(old_enough) {
                return Ok(Some(*offset));
            }
            oldest = checkpoints.first().map(|(offset, _)| *offset).or(oldest);
            to = from;
            step = step.saturating_mul(2);
        }
        Ok(oldest.filter(|_| ends.first > 0))
    }

    /// Reads a part of the partition, and says of each message whether it has our key.
    fn scan(
        &mut self,
        partition: i32,
        part: Range<i64>,
        mut visit: impl FnMut(&BorrowedMessage<'_>, bool),
    ) -> Result<(), Unanswered> {
        self.fetch_from(partition, part.start)?;
        let (mut next, mut idle) = (part.start, 0);
        while next < part.end {
            if let Some(words) = self.trouble() {
                return Err(Unanswered(words.to_owned()));
            }
            match self.kafka.poll(IDLE_POLL) {
                Some(Ok(message)) if part.contains(&message.offset()) => {
                    idle = 0;
                    next = message.offset() + 1;
                    visit(&message, self.is_ours(&message));
                }
                Some(Ok(_) | Err(KafkaError::PartitionEOF(_))) => break,
                Some(Err(error)) => {
                    if let Some(code) = error.rdkafka_error_code().filter(|code| is_of_partition(*code)) {
                        return Err(self.unanswered(code));
                    }
                }
                None => idle += 1,
            }
            if idle >= SEARCH_POLLS {
                return Err(self.unanswered(Code::OperationTimedOut));
            }
        }
        Ok(())
    }

    fn list(&self, partition: i32, offset: i64) -> KafkaResult<TopicPartitionList> {
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(self.topic(), partition, Offset::Offset(offset))?;
        Ok(list)
    }

    fn answer<T>(&mut self, answer: KafkaResult<T>) -> Result<T, Unanswered> {
        answer.map_err(|error| self.unanswered(notice::code(&error)))
    }

    /// Why there was no answer: librdkafka says that only beside the question, if the broker itself did not.
    pub(super) fn unanswered(&mut self, code: Code) -> Unanswered {
        // What else comes is fetched again.
        let _ = self.kafka.poll(REASON_POLL);
        if let Some(words) = self.trouble() {
            return Unanswered(words.to_owned());
        }
        let about = format!("journal {}: {}", self.topic(), notice::code_words(code));
        Unanswered(notice::explain(self.client, code, &self.config.bootstrap_servers, &about).words().to_owned())
    }
}

/// A message's timestamp in milliseconds.
pub(super) fn stamp(message: &BorrowedMessage<'_>) -> i64 {
    message.timestamp().to_millis().unwrap_or_default()
}

/// Whether an error is about the partition or the place in it; others are about single connections, which librdkafka mends,
/// and it says when none is left.
pub(super) fn is_of_partition(code: Code) -> bool {
    matches!(
        code,
        Code::AutoOffsetReset
            | Code::LogTruncation
            | Code::OffsetOutOfRange
            | Code::UnknownTopic
            | Code::UnknownPartition
            | Code::UnknownTopicOrPartition
    )
}

struct Callbacks {
    client: Client,
    reporter: Reporter,
}

impl ClientContext for Callbacks {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        notice::log(self.client, level, facility, line);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        // Those come from the poll too, and are heeded there.
        if !error.rdkafka_error_code().is_some_and(is_of_partition) {
            self.reporter.error(&error, reason);
        }
    }

    fn stats(&self, statistics: Statistics) {
        self.reporter.statistics(&statistics);
    }
}

impl ConsumerContext for Callbacks {}
