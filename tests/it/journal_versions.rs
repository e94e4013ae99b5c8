//! What earlier versions wrote into the journal is read as they meant it.
//!
//! `tests/fixtures/journal-v1.jsonl` is what a small fleet of version 1 wrote on a bad day, with the times at which a broker
//! stamped it. It never changes; a later version adds a file of its own.

use std::{collections::BTreeMap, fmt::Write as _, time::Duration};

use alert_ips::domain::{
    budget::{Budget, Ruling},
    journal::{Body, Entry, EntryId, Reached, read_message, write_message},
    time::JournalTime,
};
use serde::Deserialize;
use serde_json::value::RawValue;

const VERSION_1: &str = include_str!("../fixtures/journal-v1.jsonl");

#[derive(Deserialize)]
struct Line {
    offset: i64,
    at: u64,
    message: Box<RawValue>,
}

/// The entries, with offset and time.
fn entries() -> Vec<(i64, JournalTime, Entry)> {
    let lines = VERSION_1.lines().map(|line| serde_json::from_str::<Line>(line).unwrap());
    let stamped = lines.flat_map(|Line { offset, at, message }| {
        let at = JournalTime::from_origin(Duration::from_millis(at));
        read_message(message.get().as_bytes()).unwrap().into_iter().map(move |entry| (offset, at, entry))
    });
    stamped.collect()
}

fn rule<'a>(
    budget: &mut Budget,
    entries: impl IntoIterator<Item = &'a (i64, JournalTime, Entry)>,
) -> BTreeMap<EntryId, Ruling> {
    entries.into_iter().map(|(_, at, entry)| (entry.id, budget.apply(*at, entry))).collect()
}

fn claims(entries: &[(i64, JournalTime, Entry)]) -> impl Iterator<Item = EntryId> {
    entries.iter().filter(|(.., entry)| matches!(entry.body, Body::Claim(_))).map(|(.., entry)| entry.id)
}

#[test]
fn every_message_of_version_1_is_read_and_written_again_as_it_was() {
    for line in VERSION_1.lines() {
        let line: Line = serde_json::from_str(line).unwrap();
        let entries = read_message(line.message.get().as_bytes()).unwrap();
        assert_eq!(String::from_utf8(write_message(&entries)).unwrap(), line.message.get());
    }
}

/// Whoever wrote an answer had been granted its claim: the log itself tells how version 1 ruled.
#[test]
fn the_claims_of_version_1_are_ruled_on_as_it_ruled() {
    let entries = entries();
    let rulings = rule(&mut Budget::default(), &entries);
    let answered: BTreeMap<EntryId, Reached> = entries
        .iter()
        .filter_map(|(.., entry)| if let Body::Answer(answer) = &entry.body { Some(answer) } else { None })
        .map(|answer| (answer.claim, answer.reached))
        .collect();
    let mut granted = 0;
    for claim in claims(&entries) {
        let is_granted = matches!(rulings[&claim], Ruling::Granted(_));
        assert_eq!(is_granted, answered.contains_key(&claim), "claim {claim}");
        granted += usize::from(is_granted);
    }
    assert!(!rulings.values().any(|ruling| matches!(ruling, Ruling::Divergent(_))));
    // Else it would show little.
    assert!(granted > 50 && rulings.values().any(|ruling| matches!(ruling, Ruling::Refused(_))), "{granted} granted");
    let mut kinds = String::new();
    for reached in Reached::ALL {
        write!(kinds, "{} {}, ", answered.values().filter(|found| **found == reached).count(), reached.as_str())
            .unwrap();
    }
    assert!(answered.values().any(|reached| *reached == Reached::Unknown), "{kinds}");
}

#[test]
fn a_replay_from_a_checkpoint_of_version_1_reaches_the_same_rulings() {
    let entries = entries();
    let all = rule(&mut Budget::default(), &entries);
    let mut checkpoints = 0;
    for (.., entry) in &entries {
        let Body::Checkpoint(checkpoint) = &entry.body else { continue };
        let after: Vec<_> =
            entries.iter().filter(|(offset, ..)| *offset > checkpoint.offset.unwrap()).cloned().collect();
        let replayed = rule(&mut Budget::from(&**checkpoint), &after);
        for claim in claims(&after) {
            assert_eq!(replayed[&claim], all[&claim], "claim {claim} after the checkpoint {}", entry.id);
        }
        checkpoints += 1;
    }
    assert!(checkpoints >= 2, "{checkpoints} checkpoints");
}
