//! Writes by themselves: a record is settled once all that it led to is acknowledged, and what is settled is committed
//! every second. After a crash what was written and not committed is written again.

use std::time::Duration;

use tokio::sync::mpsc;

use super::{
    BATCH, Delivery, Dispatcher,
    remedy::{Remedy, instead_of_too_large},
    writes::{Trouble, Writes},
};
use crate::{
    crash_point::{self, Point},
    kafka::sink::{Ack, Sink, WriteFailed, WriteId},
    observe::health::Condition,
    pipeline::RecordId,
};

/// Writes that may wait for their acknowledgement before no further early ones are taken.
pub(super) const MANY_WRITES: usize = 20_000;

/// So long no write was acknowledged, of some that wait, when it is told. librdkafka sends them again and again without a word.
const SILENCE: Duration = Duration::from_secs(15);

pub(super) struct AtLeastOnce {
    pub(super) sink: Box<Sink>,
    pub(super) acks: mpsc::Receiver<Ack>,
    pub(super) writes: Writes,
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
            self.reporting.output.set(Condition::Waiting(words));
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
                    self.reporting.output.set(Condition::Waiting(words));
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
        let writes = &mut delivery.writes;
        let Some((record, to)) = writes.of(id) else { return };
        if !self.open.contains_key(&record) {
            // Its partition was given up: the next owner publishes it.
            writes.take(id);
            return;
        }
        match Remedy::of(failed, to) {
            Remedy::Replace { bytes } => {
                if let Some((record, write)) = writes.take(id)
                    && let Some(open) = self.open.get(&record)
                {
                    writes.push(record, instead_of_too_large(&open.record, write.what, bytes, self.clock.wall()));
                }
            }
            Remedy::WithoutTimestamp => writes.again_without_timestamp(id),
            Remedy::Again | Remedy::AgainAlone => writes.again(id, now),
            Remedy::AgainAndTell => {
                writes.again(id, now);
                self.reporting.of(to).set(Condition::Waiting(failed.to_string()));
            }
        }
    }

    fn written(&mut self, id: WriteId) {
        let Delivery::AtLeastOnce(delivery) = &mut self.delivery else { return };
        let Some((record, write)) = delivery.writes.take(id) else { return };
        crash_point::pass(Point::ProduceAcknowledged);
        self.count(&write);
        if let Some(open) = self.open.get_mut(&record) {
            open.acknowledged += 1;
            self.settle_if_done(record);
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
