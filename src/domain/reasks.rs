//! Alerts that the service did not know when they were asked about, and how often that was: so that a question goes on
//! where another instance, or this one before it was restarted, has left it.

use std::collections::{HashMap, VecDeque};

use super::{alert::AlertId, time::JournalTime};

/// The latest of them by alert id, at most `capacity`; the oldest go first.
#[derive(Clone, Debug)]
pub struct Reasks {
    capacity: usize,
    by_id: HashMap<AlertId, Asked>,
    /// In the order of their first answers. An id that was forgotten stays until its turn.
    order: VecDeque<AlertId>,
}

/// How an alert was asked about that the service did not know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked {
    pub times: usize,
    /// When the last answer was written down.
    pub last: JournalTime,
}

impl Reasks {
    pub fn new(capacity: usize) -> Self {
        Self { capacity, by_id: HashMap::new(), order: VecDeque::new() }
    }

    /// Once more the service did not know it.
    pub fn note(&mut self, id: &AlertId, at: JournalTime) {
        if let Some(asked) = self.by_id.get_mut(id) {
            asked.times += 1;
            asked.last = at;
            return;
        }
        self.by_id.insert(id.clone(), Asked { times: 1, last: at });
        self.order.push_back(id.clone());
        while self.order.len() > self.capacity {
            if let Some(oldest) = self.order.pop_front() {
                self.by_id.remove(&oldest);
            }
        }
    }

    /// The question is over.
    pub fn forget(&mut self, id: &AlertId) {
        self.by_id.remove(id);
    }

    pub fn of(&self, id: &AlertId) -> Option<Asked> {
        self.by_id.get(id).copied()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn at(second: u64) -> JournalTime {
        JournalTime::from_origin(Duration::from_secs(second))
    }

    #[test]
    fn questions_are_counted_until_they_are_over_and_bounded() {
        let ids = ["a", "b", "c"].map(|id| AlertId::parse(id).unwrap());
        let mut reasks = Reasks::new(2);
        reasks.note(&ids[0], at(1));
        reasks.note(&ids[0], at(61));
        assert_eq!(reasks.of(&ids[0]), Some(Asked { times: 2, last: at(61) }));
        reasks.note(&ids[1], at(62));
        reasks.forget(&ids[1]);
        assert_eq!(reasks.of(&ids[1]), None);
        reasks.note(&ids[2], at(63));
        assert_eq!((reasks.of(&ids[0]), reasks.of(&ids[2]).unwrap().times), (None, 1));
    }
}
