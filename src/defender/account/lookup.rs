//! Lookups: admitted, joined, and resolved.

use std::sync::Arc;

use jiff::Timestamp;
use rand::RngExt as _;
use smallvec::{SmallVec, smallvec};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use url::Url;

use super::{Account, Ask};
use crate::{
    defender::{journal::Journal, transport::Transport},
    domain::{
        alert::{Alert, AlertId},
        backlog::{Parked, Place},
        journal::{Answer, Reached},
        outcome::{Outcome, Rejection},
        reasks::Asked,
        retry::Pages,
        time::{BootTime, JournalTime},
    },
};

/// The question about one alert id, for everyone who asks it.
pub(super) struct Lookup {
    /// The first asker's alert, with the latest update of all of them.
    pub(super) alert: Arc<Alert>,
    place: Place,
    state: State,
    /// Nearly always one.
    askers: SmallVec<[Asker; 1]>,
    /// Most lookups wait without any: tens of thousands may.
    course: Option<Box<Course>>,
}

/// Who waits for the answer.
pub(super) struct Asker {
    pub(super) reply: oneshot::Sender<Result<Outcome, Rejection>>,
    /// Once it is cancelled, only a call on the wire is waited for.
    pub(super) leaving: CancellationToken,
}

/// How asking has gone so far.
#[derive(Default)]
pub(super) struct Course {
    /// The pages read so far, and where the next one is.
    pub(super) pages: Pages,
    pub(super) next_page: Option<Url>,
    /// When the first of them was given.
    pub(super) begun: Option<Timestamp>,
    /// Re-asks made after a 404.
    pub(super) reasked: usize,
    pub(super) failures: u32,
    pub(super) bad_responses: u32,
    pub(super) first_failed: Option<BootTime>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// In the backlog.
    Waiting,
    /// Claimed, or on the wire.
    Running,
}

impl Lookup {
    pub(super) fn is_waiting(&self) -> bool {
        self.state == State::Waiting
    }

    pub(super) fn place(&self) -> &Place {
        &self.place
    }

    pub(super) fn course(&mut self) -> &mut Course {
        self.course.get_or_insert_default()
    }

    /// Where the answer goes on, if a part of it was read.
    pub(super) fn next_page(&self) -> Option<&Url> {
        self.course.as_ref()?.next_page.as_ref()
    }

    /// The failures so far were the service's.
    pub(super) fn forget_failures(&mut self) {
        if let Some(course) = &mut self.course {
            (course.failures, course.bad_responses, course.first_failed) = (0, 0, None);
        }
    }

    /// Forgets askers that wait for no further call; whether nobody is left.
    pub(super) fn is_abandoned(&mut self) -> bool {
        self.askers.retain(|asker| !asker.reply.is_closed() && !asker.leaving.is_cancelled());
        self.askers.is_empty()
    }

    fn resolve(self, result: &Result<Outcome, Rejection>) {
        for asker in self.askers {
            // An asker that went away while the call was made needs no answer.
            let _ = asker.reply.send(result.clone());
        }
    }
}

impl<J: Journal, T: Transport> Account<J, T> {
    /// Now, by the service's clock as far as it is known.
    pub(super) fn service_time(&self) -> Timestamp {
        self.service_clock.at(self.clock.boot(), self.clock.wall())
    }

    /// Answers a question from what is known, joins it to the same question, or queues it.
    pub(super) fn admit(&mut self, ask: Ask) {
        if ask.asker.leaving.is_cancelled() {
            return;
        }
        if let Some(outcome) = self.answers.fresh(&ask.alert, self.service_time()) {
            self.reporting.metrics.answer_reused();
            let _ = ask.asker.reply.send(Ok(outcome));
            return;
        }
        if let Some(lookup) = self.lookups.get_mut(&ask.alert.id) {
            self.reporting.metrics.lookup_joined();
            if lookup.alert.updated < ask.alert.updated {
                Arc::make_mut(&mut lookup.alert).updated = ask.alert.updated;
            }
            lookup.place = match lookup.state {
                State::Waiting => self.backlog.raise(&lookup.place, ask.rank, ask.since),
                State::Running => lookup.place.raised(ask.rank, ask.since),
            };
            lookup.askers.push(ask.asker);
            return;
        }
        let place = self.backlog.place(ask.alert.id.clone(), ask.rank, ask.since);
        let asked = self.reasks.of(&ask.alert.id);
        let elsewhere = self.elsewhere_until(&ask.alert.id).map(|until| (until, Parked::Elsewhere));
        let parked = elsewhere.or_else(|| Some((self.reask_at(asked?), Parked::Reask)));
        match parked.filter(|(until, _)| *until > self.clock.boot()) {
            Some((until, parked)) => self.backlog.park(place.clone(), until, parked),
            None => self.backlog.queue(place.clone()),
        }
        let course = asked.map(|asked| Box::new(Course { reasked: asked.times, ..Course::default() }));
        let (id, askers) = (ask.alert.id.clone(), smallvec![ask.asker]);
        let lookup = Lookup { alert: ask.alert, place, state: State::Waiting, askers, course };
        self.lookups.insert(id, Box::new(lookup));
    }

