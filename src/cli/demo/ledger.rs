//! What was written to the input and what came out of the other topics, held against each other.
//!
//! The demo's own bookkeeping: it reads only topics and the simulated service's plan, never the daemon's memory.

use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
    time::Duration,
};

use jiff::Timestamp;

use crate::{
    domain::{
        alert::Severity,
        outcome::{Reason, Status},
    },
    sim::{
        Plan,
        world::{Expected, ExpectedAlert, Message},
    },
};

/// Where in the input topic a message lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) partition: i32,
    pub(super) offset: i64,
}

/// What must become of a message. Nothing of both: it is skipped.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Due {
    pub(super) outputs: Vec<DueOutput>,
    pub(super) dead_letter: Option<DueDeadLetter>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct DueOutput {
    pub(super) alert_id: String,
    pub(super) severity: Severity,
    pub(super) status: Status,
    pub(super) ips: Vec<IpAddr>,
    /// The first answer is the last: no failure and no re-ask before it.
    pub(super) at_once: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct DueDeadLetter {
    pub(super) reason: Reason,
    pub(super) payload: Option<Vec<u8>>,
}

impl Due {
    /// What the world says about the message, and the service's plan about its alerts.
    pub(super) fn of(message: &Message, plan: &Plan) -> Self {
        let Expected { alerts, rejection, .. } = &message.expected;
        let mut due = Self::default();
        let mut reason = *rejection;
        for alert in alerts {
            match due_output(alert, plan) {
                Ok(output) => due.outputs.push(output),
                Err(refused) => reason = reason.or(Some(refused)),
            }
        }
        due.dead_letter = reason.map(|reason| DueDeadLetter { reason, payload: message.payload.clone() });
        due
    }

    fn count(&self) -> usize {
        self.outputs.len() + usize::from(self.dead_letter.is_some())
    }
}

fn due_output(alert: &ExpectedAlert, plan: &Plan) -> Result<DueOutput, Reason> {
    let (first, last) = (plan.answer(&alert.id, 0), plan.last(&alert.id));
    let (status, ips) = if alert.expired {
        (Status::Expired, Vec::new())
    } else if last == crate::sim::Answer::NotFound {
        (Status::NotFound, Vec::new())
    } else {
        // No addresses and no 404: the plan refuses the question.
        let mut ips = Vec::new();
        for ip in last.addresses().ok_or(Reason::Refused)?.iter().filter_map(|text| text.trim().parse().ok()) {
            if !ips.contains(&ip) {
                ips.push(ip);
            }
        }
        (if ips.is_empty() { Status::Empty } else { Status::Found }, ips)
    };
    let at_once = first == last && status != Status::NotFound;
    Ok(DueOutput { alert_id: alert.id.clone(), severity: alert.severity, status, ips, at_once })
}

/// A message that is in the input topic.
#[derive(Clone, Debug)]
pub(super) struct Written {
    pub(super) at: Timestamp,
    pub(super) in_storm: bool,
    /// What kind of message it is, in words.
    pub(super) shape: &'static str,
    pub(super) due: Due,
}

impl Written {
    /// What is due for one of its alerts.
    pub(super) fn alert(&self, id: &str) -> Option<&DueOutput> {
        self.due.outputs.iter().find(|due| due.alert_id == id)
    }
}

/// A record of the output topic.
#[derive(Clone, Debug)]
pub(super) struct Output {
    pub(super) at: Timestamp,
    pub(super) alert_id: String,
    pub(super) status: String,
    pub(super) ips: Vec<IpAddr>,
}

/// A record of the dead-letter topic.
#[derive(Clone, Debug)]
pub(super) struct DeadLetter {
    pub(super) reason: String,
    pub(super) payload: Option<Vec<u8>>,
}

/// Everything written and read.
#[derive(Clone, Debug, Default)]
pub(super) struct Ledger {
    written: BTreeMap<Place, Written>,
    outputs: BTreeMap<Place, Vec<Output>>,
    dead_letters: BTreeMap<Place, Vec<DeadLetter>>,
    /// Records that name no message, in words.
    strangers: Vec<String>,
    due: usize,
    published: usize,
}

impl Ledger {
    pub(super) fn written(&mut self, place: Place, written: Written) {
        self.due += written.due.count();
        self.written.insert(place, written);
    }

    pub(super) fn output(&mut self, place: Place, output: Output) {
        self.published += 1;
        self.outputs.entry(place).or_default().push(output);
    }

    pub(super) fn dead_letter(&mut self, place: Place, dead_letter: DeadLetter) {
        self.published += 1;
        self.dead_letters.entry(place).or_default().push(dead_letter);
    }

    pub(super) fn stranger(&mut self, words: String) {
        self.strangers.push(words);
    }

    pub(super) fn find(&self, place: Place) -> Option<&Written> {
        self.written.get(&place)
    }

    /// Whether as many records came out as must.
    pub(super) fn is_complete(&self) -> bool {
        self.published >= self.due
    }

    /// Holds both sides against each other. `committed`: for each partition the first offset not committed.
    pub(super) fn audit(&self, committed: &BTreeMap<i32, i64>) -> Audit {
        let mut audit = Audit { phantom: self.strangers.clone(), ..Audit::default() };
        for (place, written) in &self.written {
            let settled = committed.get(&place.partition).is_some_and(|next| place.offset < *next);
            let outputs = self.outputs.get(place).map_or(&[][..], Vec::as_slice);
            let dead_letters = self.dead_letters.get(place).map_or(&[][..], Vec::as_slice);
            audit.records += 1;
            // Outputs go out as their alerts are decided, so of an open record some may be there already.
            let found = outputs.len() + dead_letters.len();
            if !settled && (found == 0 || found < written.due.count()) {
                audit.waiting += 1;
                continue;
            }
            audit.skipped += usize::from(written.due.count() == 0);
            audit.hold_outputs(*place, &written.due.outputs, outputs);
            audit.hold_dead_letters(*place, written.due.dead_letter.as_ref(), dead_letters);
        }
        let known = |place: &&Place| !self.written.contains_key(place);
        for place in self.outputs.keys().chain(self.dead_letters.keys()).filter(known) {
            audit.phantom.push(format!("a record about {}, which was never written", place.words()));
        }
        audit
    }

    /// How long single alerts waited that came after the storm had begun and are answered at the first call: the High
    /// ones, and the others. Of the High ones without those that a freeze held up. Who still waits at the `end` has
    /// waited until then.
    pub(super) fn waits(&self, freeze: Option<(Timestamp, Timestamp)>, end: Timestamp) -> Waits {
        let mut waits = Waits::default();
        for (place, written) in self.written.iter().filter(|(_, written)| written.in_storm) {
            let [due] = written.due.outputs.as_slice() else { continue };
            if !due.at_once || due.status == Status::Expired {
                continue;
            }
            let answered = self.outputs.get(place).and_then(|outputs| outputs.first()).map_or(end, |output| output.at);
            let waited = Duration::try_from(answered.duration_since(written.at)).unwrap_or_default();
            if due.severity != Severity::High {
                waits.others.push(waited);
            } else if freeze.is_none_or(|(from, until)| answered < from || written.at > until) {
                waits.high.push(waited);
            }
        }
        waits
    }
}

impl Place {
    fn words(self) -> String {
        format!("partition {} offset {}", self.partition, self.offset)
    }
}

/// What was found. Each list holds one line for each anomaly.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Audit {
    /// Messages written.
    pub(super) records: usize,
    /// Outputs that are due and there.
    pub(super) outputs: usize,
    /// How many of them name addresses.
    pub(super) found: usize,
    pub(super) dead_letters: usize,
    /// Messages of which nothing is due, that were settled.
    pub(super) skipped: usize,
    /// Messages that are not decided as a whole, and not committed: a next start would take them up.
    pub(super) waiting: usize,
    pub(super) lost: Vec<String>,
    pub(super) doubled: Vec<String>,
    pub(super) phantom: Vec<String>,
    /// There, but not as the service planned it, or a dead letter that is not what came in.
    pub(super) wrong: Vec<String>,
}

