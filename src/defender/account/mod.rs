//! One app registration in one tenant: the owner of its permits, backlog and answers.
//!
//! The task below is the only one that touches this state. Others put questions ([`AccountHandle`]) and read the [`AccountStatus`] it
//! publishes. A lookup goes: admitted (a fresh answer ends it here), queued in the backlog, claimed, called, resolved;
//! or it is parked for a re-ask or a backoff and queued again.

mod access;
mod calls;
mod entries;
mod lookup;
mod report;
mod standing;
mod verdicts;

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use jiff::Timestamp;
use rand::{RngExt, SeedableRng, rngs::StdRng};
use secrecy::SecretString;
use tokio::{
    sync::{Notify, mpsc, oneshot, watch},
    task::JoinSet,
    time::MissedTickBehavior,
};
use tokio_util::sync::CancellationToken;

use self::{
    access::Access,
    calls::{Called, Claimed},
    lookup::{Asker, Lookup},
    standing::Standing,
};
use super::{journal::Journal, pacer::Pacer, token::SignIn, transport::Transport, wire::Api};
use crate::{
    clock::Clock,
    domain::{
        alert::{Alert, AlertId},
        answers::Answers,
        backlog::{Backlog, Patience, Rank},
        budget::{Budget, OwnClock},
        journal::{EntryId, Permit, WriterId},
        outcome::{Outcome, Rejection},
        phase::Phase,
        reasks::Reasks,
        retry::{Backoff, Breaker, ReaskPlan},
        service_clock::ServiceClock,
        terms::Terms,
        time::{BootTime, JournalTime},
    },
    observe::{
        health::{Pulse, Reporter},
        metrics::AccountMetrics,
        status::AccountStatus,
    },
};

/// Asks waiting to be admitted; beyond it, askers wait. Room for a whole read window: an asker that waits costs ten times
/// what its ask does.
const ASKS: usize = 32_768;

/// Most asks admitted before other things have their turn.
const ASKS_AT_ONCE: usize = 1024;

/// Most lookups waiting or running; beyond it, asks are not admitted.
const MAX_LOOKUPS: usize = 100_000;

/// How often the status is published, and so how fresh a reader sees it.
const STATUS_EVERY: Duration = Duration::from_millis(500);

/// How often lookups are looked for that nobody waits for any more. Only a lost partition leaves some behind, and they get
/// no call anyway: this is about their memory.
const SWEEP_EVERY: Duration = Duration::from_mins(1);

/// What an account must know of its configuration.
pub struct AccountConfig {
    /// Who writes to the journal, for an auditor.
    pub instance: Arc<str>,
    pub terms: Terms,
    pub patience: Patience,
    pub reuse_for: Duration,
    pub max_answers: usize,
    pub reask: ReaskPlan,
    pub backoff: Backoff,
    /// A question that failed for this long while others were answered is given up.
    pub poison_after: Duration,
    /// A question that was answered with something that is no answer so often is given up.
    pub bad_response_attempts: u32,
    pub api: Api,
    pub sign_in: SignIn,
    /// Reads the client secret anew, so that a rotated one is picked up. The error is for the operator.
    pub secret: Box<dyn Fn() -> Result<SecretString, String> + Send>,
}

/// What an account reports into.
pub struct Reporting {
    pub metrics: AccountMetrics,
    pub health: Reporter,
    pub pulse: Pulse,
}

/// The question of one record about one alert.
struct Ask {
    alert: Arc<Alert>,
    rank: Rank,
    since: Timestamp,
    asker: Asker,
}

/// Where questions for one account are put. Cheap to clone.
#[derive(Clone, Debug)]
pub struct AccountHandle {
    asks: mpsc::Sender<Ask>,
    status: watch::Receiver<AccountStatus>,
    terms: watch::Sender<Terms>,
    /// Someone who asked waits no longer.
    withdrawn: Arc<Notify>,
}

/// The account lets a lookup go: the daemon is stopping, or the partition of its record is to be given up. Nothing was
/// decided about the alert.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the lookup was let go: the daemon is stopping, or its record is no longer this instance's")]
pub struct LetGo;

