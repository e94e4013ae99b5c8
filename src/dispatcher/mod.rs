//! The owner of everything about offsets: admits records, settles them, commits, and answers rebalances.
//!
//! One loop, which never blocks and never waits for one thing alone. A record is open from its arrival until all that it
//! led to is acknowledged; only then is its offset settled, and only what is settled is committed.

mod drain;
mod lives;
mod partitions;
mod window;
mod writes;

use std::{collections::HashMap, sync::Arc, time::Duration};

use futures_util::FutureExt as _;
use tokio::{
    sync::{mpsc, watch},
    time::MissedTickBehavior,
};

use self::{
    lives::{Ended, Lives},
    partitions::{Log, Opened, Partitions},
    window::{Flow, Window},
    writes::{Trouble, Writes},
};
use crate::{
    clock::Clock,
    domain::{
        outcome::{Reason, Rejection},
        phase::Phase,
        record::{Destination, Partition, Record},
    },
    kafka::{
        notice::{Client, News, Notice},
        sink::{Ack, Sink, WriteFailed, WriteId},
        source::{SourceEvent, SourceHandle},
    },
    observe::{
        health::{Condition, Pulse, Reporter},
        metrics::Metrics,
    },
    pipeline::{Outlet, Pipeline, RecordId, Write, Written, dead_letter},
};

/// How often what is settled is committed.
const COMMIT_EVERY: Duration = Duration::from_secs(1);

/// Most events of one kind taken in one turn of the loop.
const BATCH: usize = 1024;

/// A dead letter is cut to no less than this; a topic that takes less is of no use for dead letters.
const DEAD_LETTER_FLOOR: usize = 4096;

/// Writes that may wait for their acknowledgement before no further early ones are taken.
const MANY_WRITES: usize = 20_000;

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
    pub sink: Sink,
    pub acks: mpsc::Receiver<Ack>,
    pub notices: mpsc::Receiver<Notice>,
}

/// What the dispatcher reports into.
pub struct Reporting {
    pub metrics: Metrics,
    pub input: Reporter,
    pub output: Reporter,
    pub dead_letters: Reporter,
    pub pulse: Pulse,
}

impl Reporting {
    fn of(&self, to: Destination) -> &Reporter {
        match to {
            Destination::Output => &self.output,
            Destination::DeadLetters => &self.dead_letters,
        }
    }
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
    edge: Edge,
    reporting: Reporting,
    partitions: Partitions,
    lives: Lives,
    /// Why the last commit failed, if it did.
    commit_trouble: Option<String>,
    /// Every record that is not settled.
    open: HashMap<RecordId, Open>,
    last_record: RecordId,
    /// Writes of records that are not decided as a whole yet.
    early: mpsc::Receiver<(RecordId, Write)>,
    early_sender: mpsc::Sender<(RecordId, Write)>,
    writes: Writes,
    window: Window,
    draining: bool,
    /// Records let go while draining.
    left_open: usize,
}

/// A record that is not settled.
struct Open {
    record: Arc<Record>,
    log: Log,
    bytes: usize,
    /// How many writes it led to, once all its alerts are decided.
    writes: Option<u32>,
    acknowledged: u32,
}

impl Dispatcher {
    pub fn new(pipeline: Arc<Pipeline>, edge: Edge, reporting: Reporting, bounds: OpenBounds, clock: Clock) -> Self {
        let (early_sender, early) = mpsc::channel(BATCH);
        Self {
            clock,
            pipeline,
            edge,
            reporting,
            partitions: Partitions::new(bounds.commit_metadata),
            lives: Lives::default(),
            commit_trouble: None,
            open: HashMap::new(),
            last_record: RecordId(0),
            early,
            early_sender,
            writes: Writes::default(),
            window: Window::new(bounds.records, bounds.bytes),
            draining: false,
            left_open: 0,
        }
    }

