//! What is done about a write that failed, however it is delivered.

use jiff::Timestamp;

use crate::{
    domain::{
        outcome::{Reason, Rejection},
        record::{Destination, Record},
    },
    kafka::sink::WriteFailed,
    pipeline::{Write, Written, dead_letter},
};

/// A dead letter is cut to no less than this; a topic that takes less is of no use for dead letters.
const DEAD_LETTER_FLOOR: usize = 4096;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Remedy {
    /// The broker will never take it: [another](instead_of_too_large) takes its place.
    Replace { bytes: usize },
    /// It is sent again, with the producer's timestamp.
    WithoutTimestamp,
    /// It is sent again.
    Again,
    /// It is sent again, and until its topic takes it the operator is told why it does not.
    AgainAndTell,
    /// The same, and nothing else waits for that: perhaps Kafka never takes it.
    AgainAlone,
}

impl Remedy {
    /// `stamped`: whether the write had a timestamp of its own.
    pub(super) fn of(failed: &WriteFailed, to: Destination, stamped: bool) -> Self {
        match failed {
            WriteFailed::TooLarge { bytes } if *bytes > DEAD_LETTER_FLOOR || to.is_output() => {
                Self::Replace { bytes: *bytes }
            }
            WriteFailed::BadTimestamp if stamped => Self::WithoutTimestamp,
            WriteFailed::Retriable(_) => Self::Again,
            WriteFailed::Refused(_) => Self::AgainAlone,
            WriteFailed::TooLarge { .. }
            | WriteFailed::BadTimestamp
            | WriteFailed::Denied(_)
            | WriteFailed::TopicMissing(_) => Self::AgainAndTell,
        }
    }
}

/// What takes the place of a write of so many bytes that the broker will never take: of an outcome a dead letter, of a dead
/// letter a shorter one.
pub(super) fn instead_of_too_large(record: &Record, what: Written, bytes: usize, now: Timestamp) -> Write {
    let (rejection, limit) = match what {
        Written::Outcome { .. } => {
            let detail = format!(
                "the output record has {bytes} bytes, more than the broker takes: raise max.message.bytes of the output \
                 topic and message.max.bytes in [kafka.properties], then replay it"
            );
            (Rejection { reason: Reason::TooLarge, detail }, usize::MAX)
        }
        Written::DeadLetter(rejection) => {
            tracing::warn!(record = %record.receipt, bytes, "the broker takes no dead letter of this size; it is cut");
            (rejection, (bytes / 2).max(DEAD_LETTER_FLOOR))
        }
    };
    dead_letter(record.clone(), rejection, now, limit)
}
