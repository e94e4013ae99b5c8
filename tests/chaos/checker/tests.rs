//! The judge on trial: a clean history, and for each thing that can be wrong one that has just that.

use std::collections::BTreeSet;

use rstest::rstest;

use super::{
    super::history::{
        Alert, Answer, Call, Delivery, Fact, FaultKind, Limit, Line, Process, Read, Reading, Sample, Seeded, Terms,
        Topic, TopicEnd,
    },
    Kind, judge,
};

const SECOND: u64 = 1_000_000_000;

fn line(millis: u64, fact: Fact) -> Line {
    Line { at: 100 * SECOND + millis * 1_000_000, fact }
}

fn seeded(place: (i32, i64), ids: &[&str], rejection: Option<&str>) -> Line {
    let alerts = ids.iter().map(|id| Alert { id: (*id).to_owned(), expired: *id == "old" }).collect();
    let shape = "hand-made".to_owned();
    line(0, Fact::Seeded(Seeded { place, shape, alerts, rejection: rejection.map(str::to_owned) }))
}

fn answer(alert: &str, status: &str, ips: &[&str], earlier: usize) -> Line {
    let ips = ips.iter().map(|ip| (*ip).to_owned()).collect();
    line(0, Fact::Answer(Answer { alert: alert.into(), status: status.into(), ips, earlier }))
}

fn call(millis: u64, alert: &str) -> Line {
    let path = format!("/api/alerts/{alert}/ips");
    line(millis, Fact::Call(Call { path, instance: None, status: Some(200) }))
}

fn read(millis: u64, offset: i64, source: &str, alert: &str, status: &str, ips: &[&str]) -> Line {
    let ips = ips.iter().map(|ip| (*ip).to_owned()).collect();
    line(
        millis,
        Fact::Read(Read {
            reading: Reading::During,
            topic: Topic::Output,
            partition: 0,
            offset,
            source: format!("in/{source}"),
            alert: Some(alert.into()),
            status: status.into(),
            ips,
        }),
    )
}

fn dead_letter(millis: u64, source: &str, reason: &str) -> Line {
    let mut line = read(millis, 0, source, "", reason, &[]);
    change_read(&mut line, |read| (read.topic, read.alert) = (Topic::DeadLetters, None));
    line
}

/// Both partitions committed at these offsets, with this metadata for the first; and the ends of output and dead letters.
fn sample(millis: u64, committed: [i64; 2], metadata: &str, ends: [i64; 2]) -> Line {
    let committed = vec![(0, committed[0], metadata.to_owned()), (1, committed[1], String::new())];
    let end = |(topic, end)| TopicEnd { topic, partition: 0, stable: end, written: end };
    let ends = [Topic::Output, Topic::DeadLetters].into_iter().zip(ends).map(end).collect();
    line(millis, Fact::Sample(Sample { asked: line(millis - 5, Fact::ReadAll).at, committed, ends }))
}

fn terms() -> Terms {
    Terms {
        seed: 1,
        protocol: "cooperative".into(),
        delivery: Delivery::AtLeastOnce,
        input: "in".into(),
        limits: vec![Limit { calls: 3, per_ms: 1_000 }],
        max_in_flight: 2,
        max_open: 4,
        instances: 1,
        claim_ms: 10_000,
        session_ms: 10_000,
        recovery_ms: 60_000,
        stop_ms: 30_000,
        memory_kib: 1_000,
        descriptors: 50,
        threads: 20,
    }
}

fn process(millis: u64, memory_kib: u64) -> Line {
    let instance = "one".to_owned();
    line(millis, Fact::Process(Process { instance, pid: 7, memory_kib, descriptors: 50, threads: 20 }))
}

fn ended(millis: u64, code: Option<i32>) -> Line {
    let asked = Some(line(100_000, Fact::ReadAll).at);
    line(millis, Fact::Ended { instance: "one".into(), asked, code, panicked: false })
}

