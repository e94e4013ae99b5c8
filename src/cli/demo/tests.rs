//! The summary must not be able to praise a run that went wrong: histories made by hand, with one anomaly planted in
//! each.

use std::{collections::BTreeMap, time::Duration};

use jiff::Timestamp;
use rstest::rstest;

use super::{
    checks::{Check, Drain, Facts, FreezeSeen, anomalies, checks},
    ledger::{DeadLetter, Due, DueDeadLetter, DueOutput, Ledger, Output, Place, Written, p95},
};
use crate::{
    dispatcher::Unfinished,
    domain::{
        alert::Severity,
        outcome::{Reason, Status},
        time::BootTime,
    },
    sim::{
        Answer, BAIT, Plan, Violation, Window, Wrong,
        world::{Expected, ExpectedAlert, Message},
    },
};

const BEGIN: Timestamp = Timestamp::constant(1_795_000_000, 0);

fn at(seconds: i64) -> Timestamp {
    BEGIN + jiff::SignedDuration::from_secs(seconds)
}

fn place(offset: i64) -> Place {
    Place { partition: 0, offset }
}

fn due(id: &str, severity: Severity, ips: &[&str]) -> DueOutput {
    let ips: Vec<_> = ips.iter().map(|text| text.parse().unwrap()).collect();
    let status = if ips.is_empty() { Status::Empty } else { Status::Found };
    DueOutput { alert_id: id.into(), severity, status, ips, at_once: true }
}

fn written(due: Due) -> Written {
    Written { at: at(0), in_storm: true, shape: "alert", due }
}

fn output(id: &str, ips: &[&str], after: i64) -> Output {
    let status = if ips.is_empty() { "empty" } else { "found" };
    let ips = ips.iter().map(|text| text.parse().unwrap()).collect();
    Output { at: at(after), alert_id: id.into(), status: status.into(), ips }
}

fn dead_letter(reason: &str, payload: &[u8]) -> DeadLetter {
    DeadLetter { reason: reason.into(), payload: Some(payload.into()) }
}

/// Four messages: a High alert, a page with a Low alert and an unusable item, one that is skipped, and nonsense.
fn expectations() -> Ledger {
    let mut ledger = Ledger::default();
    let not_json = DueDeadLetter { reason: Reason::NotJson, payload: Some(b"nonsense".to_vec()) };
    let bad_item = DueDeadLetter { reason: Reason::InvalidAlertId, payload: Some(b"[]".to_vec()) };
    let dues = [
        Due { outputs: vec![due("a", Severity::High, &["10.0.0.1"])], dead_letter: None },
        Due { outputs: vec![due("b", Severity::Low, &[])], dead_letter: Some(bad_item) },
        Due::default(),
        Due { outputs: vec![], dead_letter: Some(not_json) },
    ];
    for (offset, due) in (0..).zip(dues) {
        ledger.written(place(offset), written(due));
    }
    ledger
}

fn all_but_high() -> Ledger {
    let mut ledger = expectations();
    ledger.output(place(1), output("b", &[], 9));
    ledger.dead_letter(place(1), dead_letter("invalid_alert_id", b"[]"));
    ledger.dead_letter(place(3), dead_letter("not_json", b"nonsense"));
    ledger
}

fn complete() -> Ledger {
    let mut ledger = all_but_high();
    ledger.output(place(0), output("a", &["10.0.0.1"], 1));
    ledger
}

fn window(worst: usize) -> Window {
    Window { limit: "24 per 2s".parse().unwrap(), calls: 0, worst }
}

/// What a good run leaves behind, but for the ledger.
fn facts(ledger: &Ledger) -> Facts {
    Facts {
        audit: ledger.audit(&BTreeMap::from([(0, 4)])),
        waits: ledger.waits(None, at(0)),
        cut_short: false,
        overloaded: false,
        windows: vec![window(24)],
        violations: Vec::new(),
        freeze: Some(FreezeSeen { calls: 3, in_flight: 4, lasted: Duration::from_secs(5) }),
        drain: Drain { took: Duration::from_secs(1), unfinished: Unfinished::default() },
    }
}

/// The names of the checks that failed.
fn failed(facts: &Facts) -> Vec<String> {
    checks(facts).into_iter().filter(|check| !check.ok).map(|check| check.name).collect()
}

#[test]
fn a_good_run_passes_every_check_and_says_what_it_saw() {
    let checks = checks(&facts(&complete()));
    let lines: Vec<_> = checks.iter().map(Check::line).collect();
    assert_eq!(
        lines,
        [
            "ok      24 per 2s     fullest window the service saw: 24 calls (100 % used)",
            "ok      calls         for nothing but the addresses of well-formed alert ids",
            "ok      records       4 messages in: 2 outputs, 2 dead letters, 1 skipped",
            "ok      delivery      0 lost, 0 twice, 0 unexpected",
            "ok      answers       all as the service planned, 1 with addresses",
            "ok      high first    p95 1.0 s of 1 high alert in the storm; others 9.0 s",
            "ok      429           3 calls met the freeze of 5.0 s (at most 4 on the wire)",
            "ok      stopped       in 1.0 s: all finished, acknowledged and committed",
        ]
    );
}

