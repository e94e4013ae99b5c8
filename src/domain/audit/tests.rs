//! Journals written by hand, and what the audit makes of them.

use rstest::rstest;

use super::*;
use crate::domain::{
    alert::Severity,
    journal::{Freeze, Reached},
    limit::Limit,
    outcome::{Outcome, Status},
    related_ips::RelatedIps,
};

const HOST_1: WriterId = WriterId(1);
const HOST_2: WriterId = WriterId(2);

fn at(second: u64) -> JournalTime {
    JournalTime::from_origin(Duration::from_secs(second))
}

fn alert(number: u32) -> AlertId {
    AlertId::parse(&format!("da{number}_1")).unwrap()
}

/// A journal that is written and audited at the same time.
struct Journal {
    audit: Audit,
    numbers: BTreeMap<WriterId, u64>,
    entries: Vec<(i64, JournalTime, Entry)>,
    /// Before it an entry is written but not read.
    read_from: i64,
}

impl Journal {
    fn new(since: u64) -> Self {
        Self::read(Audit::from_the_beginning(at(since)), 0)
    }

    fn read(audit: Audit, read_from: i64) -> Self {
        Self { audit, numbers: BTreeMap::new(), entries: Vec::new(), read_from }
    }

    fn write(&mut self, second: u64, writer: WriterId, body: Body) -> EntryId {
        let number = self.numbers.entry(writer).or_default();
        *number += 1;
        let id = EntryId { writer, number: *number };
        let instance = format!("host-{}", writer.0).into();
        self.put(second, Entry { id, instance, body });
        id
    }

    fn put(&mut self, second: u64, entry: Entry) {
        let offset = i64::try_from(self.entries.len()).unwrap();
        if offset >= self.read_from {
            self.audit.apply(offset, at(second), &entry);
        }
        self.entries.push((offset, at(second), entry));
    }

    fn terms(&mut self, second: u64, writer: WriterId) {
        self.write(second, writer, Body::Terms(Terms::example()));
    }

    fn claim(&mut self, second: u64, writer: WriterId, about: u32) -> EntryId {
        let claim = Claim { alert: alert(about), severity: Severity::High, reserved: true, highs_wait: false };
        self.write(second, writer, Body::Claim(claim))
    }

    fn answer(&mut self, second: u64, claim: EntryId, about: u32, said: Said) {
        let Said(reached, status, outcome) = said;
        let outcome =
            outcome.map(|status| Outcome { status, ips: RelatedIps::default(), retrieved_at: jiff::Timestamp::MIN });
        let answer = Answer { claim, alert: alert(about), reached, status, outcome };
        self.write(second, claim.writer, Body::Answer(answer));
    }

    fn asked(&mut self, second: u64, writer: WriterId, about: u32, said: Said) {
        let claim = self.claim(second, writer, about);
        self.answer(second + 1, claim, about, said);
    }

    fn checkpoint(&mut self, second: u64, writer: WriterId, as_of: i64) {
        let mut budget = Budget::default();
        for (_, at, entry) in self.entries.iter().filter(|(offset, ..)| *offset <= as_of) {
            budget.apply(*at, entry);
        }
        self.write(second, writer, Body::Checkpoint(Box::new(budget.checkpoint(Some(as_of)))));
    }

    fn summary(&self, second: u64) -> Summary {
        self.audit.summary(at(second), &[])
    }

    /// Of each call of the period: the alert, why, what it led to.
    fn calls(&self) -> Vec<(String, Cause, Yield)> {
        let calls = self.audit.calls();
        calls.into_iter().map(|call| (call.alert.to_string(), call.cause, call.led_to())).collect()
    }
}

/// What an answer's entry says.
#[derive(Clone, Copy)]
struct Said(Reached, Option<u16>, Option<Status>);

const FOUND: Said = Said(Reached::Complete, Some(200), Some(Status::Found));
const PAGE: Said = Said(Reached::Complete, Some(200), None);
const NOT_YET: Said = Said(Reached::Complete, Some(404), None);
const GONE: Said = Said(Reached::Complete, Some(404), Some(Status::NotFound));
const THROTTLED: Said = Said(Reached::Complete, Some(429), None);
const TIMED_OUT: Said = Said(Reached::Unknown, None, None);
const NO_CONNECTION: Said = Said(Reached::Never, None, None);
const UNUSED: Said = Said(Reached::Unused, None, None);