/// Two partitions and everything that may be in a history, a repeat after a kill included.
fn clean() -> Vec<Line> {
    let mut lines = vec![
        line(0, Fact::Terms(terms())),
        seeded((0, 0), &["slow"], None),
        seeded((0, 1), &["b", "c"], None),
        seeded((0, 2), &[], Some("not_json")),
        seeded((0, 3), &[], None),
        seeded((1, 0), &["old"], None),
        seeded((1, 1), &["b"], None),
        seeded((1, 2), &["d", "b"], Some("invalid_alert_id")),
        answer("slow", "found", &["192.0.2.1"], 1),
        answer("b", "found", &["192.0.2.7 ", "2001:DB8::1", "192.0.2.7"], 0),
        answer("c", "not_found", &[], 3),
        answer("d", "empty", &[], 0),
    ];
    lines.extend([
        call(1_000, "slow"),
        call(1_400, "b"),
        call(1_800, "c"),
        call(2_000, "c"),
        call(2_500, "c"),
        call(2_900, "c"),
        call(3_100, "d"),
        // What the kill cost.
        call(9_000, "d"),
        call(9_500, "slow"),
        call(10_400, "slow"),
    ]);
    let b = ["192.0.2.7", "2001:db8::1"];
    let mut reads = vec![
        read(1_100, 0, "1/0/0", "old", "expired", &[]),
        read(1_500, 1, "0/1/0", "b", "found", &b),
        read(1_600, 2, "1/1/0", "b", "found", &b),
        dead_letter(1_700, "0/2", "not_json"),
        read(3_000, 3, "0/1/1", "c", "not_found", &[]),
        read(3_200, 4, "1/2/0", "d", "empty", &[]),
        read(9_100, 5, "1/2/0", "d", "empty", &[]),
        read(9_200, 6, "1/2/1", "b", "found", &b),
        dead_letter(9_300, "1/2", "invalid_alert_id"),
        read(10_500, 7, "0/0/0", "slow", "found", &["192.0.2.1"]),
    ];
    change_read(&mut reads[8], |read| read.offset = 1);
    lines.extend([
        sample(1_900, [0, 2], "alert-ips/1:M", [3, 1]),
        // 0/1 to 0/3 are settled, 0/0 is open.
        sample(3_100, [0, 2], "alert-ips/1:O", [4, 1]),
        line(4_000, Fact::Begin { fault: 1, kind: FaultKind::Kill, target: "one".into() }),
        line(6_000, Fact::End { fault: 1 }),
        sample(8_000, [0, 2], "alert-ips/1:O", [5, 1]),
        sample(11_000, [4, 3], "", [8, 2]),
        process(3_000, 900),
        process(9_000, 1_000),
        ended(101_000, Some(0)),
    ]);
    for after in &reads {
        let mut after = Line { at: line(102_000, Fact::ReadAll).at, ..after.clone() };
        change_read(&mut after, |read| read.reading = Reading::After);
        lines.push(after);
    }
    lines.extend(reads);
    lines.push(line(103_000, Fact::ReadAll));
    lines
}

/// What is left of partition 1 comes three minutes late, and something of partition 0 between.
fn stands_still(lines: &mut [Line]) {
    let late = line(9_150, Fact::ReadAll).at;
    for line in lines {
        match &line.fact {
            Fact::Read(read) if read.source == "in/0/0/0" && read.reading == Reading::During => line.at += 90 * SECOND,
            Fact::Call(call) if line.at > late && call.path.contains("slow") => line.at += 90 * SECOND,
            Fact::Read(_) | Fact::ReadAll | Fact::Sample(_) if line.at > late => line.at += 190 * SECOND,
            _ => {}
        }
    }
}

fn change_read(line: &mut Line, change: impl FnOnce(&mut Read)) {
    let Fact::Read(read) = &mut line.fact else { panic!("{line:?}") };
    change(read);
}

/// Changes the reads from this source and index.
fn change_reads(lines: &mut [Line], source: &str, change: impl Fn(&mut Read)) {
    let mut found = 0;
    for line in lines {
        if let Fact::Read(read) = &mut line.fact
            && read.source == format!("in/{source}")
        {
            found += 1;
            change(read);
        }
    }
    assert!(found > 0, "nothing is of {source}");
}

/// Without the lines of this kind.
fn without(lines: &mut Vec<Line>, is_it: impl Fn(&Line) -> bool) {
    let before = lines.len();
    lines.retain(|line| !is_it(line));
    assert!(lines.len() < before, "nothing was there to be taken away");
}

