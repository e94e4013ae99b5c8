//! The journal's entries: every call is claimed before it is made and answered after it.

use std::fmt;

use super::{alert::AlertId, alert::Severity, time::BootTime, time::JournalTime};

/// Names a claim among all claims of an account.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClaimId(pub u64);

/// One entry, in the order that decides.
#[derive(Clone, Debug, PartialEq)]
pub enum Entry {
    Claim(Claim),
    Answer(Answer),
    Freeze(Freeze),
}

/// The wish to make one call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    pub id: ClaimId,
    /// The alert it is for.
    pub alert: AlertId,
    pub severity: Severity,
    /// Whether it may take the slots that are reserved for High alerts: for one, or for the tenth of the grants that goes
    /// to the others while both wait.
    pub reserved: bool,
}

/// What became of a granted claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    pub claim: ClaimId,
    pub reached: Reached,
}

/// Whether the service can have counted a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reached {
    /// An answer began to arrive: counted, and it can't be counted later than now.
    Complete,
    /// The connection could not be opened: not counted.
    Never,
    /// No answer came (time-out, broken connection): it may be counted, also some time from now.
    Unknown,
    /// The permit expired before the call was made: not counted.
    Unused,
}

/// The service asked for a pause.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Freeze {
    /// No claim is granted before.
    pub until: JournalTime,
    /// In words, for the log and for whoever reads the journal.
    pub why: String,
}

/// An entry as the journal gives it back, with the time that counts.
#[derive(Clone, Debug, PartialEq)]
pub struct Stamped {
    pub at: JournalTime,
    pub entry: Entry,
}

/// The right to make one call before it expires. It can't be copied: a call consumes it.
#[derive(Debug, PartialEq, Eq)]
pub struct Permit {
    pub claim: ClaimId,
    /// On the clock of the instance that asked for it.
    pub expires: BootTime,
}

impl fmt::Display for ClaimId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
