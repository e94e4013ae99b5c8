//! What people and programs are shown of a journal written by hand.

use std::time::Duration;

use jiff::Timestamp;
use rstest::rstest;

use super::{history::Unreadable, *};
use crate::domain::{
    alert::{AlertId, Severity},
    audit::{Audit, Summary},
    journal::{Answer, Body, Claim, Entry, EntryId, Freeze, InvalidMessage, Reached, WriterId},
    outcome::{Outcome, Status},
    related_ips::RelatedIps,
    terms::Terms,
};

const SINCE: &str = "2026-11-23T18:00:00Z";

/// Milliseconds after [`SINCE`].
fn at(millis: u64) -> JournalTime {
    journal_time(SINCE.parse().unwrap()) + Duration::from_millis(millis)
}

struct Journal {
    audit: Audit,
    offset: i64,
}

impl Journal {
    fn new(audit: Audit) -> Self {
        Self { audit, offset: 0 }
    }

    fn write(&mut self, millis: u64, host: u64, body: Body) -> EntryId {
        self.offset += 1;
        let id = EntryId { writer: WriterId(host), number: self.offset.unsigned_abs() };
        let instance = format!("host-{host}").into();
        self.audit.apply(self.offset, at(millis), &Entry { id, instance, body });
        id
    }

    fn claim(&mut self, millis: u64, host: u64, about: &str, severity: Severity) -> (EntryId, AlertId) {
        let alert = AlertId::parse(about).unwrap();
        let claim = Claim { alert: alert.clone(), severity, reserved: true, highs_wait: false };
        (self.write(millis, host, Body::Claim(claim)), alert)
    }

    fn answer(
        &mut self,
        millis: u64,
        claim: &(EntryId, AlertId),
        reached: Reached,
        status: u16,
        outcome: Option<Status>,
    ) {
        let retrieved_at = Timestamp::MIN;
        let outcome = outcome.map(|status| Outcome { status, ips: RelatedIps::default(), retrieved_at });
        let (claim, alert) = claim.clone();
        let status = (status != 0).then_some(status);
        self.write(millis, claim.writer.0, Body::Answer(Answer { claim, alert, reached, status, outcome }));
    }

    fn freeze(&mut self, millis: u64, host: u64, seconds: u64, why: &str) {
        self.write(millis, host, Body::Freeze(Freeze { lasts: Duration::from_secs(seconds), why: why.into() }));
    }
}

/// A minute of everything.
fn minute() -> Journal {
    use Reached::{Complete, Never, Unknown, Unused};
    let mut journal = Journal::new(Audit::from_the_beginning(at(0)));
    journal.write(0, 1, Body::Terms(Terms::example()));
    journal.write(10, 2, Body::Terms(Terms { share: 0.5, ..Terms::example() }));
    let first = journal.claim(1_000, 1, "da637551227677560813_-961444813", Severity::High);
    journal.answer(1_412, &first, Complete, 200, Some(Status::Found));
    let early = journal.claim(2_000, 2, "da2_2", Severity::Low);
    // Refused: it is being asked about.
    journal.claim(2_100, 1, "da2_2", Severity::Low);
    journal.answer(2_080 + 100, &early, Complete, 404, None);
    let throttled = journal.claim(3_000, 1, "da3_3", Severity::Medium);
    journal.answer(3_050, &throttled, Complete, 429, None);
    journal.freeze(3_060, 1, 30, "the API is throttling (429)\n and asks to wait 30s");
    journal.freeze(4_000, 2, 0, "host-2: an operator says that nothing was spent");
    let again = journal.claim(5_000, 1, "da3_3", Severity::Medium);
    journal.answer(35_000, &again, Unknown, 0, None);
    let page = journal.claim(36_000, 2, "da2_2", Severity::Low);
    journal.answer(36_200, &page, Complete, 200, None);
    let rest = journal.claim(36_300, 2, "da2_2", Severity::Low);
    journal.answer(36_500, &rest, Complete, 200, Some(Status::Empty));
    let repeat = journal.claim(40_000, 2, "da2_2", Severity::Low);
    journal.answer(40_100, &repeat, Never, 0, None);
    let unused = journal.claim(41_000, 2, "da2_2", Severity::Low);
    journal.answer(51_000, &unused, Unused, 0, None);
    journal.claim(59_000, 1, "da5_5", Severity::High);
    journal.audit.give_up(at(60_000));
    journal
}

