//! How far a partition is settled, as committed to Kafka.

use super::record::{Epoch, Partition};

/// The first offset of a partition that is not settled yet: everything before it is, and some beyond it.
///
/// It names the assignment it was worked out under. A point of an earlier assignment is never committed: meanwhile
/// another instance may have committed further.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommitPoint {
    pub partition: Partition,
    pub epoch: Epoch,
    /// The offset of the next record to read.
    pub next: i64,
    /// What is settled beyond it, as [`Settled`](super::settled::Settled) writes it: the commit's metadata.
    pub beyond: String,
}
