//! The simulated partition: messages in the order that decides, each stamped by a broker's clock that may step, or by the
//! clock of who wrote it. Its topic may be deleted and created anew.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use alert_ips::{
    domain::{
        journal::{Entry, read_message},
        time::JournalTime,
    },
    kafka::journal::Start,
};
use tokio::time::Instant;

use super::signal::Signal;
use crate::world::START;

/// Messages of the first step back of the search for a checkpoint; each further one is twice as long.
const FIRST_STEP: usize = 1_024;

/// One message.
#[derive(Clone)]
pub(super) struct Stored {
    /// The broker's clock in milliseconds since 1970.
    pub(super) at: i64,
    /// The true time since the run began, which only the checks know.
    pub(super) landed: Duration,
    pub(super) bytes: Arc<[u8]>,
}

impl Stored {
    /// What it says, if it is one of the journal's.
    pub(super) fn entries(&self) -> Vec<Entry> {
        read_message(&self.bytes).unwrap_or_default()
    }

    pub(super) fn time(&self) -> JournalTime {
        JournalTime::from_origin(Duration::from_millis(u64::try_from(self.at).unwrap()))
    }
}

/// A step of the broker's clock: when, and by how many milliseconds.
pub(super) type Step = (Duration, i64);

#[derive(Clone)]
pub(super) struct Partition {
    started: Instant,
    steps: Arc<[Step]>,
    /// How fast the broker's clock runs; that of everyone else, the service too, runs at 1.
    rate: f64,
    messages: Arc<Mutex<Vec<Stored>>>,
    /// The logs before this one, each as it was when it was deleted.
    gone: Arc<Mutex<Vec<Vec<Stored>>>>,
    end: Signal<usize>,
    /// Which log it is.
    log: Signal<usize>,
}

impl Partition {
    pub(super) fn new(steps: &[Step], rate: f64) -> Self {
        Self {
            started: Instant::now(),
            steps: steps.into(),
            rate,
            messages: Arc::default(),
            gone: Arc::default(),
            end: Signal::default(),
            log: Signal::default(),
        }
    }

    /// Takes a message in, stamped by its writer or else by the broker, and says at which offset.
    pub(super) fn land(&self, bytes: Arc<[u8]>, stamp: Option<i64>) -> i64 {
        let mut messages = self.messages.lock().unwrap();
        let at = stamp.unwrap_or_else(|| self.clock());
        messages.push(Stored { at, landed: self.started.elapsed(), bytes });
        let end = messages.len();
        drop(messages);
        self.end.set(end);
        offset(end - 1)
    }

    /// Deletes the log, and creates an empty one in its place.
    pub(super) fn recreate(&self) {
        let old = std::mem::take(&mut *self.messages.lock().unwrap());
        let mut gone = self.gone.lock().unwrap();
        gone.push(old);
        self.end.set(0);
        self.log.set(gone.len());
    }

    /// Which log it is, and its changes.
    pub(super) fn log(&self) -> &Signal<usize> {
        &self.log
    }

    /// Every log there was, the present one last.
    pub(super) fn logs(&self) -> Vec<Vec<Stored>> {
        let mut logs = self.gone.lock().unwrap().clone();
        logs.push(self.from(0));
        logs
    }

    /// Whether anything was ever written.
    pub(super) fn was_written(&self) -> bool {
        self.logs().iter().any(|log| !log.is_empty())
    }

    /// The broker's clock now.
    pub(super) fn clock(&self) -> i64 {
        let elapsed = self.started.elapsed();
        let stepped: i64 = self.steps.iter().filter(|(when, _)| *when <= elapsed).map(|(_, by)| by).sum();
        START.as_millisecond() + i64::try_from(elapsed.mul_f64(self.rate).as_millis()).unwrap() + stepped
    }

    /// One past the newest message, and its changes.
    pub(super) fn end(&self) -> &Signal<usize> {
        &self.end
    }

