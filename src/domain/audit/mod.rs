//! What the journal's entries tell an auditor: who spent which call on which alert, and whether the limits held.
//!
//! It reads the same entries as every instance and rules on claims with the same [`Budget`]; what it counts, it counts
//! anew from the entries.

mod call;
mod freeze;
mod summary;
#[cfg(test)]
mod tests;
mod window;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

pub use self::{
    call::{Call, Cause, End, Yield},
    freeze::Pause,
    summary::{Declared, Free, Limited, Summary},
    window::Fullest,
};
use super::{
    alert::AlertId,
    budget::{Budget, Checkpoint, Ruling},
    journal::{Answer, Body, Claim, Entry, EntryId, WriterId},
    terms::Terms,
    time::JournalTime,
};

/// How long an unanswered claim is waited for where no terms are known: what the defaults give.
const LAPSE_AFTER: Duration = Duration::from_secs(45);

/// Entries that are kept to be ruled on once a checkpoint says how things stood before them.
const MOST_UNRULED: usize = 50_000;

/// The audit of one account, as far as its journal was read.
#[derive(Clone, Debug)]
pub struct Audit {
    /// Where the period begins; what was read before it explains what lies in it.
    since: JournalTime,
    /// The time of the first entry, or of the checkpoint before it.
    begins: Option<JournalTime>,
    now: JournalTime,
    rule: Rule,
    budget: Budget,
    /// By what each writer calls itself.
    instances: BTreeMap<WriterId, Arc<str>>,
    /// Granted claims.
    calls: BTreeMap<EntryId, Call>,
    /// Claims that were refused, or whose ruling is not known: a call only if an answer comes.
    claims: BTreeMap<EntryId, Call>,
    /// When open calls and the claims above are given up.
    due: BTreeSet<(JournalTime, EntryId)>,
    /// How long after its entry a claim is given up, where no terms are in force.
    lapse_after: Duration,
    /// What is known of each alert.
    asked: HashMap<AlertId, Asked>,
    pauses: Vec<Pause>,
    tally: Tally,
    /// What has happened since [`Audit::take_news`] was called.
    news: Vec<News>,
}

/// Something to tell at once to whoever follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// A call has ended, or an answer came that was not expected any more.
    Ended(EntryId),
    /// The account is frozen, or is no longer.
    Paused(Pause),
}

/// Entries of the period that are told as numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Tally {
    refused: usize,
    checkpoints: usize,
    carried: usize,
    copies: usize,
    /// Claims that were neither ruled on nor answered.
    unruled: usize,
}

/// Whether the budget is that of the entries.
#[derive(Clone, Debug)]
enum Rule {
    Known,
    /// What was read begins in the middle. Until a checkpoint says how things stood, a claim is a call if it is answered.
    Unknown(VecDeque<(i64, JournalTime, Entry)>),
}

/// The last that was heard of an alert.
#[derive(Clone, Copy, Debug)]
struct Asked {
    at: JournalTime,
    cause_of_next: Cause,
}

impl Audit {
    /// Begins where the journal does: nothing was spent before.
    pub fn from_the_beginning(since: JournalTime) -> Self {
        Self {
            since,
            begins: None,
            now: JournalTime::default(),
            rule: Rule::Known,
            budget: Budget::default(),
            instances: BTreeMap::new(),
            calls: BTreeMap::new(),
            claims: BTreeMap::new(),
            due: BTreeSet::new(),
            lapse_after: LAPSE_AFTER,
            asked: HashMap::new(),
            pauses: Vec::new(),
            tally: Tally::default(),
            news: Vec::new(),
        }
    }

    /// Begins after the entries that are in `checkpoint`.
    pub fn from_checkpoint(since: JournalTime, checkpoint: &Checkpoint) -> Self {
        let mut audit = Self::from_the_beginning(since);
        audit.begins = Some(checkpoint.now);
        audit.restore(checkpoint);
        audit
    }

    /// Begins in the middle: what came before is gone.
    pub fn from_the_middle(since: JournalTime) -> Self {
        Self { rule: Rule::Unknown(VecDeque::new()), ..Self::from_the_beginning(since) }
    }

