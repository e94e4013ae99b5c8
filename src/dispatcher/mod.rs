//! The owner of everything about offsets: admits records, settles them, commits, and answers rebalances.
//!
//! One loop, which never blocks and never waits for one thing alone. A record is open from its arrival until all that it
//! led to is acknowledged; only then is its offset settled, and only what is settled is committed.

mod admission;
mod at_least_once;
mod delivery;
mod drain;
mod exactly_once;
mod input_health;
mod leaving;
mod lives;
mod output_health;
mod partitions;
mod parts;
mod remedy;
mod transactions;
mod window;
mod writes;

use std::{collections::HashMap, sync::Arc, time::Duration};

use tokio::{
    sync::{mpsc, watch},
    time::MissedTickBehavior,
};

use self::{
    at_least_once::MANY_WRITES,
    delivery::{Delivered, Delivery},
    leaving::Leave,
    lives::{Ended, Lives},
    partitions::{Log, Partitions},
    window::{Flow, Size, Window},
};
pub use self::{delivery::Outputs, input_health::InputHealth, output_health::OutputHealth};
use crate::{
    clock::Clock,
    domain::{
        phase::Phase,
        record::{Partition, Record},
    },
    kafka::{
        notice::{Client, News, Notice},
        source::{SourceEvent, SourceHandle},
    },
    observe::{health::Pulse, metrics::Metrics},
    pipeline::{Early, Pipeline, RecordId, Write, Written},
};

/// How often what is settled is committed.
const COMMIT_EVERY: Duration = Duration::from_secs(1);

/// Most events of one kind taken in one turn of the loop.
const BATCH: usize = 1024;

/// How many records may be open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenBounds {
    pub records: usize,
    pub bytes: usize,
    /// Bytes in which a commit of one partition says what is settled beyond its oldest open record.
    pub commit_metadata: usize,
}

/// The ends of the edge to Kafka.
pub struct Edge {
    pub source: SourceHandle,
    pub events: mpsc::Receiver<SourceEvent>,
    pub outputs: Outputs,
    pub notices: mpsc::Receiver<Notice>,
}

/// What the dispatcher reports into.
pub struct Reporting {
    pub metrics: Metrics,
    pub input: InputHealth,
    pub output: OutputHealth,
    pub pulse: Pulse,
}

/// What was not finished when the time to drain was over; it is redone after the next start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Unfinished {
    pub records: usize,
    pub writes: usize,
    /// Whether the last commit was not made or the group not left.
    pub still_in_group: bool,
    /// Records that waited for a permit or a re-ask and were let go. They, and what was settled behind them, are read
    /// again.
    pub left_open: usize,
}

/// Reads from Kafka, lets every record live, writes what it returns, and commits what is settled.
pub struct Dispatcher {
    clock: Clock,
    pipeline: Arc<Pipeline>,
    source: SourceHandle,
    events: mpsc::Receiver<SourceEvent>,
    notices: mpsc::Receiver<Notice>,
    delivery: Delivery,
    reporting: Reporting,
    partitions: Partitions,
    /// Partitions that are to be given up as soon as what is under way in them has ended.
    leaves: Vec<Leave>,
    lives: Lives,
    /// Every record that is not settled.
    open: HashMap<RecordId, Open>,
    last_record: RecordId,
    /// Writes of records that are not decided as a whole yet. Not in transactions: a record is settled in one.
    early: mpsc::Receiver<Early>,
    early_sender: mpsc::Sender<Early>,
    window: Window,
    draining: bool,
    /// Whether a thread that it can't do without has ended.
    is_cut_off: bool,
    /// Records let go while draining.
    left_open: usize,
}

/// A record that is not settled.
struct Open {
    record: Arc<Record>,
    log: Log,
    size: Size,
    /// How many writes it led to, once all its alerts are decided.
    writes: Option<u32>,
    acknowledged: u32,
}

