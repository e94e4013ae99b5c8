//! What the brokers say about the consumer group. It is not joined for that: a member that comes and goes would make
//! the running ones rebalance.

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

/// Where the group stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupOffsets {
    /// Partitions that were asked about.
    pub partitions: usize,
    /// Those of them that the group has committed an offset of; reading begins there.
    pub committed: usize,
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
        let committed = kafka.committed_offsets(asked, LIMIT).map_err(|error| trouble(&config, &error))?;
        let offsets = committed.elements().into_iter().map(|partition| {
            partition.error().map_err(|error| trouble(&config, &error))?;
            Ok(usize::from(matches!(partition.offset(), Offset::Offset(_))))
        });
        let offsets: Vec<usize> = offsets.collect::<Result<_, ClusterError>>()?;
        Ok(GroupOffsets { partitions: offsets.len(), committed: offsets.iter().sum() })
    });
    offsets.await.unwrap_or(Err(ClusterError::BrokenOff))
}

fn trouble(config: &KafkaConfig, error: &KafkaError) -> ClusterError {
    let code = error.rdkafka_error_code().unwrap_or(Code::Fail);
    let about = format!("{}: {}", config.group_id, notice::error_words(error));
    ClusterError::Trouble(notice::explain(Client::Admin, code, &config.bootstrap_servers, &about))
}
