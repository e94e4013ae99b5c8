//! Partitions that are this instance's and are not read yet, because Kafka does not say where they begin.

use std::{collections::BTreeMap, time::Duration};

use rdkafka::{TopicPartitionList, types::RDKafkaErrorCode as Code};

use super::notice;
use crate::domain::{record::Partition, time::BootTime};

/// So long they are left alone before they are asked about again.
const AGAIN_AFTER: Duration = Duration::from_secs(2);

/// A partition of which it is not known where it is to be read from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Unplaced {
    pub(super) partition: Partition,
    pub(super) why: Code,
    /// Whether other partitions of its topic were read before this one was assigned, where that is known. Those that are
    /// taken up meanwhile must not make it look like one that was added later.
    pub(super) others_were_read: Option<bool>,
}

/// They stay assigned in the group's eyes, while librdkafka does not have them: nothing of them is fetched or committed.
#[derive(Default)]
pub(super) struct Waiting {
    entries: BTreeMap<Partition, Entry>,
    /// When they were asked about last.
    asked: Option<BootTime>,
}

struct Entry {
    why: Code,
    others_were_read: Option<bool>,
    /// What was said of it.
    told: Vec<Code>,
}

impl Waiting {
    /// What was asked about at `now` and waits still, or from now on.
    pub(super) fn put(&mut self, unplaced: Vec<Unplaced>, now: BootTime) {
        self.asked = Some(now);
        for Unplaced { partition, why, others_were_read } in unplaced {
            let entry = self.entries.entry(partition).or_insert(Entry { why, others_were_read, told: Vec::new() });
            entry.why = why;
            entry.others_were_read = entry.others_were_read.or(others_were_read);
        }
    }

    /// These were taken up.
    pub(super) fn remove<'a>(&mut self, partitions: impl Iterator<Item = &'a Partition>) {
        for partition in partitions {
            self.entries.remove(partition);
        }
    }

    /// These are not this instance's any more.
    pub(super) fn forget(&mut self, list: &TopicPartitionList) {
        self.entries.retain(|partition, _| list.find_partition(&partition.topic, partition.number).is_none());
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// What is to be asked about again at `now`.
    pub(super) fn due(&self, now: BootTime) -> Option<TopicPartitionList> {
        let is_time = self.asked.is_none_or(|asked| now.saturating_since(asked) >= AGAIN_AFTER);
        if self.entries.is_empty() || !is_time {
            return None;
        }
        let mut list = TopicPartitionList::with_capacity(self.entries.len());
        for partition in self.entries.keys() {
            list.add_partition(&partition.topic, partition.number);
        }
        Some(list)
    }

    /// As it was when the partition was assigned.
    pub(super) fn others_were_read(&self, partition: &Partition) -> Option<bool> {
        self.entries.get(partition)?.others_were_read
    }

    /// What an operator has not been told yet: which wait, and why.
    pub(super) fn news(&mut self) -> Option<String> {
        let mut causes: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (partition, entry) in &mut self.entries {
            if !entry.told.contains(&entry.why) {
                entry.told.push(entry.why);
                causes.entry(cause(entry.why)).or_default().push(partition.to_string());
            }
        }
        let causes: Vec<_> =
            causes.into_iter().map(|(cause, partitions)| format!("{} ({cause})", partitions.join(", "))).collect();
        (!causes.is_empty()).then(|| {
            format!(
                "kafka does not say where these partitions are to be read from: {}; they wait, and are read as soon as it \
                 does; the others are read meanwhile",
                causes.join("; ")
            )
        })
    }
}

/// With what to do about it.
fn cause(why: Code) -> String {
    match why {
        Code::LeaderNotAvailable => "no broker leads it: look for a broker that is down".to_owned(),
        Code::TopicAuthorizationFailed => "access is denied: grant read and describe on its topic".to_owned(),
        other => format!("{}: if it stays, look for a broker that is down or stands still", notice::code_words(other)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: BootTime = BootTime::from_origin(Duration::from_secs(100));

    fn unplaced(number: i32, why: Code, others_were_read: Option<bool>) -> Unplaced {
        Unplaced { partition: Partition { topic: "alerts".into(), number }, why, others_were_read }
    }

    fn due(waiting: &Waiting, after: Duration) -> usize {
        waiting.due(BootTime::from_origin(START.since_origin() + after)).map_or(0, |list| list.count())
    }

    #[test]
    fn what_waits_is_asked_about_again_until_it_is_taken_up_or_given_up() {
        let mut waiting = Waiting::default();
        assert_eq!(due(&waiting, Duration::ZERO), 0);
        waiting.put([0, 1, 2].map(|number| unplaced(number, Code::LeaderNotAvailable, None)).into(), START);
        assert_eq!((due(&waiting, Duration::from_secs(1)), due(&waiting, AGAIN_AFTER)), (0, 3));
        waiting.remove([unplaced(1, Code::Fail, None).partition].iter());
        let mut revoked = TopicPartitionList::new();
        revoked.add_partition("alerts", 0);
        waiting.forget(&revoked);
        let left = waiting.due(BootTime::from_origin(START.since_origin() + AGAIN_AFTER)).unwrap();
        assert_eq!(left.elements()[0].partition(), 2);
        waiting.put(Vec::new(), BootTime::from_origin(START.since_origin() + AGAIN_AFTER));
        assert_eq!(due(&waiting, AGAIN_AFTER), 0, "asked just now");
    }

    #[test]
    fn what_was_known_when_a_partition_was_assigned_is_kept() {
        let mut waiting = Waiting::default();
        waiting.put(vec![unplaced(0, Code::LeaderNotAvailable, Some(false))], START);
        waiting.put(vec![unplaced(0, Code::LeaderNotAvailable, Some(true))], START);
        assert_eq!(waiting.others_were_read(&unplaced(0, Code::Fail, None).partition), Some(false));
    }

    #[test]
    fn an_operator_is_told_once_which_wait_and_why() {
        let mut waiting = Waiting::default();
        assert_eq!(waiting.news(), None);
        let leaderless = || [0, 3].map(|number| unplaced(number, Code::LeaderNotAvailable, None));
        waiting.put([leaderless().to_vec(), vec![unplaced(5, Code::TopicAuthorizationFailed, None)]].concat(), START);
        let words = waiting.news().unwrap();
        let (first, second) =
            (words.find("alerts/0, alerts/3 (no broker leads it: look"), words.find("alerts/5 (access"));
        assert!(first.is_some() && second.is_some(), "{words}");
        waiting.put(leaderless().into(), START);
        assert_eq!(waiting.news(), None);
        // Another reason is news, and then the first is none.
        waiting.put(vec![unplaced(0, Code::OperationTimedOut, None)], START);
        let words = waiting.news().unwrap();
        assert!(words.contains("alerts/0 (Local: Timed out:") && !words.contains("alerts/3"), "{words}");
        waiting.put(leaderless().into(), START);
        assert_eq!(waiting.news(), None);
    }
}
