//! What a running instance knows, carried into a log that was created anew.

use std::time::Duration;

use super::{Budget, Checkpoint, View};

/// How long nothing is granted after a budget was carried over: time for the other instances to notice, and to carry over
/// what they know.
const SETTLING: Duration = Duration::from_secs(20);

impl Budget {
    /// Takes over what a writer knew of the log before this one.
    ///
    /// Whoever carries has read the same entries up to some point, so where two do, the calls that both know count once.
    pub(super) fn carry(&mut self, checkpoint: &Checkpoint) {
        let mut carried = Self::from(checkpoint);
        // Who made these calls answers in the new log, if at all: till then they are taken to be out as long as they may.
        let lapses: Vec<_> = carried.open.values().map(|call| call.lapse).collect();
        for lapse in lapses {
            carried.hold_from(lapse);
        }

        for (writer, theirs) in &carried.writers {
            let known = self.writers.entry(*writer).or_default();
            known.last = known.last.max(theirs.last);
            known.seen = known.seen.max(theirs.seen);
            known.highs_until = known.highs_until.max(theirs.highs_until);
        }
        let known = |view: &View, views: &[View]| {
            views.iter().any(|known| known.writer == view.writer && known.terms == view.terms)
        };
        for view in carried.views {
            if !known(&view, &self.views) {
                self.views.push(view);
            }
        }
        self.agree();
        for window in &mut self.windows {
            if let Some(theirs) = carried.windows.iter().find(|theirs| theirs.limit.per == window.limit.per) {
                window.absorb(theirs);
            }
        }
        self.refused.extend(carried.refused);
        self.paced = self.paced.max(carried.paced);
        self.frozen_until = self.frozen_until.max(carried.frozen_until).max(self.now + SETTLING);
    }
}
