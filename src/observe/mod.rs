//! What the parts report, without knowing who looks: counters, conditions and snapshots.

mod gauges;
pub mod health;
mod kinds;
mod labels;
pub mod metrics;
pub mod snapshot;
pub mod status;