#[rstest]
#[case::lost_output(all_but_high(), "lost: no output for alert a at partition 0 offset 0")]
#[case::lost_dead_letter(
    {
        let mut ledger = expectations();
        ledger.output(place(0), output("a", &["10.0.0.1"], 1));
        ledger.output(place(1), output("b", &[], 9));
        ledger.dead_letter(place(3), dead_letter("not_json", b"nonsense"));
        ledger
    },
    "lost: no dead letter for partition 0 offset 1"
)]
#[case::output_twice(
    {
        let mut ledger = complete();
        ledger.output(place(0), output("a", &["10.0.0.1"], 2));
        ledger
    },
    "twice: 2 outputs for alert a at partition 0 offset 0"
)]
#[case::dead_letter_twice(
    {
        let mut ledger = complete();
        ledger.dead_letter(place(3), dead_letter("not_json", b"nonsense"));
        ledger
    },
    "twice: 2 dead letters for partition 0 offset 3"
)]
#[case::another_alert(
    {
        let mut ledger = complete();
        ledger.output(place(0), output("c", &[], 1));
        ledger
    },
    "unexpected: an output for alert c, which is not in partition 0 offset 0"
)]
#[case::another_message(
    {
        let mut ledger = complete();
        ledger.output(place(7), output("a", &["10.0.0.1"], 1));
        ledger
    },
    "unexpected: a record about partition 0 offset 7, which was never written"
)]
#[case::dead_letter_of_a_good_message(
    {
        let mut ledger = complete();
        ledger.dead_letter(place(0), dead_letter("poison", b""));
        ledger
    },
    "unexpected: a dead letter for partition 0 offset 0, which is in order"
)]
#[case::output_of_a_skipped_message(
    {
        let mut ledger = complete();
        ledger.output(place(2), output("a", &[], 1));
        ledger
    },
    "unexpected: an output for alert a, which is not in partition 0 offset 2"
)]
#[case::unreadable_record(
    {
        let mut ledger = complete();
        ledger.stranger("something".into());
        ledger
    },
    "unexpected: something"
)]
fn a_record_that_is_not_there_exactly_once_fails(#[case] ledger: Ledger, #[case] anomaly: &str) {
    let facts = facts(&ledger);
    assert_eq!(failed(&facts), ["delivery"]);
    assert_eq!(anomalies(&facts.audit), [anomaly]);
}

#[rstest]
#[case::other_addresses(output("a", &["10.0.0.2"], 1), "10.0.0.2 instead of 10.0.0.1")]
#[case::one_address_too_many(output("a", &["10.0.0.1", "10.0.0.2"], 1), "10.0.0.1, 10.0.0.2 instead of 10.0.0.1")]
#[case::of_a_broken_answer(output("a", &[BAIT], 1), "192.0.2.66 instead of 10.0.0.1")]
#[case::other_status(output("a", &[], 1), "empty instead of found")]
fn an_answer_that_was_not_planned_fails(#[case] output: Output, #[case] words: &str) {
    let mut ledger = all_but_high();
    ledger.output(place(0), output);
    let facts = facts(&ledger);
    assert_eq!(failed(&facts), ["answers"]);
    assert_eq!(anomalies(&facts.audit), [format!("wrong: {words} for alert a at partition 0 offset 0")]);
}

#[rstest]
#[case::other_reason("poison", b"nonsense", "dead letter poison instead of not_json for partition 0 offset 3")]
#[case::cut_payload("not_json", b"nonse", "the dead letter for partition 0 offset 3 is not the original message")]
fn a_dead_letter_that_is_not_the_message_fails(#[case] reason: &str, #[case] payload: &[u8], #[case] words: &str) {
    let mut ledger = expectations();
    ledger.output(place(0), output("a", &["10.0.0.1"], 1));
    ledger.output(place(1), output("b", &[], 9));
    ledger.dead_letter(place(1), dead_letter("invalid_alert_id", b"[]"));
    ledger.dead_letter(place(3), dead_letter(reason, payload));
    let facts = facts(&ledger);
    assert_eq!(failed(&facts), ["answers"]);
    assert_eq!(anomalies(&facts.audit), [format!("wrong: {words}")]);
}

#[test]
fn what_waits_uncommitted_is_no_loss_but_only_where_the_run_was_cut_short() {
    let ledger = all_but_high();
    let mut facts = facts(&ledger);
    facts.audit = ledger.audit(&BTreeMap::from([(0, 0)]));
    assert_eq!((facts.audit.waiting, facts.audit.lost.len()), (2, 0), "the first message and the skipped one");
    assert_eq!(failed(&facts), ["records"]);
    facts.cut_short = true;
    assert_eq!(failed(&facts), Vec::<String>::new());
}

#[test]
fn what_was_committed_without_a_result_is_lost_also_where_the_run_was_cut_short() {
    let mut facts = facts(&all_but_high());
    facts.cut_short = true;
    assert_eq!(failed(&facts), ["delivery"]);
}

