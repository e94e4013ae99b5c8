//! The suite against a real Apache Kafka: the real program, real topics, the simulated service over HTTP.
//!
//! It runs where `ALERT_IPS_KAFKA_REQUIRED=1` or `ALERT_IPS_BIN` (the program to test) is set, starts its broker with
//! `tools/kafka`, and fails for any part that is missing. Elsewhere each test says that it is skipped. The judges are a
//! plain consumer and the simulated service's own list of calls, never the program's word.

#![allow(
    clippy::cast_precision_loss,
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::print_stderr,
    clippy::unwrap_used,
    reason = "tests run on the machine's time, and a failed assumption fails the test"
)]

#[allow(
    dead_code,
    unreachable_pub,
    unused_imports,
    reason = "shared with the end-to-end benchmark, which uses the rest"
)]
mod harness;

mod aside;
mod crash_points;
mod delivery;
mod end_of_transaction;
mod exactly_once;
mod faults;
mod fleet;
mod journal;
mod many_alerts;
mod outages;
mod refused;
mod reload;
mod replay;
mod starvation;
mod static_members;
mod stopping;
mod takeover;
mod wall_clock;
