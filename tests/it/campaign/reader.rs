//! How an instance reads the simulated partition: in order, late, and never on in another log.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use alert_ips::{
    kafka::journal::{Break, Judgement, LogEntry, LogEvent, ReadingFrom, Start},
    sim::Latency,
};
use rand::{RngExt, rngs::SmallRng};
use tokio::{
    sync::{mpsc, watch},
    time::{sleep, timeout},
};

use super::{
    gate::Gate,
    partition::{Partition, Stored, offset},
    signal::Signal,
};

/// So many milliseconds later at most a reader knows that the log is another one.
const NOTICED_WITHIN: u64 = 10_000;

pub(super) struct Reader {
    pub(super) partition: Partition,
    pub(super) gate: Gate,
    pub(super) reachable: Signal<bool>,
    pub(super) fetch: Latency,
    pub(super) random: SmallRng,
    pub(super) known: Arc<AtomicBool>,
    pub(super) asked: watch::Receiver<Start>,
    pub(super) events: mpsc::Sender<LogEvent>,
    /// Whether the owner was told of a trouble that holds.
    pub(super) told: bool,
    /// Which log it reads.
    pub(super) log: usize,
    pub(super) stamped_by_broker: bool,
}

/// The owner is gone.
struct Gone;

impl Reader {
    pub(super) async fn run(mut self) {
        // Ends with the log.
        let _ = self.read().await;
    }

    async fn read(&mut self) -> Result<(), Gone> {
        let mut judged = false;
        'anew: loop {
            let start = *self.asked.borrow_and_update();
            self.reach().await?;
            sleep(Duration::from_millis(self.random.random_range(5..300))).await;
            // An offset is one of the log that was read.
            let same = self.is_same_log() || !matches!(start, Start::Offset(_));
            let Some((index, found)) = self.partition.place(start).filter(|_| same) else {
                self.recreated().await?;
                continue;
            };
            self.log = self.partition.log().value();
            let end = self.partition.len();
            let reading = ReadingFrom { offset: offset(index), end: offset(end), first: 0, found };
            self.tell(LogEvent::Reading(reading)).await?;
            if !judged {
                judged = true;
                self.tell(LogEvent::Settings(Judgement::default())).await?;
            }
            self.known.store(true, Ordering::Relaxed);
            let (mut next, mut goal) = (index, Some(end));
            loop {
                if !self.reachable.value() {
                    self.reach().await?;
                    goal = Some(self.partition.len());
                }
                if self.partition.len() > next {
                    sleep(self.fetch.draw_leg(&mut self.random)).await;
                    if !self.reachable.value() {
                        continue;
                    }
                }
                self.working().await?;
                if !self.is_same_log() {
                    self.recreated().await?;
                    continue 'anew;
                }
                for message in self.partition.from(next) {
                    self.tell(LogEvent::Entry(self.entry(next, message))).await?;
                    next += 1;
                }
                if let Some(end) = goal.take_if(|goal| *goal <= next) {
                    self.tell(LogEvent::CaughtUp { end: offset(end) }).await?;
                }
                tokio::select! {
                    biased;
                    asked = self.asked.changed() => {
                        asked.map_err(|_| Gone)?;
                        continue 'anew;
                    }
                    () = self.reachable.wait_for(|reachable| !reachable) => {}
                    () = self.partition.end().wait_for(|end| end > next) => {}
                    () = self.partition.log().wait_for(|log| log != self.log) => {}
                }
            }
        }
    }

    fn is_same_log(&self) -> bool {
        self.partition.log().value() == self.log
    }

    /// Notices, some time later, that the log is another one, and waits until it is asked for that.
    async fn recreated(&mut self) -> Result<(), Gone> {
        sleep(Duration::from_millis(self.random.random_range(0..NOTICED_WITHIN))).await;
        self.log = self.partition.log().value();
        let words = "the journal was deleted and created anew".to_owned();
        self.tell(LogEvent::Broken(Break::Recreated(words))).await?;
        self.asked.changed().await.map_err(|_| Gone)
    }

    fn entry(&self, index: usize, message: Stored) -> LogEntry {
        let Stored { at, bytes, .. } = message;
        let stamped_by_broker = self.stamped_by_broker;
        LogEntry { offset: offset(index), at, stamped_by_broker, payload: (&*bytes).into() }
    }

    /// Waits until the broker can be reached, and tells of a trouble that lasts.
    async fn reach(&mut self) -> Result<(), Gone> {
        if self.reachable.value() {
            return Ok(());
        }
        let patience = Duration::from_millis(self.random.random_range(100..3_000));
        let reached = timeout(patience, self.reachable.wait_for(|reachable| reachable)).await.is_ok();
        if !reached {
            if !self.told {
                self.told = true;
                self.tell(LogEvent::Trouble("no broker can be reached".to_owned())).await?;
            }
            self.reachable.wait_for(|reachable| reachable).await;
            sleep(Duration::from_millis(self.random.random_range(0..1_000))).await;
        }
        Ok(())
    }

    async fn working(&mut self) -> Result<(), Gone> {
        if std::mem::take(&mut self.told) { self.tell(LogEvent::Working).await } else { Ok(()) }
    }

    async fn tell(&self, event: LogEvent) -> Result<(), Gone> {
        self.gate.pass().await;
        self.events.send(event).await.map_err(|_| Gone)
    }
}
