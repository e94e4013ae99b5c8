//! What became of every record: each alert one output, each unusable record one dead letter, and nothing else.
//!
//! Exactly-once allows no repeat. At-least-once allows a repeat of what may have been open when something was cut short:
//!
//! - there is a fault (a kill, a broker that went away, a stop, cut or hold of at least half a session timeout) that began
//!   before the repeat was read, and
//! - no sample answered before that fault began had the record settled; and
//! - all together there are not more repeats than open records at all faults: `max_open` for one of an instance, and as many
//!   for every instance for one of a broker.
//!
//! A clean stop (SIGTERM) and a reload explain none.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use super::{
    super::history::{At, Place, Seeded},
    Judgement, Kind,
    facts::{Copy, Facts, Fault, Part, tell},
    metadata,
};

pub(super) fn check(facts: &Facts<'_>, judgement: &mut Judgement) {
    let settled_at = settled_at(facts);
    check_presence(facts, &settled_at, judgement);
    check_repeats(facts, &settled_at, judgement);
    for (place, parts) in &facts.copies {
        let seeded = facts.seeded[place];
        check_indices(facts, parts, judgement);
        for (part, copies) in parts {
            for copy in copies {
                check_copy(facts, *place, *part, seeded, copy, judgement);
            }
        }
    }
    let copies = || facts.copies.values().flat_map(BTreeMap::values).flatten();
    judgement.figure("records seeded", facts.seeded.len());
    judgement.figure("outputs and dead letters", copies().count());
    judgement.figure("of these not read during the run", copies().filter(|copy| copy.during.is_none()).count());
}

fn check_presence(facts: &Facts<'_>, settled_at: &BTreeMap<Place, At>, judgement: &mut Judgement) {
    let mut undone: BTreeMap<i32, BTreeSet<i64>> = BTreeMap::new();
    for (place, seeded) in &facts.seeded {
        for part in Facts::parts(seeded) {
            let is_there = facts.copies_of(*place, part).iter().any(|copy| copy.after.is_some());
            if !is_there && settled_at.contains_key(place) {
                let words = format!("{} is not there", tell_part(*place, part, seeded));
                judgement.wrong(Kind::Lost, facts.end, words);
            } else if !is_there {
                undone.entry(place.0).or_default().insert(place.1);
            }
        }
    }
    for (partition, offsets) in undone {
        let settled = settled_at.iter().filter(|((number, _), _)| *number == partition).map(|(_, at)| *at);
        let (count, first) = (offsets.len(), offsets.first().copied().unwrap_or_default());
        let words = format!(
            "since then nothing of partition {partition} is settled; {count} of its records are undone, the first at {first}"
        );
        judgement.wrong(Kind::Undone, settled.max().unwrap_or_default(), words);
    }
}

fn check_repeats(facts: &Facts<'_>, settled_at: &BTreeMap<Place, At>, judgement: &mut Judgement) {
    let mut repeats = Vec::new();
    for (place, seeded) in &facts.seeded {
        for part in Facts::parts(seeded) {
            let copies: Vec<_> = facts.copies_of(*place, part).iter().filter(|copy| copy.after.is_some()).collect();
            repeats.extend(copies.windows(2).map(|pair| (*place, part, pair[0].at, pair[1])));
        }
    }
    for (place, part, before, copy) in &repeats {
        let is_explained =
            !facts.is_exactly_once() && is_explained(facts, *before, settled_at.get(place).copied(), copy.at);
        if !is_explained {
            let words = format!("{} is {} again", tell(copy.position), tell_part(*place, *part, facts.seeded[place]));
            judgement.wrong(Kind::Repeated, copy.at, words);
        }
    }
    judgement.figure("repeats", repeats.len());
    // Of a record with several parts each is published when it is there, and again wherever the record was still open.
    let single = |place: &Place| Facts::parts(facts.seeded[place]).count() == 1;
    judgement.figure("repeats, of records with one part", repeats.iter().filter(|(place, ..)| single(place)).count());
    if !facts.is_exactly_once() {
        let most: usize = interruptions(facts).map(|fault| open_at(facts, fault)).sum();
        judgement.figure("repeats at most", most);
        if repeats.len() > most {
            let words = format!("{} repeats, where at most {most} records were open at faults", repeats.len());
            judgement.wrong(Kind::Repeated, facts.end, words);
        }
    }
}

fn interruptions<'f>(facts: &'f Facts<'_>) -> impl Iterator<Item = &'f Fault<'f>> {
    facts.faults.iter().filter(|fault| fault.interrupts(facts.terms.session_ms / 2))
}

fn open_at(facts: &Facts<'_>, fault: &Fault<'_>) -> usize {
    facts.terms.max_open * if fault.is_of_a_broker() { facts.terms.instances } else { 1 }
}

/// Whether some fault may have had the record open, so that it was done again by `copied`: it began before that and before
/// the record was settled, and what followed from it was not over before the record was done `before`.
fn is_explained(facts: &Facts<'_>, before: At, settled: Option<At>, copied: At) -> bool {
    let recovery = facts.terms.recovery_ms * 1_000_000;
    interruptions(facts).any(|fault| {
        fault.begin < copied && settled.is_none_or(|settled| fault.begin <= settled) && before <= fault.end + recovery
    })
}

