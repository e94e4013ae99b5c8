//! Reads an account's part of the journal: from a checkpoint that is old enough up to its end, and on from there.

use std::{io, time::Duration};

use tokio::{sync::mpsc, time::timeout};

use super::super::{Exit, print::Printer};
use crate::{
    config::{AccountSettings, Settings},
    daemon::journal_demands,
    domain::{
        audit::Audit,
        budget::Checkpoint,
        journal::{Body, InvalidMessage, holds_checkpoint, read_message},
        time::JournalTime,
    },
    kafka::{
        client::KafkaConfig,
        journal::{
            self, AppendFailed, AppendId, Break, JournalLog, Log as _, LogEntry, LogEvent, LogPlace, ReadingFrom, Start,
        },
    },
    ops::escape,
};

/// How long a trouble may last while the period is read.
const PATIENCE: Duration = Duration::from_secs(15);

/// Messages between two looks at how far it is.
const PROGRESS_EVERY: usize = 5_000;

/// Why the command ends.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) exit: Exit,
    /// What happened, and what to do.
    pub(super) words: String,
}

impl Failure {
    pub(super) fn no(words: impl Into<String>) -> Self {
        Self { exit: Exit::No, words: words.into() }
    }

    pub(super) fn signals(error: &io::Error) -> Self {
        Self { exit: Exit::Internal, words: format!("signals can't be received: {error}") }
    }

    pub(super) fn tell(self, printer: &mut Printer) -> Exit {
        printer.complain(&format!("error: {}", self.words));
        self.exit
    }
}

/// Messages that say nothing to this program.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Unreadable {
    pub(super) count: usize,
    /// The first: its offset, and why.
    pub(super) first: Option<(i64, String)>,
    /// Whether one is of a newer version, and so may decide what this program can't know.
    pub(super) newest_version: Option<u32>,
}

pub(super) struct History {
    log: JournalLog,
    events: mpsc::Receiver<LogEvent>,
    topic: String,
    pub(super) audit: Audit,
    pub(super) unreadable: Unreadable,
}

impl History {
    /// Begins at the newest checkpoint that is so much older than the end of the log; [`History::read`] goes on.
    pub(super) fn open(
        config: &KafkaConfig,
        settings: &Settings,
        account: &AccountSettings,
        older_by: Duration,
    ) -> Result<Self, Failure> {
        let topic = settings.topics.journal.to_string();
        let place = LogPlace { topic: topic.clone(), key: account.journal_key() };
        let start = Start::Checkpoint(journal::Checkpoint { is_it: holds_checkpoint, older_by });
        let (log, events) = JournalLog::open(config, &place, start, journal_demands(settings, account), PATIENCE)
            .map_err(|error| Failure { exit: Exit::Config, words: error.to_string() })?;
        let audit = Audit::from_the_beginning(JournalTime::default());
        Ok(Self { log, events, topic, audit, unreadable: Unreadable::default() })
    }

    /// Reads up to the end of the log, as of now. The period begins at `since`.
    pub(super) async fn read(&mut self, since: JournalTime, printer: &mut Printer) -> Result<(), Failure> {
        let from = self.reading().await?;
        let from = self.begin(since, from).await?;
        let (mut read, mut asked) = (0, 0);
        loop {
            match self.next().await? {
                LogEvent::Entry(entry) => {
                    self.apply(&entry);
                    read += 1;
                    if read - asked >= PROGRESS_EVERY {
                        asked = read;
                        let (done, all) = (entry.offset - from.offset, from.end - from.offset);
                        printer.progress(&format!("reading the journal: {} %", done * 100 / all.max(1)));
                    }
                }
                LogEvent::CaughtUp { .. } => break,
                _ => {}
            }
        }
        if asked > 0 {
            printer.progress("");
        }
        Ok(())
    }

    /// Takes what comes after the period was read. A trouble is told, and passes by itself.
    pub(super) fn take(&mut self, event: LogEvent, printer: &mut Printer) -> Result<(), Failure> {
        match event {
            LogEvent::Entry(entry) => {
                let unreadable = self.unreadable.count;
                self.apply(&entry);
                if let Some((offset, why)) = self.unreadable.first.as_ref().filter(|_| unreadable == 0) {
                    printer.complain(&format!("warning: message {offset} of the journal can't be read: {why}"));
                }
            }
            LogEvent::Trouble(words) => printer.complain(&format!("warning: {words}")),
            LogEvent::Working => printer.complain("the journal is read again"),
            LogEvent::Broken(broken) => return Err(broken_off(&broken)),
            _ => {}
        }
        Ok(())
    }