fn is_read(line: &Line, source: &str, reading: Reading) -> bool {
    matches!(&line.fact, Fact::Read(read) if read.source == format!("in/{source}") && read.reading == reading)
}

fn is_still_open(lines: &mut Vec<Line>) {
    without(lines, |line| matches!(&line.fact, Fact::Read(read) if read.source == "in/1/1/0"));
    without(lines, |line| matches!(&line.fact, Fact::Sample(_)));
    lines.push(sample(11_000, [0, 1], "", [8, 2]));
}

fn is_without_its_dead_letter(lines: &mut Vec<Line>) {
    without(lines, |line| matches!(&line.fact, Fact::Read(read) if read.source == "in/1/2"));
    without(lines, |line| matches!(&line.fact, Fact::Sample(_)));
    lines.push(sample(11_000, [0, 1], "", [8, 2]));
}

/// A copy of a record at the output's offset 8.
fn repeat(lines: &mut Vec<Line>, millis: u64, source: &str) {
    let found = lines.iter().find(|line| is_read(line, source, Reading::After)).unwrap().clone();
    for (at, reading) in [(millis, Reading::During), (102_000, Reading::After)] {
        let mut copy = Line { at: line(at, Fact::ReadAll).at, ..found.clone() };
        change_read(&mut copy, |read| (read.offset, read.reading) = (8, reading));
        lines.insert(0, copy);
    }
}

fn is_repeated_without_a_fault(lines: &mut Vec<Line>) {
    repeat(lines, 3_900, "0/1/0");
}

fn is_repeated_though_committed_before_the_kill(lines: &mut Vec<Line>) {
    repeat(lines, 9_600, "1/0/0");
}

fn is_repeated_though_the_metadata_had_it_before_the_kill(lines: &mut Vec<Line>) {
    repeat(lines, 9_600, "0/1/0");
}

/// A minute after the kill it was published for the first time.
fn is_repeated_long_after_the_kill(lines: &mut Vec<Line>) {
    let committed = line(11_000, Fact::ReadAll).at;
    for line in lines.iter_mut() {
        match &line.fact {
            Fact::Read(read) if read.source == "in/0/0/0" && read.reading == Reading::During => line.at += 70 * SECOND,
            Fact::Sample(_) if line.at == committed => line.at += 85 * SECOND,
            _ => {}
        }
    }
    repeat(lines, 90_000, "0/0/0");
}

fn is_repeated_after_a_clean_stop(lines: &mut [Line]) {
    change_faults(lines, FaultKind::Term);
}

fn change_faults(lines: &mut [Line], to: FaultKind) {
    for line in lines {
        if let Fact::Begin { kind, .. } = &mut line.fact {
            *kind = to;
        }
    }
}

fn change_terms(lines: &mut [Line], change: impl FnOnce(&mut Terms)) {
    let terms =
        lines.iter_mut().find_map(|line| if let Fact::Terms(terms) = &mut line.fact { Some(terms) } else { None });
    change(terms.unwrap());
}

#[test]
fn a_clean_history_is_clean() {
    let judgement = judge(&sorted(clean()));
    assert_eq!(judgement.violations, []);
    assert_eq!((judgement.figures["repeats"], judgement.figures["calls at most"]), (1, 10));
    assert_eq!(judgement.figures["records judged at their commit"], 7);
}

