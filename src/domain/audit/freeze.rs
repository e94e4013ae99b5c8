//! The freezes among the entries: from when, until when, why, and who ended one early.

use std::sync::Arc;

use crate::domain::{
    journal::{Entry, Freeze},
    time::JournalTime,
};

/// A time in which no claim was granted, or the word that ended one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pause {
    /// `None`: before what was read.
    pub from: Option<JournalTime>,
    /// Not after `from` where this ended the freezes that held.
    pub until: JournalTime,
    /// Whose word it was, and in which words; `None`: before what was read.
    pub by: Option<(Arc<str>, String)>,
}

impl Pause {
    pub(super) fn before_what_was_read(until: JournalTime) -> Self {
        Self { from: None, until, by: None }
    }

    /// Whether it ended what held, instead of holding itself.
    pub fn is_end(&self) -> bool {
        self.from == Some(self.until)
    }
}

/// Adds an entry to those before it; returns what it means.
pub(super) fn apply(pauses: &mut Vec<Pause>, now: JournalTime, entry: &Entry, freeze: &Freeze) -> Pause {
    if freeze.lasts.is_zero() {
        pauses.iter_mut().filter(|pause| pause.until > now).for_each(|pause| pause.until = now);
    }
    let by = Some((entry.instance.clone(), freeze.why.clone()));
    let pause = Pause { from: Some(now), until: now + freeze.lasts, by };
    pauses.push(pause.clone());
    pause
}
