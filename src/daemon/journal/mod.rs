//! The journal in Kafka, as an account sees it: messages become entries, gaps and wrong settings become words, and where
//! there is any doubt about what was spent, nothing is claimed.

mod broker_clock;
mod open;
mod outbox;
mod replay;
#[cfg(test)]
mod tests;

use std::{collections::VecDeque, pin::Pin, time::Duration};

use futures_util::future::BoxFuture;
use tokio::sync::mpsc;

use self::{outbox::Outbox, replay::Replay};
use crate::{
    clock::Clock,
    defender::journal::{Footing, Journal, News, NotAppended},
    domain::{
        journal::{Body, Entry, holds_checkpoint, write_message},
        time::{BootTime, JournalTime},
    },
    kafka::journal::{AppendFailed, AppendId, Break, Checkpoint, Judgement, Log, LogEvent, Start as LogStart},
};

/// How far apart the clocks of instances may be that stamp their entries themselves. Hosts that follow a time server are
/// well within it.
const CLOCK_SKEW: Duration = Duration::from_secs(10);

/// How often it is tried again to append, and to ask what is not known.
const AGAIN_AFTER: Duration = Duration::from_secs(5);

/// How long the end of the process waits for what was handed in last.
const FLUSH_WITHIN: Duration = Duration::from_secs(2);

/// Asks whether this group has worked before: then an empty journal is a journal that was lost. The error is for the
/// operator.
pub type WorkedBefore = Box<dyn Fn() -> BoxFuture<'static, Result<bool, String>> + Send>;

/// Where a replay begins: so far back that answers and re-asks are known as long as they count.
pub fn replay_from(look_back: Duration) -> LogStart {
    LogStart::Checkpoint(Checkpoint { is_it: holds_checkpoint, older_by: look_back })
}

/// An account's journal in Kafka.
pub struct KafkaJournal<L> {
    log: L,
    events: mpsc::Receiver<LogEvent>,
    clock: Clock,
    /// Where a replay begins.
    start: LogStart,
    replay: Replay,
    news: VecDeque<News>,
    outbox: Outbox,
    reading: Reading,
    /// What the topic's settings are like; `None` until that is known.
    settings: Option<Judgement>,
    /// Entries come with their writers' times.
    own_stamps: bool,
    /// Why nothing can be appended, and when that is tried again.
    unwritable: Option<(String, BootTime)>,
    empty: Empty,
    worked_before: WorkedBefore,
    asking: Option<BoxFuture<'static, Result<bool, String>>>,
    /// What the account was told last, beside entries.
    told: Option<Result<Footing, String>>,
    /// Whether it was ever usable: what the account knows then is worth carrying into another log.
    was_usable: bool,
}

/// How reading stands.
#[derive(Debug, PartialEq, Eq)]
enum Reading {
    /// Not all that is there was read.
    Behind,
    CaughtUp,
    /// Nothing is read, for this reason.
    Stopped(String),
}

/// What is known about a journal without an entry.
#[derive(Debug, PartialEq, Eq)]
enum Empty {
    /// Nothing: it is asked when it turns out to be empty.
    Unknown,
    /// It is no reason to wait.
    Fine,
    /// It proves nothing.
    Unproven(String),
    /// It could not be asked, for this reason; and when it is asked again.
    Unanswered(String, BootTime),
}

impl<L: Log> KafkaJournal<L> {
    /// `log` was opened to read from `start`, and tells its `events`.
    pub fn new(
        log: L,
        events: mpsc::Receiver<LogEvent>,
        start: LogStart,
        clock: Clock,
        worked_before: WorkedBefore,
    ) -> Self {
        // At once: the group's first member commits where it begins as soon as it has joined.
        let asking = Some(worked_before());
        Self {
            log,
            events,
            clock,
            start,
            replay: Replay::new(),
            news: VecDeque::new(),
            outbox: Outbox::default(),
            reading: Reading::Behind,
            settings: None,
            own_stamps: false,
            unwritable: None,
            empty: Empty::Unknown,
            worked_before,
            asking,
            told: None,
            was_usable: false,
        }
    }

