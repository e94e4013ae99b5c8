//! Which of the log's messages count, and from which budget on: a replay begins with a checkpoint, and with what came after
//! the state that is in it.

use super::broker_clock::BrokerClock;
use crate::{
    defender::journal::News,
    domain::{
        budget::{Budget, Checkpoint},
        journal::{Body, Entry, InvalidMessage, Stamped, read_message},
        time::BootTime,
    },
    kafka::journal::{LogEntry, ReadingFrom, Start},
};

/// Where a replay stands.
#[derive(Debug)]
enum Stage {
    /// Reading will begin with a checkpoint, if there is one.
    Searching,
    /// The first message holds the checkpoint.
    AtCheckpoint,
    /// Reading will begin after the state that is in this checkpoint.
    From(Box<Checkpoint>),
    /// Reading will begin at the oldest message.
    FromTheOldest,
    /// Every message counts.
    Following,
}

/// With what a replay began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Begun {
    WithCheckpoint,
    /// At the first message that there ever was.
    WithTheLog,
    /// At the oldest that is left.
    InTheMiddle,
}

/// Follows a log from its checkpoint on.
#[derive(Debug)]
pub(super) struct Replay {
    stage: Stage,
    clock: BrokerClock,
    /// Entries of this replay.
    entries: u64,
    /// Where the budget comes from.
    begun: Begun,
    /// Messages that are none of ours.
    malformed: u64,
}

impl Replay {
    pub(super) fn new() -> Self {
        Self {
            stage: Stage::Searching,
            clock: BrokerClock::default(),
            entries: 0,
            begun: Begun::WithTheLog,
            malformed: 0,
        }
    }

    pub(super) fn clock(&self) -> &BrokerClock {
        &self.clock
    }

    pub(super) fn entries(&self) -> u64 {
        self.entries
    }

    /// Whether the log can't prove what was spent: nothing was ever written to it, or what is left of it says nothing of what
    /// was before. Of a log without its beginning and without an entry all that was written has aged away.
    pub(super) fn is_unproven(&self) -> bool {
        match self.begun {
            Begun::WithCheckpoint => false,
            Begun::WithTheLog => self.entries == 0,
            Begun::InTheMiddle => self.entries > 0,
        }
    }

    /// Begins anew: with the newest checkpoint, or at the oldest message.
    pub(super) fn restart(&mut self, with_checkpoint: bool) {
        self.stage = if with_checkpoint { Stage::Searching } else { Stage::FromTheOldest };
    }

    /// Whether the way from the checkpoint back to what it knows is under way.
    pub(super) fn is_between(&self) -> bool {
        matches!(self.stage, Stage::From(_))
    }

    /// Whether every message counts that is read.
    pub(super) fn is_following(&self) -> bool {
        matches!(self.stage, Stage::Following)
    }

    /// Reading begins.
    pub(super) fn begin(&mut self, from: ReadingFrom) -> Option<News> {
        let budget = match std::mem::replace(&mut self.stage, Stage::Following) {
            Stage::Searching if from.found && from.offset < from.end => {
                self.stage = Stage::AtCheckpoint;
                return None;
            }
            Stage::From(checkpoint) => {
                self.begun = Begun::WithCheckpoint;
                Budget::from(&*checkpoint)
            }
            _ => {
                self.begun = if from.first > 0 { Begun::InTheMiddle } else { Begun::WithTheLog };
                Budget::default()
            }
        };
        // Its entries are as old as they are, whatever was read before.
        (self.clock, self.entries) = (BrokerClock::default(), 0);
        Some(News::Replay(Box::new(budget)))
    }

    /// Takes a message; says where to read on instead, if that must be. `known`: its entries, if it is one of our own.
    pub(super) fn take(
        &mut self,
        message: &LogEntry,
        known: Option<Vec<Entry>>,
        now: BootTime,
        news: &mut impl Extend<News>,
    ) -> Option<Start> {
        match self.stage {
            Stage::AtCheckpoint => Some(self.go_back(message)),
            // These were on their way before reading began anew.
            Stage::Searching | Stage::From(_) | Stage::FromTheOldest => None,
            Stage::Following => {
                self.follow(message, known, now, news);
                None
            }
        }
    }

    /// From the checkpoint's message to the first that is not in it.
    fn go_back(&mut self, message: &LogEntry) -> Start {
        let entries = read_message(&message.payload).unwrap_or_default();
        let checkpoint = entries.into_iter().find_map(|entry| match entry.body {
            Body::Checkpoint(checkpoint) => Some(checkpoint),
            _ => None,
        });
        let Some((offset, checkpoint)) = checkpoint.and_then(|checkpoint| Some((checkpoint.offset?, checkpoint)))
        else {
            // Of another version: the whole log tells more.
            self.stage = Stage::FromTheOldest;
            return Start::Beginning;
        };
        self.stage = Stage::From(checkpoint);
        Start::Offset(offset + 1)
    }

    fn follow(&mut self, message: &LogEntry, known: Option<Vec<Entry>>, now: BootTime, news: &mut impl Extend<News>) {
        let at = self.clock.stamp(message.at, now);
        let offset = message.offset;
        match known.map_or_else(|| read_message(&message.payload), Ok) {
            Ok(entries) => {
                self.entries += entries.len() as u64;
                news.extend(entries.into_iter().map(|entry| News::Entry(Stamped { at, offset, entry })));
            }
            Err(newer @ InvalidMessage::Newer(_)) => {
                self.entries += 1;
                let why = format!(
                    "the journal has entries this program can't judge (offset {offset}: {newer}); no calls until nothing of \
                     them counts any more"
                );
                news.extend([News::Unreadable(at, why)]);
            }
            Err(InvalidMessage::Malformed(error)) => {
                self.malformed += 1;
                // Once, and then ever more seldom: whoever writes them may write many.
                if self.malformed.is_power_of_two() {
                    tracing::warn!(
                        offset, %error, so_far = self.malformed,
                        "the journal has a message that is none of ours; it counts for nothing; see who else writes to this topic"
                    );
                }
            }
        }
    }
}