    /// Runs until the phase is draining, then drains. Returns what could not be finished in time.
    pub async fn run(mut self, mut phase: watch::Receiver<Phase>) -> Unfinished {
        self.reporting.input.set(Condition::Starting(
            "joining the consumer group; after a crash the brokers first wait for the old member's session to end (session.timeout.ms: 45 s unless set)"
                .to_owned(),
        ));
        let mut commit = tokio::time::interval(COMMIT_EVERY);
        commit.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = self.turn() => {}
                _ = commit.tick() => self.commit(),
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
        match self.window.flow().filter(|_| !self.draining) {
            Some(Flow::Pause) => self.edge.source.pause(),
            Some(Flow::Resume) => self.edge.source.resume(),
            None => {}
        }
        let again = self.writes.next_round().map(|due| due.saturating_since(now));
        let mut acks = Vec::new();
        tokio::select! {
            Some(event) = self.edge.events.recv() => self.take(event),
            _ = self.edge.acks.recv_many(&mut acks, BATCH) => acks.into_iter().for_each(|ack| self.acknowledged(ack)),
            ended = self.lives.ended() => ended.into_iter().for_each(|ended| self.ended(ended)),
            Some((record, write)) = self.early.recv(), if self.writes.len() < MANY_WRITES => self.write(record, write),
            Some(notice) = self.edge.notices.recv() => self.noticed(notice),
            () = pause(again) => {}
        }
    }

    fn take(&mut self, event: SourceEvent) {
        match event {
            SourceEvent::Records(_) if self.draining => {}
            SourceEvent::Records(records) => {
                for record in records {
                    self.admit(record);
                }
                self.hold_full_partitions();
            }
            SourceEvent::Assigned { partitions, committed, epoch } => {
                tracing::info!(partitions = %listed(&partitions), "partitions assigned");
                self.partitions.assign(partitions, committed, epoch);
                self.forget_ended_logs();
                self.reporting.input.set(Condition::Ok);
            }
            SourceEvent::Revoked { partitions, lost, settled } => {
                tracing::info!(partitions = %listed(&partitions), lost, "partitions given up");
                for partition in &partitions {
                    self.reporting.metrics.partition_given_up(partition);
                }
                settled.settle(self.partitions.give_up(&partitions));
                self.forget_ended_logs();
            }
            SourceEvent::Committed { result } => self.committed(result.err()),
            SourceEvent::Stopped => {}
        }
    }

    /// Says once that commits fail, and once that they do not any more.
    fn committed(&mut self, error: Option<String>) {
        if let Some(error) = &error {
            self.partitions.commit_again();
            if self.commit_trouble.as_ref() != Some(error) {
                tracing::warn!(
                    %error,
                    "a commit failed; it is made again every second, and what is not committed is read again after a restart"
                );
            }
        } else if self.commit_trouble.is_some() {
            tracing::info!("commits succeed again");
        }
        self.commit_trouble = error;
    }

    /// Opens a record and starts its life.
    fn admit(&mut self, record: Record) {
        let opened = self.partitions.open(&record.receipt);
        self.forget_ended_logs();
        if opened != Opened::Stale {
            self.reporting.metrics.record_consumed(&record.receipt.partition.topic);
        }
        let log = match opened {
            Opened::In(log) => log,
            Opened::SettledBefore => return self.reporting.metrics.record_settled_before(),
            Opened::Stale => return,
        };
        let bytes = size_of::<Open>() + size_of::<Record>() + record.held_bytes();
        self.window.take(bytes);
        self.last_record = RecordId(self.last_record.0 + 1);
        let (id, record) = (self.last_record, Arc::new(record));
        self.open.insert(id, Open { record: record.clone(), log, bytes, writes: None, acknowledged: 0 });
        let (pipeline, outlet) = (self.pipeline.clone(), Outlet { record: id, early: self.early_sender.clone() });
        let life = pipeline.process(record, outlet);
        self.lives.begin(log, life.map(move |result| Ended { record: id, result }));
    }

    /// Forgets the records of logs that were given up or began anew; whoever reads them next begins with them again.
    fn forget_ended_logs(&mut self) {
        for log in self.partitions.take_ended() {
            self.lives.end(log);
            for (_, open) in self.open.extract_if(|_, open| open.log == log) {
                self.window.release(open.bytes);
            }
        }
    }

    fn ended(&mut self, ended: Ended) {
        let Ended { record: id, result } = ended;
        let Ok(decided) = result else { return self.let_go(id) };
        let Some(open) = self.open.get_mut(&id) else { return };
        // A message holds far fewer alerts.
        open.writes = u32::try_from(decided.early + decided.writes.len()).ok();
        for write in decided.writes {
            self.write(id, write);
        }
        self.settle_if_done(id);
    }

    fn write(&mut self, record: RecordId, write: Write) {
        if !self.open.contains_key(&record) {
            // Its partition was given up: the next owner reads it again.
            return;
        }
        self.reporting.metrics.record_produced(write.outgoing.to);
        self.writes.push(record, write);
    }

