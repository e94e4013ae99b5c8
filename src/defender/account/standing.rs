//! How the account stands with its journal: whether calls may be claimed there, and what must be written down.

use crate::domain::{journal::Body, time::JournalTime};

/// How the account stands with its journal.
pub(super) struct Standing {
    pub(super) journal: Use,
    /// The entries that come are history.
    pub(super) replaying: bool,
    /// Until when, and why, the budget may not be what it seems.
    pub(super) doubt: Option<(JournalTime, String)>,
    /// What must come back from the log before the terms are declared: what was known of a log that is gone, or a freeze.
    pub(super) foremost: Option<Body>,
    /// What must be appended once that is possible again.
    pub(super) overdue: Vec<Body>,
    /// The newest entry.
    pub(super) offset: i64,
    /// No checkpoint is appended before this.
    pub(super) checkpoint_due: JournalTime,
    /// Entries since the newest checkpoint.
    pub(super) since_checkpoint: u64,
}

/// Whether calls may be claimed in the journal.
pub(super) enum Use {
    /// It has told nothing yet.
    Reading,
    Open,
    /// Not, for this reason.
    Stopped(String),
}

impl Default for Standing {
    fn default() -> Self {
        Self {
            journal: Use::Reading,
            replaying: true,
            doubt: None,
            foremost: None,
            overdue: Vec::new(),
            offset: 0,
            checkpoint_due: JournalTime::default(),
            since_checkpoint: 0,
        }
    }
}

impl Standing {
    /// Why no calls may be claimed, if there is more to it than that the journal is being read.
    pub(super) fn trouble(&self, now: JournalTime) -> Option<&str> {
        match &self.journal {
            Use::Stopped(why) => Some(why),
            Use::Reading | Use::Open => self.doubted(now).map(|(_, why)| why.as_str()),
        }
    }

    /// Whether the journal has told nothing yet.
    pub(super) fn is_reading(&self) -> bool {
        matches!(self.journal, Use::Reading)
    }

    /// Until when the budget is in doubt.
    pub(super) fn doubted_until(&self, now: JournalTime) -> Option<JournalTime> {
        self.doubted(now).map(|(until, _)| *until)
    }

    /// Until when, and why, the budget is in doubt.
    pub(super) fn doubted(&self, now: JournalTime) -> Option<&(JournalTime, String)> {
        self.doubt.as_ref().filter(|(until, _)| *until > now)
    }

    pub(super) fn is_usable(&self) -> bool {
        matches!(self.journal, Use::Open)
    }

    /// Whether calls may be claimed, as far as this instance has said what it must.
    pub(super) fn is_settled(&self) -> bool {
        self.is_usable() && self.foremost.is_none()
    }

    /// An entry of this instance came back. Returns whether it is what was waited for.
    pub(super) fn came_back(&mut self, body: &Body) -> bool {
        let came = match (&self.foremost, body) {
            (Some(Body::Checkpoint(_)), Body::Checkpoint(written)) => written.offset.is_none(),
            (Some(Body::Freeze(_)), Body::Freeze(_)) => true,
            _ => false,
        };
        if came {
            self.foremost = None;
        }
        came
    }
}
