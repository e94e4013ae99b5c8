//! What librdkafka is told to fetch, and what not.

use std::{collections::HashSet, mem, time::Duration};

use rdkafka::{
    TopicPartitionList,
    consumer::{BaseConsumer, Consumer as _},
};

use super::{assigned::Assigned, callbacks::Callbacks, notice};
use crate::domain::record::Partition;

/// A pause shorter than this is not told to librdkafka, which would throw away what it has fetched ahead.
const SHORT_PAUSE: Duration = Duration::from_millis(250);

/// Whether records of all partitions, or of some, are held back.
#[derive(Default)]
pub(super) struct Flow {
    /// How long all have been held back so far.
    held_for: Duration,
    /// Whether nothing is fetched.
    paused: bool,
    /// Partitions of which nothing is fetched.
    held: HashSet<Partition>,
}

impl Flow {
    /// Holds everything back, for so much longer. Returns whether nothing is fetched any more, so that polling takes nothing.
    pub(super) fn hold(&mut self, kafka: &BaseConsumer<Callbacks>, assigned: &Assigned, waited: Duration) -> bool {
        self.held_for = self.held_for.saturating_add(waited);
        if self.held_for >= SHORT_PAUSE && !mem::replace(&mut self.paused, true) {
            tell_paused(kafka, &assigned.list_where(|_| true));
        }
        self.paused
    }

    /// Fetches again what is not held back by itself.
    pub(super) fn release(&mut self, kafka: &BaseConsumer<Callbacks>, assigned: &Assigned) {
        self.held_for = Duration::ZERO;
        if mem::take(&mut self.paused) {
            tell_resumed(kafka, &assigned.list_where(|partition| !self.held.contains(partition)));
        }
    }

    /// Fetches nothing of these partitions, and what is not held any more again.
    pub(super) fn hold_partitions(
        &mut self,
        kafka: &BaseConsumer<Callbacks>,
        assigned: &Assigned,
        held: HashSet<Partition>,
    ) {
        if held == self.held {
            return;
        }
        tell_paused(kafka, &assigned.list_where(|partition| held.contains(partition)));
        let released = assigned.list_where(|partition| self.held.contains(partition) && !held.contains(partition));
        if !self.paused {
            tell_resumed(kafka, &released);
        }
        self.held = held;
    }

    /// Throws away what was fetched ahead of what is not held back, and fetches it again, from the same place. Returns how
    /// many partitions that are.
    pub(super) fn fetch_anew(&self, kafka: &BaseConsumer<Callbacks>, assigned: &Assigned) -> usize {
        let fetched = assigned.list_where(|partition| !self.paused && !self.held.contains(partition));
        tell_paused(kafka, &fetched);
        tell_resumed(kafka, &fetched);
        fetched.count()
    }

    /// Partitions that were assigned just now. librdkafka remembers of one that was given up while it was paused that it is,
    /// and fetches nothing of it when it comes back. One that is held may be among them: the dispatcher says so only where
    /// that changes for it, so what is held is remembered across assignments.
    pub(super) fn begin(&self, kafka: &BaseConsumer<Callbacks>, assigned: &Assigned, begun: &[Partition]) {
        let is_paused = |partition: &Partition| self.paused || self.held.contains(partition);
        let of_them = |partition: &Partition| begun.contains(partition);
        tell_paused(kafka, &assigned.list_where(|partition| of_them(partition) && is_paused(partition)));
        tell_resumed(kafka, &assigned.list_where(|partition| of_them(partition) && !is_paused(partition)));
    }
}

fn tell_resumed(kafka: &BaseConsumer<Callbacks>, list: &TopicPartitionList) {
    if let Err(error) = kafka.resume(list) {
        tracing::warn!(error = %notice::error_words(&error), "resuming partitions failed");
    }
}

fn tell_paused(kafka: &BaseConsumer<Callbacks>, list: &TopicPartitionList) {
    if let Err(error) = kafka.pause(list) {
        tracing::warn!(error = %notice::error_words(&error), "pausing partitions failed");
    }
}
