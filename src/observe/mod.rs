//! What the parts report, without knowing who looks: counters, conditions and snapshots.

pub mod status;