/// When a sample first had a record settled, for those that one had.
fn settled_at(facts: &Facts<'_>) -> BTreeMap<Place, At> {
    let mut open: BTreeMap<i32, BTreeSet<i64>> = BTreeMap::new();
    for (partition, offset) in facts.seeded.keys() {
        open.entry(*partition).or_default().insert(*offset);
    }
    let mut settled = BTreeMap::new();
    for (at, sample) in &facts.samples {
        for (partition, next, text) in &sample.committed {
            let Some(open) = open.get_mut(partition) else { continue };
            let beyond = metadata::settled(*next, text).unwrap_or_default();
            for range in std::iter::once(i64::MIN..*next).chain(beyond) {
                let found: Vec<i64> = open.range(range).copied().collect();
                for offset in found {
                    open.remove(&offset);
                    settled.insert((*partition, offset), *at);
                }
            }
        }
    }
    settled
}

fn check_copy(
    facts: &Facts<'_>,
    place: Place,
    part: Part,
    seeded: &Seeded,
    copy: &Copy<'_>,
    judgement: &mut Judgement,
) {
    if !Facts::parts(seeded).any(|expected| expected == part) {
        let words =
            format!("{} stands for {}, which was not to be", tell(copy.position), tell_part(place, part, seeded));
        judgement.wrong(Kind::Phantom, copy.at, words);
        return;
    }
    match (copy.during, copy.after) {
        (Some(_), None) => {
            let words = format!("{} was read while the run went on, and is not there", tell(copy.position));
            judgement.wrong(Kind::AbortedRead, copy.at, words);
        }
        (Some(during), Some(after)) if (&during.source, &during.ips) != (&after.source, &after.ips) => {
            let words = format!("{} was another record while the run went on", tell(copy.position));
            judgement.wrong(Kind::AbortedRead, copy.at, words);
        }
        _ => {}
    }
    if let Some(problem) = answer_problem(facts, part, seeded, copy) {
        let words = format!("{}, for {}: {problem}", tell(copy.position), tell_part(place, part, seeded));
        judgement.wrong(Kind::WrongAnswer, copy.at, words);
    }
}

/// A reader may drop repeats by what names their source: so that is the same for all copies, and another for each alert of a
/// message, in their order.
fn check_indices(facts: &Facts<'_>, parts: &BTreeMap<Part, Vec<Copy<'_>>>, judgement: &mut Judgement) {
    let mut last = None;
    for copies in parts.values() {
        let index = |copy: &Copy<'_>| facts.numbers(&copy.read().source).and_then(|(.., index)| index);
        let first = index(&copies[0]);
        if let Some(other) = copies.iter().find(|copy| index(copy) != first) {
            let words = format!("{} names another source than {}", tell(other.position), tell(copies[0].position));
            judgement.wrong(Kind::WrongAnswer, other.at, words);
        }
        if first.is_some() && first <= last {
            let words = format!("{} names the source of another alert", tell(copies[0].position));
            judgement.wrong(Kind::WrongAnswer, copies[0].at, words);
        }
        last = first.max(last);
    }
}

/// What is wrong with what a record says, if anything is.
fn answer_problem(facts: &Facts<'_>, part: Part, seeded: &Seeded, copy: &Copy<'_>) -> Option<String> {
    let read = copy.read();
    let Part::Output(index) = part else {
        let expected = seeded.rejection.as_deref().unwrap_or_default();
        return (read.status != expected).then(|| format!("its reason is {}, not {expected}", read.status));
    };
    let alert = &seeded.alerts[index];
    let (status, ips) = match facts.answers.get(&*alert.id) {
        _ if alert.expired => ("expired", &[][..]),
        Some(answer) => (&*answer.status, &answer.ips[..]),
        None => return Some("the service never said anything about it".to_owned()),
    };
    if read.status != status {
        return Some(format!("its status is {}, not {status}", read.status));
    }
    let found: Option<Vec<IpAddr>> = read.ips.iter().map(|ip| ip.parse().ok()).collect();
    let expected = distinct(ips);
    (found.as_ref() != Some(&expected)).then(|| format!("its addresses are {:?}, not {expected:?}", read.ips))
}

/// The addresses of an answer, each once, in its order.
fn distinct(texts: &[String]) -> Vec<IpAddr> {
    let mut addresses = Vec::new();
    for address in texts.iter().filter_map(|text| text.trim().parse().ok()) {
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    addresses
}

fn tell_part((partition, offset): Place, part: Part, seeded: &Seeded) -> String {
    let shape = &seeded.shape;
    match part {
        Part::Output(index) => match seeded.alerts.get(index) {
            Some(alert) => format!("the answer about {} of the record at {partition}/{offset} ({shape})", alert.id),
            None => format!("alert {index} of the record at {partition}/{offset} ({shape})"),
        },
        Part::DeadLetter => format!("the dead letter of the record at {partition}/{offset} ({shape})"),
    }
}