    fn take(&mut self, event: LogEvent) {
        match event {
            LogEvent::Reading(from) => {
                self.reading = Reading::Behind;
                self.outbox.read_anew();
                self.news.extend(self.replay.begin(from));
            }
            LogEvent::Entry(message) => {
                if !message.stamped_by_broker && !self.own_stamps {
                    self.own_stamps = true;
                    self.settle();
                }
                let known = self.outbox.read(&message.payload);
                let read_on = self.replay.take(&message, known, self.clock.boot(), &mut self.news);
                if let Some(start) = read_on {
                    self.log.read_from(start);
                }
                return;
            }
            // The end that is met on the way from the checkpoint back to what it knows is none.
            LogEvent::CaughtUp { .. } if !self.replay.is_following() => {}
            LogEvent::CaughtUp { .. } => self.reading = Reading::CaughtUp,
            LogEvent::Appended { id, result } => self.appended(id, result),
            LogEvent::Trouble(words) => self.reading = Reading::Stopped(words),
            LogEvent::Working => self.reading = Reading::Behind,
            LogEvent::Broken(broken) => self.broken(&broken),
            LogEvent::Settings(judgement) => {
                judgement.warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
                self.settings = Some(judgement);
            }
        }
        self.settle();
    }

    fn broken(&mut self, broken: &Break) {
        tracing::warn!("{broken}");
        self.reading = Reading::Behind;
        match broken {
            // What this instance knows is carried over, so the other log need not prove anything.
            Break::Recreated(_) | Break::Moved(_) if self.was_usable => {
                self.news.push_back(News::Replaced);
                (self.empty, self.asking) = (Empty::Fine, None);
                self.replay.restart(true);
                self.log.read_from(self.start);
            }
            Break::Recreated(_) | Break::Moved(_) | Break::Overrun(_) => {
                self.empty = Empty::Unknown;
                // What a checkpoint refers to may be gone while the checkpoint itself is still there.
                let with_checkpoint = !self.replay.is_between();
                self.replay.restart(with_checkpoint);
                self.log.read_from(if with_checkpoint { self.start } else { LogStart::Beginning });
            }
        }
    }

    fn send(&mut self) {
        while let Some(entries) = self.outbox.next_message() {
            let payload = write_message(&entries);
            match self.log.append(&payload) {
                Ok(id) => self.outbox.sent(id, payload, entries),
                Err(failed) => self.not_appended(entries, &failed),
            }
        }
    }

    /// Sends what need not wait for company. Returns until when the rest does.
    fn send_or_hold(&mut self) -> Option<BootTime> {
        let held = self.outbox.held_until().filter(|until| *until > self.clock.boot());
        if held.is_none() {
            self.send();
        }
        held
    }

    fn appended(&mut self, id: AppendId, result: Result<i64, AppendFailed>) {
        match result {
            Ok(_) => {
                self.outbox.acknowledged(id);
                self.unwritable = None;
            }
            Err(failed) => {
                if let Some(entries) = self.outbox.take_back(id) {
                    self.not_appended(entries, &failed);
                }
            }
        }
    }

    fn not_appended(&mut self, entries: Vec<Entry>, failed: &AppendFailed) {
        if failed.too_large && entries.len() > 1 {
            self.outbox.push_apart(entries);
            return self.send();
        }
        let how = match (failed.too_large, failed.may_appear) {
            (true, _) => NotAppended::TooLarge,
            (false, true) => NotAppended::Unknown,
            (false, false) => NotAppended::Never,
        };
        if how != NotAppended::TooLarge || !entries.iter().any(may_be_large) {
            let words =
                format!("{}; no calls until entries are taken again, which is tried every few seconds", failed.words);
            self.unwritable = Some((words, self.clock.boot() + AGAIN_AFTER));
        }
        self.news.push_back(News::NotAppended(entries, how));
        self.settle();
    }

    /// Tells the account whether calls may be claimed, where that has changed.
    fn settle(&mut self) {
        let Some(standing) = self.standing() else { return };
        if self.told.as_ref() == Some(&standing) {
            return;
        }
        self.told = Some(standing.clone());
        self.news.push_back(match standing {
            Ok(footing) => {
                if !self.was_usable {
                    tracing::info!(entries = self.replay.entries(), "the journal has been read; calls may be claimed");
                }
                self.was_usable = true;
                // It is told once: what follows is in the journal.
                let unproven = match std::mem::replace(&mut self.empty, Empty::Fine) {
                    Empty::Unproven(why) if self.replay.is_unproven() => Some(why),
                    _ => None,
                };
                News::Usable(Footing { unproven, ..footing })
            }
            Err(why) => News::Unusable(why),
        });
    }

