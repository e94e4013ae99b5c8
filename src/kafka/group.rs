//! What the brokers say about the consumer group. It is not joined for that: a member that comes and goes would make
//! the running ones rebalance.

use std::{thread, time::Duration};

use rdkafka::{
    Offset, TopicPartitionList,
    config::FromClientConfigAndContext,
    consumer::{BaseConsumer, Consumer},
    error::{KafkaError, RDKafkaErrorCode as Code},
};

use super::{
    client::{InvalidKafkaConfig, KafkaConfig},
    notice::{self, Client},
    topics::{ClusterError, LIMIT, Listener},
};
use crate::domain::{log_id::LogId, record::Partition};

/// How often, and after which pause, a coordinator is asked that is not ready.
const COORDINATOR_ATTEMPTS: u32 = 10;
const COORDINATOR_PAUSE: Duration = Duration::from_millis(500);

/// Where the group stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupOffsets {
    /// Partitions that were asked about.
    pub partitions: usize,
    /// Those of them that the group has committed an offset of; reading begins there.
    pub committed: usize,
    /// Those of them where that is not the oldest record that is kept, or where records beyond it are settled. A member
    /// commits where it began to read before anything is settled, so only these show that the group has worked.
    pub moved: usize,
}

/// Asks for the group's committed offsets of `topics`, each with its number of partitions.
pub async fn committed(config: &KafkaConfig, topics: &[(String, usize)]) -> Result<GroupOffsets, ClusterError> {
    let mut asked = TopicPartitionList::new();
    for (topic, partitions) in topics {
        asked.add_partition_range(topic, 0, i32::try_from(*partitions).unwrap_or(i32::MAX) - 1);
    }
    let config = config.clone();
    let offsets = tokio::task::spawn_blocking(move || {
        let kafka = BaseConsumer::from_config_and_context(&config.consumer(), Listener::new(&config).0)
            .map_err(InvalidKafkaConfig::from)?;
        patiently(|| ask(&kafka, &asked)).map_err(|error| trouble(&config, &error))
    });
    offsets.await.unwrap_or(Err(ClusterError::BrokenOff))
}

/// Where the group has committed these partitions: the offset and the metadata, of each that it has. Blocks, for some
/// seconds at most where the coordinator is ready.
pub(super) fn committed_points<'a>(
    config: &KafkaConfig,
    partitions: impl Iterator<Item = &'a Partition>,
) -> Result<Vec<(Partition, i64, String)>, KafkaError> {
    let mut asked = TopicPartitionList::new();
    for partition in partitions {
        asked.add_partition(&partition.topic, partition.number);
    }
    let kafka = BaseConsumer::from_config_and_context(&config.consumer(), Listener::new(config).0)?;
    let offsets = patiently(|| kafka.committed_offsets(asked.clone(), LIMIT))?;
    let mut points = Vec::new();
    for element in offsets.elements() {
        element.error()?;
        let Offset::Offset(next) = element.offset() else { continue };
        let partition = Partition { topic: element.topic().into(), number: element.partition() };
        points.push((partition, next, LogId::unsign(element.metadata()).0.to_owned()));
    }
    Ok(points)
}

fn ask(kafka: &BaseConsumer<Listener>, asked: &TopicPartitionList) -> Result<GroupOffsets, KafkaError> {
    let offsets = kafka.committed_offsets(asked.clone(), LIMIT)?;
    let mut group = GroupOffsets { partitions: offsets.count(), committed: 0, moved: 0 };
    for partition in offsets.elements() {
        partition.error()?;
        let Offset::Offset(next) = partition.offset() else { continue };
        let (first, _) = kafka.fetch_watermarks(partition.topic(), partition.partition(), LIMIT)?;
        group.committed += 1;
        group.moved += usize::from(next != first || !LogId::unsign(partition.metadata()).0.is_empty());
    }
    Ok(group)
}

/// Asks again while the group's coordinator is being chosen or loaded, as on a young cluster.
fn patiently<T>(ask: impl Fn() -> Result<T, KafkaError>) -> Result<T, KafkaError> {
    let passing = |error: &KafkaError| {
        let codes = [Code::CoordinatorLoadInProgress, Code::CoordinatorNotAvailable, Code::NotCoordinator];
        error.rdkafka_error_code().is_some_and(|code| codes.contains(&code))
    };
    let mut attempts = 1;
    loop {
        match ask() {
            Err(error) if passing(&error) && attempts < COORDINATOR_ATTEMPTS => attempts += 1,
            result => return result,
        }
        thread::sleep(COORDINATOR_PAUSE);
    }
}

/// What went wrong with a question about the group.
pub(super) fn trouble(config: &KafkaConfig, error: &KafkaError) -> ClusterError {
    trouble_about(config, error, &config.group_id)
}

pub(super) fn trouble_about(config: &KafkaConfig, error: &KafkaError, about: &str) -> ClusterError {
    let words = format!("{about}: {}", notice::error_words(error));
    ClusterError::Trouble(notice::explain(Client::Admin, notice::code(error), &config.bootstrap_servers, &words))
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn a_coordinator_that_is_not_ready_is_asked_again_and_a_refusal_is_not() {
        let asked = Cell::new(0);
        let answer = |error: Option<Code>| {
            asked.set(asked.get() + 1);
            error.map_or(Ok(()), |code| Err(KafkaError::OffsetFetch(code)))
        };
        let loading = || answer((asked.get() == 0).then_some(Code::CoordinatorLoadInProgress));
        assert_eq!((patiently(loading), asked.replace(0)), (Ok(()), 2));
        let denied = || answer(Some(Code::GroupAuthorizationFailed));
        assert_eq!((patiently(denied).is_err(), asked.get()), (true, 1));
    }
}
