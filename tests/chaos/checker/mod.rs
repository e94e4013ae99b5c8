//! The judge of a run: it reads a history and nothing else, and calls no code of the daemon.
//!
//! It never complains wrongly about an order in time, because each comparison takes the later end of what is uncertain:
//!
//! - A commit was made before its sample was answered, and the ends of the topics were asked for only after that. So what a
//!   `read_committed` reader could see at the time of the commit lies below those ends. The slack is the time between
//!   the two answers, some milliseconds: a record that is written that soon after its commit is taken for one before it.
//!   With exactly-once a transaction's end reaches the group and the outputs in no order that anybody promises, so there the
//!   record must have been written then, and must be visible at the end of the run.
//! - A record was there before the reader got it. Where a record must be later than something, its time of arrival is taken.
//! - A fault begins before it is done, and ends after it is over.

mod calls;
mod commits;
mod delivery;
mod facts;
mod metadata;
mod process;
mod progress;
mod promptness;

#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, fmt};

use super::history::{At, Line};

/// What can be wrong with a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Kind {
    /// The history does not hold what it takes to judge.
    Evidence,
    /// Settled, and not there.
    Lost,
    /// Not there, and not settled either: it is still to be done.
    Undone,
    /// There, and not settled in the end: it is done again.
    Uncommitted,
    Repeated,
    Phantom,
    /// The alert, the status, the addresses or the reason is another than the service's.
    WrongAnswer,
    CommitAhead,
    MetadataAhead,
    MetadataUnreadable,
    /// A reader of committed records got what is not in the topic.
    AbortedRead,
    OffsetBack,
    /// What was told to be settled is not any more.
    Forgotten,
    WindowOver,
    TooManyCalls,
    StrangeCall,
    NoProgress,
    /// A partition stood still while others went on.
    Starved,
    /// Answers came out long after they were there.
    Late,
    /// Producers were given up more often than something was done that explains it: instances drive each other out.
    Displaced,
    Memory,
    Descriptors,
    Threads,
    /// What should stay as it is grows with time.
    Growing,
    /// A process ended by itself, with the wrong code, too late, or in a panic.
    Exit,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Violation {
    pub kind: Kind,
    pub at: At,
    /// What is wrong, and where.
    pub words: String,
}

impl fmt::Display for Violation {
    #[expect(clippy::cast_precision_loss, reason = "for people")]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} at {:.3} s: {}", self.kind, self.at as f64 / 1e9, self.words)
    }
}

/// Everything that is wrong, and what was counted on the way.
#[derive(Debug, Default)]
pub(crate) struct Judgement {
    pub violations: Vec<Violation>,
    pub figures: BTreeMap<&'static str, u64>,
}

impl Judgement {
    fn wrong(&mut self, kind: Kind, at: At, words: impl Into<String>) {
        self.violations.push(Violation { kind, at, words: words.into() });
    }

    fn figure(&mut self, name: &'static str, value: usize) {
        self.figures.insert(name, value as u64);
    }
}

/// Judges a history, whose lines are in the order of their times.
pub(crate) fn judge(lines: &[Line]) -> Judgement {
    let mut judgement = Judgement::default();
    let Some(facts) = facts::Facts::of(lines, &mut judgement) else { return judgement };
    delivery::check(&facts, &mut judgement);
    commits::check(&facts, &mut judgement);
    calls::check(&facts, &mut judgement);
    progress::check(&facts, &mut judgement);
    promptness::check(&facts, &mut judgement);
    process::check(&facts, &mut judgement);
    judgement.violations.sort_by_key(|violation| violation.at);
    judgement
}