#[rstest]
#[case::answered(FOUND, Cause::Repeat)]
#[case::not_found_for_good(GONE, Cause::Repeat)]
#[case::not_there_yet(NOT_YET, Cause::AfterNotFound)]
#[case::further_pages(PAGE, Cause::AfterUnfinished)]
#[case::throttled(THROTTLED, Cause::AfterFailure)]
#[case::timed_out(TIMED_OUT, Cause::AfterFailure)]
#[case::never_reached(NO_CONNECTION, Cause::First)]
#[case::given_back(UNUSED, Cause::First)]
fn why_a_call_is_made_follows_from_the_one_before_it(#[case] before: Said, #[case] cause: Cause) {
    let mut journal = Journal::new(0);
    journal.terms(100, HOST_1);
    journal.terms(100, HOST_2);
    journal.asked(101, HOST_1, 1, before);
    journal.asked(200, HOST_2, 1, FOUND);
    let calls = journal.calls();
    assert_eq!((calls[0].1, calls[1].1), (Cause::First, cause));
}

#[test]
fn the_calls_of_the_period_are_counted_by_cause_result_and_instance() {
    let mut journal = Journal::new(1_000);
    journal.terms(900, HOST_1);
    journal.terms(900, HOST_2);
    journal.asked(910, HOST_1, 1, NOT_YET);
    // The period.
    journal.asked(1_000, HOST_1, 1, FOUND);
    journal.asked(1_010, HOST_2, 2, THROTTLED);
    journal.asked(1_020, HOST_2, 2, FOUND);
    journal.asked(1_030, HOST_1, 3, NO_CONNECTION);
    journal.asked(1_040, HOST_1, 3, UNUSED);
    let summary = journal.summary(1_100);
    assert_eq!(summary.calls, 3);
    assert_eq!(summary.causes, [(Cause::First, 1), (Cause::AfterNotFound, 1), (Cause::AfterFailure, 1)].into());
    let results = [(Yield::Outcome(Status::Found), 2), (Yield::Failed, 1), (Yield::Never, 1), (Yield::Unused, 1)];
    assert_eq!(summary.results, results.into());
    assert_eq!(summary.failures, [(Some(429), 1)].into());
    assert_eq!(summary.instances, [(Some("host-1".into()), 1), (Some("host-2".into()), 2)].into());
}

#[test]
fn a_refused_claim_is_no_call_and_a_copy_of_an_entry_none_either() {
    let mut journal = Journal::new(0);
    journal.terms(100, HOST_1);
    let claim = journal.claim(101, HOST_1, 1);
    let copy = journal.entries[1].2.clone();
    journal.put(101, copy);
    // Without terms of its own.
    journal.claim(102, HOST_2, 2);
    journal.answer(103, claim, 1, FOUND);
    let summary = journal.summary(110);
    assert_eq!((summary.calls, summary.refused, summary.copies, summary.divergent), (1, 1, 1, 0));
}

#[test]
fn a_call_on_a_refused_claim_is_a_divergence_and_counts() {
    let mut journal = Journal::new(0);
    let claim = journal.claim(102, HOST_2, 2);
    journal.answer(103, claim, 2, FOUND);
    let summary = journal.summary(110);
    assert_eq!((summary.calls, summary.divergent), (1, 1));
    assert_eq!(journal.audit.calls()[0].severity, Some(Severity::High));
}

#[test]
fn a_call_without_an_answer_is_given_up_and_an_answer_that_comes_late_still_told() {
    let mut journal = Journal::new(0);
    journal.terms(100, HOST_1);
    let claim = journal.claim(101, HOST_1, 1);
    assert_eq!(journal.calls()[0].2, Yield::Open);
    journal.audit.give_up(at(145));
    assert_eq!(journal.calls()[0].2, Yield::Open);
    journal.audit.give_up(at(146));
    assert_eq!(journal.calls()[0].2, Yield::GivenUp);
    assert_eq!(journal.audit.call(claim).unwrap().span(), (at(101), at(146)));
    journal.answer(400, claim, 1, FOUND);
    assert_eq!(journal.audit.call(claim).unwrap().span(), (at(101), at(400)));
    let ended = vec![News::Ended(claim), News::Ended(claim)];
    assert_eq!(journal.audit.take_news(), ended);
    assert_eq!(journal.audit.take_news(), []);
}