impl Audit {
    fn hold_outputs(&mut self, place: Place, due: &[DueOutput], outputs: &[Output]) {
        let mut by_id: HashMap<&str, Vec<&Output>> = HashMap::new();
        for output in outputs {
            by_id.entry(&output.alert_id).or_default().push(output);
        }
        for due in due {
            let about = format!("alert {} at {}", due.alert_id, place.words());
            let found = by_id.remove(due.alert_id.as_str()).unwrap_or_default();
            match found.as_slice() {
                [] => self.lost.push(format!("no output for {about}")),
                [output] => self.hold_output(due, output, &about),
                [..] => self.doubled.push(format!("{} outputs for {about}", found.len())),
            }
        }
        for id in by_id.keys() {
            self.phantom.push(format!(
                "an output for alert {}, which is not in {}",
                id.escape_default(),
                place.words()
            ));
        }
    }

    fn hold_output(&mut self, due: &DueOutput, output: &Output, about: &str) {
        self.outputs += 1;
        self.found += usize::from(due.status == Status::Found);
        if output.status != due.status.as_str() {
            self.wrong.push(format!(
                "{} instead of {} for {about}",
                output.status.escape_default(),
                due.status.as_str()
            ));
        } else if output.ips != due.ips {
            self.wrong.push(format!("{} instead of {} for {about}", list(&output.ips), list(&due.ips)));
        }
    }

    fn hold_dead_letters(&mut self, place: Place, due: Option<&DueDeadLetter>, found: &[DeadLetter]) {
        let about = place.words();
        match (due, found) {
            (None, []) => {}
            (None, [..]) => self.phantom.push(format!("a dead letter for {about}, which is in order")),
            (Some(_), []) => self.lost.push(format!("no dead letter for {about}")),
            (Some(due), [one]) => {
                self.dead_letters += 1;
                if one.reason != due.reason.as_str() {
                    let reason = one.reason.escape_default();
                    self.wrong.push(format!("dead letter {reason} instead of {} for {about}", due.reason.as_str()));
                } else if one.payload != due.payload {
                    self.wrong.push(format!("the dead letter for {about} is not the original message"));
                }
            }
            (Some(_), [..]) => self.doubled.push(format!("{} dead letters for {about}", found.len())),
        }
    }
}

fn list(ips: &[IpAddr]) -> String {
    if ips.is_empty() {
        return "no addresses".to_owned();
    }
    ips.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// How long alerts waited, from their message's Kafka timestamp to their output's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Waits {
    pub(super) high: Vec<Duration>,
    pub(super) others: Vec<Duration>,
}

/// The time that 95 of 100 do not exceed; `None` of nothing.
pub(super) fn p95(waits: &[Duration]) -> Option<Duration> {
    let mut sorted = waits.to_vec();
    sorted.sort_unstable();
    sorted.get((sorted.len() * 95).div_ceil(100).checked_sub(1)?).copied()
}