    pub(super) fn len(&self) -> usize {
        self.messages.lock().unwrap().len()
    }

    /// The messages from an index on.
    pub(super) fn from(&self, index: usize) -> Vec<Stored> {
        self.messages.lock().unwrap().get(index..).unwrap_or_default().to_vec()
    }

    /// Where reading begins, and whether that is what was asked for. `None`: the log ends before it.
    pub(super) fn place(&self, start: Start) -> Option<(usize, bool)> {
        let messages = self.messages.lock().unwrap();
        match start {
            Start::Beginning => Some((0, true)),
            Start::Offset(offset) => {
                usize::try_from(offset).ok().filter(|at| *at <= messages.len()).map(|at| (at, true))
            }
            Start::Since(time) => {
                let first = messages.iter().position(|message| message.at >= time.as_millisecond());
                Some((first.unwrap_or(messages.len()), true))
            }
            Start::Checkpoint(wanted) => {
                let older_by = i64::try_from(wanted.older_by.as_millis()).unwrap();
                let (mut to, mut step, mut newest) = (messages.len(), FIRST_STEP, i64::MIN);
                while to > 0 {
                    let from = to.saturating_sub(step);
                    newest = messages[from..to].iter().map(|message| message.at).fold(newest, i64::max);
                    let found = (from..to).rev().find(|index| {
                        newest.saturating_sub(messages[*index].at) >= older_by
                            && (wanted.is_it)(&messages[*index].bytes)
                    });
                    if let Some(found) = found {
                        return Some((found, true));
                    }
                    (to, step) = (from, step * 2);
                }
                Some((0, false))
            }
        }
    }
}

/// An index as Kafka's offset.
pub(super) fn offset(index: usize) -> i64 {
    i64::try_from(index).unwrap()
}

#[cfg(test)]
mod tests {
    use alert_ips::kafka::journal::Checkpoint;
    use rstest::rstest;
    use tokio::time::advance;

    use super::*;

    async fn a_message_a_second(messages: &[&str], steps: &[Step]) -> Partition {
        let partition = Partition::new(steps, 1.0);
        for message in messages {
            partition.land(message.as_bytes().into(), None);
            advance(Duration::from_secs(1)).await;
        }
        partition
    }

    #[rstest]
    #[case::the_newest(0, Some((3, true)))]
    #[case::old_enough(2, Some((1, true)))]
    #[case::none_is_old_enough(4, Some((0, false)))]
    #[tokio::test(start_paused = true)]
    async fn the_newest_checkpoint_that_is_old_enough_is_found(
        #[case] older_by: u64,
        #[case] found: Option<(usize, bool)>,
    ) {
        let partition = a_message_a_second(&["a", "checkpoint", "b", "checkpoint", "c"], &[]).await;
        let wanted = Checkpoint { is_it: |bytes| bytes == b"checkpoint", older_by: Duration::from_secs(older_by) };
        assert_eq!(partition.place(Start::Checkpoint(wanted)), found);
    }

    #[tokio::test(start_paused = true)]
    async fn the_brokers_clock_steps() {
        let steps = [(Duration::from_millis(500), 60_000), (Duration::from_millis(1_500), -90_000)];
        let partition = a_message_a_second(&["a", "b", "c"], &steps).await;
        let at: Vec<_> = partition.from(0).iter().map(|message| message.at - START.as_millisecond()).collect();
        assert_eq!(at, [0, 61_000, -28_000]);
        let since = START + Duration::from_secs(10);
        assert_eq!(partition.place(Start::Since(since)), Some((1, true)));
    }

    #[tokio::test(start_paused = true)]
    async fn an_offset_beyond_the_end_is_nowhere() {
        let partition = a_message_a_second(&["a"], &[]).await;
        assert_eq!(partition.place(Start::Offset(1)), Some((1, true)));
        assert_eq!(partition.place(Start::Offset(2)), None);
    }
}
