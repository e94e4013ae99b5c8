//! Partitions that the group takes away: what is under way in them ends first, as far as there is time.

use std::time::Duration;

use super::{Delivery, Dispatcher, partitions::Log};
use crate::{
    domain::{record::Partition, time::BootTime},
    kafka::source::SettledReply,
};

/// Partitions that are to be given up.
pub(super) struct Leave {
    partitions: Vec<Partition>,
    logs: Vec<Log>,
    /// They are given up then, whatever is under way.
    until: BootTime,
    settled: SettledReply,
}

impl Dispatcher {
    /// Begins to give partitions up, which may take so long.
    pub(super) fn begin_to_leave(&mut self, partitions: Vec<Partition>, within: Duration, settled: SettledReply) {
        let logs = self.partitions.begin_to_leave(&partitions);
        self.pipeline.accounts.let_go_of_withdrawn();
        let now = self.clock.boot();
        self.leaves.push(Leave { partitions, logs, until: now + within, settled });
        self.leave_where_all_has_ended(now);
    }

    /// Gives up what has nothing under way any more, or no time left.
    pub(super) fn leave_where_all_has_ended(&mut self, now: BootTime) {
        for leave in std::mem::take(&mut self.leaves) {
            if leave.until > now && self.is_under_way(&leave.logs) {
                self.leaves.push(leave);
            } else {
                self.give_up(leave);
            }
        }
    }

    /// Gives up what is to be given up, whatever is under way.
    pub(super) fn leave_at_once(&mut self) {
        for leave in std::mem::take(&mut self.leaves) {
            self.give_up(leave);
        }
    }

    /// When the first of them has no time left.
    pub(super) fn next_leave(&self) -> Option<BootTime> {
        self.leaves.iter().map(|leave| leave.until).min()
    }

    fn give_up(&mut self, leave: Leave) {
        for partition in &leave.partitions {
            self.reporting.metrics.partition_given_up(partition);
        }
        self.reporting.output.given_up();
        let points = self.partitions.give_up(&leave.partitions, &leave.logs);
        self.forget_ended_logs();
        // What a transaction settles is committed in it, and by nobody else.
        let points = if let Delivery::AtLeastOnce(_) = self.delivery { points } else { Vec::new() };
        leave.settled.settle(points);
    }

    /// Whether something of these logs is being asked, or is decided and not in Kafka yet. What waits for its turn is let go
    /// by itself.
    fn is_under_way(&self, logs: &[Log]) -> bool {
        let parts = match &self.delivery {
            Delivery::AtLeastOnce(delivery) => delivery.parts.is_any_of(logs),
            Delivery::ExactlyOnce(_) => false,
        };
        parts || self.open.values().any(|open| logs.contains(&open.log))
    }
}