#[test]
fn the_fullest_window_of_each_limit_counts_a_call_from_its_claim_to_its_answer() {
    let mut journal = Journal::new(0);
    journal.terms(1_000, HOST_1);
    for (begun, ended) in [(1_000, 1_001), (1_010, 1_040), (1_099, 1_101), (1_105, 1_106)] {
        let claim = journal.claim(begun, HOST_1, u32::try_from(begun).unwrap());
        journal.answer(ended, claim, u32::try_from(begun).unwrap(), FOUND);
    }
    let limits = journal.summary(1_106).limits;
    let fullest: Vec<_> = limits.iter().map(|limited| limited.fullest.unwrap()).collect();
    assert_eq!(fullest[0], Fullest { calls: 2, until: at(1_010) }, "and again at 1099 and 1105");
    assert_eq!(fullest[1], Fullest { calls: 4, until: at(1_105) });
    assert_eq!(limits[0].now, Some((2, 90, 89)));
}

#[test]
fn the_fullest_windows_are_those_of_the_configured_limits_where_no_terms_are_in_force() {
    let mut journal = Journal::new(0);
    let claim = journal.claim(102, HOST_2, 2);
    journal.answer(103, claim, 2, FOUND);
    let limit: Limit = "20 per 10s".parse().unwrap();
    let limits = journal.audit.summary(at(110), &[limit]).limits;
    assert_eq!(limits, [Limited { limit, fullest: Some(Fullest { calls: 1, until: at(102) }), now: None }]);
}

#[test]
fn a_freeze_is_told_with_its_end_its_reason_and_who_lifted_it() {
    let mut journal = Journal::new(150);
    let freeze = |lasts, why: &str| Body::Freeze(Freeze { lasts: Duration::from_secs(lasts), why: why.into() });
    journal.write(100, HOST_1, freeze(10, "over before the period"));
    journal.write(200, HOST_1, freeze(3_600, "429"));
    journal.write(260, HOST_2, freeze(0, "an operator"));
    let pauses: Vec<_> = journal.audit.pauses().cloned().collect();
    let pause = |from, until, who: &str, why: &str| Pause {
        from: Some(at(from)),
        until: at(until),
        by: Some((who.into(), why.into())),
    };
    assert_eq!(pauses, [pause(200, 260, "host-1", "429"), pause(260, 260, "host-2", "an operator")]);
    assert!(!pauses[0].is_end() && pauses[1].is_end());
    assert_eq!(journal.summary(270).free.unwrap().frozen_until, None);
}

/// Two instances at work; a checkpoint of the entries up to the one with `as_of` comes as the last entry but a few.
fn busy(mut journal: Journal, as_of: i64) -> Journal {
    journal.terms(100, HOST_1);
    journal.terms(101, HOST_2);
    journal.asked(102, HOST_1, 1, NOT_YET);
    journal.asked(104, HOST_2, 2, FOUND);
    let open = journal.claim(110, HOST_1, 3);
    journal.claim(111, HOST_2, 3);
    journal.checkpoint(120, HOST_2, as_of);
    journal.answer(125, open, 3, FOUND);
    journal.asked(130, HOST_2, 1, FOUND);
    journal
}

#[test]
fn an_audit_from_a_checkpoint_rules_as_the_whole_one() {
    let whole = busy(Journal::new(120), 7);
    let Body::Checkpoint(checkpoint) = &whole.entries[8].2.body else { panic!("the checkpoint has moved") };
    let from = checkpoint.offset.unwrap() + 1;
    let part = busy(Journal::read(Audit::from_checkpoint(at(120), checkpoint), from), 7);
    assert_eq!(part.audit.budget().checkpoint(None), whole.audit.budget().checkpoint(None));
    // What was before is not known: neither the claim that was answered later, nor the question that was asked.
    assert_eq!(
        part.calls(),
        [
            ("da3_1".to_owned(), Cause::Unknown, Yield::Outcome(Status::Found)),
            ("da1_1".to_owned(), Cause::First, Yield::Outcome(Status::Found)),
        ]
    );
    assert_eq!(whole.calls(), [("da1_1".to_owned(), Cause::AfterNotFound, Yield::Outcome(Status::Found))]);
}

