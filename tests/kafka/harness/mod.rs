//! What the tests are made of: a broker, topics, the simulated service, the program, and the checker.

mod broker;
mod checker;
mod daemon;
mod journal;
mod node;
mod proxy;
mod service;
mod topics;
mod visitor;
mod wall_clock;

use std::{
    cell::RefCell,
    panic,
    sync::Once,
    thread,
    time::{Duration, Instant},
};

pub use self::{
    broker::{Broker, is_asked_for},
    checker::{Checker, Place, Published},
    daemon::{CLIENT, Config, Daemon, program},
    journal::JournalMessage,
    node::Node,
    proxy::{Fate, Kind, Proxy, Rule, Traffic},
    service::Service,
    topics::{PARTITIONS, Seeded, Seeding, Topics},
    visitor::Visitor,
    wall_clock::WallClock,
};

/// Far longer than anything takes on a busy machine.
pub const LONG: Duration = Duration::from_mins(2);

/// Asks again and again until there is an answer; panics with what was waited for when `limit` is over.
pub fn eventually<T>(what: &str, limit: Duration, mut ask: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(begun.elapsed() < limit, "not within {} s: {what}", limit.as_secs());
        thread::sleep(Duration::from_millis(50));
    }
}

thread_local! {
    /// What this thread panics with.
    static PANIC: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Has each thread keep what it panics with, for [`panic_words`].
fn keep_panics() {
    static KEPT: Once = Once::new();
    KEPT.call_once(|| {
        let told = panic::take_hook();
        panic::set_hook(Box::new(move |panicked| {
            PANIC.set(panicked.to_string());
            told(panicked);
        }));
    });
}

/// What this thread panics with: said once more after all else that a failed test prints, for of that the beginning may be cut.
fn panic_words() -> String {
    PANIC.take()
}
