//! What the journal tells the account, and what the account tells it.

use std::time::Duration;

use rand::RngExt as _;

use super::{
    Account,
    calls::Claimed,
    standing::{Standing, Use},
};
use crate::{
    defender::{
        journal::{Footing, Journal, News, NotAppended},
        pacer::Pacer,
        transport::Transport,
    },
    domain::{
        budget::{Budget, Ruling},
        journal::{Answer, Body, Claim, Entry, EntryId, Freeze, Permit, Stamped},
        reasks::Reasks,
        retry::Backoff,
        terms::Terms,
        time::{BootTime, JournalTime},
    },
    observe::metrics::ClaimEnd,
};

/// How often someone appends a checkpoint while there are other entries: so much has a replay to read at least.
const CHECKPOINT_EVERY: Duration = Duration::from_mins(1);

/// Instances that think of it at the same time do not all do it: so much later at most.
const CHECKPOINT_JITTER: Duration = Duration::from_secs(5);

/// How soon terms are declared again that did not come back, or that were forgotten because the journal's clock was set
/// forward.
const DECLARE_AGAIN: Duration = Duration::from_secs(5);

/// How long nothing is claimed after several claims in a row were refused: others are faster.
const AFTER_REFUSALS: Backoff = Backoff { first: Duration::from_millis(50), longest: Duration::from_secs(5) };

impl<J: Journal, T: Transport> Account<J, T> {
    /// Takes the news that are there.
    pub(super) fn replay(&mut self) {
        while let Some(news) = self.journal.try_next() {
            self.hear(news);
        }
    }

    pub(super) fn hear(&mut self, news: News) {
        match news {
            News::Entry(stamped) => self.apply(&stamped),
            News::Replay(budget) => self.begin_replay(*budget),
            News::Usable(footing) => self.journal_usable(footing),
            News::Unusable(why) => {
                self.standing.journal = Use::Stopped(why);
                self.report_condition(self.clock.boot());
            }
            News::Doubtful => self.declare(),
            News::Unreadable(at, why) => self.doubt(at, why),
            News::Replaced => {
                let known = || Body::Checkpoint(Box::new(self.budget.checkpoint(None)));
                self.standing.foremost.get_or_insert_with(known);
            }
            News::NotAppended(entries, how) => {
                for entry in entries {
                    self.not_appended(entry, how);
                }
            }
        }
    }

    fn begin_replay(&mut self, budget: Budget) {
        self.budget = budget;
        self.reasks = Reasks::new(self.config.max_answers);
        self.frozen_why = None;
        let foremost = self.standing.foremost.take();
        let overdue = std::mem::take(&mut self.standing.overdue);
        // What raised it may be gone from the log.
        let doubt = self.standing.doubt.take();
        self.standing = Standing { doubt, foremost, overdue, ..Standing::default() };
    }

    fn journal_usable(&mut self, footing: Footing) {
        self.standing.replaying = false;
        self.standing.journal = Use::Open;
        self.config.terms.skew = footing.skew;
        if let Some(Body::Checkpoint(_)) = self.standing.foremost {
            tracing::warn!(
                "the journal is another one, or has lost its newest entries: what this instance knows of the calls is written into it"
            );
            // The budget in it is as doubtful as it was, and nothing else in the other log says so.
            if let Some((_, why)) = self.standing.doubted(self.journal.now()).cloned() {
                self.append(Body::Freeze(Freeze { lasts: self.config.terms.memory(), why }));
            }
        } else if let Some(why) = footing.unproven.filter(|_| self.standing.doubted(self.journal.now()).is_none()) {
            // An instance that can't judge the entries of a newer version stops itself, and not the newer ones.
            let lasts = self.config.terms.memory();
            tracing::warn!(calls_begin_in = %humantime::format_duration(lasts), "{why}");
            self.standing.foremost = Some(Body::Freeze(Freeze { lasts, why }));
        }
        for body in std::mem::take(&mut self.standing.overdue) {
            self.append(body);
        }
        self.declare();
        self.report_condition(self.clock.boot());
    }

    /// The budget may not be what it seems: nothing is claimed until all that was ruled until now is over.
    fn doubt(&mut self, at: JournalTime, why: String) {
        let memory = self.budget.terms().map_or(Duration::ZERO, Terms::memory).max(self.config.terms.memory());
        if self.standing.doubted_until(at).is_none() {
            tracing::error!("{why}");
        }
        self.standing.doubt = Some((at + memory, why));
        self.report_condition(self.clock.boot());
    }

