//! What was read and finds room in the read window begins its life; what finds none is set aside, and read again later.

use std::sync::Arc;

use futures_util::FutureExt as _;

use super::{
    Dispatcher, Open, at_least_once::AtLeastOnce, delivery::Delivery, lives::Ended, partitions::Opened, window::Size,
};
use crate::{
    domain::record::Record,
    pipeline::{Outlet, RecordId},
};

impl Dispatcher {
    pub(super) fn admit_all(&mut self, records: Vec<Record>) {
        for record in records {
            self.admit(record);
        }
        self.tell_removed();
        self.hold_full_partitions();
    }

    /// Opens a record and starts its life, unless its account has taken its share of the read window.
    fn admit(&mut self, record: Record) {
        let opened = self.partitions.open(&record.receipt);
        self.forget_ended_logs();
        let (log, leaving, claimant) = match opened {
            Opened::In(log, leaving) => {
                self.reporting.metrics.record_consumed(&record.receipt.partition.topic);
                let claimant = self.pipeline.claimant(&record);
                if let Some(claimant) = claimant.filter(|claimant| !self.window.has_room(*claimant)) {
                    return self.partitions.set_aside(&record.receipt, claimant);
                }
                (log, leaving, claimant)
            }
            Opened::SetAside(_, _, claimant) if !self.window.has_room(claimant) => return,
            Opened::SetAside(log, leaving, claimant) => {
                self.partitions.take_back(&record.receipt);
                (log, leaving, Some(claimant))
            }
            Opened::SettledBefore => {
                self.reporting.metrics.record_consumed(&record.receipt.partition.topic);
                return self.reporting.metrics.record_settled_before();
            }
            Opened::Known | Opened::Stale => return,
        };
        let size = Size::new(size_of::<Open>() + size_of::<Record>() + record.held_bytes(), claimant);
        self.window.take(&size);
        self.last_record = RecordId(self.last_record.0 + 1);
        let (id, record) = (self.last_record, Arc::new(record));
        self.open.insert(id, Open { record: record.clone(), log, size, writes: None, acknowledged: 0 });
        let early = matches!(self.delivery, Delivery::AtLeastOnce(_)).then(|| self.early_sender.clone());
        let (pipeline, outlet) = (self.pipeline.clone(), early.map(|early| Outlet { record: id, early }));
        let published = self.partitions.published(&record.receipt).map(Box::new);
        let life = pipeline.process(record, outlet, published, leaving);
        self.lives.begin(log, life.map(move |result| Ended { record: id, result }));
    }

    /// Forgets the records of logs that were given up or began anew; whoever reads them next begins with them again.
    pub(super) fn forget_ended_logs(&mut self) {
        let ended = self.partitions.take_ended();
        if ended.is_empty() {
            return;
        }
        for log in &ended {
            self.lives.end(*log);
            for (_, open) in self.open.extract_if(|_, open| open.log == *log) {
                self.window.release(&open.size);
            }
        }
        if let Delivery::AtLeastOnce(delivery) = &mut self.delivery {
            let AtLeastOnce { writes, parts, .. } = &mut **delivery;
            parts.forget(&ended);
            writes.forget(|record| self.open.contains_key(&record) || parts.record(record).is_some());
        }
    }

    /// Has partitions read again of which something was set aside and would find room now.
    pub(super) fn read_again(&mut self) {
        self.tell_removed();
        self.reporting.metrics.records_set_aside(self.partitions.set_aside_in_all());
        let window = &self.window;
        let again = self.partitions.read_again(self.clock.boot(), |claimant| window.has_much_room(claimant));
        if !again.is_empty() {
            self.source.read_again(again);
        }
    }

    /// Counts what was set aside and can't be read again.
    fn tell_removed(&mut self) {
        for (partition, records) in self.partitions.take_removed() {
            self.reporting.metrics.records_removed_unread(&partition.topic, records);
        }
    }

    /// Reads no further in partitions whose commits could not tell what is settled in them.
    pub(super) fn hold_full_partitions(&mut self) {
        if let Some(held) = self.partitions.held() {
            self.source.hold(held);
        }
    }
}
