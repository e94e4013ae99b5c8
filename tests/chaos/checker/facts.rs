//! A history, sorted by what it is about.

use std::collections::{BTreeMap, HashMap};

use super::{
    super::history::{
        Answer, At, Call, Delivery, Fact, FaultKind, Line, Place, Process, Read, Reading, Sample, Seeded, Terms, Topic,
    },
    Judgement, Kind,
};

/// What must be there for a record: an output for its n-th alert, or its dead letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Part {
    Output(usize),
    DeadLetter,
}

/// Topic, partition and offset of a record that was read.
pub(super) type Position = (Topic, i32, i64);

/// A record that was read, once or twice.
#[derive(Debug)]
pub(super) struct Copy<'a> {
    pub position: Position,
    /// When a reader had it first.
    pub at: At,
    pub during: Option<&'a Read>,
    pub after: Option<&'a Read>,
}

impl<'a> Copy<'a> {
    pub(super) fn read(&self) -> &'a Read {
        self.after.or(self.during).expect("it was read")
    }
}

#[derive(Debug)]
pub(super) struct Fault<'a> {
    pub kind: FaultKind,
    pub target: &'a str,
    pub begin: At,
    /// The end of the history, where it did not end.
    pub end: At,
}

impl Fault<'_> {
    /// Whether more may be open than what a clean stop leaves: calls without a written answer, outputs without a commit.
    pub(super) fn interrupts(&self, at_least_ms: u64) -> bool {
        match self.kind {
            FaultKind::Kill | FaultKind::BrokerKill | FaultKind::BrokerTerm => true,
            FaultKind::Stop | FaultKind::Cut | FaultKind::Hold => self.end - self.begin >= at_least_ms * 1_000_000,
            // What is in a transaction waits for its end, or goes into the next; nothing is asked again for that.
            FaultKind::Term
            | FaultKind::Reload
            | FaultKind::ClockSet
            | FaultKind::EndHeld
            | FaultKind::EndLost
            | FaultKind::OffsetsCopied => false,
        }
    }

    pub(super) fn is_of_a_broker(&self) -> bool {
        matches!(self.kind, FaultKind::BrokerKill | FaultKind::BrokerTerm)
    }
}

pub(super) struct Ended<'a> {
    pub at: At,
    pub instance: &'a str,
    pub asked: Option<At>,
    pub code: Option<i32>,
    pub panicked: bool,
}