#[rstest]
#[case::still_open(Kind::Undone, is_still_open)]
#[case::a_dead_letter_that_is_not_written(Kind::Undone, is_without_its_dead_letter)]
#[case::repeated_without_a_fault(Kind::Repeated, is_repeated_without_a_fault)]
#[case::repeated_though_committed(Kind::Repeated, is_repeated_though_committed_before_the_kill)]
#[case::repeated_though_in_the_metadata(Kind::Repeated, is_repeated_though_the_metadata_had_it_before_the_kill)]
#[case::repeated_more_than_was_open(Kind::Repeated, |lines: &mut Vec<Line>| change_terms(lines, |terms| terms.max_open = 0))]
#[case::repeated_where_nothing_may_be(Kind::Repeated, |lines: &mut Vec<Line>| {
    change_terms(lines, |terms| terms.delivery = Delivery::ExactlyOnce);
})]
#[case::of_a_record_that_never_was(Kind::Phantom, |lines: &mut Vec<Line>| {
    repeat(lines, 9_600, "1/0/0");
    lines.iter_mut().take(2).for_each(|line| change_read(line, |read| read.source = "in/1/77/0".into()));
})]
#[case::of_another_topic(Kind::Phantom, |lines: &mut Vec<Line>| {
    repeat(lines, 9_600, "1/0/0");
    lines.iter_mut().take(2).for_each(|line| change_read(line, |read| read.source = "other/1/0/0".into()));
})]
#[case::of_an_alert_the_record_has_not(Kind::Phantom, |lines: &mut Vec<Line>| {
    repeat(lines, 9_600, "1/0/0");
    lines.iter_mut().take(2).for_each(|line| change_read(line, |read| read.alert = Some("d".into())));
})]
#[case::for_a_skipped_record(Kind::Phantom, |lines: &mut Vec<Line>| {
    repeat(lines, 9_600, "1/0/0");
    lines.iter_mut().take(2).for_each(|line| change_read(line, |read| read.source = "in/0/3/0".into()));
})]
#[case::wrong_addresses(Kind::WrongAnswer, |lines: &mut Vec<Line>| {
    change_reads(lines, "0/0/0", |read| read.ips = vec!["192.0.2.2".into()]);
})]
#[case::an_address_twice(Kind::WrongAnswer, |lines: &mut Vec<Line>| {
    change_reads(lines, "1/1/0", |read| read.ips.push("192.0.2.7".into()));
})]
#[case::a_part_of_the_addresses(Kind::WrongAnswer, |lines: &mut Vec<Line>| {
    change_reads(lines, "1/1/0", |read| drop(read.ips.pop()));
})]
#[case::a_repeat_under_another_name(Kind::WrongAnswer, |lines: &mut Vec<Line>| {
    let repeats = lines.iter_mut().filter(|line| matches!(&line.fact, Fact::Read(read) if read.offset == 5));
    repeats.for_each(|line| change_read(line, |read| read.source = "in/1/2/3".into()));
})]
#[case::two_alerts_under_one_name(Kind::WrongAnswer, |lines: &mut Vec<Line>| {
    change_reads(lines, "0/1/1", |read| read.source = "in/0/1/0".into());
})]
#[case::given_up_too_early(Kind::WrongAnswer, |lines: &mut Vec<Line>| {
    change_reads(lines, "0/0/0", |read| (read.status, read.ips) = ("not_found".into(), Vec::new()));
})]
#[case::wrong_reason(Kind::WrongAnswer, |lines: &mut Vec<Line>| {
    change_reads(lines, "0/2", |read| read.status = "poison".into());
})]
#[case::committed_ahead(Kind::CommitAhead, |lines: &mut Vec<Line>| lines.push(sample(10_400, [4, 3], "", [7, 2])))]
#[case::metadata_ahead(Kind::MetadataAhead, |lines: &mut Vec<Line>| {
    lines.push(sample(1_450, [0, 0], "alert-ips/1:E", [1, 0]));
    without(lines, |line| matches!(&line.fact, Fact::Sample(sample) if sample.committed[0].2.ends_with('M')));
})]
#[case::unreadable_metadata(Kind::MetadataUnreadable, |lines: &mut Vec<Line>| {
    lines.push(sample(3_150, [0, 2], "alert-ips/9:O", [5, 1]));
})]
#[case::an_aborted_record(Kind::AbortedRead, |lines: &mut Vec<Line>| {
    let mut aborted = read(3_250, 99, "1/2/0", "d", "empty", &[]);
    change_read(&mut aborted, |read| read.partition = 2);
    lines.push(aborted);
})]
#[case::never_committed(Kind::Uncommitted, |lines: &mut Vec<Line>| {
    without(lines, |line| matches!(&line.fact, Fact::Sample(sample) if sample.committed[0].1 == 4));
    lines.push(sample(11_000, [0, 3], "alert-ips/1:O", [8, 2]));
})]
#[case::offset_back(Kind::OffsetBack, |lines: &mut Vec<Line>| lines.push(sample(12_000, [3, 3], "", [8, 2])))]
#[case::settled_forgotten(Kind::Forgotten, |lines: &mut Vec<Line>| lines.push(sample(8_100, [0, 2], "alert-ips/1:M", [5, 1])))]
#[case::window_over_by_one(Kind::WindowOver, |lines: &mut Vec<Line>| {
    without(lines, |line| *line == call(3_100, "d"));
    lines.push(call(2_799, "d"));
})]
#[case::calls_too_many(Kind::TooManyCalls, |lines: &mut Vec<Line>| {
    lines.extend([call(12_000, "b"), call(13_000, "b")]);
})]
#[case::another_path(Kind::StrangeCall, |lines: &mut Vec<Line>| lines.push(call(12_000, "../users")))]
#[case::no_progress_after_the_fault(Kind::NoProgress, |lines: &mut Vec<Line>| {
    let late = line(66_100, Fact::ReadAll).at;
    lines.iter_mut().filter(|line| line.at > 109 * SECOND && line.at < late).for_each(|line| line.at += 57_100_000_000);
})]
#[case::a_partition_that_stands_still(Kind::Starved, |lines: &mut Vec<Line>| stands_still(lines))]
#[case::published_late(Kind::Late, |lines: &mut Vec<Line>| {
    lines.iter_mut().filter(|line| matches!(line.fact, Fact::Call(_))).for_each(|line| line.at -= 2 * SECOND);
})]
#[case::memory(Kind::Memory, |lines: &mut Vec<Line>| lines.push(process(9_500, 1_001)))]
#[case::descriptors(Kind::Descriptors, |lines: &mut Vec<Line>| change_terms(lines, |terms| terms.descriptors = 49))]
#[case::threads(Kind::Threads, |lines: &mut Vec<Line>| change_terms(lines, |terms| terms.threads = 19))]
#[case::growing(Kind::Growing, |lines: &mut Vec<Line>| {
    let process = |threads| Process { instance: "one".into(), pid: 7, memory_kib: 900, descriptors: 50, threads };
    lines.extend((1..=20).map(|n| line(500 * n, Fact::Process(process(10 + n / 2)))));
})]
#[case::producers_displaced(Kind::Displaced, |lines: &mut Vec<Line>| {
    lines.push(line(12_000, Fact::GivenUp { instance: "one".into(), producers: 2 }));
})]
#[case::wrong_exit_code(Kind::Exit, |lines: &mut Vec<Line>| lines.push(ended(101_500, Some(70))))]
#[case::too_late_an_exit(Kind::Exit, |lines: &mut Vec<Line>| lines.push(ended(130_001, Some(0))))]
#[case::ended_by_itself(Kind::Exit, |lines: &mut Vec<Line>| {
    lines.push(line(5_000, Fact::Ended { instance: "one".into(), asked: None, code: Some(0), panicked: false }));
})]
#[case::nobody_sampled(Kind::Evidence, |lines: &mut Vec<Line>| {
    lines.retain(|line| !matches!(line.fact, Fact::Sample(_)));
})]
#[case::nobody_read_at_the_end(Kind::Evidence, |lines: &mut Vec<Line>| {
    lines.retain(|line| !matches!(line.fact, Fact::ReadAll));
})]
fn what_is_wrong_is_caught_as_that(#[case] kind: Kind, #[case] plant: fn(&mut Vec<Line>)) {
    let mut lines = clean();
    plant(&mut lines);
    let judgement = judge(&sorted(lines));
    let kinds: BTreeSet<Kind> = judgement.violations.iter().map(|violation| violation.kind).collect();
    assert_eq!(kinds, BTreeSet::from([kind]), "{judgement:#?}");
}

