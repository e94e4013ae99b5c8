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