    /// Applies one entry; a granted claim of ours becomes a call.
    fn apply(&mut self, stamped: &Stamped) {
        let Stamped { at, offset, entry } = stamped;
        self.standing.offset = *offset;
        let is_own = entry.id.writer == self.last_entry.writer;
        if is_own {
            // After a replay the journal's time is that of its newest entry, however long ago that was, until an entry of
            // our own comes back; and nothing is granted to us before.
            self.own_clock.adopt(&self.budget, *at, self.clock.boot());
        }
        let ruling = self.budget.apply(*at, entry);
        if ruling == Ruling::Copy {
            return;
        }
        self.standing.since_checkpoint += 1;
        let now = self.clock.boot();
        self.own_clock.agree(self.budget.terms(), now);
        if is_own && self.standing.came_back(&entry.body) && self.standing.is_usable() {
            self.declare();
        }
        match &entry.body {
            Body::Claim(claim) => self.ruled(ruling, entry.id, claim, *at),
            Body::Answer(answer) => self.answer_seen(answer, ruling, entry.id, *at),
            Body::Freeze(freeze) => self.frozen_why = Some(freeze.why.clone()),
            Body::Checkpoint(checkpoint) => {
                if checkpoint.offset.is_none() {
                    let why =
                        "the journal was created anew; waiting until all instances have written down what they know";
                    self.frozen_why = Some(why.to_owned());
                }
                self.standing.since_checkpoint = 0;
                self.schedule_checkpoint(*at);
            }
            Body::Terms(_) => {}
        }
    }

    fn ruled(&mut self, ruling: Ruling, id: EntryId, claim: &Claim, at: JournalTime) {
        let granted = matches!(ruling, Ruling::Granted(_));
        if id.writer != self.last_entry.writer {
            if granted {
                if !self.standing.replaying {
                    self.own_clock.begin(id, self.clock.boot());
                    self.backlog.count_grant(claim.severity);
                }
                self.asked_elsewhere(&claim.alert, at);
            }
            return;
        }
        match self.claims.remove(&id) {
            Some(claimed) if granted => {
                self.claim_ended(ClaimEnd::Granted, claimed.at);
                self.refused_in_a_row = 0;
                self.granted(Permit { claim: id, expires: claimed.expires }, claimed.alert);
            }
            Some(claimed) => {
                self.claim_ended(ClaimEnd::Refused, claimed.at);
                self.refused_in_a_row += 1;
                if self.refused_in_a_row > 1 {
                    let wait = AFTER_REFUSALS.wait(self.refused_in_a_row - 1, self.random.random());
                    self.refused_until = self.clock.boot() + wait;
                }
                self.requeue(&claimed.alert);
            }
            // It was given up, and came back after all. In a replay it may as well have been called.
            None if granted && !self.standing.replaying => self.give_back(id, &claim.alert),
            None => {}
        }
    }

    fn answer_seen(&mut self, answer: &Answer, ruling: Ruling, id: EntryId, at: JournalTime) {
        if !self.standing.replaying {
            self.own_clock.end(answer, self.clock.boot());
        }
        if let Ruling::Divergent(claim) = ruling {
            self.doubt(
                at,
                format!(
                    "the journal holds an answer to claim {claim}, which was refused: an instance of another version rules \
                     otherwise, so the budget is not what it seems; no calls until nothing of it counts any more; see that \
                     all instances run the same version"
                ),
            );
        }
        if answer.outcome.is_some() {
            self.reasks.forget(&answer.alert);
        } else if answer.status == Some(404) {
            self.reasks.note(&answer.alert, at);
        }
        if id.writer != self.last_entry.writer {
            self.answered_elsewhere(answer);
        }
    }