fn told(journal: &Journal, now: u64, unreadable: &Unreadable) -> (String, Summary) {
    let summary = journal.audit.summary(at(now), &["100 per 1m".parse().unwrap()]);
    let columns = Columns::fitting(&journal.audit);
    (text::history("contoso", &journal.audit, columns, &summary, unreadable), summary)
}

#[test]
fn people_are_told_each_call_and_freeze_and_the_period_in_numbers() {
    insta::assert_snapshot!(told(&minute(), 60_000, &Unreadable::default()).0, @r#"
    CLAIMED                   INSTANCE  ALERT                            SEVERITY       WHY                    RESULT
    2026-11-23T18:00:01.000Z  host-1    da637551227677560813_-961444813  high           first question         200 found in 412ms
    2026-11-23T18:00:02.000Z  host-2    da2_2                            low            first question         404 in 180ms
    2026-11-23T18:00:03.000Z  host-1    da3_3                            medium         first question         429 in 50ms
    2026-11-23T18:00:03.060Z  host-1    FROZEN until 2026-11-23T18:00:04.000Z: the API is throttling (429)\n and asks to wait 30s
    2026-11-23T18:00:04.000Z  host-2    UNFROZEN: host-2: an operator says that nothing was spent
    2026-11-23T18:00:05.000Z  host-1    da3_3                            medium         again after a failure  no answer in 30s; the service may have counted it
    2026-11-23T18:00:36.000Z  host-2    da2_2                            low            again after a 404      200 unfinished in 200ms
    2026-11-23T18:00:36.300Z  host-2    da2_2                            low            goes on after a 2xx    200 empty in 200ms
    2026-11-23T18:00:40.000Z  host-2    da2_2                            low            repeat                 not reached in 100ms; not counted
    2026-11-23T18:00:41.000Z  host-2    da2_2                            low            repeat                 permit not used in 10s; not counted
    2026-11-23T18:00:59.000Z  host-1    da5_5                            high           first question         on the wire

    account contoso, 2026-11-23T18:00:00.000Z to 2026-11-23T18:01:00.000Z
      fullest windows  at most 7 of 50 calls in 1m, up to 2026-11-23T18:00:59.000Z
                       at most 7 of 750 calls in 1h, up to 2026-11-23T18:00:59.000Z
      calls            7: 4 for the first time, 1 again after a 404, 1 again after a failure, 1 to go on after a 2xx
      by instance      4 host-1, 3 host-2
      results          1 found, 1 empty, 1 not there yet (404), 1 unfinished (2xx), 1 failed (1 x 429), 1 without an answer, 1 on the wire
      not counted      1 did not reach the service, 1 unused
      refused claims   1
      free now         50 per 1m: 7 taken; 35 for high alerts, 34 for others
                       750 per 1h: 7 taken; 735 for high alerts, 727 for others
                       next slot: for high alerts now, for others now
                       1 in flight
      terms            host-1: 100 per 1m and 1500 per 1h, reserve 0.01, 8 in flight
                       host-2: 100 per 1m and 1500 per 1h, share 0.5, reserve 0.01, 8 in flight
      journal          0 checkpoints
    "#);
}

#[test]
fn programs_are_told_the_same_with_stable_names() {
    let journal = minute();
    let summary = told(&journal, 60_000, &Unreadable::default()).1;
    let lines: Vec<_> = json::history("contoso", &journal.audit).collect();
    insta::assert_snapshot!([&lines[0], &lines[3], &lines[9]].map(String::as_str).join("\n"), @r#"
    {"kind":"call","account":"contoso","claim":"0000000000000001/3","claimed_at":"2026-11-23T18:00:01.000Z","answered_at":"2026-11-23T18:00:01.412Z","took_ms":412,"instance":"host-1","alert_id":"da637551227677560813_-961444813","severity":"high","why":"first","result":"found","reached":"complete","http_status":200,"divergent":false}
    {"kind":"call","account":"contoso","claim":"0000000000000001/12","claimed_at":"2026-11-23T18:00:05.000Z","answered_at":"2026-11-23T18:00:35.000Z","took_ms":30000,"instance":"host-1","alert_id":"da3_3","severity":"medium","why":"after_failure","result":"unknown","reached":"unknown","http_status":null,"divergent":false}
    {"kind":"freeze","account":"contoso","from":"2026-11-23T18:00:03.060Z","until":"2026-11-23T18:00:04.000Z","instance":"host-1","why":"the API is throttling (429)\n and asks to wait 30s","lifts":false}
    "#);
    insta::assert_snapshot!(json::summary("contoso", &summary, &Unreadable::default()), @r#"{"kind":"summary","account":"contoso","since":"2026-11-23T18:00:00.000Z","until":"2026-11-23T18:01:00.000Z","read_from":"2026-11-23T18:00:00.000Z","calls":7,"why":{"after_404":1,"after_failure":1,"after_unfinished":1,"first":4,"repeat":0,"unknown":0},"results":{"empty":1,"failed":1,"found":1,"never":1,"not_yet":1,"open":1,"unfinished":1,"unknown":1,"unused":1},"failures":{"429":1},"instances":{"host-1":4,"host-2":3},"refused_claims":1,"divergent_calls":0,"unruled_claims":0,"checkpoints":0,"carried_checkpoints":0,"copies":0,"unreadable_messages":0,"newest_version":null,"limits":[{"calls":50,"per_seconds":60.0,"fullest":7,"fullest_until":"2026-11-23T18:00:59.000Z","taken":7,"free_for_high":35,"free_for_others":34},{"calls":750,"per_seconds":3600.0,"fullest":7,"fullest_until":"2026-11-23T18:00:59.000Z","taken":7,"free_for_high":735,"free_for_others":727}],"in_flight":1,"frozen_until":null,"next_slot":{"high":"2026-11-23T18:01:00.000Z","others":"2026-11-23T18:01:00.000Z"},"terms":[{"instance":"host-1","writer":"0000000000000001","limits":["100 per 1m","1500 per 1h"],"share":1.0,"reserve":0.01,"max_in_flight":8,"superseded_at":null,"seen_at":"2026-11-23T18:00:59.000Z"},{"instance":"host-2","writer":"0000000000000002","limits":["100 per 1m","1500 per 1h"],"share":0.5,"reserve":0.01,"max_in_flight":8,"superseded_at":null,"seen_at":"2026-11-23T18:00:51.000Z"}]}"#);
}

#[test]
fn an_empty_journal_is_said_to_be_empty() {
    let journal = Journal::new(Audit::from_the_beginning(at(0)));
    insta::assert_snapshot!(told(&journal, 0, &Unreadable::default()).0, @r#"
    account contoso, 2026-11-23T18:00:00.000Z to 2026-11-23T18:00:00.000Z
      fullest windows  no call of 100 per 1m
      calls            none
      refused claims   none
      free now         nothing: no instance has declared what it holds itself to
                       0 in flight
      terms            none are in force: no instance has declared any
      journal          0 checkpoints
      NOTE             the journal holds no entry of this account
    "#);
}

#[test]
fn what_weakens_the_audit_is_said_at_its_end() {
    let mut journal = Journal::new(Audit::from_the_middle(at(0)));
    let claim = journal.claim(10_000, 1, "da1_1", Severity::High);
    journal.answer(11_000, &claim, Reached::Complete, 200, Some(Status::Found));
    let mut unreadable = Unreadable::default();
    unreadable.note(7, &InvalidMessage::Newer(2));
    insta::assert_snapshot!(told(&journal, 20_000, &unreadable).0, @r#"
    CLAIMED                   INSTANCE  ALERT  SEVERITY       WHY                    RESULT
    2026-11-23T18:00:10.000Z  host-1    da1_1  high           first question         200 found in 1s

    account contoso, 2026-11-23T18:00:00.000Z to 2026-11-23T18:00:20.000Z
      fullest windows  at most 1 of 100 calls in 1m, up to 2026-11-23T18:00:10.000Z
      calls            1: 1 for the first time
      by instance      1 host-1
      results          1 found
      refused claims   none
      terms            none are in force: no instance has declared any
      journal          0 checkpoints
      NOTE             the journal was read from 2026-11-23T18:00:10.000Z on; what was spent before is not in these numbers
      NOTE             no checkpoint was read, so it is not known which claims were granted, nor what is free: what is told are the claims that were answered
      NOTE             1 message can't be read; the first, 7: it is of version 2, and this program knows up to 1; update this instance
      NOTE             what messages of version 2 decide this program can't know, so what is told above may be wrong; update this alert-ips
    "#);
}

#[test]
fn a_call_on_a_refused_claim_stands_out() {
    let mut journal = Journal::new(Audit::from_the_beginning(at(0)));
    let claim = journal.claim(10_000, 1, "da1_1", Severity::High);
    journal.answer(11_000, &claim, Reached::Complete, 200, Some(Status::Found));
    let (text, _) = told(&journal, 20_000, &Unreadable::default());
    assert!(text.contains("200 found in 1s (DIVERGENT: its claim was refused)"), "{text}");
    assert!(text.contains("NOTE             1 call was made on a claim that was refused"), "{text}");
}

#[test]
fn a_freeze_that_holds_is_said_to_leave_nothing_free() {
    let mut journal = minute();
    journal.freeze(60_000, 1, 90, "429");
    let (text, _) = told(&journal, 70_000, &Unreadable::default());
    assert!(text.contains("nothing: frozen until 2026-11-23T18:02:30.000Z (for 1m 20s more)"), "{text}");
}

#[test]
fn who_follows_several_accounts_is_told_whose_each_line_is() {
    let journal = minute();
    let (columns, calls) = (Columns::fitting(&journal.audit), journal.audit.calls());
    let line = text::call(Some("contoso"), calls[0], columns);
    assert!(line.starts_with("contoso  2026-11-23T18:00:01.000Z  host-1"), "{line}");
    let line = text::pause(Some("contoso"), journal.audit.pauses().next().unwrap(), columns);
    assert!(line.starts_with("contoso  2026-11-23T18:00:03.060Z  host-1"), "{line}");
}

#[rstest]
#[case::ago("24h", Some("2026-11-22T18:00:00Z"))]
#[case::mixed("1h 30m", Some("2026-11-23T16:30:00Z"))]
#[case::time("2026-11-20T00:00:00Z", Some("2026-11-20T00:00:00Z"))]
#[case::other_zone("2026-11-20T02:00:00+02:00", Some("2026-11-20T00:00:00Z"))]
#[case::for_ever("100years", Some("1970-01-01T00:00:00Z"))]
#[case::future("2026-11-24T00:00:00Z", None)]
fn the_period_begins_at_a_time_in_the_past(#[case] text: &str, #[case] expected: Option<&str>) {
    let begins = begin(Some(since(text).unwrap()), SINCE.parse().unwrap(), &[]);
    assert_eq!(begins, expected.map(|time| time.parse().unwrap()));
}

#[rstest]
#[case::no_unit("24")]
#[case::no_time("yesterday")]
#[case::no_zone("2026-11-24T00:00:00")]
fn what_is_no_time_is_refused_with_examples(#[case] text: &str) {
    assert!(since(text).unwrap_err().contains("24h"));
}