/// An answer to come. Dropping it withdraws the question.
#[derive(Debug)]
pub struct Pending(oneshot::Receiver<Result<Outcome, Rejection>>);

impl AccountHandle {
    /// Puts a question; `since` is the Kafka timestamp of its record, from which its deadline counts.
    pub async fn ask(&self, alert: impl Into<Arc<Alert>>, since: Timestamp) -> Result<Pending, LetGo> {
        let alert = alert.into();
        let rank = alert.severity.into();
        self.ask_until(CancellationToken::new(), alert, rank, since).await
    }

    /// As [`ask`](Self::ask), with another rank than the alert's severity. Once `leaving` is cancelled, and that is [told](Self::let_go_of_withdrawn), only a call that is
    /// on the wire is waited for.
    pub async fn ask_until(
        &self,
        leaving: CancellationToken,
        alert: Arc<Alert>,
        rank: Rank,
        since: Timestamp,
    ) -> Result<Pending, LetGo> {
        let (reply, answer) = oneshot::channel();
        let ask = Ask { alert, rank, since, asker: Asker { reply, leaving } };
        self.asks.send(ask).await.map_err(|_| LetGo)?;
        Ok(Pending(answer))
    }

    /// Lets the account notice at once whom it need not answer any more.
    pub fn let_go_of_withdrawn(&self) {
        self.withdrawn.notify_one();
    }

    /// Lets the account hold itself to other terms from now on. The journal tells the other instances, and the stricter
    /// hold until all agree.
    pub fn hold_to(&self, terms: Terms) {
        self.terms.send_replace(terms);
    }

    /// What the account publishes about itself.
    pub fn status(&self) -> watch::Receiver<AccountStatus> {
        self.status.clone()
    }
}

/// Waits for the answer, for as long as it takes.
impl Future for Pending {
    type Output = Result<Result<Outcome, Rejection>, LetGo>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(context).map_err(|_| LetGo)
    }
}

/// The task that owns an account.
pub struct Account<J, T> {
    config: AccountConfig,
    clock: Clock,
    reporting: Reporting,
    status: watch::Sender<AccountStatus>,
    transport: Arc<T>,
    asks: mpsc::Receiver<Ask>,
    terms: watch::Receiver<Terms>,
    withdrawn: Arc<Notify>,
    journal: J,
    standing: Standing,
    budget: Budget,
    own_clock: OwnClock,
    pacer: Pacer,
    /// Until when the pacer holds everything below High back.
    paced_until: BootTime,
    backlog: Backlog,
    /// Every lookup that waits or runs, by its alert id: one question at a time.
    /// Boxed: a map has room for up to twice of what it holds.
    lookups: HashMap<AlertId, Box<Lookup>>,
    answers: Answers,
    /// By which answers are dated.
    service_clock: ServiceClock,
    reasks: Reasks,
    breaker: Breaker,
    access: Access,
    /// Claims appended whose ruling is not known yet.
    claims: BTreeMap<EntryId, Claimed>,
    /// Since when there is room for a claim, and this instance's lot, which says how soon it takes it.
    room: Option<(BootTime, f64)>,
    /// Claims that were refused since the last grant, and until when nothing is claimed because of that.
    refused_in_a_row: u32,
    refused_until: BootTime,
    /// Granted, and waiting for room on this host's clock.
    held: VecDeque<(Permit, AlertId)>,
    /// Alerts that other instances ask about, and until when at most.
    elsewhere: HashMap<AlertId, JournalTime>,
    /// The last entry appended: as whom, and how many there were.
    last_entry: EntryId,
    instance: Arc<str>,
    /// When its terms were declared last.
    declared: BootTime,
    calls: JoinSet<Called>,
    /// What asked for the last freeze.
    frozen_why: Option<String>,
    /// Until when the service asked this instance for a pause, whether or not that can be written down.
    frozen_here: BootTime,
    /// 429s since the last answer.
    throttled_in_a_row: u32,
    random: StdRng,
    draining: bool,
}

