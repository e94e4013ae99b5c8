//! Judges a run by what stands in the topics, against what was seeded and what the simulated service was to answer.

use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
};

use alert_ips::{
    domain::{dead_letter::DeadLetter, outcome::Reason, record::Record},
    sim::{Answer, world::TENANT},
};
use serde_json::Value;

use super::{Seeded, Service, Topics};

/// A message's place in the input: partition and offset.
pub type Place = (i32, i64);

/// What was seeded, and what must be in the topics for it.
pub struct Checker {
    topics: Topics,
    expected: BTreeMap<Place, Expected>,
}

struct Expected {
    seeded: Seeded,
    /// Alert id, status and addresses, in the order of the message.
    outputs: Vec<(String, &'static str, Vec<String>)>,
    dead_letter: Option<Reason>,
}

/// What was found for all messages together.
#[derive(Debug)]
pub struct Published {
    pub outputs: usize,
    pub dead_letters: usize,
    /// Records that are there more than once, under the same `ce_id` or for the same place.
    pub repeated: usize,
}

impl Checker {
    pub fn new(topics: Topics, service: &Service, seeded: Vec<Seeded>) -> Self {
        Self { topics, expected: BTreeMap::new() }.also(service, seeded)
    }

    /// What was seeded later is expected too.
    pub fn also(mut self, service: &Service, seeded: Vec<Seeded>) -> Self {
        self.expected
            .extend(seeded.into_iter().map(|seeded| (place_of(&seeded.record), Expected::of(seeded, service))));
        self
    }

    pub fn topics(&self) -> &Topics {
        &self.topics
    }

    /// How many outputs and dead letters there must be.
    pub fn expected_records(&self) -> usize {
        self.expected
            .values()
            .map(|expected| expected.outputs.len() + usize::from(expected.dead_letter.is_some()))
            .sum()
    }

    /// Every alert and every dead letter is there once, and nothing else.
    pub fn assert_exactly_once(&self) {
        let published = self.assert_at_least_once();
        assert_eq!(published.repeated, 0, "{published:?}");
    }

    /// Every alert and every dead letter is there, and nothing else; what is repeated has the same `ce_id` and says the
    /// same of the same alert.
    pub fn assert_at_least_once(&self) -> Published {
        let (outputs, dead_letters) = (self.outputs(), self.dead_letters());
        let mut repeated = 0;
        for (place, expected) in &self.expected {
            let found = outputs.get(place).map_or(&[][..], Vec::as_slice);
            repeated += expected.check_outputs(*place, found);
            let found = dead_letters.get(place).map_or(&[][..], Vec::as_slice);
            repeated += expected.check_dead_letters(*place, found);
        }
        for place in outputs.keys().chain(dead_letters.keys()) {
            assert!(self.expected.contains_key(place), "{place:?} was never seeded");
        }
        Published {
            outputs: outputs.values().map(Vec::len).sum(),
            dead_letters: dead_letters.values().map(Vec::len).sum(),
            repeated,
        }
    }

    /// How many outputs and dead letters each message has led to so far.
    pub fn published(topics: &Topics) -> BTreeMap<Place, usize> {
        let outputs = topics.read(&topics.output).into_iter().map(|record| place_of_output(topics, &record).0);
        let dead_letters = topics.read(&topics.dead_letters).into_iter();
        let dead_letters = dead_letters.map(|record| place_of(&DeadLetter::read(record).unwrap().original));
        let mut published = BTreeMap::new();
        outputs.chain(dead_letters).for_each(|place| *published.entry(place).or_default() += 1);
        published
    }

    /// The output records by the place of their input, which their `ce_id` names.
    fn outputs(&self) -> HashMap<Place, Vec<Output>> {
        let mut outputs: HashMap<_, Vec<_>> = HashMap::new();
        for record in self.topics.read(&self.topics.output) {
            let (place, index) = place_of_output(&self.topics, &record);
            outputs.entry(place).or_default().push(Output { index, record });
        }
        outputs
    }

    fn dead_letters(&self) -> HashMap<Place, Vec<DeadLetter>> {
        let mut dead_letters: HashMap<_, Vec<_>> = HashMap::new();
        for record in self.topics.read(&self.topics.dead_letters) {
            let dead_letter = DeadLetter::read(record).unwrap();
            dead_letters.entry(place_of(&dead_letter.original)).or_default().push(dead_letter);
        }
        dead_letters
    }
}

/// An output record, and the index of the alert in its message.
struct Output {
    index: usize,
    record: Record,
}

impl Expected {
    fn of(seeded: Seeded, service: &Service) -> Self {
        let mut outputs = Vec::new();
        let mut dead_letter = seeded.message.expected.rejection;
        for alert in &seeded.message.expected.alerts {
            if alert.expired {
                outputs.push((alert.id.clone(), "expired", Vec::new()));
                continue;
            }
            match service.sim.with(|service| service.plan().last(&alert.id)) {
                Answer::Found(texts) => outputs.push((alert.id.clone(), "found", canonical(&texts))),
                Answer::Empty => outputs.push((alert.id.clone(), "empty", Vec::new())),
                Answer::NotFound => outputs.push((alert.id.clone(), "not_found", Vec::new())),
                Answer::Status { code: 400, .. } => dead_letter = dead_letter.or(Some(Reason::Refused)),
                other => panic!("this suite plans no {other:?}"),
            }
        }
        Self { seeded, outputs, dead_letter }
    }

