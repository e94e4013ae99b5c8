//! An instance's connection to the simulated partition: the law of `kafka::journal`, over a network that delays, loses and
//! repeats, for a process that may be stopped.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use alert_ips::{
    clock::Clock,
    kafka::journal::{AppendFailed, AppendId, Log, LogEvent, Start},
    sim::Latency,
};
use rand::{RngExt, SeedableRng, rngs::SmallRng};
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, sleep, sleep_until},
};

use super::{gate::Gate, partition::Partition, reader::Reader, signal::Signal};

/// Events that may wait for their owner.
const EVENT_CAPACITY: usize = 1_024;

/// Appends that may wait for the writer.
const APPEND_CAPACITY: usize = 10_000;

/// So long an entry is tried to be appended.
pub(super) const GIVE_UP_AFTER: Duration = Duration::from_secs(8);

/// What goes wrong between an instance and the partition, as probabilities for each message.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct LogFaults {
    /// The way of a message into the log.
    pub(super) append: Latency,
    /// The way of an entry to a reader.
    pub(super) fetch: Latency,
    /// In the log, and taken to have failed.
    pub(super) acknowledgement_lost: f64,
    /// Not in the log, and nobody knows.
    pub(super) lost: f64,
    /// Taken to have failed, and in the log some time later, behind messages that were appended after it.
    pub(super) late: f64,
    /// Twice in the log, perhaps with others between.
    pub(super) repeated: f64,
    /// The process is killed, or stopped, in the step that appends.
    pub(super) killed: f64,
    pub(super) stopped: f64,
}

impl LogFaults {
    /// What is left of them when nothing goes wrong any more.
    fn until(self, calm: Instant) -> Self {
        if Instant::now() < calm { self } else { Self { append: self.append, fetch: self.fetch, ..Self::default() } }
    }
}

/// What an instance's connection is made of.
pub(super) struct Link {
    pub(super) partition: Partition,
    pub(super) gate: Gate,
    /// Whether the broker can be reached at present.
    pub(super) reachable: Signal<bool>,
    pub(super) faults: LogFaults,
    /// From when on nothing goes wrong any more.
    pub(super) calm: Instant,
    /// The clock that stamps what it writes; without one the broker does.
    pub(super) stamps: Option<Clock>,
    pub(super) seed: u64,
}

struct Append {
    id: AppendId,
    bytes: Arc<[u8]>,
    stamp: Option<i64>,
    give_up: Instant,
}

/// The log as an instance holds it. Dropped, what has not left the process is given up.
pub(super) struct SimLog {
    appends: mpsc::Sender<Append>,
    start: watch::Sender<Start>,
    /// Whether the partition was reached.
    known: Arc<AtomicBool>,
    next: usize,
    gate: Gate,
    faults: LogFaults,
    calm: Instant,
    stamps: Option<Clock>,
    random: SmallRng,
}

impl SimLog {
    pub(super) fn open(link: Link, start: Start) -> (Self, mpsc::Receiver<LogEvent>) {
        let Link { partition, gate, reachable, faults, calm, stamps, seed } = link;
        let mut random = SmallRng::seed_from_u64(seed);
        let (events, receiver) = mpsc::channel(EVENT_CAPACITY);
        let (append, appends) = mpsc::channel(APPEND_CAPACITY);
        let (ask, asked) = watch::channel(start);
        let known = Arc::new(AtomicBool::new(false));
        let reader = Reader {
            partition: partition.clone(),
            gate: gate.clone(),
            reachable: reachable.clone(),
            fetch: faults.fetch,
            random: SmallRng::seed_from_u64(random.random()),
            known: known.clone(),
            asked,
            events: events.clone(),
            told: false,
            log: partition.log().value(),
            stamped_by_broker: stamps.is_none(),
        };
        tokio::spawn(gate.clone().hold(reader.run()));
        let (acknowledge, acknowledgements) = mpsc::channel(APPEND_CAPACITY);
        let writer = Writer {
            partition,
            reachable,
            faults,
            calm,
            random: SmallRng::seed_from_u64(random.random()),
            events,
            appends,
            waiting: VecDeque::new(),
            unanswered: BTreeMap::new(),
            acknowledge,
            acknowledgements,
            lands_last: Instant::now(),
        };
        tokio::spawn(gate.clone().hold(writer.run()));
        (Self { appends: append, start: ask, known, next: 0, gate, faults, calm, stamps, random }, receiver)
    }
}