    /// Applies the entry that lies at `offset`.
    pub fn apply(&mut self, offset: i64, at: JournalTime, entry: &Entry) {
        self.now = self.now.max(at);
        self.begins.get_or_insert(self.now);
        self.give_up(self.now);
        self.instances.entry(entry.id.writer).or_insert_with(|| entry.instance.clone());
        if let Body::Terms(terms) = &entry.body {
            self.lapse_after = self.lapse_after.max(terms.lapse_after());
        }
        let ruling = self.ruling(offset, entry);
        if ruling == Some(Ruling::Copy) {
            self.tally.copies += usize::from(self.is_in_period(self.now));
            return;
        }
        match &entry.body {
            Body::Claim(claim) => self.claim(entry, claim, ruling),
            Body::Answer(answer) => self.answer(entry, answer, ruling),
            Body::Freeze(freeze) => {
                let pause = freeze::apply(&mut self.pauses, self.now, entry, freeze);
                self.news.push(News::Paused(pause));
            }
            Body::Terms(_) => {}
            Body::Checkpoint(checkpoint) => {
                let of_this_log = checkpoint.offset.is_some();
                let count = if of_this_log { &mut self.tally.checkpoints } else { &mut self.tally.carried };
                *count += usize::from(self.now >= self.since);
            }
        }
    }

    /// Lets time pass without an entry: gives up the calls that were never answered. What the entries mean does not change.
    pub fn give_up(&mut self, now: JournalTime) {
        while let Some(first) = self.due.first().copied().filter(|(lapse, _)| *lapse <= now) {
            self.due.remove(&first);
            let id = first.1;
            if let Some(call) = self.calls.get_mut(&id) {
                if call.end == End::Open {
                    call.end = End::GivenUp;
                    self.heard_of(id);
                }
            } else if let Some(claim) = self.claims.remove(&id) {
                self.tally.unruled += usize::from(claim.at() >= self.since && !self.is_ruled());
            }
        }
    }

    /// What has happened since this was last called, in order.
    pub fn take_news(&mut self) -> Vec<News> {
        std::mem::take(&mut self.news)
    }

    pub fn call(&self, claim: EntryId) -> Option<&Call> {
        self.calls.get(&claim)
    }

    /// The calls of the period, by the time of their claims.
    pub fn calls(&self) -> Vec<&Call> {
        let mut calls: Vec<_> = self.calls.values().filter(|call| self.is_in_period(call.at())).collect();
        calls.sort_by_key(|call| (call.at(), call.claim));
        calls
    }

    /// The freezes that reach into the period.
    pub fn pauses(&self) -> impl Iterator<Item = &Pause> {
        self.pauses.iter().filter(|pause| self.is_in_period(pause.until))
    }

    /// The budget after the last entry.
    pub fn budget(&self) -> &Budget {
        &self.budget
    }

    /// Forgets what lies before `since`, which is where the period begins from now on. For whoever follows for long.
    pub fn forget_before(&mut self, since: JournalTime) {
        let memory = self.budget.terms().map(Terms::memory).unwrap_or_default();
        self.since = self.since.max(since);
        let kept_from = JournalTime::from_origin(self.since.since_origin().saturating_sub(memory));
        self.calls.retain(|_, call| call.span().1 >= kept_from || call.end == End::Open);
        self.asked.retain(|_, asked| asked.at >= kept_from);
        self.pauses.retain(|pause| pause.until >= kept_from);
    }

    fn is_in_period(&self, at: JournalTime) -> bool {
        at >= self.since
    }

    fn is_ruled(&self) -> bool {
        matches!(self.rule, Rule::Known)
    }

    /// What the entry means; `None` where that is not known.
    fn ruling(&mut self, offset: i64, entry: &Entry) -> Option<Ruling> {
        if let Rule::Unknown(unruled) = &mut self.rule {
            let Some(checkpoint) = checkpoint(entry).filter(|checkpoint| checkpoint.offset.is_some()) else {
                if unruled.len() == MOST_UNRULED {
                    unruled.pop_front();
                }
                unruled.push_back((offset, self.now, entry.clone()));
                return None;
            };
            let unruled = std::mem::take(unruled);
            self.rule_on(checkpoint, unruled);
        }
        Some(self.budget.apply(self.now, entry))
    }

    /// A checkpoint says how things stood after its offset: rules on the entries that lie between it and its own.
    fn rule_on(&mut self, checkpoint: &Checkpoint, unruled: VecDeque<(i64, JournalTime, Entry)>) {
        self.rule = Rule::Known;
        self.restore(checkpoint);
        let refused = checkpoint.refused.iter().filter_map(|(id, _)| self.claims.get(id));
        self.tally.refused += refused.filter(|claim| claim.at() >= self.since).count();
        for (_, at, entry) in unruled.into_iter().filter(|(offset, ..)| Some(*offset) > checkpoint.offset) {
            match self.budget.apply(at, &entry) {
                Ruling::Granted(id) => {
                    if let Some(call) = self.claims.remove(&id) {
                        self.calls.insert(id, call);
                    }
                }
                Ruling::Refused(_) => self.tally.refused += usize::from(self.is_in_period(at)),
                Ruling::Divergent(id) => {
                    if let Some(call) = self.calls.get_mut(&id) {
                        call.divergent = true;
                    }
                }
                Ruling::Noted | Ruling::Copy => {}
            }
        }
    }

