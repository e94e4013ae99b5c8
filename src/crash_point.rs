//! Named points of the program at which a build for tests aborts, so that of each can be tried what a crash there costs.
//!
//! `ALERT_IPS_CRASH_AT=POINT:N` lets `alert-ips run` abort when it passes the point for the `N`-th time: nothing is unwound,
//! flushed or told to anyone, as if by `kill -9` at that very place. Before, one line on stderr names the point. This is in
//! builds with debug assertions only (`cargo build`, `cargo test`). In others [`pass`] is nothing, and `run` warns that the
//! variable has no effect: a daemon at work must not stand still because of it.
//!
//! `tests/kafka/crash_points.rs` crashes at every point. A new one is a line in the list below, a call of [`pass`], and a line
//! in that suite, which says how to get there.

use std::{
    io::{self, Write as _},
    process,
    sync::{
        OnceLock,
        atomic::{AtomicU32, Ordering},
    },
};

use rustix::process::{Resource, Rlimit, setrlimit};

/// The variable of the environment that names a point.
pub const VARIABLE: &str = "ALERT_IPS_CRASH_AT";

/// Whether this build has crash points.
pub const AVAILABLE: bool = cfg!(debug_assertions);

/// Makes the enum, its list and its names of one table.
macro_rules! points {
    ($($(#[$meaning:meta])* $point:ident = $name:literal,)*) => {
        /// A place at which the process can be made to abort.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Point {
            $($(#[$meaning])* $point,)*
        }

        impl Point {
            /// All of them, in the order of a record's way through the program.
            pub const ALL: &[Self] = &[$(Self::$point,)*];

            /// How the variable and the line on stderr name it.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$point => $name,)*
                }
            }
        }
    };
}

points! {
    /// The group gave partitions to this instance, which has not asked yet where to begin in them.
    AssignBefore = "assign.before",
    /// It reads them, and the dispatcher knows.
    AssignAfter = "assign.after",
    /// A record was read from Kafka, and nobody but the source's thread knows of it.
    ConsumerPolled = "consumer.polled",
    /// A batch of records is with the dispatcher.
    ConsumerHandedOver = "consumer.handed-over",
    /// A token is due; nothing was sent.
    TokenBeforeRequest = "token.before-request",
    /// A token was issued, and is not used yet.
    TokenFetched = "token.fetched",
    /// A claim is to be appended to the journal.
    ClaimBeforeAppend = "claim.before-append",
    /// The brokers have a claim; it may not have come back yet.
    ClaimAppended = "claim.appended",
    /// A claim came back and is granted.
    ClaimGranted = "claim.granted",
    /// A permit was found good; its request is written next.
    CallBeforeRequest = "call.before-request",
    /// The head of an answer came, of the service's or of a sign-in's: the request went out, and counts.
    HttpHeadReceived = "http.head-received",
    /// A part of an answer's body came, or all of it.
    HttpMidBody = "http.mid-body",
    /// The answer to a call was parsed, and nobody but the call knows it.
    CallAnswered = "call.answered",
    /// An answer is to be appended to the journal; its outcome may be on its way to the output already.
    AnswerBeforeAppend = "answer.before-append",
    /// The brokers have the answer.
    AnswerAppended = "answer.appended",
    /// A checkpoint is to be appended to the journal.
    CheckpointBeforeAppend = "checkpoint.before-append",
    /// The brokers have the checkpoint.
    CheckpointAppended = "checkpoint.appended",
    /// At least once: an output or dead letter is to be handed to the producer.
    ProduceBefore = "produce.before",
    /// At least once: a write is in Kafka; its record is not settled yet.
    ProduceAcknowledged = "produce.acknowledged",
    /// At least once: offsets are to be committed, also those of partitions that move away, and the last ones.
    CommitBefore = "commit.before",
    /// At least once: the brokers have answered a commit; the dispatcher does not know it.
    CommitAnswered = "commit.answered",
    /// Exactly once: a transaction was begun, and holds nothing.
    TransactionBegun = "transaction.begun",
    /// Exactly once: one write of a transaction was handed to the producer; others may follow.
    TransactionProduced = "transaction.produced",
    /// Exactly once: all writes of a transaction are acknowledged, its commit points are not in it.
    TransactionBeforeOffsets = "transaction.before-offsets",
    /// Exactly once: the commit points are in the transaction, and it is to be committed.
    TransactionBeforeCommit = "transaction.before-commit",
    /// Exactly once: the brokers have answered that it is committed; the dispatcher does not know it.
    TransactionCommitted = "transaction.committed",
    /// The group takes partitions away; nobody but the source's thread knows it.
    RevokeTold = "revoke.told",
    /// The source waits for what is under way in them. Passed every few milliseconds.
    RevokeWaiting = "revoke.waiting",
    /// What was settled in them is committed; they are to be given up.
    RevokeBeforeGivingUp = "revoke.before-giving-up",
    /// They are given up.
    RevokeGivenUp = "revoke.given-up",
    /// The daemon was asked to stop.
    DrainBegun = "drain.begun",
    /// It waits for what runs. Passed with every event.
    DrainWaiting = "drain.waiting",
    /// Nothing runs any more; the last commit is to be made.
    DrainBeforeLastCommit = "drain.before-last-commit",
    /// The last commit is made; the group is to be left.
    DrainBeforeLeaving = "drain.before-leaving",
    /// The group was left; the process is about to end.
    DrainLeft = "drain.left",
}

/// The text names no point, or no number of passings.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{VARIABLE} is \"{}\", and must be POINT:N, which aborts at the N-th passing (from 1 on) of one of these points: {}",
    text.escape_debug(),
    names()
)]
pub struct InvalidCrashPoint {
    text: String,
}

