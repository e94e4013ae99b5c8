//! What is written to the input: in transactions of Kafka's, some of which are aborted, so that a reader that takes what was
//! withdrawn is found out.

use std::{collections::HashSet, thread, time::Duration};

use alert_ips::sim::{
    Answer, Mix, Plan,
    world::{Message, Shares, World},
};
use jiff::{Timestamp, ToSpan as _};
use rand::{RngExt as _, SeedableRng as _, rngs::SmallRng};
use rdkafka::{
    ClientConfig,
    error::KafkaError,
    message::{Header, OwnedHeaders},
    producer::{BaseProducer, BaseRecord, Producer as _},
};

use super::witness::{INPUTS, SEED_HEADER};

/// Answers of the kinds that are asked for again, beside those that are not.
const MIX: Mix = Mix { found: 840, empty: 90, late: 40, failing: 30, ..Mix::NOTHING };

/// Of the messages, in percent: an alert that was there before, exactly as it was.
const REPEATS: usize = 20;

/// So near to the original a repeat comes.
const NEAR: usize = 1_000;

/// Of alerts that are alone in their message, each with this distance has more addresses than the output topic takes.
const LARGE: usize = 300;
const MANY: u32 = 6_000;

/// The most that the output topic takes, in bytes: more than a batch of the daemon, less than so many addresses.
pub(crate) const OUTPUT_TAKES: usize = 80_000;

/// Messages of a transaction, and how many transactions there are for each that is aborted.
const TOGETHER: usize = 25;
const ABORTED: usize = 6;

/// All messages, and what is answered about them.
pub(crate) struct Seeds {
    pub messages: Vec<Message>,
    /// Alerts with more addresses than the output topic takes.
    pub large: HashSet<String>,
    withdrawn: Vec<Message>,
}

impl Seeds {
    /// New alerts in all shapes, some unusable, and some that come again exactly as they were.
    pub(crate) fn draw(seed: u64, count: usize) -> Self {
        let mut rng = SmallRng::seed_from_u64(seed);
        let repeats = count * REPEATS / 100;
        let mut messages: Vec<_> = world(seed).take(count - repeats).collect();
        let alone = messages.iter().filter_map(|message| match &message.expected.alerts[..] {
            [alert] if message.expected.rejection.is_none() && !alert.expired => Some(alert.id.clone()),
            _ => None,
        });
        let large = alone.step_by(LARGE).collect();
        for _ in 0..repeats {
            let original = rng.random_range(0..messages.len());
            let repeat = messages[original].clone();
            let place = rng.random_range(original..messages.len().min(original + NEAR)) + 1;
            messages.insert(place, repeat);
        }
        let withdrawn = world(seed.wrapping_add(1 << 32)).take(count / TOGETHER / ABORTED + 1).collect();
        Self { messages, large, withdrawn }
    }

    pub(crate) fn plan(&self, seed: u64) -> Plan {
        let many = || (0..MANY).map(|number| format!("2a01:db8:1111:2222:3333:4444:5555:{number:x}")).collect();
        let plan = Plan::new(seed, MIX);
        self.large.iter().fold(plan, |plan, alert| plan.script(alert, vec![Answer::Found(many())]))
    }

    /// Writes the messages: a third at once, the rest with this pause after each.
    pub(crate) fn write(&self, bootstrap: &str, input: &str, pause: Duration) {
        let producer = producer(bootstrap, input);
        producer.init_transactions(LIMIT).expect("the seeder's transactions can begin");
        let mut withdrawn = self.withdrawn.iter();
        let mut numbered = self.messages.iter().enumerate();
        for transaction in 0.. {
            let these: Vec<_> = numbered.by_ref().take(TOGETHER).collect();
            let Some((last, _)) = these.last() else { break };
            write_together(&producer, input, &these);
            if transaction % ABORTED == 0 {
                write_and_abort(&producer, input, withdrawn.next().expect("there are enough to withdraw"));
            }
            if *last > self.messages.len() / 3 {
                thread::sleep(pause * u32::try_from(these.len()).unwrap());
            }
        }
    }
}

fn world(seed: u64) -> World {
    World::new(seed, Timestamp::now() - 10.minutes()).shares(Shares { odd: 30, repeat: 0, storm: 0 })
}

/// For how long a broker may be away.
const LIMIT: Duration = Duration::from_mins(4);

fn producer(bootstrap: &str, input: &str) -> BaseProducer {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", bootstrap).set("transactional.id", format!("{input}.seeder"));
    config.set("message.timeout.ms", "240000").set("transaction.timeout.ms", "300000").set("linger.ms", "5");
    config.create().unwrap()
}

/// As often as it takes: what is aborted because a broker goes away is seen by nobody.
fn write_together(producer: &BaseProducer, input: &str, messages: &[(usize, &Message)]) {
    loop {
        producer.begin_transaction().expect("a transaction begins");
        for (number, message) in messages {
            send(producer, input, *number, message);
        }
        match patiently(|| producer.commit_transaction(LIMIT)) {
            Ok(()) => return,
            Err(_) => patiently(|| producer.abort_transaction(LIMIT)).expect("a transaction is aborted"),
        }
    }
}

fn write_and_abort(producer: &BaseProducer, input: &str, message: &Message) {
    producer.begin_transaction().expect("a transaction begins");
    for partition in 0..usize::try_from(INPUTS).unwrap() {
        send(producer, input, partition, message);
    }
    producer.flush(LIMIT).expect("what is withdrawn is written before");
    patiently(|| producer.abort_transaction(LIMIT)).expect("a transaction is aborted");
}

fn patiently(call: impl Fn() -> Result<(), KafkaError>) -> Result<(), KafkaError> {
    loop {
        match call() {
            Err(KafkaError::Transaction(error)) if error.is_retriable() => {}
            result => return result,
        }
    }
}

fn send(producer: &BaseProducer, input: &str, number: usize, message: &Message) {
    let text = number.to_string();
    let headers = OwnedHeaders::new().insert(Header { key: SEED_HEADER, value: Some(&text) });
    let mut record = BaseRecord::<[u8], [u8]>::to(input).headers(headers);
    record.partition = Some(i32::try_from(number).unwrap() % INPUTS);
    record.key = message.key.as_deref();
    record.payload = message.payload.as_deref();
    producer.send(record).map_err(|(error, _)| error).expect("a record is taken");
    producer.poll(Duration::ZERO);
}
