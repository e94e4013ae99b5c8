//! The service: who asks it, when, and what its answers mean.

pub mod account;
pub mod client;
pub mod journal;
mod pacer;
pub mod token;
pub mod transport;
pub mod wire;
