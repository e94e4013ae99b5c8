//! An account's journal, opened as the settings say.

use std::time::Duration;

use futures_util::FutureExt as _;

use super::{KafkaJournal, WorkedBefore, replay_from};
use crate::{
    clock::Clock,
    config::{AccountSettings, Settings},
    daemon::{CLAIM_TTL, journal_demands, kafka_config},
    kafka::{
        client::KafkaConfig,
        group,
        journal::{JournalLog, LogPlace, OpenJournalError},
        topics::{self, ConfiguredTopic, TopicRole, TopicState},
    },
};

impl KafkaJournal<JournalLog> {
    /// Begins to read an account's journal. Fails only for what a change of the configuration must mend.
    pub(in crate::daemon) fn open(
        settings: &Settings,
        account: &AccountSettings,
        clock: &Clock,
    ) -> Result<Self, OpenJournalError> {
        let config = kafka_config(settings);
        let place = LogPlace { topic: settings.topics.journal.to_string(), key: account.journal_key() };
        let demands = journal_demands(settings, account);
        // So far back that it is known how often an alert was asked about that the service did not know.
        let reasks = settings.not_found.reask_after.iter().sum::<Duration>() + settings.http.total_timeout;
        let start = replay_from(settings.reuse.reuse_for.max(reasks));
        // A claim that takes longer to arrive would not count any more.
        let (log, events) = JournalLog::open(&config, &place, start, demands, CLAIM_TTL)?;
        Ok(Self::new(log, events, start, clock.clone(), worked_before(settings, config)))
    }
}

/// A group that has settled something of its input has worked before.
fn worked_before(settings: &Settings, config: KafkaConfig) -> WorkedBefore {
    let input: Vec<_> = settings.topics.input.iter().map(ToString::to_string).collect();
    Box::new(move || {
        let (config, input) = (config.clone(), input.clone());
        async move {
            let asked = |name| ConfiguredTopic { role: TopicRole::Input, name };
            let asked: Vec<_> = input.into_iter().map(asked).collect();
            let reports = topics::describe(&config, &asked).await.map_err(|error| error.to_string())?;
            let mut partitions = Vec::new();
            for report in reports {
                match report.state {
                    TopicState::Present(facts) => partitions.push((report.topic.name, facts.partitions)),
                    // Of a topic that is not there nothing was settled.
                    TopicState::Missing => {}
                    TopicState::Refused(words) => return Err(words),
                }
            }
            let offsets = group::committed(&config, &partitions).await.map_err(|error| error.to_string())?;
            Ok(offsets.moved > 0)
        }
        .boxed()
    })
}