#[test]
fn one_call_too_many_in_a_window_fails() {
    let mut facts = facts(&complete());
    facts.windows.push(window(25));
    assert_eq!(failed(&facts), ["24 per 2s"]);
}

#[test]
fn a_call_that_must_not_be_fails() {
    let mut facts = facts(&complete());
    facts.violations =
        vec![Violation { at: BootTime::default(), path: "/api/alerts/../admin".into(), what: Wrong::UnexpectedPath }];
    assert_eq!(failed(&facts), ["calls"]);
}

#[test]
fn a_high_alert_that_waits_out_the_storm_fails() {
    let mut ledger = all_but_high();
    ledger.output(place(0), output("a", &["10.0.0.1"], 3));
    assert_eq!(failed(&facts(&ledger)), ["high first"]);
}

#[test]
fn a_high_alert_that_still_waits_counts_with_its_wait_so_far() {
    let ledger = all_but_high();
    let mut facts = facts(&ledger);
    (facts.cut_short, facts.audit) = (true, ledger.audit(&BTreeMap::new()));
    facts.waits = ledger.waits(None, at(3));
    assert_eq!(failed(&facts), ["high first"]);
    facts.overloaded = true;
    assert_eq!(failed(&facts), Vec::<String>::new());
}

#[test]
fn a_call_more_than_could_be_on_the_wire_breaks_the_freeze() {
    let mut facts = facts(&complete());
    facts.freeze = Some(FreezeSeen { calls: 5, in_flight: 4, lasted: Duration::from_secs(5) });
    assert_eq!(failed(&facts), ["429"]);
}

#[rstest]
#[case::a_record_open(Unfinished { records: 1, ..Unfinished::default() })]
#[case::a_write_open(Unfinished { writes: 1, ..Unfinished::default() })]
#[case::still_in_the_group(Unfinished { still_in_group: true, ..Unfinished::default() })]
fn a_drain_that_leaves_something_fails(#[case] unfinished: Unfinished) {
    let mut facts = facts(&complete());
    facts.drain.unfinished = unfinished;
    assert_eq!(failed(&facts), ["stopped"]);
}

#[test]
fn of_many_anomalies_five_are_told_and_all_are_counted() {
    let mut ledger = complete();
    (0..8).for_each(|n| ledger.stranger(n.to_string()));
    let lines = anomalies(&facts(&ledger).audit);
    assert_eq!(lines.len(), 6);
    assert_eq!(lines[5], "unexpected: and 3 more");
}

#[test]
fn a_high_alert_held_up_by_a_freeze_says_nothing_about_priority() {
    let ledger = complete();
    let held = |from, until| ledger.waits(Some((at(from), at(until))), at(9)).high.len();
    assert_eq!((held(-5, -1), held(0, 3), held(2, 5)), (1, 0, 1));
    assert_eq!(ledger.waits(None, at(9)).others, [Duration::from_secs(9)], "the page with one alert");
}

#[test]
fn a_message_is_due_what_the_world_and_the_plan_say() {
    let answers = [
        ("found", vec![Answer::status(503), Answer::Found(vec!["10.0.0.1\t".into(), "10.0.0.1".into()])]),
        ("unknown", vec![Answer::NotFound]),
        ("refused", vec![Answer::status(400)]),
    ];
    let plan =
        answers.into_iter().fold(Plan::new(1, super::script::MIX), |plan, (id, answers)| plan.script(id, answers));
    let alert = |id: &str, expired| ExpectedAlert { id: id.into(), severity: Severity::Low, expired };
    let message = Message {
        key: None,
        payload: Some(b"x".to_vec()),
        shape: "bare array",
        expected: Expected {
            alerts: vec![alert("found", false), alert("unknown", false), alert("refused", false), alert("old", true)],
            ..Expected::default()
        },
    };
    let due = Due::of(&message, &plan);
    let outputs: Vec<_> = due
        .outputs
        .iter()
        .map(|due| (due.alert_id.as_str(), due.status.as_str(), due.ips.len(), due.at_once))
        .collect();
    assert_eq!(outputs[..2], [("found", "found", 1, false), ("unknown", "not_found", 0, false)]);
    assert_eq!((outputs[2].0, outputs[2].1, outputs.len()), ("old", "expired", 3));
    assert_eq!(due.dead_letter, Some(DueDeadLetter { reason: Reason::Refused, payload: Some(b"x".to_vec()) }));
}

#[rstest]
#[case::nothing(&[], None)]
#[case::one(&[3], Some(3))]
#[case::twenty(&(1..=20).collect::<Vec<_>>(), Some(19))]
#[case::hundred(&(1..=100).rev().collect::<Vec<_>>(), Some(95))]
fn the_95th_percentile_is_the_least_that_95_of_100_do_not_exceed(#[case] waits: &[u64], #[case] expected: Option<u64>) {
    let waits: Vec<_> = waits.iter().copied().map(Duration::from_secs).collect();
    assert_eq!(p95(&waits), expected.map(Duration::from_secs));
}
