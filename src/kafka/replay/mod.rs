//! For `alert-ips replay`: dead letters are read, sent back to where they came from, and that is noted.
//!
//! The notes are the committed offsets of a group that nobody joins, named after the daemon's with `.replay` at the end: as
//! for the input, a watermark and what is settled beyond it. Everything here blocks.

mod reader;
mod sender;

use std::time::Duration;

pub use self::{reader::DeadLetters, sender::Sender};
use super::{client::KafkaConfig, group, topics::ClusterError};
use crate::domain::{progress::Progress, record::Partition, settled::Settled};

/// How long one poll waits.
const POLL: Duration = Duration::from_millis(100);

/// How long nothing may come before it is said that nothing comes.
const SILENCE: Duration = Duration::from_secs(30);

/// Which dead letters are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Read {
    /// All, and whether they were sent back.
    All,
    /// From the oldest that was not sent back.
    Unsent,
    /// All, as if none had been sent back.
    AllAnew,
}

/// Which of these places the daemon's group has settled: whatever followed from their records is in Kafka.
pub fn settled(config: &KafkaConfig, places: &[(Partition, i64)]) -> Result<Vec<bool>, ClusterError> {
    let mut partitions: Vec<_> = places.iter().map(|(partition, _)| partition).collect();
    partitions.sort_unstable();
    partitions.dedup();
    let points =
        group::committed_points(config, partitions.into_iter()).map_err(|error| group::trouble(config, &error))?;
    let is_settled = |(partition, offset): &(Partition, i64)| {
        let point = points.iter().find(|(known, ..)| known == partition);
        point.is_some_and(|(_, next, beyond)| {
            offset < next || Settled::read(*next, beyond).is_ok_and(|settled| settled.contains(*offset))
        })
    };
    Ok(places.iter().map(is_settled).collect())
}

/// What was committed, as [`Progress`] goes on from it. Notes that can't be read say nothing beyond the offset.
fn progress(next: i64, beyond: &str) -> Progress {
    Progress::resume(next, Settled::read(next, beyond).unwrap_or_default())
}