impl Dispatcher {
    pub fn new(pipeline: Arc<Pipeline>, edge: Edge, reporting: Reporting, bounds: OpenBounds, clock: Clock) -> Self {
        let (early_sender, early) = mpsc::channel(BATCH);
        let Edge { source, events, outputs, notices } = edge;
        Self {
            clock,
            pipeline,
            source,
            events,
            notices,
            delivery: outputs.into(),
            reporting,
            leaves: Vec::new(),
            partitions: Partitions::new(bounds.commit_metadata),
            lives: Lives::default(),
            open: HashMap::new(),
            last_record: RecordId(0),
            early,
            early_sender,
            window: Window::new(bounds.records, bounds.bytes),
            draining: false,
            is_cut_off: false,
            left_open: 0,
        }
    }

    /// Runs until the phase is draining, then drains. Returns what could not be finished in time; before that only where a
    /// thread that it can't do without has ended by itself, which is a defect.
    pub async fn run(mut self, mut phase: watch::Receiver<Phase>) -> Unfinished {
        self.reporting.input.tell();
        let mut commit = tokio::time::interval(COMMIT_EVERY);
        commit.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            if self.is_cut_off {
                return Unfinished::default();
            }
            tokio::select! {
                () = self.turn() => {}
                _ = commit.tick() => {
                    self.read_again();
                    self.commit();
                    self.renew_if_deaf(COMMIT_EVERY);
                    self.tell_silence(COMMIT_EVERY);
                }
                changed = phase.wait_for(|phase| *phase >= Phase::Draining) => {
                    drop(changed);
                    break;
                }
            }
        }
        self.drain().await
    }

    /// Takes whatever comes first, and what follows from it at once. Cancel safe: nothing is lost at the await.
    async fn turn(&mut self) {
        let now = self.clock.boot();
        self.reporting.pulse.beat(now);
        self.send_writes();
        self.transact(false);
        self.leave_where_all_has_ended(now);
        match self.window.flow().filter(|_| !self.draining) {
            Some(Flow::Pause) => self.source.pause(),
            Some(Flow::Resume) => self.source.resume(),
            None => {}
        }
        let again = [self.delivery.next_round(), self.next_leave()].into_iter().flatten().min();
        let again = again.map(|due| due.saturating_since(now));
        tokio::select! {
            event = self.events.recv(), if !self.is_cut_off => match event {
                Some(event) => self.take(event),
                None => self.cut_off("reads from kafka"),
            },
            delivered = self.delivery.delivered(), if !self.is_cut_off => match delivered {
                Delivered::Acknowledged(acks) => acks.into_iter().for_each(|ack| self.acknowledged(ack)),
                Delivered::Transacted(transacted) => self.transacted(transacted),
                Delivered::CutOff => self.cut_off("writes to kafka"),
            },
            ended = self.lives.ended() => ended.into_iter().for_each(|ended| self.ended(ended)),
            Some(early) = self.early.recv(), if self.delivery.len() < MANY_WRITES => self.write_early(early),
            Some(notice) = self.notices.recv() => self.noticed(notice),
            () = pause(again) => {}
        }
    }

    fn cut_off(&mut self, does: &str) {
        tracing::error!("the thread that {does} ended by itself; see the log before this for why");
        self.is_cut_off = true;
    }

    fn take(&mut self, event: SourceEvent) {
        match event {
            SourceEvent::Records(_) if self.draining => {}
            SourceEvent::Records(records) => self.admit_all(records),
            SourceEvent::Assigned { partitions, committed, begun, epoch } => {
                tracing::info!(partitions = %listed(&partitions), "partitions assigned");
                self.partitions.assign(partitions, committed, epoch);
                self.partitions.begin_anew(begun);
                self.forget_ended_logs();
                self.reporting.input.joined();
            }
            SourceEvent::BegunAnew { begun } => {
                self.reporting.metrics.partitions_begun_anew(begun.len());
                self.partitions.begin_anew(begun);
            }
            SourceEvent::ReadAgain { from, first } => self.partitions.begun_again(&from, first),
            SourceEvent::Gone { partitions } => self.partitions.let_finish(&partitions),
            SourceEvent::Removed { partition, offsets } => {
                self.reporting.metrics.records_removed_unread(&partition.topic, offsets);
            }
            SourceEvent::Revoked { partitions, lost, within, settled } => {
                tracing::info!(partitions = %listed(&partitions), lost, "partitions to be given up");
                let within = if lost { Duration::ZERO } else { within };
                self.begin_to_leave(partitions, within, settled);
            }
            SourceEvent::Committed { result } => self.committed(result.err()),
            SourceEvent::Stopped => {}
        }
    }

    fn committed(&mut self, error: Option<String>) {
        let Some(error) = error else { return self.reporting.input.committed() };
        self.partitions.commit_again();
        self.reporting.input.not_committed(error, self.clock.boot());
    }

    fn ended(&mut self, ended: Ended) {
        let Ended { record: id, result } = ended;
        let Ok(decided) = result else { return self.let_go(id) };
        let Some(open) = self.open.get_mut(&id) else { return };
        // A message holds far fewer alerts.
        open.writes = u32::try_from(decided.early + decided.writes.len()).ok();
        if let Delivery::ExactlyOnce(transactions) = &mut self.delivery {
            for write in &decided.writes {
                self.reporting.metrics.record_produced(write.outgoing.to);
            }
            return transactions.queue.push(id, decided.writes);
        }
        self.write(id, None, decided.writes);
        self.settle_if_done(id);
    }

    /// Forgets a record without settling it: it is read again after the next start.
    fn let_go(&mut self, id: RecordId) {
        // What it led to before.
        while let Ok(early) = self.early.try_recv() {
            self.write_early(early);
        }
        if let Some(open) = self.open.remove(&id) {
            self.window.release(&open.size);
            self.left_open += usize::from(self.draining);
        }
    }

    /// A write is in Kafka.
    fn count(&mut self, write: &Write) {
        self.reporting.output.written(write.outgoing.to);
        let metrics = &self.reporting.metrics;
        metrics.record_acknowledged(write.outgoing.to);
        match &write.what {
            Written::Outcome { severity, since } => {
                let took = self.clock.wall().duration_since(*since);
                metrics.output_after(*severity, Duration::try_from(took).unwrap_or_default());
            }
            Written::DeadLetter(rejection) => {
                metrics.dead_lettered(rejection.reason);
                let reason = rejection.reason.as_str();
                tracing::warn!(reason, detail = %rejection.detail, "a record went to the dead letters");
            }
        }
    }

    fn noticed(&mut self, notice: Notice) {
        match (notice.from, notice.news) {
            (_, News::Offsets(offsets)) => {
                for (partition, lag) in self.partitions.lags(&offsets) {
                    self.reporting.metrics.lag(&partition, lag);
                }
            }
            (Client::Source, news) => self.reporting.input.heard(news),
            (_, News::Trouble(trouble)) => self.reporting.output.trouble(trouble.words().to_owned()),
            (_, News::Working) => self.reporting.output.working(),
            (_, News::Joined | News::Missing(_)) => {}
        }
    }

    /// Commits what was settled since the last commit.
    fn commit(&mut self) {
        self.hold_full_partitions();
        if let Delivery::ExactlyOnce(_) = self.delivery {
            return self.transact(true);
        }
        let points = self.partitions.due();
        if !points.is_empty() {
            self.source.commit(points);
        }
    }
}

async fn pause(wait: Option<Duration>) {
    match wait {
        Some(wait) => tokio::time::sleep(wait).await,
        None => std::future::pending().await,
    }
}

fn listed(partitions: &[Partition]) -> String {
    let names: Vec<_> = partitions.iter().map(Partition::to_string).collect();
    names.join(", ")
}
