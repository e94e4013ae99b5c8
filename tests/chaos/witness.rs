//! Who sees what happens: plain clients of Kafka, which the disturbances do not reach, and readers of `/proc`.

use std::{
    collections::BTreeMap,
    fs,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use rdkafka::{
    ClientConfig, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer as _},
    error::KafkaError,
    message::{BorrowedMessage, Headers as _, Message as _},
};
use serde_json::Value;

use super::history::{Delivery, Fact, Place, Process, Read, Reading, Recorder, Sample, Topic, TopicEnd, now};

/// How often the committed offsets are looked at, and how often the processes.
const SAMPLE_EVERY: Duration = Duration::from_millis(200);
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// How long a broker has for an answer of a sample. What does not come in time is missing in it.
const ANSWER: Duration = Duration::from_secs(2);

pub(crate) const INPUTS: i32 = 6;
pub(crate) const OUTPUTS: i32 = 3;

/// What is there to be watched.
#[derive(Clone)]
pub(crate) struct Watched {
    pub bootstrap: String,
    pub group: String,
    pub input: String,
    pub output: String,
    pub dead_letters: String,
    pub delivery: Delivery,
}

/// A record of the input.
#[derive(Clone, Copy, Debug)]
pub(crate) struct InputRecord {
    pub place: Place,
    /// Which message of the run it is.
    pub number: usize,
}

/// The instances' processes as they are now, by the instances' names.
pub(crate) type Processes = Arc<Mutex<BTreeMap<String, u32>>>;

