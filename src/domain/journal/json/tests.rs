//! The messages, as they are written and as they are read.

use rstest::rstest;

use super::*;
use crate::domain::budget::Budget;

fn entry(body: Body) -> Entry {
    let id = EntryId { writer: WriterId(0x00c0_ffee_00c0_ffee), number: 17 };
    Entry { id, instance: "host-1".into(), body }
}

fn alert() -> AlertId {
    AlertId::parse("da637551227677560813_-961444813").unwrap()
}

fn claim() -> Entry {
    let (severity, reserved, highs_wait) = (Severity::High, true, false);
    entry(Body::Claim(Claim { alert: alert(), severity, reserved, highs_wait }))
}

fn answer(outcome: Option<Outcome>) -> Entry {
    let (claim, reached, status) = (claim().id, Reached::Complete, Some(200));
    entry(Body::Answer(Answer { claim, alert: alert(), reached, status, outcome }))
}

fn found() -> Outcome {
    let ips = RelatedIps::from_texts(["104.80.104.128", "2001:db8::1"]);
    Outcome { status: Status::Found, ips, retrieved_at: "2026-11-23T18:40:00.123Z".parse().unwrap() }
}

fn checkpoint() -> Entry {
    let mut budget = Budget::default();
    let at = |n: u64| JournalTime::from_origin(Duration::from_nanos(1_790_000_000_123_456_789 + n));
    let mut terms = entry(Body::Terms(Terms::example()));
    terms.id.number = 1;
    budget.apply(at(0), &terms);
    budget.apply(at(5), &claim());
    let mut refused = claim();
    refused.id.writer = WriterId(7);
    budget.apply(at(6), &refused);
    let mut answered = answer(None);
    answered.id.number = 18;
    budget.apply(at(7), &answered);
    entry(Body::Checkpoint(Box::new(budget.checkpoint(Some(41)))))
}

#[rstest]
#[case::terms(entry(Body::Terms(Terms { share: 0.3, ..Terms::example() })))]
#[case::claim(claim())]
#[case::answer(answer(None))]
#[case::outcome(answer(Some(found())))]
#[case::freeze(entry(Body::Freeze(Freeze { lasts: Duration::from_millis(1_500), why: "429".into() })))]
#[case::checkpoint(checkpoint())]
fn an_entry_is_read_as_it_was_written(#[case] entry: Entry) {
    let message = write_message(std::slice::from_ref(&entry));
    assert_eq!(holds_checkpoint(&message), matches!(entry.body, Body::Checkpoint(_)));
    assert_eq!(read_message(&message).unwrap(), [entry]);
}

#[test]
fn a_message_holds_many_entries() {
    let mut second = answer(None);
    second.id.number += 1;
    let entries = [claim(), second];
    assert_eq!(read_message(&write_message(&entries)).unwrap(), entries);
}

#[test]
fn a_probe_is_a_message_without_entries() {
    let probe = probe_message(WriterId(7), "host-1");
    assert_eq!(read_message(&probe).unwrap(), []);
    assert!(!holds_checkpoint(&probe));
}

/// Beside the addresses themselves an entry has at most 300 bytes.
#[rstest]
#[case::claim(claim())]
#[case::answer(answer(Some(Outcome { ips: RelatedIps::default(), ..found() })))]
fn an_entry_is_small(#[case] entry: Entry) {
    let bytes = write_message(&[entry]).len();
    assert!(bytes <= 300, "{bytes} bytes");
}

#[test]
fn a_person_can_read_an_entry() {
    insta::assert_snapshot!(String::from_utf8(write_message(&[answer(Some(found()))])).unwrap(), @r#"{"v":1,"writer":"00c0ffee00c0ffee","n":17,"instance":"host-1","entries":[{"answer":{"claim":["00c0ffee00c0ffee",17],"alert":"da637551227677560813_-961444813","reached":"complete","status":200,"outcome":{"status":"found","ips":["104.80.104.128","2001:db8::1"],"retrieved_at":"2026-11-23T18:40:00.123Z"}}}]}"#);
}

#[test]
fn an_entry_of_a_newer_version_is_told_from_a_broken_one() {
    for newer in [&br#"{"v":2,"something":"else"}"#[..], br#"{"v":2,"writer":"1","n":1,"instance":"h","entries":[]}"#] {
        assert!(matches!(read_message(newer), Err(InvalidMessage::Newer(2))));
    }
    for broken in [
        &b"{}"[..],
        b"",
        b"\xff",
        br#"{"v":1,"writer":"x","n":1,"instance":"h","entries":[{"freeze":{"lasts":1,"why":""}}]}"#,
    ] {
        assert!(matches!(read_message(broken), Err(InvalidMessage::Malformed(_))), "{broken:?}");
    }
}

/// As from a program that is not ours, or is wrong: what it says of the limits would hold for everybody.
#[rstest]
#[case::terms(entry(Body::Terms(Terms { reserve: 2.0, ..Terms::example() })))]
#[case::a_checkpoint_without_a_window_of_its_terms(with_windows(|windows| drop(windows.pop())))]
#[case::a_checkpoint_with_slots_that_can_not_be_counted(with_windows(|windows| windows[0] = vec![(JournalTime::default(), u32::MAX); 2]))]
fn what_no_instance_writes_counts_for_nothing(#[case] entry: Entry) {
    assert!(matches!(read_message(&write_message(&[entry])), Err(InvalidMessage::Malformed(_))));
}

fn with_windows(change: impl Fn(&mut Vec<Vec<(JournalTime, u32)>>)) -> Entry {
    let mut entry = checkpoint();
    if let Body::Checkpoint(checkpoint) = &mut entry.body {
        change(&mut checkpoint.windows);
    }
    entry
}
