//! The journal's entries: every call is claimed before it is made and answered after it.

mod json;

use std::{fmt, sync::Arc, time::Duration};

pub use self::json::{InvalidMessage, holds_checkpoint, probe_message, read_message, write_message};

use super::{
    alert::{AlertId, Severity},
    budget::Checkpoint,
    outcome::Outcome,
    terms::Terms,
    time::{BootTime, JournalTime},
};

/// One life of one instance, among all that ever write to the journal. Drawn at random at its start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WriterId(pub u64);

/// Names an entry: who wrote it, and which of its entries it is, from 1. A copy of an entry has the same id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EntryId {
    pub writer: WriterId,
    pub number: u64,
}

/// One entry, in the order that decides.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    pub id: EntryId,
    /// Whose it is, in words for an auditor; it decides nothing.
    pub instance: Arc<str>,
    pub body: Body,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Body {
    /// What the writer holds itself to from now on. Before it the writer is granted nothing.
    Terms(Terms),
    Claim(Claim),
    Answer(Answer),
    Freeze(Freeze),
    /// Where a replay may begin.
    Checkpoint(Box<Checkpoint>),
}

/// The wish to make one call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The alert it is for.
    pub alert: AlertId,
    pub severity: Severity,
    /// Whether it may take the slots that are reserved for High alerts: for one, or for the tenth of the grants that goes
    /// to the others while both wait.
    pub reserved: bool,
    /// Whether its writer has further High alerts waiting: then the others' claims below High stand back.
    pub highs_wait: bool,
}

/// What became of a granted claim.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// The claim's entry.
    pub claim: EntryId,
    /// The alert it was for.
    pub alert: AlertId,
    pub reached: Reached,
    /// The HTTP status, where an answer came that can be used.
    pub status: Option<u16>,
    /// What the service said, where that is the end of it: good for whoever asks the same.
    pub outcome: Option<Outcome>,
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
    /// No claim is granted for so long, from this entry on. Zero: whatever holds is over, as an operator may say.
    pub lasts: Duration,
    /// In words, for the log and for whoever reads the journal.
    pub why: String,
}

/// An entry as the journal gives it back, with the time that counts.
#[derive(Clone, Debug, PartialEq)]
pub struct Stamped {
    pub at: JournalTime,
    /// Where in the log it stands.
    pub offset: i64,
    pub entry: Entry,
}

/// The right to make one call before it expires. It can't be copied: a call consumes it.
#[derive(Debug, PartialEq, Eq)]
pub struct Permit {
    /// The claim's entry.
    pub claim: EntryId,
    /// On the clock of the instance that asked for it.
    pub expires: BootTime,
}

impl Reached {
    pub const ALL: [Self; 4] = [Self::Complete, Self::Never, Self::Unknown, Self::Unused];

    /// As written in the journal.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::Never => "never",
            Self::Unknown => "unknown",
            Self::Unused => "unused",
        }
    }
}

impl fmt::Display for WriterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Display for EntryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.writer, self.number)
    }
}
