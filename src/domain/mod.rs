//! What the daemon knows and decides, as plain values and functions.
//!
//! Nothing here does I/O, reads a clock, draws a random number, logs or awaits: time and randomness come in as
//! arguments. The shell (`dispatcher`, `pipeline`, `defender`, `kafka`) executes what these values decide.

pub mod alert;
pub mod answers;
pub mod audit;
pub mod backlog;
pub mod beginning;
pub mod budget;
pub mod commit_point;
pub mod dead_letter;
pub mod filter;
mod fingerprint;
pub mod format;
pub mod journal;
pub mod limit;
pub mod log_id;
pub mod outcome;
pub mod output;
pub mod phase;
pub mod pointer;
pub mod progress;
pub mod published;
pub mod reasks;
pub mod record;
pub mod related_ips;
pub mod replay;
pub mod retry;
pub mod scope;
pub mod service_clock;
pub mod settled;
pub mod terms;
pub mod time;
