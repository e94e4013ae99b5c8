//! The edge to Kafka: records in, outputs and dead letters out, commits, and what the brokers say about it.
//!
//! `client` is the only file that names a librdkafka property. `source`, `sink` and `transactor` own one thread
//! each, because librdkafka calls back only from inside its poll, or blocks; they talk to the dispatcher by messages and
//! never block it.

mod absence;
mod assigned;
mod callbacks;
pub mod client;
mod consumer;
mod denial;
mod discard;
mod ear;
mod ends;
mod flow;
pub mod group;
pub mod journal;
pub mod notice;
mod place;
pub mod replay;
pub mod sink;
pub mod source;
#[cfg(test)]
mod tests;
mod topic_ids;
pub mod topics;
mod transaction;
pub mod transactor;
mod waiting;
#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
mod waits;