    /// The events to come, for whoever gives them to [`History::take`].
    pub(super) fn take_events(&mut self) -> mpsc::Receiver<LogEvent> {
        std::mem::replace(&mut self.events, mpsc::channel(1).1)
    }

    /// Appends a message, and waits until it is known to be there. Returns its offset.
    pub(super) async fn append(&mut self, message: &[u8]) -> Result<i64, Failure> {
        let appended: AppendId = self.log.append(message).map_err(|failed| Failure::no(failed.words))?;
        loop {
            match self.events.recv().await {
                Some(LogEvent::Appended { id, result }) if id == appended => {
                    return result.map_err(|AppendFailed { words, may_appear, .. }| {
                        let appears = if may_appear { "; it may be in the journal nevertheless" } else { "" };
                        Failure::no(format!("{words}{appears}"))
                    });
                }
                Some(_) => {}
                None => return Err(self.ended()),
            }
        }
    }

    /// Where reading begins: the search for it was asked for.
    async fn reading(&mut self) -> Result<ReadingFrom, Failure> {
        loop {
            if let LogEvent::Reading(from) = self.next().await? {
                return Ok(from);
            }
        }
    }

    /// Makes the audit that fits what was found.
    async fn begin(&mut self, since: JournalTime, from: ReadingFrom) -> Result<ReadingFrom, Failure> {
        if !from.found {
            self.audit = if from.first == 0 { Audit::from_the_beginning(since) } else { Audit::from_the_middle(since) };
            return Ok(from);
        }
        let checkpoint = self.checkpoint().await?;
        let next = checkpoint.as_ref().and_then(|checkpoint| Some(checkpoint.offset? + 1));
        let start = match (checkpoint, next) {
            // Entries that came after those in it may lie before it.
            (Some(checkpoint), Some(next)) if next >= from.first => {
                self.audit = Audit::from_checkpoint(since, &checkpoint);
                Start::Offset(next)
            }
            // They are gone, or it is of another log, or none that this program can read: the whole log tells more.
            _ => {
                self.audit = begun_at(from, since);
                Start::Beginning
            }
        };
        self.log.read_from(start);
        self.reading().await
    }

    /// The checkpoint that reading begins with.
    async fn checkpoint(&mut self) -> Result<Option<Box<Checkpoint>>, Failure> {
        loop {
            if let LogEvent::Entry(entry) = self.next().await? {
                let entries = read_message(&entry.payload).unwrap_or_default();
                return Ok(entries.into_iter().find_map(|entry| match entry.body {
                    Body::Checkpoint(checkpoint) => Some(checkpoint),
                    _ => None,
                }));
            }
        }
    }

    /// The next event that matters while the period is read; a trouble that lasts is a failure.
    async fn next(&mut self) -> Result<LogEvent, Failure> {
        let mut trouble: Option<String> = None;
        loop {
            let event = match &trouble {
                None => self.events.recv().await,
                Some(words) => match timeout(PATIENCE, self.events.recv()).await {
                    Ok(event) => event,
                    Err(_) => return Err(Failure::no(words.as_str())),
                },
            };
            match event {
                Some(LogEvent::Trouble(words)) => trouble = Some(words),
                // How the settings are judged was told before.
                Some(LogEvent::Settings(_)) => {}
                Some(LogEvent::Broken(broken)) => return Err(broken_off(&broken)),
                Some(event) => return Ok(event),
                None => return Err(self.ended()),
            }
        }
    }

    fn apply(&mut self, message: &LogEntry) {
        let at = JournalTime::from_origin(Duration::from_millis(u64::try_from(message.at).unwrap_or_default()));
        match read_message(&message.payload) {
            Ok(entries) => entries.iter().for_each(|entry| self.audit.apply(message.offset, at, entry)),
            Err(error) => self.unreadable.note(message.offset, &error),
        }
    }

    fn ended(&self) -> Failure {
        let words = format!("the journal {} can't be read any more, which is a defect of this program", self.topic);
        Failure { exit: Exit::Internal, words }
    }
}

impl Unreadable {
    pub(super) fn note(&mut self, offset: i64, error: &InvalidMessage) {
        self.count += 1;
        // It may quote what others wrote.
        self.first.get_or_insert_with(|| (offset, escape::line(&error.to_string())));
        if let InvalidMessage::Newer(version) = error {
            self.newest_version = self.newest_version.max(Some(*version));
        }
    }
}

/// An audit of all that the log holds.
fn begun_at(from: ReadingFrom, since: JournalTime) -> Audit {
    if from.first == 0 { Audit::from_the_beginning(since) } else { Audit::from_the_middle(since) }
}

fn broken_off(broken: &Break) -> Failure {
    Failure::no(format!("{broken}; run the command again to read what is there now"))
}