    /// Takes over what a checkpoint says: its budget, and its calls that are not answered.
    fn restore(&mut self, checkpoint: &Checkpoint) {
        self.budget = Budget::from(checkpoint);
        if let Some(terms) = self.budget.terms() {
            self.lapse_after = self.lapse_after.max(terms.lapse_after());
        }
        for (id, alert, lapse) in &checkpoint.open {
            let call = self.claims.remove(id).or_else(|| self.calls.remove(id));
            let mut call = call.unwrap_or_else(|| unread(*id, alert));
            call.lapse = *lapse;
            self.calls.insert(*id, call);
            self.due.insert((*lapse, *id));
        }
        let frozen_until = checkpoint.frozen_until;
        if frozen_until > checkpoint.now && self.pauses.iter().all(|pause| pause.until < frozen_until) {
            self.pauses.push(Pause::before_what_was_read(frozen_until));
        }
    }

    fn claim(&mut self, entry: &Entry, claim: &Claim, ruling: Option<Ruling>) {
        let id = entry.id;
        let lapse = self.now + self.budget.terms().map_or(self.lapse_after, Terms::lapse_after);
        let call = Call {
            claim: id,
            claimed: Some(self.now),
            instance: Some(entry.instance.clone()),
            alert: claim.alert.clone(),
            severity: Some(claim.severity),
            cause: self.asked.get(&claim.alert).map_or(Cause::First, |asked| asked.cause_of_next),
            end: End::Open,
            lapse,
            divergent: false,
        };
        self.due.insert((lapse, id));
        if let Some(Ruling::Granted(_)) = ruling {
            self.calls.insert(id, call);
        } else {
            self.tally.refused += usize::from(ruling.is_some() && self.is_in_period(self.now));
            self.claims.insert(id, call);
        }
    }

    fn answer(&mut self, entry: &Entry, answer: &Answer, ruling: Option<Ruling>) {
        let id = answer.claim;
        let mut call = self.calls.remove(&id).or_else(|| self.claims.remove(&id));
        let call = call.get_or_insert_with(|| unread(id, &answer.alert));
        call.divergent |= matches!(ruling, Some(Ruling::Divergent(_)));
        // The first answer is what happened; nobody writes a second one.
        if call.answered().is_none() {
            call.instance.get_or_insert_with(|| entry.instance.clone());
            let outcome = answer.outcome.as_ref().map(|outcome| outcome.status);
            call.end = End::Answered { at: self.now, reached: answer.reached, status: answer.status, outcome };
            if call.claimed.is_none() {
                call.lapse = self.now.max(call.lapse);
            }
        }
        self.calls.insert(id, call.clone());
        self.heard_of(id);
    }

    /// A call has ended: what a further one about its alert will be for.
    fn heard_of(&mut self, id: EntryId) {
        let Some(call) = self.calls.get(&id) else { return };
        self.news.push(News::Ended(id));
        let cause_of_next = match call.led_to() {
            Yield::Outcome(_) => Cause::Repeat,
            Yield::NotYet => Cause::AfterNotFound,
            Yield::Unfinished => Cause::AfterUnfinished,
            Yield::Failed | Yield::Unknown | Yield::GivenUp => Cause::AfterFailure,
            // It has asked nothing.
            Yield::Never | Yield::Unused | Yield::Open => return,
        };
        self.asked.insert(call.alert.clone(), Asked { at: self.now, cause_of_next });
    }
}

fn checkpoint(entry: &Entry) -> Option<&Checkpoint> {
    if let Body::Checkpoint(checkpoint) = &entry.body { Some(checkpoint) } else { None }
}

/// A call whose claim was not read.
fn unread(claim: EntryId, alert: &AlertId) -> Call {
    Call {
        claim,
        claimed: None,
        instance: None,
        alert: alert.clone(),
        severity: None,
        cause: Cause::Unknown,
        end: End::Open,
        lapse: JournalTime::default(),
        divergent: false,
    }
}
