//! The two ways in which what was decided gets into Kafka, and what the loop must know of either.

use std::time::Duration;

use tokio::sync::mpsc;

use super::{at_least_once::AtLeastOnce, parts::Parts, transactions::Transactions, writes::Writes};
use crate::{
    domain::time::BootTime,
    kafka::{
        sink::{Ack, Sink},
        transactor::{Transacted, Transactor},
    },
};

/// How what was decided gets into Kafka.
pub enum Outputs {
    /// By itself, and then what it settles is committed.
    AtLeastOnce { sink: Box<Sink>, acks: mpsc::Receiver<Ack> },
    /// In one transaction with what it settles.
    ExactlyOnce { transactor: Transactor, transacted: mpsc::Receiver<Transacted> },
}

/// As [`Outputs`], with what is on its way.
pub(super) enum Delivery {
    AtLeastOnce(Box<AtLeastOnce>),
    ExactlyOnce(Transactions),
}

/// What was delivered, or was not.
pub(super) enum Delivered {
    Acknowledged(Vec<Ack>),
    Transacted(Transacted),
    /// Nothing is delivered any more: the thread for that has ended by itself.
    CutOff,
}

impl From<Outputs> for Delivery {
    fn from(outputs: Outputs) -> Self {
        match outputs {
            Outputs::AtLeastOnce { sink, acks } => {
                let silence = Duration::ZERO;
                let (writes, parts) = (Writes::default(), Parts::default());
                Self::AtLeastOnce(Box::new(AtLeastOnce { sink, acks, writes, parts, silence }))
            }
            Outputs::ExactlyOnce { transactor, transacted } => {
                Self::ExactlyOnce(Transactions::new(transactor, transacted))
            }
        }
    }
}

impl Delivery {
    /// Writes, or records with all of theirs, that are not in Kafka yet.
    pub(super) fn len(&self) -> usize {
        match self {
            Self::AtLeastOnce(delivery) => delivery.writes.len(),
            Self::ExactlyOnce(transactions) => transactions.len(),
        }
    }

    /// When something is to be tried again.
    pub(super) fn next_round(&self) -> Option<BootTime> {
        match self {
            Self::AtLeastOnce(delivery) => delivery.writes.next_round(),
            Self::ExactlyOnce(transactions) => transactions.next_round(),
        }
    }

    /// Waits for what Kafka says next. Cancel safe.
    pub(super) async fn delivered(&mut self) -> Delivered {
        match self {
            Self::AtLeastOnce(delivery) => Delivered::Acknowledged(delivery.acknowledged().await),
            Self::ExactlyOnce(transactions) => {
                transactions.ended().await.map_or(Delivered::CutOff, Delivered::Transacted)
            }
        }
    }
}