pub(super) struct Facts<'a> {
    pub terms: &'a Terms,
    pub seeded: BTreeMap<Place, &'a Seeded>,
    pub answers: HashMap<&'a str, &'a Answer>,
    pub copies: BTreeMap<Place, BTreeMap<Part, Vec<Copy<'a>>>>,
    pub samples: Vec<(At, &'a Sample)>,
    pub calls: Vec<(At, &'a Call)>,
    pub processes: Vec<(At, &'a Process)>,
    pub faults: Vec<Fault<'a>>,
    pub ended: Vec<Ended<'a>>,
    /// Producers that instances gave up.
    pub given_up: usize,
    pub end: At,
}

impl<'a> Facts<'a> {
    /// `None`, said in the judgement, where the history is not one that can be judged.
    pub(super) fn of(lines: &'a [Line], judgement: &mut Judgement) -> Option<Self> {
        let terms = lines.iter().find_map(|line| if let Fact::Terms(terms) = &line.fact { Some(terms) } else { None });
        let (Some(terms), Some(last)) = (terms, lines.last()) else {
            judgement.wrong(Kind::Evidence, 0, "the history does not say what the run is held to");
            return None;
        };
        let mut facts = Self {
            terms,
            seeded: BTreeMap::new(),
            answers: HashMap::new(),
            copies: BTreeMap::new(),
            samples: Vec::new(),
            calls: Vec::new(),
            processes: Vec::new(),
            faults: Vec::new(),
            ended: Vec::new(),
            given_up: 0,
            end: last.at,
        };
        let mut reads: BTreeMap<Position, Copy<'a>> = BTreeMap::new();
        let mut open_faults = HashMap::new();
        let mut read_all = false;
        for Line { at, fact } in lines {
            match fact {
                Fact::Terms(_) => {}
                Fact::Seeded(seeded) => drop(facts.seeded.insert(seeded.place, seeded)),
                Fact::Answer(answer) => drop(facts.answers.insert(&answer.alert, answer)),
                Fact::Read(read) => add_read(&mut reads, *at, read),
                Fact::ReadAll => read_all = true,
                Fact::Sample(sample) => facts.samples.push((*at, sample)),
                Fact::Call(call) => facts.calls.push((*at, call)),
                Fact::Process(process) => facts.processes.push((*at, process)),
                Fact::Begin { fault, kind, target } => {
                    open_faults.insert(*fault, facts.faults.len());
                    facts.faults.push(Fault { kind: *kind, target, begin: *at, end: last.at });
                }
                Fact::End { fault } => {
                    if let Some(index) = open_faults.remove(fault) {
                        facts.faults[index].end = *at;
                    }
                }
                Fact::GivenUp { producers, .. } => facts.given_up += producers,
                Fact::Ended { instance, asked, code, panicked } => {
                    facts.ended.push(Ended { at: *at, instance, asked: *asked, code: *code, panicked: *panicked });
                }
            }
        }
        facts.sort_by_source(reads, judgement);
        facts.require(read_all, judgement);
        Some(facts)
    }

    pub(super) fn is_exactly_once(&self) -> bool {
        self.terms.delivery == Delivery::ExactlyOnce
    }

    /// What must be there for a record; nothing for one that is skipped.
    pub(super) fn parts(seeded: &Seeded) -> impl Iterator<Item = Part> {
        (0..seeded.alerts.len()).map(Part::Output).chain(seeded.rejection.is_some().then_some(Part::DeadLetter))
    }

    pub(super) fn copies_of(&self, place: Place, part: Part) -> &[Copy<'a>] {
        self.copies.get(&place).and_then(|parts| parts.get(&part)).map_or(&[], Vec::as_slice)
    }

    fn sort_by_source(&mut self, reads: BTreeMap<Position, Copy<'a>>, judgement: &mut Judgement) {
        for copy in reads.into_values() {
            let source = &copy.read().source;
            match self.source(copy.position.0, copy.read()) {
                Some((place, part)) => self.copies.entry(place).or_default().entry(part).or_default().push(copy),
                None => judgement.wrong(
                    Kind::Phantom,
                    copy.at,
                    format!(
                        "{} is about {:?} of \"{source}\", where no such was seeded",
                        tell(copy.position),
                        copy.read().alert
                    ),
                ),
            }
        }
        for copies in self.copies.values_mut().flat_map(BTreeMap::values_mut) {
            copies.sort_by_key(|copy| copy.at);
        }
    }

    /// The record that a source names, and which part of what must become of it.
    fn source(&self, topic: Topic, read: &Read) -> Option<(Place, Part)> {
        let (partition, offset, index) = self.numbers(&read.source)?;
        let place = (partition, offset);
        let seeded = self.seeded.get(&place)?;
        let part = match (topic, index) {
            (Topic::Output, Some(_)) => {
                let alert = read.alert.as_deref()?;
                Part::Output(seeded.alerts.iter().position(|known| known.id == alert)?)
            }
            (Topic::DeadLetters, None) => Part::DeadLetter,
            _ => return None,
        };
        Some((place, part))
    }

    /// Partition, offset and, where there is one, the index of the item in the message.
    pub(super) fn numbers(&self, source: &str) -> Option<(i32, i64, Option<usize>)> {
        let rest = source.strip_prefix(&self.terms.input)?.strip_prefix('/')?;
        let mut numbers = rest.split('/');
        let (partition, offset) = (numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?);
        let index = numbers.next().map(str::parse).transpose().ok()?;
        numbers.next().is_none().then_some((partition, offset, index))
    }

    /// Silence is no proof.
    fn require(&self, read_all: bool, judgement: &mut Judgement) {
        let missing = [
            (self.seeded.is_empty(), "no record was seeded"),
            (!read_all, "the topics were not read to their ends after the run"),
            (self.samples.is_empty(), "no committed offsets were sampled"),
            (self.samples.iter().all(|(_, sample)| sample.ends.is_empty()), "no ends of the topics were sampled"),
            (self.processes.is_empty(), "no process was looked at"),
        ];
        for (_, words) in missing.iter().filter(|(is_missing, _)| *is_missing) {
            judgement.wrong(Kind::Evidence, self.end, *words);
        }
    }
}

fn add_read<'a>(reads: &mut BTreeMap<Position, Copy<'a>>, at: At, read: &'a Read) {
    let position = (read.topic, read.partition, read.offset);
    let copy = reads.entry(position).or_insert(Copy { position, at, during: None, after: None });
    copy.at = copy.at.min(at);
    match read.reading {
        Reading::During => copy.during = Some(read),
        Reading::After => copy.after = Some(read),
    }
}

/// A position in words.
pub(super) fn tell((topic, partition, offset): Position) -> String {
    let topic = match topic {
        Topic::Output => "output",
        Topic::DeadLetters => "dead letter",
    };
    format!("the {topic} at {partition}/{offset}")
}