impl Log for SimLog {
    fn append(&mut self, payload: &[u8]) -> Result<AppendId, AppendFailed> {
        let refused = |words: &str| AppendFailed { words: words.to_owned(), may_appear: false, too_large: false };
        if !self.known.load(Ordering::Relaxed) {
            return Err(refused("the journal was not reached yet"));
        }
        let faults = self.faults.until(self.calm);
        if self.random.random_bool(faults.killed) {
            self.gate.kill(Duration::from_secs(self.random.random_range(0..120)));
        } else if self.random.random_bool(faults.stopped) {
            self.gate.stop_for(Duration::from_secs(self.random.random_range(1..60)));
        }
        let id = AppendId(self.next);
        let stamp = self.stamps.as_ref().map(|clock| clock.wall().as_millisecond());
        let append = Append { id, bytes: payload.into(), stamp, give_up: Instant::now() + GIVE_UP_AFTER };
        self.appends.try_send(append).map_err(|_| refused("too many entries wait"))?;
        self.next += 1;
        Ok(id)
    }

    fn read_from(&mut self, start: Start) {
        self.start.send_replace(start);
    }
}

struct Writer {
    partition: Partition,
    reachable: Signal<bool>,
    faults: LogFaults,
    calm: Instant,
    random: SmallRng,
    events: mpsc::Sender<LogEvent>,
    appends: mpsc::Receiver<Append>,
    /// Still in the process.
    waiting: VecDeque<Append>,
    /// Not answered yet, and when each is given up.
    unanswered: BTreeMap<AppendId, Instant>,
    acknowledge: mpsc::Sender<(AppendId, i64)>,
    acknowledgements: mpsc::Receiver<(AppendId, i64)>,
    /// Messages of one producer land in their order.
    lands_last: Instant,
}

impl Writer {
    async fn run(mut self) {
        loop {
            let reachable = self.reachable.value();
            if reachable {
                while let Some(append) = self.waiting.pop_front() {
                    self.leave(append);
                }
            }
            let give_up = self.unanswered.first_key_value().map(|(id, when)| (*id, *when));
            let result = tokio::select! {
                biased;
                Some((id, offset)) = self.acknowledgements.recv(), if reachable => (id, Ok(offset)),
                id = expiry(give_up) => (id, Err(self.given_up(id))),
                append = self.appends.recv() => {
                    let Some(append) = append else { return };
                    self.unanswered.insert(append.id, append.give_up);
                    self.waiting.push_back(append);
                    continue;
                }
                () = self.reachable.wait_for(|now| now != reachable) => continue,
            };
            let (id, result) = result;
            if self.unanswered.remove(&id).is_some()
                && self.events.send(LogEvent::Appended { id, result }).await.is_err()
            {
                return;
            }
        }
    }

    /// Gives a message to the network, which does with it what it will.
    fn leave(&mut self, append: Append) {
        let Append { id, bytes, stamp, give_up } = append;
        let faults = self.faults.until(self.calm);
        let way = faults.append.draw_leg(&mut self.random);
        let lands = (Instant::now() + way).max(self.lands_last + Duration::from_millis(1));
        self.lands_last = lands;
        let back = faults.fetch.draw_leg(&mut self.random);
        let repeated = self.random.random_bool(faults.repeated);
        let again = repeated.then(|| lands + Duration::from_millis(self.random.random_range(1..3_000)));
        let (partition, acknowledge) = (self.partition.clone(), self.acknowledge.clone());
        let fate: f64 = self.random.random();
        if fate < faults.lost {
            return;
        }
        let late = fate < faults.lost + faults.late;
        let lands = if late { give_up + Duration::from_millis(self.random.random_range(1..10_000)) } else { lands };
        let silent = fate < faults.lost + faults.late + faults.acknowledgement_lost;
        // On its way it is out of the process's reach.
        tokio::spawn(async move {
            sleep_until(lands).await;
            let offset = partition.land(bytes.clone(), stamp);
            sleep(back).await;
            if !silent {
                let _ = acknowledge.send((id, offset)).await;
            }
            if let Some(again) = again {
                sleep_until(again).await;
                partition.land(bytes, stamp);
            }
        });
    }