#[rstest]
#[case::at_once(&[8_100], true, &[])]
#[case::for_a_moment(&[8_100, 9_900], true, &[])]
#[case::for_longer(&[8_100, 10_200], true, &[Kind::Forgotten])]
#[case::of_the_same_broker(&[8_100], false, &[Kind::Forgotten])]
fn a_broker_that_takes_over_may_answer_from_before(
    #[case] old: &[u64],
    #[case] is_taken_over: bool,
    #[case] expected: &[Kind],
) {
    let mut lines = clean();
    lines.extend(old.iter().map(|at| sample(*at, [0, 2], "alert-ips/1:M", [5, 1])));
    if is_taken_over {
        lines.push(line(7_000, Fact::Begin { fault: 2, kind: FaultKind::BrokerTerm, target: "broker 1".into() }));
        lines.push(line(7_500, Fact::End { fault: 2 }));
    }
    let judgement = judge(&sorted(lines));
    let kinds: Vec<Kind> = judgement.violations.iter().map(|violation| violation.kind).collect();
    assert_eq!(kinds, expected, "{judgement:#?}");
    let counted = judgement.figures["samples from before, of a broker that took over"];
    assert_eq!(counted > 0, is_taken_over);
}

#[test]
fn what_a_broker_that_takes_over_never_catches_up_with_is_forgotten() {
    let mut lines = clean();
    lines.push(line(100_000, Fact::Begin { fault: 2, kind: FaultKind::BrokerKill, target: "broker 1".into() }));
    lines.push(sample(100_500, [3, 3], "", [8, 2]));
    let kinds: Vec<Kind> = judge(&sorted(lines)).violations.iter().map(|violation| violation.kind).collect();
    assert_eq!(kinds, [Kind::OffsetBack]);
}

