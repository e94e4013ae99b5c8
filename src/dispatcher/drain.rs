//! The end: nothing new is read, what runs finishes, outputs are acknowledged, the last commit is made, the group is left.

use std::time::Duration;

use super::{Dispatcher, Unfinished};
use crate::{
    crash_point::{self, Point},
    kafka::source::SourceEvent,
};

/// How long calls on the wire and writes may still take.
const FINISH_WITHIN: Duration = Duration::from_secs(20);

/// How long the last commit and leaving the group may take.
const LEAVE_WITHIN: Duration = Duration::from_secs(7);

impl Dispatcher {
    pub(super) async fn drain(mut self) -> Unfinished {
        crash_point::pass(Point::DrainBegun);
        // Records still on their way are left unread, so they stay uncommitted.
        self.draining = true;
        self.source.pause();
        self.partitions.leave_all();
        let finished = tokio::time::timeout(FINISH_WITHIN, async {
            while !(self.lives.is_empty() && self.open.is_empty() && self.delivery.len() == 0) {
                crash_point::pass(Point::DrainWaiting);
                self.turn().await;
            }
        });
        // What is not finished by then is redone after the next start.
        let _ = finished.await;
        let (records, writes, left_open) = (self.lives.len(), self.delivery.len(), self.left_open);
        crash_point::pass(Point::DrainBeforeLastCommit);
        self.commit();
        self.source.stop();
        let left = tokio::time::timeout(LEAVE_WITHIN, self.leave_group()).await.is_ok();
        crash_point::pass(Point::DrainLeft);
        self.reporting.pulse.finish();
        Unfinished { records, writes, still_in_group: !left, left_open }
    }

    async fn leave_group(&mut self) {
        // The source waits for the answer to what the group took away before.
        self.leave_at_once();
        while let Some(event) = self.events.recv().await {
            match event {
                SourceEvent::Stopped => return,
                event => self.take(event),
            }
            // Nothing more ends now.
            self.leave_at_once();
        }
    }
}