    /// An entry was not acknowledged in time; where it has not left yet, it may still do so.
    fn given_up(&mut self, id: AppendId) -> AppendFailed {
        if self.random.random_bool(0.5) {
            self.waiting.retain(|append| append.id != id);
        }
        AppendFailed {
            words: "the journal did not take an entry in time".to_owned(),
            may_appear: true,
            too_large: false,
        }
    }
}

async fn expiry(give_up: Option<(AppendId, Instant)>) -> AppendId {
    let Some((id, when)) = give_up else { return std::future::pending().await };
    sleep_until(when).await;
    id
}

#[cfg(test)]
mod tests {
    use tokio::time::timeout;

    use super::*;

    struct Opened {
        partition: Partition,
        reachable: Signal<bool>,
        log: SimLog,
        events: mpsc::Receiver<LogEvent>,
    }

    impl Opened {
        fn over(messages: &[&str], faults: LogFaults) -> Self {
            let (partition, reachable) = (Partition::new(&[], 1.0), Signal::new(true));
            for message in messages {
                partition.land(message.as_bytes().into(), None);
            }
            let link = Link {
                partition: partition.clone(),
                gate: Gate::default(),
                reachable: reachable.clone(),
                faults,
                calm: Instant::now() + Duration::from_hours(1),
                stamps: None,
                seed: 1,
            };
            let (log, events) = SimLog::open(link, Start::Beginning);
            Self { partition, reachable, log, events }
        }

        /// The events of the next while, in short.
        async fn told(&mut self, lasts: Duration) -> Vec<String> {
            let mut told = Vec::new();
            while let Ok(Some(event)) = timeout(lasts, self.events.recv()).await {
                told.push(match event {
                    LogEvent::Reading(from) => format!("reading {}..{}", from.offset, from.end),
                    LogEvent::Entry(entry) => format!("{} {}", entry.offset, String::from_utf8_lossy(&entry.payload)),
                    LogEvent::CaughtUp { end } => format!("caught up {end}"),
                    LogEvent::Appended { result: Ok(offset), .. } => format!("appended {offset}"),
                    LogEvent::Appended { result: Err(failed), .. } => format!("failed, {}", failed.may_appear),
                    LogEvent::Trouble(_) => "trouble".to_owned(),
                    LogEvent::Working => "working".to_owned(),
                    LogEvent::Settings(_) => "settings".to_owned(),
                    LogEvent::Broken(_) => "broken".to_owned(),
                });
            }
            told
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_there_is_read_and_what_is_appended_comes_back() {
        let mut opened = Opened::over(&["a", "b"], LogFaults::default());
        assert!(!opened.log.append(b"early").unwrap_err().may_appear, "the partition was not reached yet");
        let told = opened.told(Duration::from_secs(1)).await;
        assert_eq!(told, ["reading 0..2", "settings", "0 a", "1 b", "caught up 2"]);
        opened.log.append(b"c").unwrap();
        let mut told = opened.told(Duration::from_secs(1)).await;
        told.sort_unstable();
        assert_eq!(told, ["2 c", "appended 2"]);
        opened.log.read_from(Start::Offset(2));
        assert_eq!(opened.told(Duration::from_secs(1)).await, ["reading 2..3", "2 c", "caught up 3"]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_lost_acknowledgement_looks_like_a_failure_and_a_copy_is_the_same_message() {
        let faults = LogFaults { acknowledgement_lost: 1.0, repeated: 1.0, ..LogFaults::default() };
        let mut opened = Opened::over(&[], faults);
        opened.told(Duration::from_secs(1)).await;
        opened.log.append(b"a").unwrap();
        assert_eq!(opened.told(Duration::from_mins(1)).await, ["0 a", "1 a", "failed, true"]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_broker_that_is_gone_is_trouble_until_it_is_back() {
        let mut opened = Opened::over(&["a"], LogFaults::default());
        opened.told(Duration::from_secs(1)).await;
        opened.reachable.set(false);
        opened.partition.land(b"b".as_slice().into(), None);
        opened.log.append(b"never").unwrap();
        let mut told = opened.told(Duration::from_mins(1)).await;
        told.sort_unstable();
        assert_eq!(told, ["failed, true", "trouble"]);
        opened.reachable.set(true);
        let told = opened.told(Duration::from_mins(1)).await;
        assert_eq!(told[..2], ["working", "1 b"]);
        assert!(told.iter().any(|event| event.starts_with("caught up")), "{told:?}");
    }
}
