//! Tests of the whole and of its parts together; nothing here needs an installed service.

#![allow(
    clippy::cast_precision_loss,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::unchecked_time_subtraction,
    clippy::unwrap_used,
    reason = "a failed assumption fails the test"
)]

mod architecture;
mod budget;
mod campaign;
mod carried;
mod cli;
mod day;
mod demo;
mod fleet;
mod formats;
mod http;
mod journal;
mod journal_versions;
mod pipeline;
mod recipes;
mod registry;
mod service;
mod shapes;
mod tls;
mod world;
