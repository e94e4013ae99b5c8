//! How the outputs and the dead letters are. Of each topic it is known apart why it takes nothing: what another takes does not
//! show that it does.

use std::collections::BTreeMap;

use crate::{
    domain::record::Destination,
    observe::health::{Condition, Reporter},
};

/// The outputs' part of [`Health`](crate::observe::health::Health), and the dead letters'.
pub struct OutputHealth {
    outputs: Reporter,
    dead_letters: Reporter,
    /// What was reported last of the connection to the brokers.
    trouble: Option<String>,
    /// Why topics refuse what is written to them.
    refusals: BTreeMap<Destination, String>,
}

impl OutputHealth {
    /// Nothing is known against them until something is written.
    pub fn new(outputs: Reporter, dead_letters: Reporter) -> Self {
        let health = Self { outputs, dead_letters, trouble: None, refusals: BTreeMap::new() };
        health.tell();
        health
    }

    /// No topic can be written to, until something is.
    pub(super) fn trouble(&mut self, words: String) {
        self.trouble = Some(words);
        self.tell();
    }

    /// The connection works.
    pub(super) fn working(&mut self) {
        if self.trouble.take().is_some() {
            self.tell();
        }
    }

    /// A topic refuses a write, which is made again.
    pub(super) fn refused(&mut self, to: Destination, words: String) {
        self.refusals.insert(to, words);
        self.tell();
    }

    /// A topic refuses this very write, which is made again; why it refuses all is told rather.
    pub(super) fn refused_alone(&mut self, to: Destination, words: String) {
        self.refusals.entry(to).or_insert(words);
        self.tell();
    }

    /// A write was acknowledged.
    pub(super) fn written(&mut self, to: Destination) {
        if self.refusals.remove(&to).is_some() || self.trouble.is_some() {
            self.trouble = None;
            self.tell();
        }
    }

    /// Partitions were given up, and with them what may have been refused: what still is, is refused again.
    pub(super) fn given_up(&mut self) {
        if !self.refusals.is_empty() {
            self.refusals.clear();
            self.tell();
        }
    }

    fn tell(&self) {
        let outputs = self.refusals.iter().find(|(to, _)| to.is_output()).map(|(_, words)| words);
        self.outputs.set(condition(self.trouble.as_ref().or(outputs)));
        self.dead_letters.set(condition(self.refusals.get(&Destination::DeadLetters)));
    }
}

fn condition(words: Option<&String>) -> Condition {
    words.cloned().map_or(Condition::Ok, Condition::Waiting)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{clock::Clock, observe::health::Health};

    #[test]
    fn what_one_topic_takes_does_not_hide_what_another_refuses() {
        let health = Health::new(Clock::machine());
        let mut told = OutputHealth::new(health.part("outputs"), health.part("dead letters"));
        let says = || {
            let words = |condition: &Condition| condition.words().unwrap_or("ok").to_owned();
            health.report().iter().map(|part| words(&part.condition)).collect::<Vec<_>>().join(", ")
        };
        let (one, two, dead) = (Destination::Output(0), Destination::Output(1), Destination::DeadLetters);
        assert_eq!(says(), "ok, ok");
        told.refused(two, "two refuses".to_owned());
        told.written(one);
        assert_eq!(says(), "two refuses, ok");
        told.refused(dead, "they refuse".to_owned());
        told.trouble("no broker".to_owned());
        assert_eq!(says(), "no broker, they refuse");
        told.working();
        told.written(one);
        assert_eq!(says(), "two refuses, they refuse");
        told.written(two);
        assert_eq!(says(), "ok, they refuse");
        told.trouble("nothing is acknowledged".to_owned());
        told.written(dead);
        assert_eq!(says(), "ok, ok");
        told.refused_alone(two, "two refuses one".to_owned());
        assert_eq!(says(), "two refuses one, ok");
        told.refused(two, "two refuses".to_owned());
        told.refused_alone(two, "two refuses one".to_owned());
        assert_eq!(says(), "two refuses, ok");
        told.given_up();
        assert_eq!(says(), "ok, ok");
    }
}
