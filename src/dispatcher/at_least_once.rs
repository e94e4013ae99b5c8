//! Writes by themselves: a record is settled once all that it led to is acknowledged, and what is settled is committed
//! every second. After a crash what was written and not committed is written again.

use std::time::Duration;

use tokio::sync::mpsc;

use super::{
    BATCH, Delivery, Dispatcher,
    parts::Parts,
    remedy::{Remedy, instead_of_too_large},
    writes::{Trouble, Unacknowledged, Writes},
};
use crate::{
    crash_point::{self, Point},
    domain::published::Part,
    kafka::sink::{Ack, Sink, WriteFailed, WriteId},
    pipeline::{Early, RecordId, Write},
};

/// Writes that may wait for their acknowledgement before no further early ones are taken.
pub(super) const MANY_WRITES: usize = 20_000;

/// So long no write was acknowledged, of some that wait, when it is told. librdkafka sends them again and again without a word.
const SILENCE: Duration = Duration::from_secs(15);

pub(super) struct AtLeastOnce {
    pub(super) sink: Box<Sink>,
    pub(super) acks: mpsc::Receiver<Ack>,
    pub(super) writes: Writes,
    pub(super) parts: Parts,
    /// How long writes have waited for an acknowledgement, and there was none.
    pub(super) silence: Duration,
}

impl AtLeastOnce {
    /// What was acknowledged since. Cancel safe.
    pub(super) async fn acknowledged(&mut self) -> Vec<Ack> {
        let mut acks = Vec::new();
        self.acks.recv_many(&mut acks, BATCH).await;
        acks
    }
}

impl Dispatcher {
    /// To be called with the time since the last time.
    pub(super) fn renew_if_deaf(&mut self, passed: Duration) {
        if let Delivery::AtLeastOnce(delivery) = &mut self.delivery
            && delivery.sink.is_deaf(passed)
        {
            rebuild(&mut delivery.sink);
        }
    }

    /// To be called with the time since the last time.
    pub(super) fn tell_silence(&mut self, passed: Duration) {
        let Delivery::AtLeastOnce(delivery) = &mut self.delivery else { return };
        let before = delivery.silence;
        delivery.silence = if delivery.writes.len() == 0 { Duration::ZERO } else { before + passed };
        if before < SILENCE
            && delivery.silence >= SILENCE
            && let Some(words) = delivery.sink.silence(delivery.silence)
        {
            self.reporting.output.trouble(words);
        }
    }

    pub(super) fn send_writes(&mut self) {
        let now = self.clock.boot();
        while let Delivery::AtLeastOnce(delivery) = &mut self.delivery
            && let Some(trouble) = delivery.writes.send(&delivery.sink, now)
        {
            match trouble {
                Trouble::Failed(write, failed) => self.failed(write, &failed),
                Trouble::Broken(words) => {
                    self.reporting.output.trouble(words);
                    return rebuild(&mut delivery.sink);
                }
            }
        }
    }

    pub(super) fn acknowledged(&mut self, ack: Ack) {
        if let Delivery::AtLeastOnce(delivery) = &mut self.delivery {
            delivery.silence = Duration::ZERO;
        }
        match ack.result {
            Ok(()) => self.written(ack.write),
            Err(failed) => self.failed(ack.write, &failed),
        }
    }

    fn failed(&mut self, id: WriteId, failed: &WriteFailed) {
        let now = self.clock.boot();
        let Delivery::AtLeastOnce(delivery) = &mut self.delivery else { return };
        let AtLeastOnce { writes, parts, .. } = &mut **delivery;
        let Some((record, to, stamped)) = writes.of(id) else { return };
        let Some(whole) = self.open.get(&record).map(|open| &open.record).or_else(|| parts.record(record)) else {
            // Its partition was given up: the next owner publishes it.
            writes.take(id);
            return;
        };
        match Remedy::of(failed, to, stamped) {
            Remedy::Replace { bytes } => {
                if let Some(Unacknowledged { record, part, write }) = writes.take(id) {
                    writes.push(record, part, instead_of_too_large(whole, write.what, bytes, self.clock.wall()));
                }
            }
            Remedy::WithoutTimestamp => writes.again_without_timestamp(id),
            Remedy::Again => writes.again(id, now),
            Remedy::AgainAlone => {
                writes.again(id, now);
                self.reporting.output.refused_alone(to, failed.to_string());
            }
            Remedy::AgainAndTell => {
                writes.again(id, now);
                self.reporting.output.refused(to, failed.to_string());
            }
        }
    }

    fn written(&mut self, id: WriteId) {
        let Delivery::AtLeastOnce(delivery) = &mut self.delivery else { return };
        let Some(Unacknowledged { record, part, write }) = delivery.writes.take(id) else { return };
        crash_point::pass(Point::ProduceAcknowledged);
        if let Some(part) = part
            && let Some((receipt, log)) = delivery.parts.written(record, part)
        {
            self.partitions.publish(&receipt, log, part);
        }
        self.count(&write);
        if let Some(open) = self.open.get_mut(&record) {
            open.acknowledged += 1;
            self.settle_if_done(record);
        }
    }

    /// Writes what an alert led to while others of its message are not decided.
    pub(super) fn write_early(&mut self, early: Early) {
        let Early { record, part, begins_anew, writes } = early;
        let (Some(open), Delivery::AtLeastOnce(delivery)) = (self.open.get(&record), &mut self.delivery) else {
            return;
        };
        if begins_anew {
            self.partitions.unpublish(&open.record.receipt, open.log);
        }
        delivery.parts.begin(record, open, part, writes.len());
        self.write(record, Some(part), writes);
    }

    /// Writes what a record led to, or one alert of it.
    pub(super) fn write(&mut self, record: RecordId, part: Option<Part>, writes: Vec<Write>) {
        // Of a record that is not open, the partition was given up: the next owner reads it again.
        let (true, Delivery::AtLeastOnce(delivery)) = (self.open.contains_key(&record), &mut self.delivery) else {
            return;
        };
        for write in writes {
            self.reporting.metrics.record_produced(write.outgoing.to);
            delivery.writes.push(record, part, write);
        }
    }

    pub(super) fn settle_if_done(&mut self, id: RecordId) {
        if self.open.get(&id).is_some_and(|open| open.writes == Some(open.acknowledged))
            && let Some(open) = self.open.remove(&id)
        {
            self.partitions.settle(&open.record.receipt, open.log);
            self.window.release(&open.size);
        }
    }
}

fn rebuild(sink: &mut Sink) {
    if let Err(error) = sink.rebuild() {
        tracing::error!(%error, "the producer can't be made anew; it is tried again in a second");
    }
}