    /// Returns how many are repeats.
    fn check_outputs(&self, place: Place, found: &[Output]) -> usize {
        let shape = self.seeded.message.shape;
        let mut by_index: BTreeMap<usize, Vec<&Record>> = BTreeMap::new();
        for output in found {
            by_index.entry(output.index).or_default().push(&output.record);
        }
        let ids: Vec<_> = by_index.values().map(|records| header(records[0], "ce_subject")).collect();
        let expected: Vec<_> = self.outputs.iter().map(|(id, ..)| id.clone()).collect();
        assert_eq!(ids, expected, "the alerts of the message at {place:?} ({shape})");
        for (records, (id, status, ips)) in by_index.values().zip(&self.outputs) {
            for record in records {
                self.check_output(record, id, status, ips);
            }
        }
        found.len() - by_index.len()
    }

    fn check_output(&self, record: &Record, id: &str, status: &str, ips: &[String]) {
        let shape = self.seeded.message.shape;
        assert_eq!(record.key.as_deref(), Some(id.as_bytes()), "{shape}");
        let json: Value = serde_json::from_slice(record.payload.as_deref().unwrap()).unwrap();
        let retrieved_at = json["retrieved_at"].as_str().unwrap();
        retrieved_at.parse::<jiff::Timestamp>().unwrap();
        let expected = serde_json::json!({
            "alert_id": id, "ips": ips, "status": status, "tenant_id": TENANT, "retrieved_at": retrieved_at,
        });
        assert_eq!(json, expected, "{shape}");
        let expected = [
            ("ce_specversion", "1.0"),
            ("ce_source", "/alert-ips"),
            ("ce_type", "alert-ips.related-ips.v1"),
            ("ce_time", retrieved_at),
            ("ce_subject", id),
            ("content-type", "application/json"),
            ("traceparent", &self.seeded.traceparent),
        ];
        for (name, value) in expected {
            assert_eq!(header(record, name), value, "{name}, {shape}");
        }
        // Besides `ce_id`, nothing more: no header of the input leaks.
        assert_eq!(record.headers.len(), expected.len() + 1, "{shape}");
    }

    /// Returns how many are repeats.
    fn check_dead_letters(&self, place: Place, found: &[DeadLetter]) -> usize {
        let shape = self.seeded.message.shape;
        let Some(reason) = self.dead_letter else {
            assert!(found.is_empty(), "no dead letter is expected for {place:?} ({shape}): {:?}", found[0].rejection);
            return 0;
        };
        assert!(!found.is_empty(), "the dead letter of {place:?} ({shape}) is missing");
        for dead_letter in found {
            assert_eq!(dead_letter.original, self.seeded.record, "{shape}");
            assert_eq!((dead_letter.rejection.reason, dead_letter.truncated_from), (reason, None), "{shape}");
            assert!(!dead_letter.rejection.detail.is_empty(), "{shape}");
        }
        found.len() - 1
    }
}

/// Where a record of the input stands.
fn place_of(record: &Record) -> Place {
    (record.receipt.partition.number, record.receipt.offset)
}

/// The place that an output's `ce_id` names, and the index of the alert there.
fn place_of_output(topics: &Topics, output: &Record) -> (Place, usize) {
    let ce_id = header(output, "ce_id");
    let parts: Vec<_> = ce_id.split('/').collect();
    let [topic, partition, offset, index] = parts[..] else { panic!("ce_id {ce_id}") };
    assert_eq!(topic, topics.input);
    ((partition.parse().unwrap(), offset.parse().unwrap()), index.parse().unwrap())
}

/// The one value of a header, as text.
fn header(record: &Record, name: &str) -> String {
    let mut values = record.headers.iter().filter(|header| &*header.name == name);
    let (Some(header), None) = (values.next(), values.next()) else { panic!("one {name} is expected: {record:?}") };
    String::from_utf8(header.value.as_deref().unwrap().into()).unwrap()
}

/// Trimmed, canonical and distinct, in the service's order.
fn canonical(texts: &[String]) -> Vec<String> {
    let mut addresses: Vec<IpAddr> = Vec::new();
    for text in texts {
        let address = text.trim().parse().unwrap();
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    addresses.iter().map(ToString::to_string).collect()
}
