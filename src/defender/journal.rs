//! Where an account's entries go before they count, and come back in the order that decides.

use std::{collections::VecDeque, future::Future, time::Duration};

use crate::{
    clock::Clock,
    domain::{
        budget::Budget,
        journal::{Entry, Stamped},
        time::JournalTime,
    },
};

/// The arbiter between everyone who spends one account's budget.
///
/// An entry counts only once it comes back from [`next`](Journal::next): whoever reads the same entries in the same order
/// reaches the same rulings.
pub trait Journal: Send + 'static {
    /// Hands an entry in. It comes back, stamped, among those of others; what is handed in together may travel together.
    fn append(&mut self, entry: Entry);

    /// The next piece of news, if it is here already.
    fn try_next(&mut self) -> Option<News>;

    /// The next piece of news. Cancel safe.
    fn next(&mut self) -> impl Future<Output = News> + Send;

    /// The journal's clock, as far as it is known now. Only for waiting: what counts are the entries' times.
    fn now(&self) -> JournalTime;

    /// Waits, not for long, until what was handed in has arrived: the process ends.
    fn flush(&mut self) -> impl Future<Output = ()> + Send;
}

/// What the journal tells.
#[derive(Debug)]
pub enum News {
    /// A replay begins. What was known of the budget is replaced by this; the entries that follow are history, until
    /// [`Usable`](News::Usable).
    Replay(Box<Budget>),
    Entry(Stamped),
    /// What was written is known, and more can be written: calls may be claimed.
    Usable(Footing),
    /// They may not, for this reason, in words that say what to do.
    Unusable(String),
    /// It is not known whether more can be written; an entry tells.
    Doubtful,
    /// There are entries, as of this time, that this program can't judge; the words say why.
    Unreadable(JournalTime, String),
    /// The log is another one than was read, and nothing is in it. What is known must be told to it, once it is usable.
    Replaced,
    /// These were not appended, or are not known to be.
    NotAppended(Vec<Entry>, NotAppended),
}

/// What a usable journal is known to be like.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Footing {
    /// How far apart the clocks may be that stamp its entries.
    pub skew: Duration,
    /// It is empty, and for this reason that proves nothing: everything counts as spent.
    pub unproven: Option<String>,
}

/// Why entries are not known to be in the journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotAppended {
    /// They are not, and never will be.
    Never,
    /// Nor is there room for them: they are too large.
    TooLarge,
    /// They may be, now or some time later.
    Unknown,
}

/// A journal in this process's memory: exact for one process's life, forgotten at its end.
///
/// Entries are stamped with this host's boot clock as they are appended.
#[derive(Debug)]
pub struct MemoryJournal {
    clock: Clock,
    news: VecDeque<News>,
    entries: i64,
}

impl MemoryJournal {
    pub fn new(clock: Clock) -> Self {
        let begin = [News::Replay(Box::default()), News::Usable(Footing::default())];
        Self { clock, news: begin.into(), entries: 0 }
    }
}

impl Journal for MemoryJournal {
    fn append(&mut self, entry: Entry) {
        let offset = self.entries;
        self.entries += 1;
        self.news.push_back(News::Entry(Stamped { at: self.now(), offset, entry }));
    }

    fn try_next(&mut self) -> Option<News> {
        self.news.pop_front()
    }

    async fn next(&mut self) -> News {
        match self.news.pop_front() {
            Some(news) => news,
            // Only its owner appends, and that takes `&mut self`: nothing can arrive while this waits.
            None => std::future::pending().await,
        }
    }

    fn now(&self) -> JournalTime {
        JournalTime::from_origin(self.clock.boot().since_origin())
    }

    async fn flush(&mut self) {}
}
