//! Where an account's entries go before they count, and come back in the order that decides.

use std::{collections::VecDeque, future::Future};

use crate::{
    clock::Clock,
    domain::{
        journal::{Entry, Stamped},
        time::JournalTime,
    },
};

/// The arbiter between everyone who spends one account's budget.
///
/// An entry counts only once it comes back from [`next`](Journal::next): whoever reads the same entries in the same order
/// reaches the same rulings.
pub trait Journal: Send + 'static {
    /// Hands an entry in. It comes back, stamped, among those of others.
    fn append(&mut self, entry: Entry);

    /// The next entry, if it is here already.
    fn try_next(&mut self) -> Option<Stamped>;

    /// The next entry. Cancel safe.
    fn next(&mut self) -> impl Future<Output = Stamped> + Send;

    /// The journal's clock, as far as it is known now.
    fn now(&self) -> JournalTime;
}

/// A journal in this process's memory: exact for one process's life, forgotten at its end.
///
/// Entries are stamped with this host's boot clock as they are appended.
#[derive(Debug)]
pub struct MemoryJournal {
    clock: Clock,
    entries: VecDeque<Stamped>,
}

impl MemoryJournal {
    pub fn new(clock: Clock) -> Self {
        Self { clock, entries: VecDeque::new() }
    }
}

impl Journal for MemoryJournal {
    fn append(&mut self, entry: Entry) {
        self.entries.push_back(Stamped { at: self.now(), entry });
    }

    fn try_next(&mut self) -> Option<Stamped> {
        self.entries.pop_front()
    }

    async fn next(&mut self) -> Stamped {
        match self.entries.pop_front() {
            Some(stamped) => stamped,
            // Only its owner appends, and that takes `&mut self`: nothing can arrive while this waits.
            None => std::future::pending().await,
        }
    }

    fn now(&self) -> JournalTime {
        JournalTime::from_origin(self.clock.boot().since_origin())
    }
}