    /// Marks a lookup that was taken from the backlog as running, unless nobody waits for it any more.
    pub(super) fn start(&mut self, place: &Place) -> Option<AlertId> {
        let lookup = self.lookups.get_mut(place.id())?;
        if lookup.is_abandoned() {
            self.lookups.remove(place.id());
            return None;
        }
        lookup.state = State::Running;
        Some(place.id().clone())
    }

    /// Puts a running lookup back into the backlog, to go as soon as its turn comes, or as nobody else asks the same.
    pub(super) fn requeue(&mut self, id: &AlertId) {
        let elsewhere = self.elsewhere_until(id);
        self.wait_again(id, elsewhere.map(|until| (until, Parked::Elsewhere)));
    }

    /// How long another instance's question about this alert is waited for, if there is one.
    fn elsewhere_until(&self, id: &AlertId) -> Option<BootTime> {
        let until = self.elsewhere.get(id).copied().filter(|until| *until > self.journal.now())?;
        Some(self.boot_at(until))
    }

    /// Puts a running lookup back into the backlog, to wait until `until` first.
    pub(super) fn park(&mut self, id: &AlertId, until: BootTime, parked: Parked) {
        self.wait_again(id, Some((until, parked)));
    }

    fn wait_again(&mut self, id: &AlertId, parked: Option<(BootTime, Parked)>) {
        let Some(lookup) = self.lookups.get_mut(id) else { return };
        if self.draining || lookup.is_abandoned() {
            self.lookups.remove(id);
            return;
        }
        lookup.state = State::Waiting;
        match parked {
            None => self.backlog.queue(lookup.place.clone()),
            Some((until, parked)) => self.backlog.park(lookup.place.clone(), until, parked),
        }
    }

    /// Ends a lookup: everyone who asked gets the result.
    pub(super) fn resolve(&mut self, id: &AlertId, result: &Result<Outcome, Rejection>) {
        if let Ok(outcome) = result {
            self.answers.insert(id, outcome);
        }
        if let Some(lookup) = self.lookups.remove(id) {
            lookup.resolve(result);
        }
    }

    /// Drops waiting lookups that nobody waits for any more: their partitions were, or are to be, given up.
    pub(super) fn sweep(&mut self) {
        let backlog = &mut self.backlog;
        self.lookups.retain(|_, lookup| {
            let abandoned = lookup.is_waiting() && lookup.is_abandoned();
            if abandoned {
                backlog.remove(&lookup.place);
            }
            !abandoned
        });
    }

    /// Another instance, or this one in its former life, asks about this alert: its answer is waited for, as long as it may
    /// take.
    pub(super) fn asked_elsewhere(&mut self, id: &AlertId, at: JournalTime) {
        let until = at + self.config.terms.lapse_after();
        self.elsewhere.retain(|_, until| *until > at);
        self.elsewhere.insert(id.clone(), until);
        // What waits for a time of its own goes on doing so; a claim that comes too early is refused.
        if self.lookups.get(id).is_some_and(|lookup| !self.backlog.waits_for_itself(&lookup.place)) {
            self.wait_for(id, self.boot_at(until), Parked::Elsewhere);
        }
    }

    /// Another's question is over: its outcome is as good as one of our own, else it is asked again as it would be had this
    /// instance asked.
    pub(super) fn answered_elsewhere(&mut self, answer: &Answer) {
        self.elsewhere.remove(&answer.alert);
        if let Some(outcome) = &answer.outcome {
            self.answers.insert(&answer.alert, outcome);
        }
        let now = self.service_time();
        let Some(lookup) = self.lookups.get_mut(&answer.alert).filter(|lookup| lookup.is_waiting()) else { return };
        if let Some(outcome) = self.answers.fresh(&lookup.alert, now) {
            self.backlog.remove(&lookup.place);
            self.reporting.metrics.answer_reused();
            self.resolve(&answer.alert, &Ok(outcome));
        } else if let Some(asked) = self.reasks.of(&answer.alert).filter(|_| answer.status == Some(404)) {
            lookup.course().reasked = asked.times;
            self.wait_for(&answer.alert, self.reask_at(asked), Parked::Reask);
        } else if matches!(answer.reached, Reached::Complete | Reached::Unknown) && answer.status != Some(200) {
            // It failed, as it would have here: whoever asks next waits first, so that it does not hold up the others.
            let course = lookup.course();
            course.failures += 1;
            let wait = self.config.backoff.wait(course.failures, self.random.random());
            self.wait_for(&answer.alert, self.clock.boot() + wait, Parked::Retry);
        } else {
            self.backlog.release_elsewhere(&lookup.place);
        }
    }

    /// Moves a waiting lookup to where it waits for a time.
    fn wait_for(&mut self, id: &AlertId, until: BootTime, parked: Parked) {
        if let Some(lookup) = self.lookups.get(id).filter(|lookup| lookup.is_waiting()) {
            self.backlog.remove(&lookup.place);
            self.backlog.park(lookup.place.clone(), until, parked);
        }
    }

    /// When an alert that the service did not know is due to be asked about again.
    fn reask_at(&self, asked: Asked) -> BootTime {
        let wait = self.config.reask.after.get(asked.times.saturating_sub(1)).copied().unwrap_or_default();
        self.boot_at(asked.last + wait)
    }
}
