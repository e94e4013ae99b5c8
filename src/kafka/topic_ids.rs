//! Which topic a name stands for. A topic that is deleted and created anew has the old name, and another id.
//!
//! librdkafka knows the ids, and reads by them: from the moment on at which it takes up another id, and not before, it
//! reads the new topic. But it goes on at the old offset, and tells nobody; only its debug log has a line on it, which
//! is handed over before any record that was read after it. So that line is what is read here. Where a cluster has no ids
//! (before Kafka 2.8), nothing is noticed.

use std::{
    collections::{HashMap, HashSet},
    sync::{Mutex, MutexGuard, PoisonError},
};

use crate::domain::log_id::LogId;

/// The debug context, of librdkafka's setting `debug`, that holds the line.
pub(super) const DEBUG_CONTEXT: &str = "metadata";

#[derive(Default)]
pub(super) struct TopicIds(Mutex<Ids>);

#[derive(Default)]
struct Ids {
    known: HashMap<String, LogId>,
    /// Topics that have another id since it was asked last.
    changed: HashSet<String>,
}

impl TopicIds {
    /// Takes a line of the debug log.
    pub(super) fn hear(&self, line: &str) {
        let Some((topic, id)) = changed_id(line) else { return };
        let mut ids = self.lock();
        let Some(id) = LogId::of(id) else { return };
        if ids.known.insert(topic.to_owned(), id).is_some_and(|before| before != id) {
            ids.changed.insert(topic.to_owned());
        }
    }

    pub(super) fn of(&self, topic: &str) -> Option<LogId> {
        self.lock().known.get(topic).copied()
    }

    /// Whether this topic is another one since it was asked last which are.
    pub(super) fn has_changed(&self, topic: &str) -> bool {
        self.lock().changed.contains(topic)
    }

    /// Topics that are others since it was asked last.
    pub(super) fn take_changed(&self) -> HashSet<String> {
        std::mem::take(&mut self.lock().changed)
    }

    /// These are to be told again.
    pub(super) fn put_back(&self, changed: HashSet<String>) {
        self.lock().changed.extend(changed);
    }

    fn lock(&self) -> MutexGuard<'_, Ids> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The topic and its new id, of the line that says so.
fn changed_id(line: &str) -> Option<(&str, &str)> {
    let (_, told) = line.split_once("Topic ")?;
    let (topic, ids) = told.split_once(" changed id from ")?;
    let (_, id) = ids.split_once(" to ")?;
    Some((topic, id.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(from: &str, to: &str) -> String {
        format!("[thrd:main]: Topic alerts changed id from {from} to {to}")
    }

    #[test]
    fn a_change_is_told_once_and_the_first_id_is_none() {
        const NONE: &str = "AAAAAAAAAAAAAAAAAAAAAA";
        let ids = TopicIds::default();
        ids.hear(&line(NONE, "3vKy0ZxJQ0mPq1i8cT7w2A"));
        ids.hear(&line(NONE, "3vKy0ZxJQ0mPq1i8cT7w2A"));
        ids.hear("[thrd:main]: Topic alerts [0] Leader 1 Epoch 0");
        assert_eq!(ids.of("alerts"), LogId::of("3vKy0ZxJQ0mPq1i8cT7w2A"));
        assert!(!ids.has_changed("alerts") && ids.take_changed().is_empty());
        // While it is gone it has none.
        ids.hear(&line("3vKy0ZxJQ0mPq1i8cT7w2A", NONE));
        assert!(!ids.has_changed("alerts"));
        ids.hear(&line(NONE, "aX0Z4j2NTbSgVn7o5y1W8w"));
        assert!(ids.has_changed("alerts") && !ids.has_changed("others"));
        assert_eq!(ids.take_changed(), HashSet::from(["alerts".to_owned()]));
        assert!(!ids.has_changed("alerts"));
        assert_eq!(ids.of("alerts"), LogId::of("aX0Z4j2NTbSgVn7o5y1W8w"));
    }
}