impl<J: Journal, T: Transport> Account<J, T> {
    /// An account that has spent nothing. `seed` drives its jitter.
    pub fn new(
        config: AccountConfig,
        clock: Clock,
        journal: J,
        transport: Arc<T>,
        reporting: Reporting,
        seed: u64,
    ) -> (Self, AccountHandle) {
        let (ask, asks) = mpsc::channel(ASKS);
        let mut random = StdRng::seed_from_u64(seed);
        let (publish, status) = watch::channel(AccountStatus::default());
        let (hold_to, terms) = watch::channel(config.terms.clone());
        let withdrawn = Arc::new(Notify::new());
        let account = Self {
            standing: Standing::default(),
            budget: Budget::default(),
            own_clock: OwnClock::default(),
            pacer: Pacer::new(&config.terms, clock.clone()),
            paced_until: BootTime::default(),
            backlog: Backlog::new(config.patience),
            lookups: HashMap::new(),
            answers: Answers::new(config.reuse_for, config.max_answers),
            service_clock: ServiceClock::default(),
            reasks: Reasks::new(config.max_answers),
            breaker: Breaker::default(),
            access: Access::default(),
            claims: BTreeMap::new(),
            room: None,
            refused_in_a_row: 0,
            refused_until: BootTime::default(),
            held: VecDeque::new(),
            elsewhere: HashMap::new(),
            declared: BootTime::default(),
            last_entry: EntryId { writer: WriterId(random.random()), number: 0 },
            instance: config.instance.clone(),
            calls: JoinSet::new(),
            frozen_why: None,
            frozen_here: BootTime::default(),
            throttled_in_a_row: 0,
            random,
            draining: false,
            status: publish,
            config,
            clock,
            reporting,
            transport,
            asks,
            terms,
            withdrawn: withdrawn.clone(),
            journal,
        };
        (account, AccountHandle { asks: ask, status, terms: hold_to, withdrawn })
    }

    /// Runs until the phase is draining (or nobody is left to ask) and the calls on the wire have finished.
    pub async fn run(mut self, mut phase: watch::Receiver<Phase>) {
        let mut publish = tokio::time::interval(STATUS_EVERY);
        publish.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut sweep = tokio::time::interval(SWEEP_EVERY);
        sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut asks = Vec::new();
        loop {
            let wake = self.start_calls();
            if self.draining && self.calls.is_empty() && (self.claims.is_empty() || !self.standing.is_usable()) {
                break;
            }
            let admitting = !self.draining && self.lookups.len() < MAX_LOOKUPS;
            // In this order, so that a run under a simulated clock repeats itself: what is rare first, new work last.
            tokio::select! {
                biased;
                changed = phase.wait_for(|phase| *phase >= Phase::Draining), if !self.draining => {
                    drop(changed);
                    self.drain();
                }
                _ = publish.tick() => {
                    self.write_down();
                    self.publish();
                }
                _ = sweep.tick() => self.sweep(),
                () = self.withdrawn.notified() => self.sweep(),
                Some(called) = self.calls.join_next() => {
                    self.finish(called);
                    while let Some(called) = self.calls.try_join_next() {
                        self.finish(called);
                    }
                }
                Some(signed_in) = self.access.signed_in() => self.signed_in(signed_in),
                Ok(()) = self.terms.changed() => self.hold_to_other_terms(),
                news = self.journal.next() => self.hear(news),
                () = sleep_until(&self.clock, wake) => {}
                received = self.asks.recv_many(&mut asks, ASKS_AT_ONCE), if admitting => {
                    if received == 0 {
                        self.drain();
                    }
                    asks.drain(..).for_each(|ask| self.admit(ask));
                }
            }
        }
        self.journal.flush().await;
        self.publish();
        self.reporting.pulse.finish();
    }

    /// Lets everything go that waits; calls on the wire finish.
    fn drain(&mut self) {
        self.draining = true;
        self.asks.close();
        while self.asks.try_recv().is_ok() {}
        let backlog = &mut self.backlog;
        self.lookups.retain(|_, lookup| {
            if lookup.is_waiting() {
                backlog.remove(lookup.place());
            }
            !lookup.is_waiting()
        });
    }
}

/// Sleeps until `wake`, or for ever.
async fn sleep_until(clock: &Clock, wake: Option<BootTime>) {
    match wake {
        Some(wake) => tokio::time::sleep(wake.saturating_since(clock.boot())).await,
        None => std::future::pending().await,
    }
}
