//! What faces the operator's machine: admin HTTP, systemd, logs.

pub mod admin;
pub(crate) mod escape;
mod log_writer;
mod readiness;
pub mod systemd;
pub mod telemetry;
