//! `alert-ips`: adds the related IP addresses to Microsoft Defender for Endpoint alerts, Kafka to Kafka.
//!
//! ARCHITECTURE.md has the bird's-eye view; start with [`domain`] for the words.

pub mod clock;
pub mod config;
pub mod domain;
pub mod observe;
