//! `alert-ips`: adds the related IP addresses to Microsoft Defender for Endpoint alerts, Kafka to Kafka.
//!
//! ARCHITECTURE.md has the bird's-eye view; start with [`domain`] for the words.

pub mod cli;
pub mod clock;
pub mod config;
pub mod crash_point;
pub mod daemon;
pub mod decode;
pub mod defender;
pub mod dispatcher;
pub mod domain;
pub mod encode;
pub mod kafka;
pub mod observe;
pub mod ops;
pub mod pipeline;
pub mod registry;
pub mod sim;