/// Where the journal's beginning is gone, the first checkpoint tells how things stood; a claim before it is a call if it was
/// answered or is open.
#[rstest]
#[case::checkpoint_of_all_before_it(7, 1)]
#[case::older_than_the_claims_before_it(3, 1)]
fn an_audit_from_the_middle_rules_as_the_whole_one_from_its_first_checkpoint_on(
    #[case] as_of: i64,
    #[case] refused: usize,
) {
    let whole = busy(Journal::new(0), as_of);
    let middle = busy(Journal::read(Audit::from_the_middle(at(0)), 2), as_of);
    assert_eq!(middle.audit.budget().checkpoint(None), whole.audit.budget().checkpoint(None));
    assert_eq!(middle.calls(), whole.calls());
    let [middle, whole] = [middle, whole].map(|journal| journal.summary(140));
    assert_eq!((middle.refused, middle.divergent, middle.unruled), (refused, 0, 0));
    assert_eq!((middle.calls, &middle.causes), (whole.calls, &whole.causes));
}

#[test]
fn what_is_free_is_said_only_once_the_rulings_are_known() {
    let journal = busy(Journal::read(Audit::from_the_middle(at(0)), 2), 7);
    let free = journal.summary(140).free.unwrap();
    assert_eq!((free.in_flight, free.frozen_until), (0, None));
    assert!(free.next.is_some());
    let mut unruled = Journal::read(Audit::from_the_middle(at(0)), 0);
    unruled.terms(100, HOST_1);
    unruled.claim(101, HOST_1, 1);
    unruled.audit.give_up(at(1_000));
    let summary = unruled.summary(1_000);
    assert_eq!((summary.free, summary.calls, summary.unruled), (None, 0, 1));
}

#[test]
fn terms_are_in_force_until_no_call_of_their_writer_can_hold_a_slot() {
    let mut journal = Journal::new(0);
    journal.terms(100, HOST_1);
    let memory = Terms::example().memory().as_secs();
    for (second, in_force) in [(100 + memory, true), (102 + memory, false)] {
        let summary = journal.summary(second);
        assert_eq!((summary.terms.len() == 1, summary.free.unwrap().next.is_some()), (in_force, in_force));
    }
}

#[test]
fn a_journal_that_was_created_anew_is_told_as_that() {
    let mut before = Journal::new(0);
    before.terms(100, HOST_1);
    before.asked(101, HOST_1, 1, FOUND);
    let carried = Box::new(before.audit.budget().checkpoint(None));
    let mut journal = Journal::new(0);
    journal.write(200, HOST_2, Body::Checkpoint(carried));
    let summary = journal.summary(210);
    assert_eq!((summary.carried, summary.checkpoints, summary.calls), (1, 0, 0));
    assert_eq!(summary.limits[1].now.map(|(taken, ..)| taken), Some(1), "the budget knows it");
}

#[test]
fn terms_in_force_are_told_with_their_instances() {
    let mut journal = Journal::new(0);
    journal.terms(100, HOST_1);
    let other = Terms { share: 0.5, ..Terms::example() };
    journal.write(200, HOST_1, Body::Terms(other));
    let terms = journal.summary(300).terms;
    let told: Vec<_> = terms.iter().map(|t| (t.instance.as_deref(), t.terms.share, t.superseded, t.seen)).collect();
    assert_eq!(told, [(Some("host-1"), 1.0, Some(at(200)), Some(at(200))), (Some("host-1"), 0.5, None, Some(at(200)))]);
}

#[test]
fn who_follows_for_long_keeps_only_the_last_period() {
    let mut journal = Journal::new(0);
    for hour in 0..10 {
        journal.terms(hour * 3_600, HOST_1);
        journal.asked(hour * 3_600, HOST_1, 1, FOUND);
    }
    journal.audit.forget_before(at(9 * 3_600));
    assert_eq!(journal.calls().len(), 1);
    assert!(journal.audit.calls.len() <= 2, "those of the longest window before the period are kept");
}