impl Watched {
    fn client(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.bootstrap).set("reconnect.backoff.max.ms", "1000");
        config.set("group.id", &self.group).set("enable.auto.commit", "false");
        config
    }

    fn consumer(&self, isolation: &str) -> BaseConsumer {
        self.client().set("isolation.level", isolation).set("enable.partition.eof", "true").create().unwrap()
    }

    fn outputs(&self) -> Vec<(Topic, &str, i32)> {
        let outputs = (0..OUTPUTS).map(|partition| (Topic::Output, &*self.output, partition));
        outputs.chain([(Topic::DeadLetters, &*self.dead_letters, 0)]).collect()
    }

    fn reader(&self) -> BaseConsumer {
        let consumer = self.consumer("read_committed");
        let mut assignment = TopicPartitionList::new();
        for (_, topic, partition) in self.outputs() {
            assignment.add_partition_offset(topic, partition, Offset::Beginning).unwrap();
        }
        consumer.assign(&assignment).unwrap();
        consumer
    }

    /// Reads output and dead letters while the run goes on.
    pub(crate) fn tail(&self, recorder: &Recorder, stop: &AtomicBool) {
        let reader = self.reader();
        while !stop.load(Ordering::Relaxed) {
            if let Some(Ok(message)) = reader.poll(Duration::from_millis(100)) {
                recorder.add(Fact::Read(self.read(Reading::During, &message)));
            }
        }
    }

    /// Reads output and dead letters to their ends.
    pub(crate) fn read_all(&self, recorder: &Recorder, limit: Duration) {
        let reader = self.reader();
        let (begun, mut open) = (Instant::now(), self.outputs().len());
        while open > 0 {
            assert!(begun.elapsed() < limit, "the topics can't be read to their ends");
            match reader.poll(Duration::from_millis(100)) {
                Some(Ok(message)) => recorder.add(Fact::Read(self.read(Reading::After, &message))),
                Some(Err(KafkaError::PartitionEOF(_))) => open -= 1,
                _ => {}
            }
        }
        recorder.add(Fact::ReadAll);
    }

    fn read(&self, reading: Reading, message: &BorrowedMessage<'_>) -> Read {
        let topic = if message.topic() == self.output { Topic::Output } else { Topic::DeadLetters };
        let json: Value = serde_json::from_slice(message.payload().unwrap_or_default()).unwrap_or_default();
        let text = |name: &str| json[name].as_str().map(str::to_owned);
        let ips = json["ips"].as_array().into_iter().flatten();
        let (partition, offset) = (message.partition(), message.offset());
        match topic {
            Topic::Output => Read {
                reading,
                topic,
                partition,
                offset,
                source: header(message, "ce_id"),
                alert: text("alert_id"),
                status: text("status").unwrap_or_default(),
                ips: ips.map(|ip| ip.as_str().unwrap_or_default().to_owned()).collect(),
            },
            Topic::DeadLetters => {
                let of = |name: &str| header(message, &format!("alert-ips-source-{name}"));
                let source = format!("{}/{}/{}", of("topic"), of("partition"), of("offset"));
                let status = header(message, "alert-ips-reason");
                Read { reading, topic, partition, offset, source, alert: None, status, ips: Vec::new() }
            }
        }
    }

    /// Samples what the group has committed until it is to stop.
    pub(crate) fn sample(&self, recorder: &Recorder, stop: &AtomicBool) {
        // As it stands now, without waiting for a transaction that goes on.
        let group = self.consumer("read_uncommitted");
        let stable = self.consumer("read_committed");
        while !stop.load(Ordering::Relaxed) {
            let asked = now();
            if let Ok(committed) = self.committed(&group) {
                let at = now();
                let end = |(topic, name, partition): (Topic, &str, i32)| {
                    let (_, stable) = stable.fetch_watermarks(name, partition, ANSWER).ok()?;
                    let written = match self.delivery {
                        Delivery::AtLeastOnce => stable,
                        Delivery::ExactlyOnce => group.fetch_watermarks(name, partition, ANSWER).ok()?.1,
                    };
                    Some(TopicEnd { topic, partition, stable, written })
                };
                let ends = self.outputs().into_iter().filter_map(end).collect();
                recorder.add_at(at, Fact::Sample(Sample { asked, committed, ends }));
            }
            thread::sleep(SAMPLE_EVERY);
        }
    }

    fn committed(&self, group: &BaseConsumer) -> Result<Vec<(i32, i64, String)>, KafkaError> {
        let mut asked = TopicPartitionList::new();
        asked.add_partition_range(&self.input, 0, INPUTS - 1);
        let committed = group.committed_offsets(asked, ANSWER)?;
        let told = |partition: rdkafka::topic_partition_list::TopicPartitionListElem<'_>| {
            let Offset::Offset(next) = partition.offset() else { return None };
            Some((partition.partition(), next, partition.metadata().to_owned()))
        };
        Ok(committed.elements().into_iter().filter_map(told).collect())
    }

    /// How far the group is from having committed these records of the input; `None` where that can't be told now.
    pub(crate) fn uncommitted(&self, reader: &BaseConsumer, input: &[InputRecord]) -> Option<i64> {
        let committed = self.committed(reader).ok()?;
        let open = (0..INPUTS).map(|number| {
            let offsets = input.iter().filter(|record| record.place.0 == number).map(|record| record.place.1);
            let end = offsets.max().map_or(0, |last| last + 1);
            let next = committed.iter().find(|(partition, ..)| *partition == number).map_or(0, |(_, next, _)| *next);
            (end - next).max(0)
        });
        Some(open.sum())
    }

    pub(crate) fn asker(&self) -> BaseConsumer {
        self.consumer("read_uncommitted")
    }

    /// All of the input that was not withdrawn.
    pub(crate) fn read_input(&self, limit: Duration) -> Vec<InputRecord> {
        let reader = self.consumer("read_committed");
        let mut assignment = TopicPartitionList::new();
        for partition in 0..INPUTS {
            assignment.add_partition_offset(&self.input, partition, Offset::Beginning).unwrap();
        }
        reader.assign(&assignment).unwrap();
        let (begun, mut open, mut found) = (Instant::now(), INPUTS, Vec::new());
        while open > 0 {
            assert!(begun.elapsed() < limit, "the input can't be read to its end");
            match reader.poll(Duration::from_millis(100)) {
                Some(Ok(message)) => {
                    let number = header(&message, SEED_HEADER).parse().unwrap();
                    found.push(InputRecord { place: (message.partition(), message.offset()), number });
                }
                Some(Err(KafkaError::PartitionEOF(_))) => open -= 1,
                _ => {}
            }
        }
        found
    }
}

/// Says which message of the run a record of the input is.
pub(crate) const SEED_HEADER: &str = "seed";

/// The last value of a header, as text: what the daemon adds stands behind what was there.
fn header(message: &BorrowedMessage<'_>, name: &str) -> String {
    let headers = message.headers().into_iter().flat_map(|headers| headers.iter());
    let value = headers.filter(|header| header.key == name).last().and_then(|header| header.value);
    String::from_utf8_lossy(value.unwrap_or_default()).into_owned()
}

/// Looks at the processes until it is to stop.
pub(crate) fn look_at(processes: &Processes, recorder: &Recorder, stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        let now = processes.lock().unwrap().clone();
        for (instance, pid) in now {
            if let Some(used) = used(instance, pid) {
                recorder.add(Fact::Process(used));
            }
        }
        thread::sleep(LOOK_EVERY);
    }
}

/// `None` where the process has gone.
fn used(instance: String, pid: u32) -> Option<Process> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let number = |name: &str| -> Option<u64> {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_whitespace().next()?.parse().ok()
    };
    let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).ok()?.count() as u64;
    Some(Process { instance, pid, memory_kib: number("VmRSS:")?, descriptors, threads: number("Threads:")? })
}