    /// Whether calls may be claimed. `None`: not known yet, and nothing is wrong.
    fn standing(&mut self) -> Option<Result<Footing, String>> {
        if let Reading::Stopped(words) = &self.reading {
            return Some(Err(words.clone()));
        }
        if let Some(judgement) = self.settings.as_ref().filter(|judgement| !judgement.usable()) {
            return Some(Err(judgement.refusals.join("; ")));
        }
        let skewed = self.settings.as_ref()?.skewed_clocks || self.own_stamps;
        if self.reading == Reading::Behind {
            // After a gap, what was missed is read in a moment.
            return self.was_usable.then(|| Err("reading the journal".to_owned()));
        }
        if self.replay.is_unproven() {
            if self.empty == Empty::Unknown && self.asking.is_none() {
                self.asking = Some((self.worked_before)());
            }
            if let Empty::Unanswered(words, _) = &self.empty {
                return Some(Err(words.clone()));
            }
            if self.asking.is_some() {
                return None;
            }
        }
        if let Some((words, _)) = &self.unwritable {
            return Some(Err(words.clone()));
        }
        Some(Ok(Footing { skew: if skewed { CLOCK_SKEW } else { Duration::ZERO }, unproven: None }))
    }

    fn answered(&mut self, worked_before: Result<bool, String>) {
        self.asking = None;
        self.empty = match worked_before {
            Ok(false) => Empty::Fine,
            Ok(true) => Empty::Unproven(
                "the journal has no entries of this account, or has lost its beginning, although this group has worked \
                 before: it can't prove that nothing was called, so all calls count as spent; who knows better may run \
                 `alert-ips journal init --assume-unspent`"
                    .to_owned(),
            ),
            Err(words) => Empty::Unanswered(
                format!(
                    "the journal has no entries of this account, and it is not known whether this group has worked before: \
                     {words}"
                ),
                self.clock.boot() + AGAIN_AFTER,
            ),
        };
        self.settle();
    }

    /// When something is to be tried again.
    fn next_try(&self) -> Option<BootTime> {
        let write = self.unwritable.as_ref().map(|(_, again)| *again).filter(|_| self.reading == Reading::CaughtUp);
        let ask = if let Empty::Unanswered(_, again) = self.empty { Some(again) } else { None };
        write.into_iter().chain(ask).min()
    }

    fn try_again(&mut self) {
        let now = self.clock.boot();
        if let Some((_, again)) = self.unwritable.as_mut().filter(|(_, again)| *again <= now) {
            *again = now + AGAIN_AFTER;
            self.news.push_back(News::Doubtful);
        }
        if matches!(self.empty, Empty::Unanswered(_, again) if again <= now) {
            self.empty = Empty::Unknown;
            self.settle();
        }
    }
}

impl<L: Log> Journal for KafkaJournal<L> {
    fn append(&mut self, entry: Entry) {
        self.outbox.push(entry, self.clock.boot());
    }

    fn try_next(&mut self) -> Option<News> {
        while self.news.is_empty() {
            let event = self.events.try_recv().ok()?;
            self.take(event);
        }
        self.news.pop_front()
    }

    async fn next(&mut self) -> News {
        loop {
            let held = self.send_or_hold();
            if let Some(news) = self.try_next() {
                return news;
            }
            let again = self.next_try().into_iter().chain(held).min();
            let wait = again.map(|again| again.saturating_since(self.clock.boot()));
            tokio::select! {
                biased;
                worked_before = answer(&mut self.asking) => self.answered(worked_before),
                () = tokio::time::sleep(wait.unwrap_or_default()), if wait.is_some() => self.try_again(),
                event = self.events.recv() => match event {
                    Some(event) => self.take(event),
                    // The log has ended, which it does only with its owner.
                    None => std::future::pending().await,
                },
            }
        }
    }

    fn now(&self) -> JournalTime {
        self.replay.clock().now(self.clock.boot())
    }

    async fn flush(&mut self) {
        self.send();
        let arrived = async {
            while !self.outbox.is_acknowledged() {
                match self.events.recv().await {
                    Some(event) => self.take(event),
                    None => return,
                }
            }
        };
        if tokio::time::timeout(FLUSH_WITHIN, arrived).await.is_err() {
            tracing::warn!("the last entries are not known to be in the journal; their calls count as unanswered");
        }
    }
}

/// Whether it can do with less: without its addresses, or not at all.
fn may_be_large(entry: &Entry) -> bool {
    match &entry.body {
        Body::Answer(answer) => answer.outcome.is_some(),
        Body::Checkpoint(_) => true,
        Body::Claim(_) | Body::Terms(_) | Body::Freeze(_) => false,
    }
}

/// The answer that is waited for, if one is.
async fn answer(asking: &mut Option<BoxFuture<'static, Result<bool, String>>>) -> Result<bool, String> {
    match asking {
        Some(answer) => Pin::new(answer).await,
        None => std::future::pending().await,
    }
}
