//! Asks for the topic's settings and judges them: at the start, after every reconnect, and again from
//! time to time.

use std::{sync::Arc, time::Duration};

use tokio::sync::{Notify, mpsc};

use super::{
    LogEvent,
    settings::{Demands, Judgement, judge},
};
use crate::kafka::{
    client::KafkaConfig,
    topics::{self, ConfiguredTopic, TopicRole, TopicState},
};

/// How often wrong settings are looked at again.
const AGAIN_AFTER: Duration = Duration::from_secs(30);

/// And usable ones: they may become wrong.
const LOOK_EVERY: Duration = Duration::from_mins(5);

pub(super) async fn run(
    config: KafkaConfig,
    topic: String,
    demands: Demands,
    connected: Arc<Notify>,
    events: mpsc::Sender<LogEvent>,
) {
    let mut told = None;
    loop {
        let judgement = ask(&config, &topic, demands).await;
        let usable = judgement.as_ref().is_some_and(Judgement::usable);
        if judgement.is_some() && judgement != told {
            told.clone_from(&judgement);
            let Some(judgement) = judgement else { continue };
            if events.send(LogEvent::Settings(judgement)).await.is_err() {
                return;
            }
        }
        // Too early is no harm.
        let _ = tokio::time::timeout(if usable { LOOK_EVERY } else { AGAIN_AFTER }, connected.notified()).await;
    }
}

/// `None` where no broker answers, which the reader tells.
async fn ask(config: &KafkaConfig, topic: &str, demands: Demands) -> Option<Judgement> {
    let asked = ConfiguredTopic { role: TopicRole::Journal(demands), name: topic.to_owned() };
    let report = topics::describe(config, &[asked]).await.ok()?.pop()?;
    Some(match report.state {
        TopicState::Missing => Judgement::refused(format!(
            "the journal {topic} does not exist, so no call is made; create it with `alert-ips topics --create`"
        )),
        TopicState::Refused(words) => Judgement::refused(words),
        TopicState::Present(facts) => judge(&facts, demands),
    })
}