/// It explains neither the repeat nor the calls.
#[test]
fn a_kill_explains_nothing_that_was_done_for_the_first_time_long_after_it() {
    let mut lines = clean();
    is_repeated_long_after_the_kill(&mut lines);
    let judgement = judge(&sorted(lines));
    let repeated = judgement.violations.iter().filter(|violation| violation.kind == Kind::Repeated).count();
    assert_eq!(repeated, 1, "{judgement:#?}");
}

#[test]
fn a_clean_stop_explains_nothing() {
    let mut lines = clean();
    is_repeated_after_a_clean_stop(&mut lines);
    let judgement = judge(&sorted(lines));
    let kinds: Vec<Kind> = judgement.violations.iter().map(|violation| violation.kind).collect();
    assert_eq!(kinds, [Kind::Repeated, Kind::Repeated, Kind::TooManyCalls], "{judgement:#?}");
}

#[rstest]
#[case::an_output("in/1/1/0")]
#[case::a_dead_letter("in/1/2")]
fn what_is_lost_was_committed_ahead(#[case] source: &str) {
    let mut lines = clean();
    without(&mut lines, |line| matches!(&line.fact, Fact::Read(read) if read.source == source));
    let kinds: Vec<Kind> = judge(&sorted(lines)).violations.iter().map(|violation| violation.kind).collect();
    assert_eq!(kinds, [Kind::CommitAhead, Kind::Lost]);
}

/// With exactly-once a commit may be visible a moment before its outputs are, but not before they are written.
#[test]
fn with_transactions_what_is_committed_must_be_written() {
    let mut lines = clean();
    change_terms(&mut lines, |terms| terms.delivery = Delivery::ExactlyOnce);
    without(&mut lines, |line| matches!(&line.fact, Fact::Read(read) if read.offset == 4));
    for line in &mut lines {
        if let Fact::Sample(sample) = &mut line.fact {
            sample.ends.iter_mut().for_each(|end| end.stable = 0);
        }
    }
    assert_eq!(judge(&sorted(lines.clone())).violations, []);
    lines.push(sample(3_150, [0, 3], "alert-ips/1:O", [4, 1]));
    let kinds: Vec<Kind> = judge(&sorted(lines)).violations.iter().map(|violation| violation.kind).collect();
    assert_eq!(kinds, [Kind::CommitAhead, Kind::OffsetBack]);
}

#[test]
fn an_empty_history_is_no_proof() {
    let kinds: Vec<Kind> = judge(&[]).violations.iter().map(|violation| violation.kind).collect();
    assert_eq!(kinds, [Kind::Evidence]);
}

fn sorted(mut lines: Vec<Line>) -> Vec<Line> {
    lines.sort_by_key(|line| line.at);
    lines
}
