//! The records that are being decided, by the log they belong to: giving a partition up ends all of its records at once.

use std::{
    future::poll_fn,
    pin::Pin,
    task::{Context, Poll},
};

use futures_util::{Stream as _, future::BoxFuture, stream::FuturesUnordered};
use tokio::task::unconstrained;

use super::{BATCH, partitions::Log};
use crate::{
    defender::account::LetGo,
    pipeline::{Decided, RecordId},
};

/// The end of one record's life in the pipeline.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) record: RecordId,
    pub(super) result: Result<Decided, LetGo>,
}

/// A future for each record, and no task: tens of thousands may wait for hours.
#[derive(Default)]
pub(super) struct Lives {
    by_log: Vec<(Log, FuturesUnordered<BoxFuture<'static, Ended>>)>,
    /// Where the next round of polling begins, so that no log waits behind a busier one.
    next: usize,
}

impl Lives {
    pub(super) fn begin(&mut self, log: Log, life: impl Future<Output = Ended> + Send + 'static) {
        let life: BoxFuture<'static, Ended> = Box::pin(life);
        match self.by_log.iter().find(|(known, _)| *known == log) {
            Some((_, lives)) => lives.push(life),
            None => self.by_log.push((log, FuturesUnordered::from_iter([life]))),
        }
    }

    /// Ends the lives of a log's records; their questions are withdrawn.
    pub(super) fn end(&mut self, log: Log) {
        self.by_log.retain(|(known, _)| *known != log);
    }

    pub(super) fn len(&self) -> usize {
        self.by_log.iter().map(|(_, lives)| lives.len()).sum()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Waits until a life has ended by itself; then takes all that have, up to [`BATCH`]. Cancel safe.
    pub(super) async fn ended(&mut self) -> Vec<Ended> {
        // The runtime gives a task a budget, which so many lives in one task would use up at each turn: most of a batch
        // would be stopped at its first question, holding all that decoding took.
        unconstrained(poll_fn(|context| self.poll_ended(context))).await
    }

    fn poll_ended(&mut self, context: &mut Context<'_>) -> Poll<Vec<Ended>> {
        let mut ended = Vec::new();
        let logs = self.by_log.len();
        for n in 0..logs {
            let (_, lives) = &mut self.by_log[(self.next + n) % logs];
            while ended.len() < BATCH
                && let Poll::Ready(Some(life)) = Pin::new(&mut *lives).poll_next(context)
            {
                ended.push(life);
            }
        }
        self.next = self.next.wrapping_add(1);
        if ended.is_empty() { Poll::Pending } else { Poll::Ready(ended) }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;
    use tokio::sync::oneshot;

    use super::*;

    fn life(record: u64) -> (oneshot::Sender<()>, impl Future<Output = Ended> + Send + 'static) {
        let (end, ended) = oneshot::channel();
        let life = async move {
            let _ = ended.await;
            Ended { record: RecordId(record), result: Ok(Decided::default()) }
        };
        (end, life)
    }

    #[tokio::test]
    async fn ending_a_log_ends_its_records_and_no_others() {
        let mut lives = Lives::default();
        let (first, other) = (Log::default(), Log::default().next());
        let ends: Vec<_> = [(first, 1), (other, 2), (first, 3), (other, 4)]
            .into_iter()
            .map(|(log, record)| {
                let (end, life) = life(record);
                lives.begin(log, life);
                end
            })
            .collect();
        assert_eq!(lives.len(), 4);
        lives.end(first);
        assert_eq!(ends.iter().map(oneshot::Sender::is_closed).collect::<Vec<_>>(), [true, false, true, false]);
        drop(ends);
        let mut ended: Vec<_> = lives.ended().await.into_iter().map(|ended| ended.record.0).collect();
        ended.sort_unstable();
        assert_eq!((ended, lives.is_empty()), (vec![2, 4], true));
    }

    #[tokio::test]
    async fn a_record_that_begins_later_is_noticed() {
        let mut lives = Lives::default();
        assert!(lives.ended().now_or_never().is_none());
        let (end, life) = life(1);
        lives.begin(Log::default(), life);
        drop(end);
        assert_eq!(lives.ended().await.len(), 1);
    }
}