/// A point that was asked for, and how often it was passed.
#[derive(Debug)]
struct Armed {
    point: Point,
    at: u32,
    passed: AtomicU32,
}

static ARMED: OnceLock<Armed> = OnceLock::new();

/// From now on the process aborts at this point: `POINT:N`. The first call counts.
pub fn arm(text: &str) -> Result<(), InvalidCrashPoint> {
    let armed = Armed::parse(text).ok_or_else(|| InvalidCrashPoint { text: text.to_owned() })?;
    // Hundreds of crashes would fill a disk with files of memory. Where that can't be set, so they do.
    let _ = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) });
    ARMED.get_or_init(|| armed);
    Ok(())
}

/// The program is at this point. Does not return where it is to abort there.
#[inline]
pub fn pass(point: Point) {
    if AVAILABLE && let Some(armed) = ARMED.get() {
        armed.pass(point);
    }
}

impl Armed {
    fn parse(text: &str) -> Option<Self> {
        let (name, at) = text.split_once(':')?;
        let point = Point::ALL.iter().copied().find(|point| point.name() == name)?;
        let at = at.parse().ok().filter(|at| *at > 0)?;
        Some(Self { point, at, passed: AtomicU32::new(0) })
    }

    fn pass(&self, point: Point) {
        if point == self.point && self.passed.fetch_add(1, Ordering::Relaxed) + 1 == self.at {
            // Where nobody reads it, it aborts no less.
            let _ = writeln!(io::stderr(), "crash point {}, passing {}: the process aborts", point.name(), self.at);
            process::abort();
        }
    }
}

fn names() -> String {
    let names: Vec<_> = Point::ALL.iter().map(|point| point.name()).collect();
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use rstest::rstest;

    use super::*;

    #[test]
    fn every_name_names_one_point() {
        let names: BTreeSet<_> = Point::ALL.iter().map(|point| point.name()).collect();
        assert_eq!(names.len(), Point::ALL.len());
        for point in Point::ALL {
            let armed = Armed::parse(&format!("{}:10", point.name())).unwrap();
            assert_eq!((armed.point, armed.at), (*point, 10));
        }
    }

    #[rstest]
    #[case::empty("")]
    #[case::no_number("claim.granted")]
    #[case::never("claim.granted:0")]
    #[case::not_a_number("claim.granted:first")]
    #[case::unknown("claim.taken:1")]
    fn a_wrong_text_is_told_with_all_points(#[case] text: &str) {
        let words = arm(text).unwrap_err().to_string();
        assert!(words.contains(&format!("\"{text}\"")) && words.contains("transaction.before-commit"), "{words}");
    }

    #[test]
    fn another_point_and_an_earlier_passing_are_passed() {
        let armed = Armed::parse("claim.granted:3").unwrap();
        armed.pass(Point::ClaimAppended);
        armed.pass(Point::ClaimGranted);
        armed.pass(Point::ClaimGranted);
        assert_eq!(armed.passed.into_inner(), 2);
    }
}
