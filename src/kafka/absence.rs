//! Learns which input topics are missing, and when they are there again.
//!
//! librdkafka says once of a topic that it is missing, and with KIP-848 not even that; it says nothing when the topic is there,
//! and what comes of another does not show it. So the cluster is asked, more often as long as one is missing.

use std::time::Duration;

use crate::domain::time::BootTime;

/// So long a topic counts as missing until it is asked about again, and as there.
const WHILE_MISSING: Duration = Duration::from_secs(5);
const WHILE_THERE: Duration = Duration::from_mins(1);

/// What is known of topics that are missing.
#[derive(Debug)]
pub(super) struct Absence {
    /// In the order of the configuration.
    topics: Vec<String>,
    /// When the cluster is to be asked.
    due: BootTime,
}

impl Absence {
    pub(super) fn new(now: BootTime) -> Self {
        Self { topics: Vec::new(), due: now + WHILE_MISSING }
    }

    /// librdkafka does not find a topic.
    pub(super) fn said(&mut self, now: BootTime) {
        self.due = now;
    }

    /// Whether the cluster is to be asked.
    pub(super) fn is_due(&self, now: BootTime) -> bool {
        self.due <= now
    }

    /// Asks of each of all topics whether it is `there`, which may not be known. The missing ones, where that is news.
    pub(super) fn ask(
        &mut self,
        all: &[String],
        now: BootTime,
        mut there: impl FnMut(&str) -> Option<bool>,
    ) -> Option<&[String]> {
        let is_missing = |topic: &&String| !there(topic).unwrap_or_else(|| !self.topics.contains(topic));
        let missing: Vec<_> = all.iter().filter(is_missing).cloned().collect();
        self.due = now + if missing.is_empty() { WHILE_THERE } else { WHILE_MISSING };
        let is_news = missing != self.topics;
        self.topics = missing;
        is_news.then_some(&self.topics)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> BootTime {
        BootTime::from_origin(Duration::from_secs(seconds))
    }

    #[test]
    fn each_missing_topic_is_told_once_and_asked_about_until_it_is_there() {
        let all = ["a", "b"].map(str::to_owned);
        let mut absence = Absence::new(at(95));
        assert_eq!((absence.is_due(at(99)), absence.is_due(at(100))), (false, true));
        assert_eq!(absence.ask(&all, at(100), |_| Some(false)), Some(&all[..]));
        assert_eq!((absence.is_due(at(104)), absence.is_due(at(105))), (false, true));
        assert_eq!(absence.ask(&all, at(105), |topic| Some(topic == "a")), Some(&all[1..]));
        absence.said(at(106));
        assert_eq!(absence.ask(&all, at(106), |topic| Some(topic == "a")), None);
        assert_eq!(absence.ask(&all, at(111), |_| None), None, "nobody knows: it is as it was");
        assert!(absence.is_due(at(116)));
        assert_eq!(absence.ask(&all, at(116), |_| Some(true)), Some(&[][..]));
        assert_eq!((absence.is_due(at(175)), absence.is_due(at(176))), (false, true));
        absence.said(at(120));
        assert!(absence.is_due(at(120)));
    }
}
