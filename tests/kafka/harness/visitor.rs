//! A member of the group that comes and goes, so that partitions move.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use rdkafka::{
    ClientConfig,
    consumer::{BaseConsumer, Consumer as _},
};

use super::Topics;

/// How long it has partitions, and how long it is away.
const STAY: Duration = Duration::from_millis(300);

const STEP: Duration = Duration::from_millis(50);

/// Joins the group of the input again and again, settles and commits nothing, and leaves it again. Dropped, it is gone.
pub struct Visitor {
    is_to_go: Arc<AtomicBool>,
    visits: Option<JoinHandle<()>>,
}

impl Visitor {
    pub fn come_and_go(topics: &Topics, session: Duration) -> Self {
        let is_to_go = Arc::new(AtomicBool::new(false));
        let mut config = topics.client();
        config.set("group.id", &topics.group).set("partition.assignment.strategy", "cooperative-sticky");
        config.set("enable.auto.commit", "false").set("auto.offset.reset", "earliest");
        config.set("session.timeout.ms", session.as_millis().to_string()).set("heartbeat.interval.ms", "200");
        let (input, stop) = (topics.input.clone(), Arc::clone(&is_to_go));
        let visits = thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                visit(&config, &input, &stop);
                thread::sleep(STAY);
            }
        });
        Self { is_to_go, visits: Some(visits) }
    }
}

impl Drop for Visitor {
    fn drop(&mut self) {
        self.is_to_go.store(true, Ordering::Relaxed);
        if let Some(visits) = self.visits.take() {
            let _ = visits.join();
        }
    }
}

fn visit(config: &ClientConfig, input: &str, stop: &AtomicBool) {
    let consumer: BaseConsumer = config.create().unwrap();
    consumer.subscribe(&[input]).unwrap();
    let mut stayed = Duration::ZERO;
    while stayed < STAY && !stop.load(Ordering::Relaxed) {
        // Records are not looked at: they are the daemon's, once it has the partition back.
        let _ = consumer.poll(STEP);
        if consumer.assignment().is_ok_and(|assignment| assignment.count() > 0) {
            stayed += STEP;
        }
    }
}
