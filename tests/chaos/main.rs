//! The chaos campaign: three instances of the real program on a real Kafka of three brokers, everything done to them that
//! is done to such programs, and a judge that reads only what could be seen from outside.
//!
//! It runs where `ALERT_IPS_KAFKA_REQUIRED=1` or `ALERT_IPS_BIN` (the program to test) is set. Elsewhere only its own parts
//! are tested: the judge on hand-made histories, and that one seed gives one schedule.

#![allow(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::print_stderr,
    clippy::unwrap_used,
    reason = "tests run on the machine's time, and a failed assumption fails the test"
)]

mod checker;
mod history;

mod campaign;
mod cluster;
mod fleet;
#[allow(
    dead_code,
    unreachable_pub,
    unused_imports,
    reason = "shared with the suite on one broker, which uses the rest"
)]
#[path = "../kafka/harness/mod.rs"]
mod harness;
mod schedule;
mod seeder;
mod witness;