    fn not_appended(&mut self, entry: Entry, how: NotAppended) {
        match entry.body {
            // What may come back is waited for, until it would have expired.
            Body::Claim(_) if how == NotAppended::Unknown => {}
            Body::Claim(_) => {
                if let Some(claimed) = self.claims.remove(&entry.id) {
                    self.claim_lost(&claimed);
                }
            }
            Body::Answer(answer) if how == NotAppended::TooLarge && answer.outcome.is_some() => {
                tracing::warn!(alert_id = %answer.alert, "an answer is too large for the journal: it is written down without its addresses, and not reused elsewhere");
                self.append(Body::Answer(Answer { outcome: None, ..answer }));
            }
            body @ Body::Freeze(_) if how == NotAppended::TooLarge => {
                self.append(body);
            }
            body @ Body::Freeze(_) if self.standing.foremost.as_ref() != Some(&body) => {
                self.standing.overdue.push(body);
            }
            Body::Checkpoint(known) if how == NotAppended::TooLarge => {
                self.checkpoint_too_large(known.offset.is_none());
            }
            // The slot of a call is held for as long as if no answer had come: that is safe. The others are written anew.
            Body::Answer(_) | Body::Terms(_) | Body::Checkpoint(_) | Body::Freeze(_) => {}
        }
    }

    fn checkpoint_too_large(&mut self, carried: bool) {
        tracing::warn!("a checkpoint is too large for the journal; raise max.message.bytes of its topic");
        if carried {
            let why = "what was called before the journal was created anew is too large to be written into it, so all \
                       calls count as spent";
            let freeze = Freeze { lasts: self.config.terms.memory(), why: why.to_owned() };
            self.standing.foremost = Some(Body::Freeze(freeze));
            self.declare();
        }
    }

    /// Holds itself to what was asked for last.
    pub(super) fn hold_to_other_terms(&mut self) {
        let skew = self.config.terms.skew;
        self.config.terms = Terms { skew, ..self.terms.borrow_and_update().clone() };
        self.pacer = Pacer::new(&self.config.terms, self.clock.clone());
        // While the journal can't be used they are told once it can.
        if self.standing.is_usable() && !self.draining {
            self.declare();
        }
    }

    /// Tells the journal what this account holds itself to; and before, until it comes back, what all must know first: else
    /// calls would be granted as if nothing had been called.
    fn declare(&mut self) {
        self.declared = self.clock.boot();
        let terms = || Body::Terms(self.config.terms.clone());
        let body = self.standing.foremost.clone().unwrap_or_else(terms);
        self.append(body);
    }

    /// What is written down from time to time: terms are forgotten with their writer, and a replay begins with a checkpoint.
    pub(super) fn write_down(&mut self) {
        if !self.standing.is_usable() || self.draining {
            return;
        }
        let known = self.standing.is_settled() && self.budget.is_claimant(self.last_entry.writer);
        let again = if known { self.config.terms.memory() / 2 } else { DECLARE_AGAIN };
        if self.clock.boot() >= self.declared + again {
            self.declare();
        }
        let now = self.journal.now();
        if self.standing.since_checkpoint > 0
            && now >= self.standing.checkpoint_due
            && self.standing.doubted_until(now).is_none()
        {
            // As of an offset: of all that is there.
            self.replay();
            if !self.standing.is_usable() {
                return;
            }
            self.schedule_checkpoint(now);
            self.append(Body::Checkpoint(Box::new(self.budget.checkpoint(Some(self.standing.offset)))));
        }
    }

    fn schedule_checkpoint(&mut self, last: JournalTime) {
        let jitter = CHECKPOINT_JITTER.mul_f64(self.random.random());
        self.standing.checkpoint_due = last + CHECKPOINT_EVERY + jitter;
    }

    /// Appends an entry and returns its id.
    pub(super) fn append(&mut self, body: Body) -> EntryId {
        self.last_entry.number += 1;
        let id = self.last_entry;
        self.journal.append(Entry { id, instance: self.instance.clone(), body });
        id
    }

    /// Forgets the claims that would have expired before their entries come back.
    pub(super) fn give_up_claims(&mut self, now: BootTime) {
        let expired: Vec<_> =
            self.claims.extract_if(.., |_, claimed| claimed.expires <= now).map(|(_, claimed)| claimed).collect();
        for claimed in &expired {
            self.claim_lost(claimed);
        }
    }

    fn claim_lost(&mut self, claimed: &Claimed) {
        self.claim_ended(ClaimEnd::Lost, claimed.at);
        self.requeue(&claimed.alert);
    }

    fn claim_ended(&self, end: ClaimEnd, at: BootTime) {
        self.reporting.metrics.claim_ended(end, self.clock.boot().saturating_since(at));
    }

    /// When that is, on this host's clock.
    pub(super) fn boot_at(&self, at: JournalTime) -> BootTime {
        self.clock.boot() + at.saturating_since(self.journal.now())
    }
}
