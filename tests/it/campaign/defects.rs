//! Deliberate mistakes, planted around the core and never in it: each must be found by the campaign, or it proves nothing.

use alert_ips::{
    defender::account::AccountConfig,
    kafka::journal::{AppendFailed, AppendId, Log, LogEvent, Start},
};
use tokio::sync::mpsc;

use super::{log::SimLog, network::SimNetwork, partition::Partition, run::World};

/// A mistake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Defect {
    None,
}

impl Defect {
    pub(super) fn partitions(self, _instances: usize) -> usize {
        1
    }

    pub(super) fn configure(self, _config: &mut AccountConfig) {}

    pub(super) fn start(self, start: Start, _partition: &Partition) -> Start {
        start
    }

    pub(super) fn tamper(
        self,
        log: SimLog,
        events: mpsc::Receiver<LogEvent>,
        _world: &World,
        _who: usize,
    ) -> (Tampered, mpsc::Receiver<LogEvent>) {
        (Tampered(log), events)
    }

    pub(super) fn transport(self, network: SimNetwork) -> SimNetwork {
        network
    }
}

pub(super) struct Tampered(SimLog);

impl Log for Tampered {
    fn append(&mut self, payload: &[u8]) -> Result<AppendId, AppendFailed> {
        self.0.append(payload)
    }

    fn read_from(&mut self, start: Start) {
        self.0.read_from(start);
    }
}
