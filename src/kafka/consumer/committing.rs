//! How far the group is settled: what the dispatcher wants committed, and how that is answered.

use std::{mem, thread, time::Duration};

use rdkafka::consumer::Consumer as _;

use super::{ANSWER_STEP, Consumer, IDLE_POLL};
use crate::{
    domain::record::Partition,
    kafka::{
        callbacks::{self, CommitAnswer},
        source::{SourceEvent, StampAsk, Stamped},
    },
};

/// How many idle polls, at the end, the answer to a commit under way is waited for: 5 s.
const LAST_COMMIT_POLLS: usize = 100;

impl Consumer {
    /// Starts a commit of everything that waits for one; one at a time.
    pub(super) fn commit(&mut self) {
        if self.commit_in_flight || self.commits.is_empty() {
            return;
        }
        let commits = mem::take(&mut self.commits);
        let list = self.assigned.commit_list(commits.into_values());
        if list.count() == 0 {
            return;
        }
        self.commit_in_flight = self.connection.commit_soon(list);
    }

    /// Commits what waits for these partitions and waits for the answer.
    pub(super) fn commit_now(&mut self, these: impl Fn(&Partition) -> bool) {
        let commits: Vec<_> =
            self.commits.extract_if(|partition, _| these(partition)).map(|(_, point)| point).collect();
        let list = self.assigned.commit_list(commits);
        if list.count() == 0 {
            return;
        }
        let result = callbacks::commit(self.kafka(), list).map(|list| self.assigned.points(&list));
        self.tell(SourceEvent::Committed { result });
    }

    pub(super) fn hear_commits(&mut self, answers: Vec<CommitAnswer>) {
        for committed in answers {
            self.commit_in_flight = false;
            if committed.is_ok() {
                // Nothing else shows that the rights are there where nothing more comes.
                self.reporter.working();
            }
            let result = committed.map(|list| self.assigned.points(&list));
            self.tell(SourceEvent::Committed { result });
        }
    }

    /// Waits for the answer to the commit under way, at most so long: the committing thread may not even have sent it, and sent
    /// after the last commit it would put older offsets in the place of newer ones.
    pub(super) fn see_commit_answered(&mut self, limit: Duration) {
        let mut left = limit;
        loop {
            let answers = self.connection.callbacks().take_commits();
            self.hear_commits(answers);
            if !self.commit_in_flight || left.is_zero() {
                return;
            }
            thread::sleep(ANSWER_STEP);
            left = left.saturating_sub(ANSWER_STEP);
        }
    }

    /// Sees the commit under way answered and makes the last one.
    pub(super) fn commit_at_the_end(&mut self) {
        self.batch.clear();
        for _ in 0..LAST_COMMIT_POLLS {
            if !self.commit_in_flight {
                break;
            }
            // Records that still come are read again after the next start.
            self.kafka().poll(IDLE_POLL);
            self.answer_callbacks();
        }
        self.commit_now(|_| true);
    }

    /// Says of points whether they are all of the current assignment. No rebalance is answered between this and the look
    /// at the group's metadata, so they are of one generation.
    pub(super) fn stamp(&self, asks: Vec<StampAsk>) {
        for StampAsk { points, reply } in asks {
            let many = points.len();
            let list = self.assigned.commit_list(points);
            // Of one who has lost its partitions some brokers take offsets without looking who it is.
            let vouched = list.count() == many && !self.kafka().assignment_lost();
            let group = self.kafka().group_metadata().filter(|_| vouched);
            // Nobody may wait any more.
            let _ = reply.try_send(group.map(|group| Stamped { list, group }));
        }
    }
}
