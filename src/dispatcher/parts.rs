//! Alerts whose writes are on their way to Kafka while others of their message are not decided. A message may be let go
//! meanwhile; what is written of it is noted all the same, and is not written again by whoever reads it next.

use std::{collections::HashMap, sync::Arc};

use super::{Open, partitions::Log};
use crate::{
    domain::{
        published::Part,
        record::{Receipt, Record},
    },
    pipeline::RecordId,
};

#[derive(Debug, Default)]
pub(super) struct Parts {
    messages: HashMap<RecordId, Message>,
}

#[derive(Debug)]
struct Message {
    record: Arc<Record>,
    log: Log,
    /// Each with how many of its writes are not acknowledged.
    on_their_way: HashMap<Part, usize>,
}

impl Parts {
    /// So many writes of an alert begin their way.
    pub(super) fn begin(&mut self, id: RecordId, open: &Open, part: Part, writes: usize) {
        let begin = || Message { record: Arc::clone(&open.record), log: open.log, on_their_way: HashMap::new() };
        self.messages.entry(id).or_insert_with(begin).on_their_way.insert(part, writes);
    }

    /// A write of an alert is in Kafka. Where the others of that alert are too: of which record it is.
    pub(super) fn written(&mut self, id: RecordId, part: Part) -> Option<(Receipt, Log)> {
        let message = self.messages.get_mut(&id)?;
        let writes = message.on_their_way.get_mut(&part)?;
        *writes -= 1;
        if *writes > 0 {
            return None;
        }
        message.on_their_way.remove(&part);
        let of = (message.record.receipt.clone(), message.log);
        if message.on_their_way.is_empty() {
            self.messages.remove(&id);
        }
        Some(of)
    }

    /// The record, while alerts of it are on their way.
    pub(super) fn record(&self, id: RecordId) -> Option<&Arc<Record>> {
        self.messages.get(&id).map(|message| &message.record)
    }

    pub(super) fn is_any_of(&self, logs: &[Log]) -> bool {
        self.messages.values().any(|message| logs.contains(&message.log))
    }

    /// Forgets those of logs that have ended.
    pub(super) fn forget(&mut self, ended: &[Log]) {
        self.messages.retain(|_, message| !ended.contains(&message.log));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        dispatcher::window::Size,
        domain::{
            alert::AlertId,
            record::{Epoch, Partition},
        },
    };

    fn open(log: Log) -> Open {
        let receipt =
            Receipt { partition: Partition { topic: "in".into(), number: 0 }, offset: 7, epoch: Epoch::default() };
        let record = Record { receipt, key: None, payload: None, headers: Vec::new(), timestamp: None };
        Open { record: Arc::new(record), log, size: Size::new(1, None), writes: None, acknowledged: 0 }
    }

    fn part(place: usize) -> Part {
        Part::of(place, &AlertId::parse("a").unwrap()).unwrap()
    }

    #[test]
    fn an_alert_is_published_with_the_last_of_its_writes_and_a_record_is_kept_as_long_as_one_is_on_its_way() {
        let (mut parts, log) = (Parts::default(), Log::default());
        let (id, open) = (RecordId(1), open(log));
        parts.begin(id, &open, part(0), 2);
        parts.begin(id, &open, part(1), 1);
        assert_eq!(parts.written(id, part(0)), None);
        assert_eq!(parts.written(id, part(1)).map(|(receipt, _)| receipt.offset), Some(7));
        assert!(parts.is_any_of(&[log]) && parts.record(id).is_some());
        assert_eq!(parts.written(id, part(0)).map(|(_, of)| of), Some(log));
        assert!(!parts.is_any_of(&[log]) && parts.record(id).is_none());
    }

    #[test]
    fn of_a_log_that_has_ended_nothing_is_noted() {
        let mut parts = Parts::default();
        let (ended, other) = (Log::default(), Log::default().next());
        parts.begin(RecordId(1), &open(ended), part(0), 1);
        parts.begin(RecordId(2), &open(other), part(0), 1);
        parts.forget(&[ended]);
        assert_eq!(parts.written(RecordId(1), part(0)), None);
        assert!(parts.written(RecordId(2), part(0)).is_some());
    }
}