    /// Forgets a record without settling it: it is read again after the next start.
    fn let_go(&mut self, id: RecordId) {
        if let Some(open) = self.open.remove(&id) {
            self.window.release(open.bytes);
            self.left_open += 1;
        }
    }

    fn settle_if_done(&mut self, id: RecordId) {
        if self.open.get(&id).is_some_and(|open| open.writes == Some(open.acknowledged))
            && let Some(open) = self.open.remove(&id)
        {
            self.partitions.settle(&open.record.receipt, open.log);
            self.window.release(open.bytes);
        }
    }

    fn acknowledged(&mut self, ack: Ack) {
        match ack.result {
            Ok(()) => self.written(ack.write),
            Err(failed) => self.failed(ack.write, &failed),
        }
    }

    fn failed(&mut self, write: WriteId, failed: &WriteFailed) {
        match failed {
            WriteFailed::TooLarge { bytes }
                if *bytes > DEAD_LETTER_FLOOR || self.writes.to(write) == Some(Destination::Output) =>
            {
                self.replace_too_large(write, *bytes);
            }
            WriteFailed::BadTimestamp => self.writes.again_without_timestamp(write),
            WriteFailed::Retriable(_) => {
                self.writes.again(write, self.clock.boot());
            }
            WriteFailed::TooLarge { .. } | WriteFailed::Denied(_) | WriteFailed::TopicMissing(_) => {
                if let Some(to) = self.writes.again(write, self.clock.boot()) {
                    self.reporting.of(to).set(Condition::Waiting(failed.to_string()));
                }
            }
        }
    }

    fn written(&mut self, id: WriteId) {
        let Some((record, write)) = self.writes.take(id) else { return };
        self.reporting.of(write.outgoing.to).set(Condition::Ok);
        self.count(&write);
        if let Some(open) = self.open.get_mut(&record) {
            open.acknowledged += 1;
            self.settle_if_done(record);
        }
    }

    fn count(&self, write: &Write) {
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

    /// A write the broker will never take: an outcome becomes a dead letter, a dead letter a shorter one.
    fn replace_too_large(&mut self, id: WriteId, bytes: usize) {
        let Some((record, write)) = self.writes.take(id) else { return };
        let Some(open) = self.open.get(&record) else { return };
        let (rejection, limit) = match write.what {
            Written::Outcome { .. } => {
                let detail = format!(
                    "the output record has {bytes} bytes, more than the broker takes: raise max.message.bytes of the \
                     output topic and message.max.bytes in [kafka.properties], then replay it"
                );
                (Rejection { reason: Reason::TooLarge, detail }, usize::MAX)
            }
            Written::DeadLetter(rejection) => {
                let record = &open.record.receipt;
                tracing::warn!(%record, bytes, "the broker takes no dead letter of this size; it is cut");
                (rejection, (bytes / 2).max(DEAD_LETTER_FLOOR))
            }
        };
        let write = dead_letter(Record::clone(&open.record), rejection, self.clock.wall(), limit);
        self.writes.push(record, write);
    }

    fn send_writes(&mut self) {
        while let Some(trouble) = self.writes.send(&self.edge.sink, self.clock.boot()) {
            match trouble {
                Trouble::Failed(write, failed) => self.failed(write, &failed),
                Trouble::Broken(words) => {
                    self.reporting.output.set(Condition::Waiting(words));
                    if let Err(error) = self.edge.sink.rebuild() {
                        tracing::error!(%error, "the producer can't be made anew; it is tried again in a second");
                    }
                    return;
                }
            }
        }
    }

    fn noticed(&mut self, notice: Notice) {
        let part = match notice.from {
            Client::Source => &self.reporting.input,
            Client::Sink | Client::Journal | Client::JournalTrial | Client::Admin => &self.reporting.output,
        };
        match notice.news {
            News::Trouble(trouble) => part.set(Condition::Waiting(trouble.words().to_owned())),
            News::Working => part.set(Condition::Ok),
            News::Offsets(offsets) => {
                for (partition, lag) in self.partitions.lags(&offsets) {
                    self.reporting.metrics.lag(&partition, lag);
                }
            }
        }
    }

    /// Reads no further in partitions whose commits could not tell what is settled in them.
    fn hold_full_partitions(&mut self) {
        if let Some(held) = self.partitions.held() {
            self.edge.source.hold(held);
        }
    }

    /// Commits what was settled since the last commit.
    fn commit(&mut self) {
        self.hold_full_partitions();
        let points = self.partitions.due();
        if !points.is_empty() {
            self.edge.source.commit(points);
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
