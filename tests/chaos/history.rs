//! What happened in a run, as lines of JSON: all that the checker judges by, so that a run can be judged again later.
//!
//! All times are nanoseconds of the machine's `CLOCK_BOOTTIME`, which the simulated service's calls are stamped with too.
//! The daemon writes none of these lines: they come from plain clients of Kafka, from the service's own list of calls,
//! from `/proc`, and from whoever disturbed the run.

use std::{
    fs::File,
    io::{BufRead as _, BufReader, BufWriter, Write as _},
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use alert_ips::clock::Clock;
use serde::{Deserialize, Serialize};

/// A moment, in nanoseconds of `CLOCK_BOOTTIME`.
pub(crate) type At = u64;

/// Something that happened, and when it was known to have happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Line {
    pub at: At,
    #[serde(flatten)]
    pub fact: Fact,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "fact", rename_all = "snake_case")]
pub(crate) enum Fact {
    /// What the run was to be held to.
    Terms(Terms),
    /// A record of the input, and what must become of it.
    Seeded(Seeded),
    /// What the service answers in the end for one alert.
    Answer(Answer),
    /// A record of the output or of the dead letters, as a `read_committed` reader got it.
    Read(Read),
    /// The output and the dead letters were read to their ends after the run.
    ReadAll,
    Sample(Sample),
    /// A request that arrived at the service.
    Call(Call),
    /// What one instance's process used.
    Process(Process),
    /// Written before the fault is done.
    Begin {
        fault: u32,
        kind: FaultKind,
        target: String,
    },
    /// Written when its cause is gone: the process runs again, the connections are open.
    End {
        fault: u32,
    },
    /// A process ended. `asked` is when it was told to; a kill is no such end.
    Ended {
        instance: String,
        asked: Option<At>,
        code: Option<i32>,
        panicked: bool,
    },
    /// How many producers an instance gave up in one life, as its log says.
    GivenUp {
        instance: String,
        producers: usize,
    },
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Terms {
    pub seed: u64,
    pub protocol: String,
    pub delivery: Delivery,
    /// The input's topic.
    pub input: String,
    pub limits: Vec<Limit>,
    /// Calls that can be on the wire at once, of all instances together.
    pub max_in_flight: usize,
    /// Records that one instance may have open.
    pub max_open: usize,
    pub instances: usize,
    /// A stop shorter than this costs no call.
    pub claim_ms: u64,
    pub session_ms: u64,
    /// Within this time after a fault something goes on.
    pub recovery_ms: u64,
    /// Within this time a process that was asked to stop has ended.
    pub stop_ms: u64,
    pub memory_kib: u64,
    pub descriptors: u64,
    pub threads: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Delivery {
    AtLeastOnce,
    ExactlyOnce,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Limit {
    pub calls: usize,
    pub per_ms: u64,
}

/// A place in the input: partition and offset.
pub(crate) type Place = (i32, i64);

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Seeded {
    pub place: Place,
    /// What kind of message it is, for whoever reads a violation.
    pub shape: String,
    /// One output each, in this order.
    pub alerts: Vec<Alert>,
    /// The reason of its dead letter. Without this and without alerts it is skipped.
    pub rejection: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Alert {
    pub id: String,
    /// So old that nobody asks about it.
    pub expired: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Answer {
    pub alert: String,
    pub status: String,
    /// As the service writes them.
    pub ips: Vec<String>,
    /// Failures and 404s before it.
    pub earlier: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Topic {
    Output,
    DeadLetters,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Reading {
    During,
    After,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Read {
    pub reading: Reading,
    pub topic: Topic,
    pub partition: i32,
    pub offset: i64,
    /// The source as the record itself names it: `topic/partition/offset/index`, of a dead letter without the index.
    pub source: String,
    /// Of an output: the alert, the status and the addresses; of a dead letter: its reason as status.
    pub alert: Option<String>,
    pub status: String,
    pub ips: Vec<String>,
}

/// What the group had committed between `asked` and this line's time, and how far the topics went after that.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Sample {
    pub asked: At,
    /// Partition, offset and metadata; partitions without a committed offset are left out.
    pub committed: Vec<(i32, i64, String)>,
    /// Asked for when the committed offsets were there already. A partition that did not answer is left out.
    pub ends: Vec<TopicEnd>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TopicEnd {
    pub topic: Topic,
    pub partition: i32,
    /// Before this offset a `read_committed` reader sees everything.
    pub stable: i64,
    /// Before this offset everything is written and replicated.
    pub written: i64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Call {
    pub path: String,
    pub instance: Option<String>,
    /// `None` where the connection was broken instead.
    pub status: Option<u16>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Process {
    pub instance: String,
    pub pid: u32,
    pub memory_kib: u64,
    pub descriptors: u64,
    pub threads: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum FaultKind {
    /// `kill -9` of an instance; it ends when the next life begins.
    Kill,
    /// SIGTERM to an instance, and a new life after it.
    Term,
    /// SIGSTOP until SIGCONT.
    Stop,
    BrokerKill,
    BrokerTerm,
    /// All connections of an instance with the brokers are reset, and new ones too.
    Cut,
    /// Nothing passes between an instance and the brokers, and nobody is told.
    Hold,
    /// SIGHUP.
    Reload,
    /// The wall clock of an instance is set.
    ClockSet,
    /// An instance's next request that ends a transaction is held, and what follows it on its connection.
    EndHeld,
    /// The answers to an instance's requests that end a transaction are lost, and their connections with them.
    EndLost,
    /// A copy of an instance's next request with a transaction's offsets comes to the brokers late.
    OffsetsCopied,
}

impl FaultKind {
    /// Those that are there in every mode.
    pub(crate) const ALWAYS: [Self; 8] =
        [Self::Kill, Self::Term, Self::Stop, Self::BrokerKill, Self::BrokerTerm, Self::Cut, Self::Hold, Self::Reload];

    /// Those that only transactions have.
    pub(crate) const OF_TRANSACTIONS: [Self; 3] = [Self::EndHeld, Self::EndLost, Self::OffsetsCopied];
}

/// Writes a history while it happens. Cheap to clone; all clones write the same one.
#[derive(Clone)]
pub(crate) struct Recorder {
    lines: Arc<Mutex<Vec<Line>>>,
    file: Arc<Mutex<BufWriter<File>>>,
}

impl Recorder {
    pub(crate) fn create(path: &Path) -> Self {
        let file = File::create(path).expect("the history can be written");
        Self { lines: Arc::default(), file: Arc::new(Mutex::new(BufWriter::new(file))) }
    }

    pub(crate) fn add(&self, fact: Fact) {
        self.add_at(now(), fact);
    }

    pub(crate) fn add_at(&self, at: At, fact: Fact) {
        let line = Line { at, fact };
        let text = serde_json::to_string(&line).unwrap();
        writeln!(self.file.lock().unwrap(), "{text}").expect("the history can be written");
        self.lines.lock().unwrap().push(line);
    }

    /// All lines so far, in the order of their times.
    pub(crate) fn lines(&self) -> Vec<Line> {
        self.file.lock().unwrap().flush().expect("the history can be written");
        let mut lines = self.lines.lock().unwrap().clone();
        lines.sort_by_key(|line| line.at);
        lines
    }
}

/// Reads a history back.
pub(crate) fn read(path: &Path) -> Vec<Line> {
    let file = BufReader::new(File::open(path).expect("the history is there"));
    let mut lines: Vec<Line> =
        file.lines().map(|line| serde_json::from_str(&line.unwrap()).expect("a line of a history")).collect();
    lines.sort_by_key(|line| line.at);
    lines
}

/// Now, on the one clock of the run.
pub(crate) fn now() -> At {
    nanos(Clock::machine().boot().since_origin())
}

pub(crate) fn nanos(time: Duration) -> At {
    u64::try_from(time.as_nanos()).unwrap()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("history.jsonl");
        let recorder = Recorder::create(&path);
        recorder.add_at(7, Fact::Begin { fault: 1, kind: FaultKind::BrokerKill, target: "broker 2".into() });
        let ends = vec![TopicEnd { topic: Topic::DeadLetters, partition: 0, stable: 3, written: 4 }];
        let committed = vec![(5, 17, "alert-ips/1:C".to_owned())];
        recorder.add_at(3, Fact::Sample(Sample { asked: 2, committed, ends }));
        recorder.add_at(9, Fact::ReadAll);
        let lines = recorder.lines();
        assert_eq!(lines.iter().map(|line| line.at).collect::<Vec<_>>(), [3, 7, 9]);
        assert_eq!(read(&path), lines);
    }
}
