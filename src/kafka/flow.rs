//! What librdkafka is told to fetch, and what not.

use std::{collections::HashSet, mem, time::Duration};

use rdkafka::{
    TopicPartitionList,
    consumer::{BaseConsumer, Consumer as _},
};

use super::{assigned::Assigned, callbacks::Callbacks, notice};
use crate::domain::{record::Partition, time::BootTime};

/// A pause shorter than this is not told to librdkafka, which would throw away what it has fetched ahead.
const SHORT_PAUSE: Duration = Duration::from_millis(250);

/// So long those that have waited are fetched before the others.
const HEAD_START: Duration = Duration::from_secs(2);

/// Whether records of all partitions, or of some, are held back.
///
/// Each pause throws away what was fetched, and what comes first once it is over may fill the read window at once: a partition
/// whose leader is slower would never be read while there is a backlog. So those of which nothing came before the pause are
/// fetched alone at first.
#[derive(Default)]
pub(super) struct Flow {
    /// How long all have been held back so far.
    held_for: Duration,
    /// Whether nothing is fetched.
    paused: bool,
    /// Partitions of which nothing is fetched.
    held: HashSet<Partition>,
    /// Those that are fetched alone, and until when, if nothing comes of them.
    first: Option<(HashSet<Partition>, BootTime)>,
}

impl Flow {
    /// Holds everything back, for so much longer. Returns whether nothing is fetched any more, so that polling takes nothing.
    pub(super) fn hold(&mut self, kafka: &BaseConsumer<Callbacks>, assigned: &Assigned, waited: Duration) -> bool {
        self.held_for = self.held_for.saturating_add(waited);
        if self.held_for >= SHORT_PAUSE && !mem::replace(&mut self.paused, true) {
            self.first = None;
            tell_paused(kafka, &assigned.list_where(|_| true));
        }
        self.paused
    }

    /// Fetches again what is not held back by itself: at first only what has waited longest.
    pub(super) fn release(&mut self, kafka: &BaseConsumer<Callbacks>, assigned: &mut Assigned, now: BootTime) {
        self.held_for = Duration::ZERO;
        if mem::take(&mut self.paused) {
            let first: HashSet<_> = assigned.unheard().difference(&self.held).cloned().collect();
            assigned.listen_anew();
            tell_resumed(kafka, &assigned.list_where(|partition| first.contains(partition)));
            self.first = Some((first, now + HEAD_START));
        }
        let Some((first, until)) = &self.first else { return };
        if now >= *until || first.is_disjoint(&assigned.unheard()) {
            tell_resumed(
                kafka,
                &assigned.list_where(|partition| !first.contains(partition) && !self.held.contains(partition)),
            );
            self.first = None;
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
        // One of those that are fetched first may be among them.
        if let Some((first, _)) = &mut self.first {
            first.retain(|partition| !held.contains(partition));
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
